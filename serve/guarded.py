"""A matcher that always answers: within a budget, by the model, or else by the queue's order and the reason for it.

Notable: nothing can stop a stage (`read`, `rank`) that has begun, as it runs in the caller's thread and no other is
made. The budget is kept by three rules: a stage does not begin when the time left is less than such a stage has lately
taken; the clock is looked at after each; and what the model answers too late is not given out. So a call may overrun by
what its last stage takes longer than expected. Who must have an answer by then waits in another thread, as the HTTP
service does (`serve/http/`). Faults of the model, and answers that come late, open a breaker; while it is open the
model is not asked, but for one call at a time, at growing intervals, that finds out whether it works again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from serve.answer import Candidate
from serve.assign import Method, assign_greedily, assign_together, by_arrival, enough, one_each
from serve.breaker import Breaker, Ticket
from serve.contact import MatchError, clean
from serve.matcher import Eligible, Matcher
from serve.seen import Seen
from serve.sets.wait import Waiting
from twotower.errors import BundleError
from twotower.scoring.join import Rank
from twotower.scoring.utility import Utility

Reason = Literal["late", "no_time", "error", "open", "deadline", "roster"]
REASONS: tuple[Reason, ...] = ("late", "no_time", "error", "open", "deadline", "roster")
BUDGET_S = 0.05
_log = logging.getLogger("serve")
SHARE = 0.2  # of the newest in what a stage is expected to take
FORGET = 0.9  # of an expectation is left when a call was refused for it, so that one slow spell is not for ever


@dataclass(frozen=True)
class Decision:
    """Who could take a contact, best first.

    `fallback` is None where the model answered, else why it did not, with `why` for people: candidates then stand in
    the queue's order, and `score` is minus their place. `model`: the bundle's id; `elapsed_s` by
    stage, and the `whole`.
    """

    candidates: tuple[Candidate, ...]
    fallback: Reason | None
    why: str | None
    model: str
    roster_version: int
    elapsed_s: Mapping[str, float]
    seen: Seen | None = field(default=None, compare=False, repr=False)
    """What the model made of the contact, for `Matcher.ended`; None under a fallback."""


Assigned = tuple[Candidate | None, Decision]
"""Who takes a contact, None: nobody, and the decision that they were taken from."""


@dataclass
class Counts:
    """What a guarded matcher has done since it was made."""

    calls: int = 0
    fallbacks: Counter[Reason] = field(default_factory=Counter)
    unfiltered: int = 0
    """Fallbacks for which nobody could say who is eligible: the queue as the caller gave it."""


class Pace:
    """What stages have lately taken, by the size of the text: means that forget."""

    def __init__(self) -> None:
        self._mean: dict[tuple[str, int], float] = {}

    def expected(self, stage: str, size: int) -> float:
        """Seconds; 0 where nothing is known."""
        return self._mean.get((stage, size.bit_length()), 0.0)

    def took(self, stage: str, size: int, seconds: float) -> None:
        """A stage was run."""
        key = (stage, size.bit_length())
        before = self._mean.get(key)
        self._mean[key] = seconds if before is None else before + SHARE * (seconds - before)

    def refused(self, stage: str, size: int) -> None:
        """A stage was not run, as too little time was left."""
        key = (stage, size.bit_length())
        self._mean[key] = FORGET * self._mean.get(key, 0.0)


class _Stop(Exception):
    """The model does not answer this call."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason, self.why = reason, why


