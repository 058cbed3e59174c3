"""How often somebody may ask: a token bucket each."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_NAMES = 10_000


class Rate:
    """per_s requests a second on average, `burst` ahead at most. One thread (the event loop's); clock: monotonic."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, name: str) -> float:
        """0 where this request may go on, which then counts; else after how many seconds one may."""
        now = self._clock()
        left, at = self._left.get(name, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        if left < 1:
            self._left[name] = left, now
            return (1 - left) / self._per_s
        if len(self._left) >= MOST_NAMES and name not in self._left:
            self._left.clear()
        self._left[name] = left - 1, now
        return 0.0
