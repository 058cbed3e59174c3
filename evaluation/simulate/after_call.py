"""After-call work: for how long somebody who has ended a service cannot be had, breaks apart.

Of a gap between two services it is known that the CSA was there again when the next one began at the latest (exactly
then, if that call had waited), and not before the last moment at which a call waited that they could have taken. So the
time lies in an interval, and Turnbull's estimator finds its distribution: by how many calls waited when the service
ended, by CSA (shrunk to all), and in proportion by hour. How much days differ, beside chance, is a day's luck.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evaluation.simulate.calls import Calls
from evaluation.simulate.on_shift import Staffing, gaps
from evaluation.simulate.survival import grid, quantiles, turnbull

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
WEIGHT = 50.0  # gaps that the distribution of all is worth in that of a CSA, an hour or a day


@dataclass(frozen=True)
class After:
    """seconds (L, J, Q): quantiles by level of waiting and CSA; pace (48,): times as long, by half-hour of the day;
    day_sigma: standard deviation of the logarithm of a day's luck; mean_s (L,), and gaps (L,) that each is of."""

    seconds: Doubles
    pace: Doubles
    day_sigma: float
    mean_s: Doubles
    gaps: Longs


class Bounds(NamedTuple):
    """Of gaps (G,)."""

    day: Longs
    csa: Longs
    begin: Doubles
    low: Doubles
    high: Doubles
    exact: npt.NDArray[np.bool_]
    waiting: Longs
    """Calls that the CSA could have taken when the gap began."""

    def of(self, some: npt.NDArray[np.bool_]) -> Bounds:
        """Some of them."""
        return Bounds._make(values[some] for values in self)


def fit_after(
    calls: Calls, can: npt.NDArray[np.bool_], rule: Staffing, waiting: tuple[int, ...], how: str = "interval"
) -> After:
    """Of the calls of some days; can (T, J); how: `interval`, or `queued` for exact gaps alone."""
    found = bounds(calls, can, rule)
    if how == "queued":
        found = found.of(found.exact)
    at = grid(max(float(found.high.max(initial=0.0)), 60.0))
    level = np.searchsorted(np.array(waiting), found.waiting, side="right") - 1
    pooled = [turnbull(found.low[level == one], found.high[level == one], at) for one in range(len(waiting))]
    mean = np.array([float(p @ at) for p in pooled])
    hour = (found.begin % 86400 // 3600).astype(np.int64)
    pace = np.ones(24)
    for one in np.unique(hour):
        pace[one] = _ratio(found.of(hour == one), level[hour == one], pooled, at)
    # By a CSA's times at an average hour.
    usual = pace[hour]
    seconds = []
    for one, p in enumerate(pooled):
        own = []
        for csa in range(can.shape[1]):
            of = (level == one) & (found.csa == csa)
            own.append(quantiles(turnbull(found.low[of] / usual[of], found.high[of] / usual[of], at, p, WEIGHT), at))
        seconds.append(own)
    scaled = found._replace(low=found.low / usual, high=found.high / usual)
    many = np.bincount(level, minlength=len(waiting))
    return After(np.array(seconds), np.repeat(pace, 2), _day_sigma(scaled, level, pooled, at), mean, many)


def _ratio(found: Bounds, level: Longs, pooled: list[Doubles], at: Doubles) -> float:
    """Mean time of some gaps, as a share of what gaps of their levels take; shrunk to 1."""
    own = usual = 0.0
    for one in np.unique(level):
        of = level == one
        own += of.sum() * float(turnbull(found.low[of], found.high[of], at, pooled[one], WEIGHT) @ at)
        usual += of.sum() * float(pooled[one] @ at)
    return own / usual if usual > 0 else 1.0


def _day_sigma(found: Bounds, level: Longs, pooled: list[Doubles], at: Doubles) -> float:
    """Spread of days' ratios beside chance, that of halves of days: even and odd gaps tell the same luck twice."""
    halves = []
    for day in np.unique(found.day):
        of = np.flatnonzero(found.day == day)
        if len(of) < 2 * WEIGHT:
            continue
        pair = []
        for half in (of[::2], of[1::2]):
            some = np.zeros(len(found.day), np.bool_)
            some[half] = True
            pair.append(np.log(max(_ratio(found.of(some), level[some], pooled, at), 1e-3)))
        halves.append(pair)
    if len(halves) < 3:
        return 0.0
    return float(np.sqrt(max(np.cov(np.array(halves).T)[0, 1], 0.0)))


def bounds(calls: Calls, can: npt.NDArray[np.bool_], rule: Staffing) -> Bounds:
    """Of each gap that is no break: the least and the most seconds for which the CSA could not be had."""
    rows = []
    for day in np.unique(calls.day):
        found = gaps(calls, int(day), rule)
        waited = np.flatnonzero((calls.day == day) & (calls.wait > 0))
        since, left = calls.arrival[waited], calls.start[waited]
        takes = can[calls.type[waited]]
        for place in np.flatnonzero(~found.breaks):
            csa, begin, finish = found.csa[place], found.begin[place], found.end[place]
            gap, sure = finish - begin, calls.wait[found.following[place]] > 0
            seen = (since < finish - 1) & (left > begin) & takes[:, csa]
            last = min(float(left[seen].max()), finish) - begin if seen.any() else 0.0
            many = int((seen & (since < begin)).sum())
            rows.append((day, csa, begin, gap if sure else min(last, gap), gap, sure, many))
    columns = np.array(rows, np.float64).reshape(-1, 7).T
    whole = [columns[place].astype(np.int64) for place in (0, 1, 6)]
    return Bounds(whole[0], whole[1], columns[2], columns[3], columns[4], columns[5] > 0, whole[2])
