"""What a process takes in from the decisions' store: arrivals and ends that it, or another one, stored.

Notable: every process reads the same rows, so several workers agree soon after a row is written: `FOLLOW_S` and the
time of reading, while the database answers. Rows are looked for by when they were written; each look goes back
`OVERLAP` beyond the last one, as a transaction may take so long to end, and further where the clock was set back. What
is found again was told already. The first look takes in all that came while this process was not there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

from serve.http.outage import Outage
from serve.http.service import Service
from serve.store.engine import WAIT_S
from serve.store.since import Ended, arrived_since, ended_since, known_since
from serve.store.store import Store
from twotower.clock import NEVER, SECOND, now

_log = logging.getLogger("serve")
FOLLOW_S = 1.0
OVERLAP = int(2 * WAIT_S * SECOND)
LATE = 2 * SECOND  # after it was stored; later than this counts as late


class Follower:
    """Of one service, which has a store. Safe to call from several threads."""

    def __init__(self, service: Service, store: Store) -> None:
        self._service, self._store = service, store
        self._from, self._begun = now(), False
        self._outage = Outage("what others store is not heard of now")

    def follow(self) -> None:
        """Take in what is new; where the database is away, the next call does."""
        self._outage.spare(self._look)

    def _look(self) -> None:
        with self._service.following:
            self._take_in()

    def _take_in(self) -> None:
        begun, learner = now(), self._service.serving.learner
        since, returning = min(begun, self._from) - OVERLAP, learner.returning
        ended = ended_since(self._store, since, learner.told)
        if not self._begun:
            ended += known_since(self._store, learner.since)
        arrived = []
        if returning.customers is not None:
            after = NEVER if self._begun else returning.last_arrival
            arrived = arrived_since(self._store, since, after, returning.arrivals)
        # In the order of time, as a contact is read with what was known of its customer.
        tellings: list[tuple[int, str, int, Callable[[], bool]]] = [
            *((one.known_at, "handover", one.stored_at, partial(self._ended, one)) for one in ended),
            *((one["arrived_at"], "arrival", one["stored_at"], partial(self._arrived, one)) for one in arrived),
        ]
        for _, what, stored_at, tell in sorted(tellings, key=itemgetter(0)):
            if tell():
                when = "late" if now() - stored_at > LATE else "in time"
                self._service.metrics.heard.labels(what, when).inc()
        self._from, self._begun = begun, True

    def _ended(self, one: Ended) -> bool:
        # The present learner, as another bundle may have taken its place meanwhile.
        return self._service.serving.learner.hear(one, self._service.seen(one.key[0]))

    def _arrived(self, contact: Mapping[str, Any]) -> bool:
        serving = self._service.serving
        try:
            return serving.learner.returning.arrived(serving.matcher.bundle.schema, contact)
        except Exception:  # whatever it is, the others are counted
            _log.exception("an arrival could not be counted")
            return False
