"""Who was there when, from a day's services alone: shifts, and breaks as gaps that are too long to be idle time.

Notable: no wait and no abandonment is looked at, so that the staffing of a day says nothing of how its calls fared
beyond who was there. A stretch of work ends when its last service begins: whoever is on shift then takes a call and
finishes it, as the log's did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.simulate.calls import Calls
from evaluation.simulate.centre import Shifts

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
AFTER_HOURS_S = 3600.0
LEAST_S = 1.0  # a stretch of work of one service has to have a length


@dataclass(frozen=True)
class Staffing:
    """How activity is read."""

    break_s: float = 900.0
    """A gap between a service's end and the next one's begin that is longer is a break …"""
    turns: float = 0.0
    """… if in it the others took so many calls for each of them."""
    lead_s: float = 240.0
    """How long before the first service of a stretch somebody is there …"""
    lag_s: float = 240.0
    """… and after the last one has begun."""
    edge_s: float = 1800.0
    """Whose first service begins so soon after opening is there from then on, and whose last one begins so shortly
    before closing is there until nobody waits any more."""


@dataclass(frozen=True)
class Gaps:
    """Between services of a CSA (G,), by CSA and time: s of the day, and whether they are breaks."""

    csa: Longs
    begin: Doubles
    end: Doubles
    breaks: npt.NDArray[np.bool_]
    following: Longs
    """Position of the next service among the calls."""


def gaps(calls: Calls, day: int, rule: Staffing) -> Gaps:
    """Of a day's services."""
    of = _services(calls, day)
    csa, start, end = calls.csa[of], calls.start[of], _ends(calls, of)
    inner = np.flatnonzero(csa[1:] == csa[:-1])
    begin, finish = end[inner], start[inner + 1]
    breaks = finish - begin > rule.break_s
    if rule.turns > 0 and len(inner):
        breaks &= _turns(csa, start, end, begin, finish) >= rule.turns
    return Gaps(csa[inner], begin, np.maximum(finish, begin), breaks, of[inner + 1])


def shifts(calls: Calls, day: int, rule: Staffing, luck: np.random.Generator | None = None) -> Shifts:
    """Shifts of a day; breaks lie between them. luck: leads and lags are drawn, exponential about their means."""
    of, found = _services(calls, day), gaps(calls, day, rule)
    if not len(of):
        return Shifts(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    csa, start = calls.csa[of], calls.start[of]
    new = np.ones(len(of), np.bool_)
    same = np.flatnonzero(csa[1:] == csa[:-1])
    new[same + 1] = found.breaks
    first = np.flatnonzero(new)
    last = np.append(first[1:] - 1, len(of) - 1)
    lead, lag = (np.ones(len(first)) if luck is None else luck.exponential(1.0, len(first)) for _ in range(2))
    begins = np.maximum(start[first] - lead * rule.lead_s, 0.0)
    ends = start[last] + lag * rule.lag_s + LEAST_S
    hours = calls.hours_of(day)
    begins = np.where(start[first] < hours.opens_s + rule.edge_s, np.minimum(begins, hours.opens_s), begins)
    ends = np.where(start[last] >= hours.closes_s - rule.edge_s, np.maximum(ends, hours.closes_s + AFTER_HOURS_S), ends)
    # A lead or a lag never reaches into the stretch beside it.
    beside = np.flatnonzero(csa[first][1:] == csa[first][:-1])
    ends[beside] = np.minimum(ends[beside], start[first][beside + 1])
    begins[beside + 1] = np.maximum(begins[beside + 1], ends[beside])
    return Shifts(csa[first], begins, np.maximum(ends, begins + LEAST_S)).joined()


def on_duty(csa: Longs, start: Doubles, end: Doubles, at: Doubles) -> Doubles:
    """How many are between their first and last service at moments (n,)."""
    who = np.unique(csa)
    first = np.sort([start[csa == one].min() for one in who])
    last = np.sort([end[csa == one].max() for one in who])
    found: Doubles = (np.searchsorted(first, at, "right") - np.searchsorted(last, at, "left")).astype(np.float64)
    return found


def _turns(csa: Longs, start: Doubles, end: Doubles, begin: Doubles, finish: Doubles) -> Doubles:
    """Calls taken by others in each gap, for each CSA on duty."""
    moments = np.sort(start)
    share = 1.0 / np.maximum(on_duty(csa, start, end, moments), 1.0)
    before = np.concatenate([[0.0], np.cumsum(share)])
    found: Doubles = before[np.searchsorted(moments, finish, "left")] - before[np.searchsorted(moments, begin, "right")]
    return found


def _services(calls: Calls, day: int) -> Longs:
    """Positions of a day's services by a named CSA, by CSA and begin."""
    of = np.flatnonzero((calls.day == day) & calls.named)
    return of[np.lexsort((calls.start[of], calls.csa[of]))]


def _ends(calls: Calls, of: Longs) -> Doubles:
    """When they ended; clocks of a log are not exact, so never after the next one of the CSA began by more."""
    return calls.start[of] + calls.handle[of]
