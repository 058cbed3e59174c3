"""What the store is told of the roster: rows of CSAs, so that an export of feedback says who they were."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from serve.matcher import Matcher
from serve.roster.changes import Change, Join, Leave, RosterChange
from serve.store.errors import StoreError, StoreUnavailable
from serve.store.store import Store
from twotower.clock import now

_log = logging.getLogger("serve")
MOST = 10_000  # tellings that may wait while the database is away
NOT_TOLD = ("channels",)


class RosterTeller:
    """Tells a store of CSAs; what the database does not take now is told later. Never raises into its caller."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._waiting: deque[Callable[[], Any]] = deque(maxlen=MOST)

    def whole(self, matcher: Matcher) -> None:
        """Everyone in a bundle, as of the end of its data."""
        rows = matcher.bundle.declared.to_pylist()
        self._tell(lambda: self._store.roster(rows, int(matcher.bundle.manifest.window["until"])))

    def tell(self, matcher: Matcher, changes: Sequence[RosterChange]) -> None:
        """What changes say of who CSAs are; shifts and states say nothing of it."""
        at = now()
        moved = list(dict.fromkeys(one.csa_id for one in changes if isinstance(one, Join | Change)))
        left = [one.csa_id for one in changes if isinstance(one, Leave)]
        rows = [{k: v for k, v in row.items() if k not in NOT_TOLD} for row in matcher.declared(moved)]
        if rows:
            self._tell(lambda: self._store.roster(rows, at))
        if left:
            self._tell(lambda: self._store.left(left, at))

    def retry(self) -> None:
        """Tell what waits, until the database does not take it."""
        with self._lock:
            while self._waiting:
                try:
                    self._waiting[0]()
                except StoreUnavailable:
                    return
                except StoreError as error:
                    _log.warning("the store refuses a row of a CSA: %s", error)
                self._waiting.popleft()

    def _tell(self, telling: Callable[[], Any]) -> None:
        self._waiting.append(telling)
        self.retry()
