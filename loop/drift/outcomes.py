"""What comes of it, no label before its time.

The maturation curve F(a), the share of outcomes known a after the hand-over, is Kaplan and Meier's (1958) over the
windows before the newest; a hand-over whose outcome is not known is censored at its age. A window's rate is then

    Σ y_i / F(a_i)  /  Σ 1 / F(a_i)   over its known outcomes, a_i their age at the window's end,

and, beside it, the plain rate of hand-overs of as many days that are all old enough (F at 95 % of its plateau).

Notable: both are taken at each window's own end, so that where failures become known sooner than successes, all
windows have the same share of that. If fewer labels came than the curve expects, a rate is the range that it could have
were the missing ones all failures or all successes; only a fall that the whole range shows is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loop.drift.series import Doubles, Series, share, unknown
from loop.drift.windows import LEAST, Ints, Windows
from twotower.clock import DAY

MATURE = 0.95
"""Of the curve's plateau: what is older counts as old enough."""
YOUNGEST = 0.2
"""Of the plateau: hand-overs of which fewer are known are left out; one would stand for too many."""
ERRORS = 2.0
"""Standard errors by which labels may be fewer than the curve expects before any is called missing."""


@dataclass(frozen=True)
class Maturation:
    """Share known `share` (K,) at ages `age` (K,) µs, ascending; 0 before the first."""

    age: Ints
    share: Doubles

    @classmethod
    def fit(cls, duration: Ints, known: npt.NDArray[np.bool_]) -> Maturation:
        """Kaplan–Meier of hand-overs (n,): age at which the outcome became known or, where it did not, at the last
        look."""
        from evaluation.simulate.replay_times import product_limit

        unknown_after = product_limit(duration.astype(np.float64), known)
        return cls(unknown_after.at.astype(np.int64), 1 - unknown_after.share)

    @property
    def plateau(self) -> float:
        """The share that is ever known."""
        return float(self.share[-1]) if len(self.share) else 0.0

    def at(self, age: Ints) -> Doubles:
        """Share known at ages (n,)."""
        return np.concatenate([[0.0], self.share])[np.searchsorted(self.age, age, side="right")]

    def age_of(self, share: float) -> int:
        """The age, µs, at which that share of the plateau is known."""
        return int(self.age[min(int(np.searchsorted(self.share, share * self.plateau)), len(self.age) - 1)])

    def points(self, count: int = 60) -> list[tuple[float, float]]:
        """(days, share) along the curve, for a plot."""
        if not len(self.age):
            return []
        at = np.unique(np.linspace(0, len(self.age) - 1, count).astype(int))
        return [(float(self.age[i] / DAY), float(self.share[i])) for i in at]


def maturation(windows: Windows) -> Maturation:
    """The curve over the windows before the newest; without events where no outcome is known."""
    moves, end = windows.log.handovers, int(windows.edges[-1])
    rows = np.flatnonzero((moves.assigned_at >= windows.edges[0]) & (moves.assigned_at < windows.edges[-2]))
    known = (moves.resolved[rows] >= 0) & (moves.known_at[rows] < end)
    until = np.where(known, moves.known_at[rows], end)
    return Maturation.fit(np.maximum(until - moves.assigned_at[rows], 0), known)


def outcomes(windows: Windows, curve: Maturation) -> Iterator[Series]:
    """How timely labels are, what is resolved, ratings and handle times."""
    names = ("labels.timely", "labels.mature", "outcome.resolved", "outcome.resolved_mature")
    if not len(curve.age):
        for name in names:
            yield unknown(name, len(windows), "no hand-over before the newest window has a known outcome")
    else:
        yield from _weighted(windows, curve)
        yield from _mature(windows, curve)
    yield _mean("outcome.csat", windows, windows.log.handovers.csat.astype(np.float64))
    times = windows.log.handovers.handle_time_s.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _mean("outcome.handle_time", windows, np.log(np.where(times > 0, times, np.nan)))
    yield Series(found.name, np.exp(found.values), found.noise, reason=found.reason)


