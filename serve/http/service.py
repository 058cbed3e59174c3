"""What stands behind the routes: the matcher that is served now, threads, the store, what is known of who asks.

Notable: one reference (`serving`) holds matcher and roster together, which a request reads once, so a new bundle can be
swapped in between two. A match runs in a thread of a small pool while the event loop waits for it no longer than the
request's deadline; then the caller gets the fallback, and the thread ends when it ends. What waits for disks (roster,
feedback) has threads of its own, so it holds up no match.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from serve.breaker import Ticket
from serve.guarded import Assigned, Decision, Guarded
from serve.http.ended import Learner
from serve.http.erasing import Eraser
from serve.http.errors import Refused
from serve.http.limits import Rate
from serve.http.metrics import Metrics
from serve.http.settings import Settings
from serve.http.shadow import Shadow
from serve.http.tokens import EVERYONE, Token, Tokens
from serve.http.told import RosterTeller
from serve.matcher import Eligible, Matcher
from serve.roster.changes import RosterChange
from serve.roster.eligibility import Need
from serve.roster.keeper import Keeper, RosterStale
from serve.seen import Seen
from serve.store.records import Decided, Feedback, Offered, uuid7
from serve.store.store import Store

_log = logging.getLogger("serve")
Result = TypeVar("Result")
MOST_SEEN = 4096  # contacts whose vectors are kept until their hand-over ends
POLICY = "best"
WRITERS = 4
UNKNOWN = "the roster is not known by now"


@dataclass(frozen=True)
class Serving:
    """What is served now."""

    guarded: Guarded
    keeper: Keeper
    learner: Learner

    @property
    def matcher(self) -> Matcher:
        """The matcher of both."""
        return self.guarded.matcher


class Service:
    """One process's service. Made by `build.py`; `close` it.

    tokens: None where everybody may do everything (loopback alone).
    """

    def __init__(
        self,
        serving: Serving,
        settings: Settings,
        tokens: Tokens | None,
        store: Store | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.serving, self.settings, self.tokens, self.store = serving, settings, tokens, store
        self.metrics = Metrics() if metrics is None else metrics
        self.rate = Rate(settings.limits.rate_per_s, settings.limits.burst)
        self.draining = False
        self.teller = None if store is None else RosterTeller(store)
        self._threads = ThreadPoolExecutor(settings.threads, "match")
        self._writers = ThreadPoolExecutor(WRITERS, "write")
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._seen_lock, self._learning = threading.Lock(), threading.Lock()
        self.following = threading.Lock()
        """Held from reading what the store tells of contacts until that is taken in."""
        self.eraser = Eraser(self)
        self.shadow: Shadow | None = None
        """Another bundle that answers unheard; `running.py` sets it."""
        self.metrics.serves(serving.matcher.bundle_id)

    def close(self) -> None:
        """Write what waits and let go of everything."""
        if self.shadow is not None:
            self.shadow.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._writers.shutdown(wait=True)
        self.serving.keeper.close()
        if self.store is not None:
            self.store.close()

    def admitted(self, authorization: str | None, roles: Sequence[str]) -> Token:
        """Who asks. Raises Refused: 401, 403 without one of the roles, 429 for who asks too often."""
        who = EVERYONE if self.tokens is None else self.tokens.find(authorization)
        if who is None:
            raise Refused(401, "a valid bearer token is needed")
        if not who.may(roles):
            raise Refused(403, f"this token may not do this; a token of {' or '.join(roles)} is needed")
        wait_s = self.rate.wait_s(who.name)
        if wait_s:
            self.metrics.refused.labels("rate").inc()
            raise Refused(429, "this token asks too often", wait_s)
        return who

    async def match(
        self,
        contact: Mapping[str, Any],
        k: int,
        eligible: Eligible,
        queue: Sequence[str] | None,
        deadline_s: float,
        decision_id: str | None = None,
        **options: Any,
    ) -> tuple[str, Decision]:
        """The decision and its id. Raises MatchError, Refused where not even the roster is known."""
        serving, until = self.serving, time.monotonic() + deadline_s
        tickets: list[Ticket] = []

        def work() -> Decision:
            try:
                serving.keeper.follow()
            except RosterStale as error:
                return self._stale(serving, contact, k, queue, str(error))
            left = until - time.monotonic()
            return serving.guarded.match(contact, k, eligible, queue, left, entered=tickets.append, **options)

        try:
            decision = await self._in_time(work, deadline_s, tickets)
        except TimeoutError:
            if serving.keeper.known():
                why = _too_late(deadline_s)
                decision = serving.guarded.fallback(contact, k, eligible, queue, "deadline", why, deadline_s)
            else:
                decision = self._stale(serving, contact, k, queue, UNKNOWN)
        self.metrics.matched(decision)
        self._remember(contact.get("contact_id"), decision.seen)
        decision_id = self._logged(serving, contact, decision, eligible, None, decision_id)
        if self.shadow is not None:
            self.shadow.offer(decision_id, contact, k, eligible, options, decision)
        return decision_id, decision

    async def assign(
        self,
        contacts: Sequence[Mapping[str, Any]],
        eligible: Sequence[Eligible],
        capacity: Mapping[str, int],
        deadline_s: float,
        **options: Any,
    ) -> list[tuple[str, Any, Decision]]:
        """For each contact the decision's id, who takes it, and the decision. Raises as `match`."""
        serving, until = self.serving, time.monotonic() + deadline_s
        tickets: list[Ticket] = []

        def work() -> list[Assigned]:
            try:
                serving.keeper.follow()
            except RosterStale as error:
                raise Refused(503, str(error), 1.0) from error
            left = max(0.0, until - time.monotonic())
            return serving.guarded.assign(contacts, eligible, capacity, left, entered=tickets.append, **options)

        def unasked() -> list[Assigned]:
            why = _too_late(deadline_s)
            return serving.guarded.assign_unasked(contacts, eligible, capacity, "deadline", why, deadline_s)

        try:
            done = await self._in_time(work, deadline_s, tickets)
        except TimeoutError:
            if not serving.keeper.known():
                raise Refused(503, UNKNOWN, 1.0) from None
            done = await self.blocking(unasked)
        found = []
        for contact, who, (chosen, decision) in zip(contacts, eligible, done, strict=True):
            self.metrics.matched(decision)
            csa_id = None if chosen is None else chosen.csa_id
            self._remember(contact.get("contact_id"), decision.seen)
            found.append((self._logged(serving, contact, decision, who, csa_id, None), chosen, decision))
        return found

    async def update_roster(self, changes: Sequence[RosterChange]) -> int:
        """Make changes; the new version. Raises MatchError, JournalError."""

        def work() -> int:
            # A swap that is under way reads the journal again before it ends, or takes the place of this after it.
            return self.change_roster(self.serving, changes)

        return await self.blocking(work)

    def change_roster(self, serving: Serving, changes: Sequence[RosterChange]) -> int:
        """Make changes to what is served and tell the store; the new version. Raises as `update_roster`."""
        version = serving.keeper.update(changes)
        if self.teller is not None:
            self.teller.tell(serving.matcher, changes)
        return version

    async def feedback(self, facts: Sequence[Feedback]) -> int:
        """Store facts; how many told something new. Raises StoreError; the model learns of what it saw itself."""
        store = self.store
        if store is None:
            raise Refused(404, "this service keeps no feedback: it was started without --store")

        def work() -> int:
            new = store.feedback(*facts)
            if new:
                self._learn(facts)
            return new

        return await self.blocking(work)

    async def erase(self, customer_id: str) -> dict[str, Any]:
        """Forget a customer, see `Eraser.erase`."""
        return await self.blocking(lambda: self.eraser.erase(customer_id))

    def forget(self, unwanted: Callable[[str, str | None], bool]) -> None:
        """Learn nothing more of contacts, by their id and their customer's, that were seen so far."""
        with self.following, self._learning:  # what is being learnt of them ends first, and is erased after this
            with self._seen_lock:
                seen = list(self._seen.items())
            gone = [contact_id for contact_id, one in seen if unwanted(contact_id, one.fields["customer_id"])]
            with self._seen_lock:
                for contact_id in gone:
                    self._seen.pop(contact_id, None)
            self.serving.learner.forget(lambda contact_id: unwanted(contact_id, None))
            if self.shadow is not None:
                self.shadow.forget(lambda contact_id: unwanted(contact_id, None))

    async def blocking(self, work: Callable[[], Result]) -> Result:
        """Run what waits for a disk or computes for long."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, work)

    async def _in_time(self, work: Callable[[], Result], deadline_s: float, tickets: list[Ticket]) -> Result:
        """Run what asks the model. Raises TimeoutError at the deadline, and then has told the breaker."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._threads.submit(work)), deadline_s)
        except TimeoutError:
            for ticket in tickets:  # a stage that hangs never says so itself
                ticket.overdue()
            raise

    def tick(self) -> None:
        """What is looked at once a second: the roster where nobody asks, and what metrics show."""
        serving = self.serving
        try:
            serving.keeper.follow()
        except RosterStale as error:
            _log.error("%s", error)
        self.metrics.breaker.set(serving.guarded.breaker.state == "open")
        self.metrics.roster_version.set(serving.matcher.snapshot.version)
        self.metrics.roster_age.set(serving.keeper.age_s)
        self.metrics.roster_change_age.set(time.monotonic() - serving.keeper.changed_at)
        if self.store is not None:
            counts = self.store.counts()
            self.metrics.logged(counts["decisions"], counts["texts"], counts["away"])
        if self.teller is not None:
            self.teller.retry()

    def ready(self) -> str | None:
        """Why no requests should come here now, None where they may."""
        if self.draining:
            return "draining"
        try:
            self.serving.keeper.follow()
        except RosterStale:
            return "the roster is not known"
        return None

    def swap(self, serving: Serving) -> None:
        """Serve another bundle from the next request on."""
        self.serving = serving
        self.metrics.serves(serving.matcher.bundle_id)

    def _stale(
        self, serving: Serving, contact: Mapping[str, Any], k: int, queue: Sequence[str] | None, why: str
    ) -> Decision:
        if queue is None:
            raise Refused(503, f"{why}; give the queue's order to get it back", 1.0)
        return serving.guarded.unfiltered(contact, k, queue, "roster", why)

    def _logged(
        self,
        serving: Serving,
        contact: Mapping[str, Any],
        decision: Decision,
        eligible: Eligible,
        chosen: str | None,
        decision_id: str | None,
    ) -> str:
        decision_id = uuid7() if decision_id is None else decision_id
        if self.store is not None:
            made = Decided(
                contact,
                [Offered(one.csa_id, one.score, one.p_resolved) for one in decision.candidates],
                eligible=_listed(serving.matcher, eligible),
                chosen=chosen,
                policy=POLICY if decision.fallback is None else "queue",
                model=decision.model,
                roster_version=decision.roster_version,
                fallback=decision.fallback,
                decision_id=decision_id,
            )
            self.store.log.decided(made)
        return decision_id

    def _remember(self, contact_id: str | None, seen: Seen | None) -> None:
        """Keep what the model made of a contact. Before the contact is logged: what is kept after `forget` is then of a
        contact that is logged as a new customer's."""
        if contact_id is None or seen is None or self.store is None:
            return
        with self._seen_lock:
            self._seen[contact_id] = seen
            self._seen.move_to_end(contact_id)
            if len(self._seen) > MOST_SEEN:
                self._seen.popitem(last=False)

    def seen(self, contact_id: str) -> Seen | None:
        """A contact as this process read it, where it did so lately."""
        with self._seen_lock:
            return self._seen.get(contact_id)

    def _learn(self, facts: Sequence[Feedback]) -> None:
        """Hand-overs whose outcome became known move their CSA, where this process saw the contact."""
        with self._learning:
            learner = self.serving.learner
            for fact in sorted(facts, key=lambda one: one.moment or 0):
                with self._seen_lock:
                    seen = self._seen.pop(fact.contact_id, None) if fact.moment is not None else None
                if seen is not None:
                    learner.learn(fact, seen)


def _too_late(deadline_s: float) -> str:
    return f"no answer within the deadline of {deadline_s * 1e3:.0f} ms"


def _listed(matcher: Matcher, eligible: Eligible) -> Any:
    """Who was eligible, as the log takes it: looked up by the thread that writes."""
    if not isinstance(eligible, Need):
        return eligible
    view = matcher.snapshot
    bitmaps = view.bitmaps
    if bitmaps is None:
        return None
    return lambda: [view.ids[code] for code in bitmaps.codes(eligible).tolist()]
