"""How long a window stays open: how much better a match gets for waiting, against what the waiting costs.

The best of more is better, ever less so: over n contacts the value of a match grows as a + b·ln(1 + n), as the largest
of n draws with an exponential tail does. A window of τ seconds gathers λτ contacts, each of which waits τ/2 more on the
mean:

    u(τ) = b·ln(1 + λτ) − c·τ/2,   best at   τ* = 2b/c − 1/λ,   within [least, most].

b is learnt from windows as they close (regression of value a match on ln(1 + n), old windows fading), λ from
arrivals, c is what a second of waiting costs. So the window grows with what matching together brings and with traffic,
and closes at once where contacts come one by one (τ* < 0).

Sources: Ashlagi, Burq, Dutta, Jaillet, Saberi and Sholley, Edge-weighted online windowed matching (2023), that windows
of bounded wait keep a constant share of the value; Akbarpour, Li and Gharan (2020), that thickness is worth more than
its timing; Yan, Zhu, Korolko and Woodard (2020) for batching windows in ride-hailing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serve.sets.window import Settled
from twotower.errors import ConfigError

FEWEST = 8  # windows before anything is believed of them


class Clock:
    """The length of the next window, from those that closed."""

    def __init__(self, cost_s: float, least_s: float = 0.0, most_s: float = 10.0, fades: float = 0.98) -> None:
        """cost_s: what a second of a contact's wait costs, in units of value; fades: what is left of a window's weight
        at the next one. Raises ConfigError."""
        if not (np.isfinite(cost_s) and cost_s > 0):
            raise ConfigError(f"cost_s: {cost_s} a second; a finite number above 0 expected")
        if not 0 <= least_s <= most_s < np.inf:
            raise ConfigError(f"least_s and most_s: {least_s} … {most_s} s; 0 ≤ least ≤ most expected")
        if not 0 < fades <= 1:
            raise ConfigError(f"fades: {fades}; above 0, at most 1 expected")
        self.cost_s, self.least_s, self.most_s, self.fades = cost_s, least_s, most_s, fades
        self._sums = np.zeros(5)  # of weight, x, y, xx, xy, with x = ln(1 + n), y = value a match
        self._closed = 0
        self._contacts = self._passed_s = 0.0
        self._last_s: float | None = None

    def learn(self, now_s: float, contacts: int, settled: Settled) -> None:
        """A window of so many contacts has closed at `now_s`."""
        taken = int((settled.csa >= 0).sum())
        if self._last_s is not None:
            self._passed_s = self.fades * self._passed_s + max(0.0, now_s - self._last_s)
            self._contacts = self.fades * self._contacts + taken  # who is left is counted when they are taken
        self._last_s = now_s
        if taken:
            x, y = np.log1p(contacts), settled.value / taken
            self._sums = self.fades * self._sums + np.array([1.0, x, y, x * x, x * y])
            self._closed += 1

    @property
    def slope(self) -> float:
        """b: value a match for each e-fold of contacts; 0 while too little is known, and where more bring no more."""
        weight, x, y, xx, xy = self._sums
        spread = xx * weight - x * x
        if self._closed < FEWEST or spread <= 1e-9 * weight * weight:
            return 0.0
        return max(0.0, float((xy * weight - x * y) / spread))

    @property
    def arrivals_s(self) -> float:
        """λ: contacts a second that are taken up."""
        return self._contacts / self._passed_s if self._passed_s > 0 else 0.0

    @property
    def window_s(self) -> float:
        """τ*, within its bounds."""
        rate = self.arrivals_s
        best = 2 * self.slope / self.cost_s - 1 / rate if rate > 0 else 0.0
        return min(max(best, self.least_s), self.most_s)

    def trade_off(self, windows_s: Sequence[float]) -> list[dict[str, float]]:
        """For each length: `window_s`, `value` a match gained over matching at once, `wait_s` added on the mean, and
        `net` of the wait's cost. Raises ConfigError for negative lengths."""
        if any(not (np.isfinite(one) and one >= 0) for one in windows_s):
            raise ConfigError("windows_s: finite lengths of 0 s or more expected")
        slope, rate = self.slope, self.arrivals_s
        rows = [(float(one), slope * float(np.log1p(rate * one)), one / 2) for one in windows_s]
        return [
            {"window_s": one, "value": gained, "wait_s": wait, "net": gained - self.cost_s * wait}
            for one, gained, wait in rows
        ]