def known_by(windows: Windows, rows: Ints, w: int) -> npt.NDArray[np.bool_]:
    """Whether the outcome of hand-overs (n,) was known at the end of a window."""
    moves = windows.log.handovers
    return np.asarray((moves.resolved[rows] >= 0) & (moves.known_at[rows] < windows.edges[w + 1]))


def mature(windows: Windows, curve: Maturation, w: int) -> Ints:
    """Rows of the hand-overs, of as many days as a window has, that are old enough at its end; none where that begins
    before the data."""
    back = curve.age_of(MATURE)
    if windows.edges[w] - back < windows.log.contacts.arrived_at[0]:
        return np.zeros(0, dtype=np.int64)
    return windows.handovers(w, back)


def _weighted(windows: Windows, curve: Maturation) -> Iterator[Series]:
    size = len(windows)
    timely, timely_noise, rate, rate_noise = (np.full(size, np.nan) for _ in range(4))
    span = None
    for w in range(size):
        rows = windows.handovers(w)
        age = windows.edges[w + 1] - windows.log.handovers.assigned_at[rows]
        chance = curve.at(age)
        kept = chance >= YOUNGEST * curve.plateau
        rows, chance = rows[kept], chance[kept]
        if len(rows) < LEAST:
            continue
        known = known_by(windows, rows, w)
        timely[w] = known.sum() / chance.sum()
        timely_noise[w] = np.sqrt((chance * (1 - chance)).sum()) / chance.sum()
        if known.sum() < LEAST:
            continue
        weight = known / chance
        good = windows.log.handovers.resolved[rows] == 1
        p, total = float(weight @ good / weight.sum()), float(weight.sum())
        rate[w] = p
        rate_noise[w] = np.sqrt((np.square(weight) * np.square(good - p)).sum()) / total
        missing = len(rows) - total - ERRORS * float(np.sqrt(((1 - chance) / chance).sum()))
        span = _span(p * total, total, missing)
    yield Series("labels.timely", timely, timely_noise)
    yield Series("outcome.resolved", rate, rate_noise, span=span)


def _mature(windows: Windows, curve: Maturation) -> Iterator[Series]:
    size = len(windows)
    whole, known, expected, good = (np.zeros(size) for _ in range(4))
    for w in range(size):
        rows = mature(windows, curve, w)
        told = known_by(windows, rows, w)
        whole[w], known[w] = len(rows), told.sum()
        age = windows.edges[w + 1] - windows.log.handovers.assigned_at[rows]
        expected[w] = curve.at(age).sum()
        good[w] = (windows.log.handovers.resolved[rows][told] == 1).sum()
    values, noise = share(known, whole, LEAST)
    yield Series("labels.mature", values, noise)
    rates, errors = share(good, known, LEAST)
    missing = expected[-1] - known[-1] - ERRORS * np.sqrt(max(expected[-1] * (1 - expected[-1] / max(whole[-1], 1)), 0))
    yield Series("outcome.resolved_mature", rates, errors, span=_span(good[-1], known[-1], float(missing)))


def _span(good: float, known: float, missing: float) -> tuple[float, float] | None:
    """The rates that there could be if so many more were known; None where none is missing."""
    if missing <= 0 or known <= 0:
        return None
    return good / (known + missing), (good + missing) / (known + missing)


def _mean(name: str, windows: Windows, column: Doubles) -> Series:
    """Mean of what is known of a column (M,) at each window's end, of the hand-overs of the window."""
    values, noise = np.full(len(windows), np.nan), np.full(len(windows), np.nan)
    if not np.isfinite(column).any():
        return unknown(name, len(windows), "no hand-over has one")
    for w in range(len(windows)):
        rows = windows.handovers(w)
        rows = rows[windows.log.handovers.known_at[rows] < windows.edges[w + 1]]
        told = column[rows][np.isfinite(column[rows])]
        if len(told) >= LEAST:
            values[w], noise[w] = told.mean(), told.std(ddof=1) / np.sqrt(len(told))
    return Series(name, values, noise)
