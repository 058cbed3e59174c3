"""A circuit breaker: what fails again and again is not asked for a while, then by one call at a time.

Notable: closed, it counts failures in a row; after `failures` of them it opens. Open, it lets one call through after
`pause_s`, twice as long after each that fails, up to `most_s`; one that succeeds closes it (Nygard, "Release It!",
2007). One that has not come back after `most_s` has failed, and the next call is let through in its place. Time is
monotonic: a clock that is set does not matter.
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
        self._row, self._pause, self._again = 0, pause_s, 0.0
        self._trial: Ticket | None = None
        self.state: State = "closed"
        self.opened = 0

    def enter(self) -> Ticket | None:
        """Leave to ask; None: not now. Use it in `with`, and say when it was `answered`."""
        if self.state == "closed":  # no lock where all is well
            return Ticket(self)
        with self._lock:
            return self._leave()

    def _leave(self) -> Ticket | None:
        if self.state == "closed":  # meanwhile
            return Ticket(self)
        now = self._clock()
        if now < self._again:
            return None
        if self._trial is not None:
            self._pause = min(2 * self._pause, self._most)
        self._trial, self._again = Ticket(self), now + self._most
        return self._trial

    def done(self, ticket: Ticket, good: bool | None) -> None:
        """A call has ended, or is waited for no longer; None: it says nothing about the model. What is told of it first
        stands."""
        if good and self.state == "closed" and not self._row:
            ticket.settled = True
            return
        with self._lock:
            if ticket.settled:
                return
            ticket.settled = True
            if self.state == "open":
                if ticket is self._trial:  # others were let through before it opened, or were given up
                    self._tried(good)
            elif good:
                self._row = 0
            elif good is not None:
                self._row += 1
                if self._row >= self._failures:
                    self.state, self._again = "open", self._clock() + self._pause
                    self.opened += 1

    def _tried(self, good: bool | None) -> None:
        self._trial = None
        if good:
            self._row, self._pause, self.state = 0, self._first, "closed"
            return
        if good is False:
            self._pause = min(2 * self._pause, self._most)
        self._again = self._clock() + (0.0 if good is None else self._pause)


class Ticket:
    """One call's leave. What leaves the block unanswered has failed, but by a MatchError, the caller's own mistake."""

    __slots__ = ("_breaker", "_good", "settled")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker, self._good, self.settled = breaker, False, False

    def answered(self) -> None:
        """The model answered in time."""
        self._good = True

    def overdue(self) -> None:
        """Nobody waits for it any longer: it has failed, now and not once more when it ends. For any thread."""
        self._breaker.done(self, False)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        neutral = isinstance(error, MatchError) or getattr(error, "reason", None) == "no_time"
        self._breaker.done(self, None if neutral else self._good)
