"""Group commit: many callers put things into a bounded queue, one thread writes them, several a transaction.

Notable: the caller pays for a lock and an append, whatever the database does. The thread waits a moment before it
takes what is there, so that company shares a commit, and it prepares no longer than fits into the window. While the
database is away what is waiting waits; where the queue is full the newest is lost, and counted. One that the database
refuses for good is lost alone: a batch that fails so is written one by one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from typing import Generic, TypeVar

from serve.store.errors import StoreUnavailable

Item = TypeVar("Item")

_log = logging.getLogger("serve.store")
WINDOW_S = 0.05
"""How old what is accepted and not yet written may be, by design; older ones count as late."""
GATHER_S = 0.01
QUIET_S = 1.0
"""After so long without work the thread sleeps. Before, it looks by itself, as to wake it costs the caller more than
all the rest."""
MOST = 64  # things a transaction: some milliseconds of work
PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)  # between tries while the database is away


@dataclass(frozen=True)
class Counts:
    """`accepted` into the queue, `written` durably, `lost` for good, `late` written after more than the window,
    `waiting` now; accepted = written + waiting + what was lost after it was accepted."""

    accepted: int
    written: int
    lost: int
    late: int
    waiting: int


class Committer(Generic[Item]):
    """A queue and the thread that empties it.

    write: stores several in one transaction and says which of them; the others are not to be written any more. Raises
    StoreUnavailable where trying again may help. bound: how many may wait; name: of the thread and in the log's lines.
    """

    def __init__(
        self, write: Callable[[list[Item]], list[bool]], bound: int, name: str, gather_s: float = GATHER_S
    ) -> None:
        self.bound = bound
        self._write, self._name, self._gather_s = write, name, gather_s
        self._queue: deque[tuple[float, Item]] = deque()
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._wake, self._closing = threading.Event(), threading.Event()
        self._asleep = False
        self._accepted = self._written = self._lost = self._late = self._dropped = 0
        self._away = False
        self._full = False
        self._gone = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Take one; False, and lost, where the queue is full or closed."""
        with self._lock:
            taken = len(self._queue) < self.bound and not self._closing.is_set()
            if taken:
                self._queue.append((time.monotonic(), item))
                self._accepted += 1
            else:
                self._lost += 1
                first, self._full = not self._full, True
        if taken:
            if self._asleep:
                self._wake.set()
        elif first:
            _log.warning(
                "%s: the queue is full (%d waiting); what comes now is lost and counted", self._name, self.bound
            )
        return taken

    def lose(self) -> None:
        """Count one that could not even be put."""
        with self._lock:
            self._lost += 1

    @property
    def counts(self) -> Counts:
        """How many of each, at one moment."""
        with self._lock:
            waiting = self._accepted - self._written - self._dropped
            return Counts(self._accepted, self._written, self._lost, self._late, waiting)

    @property
    def away(self) -> bool:
        """Whether the database did not take the last batch."""
        return self._away

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until what was accepted so far is written or lost; False where it is not in time."""
        with self._settled:
            goal = self._accepted
            return self._settled.wait_for(lambda: self._written + self._dropped >= goal, timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits and end the thread; what cannot be written in time is lost, and counted."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        with self._settled:
            self._gone = True
            left = self._accepted - self._written - self._dropped
            self._dropped += left
            self._lost += left
            self._settled.notify_all()
        if left:
            _log.error("%s: closed while the database was away; %d are lost", self._name, left)

    def _run(self) -> None:
        quiet = 0.0
        while not self._gone and (self._queue or not self._closing.is_set()):
            if quiet > QUIET_S:
                self._sleep()
            self._closing.wait(self._gather_s)
            quiet = 0.0 if self._queue else quiet + self._gather_s
            while self._queue and not self._gone:
                self._commit(self._take())

    def _sleep(self) -> None:
        """Wait until somebody puts something."""
        self._wake.clear()
        self._asleep = True
        if not self._queue and not self._closing.is_set():
            self._wake.wait()
        self._asleep = False

    def _take(self) -> list[tuple[float, Item]]:
        with self._lock:
            self._full = False
            return [self._queue.popleft() for _ in range(min(MOST, len(self._queue)))]

    def _commit(self, batch: list[tuple[float, Item]]) -> None:
        """Write a batch, waiting for the database as long as it takes; one by one where it is refused for good."""
        pause = 0
        while batch and not self._gone:
            try:
                kept = self._write([item for _, item in batch])
            except StoreUnavailable as error:
                self._tell_away(error)
                self._closing.wait(PAUSES_S[min(pause, len(PAUSES_S) - 1)])
                if self._closing.is_set():
                    time.sleep(PAUSES_S[0])
                pause += 1
            except Exception as error:  # whatever it is, the thread goes on
                self._one_by_one(batch, error)
                return
            else:
                self._settle([since for since, _ in compress(batch, kept)], len(batch))
                return

    def _one_by_one(self, batch: list[tuple[float, Item]], error: Exception) -> None:
        if len(batch) > 1:
            for one in batch:
                self._commit([one])
            return
        # Kinds alone: a message may hold what a customer said.
        _log.error("%s: one is lost, the database refuses it (%s)", self._name, type(error).__name__)
        with self._settled:
            if not self._gone:
                self._dropped += 1
                self._lost += 1
            self._settled.notify_all()

    def _settle(self, written: list[float], tried: int) -> None:
        """So many were tried, and these, by when they came, are written."""
        now = time.monotonic()
        if self._away:
            self._away = False
            _log.warning("%s: the database is back", self._name)
        with self._settled:
            if self._gone:
                return
            self._written += len(written)
            self._dropped += tried - len(written)
            self._lost += tried - len(written)
            self._late += sum(now - since > WINDOW_S for since in written)
            self._settled.notify_all()

    def _tell_away(self, error: StoreUnavailable) -> None:
        if not self._away:
            self._away = True
            _log.warning("%s: %s (what is to be written waits)", self._name, error)
