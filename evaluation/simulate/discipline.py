"""In which order a log's queues were served: how many seconds of waiting each class is credited with.

Notable: a decision is a service that began while others waited whom the CSA could have taken. Credits are those under
which most decisions took whoever had waited longest, credit included; by type, and one for priority.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.simulate.calls import UNKNOWN, Calls

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
SLACK_S = 3.0  # clocks differ by so much
RING_S = 4.0  # a decision is made so long before service begins
STEPS = np.arange(0.0, 301.0, 5.0)
FEW = 100  # decisions that a type must be in to get a credit of its own


@dataclass(frozen=True)
class Discipline:
    """Credits in seconds by type (T,) and for priority, and the share of decisions that they explain."""

    of_type: Doubles
    of_high: float
    agrees: float
    agrees_without: float
    decisions: int

    def head_start(self) -> Doubles:
        """(2·T,) by class: type and priority."""
        found = self.of_type[:, None] + np.array([0.0, self.of_high])
        return found.ravel()


def fit_discipline(calls: Calls, can: npt.NDArray[np.bool_]) -> Discipline:
    """Of the calls of some days; can (T, J)."""
    types = len(calls.types)
    chosen, since, waiting = _decisions(calls, can)
    if not len(chosen):
        return Discipline(np.zeros(types), 0.0, float("nan"), float("nan"), 0)
    credit, high = np.zeros(types), 0.0

    def agrees(credit: Doubles, high: float) -> float:
        head = (credit[:, None] + np.array([0.0, high])).ravel()
        best = (waiting - head).min(axis=1)
        return float((since - head[chosen] <= best + SLACK_S).mean())

    without = agrees(credit, high)
    in_play = np.array([int(np.isfinite(waiting[:, 2 * t : 2 * t + 2]).any(axis=1).sum()) for t in range(types)])
    for _ in range(4):
        before = agrees(credit, high)
        if calls.priorities:
            high = float(STEPS[np.argmax([agrees(credit, step) for step in STEPS])])
        for t in np.flatnonzero(in_play >= FEW):
            trials = []
            steps = np.concatenate([-STEPS[:0:-1], STEPS])
            for step in steps:
                trial = credit.copy()
                trial[t] = step
                trials.append(agrees(trial, high))
            near = np.flatnonzero(np.array(trials) >= max(trials) - 1e-12)
            credit[t] = float(steps[near[np.argmin(np.abs(steps[near]))]])
        if agrees(credit, high) <= before + 1e-9:
            break
    credit[in_play < FEW] = np.median(credit[in_play >= FEW]) if np.any(in_play >= FEW) else 0.0
    credit -= credit.min()
    return Discipline(credit, high, agrees(credit, high), without, len(chosen))


def _decisions(calls: Calls, can: npt.NDArray[np.bool_]) -> tuple[Longs, Doubles, Doubles]:
    """Class taken (n,), since when it waited, and the longest-waiting of others by class (n, 2·T), infinite: none."""
    kind = 2 * calls.type + np.maximum(calls.high, 0)
    chosen, since, waiting = [], [], []
    for day in np.unique(calls.day):
        of = np.flatnonzero((calls.day == day) & (calls.wait > 0) & (calls.high != UNKNOWN))
        arrival, leaves, kinds = calls.arrival[of], calls.start[of], kind[of]
        for place in np.flatnonzero(calls.named[of]):
            decided = leaves[place] - RING_S
            if arrival[place] > decided - 1:
                continue
            others = (arrival < decided - 1) & (leaves > decided + RING_S + 2)
            others &= can[kinds // 2, calls.csa[of[place]]]
            if not others.any():
                continue
            oldest = np.full(2 * len(calls.types), np.inf)
            np.minimum.at(oldest, kinds[others], arrival[others])
            chosen.append(kinds[place])
            since.append(arrival[place])
            waiting.append(oldest)
    return np.array(chosen, np.int64), np.array(since), np.array(waiting)
