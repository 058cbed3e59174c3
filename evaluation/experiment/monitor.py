"""The effect as it was known at every moment, with an interval that holds at all of them at once.

Notable: the sequence runs over what was drawn, not over contacts: at each look the estimate is that of all cells that
had ended (and whose outcomes had become known), its standard error is by clusters, and the boundary is the mixture of
t-statistics (`stats/sequential.py`), so that shocks that a whole block shares do not pass for evidence. θ of the
covariate is that of the contacts until then, so a look never changes when later data come.

How far the evidence is: for blocks and windows, which are drawn anew all the time, four over Σ(n / N)² of both arms,
that is how many equal cells would know as much, the boundary being tightest at half of the cells that the plan has; for
clusters, which are all there from the first day on and of whom only the noise within fades, the inverse of the variance
(estimates whose errors are of a persistent and a fading part have independent increments on that clock), the boundary
being tightest at the information that the plan asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.experiment.effects import Setting, more_by_customers
from evaluation.experiment.outcomes import Outcome
from evaluation.experiment.stats.sequential import best_rho, times_standard_error_t
from twotower.clock import DAY

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Path:
    """L looks, in order of time; `low` … `high` holds at all of them at once with probability 1 − alpha."""

    metric: str
    known_at: Longs
    """(L,) µs UTC, when the outcomes of the last contacts were known."""
    value: Doubles
    se: Doubles
    low: Doubles
    high: Doubles
    alpha: float

    @property
    def crossed(self) -> int | None:
        """The first look whose interval leaves out 0."""
        out = np.flatnonzero((self.low > 0) | (self.high < 0))
        return int(out[0]) if len(out) else None

    @property
    def crossed_at(self) -> int | None:
        """When that was, µs UTC."""
        return None if self.crossed is None else int(self.known_at[self.crossed])


def path(setting: Setting, outcome: Outcome, alpha: float, shift: float = 0.0, lift: bool = False) -> Path:
    """The sequence of one metric, at the end of every block (`cluster`: of every day).

    shift: of the control's mean, is taken from the treatment's (a margin that is relative to it); lift: of the relative
    difference m₁ / m₀ − 1, by the delta method as in `stats.sequential.relative_lift`, but by what was drawn.
    """
    cells = setting.cells
    looks, moments = _as_known(setting, outcome)
    if len(looks) == 0:
        nothing = np.zeros(0)
        return Path(outcome.metric, looks, nothing, nothing, nothing, nothing, alpha)
    treated = cells.arm == 1
    n = moments[:, :, 0]
    theta, centre = _thetas(moments.sum(axis=1))
    y = moments[:, :, 1] - theta[:, None] * (moments[:, :, 2] - centre[:, None] * n)
    means, parts, weights, there = [], [], np.zeros_like(n), np.full(len(looks), np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        for which in (~treated, treated):
            count = (n * which).sum(axis=1)
            means.append((y * which).sum(axis=1) / count)
            parts.append(which * (y - means[-1][:, None] * n) / count[:, None])
            weights += (n * which / count[:, None]) ** 2
            there = np.minimum(there, ((n > 0) * which).sum(axis=1))
        scale = means[0] if lift else np.ones(len(looks))
        slope = means[1] / means[0] if lift else np.full(len(looks), 1.0 + shift)
        value = means[1] / scale - 1 if lift else means[1] - slope * means[0]
        part = (parts[1] - slope[:, None] * parts[0]) / scale[:, None]
    se, df = _errors(cells.cluster, n, part, weights)
    se = se * more_by_customers(setting, outcome)
    # The information is of the difference, in its own units, whatever is asked of it.
    clock, rho = _clock(setting, alpha, se * np.abs(scale), weights.sum(axis=1))
    enough = (there > 1) & np.isfinite(se) & (se > 0)
    reach = times_standard_error_t(clock, np.where(enough, df, 0.0), rho, alpha)
    half = np.where(enough, se, 1.0) * reach
    low, high = np.where(enough, value - half, -np.inf), np.where(enough, value + half, np.inf)
    value = np.where(there > 0, value, np.nan)
    return Path(outcome.metric, looks, value, se, low, high, alpha)


def _as_known(setting: Setting, outcome: Outcome) -> tuple[Longs, Doubles]:
    """Moments (L,) at which more was known, and the cells' sums (L, C, 5) then."""
    cells, late = setting.cells, int(setting.plan.mature_days * DAY)
    there = outcome.moments[:, 0] > 0
    if setting.plan.design == "cluster" and outcome.values is not None:
        return _by_day(setting, outcome, late)
    ends = np.unique(cells.ends[there])
    known = (cells.ends[None, :] <= ends[:, None]) & there
    return ends + late, known[:, :, None] * outcome.moments[None, :, :]


