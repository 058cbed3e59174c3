"""The matcher: raw contacts in, ranked CSAs out, inside the router's process and without torch.

Notable: one reference holds an immutable snapshot, which a call reads once, so readers never lock and a roster change
can swap it between calls. The towers and indexes run on one thread a call; concurrency comes from the callers. Scores
are those of `twotower.scoring.Join`, the same that training fitted. How contacts are read says `serve/reading.py`.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from serve.answer import Candidate, Ranked, as_candidates
from serve.assign import Method, assigned_by, one_each
from serve.contact import MatchError as MatchError
from serve.contact import clean, columns_of, moment_of
from serve.customers import Customers
from serve.customers_rows import MemoryOfOne
from serve.live import Live
from serve.nominate import nominated
from serve.outcome import Outcome
from serve.pairs import TOP, Explanation, explain_pair
from serve.pairs_live import pair_of
from serve.reading import ContactReader
from serve.roster.book import Book, key_of
from serve.roster.changes import RosterChange
from serve.roster.declared import declared_of
from serve.roster.eligibility import Need
from serve.roster.view import RosterView
from serve.roster.waiting import Eligible as Eligible
from serve.roster.waiting import may_take, waiting
from serve.searches_apart import build_searches
from serve.seen import Seen
from serve.sets.wait import Waiting
from serve.snapshot import Snapshot
from twotower.bundle.bundle import Bundle
from twotower.bundle.tables import Roster
from twotower.clock import format_time
from twotower.scoring.join import ContactVectors, Rank
from twotower.scoring.memory import Memory
from twotower.scoring.utility import Utility


class Matcher(ContactReader):
    """Ranks CSAs for contacts from one bundle. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, customers: Customers | None = None, secret: bytes | None = None) -> None:
        super().__init__(bundle, customers)
        self._join = bundle.join
        self._snapshot = Snapshot.from_bundle(bundle)
        self._live: Live | None = None
        self._writing = threading.Lock()
        self._book: Book | None = None
        self._secret = secrets.token_bytes(32) if secret is None else secret
        pa.default_memory_pool().release_unused()  # what reading the tables took, once more what they hold

    @classmethod
    def load(
        cls,
        bundle_dir: str | Path,
        expect_digest: str | None = None,
        customers: Customers | None = None,
        secret: bytes | None = None,
    ) -> Matcher:
        """Verify a bundle and load what matching needs. Raises BundleError, one line, where it cannot be trusted.

        customers: what is known of returning customers. Of a store that was built with another bundle the vectors of
        past hand-overs do not count, which one line in the log `serve` says; all else does. secret: under which
        customers of blocked pairs are kept in memory, by default one of this process alone.
        """
        return cls(Bundle.open(bundle_dir, expect_digest), customers, secret)

    def ended(
        self,
        contact: Mapping[str, Any] | Seen,
        csa_id: str,
        known_at: datetime | int,
        tell_customers: bool = True,
        **outcome: Any,
    ) -> None:
        """A hand-over's outcome has become known: its CSA is another one at the next call.

        contact: fields, or what `read` made of them on arrival, which saves reading them again. outcome: what is known
        of `resolved`, `handle_time_s`, `transferred` and `csat`; and `ended_at`, where the end is not told by
        `finished`. tell_customers: the customers' store is told too; False for what it knows already, as when a bundle
        that was loaded anew hears again what ended since. Each hand-over is to be told once, in the order in which they
        become known; matching goes on meanwhile, other calls like this one wait.

        Raises MatchError for a CSA or an outcome that cannot be; nothing has changed then.
        """
        seen = self._own(contact)
        code, end = self._code(csa_id), Outcome.of(known_at, outcome)
        if end.known_at < self._until:
            raise MatchError(
                f"known_at: {format_time(end.known_at)} is before {format_time(self._until)}, up to when the bundle "
                "knows all outcomes; tell what became known since"
            )
        with self._writing:
            self._snapshot = self._started().ended(code, seen, end)
        if self.customers is not None and tell_customers:
            vectors = self.vectors(seen.encoded, [seen.fields["arrived_at"]])
            self.customers.update_handover(
                seen.fields["customer_id"], csa_id, end.known_at, end.resolved, vectors, self._id
            )

    def assigned(self, csa_id: str, at: datetime | int) -> None:
        """A hand-over has begun: it is its CSA's load, where the bundle reads that, until it is told to have ended.
        What began or ended before the end of the data window counts already. Raises MatchError as `ended`."""
        self._work(csa_id, at, 1)

    def finished(self, csa_id: str, at: datetime | int) -> None:
        """A hand-over has ended, whether its outcome is known or not; see `assigned`."""
        self._work(csa_id, at, -1)

    def _work(self, csa_id: str, at: datetime | int, change: int) -> None:
        code, moment = self._code(csa_id), moment_of(at, "at")
        with self._writing:
            self._snapshot = self._started().worked(code, moment, change)

    def update_roster(
        self, changes: Sequence[RosterChange], at: datetime | int | None = None, version: int | None = None
    ) -> int:
        """Make changes to the roster (`serve/roster/changes.py`), all of them or none; returns its new version.

        At the next call who joined can be found and who left is gone; matching goes on meanwhile. at: when, by default
        as late as anything that was told; version: what a journal counts it as, later than the present one. Raises
        MatchError naming the change that cannot be; nothing has changed then.
        """
        moment = None if at is None else moment_of(at, "at")
        with self._writing:
            live, book = self._started(), self._books()
            before = book.saved()
            try:
                told = book.apply(changes, moment)
                book.version = book.version if version is None else version
                self._snapshot = live.roster(book, told, moment)
            except BaseException:
                book.restore(before)
                raise
            return book.version

    def check_roster(self, changes: Sequence[RosterChange], at: datetime | int | None = None) -> None:
        """Raises MatchError where `update_roster` would."""
        with self._writing:
            self._books().check(changes, None if at is None else moment_of(at, "at"))

    def roster(self) -> RosterView:
        """Who is in the roster now, for people and tools."""
        with self._writing:
            return self._books().view()

    def exported(self) -> Roster:
        """The CSAs as a bundle holds them, with all changes of the roster. Only before hand-overs are told."""
        with self._writing:
            return self._started().exported(self._books())

    def declared(self, csa_ids: Sequence[str]) -> list[dict[str, Any]]:
        """What is declared of CSAs now, as rows of csas.parquet, and `channels`."""
        with self._writing:
            book = self._books()
            return [{"csa_id": one, **book.entry(self._code(one)).declared.row()} for one in csa_ids]

    def waiting(
        self, k: int, eligible: Eligible = None, customer_id: str | None = None, queue: Sequence[str] | None = None
    ) -> list[str]:
        """The first k of who may take a customer's contact: in the order of `queue`, None: idle ones on shift first,
        then the longest in their state. Asks no model. Raises MatchError, unknown ids of `eligible`."""
        view = self._view(eligible)
        return waiting(view, self._who(eligible, customer_id, view), self._book, k, queue)

    def assign(
        self,
        contacts: Sequence[Mapping[str, Any]],
        eligible: Sequence[Eligible] | None = None,
        capacity: Mapping[str, int] | None = None,
        rank: Rank | None = None,
        at: datetime | int | None = None,
        method: Method = "sets",
        wait: Waiting | None = None,
    ) -> list[Candidate | None]:
        """One CSA for each contact, all together or, `greedy`, in order of arrival the best who is left; None: nobody
        is (`serve/assign.py`). Raises MatchError as `match`, and for waits and capacities that are none."""
        who = one_each(eligible, len(contacts))
        best = lambda i, k: self.match(contacts[i], k, who[i], rank, at)  # noqa: E731
        return assigned_by(method, contacts, best, capacity, wait, at)

    def _books(self) -> Book:
        """The writer's side of who is in the roster, made when somebody first asks."""
        if self._book is None:
            active, declared = self._snapshot.active.tolist(), declared_of(self.bundle.declared)
            self._book = Book(self._snapshot.ids, active, declared, self._secret)
        return self._book

    def _view(self, eligible: Eligible) -> Snapshot:
        """The present snapshot, with bitmaps where a need is to be looked up."""
        if self._snapshot.bitmaps is None and isinstance(eligible, Need):
            with self._writing:
                self._snapshot = replace(self._snapshot, bitmaps=self._books().bitmaps)
        return self._snapshot

    def _who(self, eligible: Eligible, customer_id: str | None, view: Snapshot) -> npt.NDArray[np.int64] | None:
        """Codes, ascending, of who may take a customer's contact, None: all active. Raises MatchError, unknown ids."""
        return may_take(view, eligible, self.barred(customer_id, view))

    def barred(self, customer_id: str | None, view: Snapshot) -> frozenset[int] | None:
        """Codes of whom a customer must not meet, None: nobody."""
        return view.blocked.get(key_of(self._secret, customer_id)) if view.blocked and customer_id else None

    def refresh(self, at: datetime | int | None = None) -> None:
        """Bring everyone's past to a moment (by default just after all that is known): what numbers are shrunk towards,
        decay, vectors, and the search structures; once per snapshot of training, and after some thousands of
        hand-overs. Matching goes on meanwhile, hand-overs that end wait. Raises MatchError for a moment before the last
        refresh or before what was told."""
        with self._writing:
            live = self._started()
            moment = live.moment if at is None else moment_of(at, "at")
            if moment < live.moment:
                raise MatchError(
                    f"at: {format_time(moment)} is earlier than what is known ({format_time(live.moment)})"
                )
            self._snapshot = live.refresh(moment)

    def rebuild(self) -> None:
        """Build what nominates candidates anew, of all that is known now, in seconds on a large roster, while matching,
        hand-overs and changes of the roster go on: for a thread of its own, when the snapshot is `due`. Nobody's
        numbers move, as they do by `refresh`."""
        with self._writing:
            live = self._started()
            material, mark = live.material()
        made = build_searches(self._join, material, live.asked(), self._snapshot)
        with self._writing:
            self._snapshot = live.searched(made, mark)

    def _started(self) -> Live:
        """The writer's side, made when something first changes: a copy of all that may change."""
        if self._live is None:
            self._live = Live(self.bundle, self._snapshot, self._asked)
        return self._live

    def _code(self, csa_id: str) -> int:
        if csa_id not in self._snapshot.codes:
            raise MatchError(f"csa_id: {csa_id!r} is not in the roster of this bundle; export one that holds them")
        return self._snapshot.codes[csa_id]

    @property
    def bundle_id(self) -> str:
        """The bundle's id, which its manifest computes anew each time."""
        return self._id

    @property
    def latest(self) -> int:
        """The latest moment (µs) that anything was told of, its customers included."""
        return super().latest if self._live is None else max(super().latest, self._live.moment)

    @property
    def snapshot(self) -> Snapshot:
        """The present view of the roster and its memory."""
        return self._snapshot

    @property
    def default_rank(self) -> Rank:
        """What a rank means unless a call says otherwise."""
        return self._join.default

    def match(
        self,
        contact: Mapping[str, Any] | Seen,
        k: int = 10,
        eligible: Eligible = None,
        rank: Rank | None = None,
        at: datetime | int | None = None,
        utility: Utility | None = None,
    ) -> list[Candidate]:
        """The best k CSAs for a contact, best first; fewer where fewer are eligible, none where nobody is.

        contact: fields as in `contacts.parquet`, any may be missing or None; or what `read` made of them. eligible: csa
        ids who may take it, of whom those who left are passed over; or what it needs, which the roster looks up; None
        for everyone active. rank: `success` or `handled`, None for the bundle's default. at:
        the moment that ages are counted from, by default the contact's `arrived_at`, else just after all that is known;
        give the present for a contact that has waited. utility: rank by these weights of expected outcomes in place of
        success; `score` is U then.

        Raises MatchError for a field of a wrong type, unknown eligible ids (named), k < 1, a rank that the bundle does
        not have and a utility beside rank `handled`, BundleError for a utility of what the bundle cannot tell.
        """
        seen = self._own(contact, at)
        snapshot = self._view(eligible)
        codes = self._who(eligible, seen.fields["customer_id"], snapshot)
        who = self._codes([seen.fields["customer_id"]])
        vectors = self.vectors(seen.encoded, [seen.fields["arrived_at"]], at, who)
        return as_candidates(snapshot, self.rank(vectors, k, codes, rank, snapshot, utility))

    def explain(
        self,
        contact: Mapping[str, Any] | Seen,
        csa_id: str,
        rank: Rank | None = None,
        at: datetime | int | None = None,
        top: int = TOP,
    ) -> Explanation:
        """Why a CSA, eligible or not, has their score for a contact.

        contact, rank, at: as in `match`; top: past hand-overs that are told one by one, of each kind. The answer is
        about one person and to be handled so (docs/explanations.md). Raises MatchError as `match` does, and for a CSA
        who is not in the roster.
        """
        seen, meaning, view, code = self._own(contact, at), self.meaning(rank), self._snapshot, self._code(csa_id)
        customer, arrived = [seen.fields["customer_id"]], [seen.fields["arrived_at"]]
        vectors = self.vectors(seen.encoded, arrived, at, self._codes(customer))
        one, memory, _ = self._met(vectors, view)
        read = self._encoder.inputs(seen.fields, self._known(customer, arrived, at)[0])
        features = self.bundle.roster.features if self._live is None else self._live.features
        pair = pair_of(self.bundle, view, one, memory, read, code, features, seen.fields["contact_id"])
        return explain_pair(self._join, meaning, pair, top)

    def match_batch(
        self,
        contacts: Sequence[Mapping[str, Any] | Seen],
        k: int = 10,
        eligible: Sequence[Eligible] | None = None,
        rank: Rank | None = None,
        at: datetime | int | None = None,
        utility: Utility | None = None,
    ) -> list[list[Candidate]]:
        """`match` for several contacts, encoded together; `eligible` has one entry a contact."""
        who = one_each(eligible, len(contacts))
        if not contacts:
            return []
        snapshot = self._view(next((one for one in who if isinstance(one, Need)), None))
        columns = columns_of([clean(one.fields if isinstance(one, Seen) else one) for one in contacts])
        vectors = self.encode(columns, columns["customer_id"], columns["arrived_at"], at)
        ranked = []
        for i in range(len(contacts)):
            codes = self._who(who[i], columns["customer_id"][i], snapshot)
            one = vectors.take(np.array([i]))
            ranked.append(as_candidates(snapshot, self.rank(one, k, codes, rank, snapshot, utility)))
        return ranked

    def rank(
        self,
        contact: ContactVectors,
        k: int,
        eligible: npt.NDArray[np.int64] | None = None,
        rank: Rank | None = None,
        snapshot: Snapshot | None = None,
        utility: Utility | None = None,
    ) -> Ranked:
        """The best k for one encoded contact; `eligible` as distinct codes of the snapshot, or None."""
        if k < 1:
            raise MatchError(f"k: at least 1 expected, got {k}")
        view, join, meaning = snapshot or self._snapshot, self._join, self.meaning(rank, utility)
        contact, memory, also = self._met(contact, view)
        if utility is None:
            codes = view.candidates(contact, meaning, k, eligible, also)
            scored = join.score(meaning, contact, memory, codes, view.vectors_of(codes))
        else:
            codes = nominated(view, join, utility, contact, k, eligible, also)
            scored = join.worth(utility, contact, memory, codes, view.vectors_of(codes), view.own_of(codes))
        places = scored.best(k)
        best = codes[places]
        expected = join.expected(contact, view.vectors_of(best), view.own_of(best))
        logit = None if scored.logit is None else scored.logit[places]
        return Ranked(best, places, scored, join.uncertainty(logit, view.deviations(contact, best)), expected)

    def meaning(self, rank: Rank | None, utility: Utility | None = None) -> Rank:
        """What is ranked by: as asked for, else success where there is a utility, else the bundle's default. Raises
        MatchError and BundleError as `match` does."""
        join = self._join
        if utility is not None:
            if rank == "handled":
                raise MatchError("rank 'handled' with a utility: a utility ranks by outcomes; leave one of the two out")
            utility.check(join.outcomes, join.calibrated)
            return "success"
        meaning = join.default if rank is None else rank
        if meaning not in join.ranks:
            raise MatchError(f"this bundle does not rank by {meaning!r}; it ranks by {', '.join(sorted(join.ranks))}")
        return meaning

    def _met(
        self, contact: ContactVectors, view: Snapshot
    ) -> tuple[ContactVectors, Memory, npt.NDArray[np.int64] | None]:
        """One contact with the memory that holds its customer's hand-overs, and the CSAs who served them before."""
        code = int(contact.customer[0])
        if self.customers is None or code < 0:
            return contact, view.memory, None
        pairs = self.customers.pairs(code, int(contact.arrived_at[0]), view.codes, self._id)
        if pairs.rows is None:
            return contact, view.memory, pairs.codes
        return replace(contact, customer=np.zeros(1, np.int32)), MemoryOfOne(view.memory, pairs.rows), pairs.codes
