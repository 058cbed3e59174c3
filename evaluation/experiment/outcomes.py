"""One metric by cell, adjusted for what was known of its contacts before the experiment.

Notable: CUPED (Deng, Xu, Kohavi & Walker 2013, "Improving the sensitivity of online controlled experiments by utilizing
pre-experiment data", WSDM): y − θ (x − x̄), θ = cov(y, x) / var(x) over the contacts of both arms together. Which arm a
contact was in has no part in θ, so the adjusted values are fixed under the hypothesis of no effect and randomisation
inference stays exact. A contact without a covariate is not adjusted. A metric of cells themselves (occupancy) is a
ratio of sums as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evaluation.experiment.cells import Cells
from evaluation.experiment.stats.permute import Sums

if TYPE_CHECKING:
    import pandas as pd

Doubles = npt.NDArray[np.float64]

OF_CELLS = ("occupancy", "gini_load")
"""Metrics that single contacts do not have."""
OF_HANDOVERS = ("resolved", "csat", "quality", "handle_minutes", "transferred")
"""What is known of a contact `mature_days` after it, and follows from who took it."""


@dataclass(frozen=True)
class Outcome:
    """A metric of C cells; of N contacts, where contacts have it."""

    metric: str
    n: Doubles
    """(C,) contacts that count and whose value is known; of occupancy, hours on shift."""
    s: Doubles
    """(C,) sum of adjusted values over these."""
    sums: Sums
    """The same as randomisation inference needs it."""
    moments: Doubles
    """(C, 5) n and sums of y, x, x², xy over the contacts that count, x less its mean; not adjusted."""
    values: Doubles | None = None
    """(N,) adjusted; NaN: not known."""
    theta: float = 0.0
    explained: float = 0.0
    """Share of a contact's variance that the covariate explains."""

    def means(self, arm: npt.NDArray[np.int8]) -> tuple[float, float]:
        """Of control and treatment, given the cells' arms."""
        with np.errstate(invalid="ignore"):
            m0, m1 = (float(self.s[arm == a].sum() / self.n[arm == a].sum()) for a in (0, 1))
        return m0, m1


def outcome_of(cells: Cells, metric: str, y: Doubles, x: Doubles | None = None) -> Outcome:
    """Of a metric y (N,), with a covariate x (N,), NaN where not known."""
    inside = (cells.of >= 0) & ~np.isnan(y)
    centred = np.zeros_like(y)
    if x is not None:
        known = ~np.isnan(x)
        if (inside & known).any():
            centred = np.where(known, x - x[inside & known].mean(), 0.0)
    a, b = y[inside], centred[inside]
    variance, theta, explained = float(b @ b) / max(len(b), 1), 0.0, 0.0
    if len(a) > 2 and variance > 1e-12:
        a = a - a.mean()
        theta = float(a @ b / (b @ b))
        explained = float(theta**2 * (b @ b) / max(float(a @ a), 1e-300))
    adjusted = y - theta * centred
    rows = np.flatnonzero(cells.counted & ~np.isnan(y))
    parts = [cells.total(rows, each[rows]) for each in (y, centred, centred**2, centred * y)]
    moments = np.stack([cells.total(rows), *parts], axis=1)
    sums = cells.for_lots(adjusted)
    return Outcome(
        metric, moments[:, 0], moments[:, 1] - theta * moments[:, 2], sums, moments, adjusted, theta, explained
    )


def outcome_of_cells(cells: Cells, metric: str, blocks: pd.DataFrame) -> Outcome:
    """A metric of cells, from the table that `measured_blocks` makes."""
    from evaluation.experiment.spans import micros

    rows = blocks[blocks["metric"] == metric]
    place = {(unit, int(begins)): i for i, (unit, begins) in enumerate(zip(cells.unit, cells.begins, strict=True))}
    keys = zip(rows["unit"].astype(str), micros(rows["begins_at"], "blocks"), strict=True)
    of = np.array([place.get((unit, int(begins)), -1) for unit, begins in keys], np.int64)
    found = {}
    for name in ("n", "s", "early_n", "early_s"):
        found[name] = np.zeros(len(cells))
        found[name][of[of >= 0]] = rows[name].to_numpy(np.float64)[of >= 0]
    sums = Sums(found["n"], found["s"], found["early_n"], found["early_s"], cells.before, cells.cluster)
    counted = sums.counted(cells.arm[None, :])[0]
    n, s = sums.n + counted * sums.early_n, sums.s + counted * sums.early_s
    zeros = np.zeros_like(n)
    return Outcome(metric, n, s, sums, np.stack([n, s, zeros, zeros, zeros], axis=1))
