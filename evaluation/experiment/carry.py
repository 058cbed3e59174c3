"""What is left of an arm after it ended: how long a switchback must wait before it counts, and what it misses anyway.

Notable: an exponential is fitted to what was measured, left(t) = start · exp(−t / tau) of the effect t minutes after a
change, in either arm. Both arms have something of the other then, so the difference of arms misses twice that; and
where blocks are short the centre is never wholly in the state of one arm. With a = exp(−L / tau), blocks of L minutes,
each arm by a coin, and a wash-out of w minutes after changes, the share that is missed is

    start · ((1 − a/2) ∫_w^L exp(−t/tau) dt + a/2 ∫_0^L exp(−t/tau) dt) / (L − w/2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

TAUS = np.geomspace(0.5, 720.0, 200)
"""Minutes that are tried."""
SEEN = 4.0
"""By how much the fit must be better than nothing at all (χ², one in twenty by chance), else nothing is left."""


@dataclass(frozen=True)
class Decay:
    """left(t), t in minutes after a change of arm: of the arm before, in either arm, as a share of the effect."""

    start: float
    tau: float
    minutes: Doubles
    """(M,) at which it was measured."""
    left: Doubles
    """(M,)"""
    half: Doubles
    """(M,) of 95 % intervals."""
    source: str

    def at(self, minutes: Doubles) -> Doubles:
        """By the fit."""
        return self.start * np.exp(-np.asarray(minutes, np.float64) / self.tau)

    def until(self, share: float) -> float:
        """Minutes until no more than this share of the effect is left."""
        return self.tau * math.log(self.start / share) if self.start > share else 0.0

    def missed(self, block_minutes: float, wash_minutes: float) -> float:
        """Share of the effect that a switchback of such blocks does not see."""
        if wash_minutes >= block_minutes:
            return 1.0
        ends = [math.exp(-minutes / self.tau) for minutes in (0.0, wash_minutes, block_minutes)]
        # Right after a change, and where the arm stays but is not there yet.
        changed = (1 - ends[2] / 2) * (ends[1] - ends[2])
        stayed = ends[2] / 2 * (ends[0] - ends[2])
        return min(1.0, self.start * self.tau * (changed + stayed) / (block_minutes - wash_minutes / 2))


def fitted(minutes: Doubles, left: Doubles, half: Doubles, source: str) -> Decay:
    """By least squares weighted by the intervals, `start` in [0, 1]: not less than nothing is left, nor more than all;
    nothing where that says it as well."""
    known = np.isfinite(left) & np.isfinite(half)
    t, y = minutes[known], left[known]
    weight = 1 / np.maximum(half[known], 1e-3) ** 2
    if not len(t):
        return Decay(0.0, 1.0, minutes, left, half, source)
    shape = np.exp(-t[None, :] / TAUS[:, None])
    start = np.clip((shape * weight * y).sum(axis=1) / np.maximum((shape**2 * weight).sum(axis=1), 1e-300), 0.0, 1.0)
    error = (weight * (y - start[:, None] * shape) ** 2).sum(axis=1)
    best = int(np.argmin(error))
    if float((weight * y**2).sum()) - error[best] < SEEN / 1.96**2:
        return Decay(0.0, 1.0, minutes, left, half, source)
    return Decay(float(start[best]), float(TAUS[best]), minutes, left, half, source)
