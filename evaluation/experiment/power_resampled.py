"""Power by trying: the history's own blocks under schedules drawn at random, with an effect added to the treatment's.

Notable: nothing is assumed of how blocks vary or hang together, as whole stretches of the history stand in for the
experiment's time, from the same weekday on. Schedules are those that the plan could draw, minutes of the wash-out count
as the schedule says, and the test is that of the analysis: lots drawn again for switchbacks, t for the others. Without
an effect it says how often nothing would be found to be something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.experiment.design_blocks import Blocks
from evaluation.experiment.frame import CONTROL
from evaluation.experiment.plan import Plan
from evaluation.experiment.schedule import ALONE, redraws, spans_of
from twotower.clock import DAY, HOUR

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]

RESAMPLES = 1000
FLIPS = 499
"""Lots drawn again for each experiment."""


@dataclass(frozen=True)
class Tried:
    """R experiments out of the past."""

    found: float
    """Share that finds the effect."""
    false: float
    """Share that finds something where nothing was added."""
    se: float
    """Standard deviation of the estimates, nothing added."""
    many: int

    @property
    def half(self) -> float:
        """Of the 95 % interval of `found`."""
        return float(1.96 * np.sqrt(max(self.found * (1 - self.found), 1e-9) / self.many))


def switchback(
    blocks: Blocks, plan: Plan, effect: float, kept: float = 1.0, reach: float | None = None, many: int = RESAMPLES
) -> Tried:
    """A switchback of the whole centre. effect: added to every contact of the treatment, but for what the arm before
    takes (1 − kept); reach: standard errors from which on an effect counts, None: as lots drawn again say at the plan's
    level."""
    spans = spans_of(plan, ("centre",))
    arms = redraws(plan, ("centre",), many)
    place = _places(blocks, spans.begins, many, plan.seed)
    n, s, early_n, early_s = (one.ravel()[place] for one in (blocks.n, blocks.s, blocks.early_n, blocks.early_s))
    apart = np.concatenate([[True], spans.begins[1:] > spans.ends[:-1]])
    before = np.where(apart, CONTROL, np.roll(arms, 1, axis=1))
    same = arms == before if plan.wash_out_minutes else np.ones(arms.shape, np.bool_)
    n, s = n - np.where(same, 0.0, early_n), s - np.where(same, 0.0, early_s)
    cluster = _lots(spans.pair)
    alpha, more = plan.primary.alpha, s + kept * effect * n * arms
    value, far = differences(n, s, arms, cluster, alpha, reach)
    with_effect = differences(n, more, arms, cluster, alpha, reach)[1]
    if reach is None:
        far, with_effect = (by_lots(n, sums, arms, cluster, alpha, plan.seed) for sums in (s, more))
    return Tried(float(with_effect.mean()), float(far.mean()), float(value.std(ddof=1)), many)


def _places(blocks: Blocks, begins: Longs, many: int, seed: int) -> Longs:
    """(R, B) where in the history, flat, each block of each experiment is taken from: the same slot of a week, weeks
    that follow on each other, from a random one on, round the end; weeks that are not whole are left out where there
    are others."""
    step = round(blocks.hours * HOUR)
    slots = blocks.n.shape[1]
    at = (begins - blocks.first) // step
    slot, week = at % slots, at // slots - at[0] // slots
    whole = np.flatnonzero(blocks.inside.all(axis=1))
    if not len(whole):
        whole = np.flatnonzero(blocks.inside.any(axis=1))
    start = np.random.default_rng((seed, 95)).integers(0, len(whole), many)
    found: Longs = whole[(start[:, None] + week[None, :]) % len(whole)] * slots + slot
    return found


def clusters(
    daily: tuple[Doubles, Doubles], plan: Plan, units: tuple[str, ...], effect: float, many: int = RESAMPLES
) -> Tried:
    """Sites or teams, all the time. daily: contacts and sums of the metric (D, C) by day of the history and unit,
    columns in alphabetical order; units: in order of their past. The experiment's days are a stretch of the history,
    round its end, from the same weekday on."""
    spans = spans_of(plan, units)
    arms = redraws(plan, units, many)
    days = round((int(spans.ends[0]) - int(spans.begins[0])) / DAY)
    length = len(daily[0])
    start = np.random.default_rng((plan.seed, 95)).integers(0, max(length // 7, 1), many) * 7
    rows = (start[:, None] + np.arange(days)[None, :]) % length
    n, s = (one[rows].sum(axis=1) for one in daily)
    cluster = _lots(spans.pair)
    value, far = differences(n, s, arms, cluster, plan.primary.alpha)
    found = differences(n, s + effect * n * arms, arms, cluster, plan.primary.alpha)[1]
    return Tried(float(found.mean()), float(far.mean()), float(value.std(ddof=1)), many)


@dataclass(frozen=True)
class Met:
    """Contacts of a history with a known metric (N,), for the design `customer`."""

    since: Doubles
    """Days since the history began."""
    y: Doubles
    customer: Longs
    csa: Longs
    days: int


def customers(of: Met, plan: Plan, days: float, effect: float, many: int = 200) -> Tried:
    """Customers by coins and CSAs in pools: of the history, those contacts count whose customer and CSA are in the same
    arm, which is one in two; so that there are as many as the experiment will have, it is twice as long and its windows
    as well."""
    rng = np.random.default_rng((plan.seed, 96))
    window = 2 * (plan.block_hours or 24.0) / 24
    whose, csas = int(of.customer.max(initial=0)) + 1, int(of.csa.max(initial=0)) + 1
    estimates, false, found = np.zeros(many), 0, 0
    for r in range(many):
        at = (of.since - rng.integers(0, max(of.days // 7, 1)) * 7) % of.days
        inside = np.flatnonzero(at < 2 * days)
        which = (at[inside] / window).astype(np.int64)
        arm = rng.integers(0, 2, whose)[of.customer[inside]]
        pool = rng.integers(0, 2, (int(which.max(initial=0)) + 1, csas))[which, of.csa[inside]]
        kept = inside[arm == pool]
        one, windows = arm[arm == pool], which[arm == pool]
        estimates[r], se, df = _two_way(of.y[kept], one, of.customer[kept], windows)
        false += _far(estimates[r], se, df, plan.primary.alpha)
        found += _far(estimates[r] + effect, se, df, plan.primary.alpha)
    return Tried(found / many, false / many, float(estimates.std(ddof=1)), many)


def _far(value: float, se: float, df: float, alpha: float) -> bool:
    from scipy.special import stdtrit

    return bool(df > 0 and abs(value) > stdtrit(df, 1 - alpha / 2) * se)


def _two_way(y: Doubles, arm: Longs, customer: Longs, window: Longs) -> tuple[float, float, float]:
    """Difference, its error by customers and windows at once (`effects.Means`), degrees of freedom."""
    count, total = np.bincount(arm, minlength=2), np.bincount(arm, y, 2)
    if count.min() < 2:
        return 0.0, np.inf, 0.0
    mean = total / count
    part = np.where(arm == 1, 1.0, -1.0) * (y - mean[arm]) / count[arm]
    both = customer * (int(window.max()) + 1) + window
    squares, groups = [], []
    for code in (customer, window, np.unique(both, return_inverse=True)[1]):
        many = np.bincount(code)
        sums, size = np.bincount(code, part)[many > 0], int((many > 0).sum())
        squares.append(float((sums**2).sum()) * size / max(size - 1, 1))
        groups.append(size)
    variance = max(squares[0] + squares[1] - squares[2], squares[0], squares[1])
    return float(mean[1] - mean[0]), float(np.sqrt(variance)), float(min(groups[:2]) - 1)


def _lots(pair: Longs) -> Longs:
    """Numbers of what one lot decided."""
    key = np.where(pair == ALONE, -2 - np.arange(len(pair)), pair)
    return np.unique(key, return_inverse=True)[1].astype(np.int64)


def differences(
    n: Doubles, s: Doubles, arms: Bytes, cluster: Longs, alpha: float, reach: float | None = None
) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Differences (R,) of the arms' means over contacts of cells (R, C), and whether 0 is left out of their intervals.

    The variance is Σ_g (Σ_{i in g} ± (s_i − m n_i) / N)² · G / (G − 1), degrees of freedom by Satterthwaite from the
    cells' weights, less the one of the mean.
    """
    from scipy.special import stdtrit

    value, part = np.zeros(len(n)), np.zeros_like(n)
    weight = np.zeros_like(n)
    for arm, sign in ((1, 1.0), (0, -1.0)):
        mine = arms == arm
        count = np.maximum((n * mine).sum(axis=1), 1e-300)
        mean = (s * mine).sum(axis=1) / count
        value += sign * mean
        part += sign * mine * (s - mean[:, None] * n) / count[:, None]
        weight += (n * mine / count[:, None]) ** 2
    order = np.argsort(cluster, kind="stable")
    starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    sums, weights = (np.add.reduceat(one[:, order], starts, axis=1) for one in (part, weight))
    groups = len(starts)
    se = np.sqrt((sums**2).sum(axis=1) * groups / max(groups - 1, 1))
    df = np.maximum(weights.sum(axis=1) ** 2 / np.maximum((weights**2).sum(axis=1), 1e-300) - 1, 1e-3)
    least = stdtrit(df, 1 - alpha / 2) if reach is None else np.full(len(n), reach)
    return value, np.abs(value) > least * se


def by_lots(n: Doubles, s: Doubles, arms: Bytes, cluster: Longs, alpha: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether each experiment (R,) of cells (R, C) finds an effect by randomisation: lots of its clusters drawn again.

    With arms of about as many contacts the difference of means is Σ_g ε_g u_g, ε the lots, and studentising changes no
    order; one set of lots serves all experiments.
    """
    mean = s.sum(axis=1, keepdims=True) / np.maximum(n.sum(axis=1, keepdims=True), 1e-300)
    part = np.where(arms == 1, 1.0, -1.0) * (s - mean * n)
    order = np.argsort(cluster, kind="stable")
    starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    sums = np.add.reduceat(part[:, order], starts, axis=1)
    lots = 2.0 * np.random.default_rng((seed, 98)).integers(0, 2, (FLIPS, len(starts))) - 1
    far = np.abs(sums @ lots.T) >= np.abs(sums.sum(axis=1))[:, None] * (1 - 1e-9)
    return np.asarray((far.sum(axis=1) + 1) / (FLIPS + 1) <= alpha)
