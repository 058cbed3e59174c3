"""Small centres for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.simulate.centre import Centre, Patience

CALLS, HANDLE_S, HALF_HOUR_S = 100.0, 180.0, 1800.0


def single(
    agents: int, hours: float, patience: Patience | None = None, an_hour: float = 2 * CALLS, **more: Any
) -> Centre:
    """M/M/n (+ M): one class, everybody alike, for so many hours."""
    fields: dict[str, Any] = {
        "classes": ("call",),
        "csas": tuple(f"A{i}" for i in range(agents)),
        "rates": np.full((1, max(1, round(hours * 2))), an_hour),
        "handle_s": np.full((1, agents), HANDLE_S),
        "success": np.full((1, agents), 0.5),
        "sigma": np.array([-1.0]),
        "patience": (patience or Patience(),),
    }
    return Centre(**(fields | more))


def skilled(load: float = 0.9, hours: float = 8.0, **more: Any) -> Centre:
    """Three classes, ten CSAs who can each take two of them and resolve one of them better."""
    csas, rng = 10, np.random.default_rng(0)
    can = np.array([[(j + k) % 3 != 0 for j in range(csas)] for k in range(3)])
    an_hour = load * csas * 3600.0 / 300.0 / 3
    fields: dict[str, Any] = {
        "classes": ("bill", "line", "move"),
        "csas": tuple(f"A{i}" for i in range(csas)),
        "rates": np.full((3, round(hours * 2)), an_hour),
        "handle_s": np.where(can, rng.uniform(200, 400, (3, csas)), 0.0),
        "success": np.where(can, rng.uniform(0.3, 0.9, (3, csas)), 0.0),
        "patience": (Patience("exponential", 400.0),),
    }
    return Centre(**(fields | more))