class Guarded:
    """Wraps a matcher. Safe to call from several threads.

    budget_s: of a call that names no other deadline; breaker: when the model is not asked; clock: monotonic seconds.
    """

    def __init__(
        self,
        matcher: Matcher,
        budget_s: float = BUDGET_S,
        breaker: Breaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.matcher, self.budget_s, self.counts = matcher, budget_s, Counts()
        self.breaker = Breaker(clock=clock) if breaker is None else breaker
        self._clock, self._pace, self._lock = clock, Pace(), threading.Lock()

    def match(
        self,
        contact: Mapping[str, Any] | Seen,
        k: int = 10,
        eligible: Eligible = None,
        queue: Sequence[str] | None = None,
        deadline_s: float | None = None,
        rank: Rank | None = None,
        at: datetime | int | None = None,
        utility: Utility | None = None,
        entered: Callable[[Ticket], None] | None = None,
    ) -> Decision:
        """The best k for a contact within the budget, or the queue's order.

        contact, k, eligible, rank, at, utility: as in `Matcher.match`. queue: CSA ids in the order in which the queue
        would take them; of these the eligible are the fallback. None: whoever is eligible, idle ones on shift first,
        then the longest in their state. deadline_s: seconds from now, at most the budget. entered: is given the
        breaker's ticket before the model is asked, for who waits in another thread and says when the call is `overdue`.

        Raises MatchError for what the caller did wrong, as `Matcher.match` does, and nothing else.
        """
        begun = self._clock()
        fields = contact.fields if isinstance(contact, Seen) else clean(contact)
        self._check(k, rank, utility)
        until = begun + (self.budget_s if deadline_s is None else min(deadline_s, self.budget_s))
        elapsed: dict[str, float] = {}
        options = {"k": k, "eligible": eligible, "rank": rank, "at": at, "utility": utility}
        try:
            seen, found = self._ask(contact, fields, until, elapsed, options, entered)
        except _Stop as stop:
            return self._fallen(fields, k, eligible, queue, stop.reason, stop.why, begun, elapsed)
        elapsed["whole"] = self._clock() - begun
        return self._counted(tuple(found), None, None, elapsed, seen=seen)

    def fallback(
        self,
        contact: Mapping[str, Any] | Seen,
        k: int,
        eligible: Eligible,
        queue: Sequence[str] | None,
        reason: Reason,
        why: str,
        waited_s: float = 0.0,
    ) -> Decision:
        """What `match` answers where the model does not; for who waited for it, `waited_s` until now, and waits no
        longer."""
        fields = contact.fields if isinstance(contact, Seen) else clean(contact)
        return self._fallen(fields, k, eligible, queue, reason, why, self._clock() - waited_s, {})

    def unfiltered(
        self, contact: Mapping[str, Any], k: int, queue: Sequence[str], reason: Reason, why: str
    ) -> Decision:
        """The queue as it was given, for who cannot ask the roster either. Raises MatchError for such a contact."""
        clean(contact)
        return self._counted(_in_order(list(queue)[:k]), reason, why, {"whole": 0.0}, True)

    def assign(
        self,
        contacts: Sequence[Mapping[str, Any]],
        eligible: Sequence[Eligible] | None = None,
        capacity: Mapping[str, int] | None = None,
        deadline_s: float | None = None,
        rank: Rank | None = None,
        at: datetime | int | None = None,
        entered: Callable[[Ticket], None] | None = None,
        method: Method = "sets",
        wait: Waiting | None = None,
    ) -> list[Assigned]:
        """One CSA for each contact (None: nobody is left), as `Matcher.assign` takes them, with the decision that each
        was taken from. deadline_s: for all together, by default the budget times the contacts; entered: as in `match`,
        of each contact. Where the model does not answer for all of them in time, it is `greedy`."""
        begun, who = self._clock(), one_each(eligible, len(contacts))
        whole = self.budget_s * len(contacts) if deadline_s is None else deadline_s

        def decide(i: int, k: int) -> Decision:
            left = max(0.0, whole - (self._clock() - begun))
            return self.match(contacts[i], k, who[i], deadline_s=left, rank=rank, at=at, entered=entered)

        if method == "greedy":
            return _assigned(contacts, decide, capacity)
        many = enough(len(contacts), capacity)
        asked = {i: decide(i, many) for i in by_arrival(contacts)}  # if time runs short, for who came last
        answered = all(decision.fallback is None for decision in asked.values())
        if not answered or self._clock() - begun >= whole:
            return _assigned(contacts, lambda i, _: asked[i], capacity)

        def best(i: int, k: int) -> Sequence[Candidate]:
            return (asked[i] if k <= many else decide(i, k)).candidates

        try:
            chosen = assign_together(contacts, best, capacity, wait, at)
        except MatchError:
            raise
        except Exception as error:  # as in `match`: the router goes on
            _log.warning("contacts were assigned one after the other: together raised %s", type(error).__name__)
            return _assigned(contacts, lambda i, _: asked[i], capacity)
        return [(one, asked[i]) for i, one in enumerate(chosen)]

    def assign_unasked(
        self,
        contacts: Sequence[Mapping[str, Any]],
        eligible: Sequence[Eligible],
        capacity: Mapping[str, int],
        reason: Reason,
        why: str,
        waited_s: float = 0.0,
    ) -> list[Assigned]:
        """What `assign` answers where the model does not: to each contact who has waited the longest. As `fallback`."""
        return _assigned(
            contacts, lambda i, k: self.fallback(contacts[i], k, eligible[i], None, reason, why, waited_s), capacity
        )

    def _check(self, k: int, rank: Rank | None, utility: Utility | None) -> None:
        if k < 1:
            raise MatchError(f"k: at least 1 expected, got {k}")
        try:
            self.matcher.meaning(rank, utility)
        except BundleError as error:
            raise MatchError(str(error)) from None

    def _ask(
        self,
        contact: Mapping[str, Any] | Seen,
        fields: Mapping[str, Any],
        until: float,
        elapsed: dict[str, float],
        options: dict[str, Any],
        entered: Callable[[Ticket], None] | None,
    ) -> tuple[Seen, list[Candidate]]:
        """What the model makes of the contact, and its candidates. Raises _Stop where there are none, MatchError."""
        ticket = self.breaker.enter()
        if ticket is None:
            raise _Stop("open", "the model failed lately and is not asked for now")
        if entered is not None:
            entered(ticket)
        size = len(fields.get("intent_text") or "") + len(fields.get("transcript") or "")
        try:
            with ticket:
                if isinstance(contact, Seen):
                    seen = contact
                else:
                    seen = self._stage("read", size, until, elapsed, lambda: self.matcher.read(contact, options["at"]))
                found: list[Candidate] = self._stage(
                    "rank", 0, until, elapsed, lambda: self.matcher.match(seen, **options)
                )
                if not all(math.isfinite(one.score) for one in found):
                    raise _Stop("error", "the model's scores are not finite")
                ticket.answered()
                return seen, found
        except (_Stop, MatchError):
            raise
        except Exception as error:  # whatever a library raises, the router goes on; its text may hold the customer's
            raise _Stop("error", f"the model raised {type(error).__name__}") from error

    def _stage(self, stage: str, size: int, until: float, elapsed: dict[str, float], work: Callable[[], Any]) -> Any:
        begun = self._clock()
        if until - begun <= self._pace.expected(stage, size):
            self._pace.refused(stage, size)
            raise _Stop("no_time", f"{stage} was not begun: {max(until - begun, 0.0) * 1e3:.1f} ms were left")
        try:
            done = work()
        finally:
            ended = self._clock()
            elapsed[stage] = ended - begun
        self._pace.took(stage, size, ended - begun)
        if ended > until:
            raise _Stop("late", f"{stage} ended {(ended - until) * 1e3:.1f} ms after the budget")
        return done

    def _fallen(
        self,
        fields: Mapping[str, Any],
        k: int,
        eligible: Eligible,
        queue: Sequence[str] | None,
        reason: Reason,
        why: str,
        begun: float,
        elapsed: dict[str, float],
    ) -> Decision:
        unfiltered = False
        try:
            ids = self.matcher.waiting(k, eligible, fields.get("customer_id"), queue)
        except MatchError:
            raise
        except Exception:  # not even the roster can be asked: what the caller has is all there is
            ids, unfiltered = list(queue or ())[:k], True
        found = _in_order(ids)
        elapsed["whole"] = elapsed.get("whole", 0.0) + self._clock() - begun
        return self._counted(found, reason, why, elapsed, unfiltered)

    def _counted(
        self,
        found: tuple[Candidate, ...],
        reason: Reason | None,
        why: str | None,
        elapsed: Mapping[str, float],
        unfiltered: bool = False,
        seen: Seen | None = None,
    ) -> Decision:
        with self._lock:
            self.counts.calls += 1
            self.counts.unfiltered += unfiltered
            if reason is not None:
                self.counts.fallbacks[reason] += 1
        matcher = self.matcher
        return Decision(found, reason, why, matcher.bundle_id, matcher.snapshot.version, elapsed, seen)


def _assigned(
    contacts: Sequence[Mapping[str, Any]], decide: Callable[[int, int], Decision], capacity: Mapping[str, int] | None
) -> list[Assigned]:
    decisions: dict[int, Decision] = {}

    def best(i: int, k: int) -> Sequence[Candidate]:
        decisions[i] = decide(i, k)
        return decisions[i].candidates

    chosen = assign_greedily(contacts, best, capacity)
    return [(one, decisions[i]) for i, one in enumerate(chosen)]


def _in_order(ids: Sequence[str]) -> tuple[Candidate, ...]:
    return tuple(Candidate(csa_id, -float(i), None, None, ()) for i, csa_id in enumerate(ids))