def _by_day(setting: Setting, outcome: Outcome, late: int) -> tuple[Longs, Doubles]:
    """Clusters that are there all the time, at the end of every day since the first."""
    cells, y, x = setting.cells, setting.column(outcome.metric), setting.column("covariate")
    rows = np.flatnonzero(cells.counted & ~np.isnan(y))
    if len(rows) == 0:
        return np.zeros(0, np.int64), np.zeros((0, len(cells), 5))
    begin = int(cells.begins.min())
    day = (cells.arrived[rows] - begin) // DAY
    mean = x[rows][~np.isnan(x[rows])].mean() if outcome.theta else 0.0
    centred = np.where(np.isnan(x[rows]), 0.0, x[rows] - mean) if outcome.theta else np.zeros(len(rows))
    days = int(day.max()) + 1
    place, columns = day * len(cells) + cells.of[rows], (None, y[rows], centred, centred**2, centred * y[rows])
    parts = [np.bincount(place, one, days * len(cells)).reshape(days, len(cells)).cumsum(axis=0) for one in columns]
    return begin + (np.arange(days) + 1) * DAY + late, np.stack(parts, axis=2).astype(np.float64)


def _thetas(totals: Doubles) -> tuple[Doubles, Doubles]:
    """θ (L,) and the covariate's mean (L,) of the sums (L, 5) of n, y, x, x², xy."""
    n, y, x, xx, xy = totals.T
    variance = xx - x**2 / n
    theta = np.where(variance > 1e-9 * np.maximum(n, 1), (xy - x * y / n) / np.maximum(variance, 1e-300), 0.0)
    return theta, x / n


def _errors(cluster: Longs, n: Doubles, part: Doubles, weights: Doubles) -> tuple[Doubles, Doubles]:
    """Standard errors (L,) by clusters, and their degrees of freedom by Satterthwaite from the cells' weights."""
    order = np.argsort(cluster, kind="stable")
    starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    count = np.add.reduceat((n > 0)[:, order].astype(np.int64), starts, axis=1)
    sums = np.add.reduceat(part[:, order], starts, axis=1)
    weight = np.add.reduceat(weights[:, order], starts, axis=1)
    clusters, singles = (count > 0).sum(axis=1), (count == 1).any(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (sums**2).sum(axis=1) * clusters / np.maximum(clusters - 1, 1)
        df = weight.sum(axis=1) ** 2 / (weight**2).sum(axis=1) - 1 - singles
    return np.sqrt(variance), df


def _clock(setting: Setting, alpha: float, se: Doubles, squares: Doubles) -> tuple[Doubles, float]:
    """How far the evidence is (L,), and the ρ for which the boundary is tightest where the plan ends."""
    if setting.plan.design == "cluster":
        from scipy.special import ndtri

        asked = setting.plan.primary
        wanted = (float(ndtri(1 - asked.alpha / 2) + ndtri(asked.power)) / asked.smallest_effect) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(se > 0, 1 / se**2, 0.0), best_rho(wanted, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        clock = np.where(squares > 0, 4 / squares, 0.0)
    return np.nan_to_num(clock), best_rho(setting.plan.stopping.tuned * planned_cells(setting), alpha)


def planned_cells(setting: Setting) -> int:
    """Cells that the plan has until its end."""
    from twotower.clock import HOUR, parse_time

    plan, cells = setting.plan, setting.cells
    if plan.block_hours is None:
        return len(cells)
    units = len(np.unique(cells.unit.astype(str)))
    return max(len(cells), round((parse_time(plan.ends) - parse_time(plan.begins)) / (plan.block_hours * HOUR)) * units)
