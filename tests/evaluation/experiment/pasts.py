"""Histories of known parts: contacts of blocks, sites, customers and CSAs that share so much."""

from __future__ import annotations

import numpy as np

from evaluation.experiment.design_history import History, Units
from evaluation.experiment.history import groups_of
from twotower.clock import DAY, HOUR, SECOND, parse_time

BEGINS = parse_time("2025-12-01T00:00:00Z")  # a Monday
SHAPE = np.repeat([0.2, 0.2, 1.2, 1.8, 1.6, 1.0], 4)
"""Of the hours of a day."""


def past(
    days: int = 56, a_day: int = 800, block_sd: float = 0.0, block_hours: float = 4.0, site_sd: float = 0.0,
    sites: int = 0, customers: int = 3000, customer_sd: float = 0.0, csas: int = 40, csa_sd: float = 0.0,
    intent_sd: float = 0.0, mean: float = 0.7, apart: float = 1.0, seed: int = 0,
) -> History:  # fmt: skip
    """A log of so many whole days; standard deviations are of probabilities to be resolved."""
    rng = np.random.default_rng((seed, 11))
    n = days * a_day
    hour = rng.integers(0, days, n) * 24 + rng.choice(24, n, p=SHAPE / SHAPE.sum())
    arrived = np.sort(BEGINS + hour * HOUR + rng.integers(0, HOUR, n))
    block = (arrived - BEGINS) // round(block_hours * HOUR)
    customer, csa = rng.integers(0, customers, n), rng.integers(0, csas, n)
    site = csa % sites if sites else np.zeros(n, np.int64)
    intent = rng.integers(0, 8, n)
    p = mean + block_sd * rng.standard_normal(int(block.max()) + 1)[block]
    p = p + customer_sd * rng.standard_normal(customers)[customer] + csa_sd * rng.standard_normal(csas)[csa]
    p = p + intent_sd * np.linspace(-1.5, 1.5, 8)[intent]
    p = p + (site_sd * rng.standard_normal(max(sites, 1))[site] if sites else 0.0)
    y = (rng.random(n) < np.clip(p, 0, 1)).astype(np.float64)
    wait = rng.exponential(40.0, n)
    groups, sizes = groups_of(intent, np.zeros(n, np.int64), arrived)
    columns = {
        "resolved": y, "wait_s": wait, "abandoned": (rng.random(n) < 0.05).astype(np.float64),
        "handle_minutes": rng.exponential(8.0, n), "csat": np.full(n, np.nan), "quality": np.full(n, np.nan),
        "transferred": np.zeros(n), "repeat": np.zeros(n),
    }  # fmt: skip
    left = arrived + ((wait + 60 * columns["handle_minutes"]) * SECOND).astype(np.int64)
    units = {"site": Units(tuple(f"s{i}" for i in range(sites)), site, apart)} if sites else {}
    ends = BEGINS + days * DAY
    return History(
        BEGINS, ends, ends, arrived, left, columns, customer, csa, groups, sizes, units,
        tuple(f"a{i:02}" for i in range(csas)),
    )  # fmt: skip
