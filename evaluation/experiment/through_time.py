"""Does the effect fade as the new wears off, and does an arm reach into the next one's time?

Notable: novelty is asked of equal stretches of the experiment and of a slope through its blocks. Carry-over is asked in
two ways, since a wash-out that is too short shows in either: the arm before as a regressor beside the arm itself (no
carry-over: its coefficient is 0), and the effect in the first minutes after a change of arm beside that later in the
same blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from evaluation.experiment.effects import Means, Setting, more_by_customers
from evaluation.experiment.outcomes import Outcome
from evaluation.experiment.stats.linear import Told, fit
from twotower.clock import DAY, SECOND

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

PERIODS = 6
LEAST_DAYS = 2.0
"""A stretch is no shorter."""
EARLY = 0.25
"""The part of a block, after its wash-out, that is early."""


@dataclass(frozen=True)
class Stretch:
    """The effect in a stretch of time, or of minutes after a change."""

    begins: float
    """µs UTC; of minutes after a change, minutes."""
    ends: float
    effect: float
    low: float
    high: float
    contacts: int


@dataclass(frozen=True)
class Asked:
    """A test of one number against 0."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Novelty:
    """The effect since the start."""

    stretches: tuple[Stretch, ...]
    slope: Asked | None
    """Change of the effect in a week; None: nothing to tell it from."""


@dataclass(frozen=True)
class CarryOver:
    """What an arm leaves to the next."""

    before: Asked | None
    """What the arm before adds to a block's mean, as if it reached through the whole of it; None: cannot be told
    apart."""
    minutes: tuple[Stretch, ...]
    """After a change of arm, those of the wash-out first."""
    early: Asked | None
    """The effect early in a block after a change, less that later in it; both after the wash-out."""


def novelty(setting: Setting, outcome: Outcome) -> Novelty:
    """Effects by stretch, and the slope in a week."""
    cells, alpha = setting.cells, setting.plan.primary.alpha
    begin, end = int(cells.begins.min()), cells.until
    many = int(np.clip((end - begin) / DAY / LEAST_DAYS, 1, PERIODS))
    edges = np.linspace(begin, end, many + 1)
    stretches = []
    if outcome.values is not None:
        for low, high in pairwise(edges):
            stretches.append(_stretch(setting, outcome, (cells.arrived >= low) & (cells.arrived < high), low, high))
    return Novelty(tuple(one for one in stretches if one is not None), _slope(setting, outcome, alpha))


def _slope(setting: Setting, outcome: Outcome, alpha: float) -> Asked | None:
    """The product of arm and time in a regression of cells; of clusters, which have one span, of their days."""
    cells = setting.cells
    of, n, s, weeks = _in_weeks(setting, outcome)
    weeks = weeks - np.average(weeks, weights=n)
    arm = cells.arm[of].astype(np.float64)
    x = np.stack([np.ones(len(of)), arm, weeks, arm * weeks], axis=1)
    cluster = np.unique(cells.cluster[of], return_inverse=True)[1].astype(np.int64)
    found = fit(x, s / n, n, cluster)
    if found is None:
        return None
    told = found.one(3)
    return _asked(Told(told.value, told.se * more_by_customers(setting, outcome), told.df), alpha)


def _in_weeks(setting: Setting, outcome: Outcome) -> tuple[Longs, Doubles, Doubles, Doubles]:
    """Cells, or their days: which cell, contacts, sum of the metric, weeks since the start."""
    cells = setting.cells
    if setting.plan.design != "cluster" or outcome.values is None:
        of = np.flatnonzero(outcome.n > 0).astype(np.int64)
        middle = (cells.begins[of] + cells.ends[of]) / 2 - int(cells.begins.min())
        return of, outcome.n[of], outcome.s[of], middle / (7 * DAY)
    known = np.flatnonzero(cells.counted & ~np.isnan(outcome.values))
    day = (cells.arrived[known] - int(cells.begins.min())) // DAY
    keys, place = np.unique(cells.of[known] * (int(day.max()) + 1) + day, return_inverse=True)
    of, when = np.divmod(keys, int(day.max()) + 1)
    n = np.bincount(place).astype(np.float64)
    s = np.asarray(np.bincount(place, outcome.values[known]), np.float64)
    return of.astype(np.int64), n, s, when / 7.0


def carry_over(setting: Setting, outcome: Outcome) -> CarryOver | None:
    """None where no unit changes its arm."""
    cells, alpha = setting.cells, setting.plan.primary.alpha
    if setting.plan.design != "switchback" or outcome.values is None or not (cells.before >= 0).any():
        return None
    changed = (cells.before >= 0) & (cells.arm != cells.arm[cells.before])
    if not changed.any():
        return None
    return CarryOver(_arm_before(setting, outcome, alpha), *_since_change(setting, outcome, changed, alpha))


def _arm_before(setting: Setting, outcome: Outcome, alpha: float) -> Asked | None:
    cells = setting.cells
    rows = np.flatnonzero((outcome.n > 0) & (cells.before >= 0))
    arms = np.stack([np.ones(len(rows)), cells.arm[rows], cells.arm[cells.before[rows]]], axis=1).astype(np.float64)
    cluster = np.unique(cells.cluster[rows], return_inverse=True)[1].astype(np.int64)
    found = fit(arms, outcome.s[rows] / outcome.n[rows], outcome.n[rows], cluster)
    return None if found is None else _asked(found.one(2), alpha)


def _since_change(
    setting: Setting, outcome: Outcome, changed: npt.NDArray[np.bool_], alpha: float
) -> tuple[tuple[Stretch, ...], Asked | None]:
    """Effects by minutes after a change, of both arms' blocks that began with one."""
    cells, wash = setting.cells, setting.plan.wash_out_minutes
    inside = (cells.of >= 0) & changed[cells.of]
    minutes = np.where(inside, (cells.arrived - cells.begins[cells.of]) / (60 * SECOND), -1.0)
    length = float(np.median((cells.ends - cells.begins)[changed])) / (60 * SECOND)
    edges = [wash, wash + EARLY * (length - wash), wash + 2 * EARLY * (length - wash), length]
    edges = [0.0, *edges] if wash > 0 else edges
    found = []
    for low, high in pairwise(edges):
        found.append(_stretch(setting, outcome, inside & (minutes >= low) & (minutes < high), low, high, washed=True))
    cut = wash + EARLY * (length - wash)
    early = Means(setting, outcome, inside & (minutes >= wash) & (minutes < cut))
    later = Means(setting, outcome, inside & (minutes >= cut))
    told = early.apart(later) if early.there and later.there else None
    return tuple(one for one in found if one is not None), None if told is None else _asked(told, alpha)


def _stretch(
    setting: Setting, outcome: Outcome, kept: npt.NDArray[np.bool_], begins: float, ends: float, washed: bool = False
) -> Stretch | None:
    """The effect on some contacts; washed: those of the wash-out as well."""
    means = Means(setting, outcome, kept, washed)
    if not means.there:
        return None
    told = means.difference()
    low, high = told.interval(setting.plan.primary.alpha)
    return Stretch(float(begins), float(ends), told.value, low, high, int(means.n.sum()))


def _asked(told: Told, alpha: float) -> Asked:
    low, high = told.interval(alpha)
    return Asked(told.value, low, high, told.p())
