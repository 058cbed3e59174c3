"""A matcher's roster and its journal kept together: changes are durable before they are acknowledged, others' are seen.

Notable: every call that reads the roster first looks at the journal's size (`follow`), so an answer that begins after a
change was acknowledged knows of it, in whichever process either happened. Where another thread is reading the journal
just then, a call goes on if the roster was up to date less than `BOUND_S` ago, else it waits; where the journal cannot
be read for that long, it is refused (`RosterStale`) rather than answered with people who may be gone. A change is
checked, written, and then made; so what is in the file was possible, and what is made is in the file.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from serve.contact import MatchError
from serve.matcher import Matcher
from serve.roster.changes import Join, RosterChange, Unblock
from serve.roster.compact import compact, compacted
from serve.roster.forget import unblocking
from serve.roster.journal import Journal, JournalError, JournalGap, Record
from twotower.clock import now

_log = logging.getLogger("serve")
BOUND_S = 0.25
LEAST_COMPACTED = 1 << 20  # bytes; smaller files are left as they are
GROWTH = 4  # a file is compacted when it is so many times as large as after the last time


class RosterStale(JournalError):
    """Nobody can say what the roster is by now."""


class Keeper:
    """Changes and follows the roster of one matcher. Safe to call from several threads.

    journal: None keeps the roster in memory alone. Construction replays the journal. clock: monotonic seconds; now: µs
    since 1970.
    """

    def __init__(
        self,
        matcher: Matcher,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = now,
    ) -> None:
        self.matcher, self.journal = matcher, journal
        self._clock, self._now = clock, now
        self._writing, self._lock = threading.Lock(), threading.Lock()
        self._current = clock()
        self._waiting: deque[Record] = deque()
        self._made: tuple[int, int] | None = None
        """How far the journal was read when all of it had been made: set last, as others look at it without a lock."""
        self.skipped = 0
        """Changes of CSAs whom neither the bundle nor the journal knows, which a replay leaves out."""
        self.changed_at = clock()
        """When the roster last changed, by the clock."""
        with self._lock:
            self._waiting.extend(compacted(self._read()))
            self._apply()
            self._sync()
            self._made = None if journal is None else journal.reached
        self._small = 0 if journal is None else journal.size

    @property
    def age_s(self) -> float:
        """Seconds since the roster was known to be up to date."""
        return 0.0 if self.journal is None else self._clock() - self._current

    def update(self, changes: Sequence[RosterChange]) -> int:
        """Make changes, all or none; the new version. Durable, where there is a journal, when this returns.

        Raises MatchError naming the change that cannot be, JournalError where it cannot be written; nothing has changed
        then.
        """
        with self._writing:
            at = self._now()
            if self.journal is None:
                self.changed_at = self._clock()
                return self.matcher.update_roster(changes, at)
            with self.journal.locked():
                with self._lock:
                    self._follow()
                self.matcher.check_roster(changes, at)
                version = self.journal.append(changes, at)  # readers go on while the disk is waited for
                with self._lock:
                    self._follow()
                    if self.journal.size > max(LEAST_COMPACTED, GROWTH * self._small):
                        self._try_compact(self.journal)
            return version

    def forget(self, customer_id: str) -> int:
        """Erase a customer's blocked pairs, here and in the journal, where not even their hash stays; how many there
        were. Others have done so by their next answer. Raises JournalError: try again."""
        with self._writing:
            journal, at = self.journal, self._now()
            if journal is None:
                view = self.matcher.snapshot
                barred = [Unblock(view.ids[code], customer_id) for code in self.matcher.barred(customer_id, view) or ()]
                if barred:
                    self.matcher.update_roster(barred, at)
                return len(barred)
            with journal.locked():
                with self._lock:
                    self._follow()
                pairs = unblocking(journal, customer_id)
                if pairs:
                    journal.append(pairs, at)
                if pairs is not None:
                    with self._lock:
                        self._follow()
                        self._compact(journal)
            return len(pairs or ())

    def follow(self) -> None:
        """Bring the roster up to what the journal says now. Raises RosterStale where that is not known for too long."""
        if self.journal is None:
            return
        begun = self._clock()
        try:
            if self.journal.seen() == self._made:
                self._current = max(self._current, begun)
                return
            if not self._lock.acquire(timeout=max(0.0, self._current + BOUND_S - begun)):
                raise RosterStale("the roster's journal is being read for too long; try again")
            try:
                self._follow()
            finally:
                self._lock.release()
        except RosterStale:
            raise
        except Exception as error:  # the file's, or the model's, which reads who joins
            if self._clock() - self._current > BOUND_S:
                raise RosterStale(f"the roster is not known by now: {type(error).__name__}, {error}") from error

    def known(self) -> bool:
        """Whether the roster is up to date, or was less than `BOUND_S` ago: one stat, for who must not wait."""
        try:
            if self.journal is None or self.journal.seen() == self._made:
                return True
        except OSError:
            pass
        return self.age_s <= BOUND_S

    def close(self) -> None:
        """Let go of the journal."""
        if self.journal is not None:
            self.journal.close()

    def _read(self) -> list[Record]:
        return [] if self.journal is None else self.journal.read()

    def _follow(self) -> None:
        begun = self._clock()
        self._waiting.extend(self._read())
        self._apply()
        self._current = begun
        self._made = None if self.journal is None else self.journal.reached

    def _apply(self) -> None:
        """Make what is waiting, in order; what fails stays, to be tried again."""
        while self._waiting:
            record = self._waiting[0]
            changes = self._known(record.changes)
            try:
                self.matcher.update_roster(changes, record.at, record.version)
            except MatchError as error:  # a bundle of other CSAs refuses what was possible with the one before
                _log.warning("journal, version %d: left out: %s", record.version, error)
            self._waiting.popleft()
            self.changed_at = self._clock()

    def _known(self, changes: Sequence[RosterChange]) -> list[RosterChange]:
        """Without changes of those whom nobody knows, such as a leaver whom a new bundle has forgotten."""
        codes, new = self.matcher.snapshot.codes, {one.csa_id for one in changes if isinstance(one, Join)}
        found = [one for one in changes if one.csa_id in codes or one.csa_id in new]
        self.skipped += len(changes) - len(found)
        return found

    def _sync(self) -> None:
        """Records that were compacted away count, too."""
        if self.journal is not None and self.matcher.snapshot.version < self.journal.version:
            self.matcher.update_roster([], self._now(), self.journal.version)

    def _compact(self, journal: Journal) -> None:
        compact(journal)
        self._small, self._made = journal.size, journal.reached

    def _try_compact(self, journal: Journal) -> None:
        try:
            self._compact(journal)
        except JournalError as error:  # the change is made and stays
            _log.warning("%s", error)
            self._small = journal.size


def lost(keeper: Keeper) -> bool:
    """Whether the journal was compacted past what this process has read, so that the roster must be read anew."""
    try:
        keeper.follow()
    except JournalError as error:
        return isinstance(error.__cause__, JournalGap)
    return False
