"""Another bundle that answers the same contacts after the fact, so that it is known before anybody is given its answer.

Notable: a request pays for one append to a bounded queue, after its answer is known; where the queue is full the
contact is left out and counted. One thread loads the other bundle, brings its roster and what ended since up to now,
and scores what waits, so nothing here can delay an answer but by the processor's time that it takes. Nothing is given
out, nothing is told to the customers' store. What is written goes to the decisions' store, where a customer's erasure
reaches it; without a store there are the counters alone.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.guarded import Decision
from serve.http.returning import Returning
from serve.roster.keeper import lost
from serve.store.records import Offered
from serve.store.shadows import Shadowed
from serve.store.since import ended_since
from serve.watch import FileWatch
from twotower.bundle.manifest import NAME
from twotower.clock import SECOND, now
from twotower.errors import TwoTowerError

if TYPE_CHECKING:
    from serve.http.service import Service, Serving
    from serve.matcher import Eligible

_log = logging.getLogger("serve")
WAITING = 512
LOOK_S = 2.0
"""Between looks at whether the other bundle is another, and at what ended."""
OVERLAP = 10 * SECOND
"""Looks at what ended go back so far, as a row may be stored later than it says."""


@dataclass(frozen=True)
class Asked:
    """What was asked and decided."""

    decision_id: str
    contact: Mapping[str, Any]
    k: int
    eligible: Eligible
    options: Mapping[str, Any]
    decision: Decision
    heard: int
    at: int


class Shadow:
    """Of one service. Safe to call from several threads.

    load: the bundle that `settings.shadow` names, with the service's roster; raises TwoTowerError.
    """

    def __init__(self, service: Service, path: str | Path, load: Callable[[], Serving]) -> None:
        self._service, self._load, self._path = service, load, Path(path)
        self._watch = FileWatch(self._path / NAME, folder=True)
        self._waiting: queue.Queue[Asked] = queue.Queue(WAITING)
        self._serving: Serving | None = None
        self._stopping, self._looked = threading.Event(), 0.0
        self._since = 0
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin; what comes earlier waits."""
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread; what still waits is left out."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._serving is not None and not self._thread.is_alive():
            self._serving.keeper.close()

    def offer(
        self, decision_id: str, contact: Mapping[str, Any], k: int, eligible: Eligible, options: Mapping[str, Any],
        decision: Decision,
    ) -> None:  # fmt: skip
        """A contact was decided: an append, never an exception. What a fallback answered is no bundle's."""
        if decision.fallback is not None:
            return
        heard = 0 if self._service.store is None else self._service.store.erasures.number
        try:
            self._waiting.put_nowait(Asked(decision_id, contact, k, eligible, options, decision, heard, now()))
        except queue.Full:
            self._service.metrics.shadowed.labels("dropped").inc()

    def forget(self, unwanted: Callable[[str], bool]) -> None:
        """Keep no trace of contacts, by their id."""
        serving = self._serving
        if serving is not None:
            serving.learner.forget(unwanted)

    def idle(self, timeout_s: float) -> bool:
        """Wait until nothing waits; False where something still does."""
        until = time.monotonic() + timeout_s
        while self._waiting.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.005)
        return not self._waiting.unfinished_tasks

    def _run(self) -> None:
        while not self._stopping.is_set():
            if time.monotonic() - self._looked >= LOOK_S:
                self._look()
                self._looked = time.monotonic()
            try:
                asked = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                self._answer(asked)
            except Exception:  # whatever it is, the others are looked at, and no request has any of it
                self._service.metrics.shadowed.labels("error").inc()
                _log.exception("shadow: a contact could not be compared")
            finally:
                self._waiting.task_done()

    def _look(self) -> None:
        """Load the bundle where it is another, and learn what ended since."""
        if self._watch.changed() or (self._serving is not None and lost(self._serving.keeper)):
            before, self._serving = self._serving, None
            if before is not None:
                before.keeper.close()
            try:
                self._serving = self._loaded()
                _log.info("shadow", extra={"values": {"bundle": self._serving.matcher.bundle_id}})
            except TwoTowerError as error:
                _log.error("shadow refused, nothing is compared: %s", error)
            except Exception:
                _log.exception("shadow refused, nothing is compared")
            self._service.metrics.shadow_loaded.set(self._serving is not None)
        elif self._serving is not None:
            self._learn(self._serving)
            if self._serving.matcher.snapshot.due:
                self._serving.matcher.rebuild()

    def _loaded(self) -> Serving:
        self._since = now()
        made = self._load()
        # Customers are read, as the served bundle reads them; they are told by that one alone.
        made.matcher.customers = self._service.serving.matcher.customers
        if self._service.store is not None:
            made.learner.again(self._service.store)
        return made

    def _learn(self, serving: Serving) -> None:
        store = self._service.store
        if store is None:
            return
        begun = now()
        try:
            for one in ended_since(store, self._since - OVERLAP, serving.learner.told):
                serving.learner.hear(one, self._service.seen(one.key[0]))
            self._since = begun
        except TwoTowerError as error:  # the database is away: the next look takes it in
            _log.debug("shadow: what ended is not heard of now: %s", error)

    def _answer(self, asked: Asked) -> None:
        serving, metrics = self._serving, self._service.metrics
        if serving is None:
            metrics.shadowed.labels("none").inc()
            return
        if serving.matcher.bundle_id == asked.decision.model:
            return  # there is nothing to compare
        served_s = asked.decision.elapsed_s.get("whole")
        begun = time.perf_counter()
        try:
            serving.keeper.follow()
            found = serving.matcher.match(asked.contact, asked.k, asked.eligible, **asked.options)
        except Exception as error:  # its kind alone: a message may hold what a customer said
            metrics.shadowed.labels("error").inc()
            self._store(asked, serving, error=type(error).__name__, served_s=served_s)
            return
        took = time.perf_counter() - begun
        same, overlap = compared([one.csa_id for one in asked.decision.candidates], [one.csa_id for one in found])
        metrics.shadowed.labels("same first" if same else "other first").inc()
        metrics.shadow_overlap.observe(overlap)
        metrics.shadow_seconds.labels("shadow").observe(took)
        if served_s is not None:
            metrics.shadow_seconds.labels("served").observe(served_s)
        offers = [Offered(one.csa_id, one.score, one.p_resolved) for one in found]
        self._store(asked, serving, answered=offers, same_first=same, overlap=overlap, served_s=served_s, shadow_s=took)

    def _store(self, asked: Asked, serving: Serving, **found: Any) -> None:
        store = self._service.store
        if store is None:
            return
        contact_id, customer_id = asked.contact.get("contact_id"), asked.contact.get("customer_id")
        store.shadowed(
            Shadowed(
                asked.decision_id, asked.decision_id if contact_id is None else contact_id, customer_id or None,
                asked.heard, asked.decision.model, serving.matcher.bundle_id, decided_at=asked.at, **found,
            )
        )  # fmt: skip


def compared(served: list[str], other: list[str]) -> tuple[bool, float]:
    """Whether both rankings have the same first, and the share of the longer one's length that is in both; two empty
    ones are the same."""
    if not served or not other:
        return served == other, float(served == other)
    return served[0] == other[0], len(set(served) & set(other)) / max(len(served), len(other))


def shadow_of(service: Service, journal: str | Path) -> Shadow | None:
    """Of a service whose settings name one, None of others."""
    from serve.http.build import load_serving

    settings = service.settings
    if settings.shadow is None:
        return None
    own = replace(settings, bundle=settings.shadow, digest=None, signature=None, public_key=None)
    return Shadow(service, settings.shadow, lambda: load_serving(own, journal, Returning(None)))
