"""Small centres to try experiments in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from evaluation.experiment.simulated import Testbed
from evaluation.simulate.centre import Centre, Patience
from evaluation.simulate.policies import fifo, greedy

HOURS = np.repeat([0.1, 0.1, 0.6, 1.0, 0.9, 0.3], 8) / 0.5
"""Of a mean of 1, by half-hour of the day."""


def centre(days: int = 14, load: float = 0.85, csas: int = 12, sites: int = 1, **more: Any) -> Centre:
    """Three classes, at each of some sites apart, whose CSAs resolve them differently well; busy by day."""
    random = np.random.default_rng(5)
    classes = [f"{kind} {site}" for site in range(sites) for kind in ("bill", "line", "move")]
    of_class, of_csa = np.repeat(np.arange(sites), 3), np.arange(csas) % sites
    can = of_class[:, None] == of_csa[None, :]
    success = random.uniform(0.35, 0.9, can.shape)
    fields: dict[str, Any] = {
        "classes": tuple(classes),
        "csas": tuple(f"a{j:02}" for j in range(csas)),
        "rates": np.tile(np.outer(np.ones(len(classes)), HOURS), (1, days)),
        "handle_s": np.where(can, 600.0, 0.0),
        "success": np.where(can, success, 0.0),
        "patience": (Patience("exponential", 800.0),),
        "language": tuple("en" for _ in classes),
    }
    return Centre(**(fields | more)).at_load(load)


def bed(days: int = 14, load: float = 0.85, csas: int = 12, sites: int = 1, **more: Any) -> Testbed:
    """The queue against the best pair."""
    of = {name: more.pop(name) for name in list(more) if name in Testbed.__dataclass_fields__}
    made = centre(days, load, csas, sites, **more)
    found = Testbed(made, fifo(), greedy(made.success, 1e-4))
    if sites > 1:
        found = replace(
            found,
            unit_of_class=tuple(f"s{name.split()[1]}" for name in made.classes),
            unit_of_csa=tuple(f"s{j % sites}" for j in range(csas)),
        )
    return replace(found, **of)
