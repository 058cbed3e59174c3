"""A circuit breaker: what fails again and again is not asked for a while, then by one call at a time.

Notable: closed, it counts failures in a row; after `failures` of them it opens. Open, it lets one call through after
`pause_s`, twice as long after each that fails, up to `most_s`; one that succeeds closes it (Nygard, "Release It!",
2007). Time is monotonic: a clock that is set does not matter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from serve.contact import MatchError

State = Literal["closed", "open"]


class Breaker:
    """Safe to call from several threads. `opened` counts how often it opened."""

    def __init__(
        self,
        failures: int = 5,
        pause_s: float = 1.0,
        most_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures, self._first, self._most, self._clock = failures, pause_s, most_s, clock
        self._lock = threading.Lock()
        self._row, self._pause, self._again, self._trying = 0, pause_s, 0.0, False
        self.state: State = "closed"
        self.opened = 0

    def enter(self) -> Ticket | None:
        """Leave to ask; None: not now. Use it in `with`, and say when it was `answered`."""
        if self.state == "closed":  # no lock where all is well
            return Ticket(self, False)
        with self._lock:
            if self.state == "open" and (self._trying or self._clock() < self._again):
                return None
            self._trying = self.state == "open"
            return Ticket(self, self._trying)

    def done(self, trial: bool, good: bool | None) -> None:
        """A call has ended; None: it says nothing about the model."""
        if good and not trial and not self._row:
            return
        with self._lock:
            if trial:
                self._trying = False
            if good is None:
                return
            if good:
                if trial or self.state == "closed":
                    self._row, self._pause, self.state = 0, self._first, "closed"
            elif self.state == "open":
                if trial:
                    self._pause = min(2 * self._pause, self._most)
                    self._again = self._clock() + self._pause
            else:
                self._row += 1
                if self._row >= self._failures:
                    self.state, self._again = "open", self._clock() + self._pause
                    self.opened += 1


class Ticket:
    """One call's leave. What leaves the block unanswered has failed, but by a MatchError, the caller's own mistake."""

    def __init__(self, breaker: Breaker, trial: bool) -> None:
        self._breaker, self.trial, self._good = breaker, trial, False

    def answered(self) -> None:
        """The model answered in time."""
        self._good = True

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        neutral = isinstance(error, MatchError) or getattr(error, "reason", None) == "no_time"
        self._breaker.done(self.trial, None if neutral else self._good)
