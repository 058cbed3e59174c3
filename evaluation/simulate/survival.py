"""Times of which often only a bound is known: patience of those who were served, after-call work of those who waited.

Sources: Kaplan and Meier (1958) for right-censored times; Turnbull (1976) for times known to lie in an interval, whose
self-consistency is an EM; Brown, Gans, Mandelbaum, Sakov, Shen, Zeltyn and Zhao (2005) for both uses in a call centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
AT_RISK = 30  # so many must still be under observation, or the tail begins


@dataclass(frozen=True)
class Survival:
    """Kaplan and Meier's curve: after `times` (n,), ascending, a share `alive` (n,) goes on; from `tail_from` on, where
    few are left to observe, at a constant `hazard` a second."""

    times: Doubles
    alive: Doubles
    tail_from: float
    hazard: float

    def quantiles(self, points: int = 1001) -> tuple[float, ...]:
        """Seconds (points,) at evenly spaced probabilities 0 … 1; the last is infinite."""
        probability = np.linspace(0, 1, points)
        level = self.alive[-1] if len(self.alive) else 1.0
        place = np.searchsorted(1 - self.alive, probability, side="left")
        found = np.append(self.times, np.inf)[np.minimum(place, len(self.times))]
        beyond = 1 - probability < level
        found[0] = 0.0
        with np.errstate(divide="ignore"):
            rest = np.log(level / np.maximum(1 - probability, 1e-300)) / max(self.hazard, 1e-300)
        found[beyond] = self.tail_from + rest[beyond]
        found[-1] = np.inf
        return tuple(np.maximum.accumulate(found).tolist())

    def at(self, seconds: Doubles) -> Doubles:
        """Share that goes on after so many seconds; NaN in the tail."""
        place = np.searchsorted(self.times, seconds, side="right")
        found = np.append(1.0, self.alive)[place]
        return np.where(seconds <= self.tail_from, found, np.nan)


def kaplan_meier(seconds: Doubles, ended: Flags, at_risk: int = AT_RISK) -> Survival:
    """The curve of times (N,), each ended then or only known to be longer. The tail's hazard is ends for each second
    under observation over the last tenth of those who ended, at least."""
    times, place = np.unique(seconds[ended], return_inverse=True)
    if not len(times):
        return Survival(np.zeros(0), np.zeros(0), float(seconds.max(initial=0.0)), 0.0)
    ends = np.bincount(place)
    risk = len(seconds) - np.searchsorted(np.sort(seconds), times, side="left")
    enough = risk >= min(at_risk, risk[0])
    times, ends, risk = times[enough], ends[enough], risk[enough]
    alive = np.cumprod(1 - ends / risk)
    since = float(np.quantile(seconds[ended], 0.9))
    exposure = float(np.maximum(seconds - since, 0.0).sum())
    hazard = float((ended & (seconds > since)).sum()) / exposure if exposure > 0 else 0.0
    if alive[-1] <= 0:
        return Survival(times[:-1], alive[:-1], float(times[-1]), 1.0)
    return Survival(times, alive, float(times[-1]), max(hazard, 1e-6))


def grid(longest: float) -> Doubles:
    """Seconds at which a distribution is kept: every second up to a minute, then coarser."""
    parts = [np.arange(0.0, 60.0), np.arange(60.0, 300.0, 5.0), np.arange(300.0, 14400.0, 30.0)]
    whole = np.concatenate(parts)
    return np.append(whole[whole < longest], longest)


def turnbull(
    low: Doubles, high: Doubles, at: Doubles, prior: Doubles | None = None, weight: float = 0.0, steps: int = 200
) -> Doubles:
    """Probabilities (G,) at seconds `at` of times known to lie within [low, high] (n,).

    prior (G,) counts as `weight` observations.
    """
    first = np.searchsorted(at, low, side="right") - 1
    last = np.maximum(np.searchsorted(at, high, side="right") - 1, first)
    first = np.maximum(first, 0)
    p = np.full(len(at), 1.0 / len(at)) if prior is None else (prior + 1e-9) / (prior + 1e-9).sum()
    base = np.zeros(len(at)) if prior is None else weight * prior
    for _ in range(steps):
        before = np.concatenate([[0.0], np.cumsum(p)])
        share = 1.0 / np.maximum(before[last + 1] - before[first], 1e-300)
        # Each observation spreads itself over its interval in proportion to p: a sum over intervals, by differences.
        change = np.zeros(len(at) + 1)
        np.add.at(change, first, share)
        np.subtract.at(change, last + 1, share)
        fresh = p * np.cumsum(change)[:-1] + base
        fresh = np.maximum(fresh, 0.0) / np.maximum(fresh, 0.0).sum()
        if np.abs(fresh - p).max() < 1e-7:
            return fresh
        p = fresh
    return p


def quantiles(p: Doubles, at: Doubles, points: int = 401) -> Doubles:
    """Seconds (points,) at evenly spaced probabilities of a distribution over seconds `at`."""
    place = np.searchsorted(np.cumsum(p), np.linspace(0, 1, points) - 1e-12, side="left")
    found: Doubles = at[np.minimum(place, len(at) - 1)]
    return found
