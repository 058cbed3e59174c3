"""The matcher: raw contacts in, ranked CSAs out, inside the router's process and without torch.

Notable: one reference holds an immutable snapshot, which a call reads once, so readers never lock and a roster change
can swap it between calls. The towers and indexes run on one thread a call; concurrency comes from the callers. Scores
are those of `twotower.scoring.Join`, the same that training fitted. What is known of a contact's customer comes from
outside the bundle (`serve/customers.py`), as of the contact's arrival; a stranger is matched as if there were no store.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.contact import MatchError as MatchError
from serve.contact import clean, columns_of, eligible_codes, moment_of
from serve.customers import Customers
from serve.customers_rows import MemoryOfOne
from serve.snapshot import Snapshot
from twotower.bundle.bundle import Bundle
from twotower.bundle.sessions import Encoded
from twotower.clock import NULL_TIME
from twotower.features.customer import CustomerRows
from twotower.scoring.join import ContactVectors, Rank, Scored
from twotower.scoring.memory import Memory

_log = logging.getLogger("serve")
OTHER_BUNDLE = (
    "customers: their hand-overs were encoded by bundle %s and do not count in the join with %s; contacts, style and "
    "who served them do; build the store again with this bundle"
)
REASONS = 3
# Parts below this share of the whole explain nothing.
LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Reason:
    """One part of a score: `part` its name, `effect` how much it raises (or lowers) this CSA above the mean of the
    candidates, in score units, `share` the effect's share of all parts' absolute effects (−1 … 1)."""

    part: str
    effect: float
    share: float


@dataclass(frozen=True)
class Candidate:
    """A CSA for a contact: the joint `score` (larger is better; comparable within one contact), `p_resolved` (None
    where the log had no failures) and the parts that set it apart, strongest first."""

    csa_id: str
    score: float
    p_resolved: float | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Ranked:
    """The best k of one contact's candidates: codes i8[k], and where they stand in what was scored."""

    codes: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    scored: Scored

    @property
    def score(self) -> npt.NDArray[np.float32]:
        """Scores f4[k], best first."""
        return self.scored.score[self.places]

    @property
    def p_resolved(self) -> npt.NDArray[np.float32] | None:
        """P(resolved) f4[k] or None."""
        return None if self.scored.p_resolved is None else self.scored.p_resolved[self.places]


class Matcher:
    """Ranks CSAs for contacts from one bundle. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, customers: Customers | None = None) -> None:
        self.bundle = bundle
        self.customers = customers
        self._encoder = bundle.contact_encoder
        self._join = bundle.join
        self._id = bundle.manifest.id
        self._until = int(bundle.manifest.window["until"])
        self._snapshot = Snapshot.from_bundle(bundle)
        self._reads_past = bundle.schema.has("frequency", "style", "relationship")
        if customers is not None and customers.bundle != self._id:
            _log.warning(OTHER_BUNDLE, customers.bundle[:12], self._id[:12])

    @classmethod
    def load(
        cls, bundle_dir: str | Path, expect_digest: str | None = None, customers: Customers | None = None
    ) -> Matcher:
        """Verify a bundle and load what matching needs. Raises BundleError, one line, where it cannot be trusted.

        customers: what is known of returning customers. Of a store that was built with another bundle the vectors of
        past hand-overs do not count, which one line in the log `serve` says; all else does.
        """
        return cls(Bundle.open(bundle_dir, expect_digest), customers)

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
        contact: Mapping[str, Any],
        k: int = 10,
        eligible: Sequence[str] | None = None,
        rank: Rank | None = None,
        at: datetime | int | None = None,
    ) -> list[Candidate]:
        """The best k CSAs for a contact, best first; fewer where fewer are eligible, none where nobody is.

        contact: fields as in `contacts.parquet`; any may be missing or None. eligible: csa ids who may take it, None
        for everyone active. rank: `success` or `handled`, None for the bundle's default. at: the moment that ages are
        counted from, by default the contact's `arrived_at`, else the end of the bundle's data window; give the present
        for a contact that has waited.

        Raises MatchError for a field of a wrong type, unknown eligible ids (named) and k < 1, BundleError for a rank
        that the bundle does not have.
        """
        found = clean(contact)
        snapshot = self._snapshot
        codes = None if eligible is None else np.array(eligible_codes(eligible, snapshot.codes), dtype=np.int64)
        who, past, told = self._known([found["customer_id"]], [found["arrived_at"]], at)
        for name, [value] in told.items():
            found[name] = value if found[name] is None else found[name]
        vectors = self.vectors(self._encoder.encode_one(found, past), [found["arrived_at"]], at, who)
        return _as_candidates(snapshot, self.rank(vectors, k, codes, rank, snapshot))

    def match_batch(
        self,
        contacts: Sequence[Mapping[str, Any]],
        k: int = 10,
        eligible: Sequence[Sequence[str] | None] | None = None,
        rank: Rank | None = None,
        at: datetime | int | None = None,
    ) -> list[list[Candidate]]:
        """`match` for several contacts, encoded together; `eligible` has one entry a contact."""
        if eligible is not None and len(eligible) != len(contacts):
            raise MatchError(f"eligible: {len(eligible)} lists for {len(contacts)} contacts; give one a contact")
        if not contacts:
            return []
        snapshot = self._snapshot
        columns = columns_of([clean(contact) for contact in contacts])
        vectors = self.encode(columns, columns["customer_id"], columns["arrived_at"], at)
        ranked = []
        for i in range(len(contacts)):
            ids = None if eligible is None else eligible[i]
            codes = None if ids is None else np.array(eligible_codes(ids, snapshot.codes), dtype=np.int64)
            one = vectors.take(np.array([i]))
            ranked.append(_as_candidates(snapshot, self.rank(one, k, codes, rank, snapshot)))
        return ranked

    def encode(
        self,
        columns: Mapping[str, Any],
        customer_ids: Sequence[str | None],
        arrived_at: Sequence[int | None],
        at: datetime | int | None = None,
    ) -> ContactVectors:
        """Vectors of contacts (N,) given as columns for the contact encoder, with what is known of their customers."""
        who, past, told = self._known(customer_ids, arrived_at, at)
        columns = {**columns, **{name: _filled(columns.get(name), values) for name, values in told.items()}}
        return self.vectors(self._encoder.encode(columns, past, quiet=True), arrived_at, at, who)

    def vectors(
        self,
        encoded: Encoded,
        arrived_at: Sequence[int | None],
        at: datetime | int | None = None,
        customer: npt.NDArray[np.int32] | None = None,
    ) -> ContactVectors:
        """Encoded contacts with the moments they are matched at; customer: positions of `customers`, None: all
        strangers."""
        return ContactVectors(
            encoded.profile,
            encoded.memory,
            encoded.level,
            encoded.base,
            self.times(arrived_at, at)[1],
            np.full(len(encoded), -1, dtype=np.int32) if customer is None else customer,
        )

    def times(
        self, arrived_at: Sequence[int | None], at: datetime | int | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """When contacts count as arrived, i8[N], and the moments i8[N] that they are matched at, not earlier."""
        fixed = None if at is None else moment_of(at, "at")
        moments = [fixed if fixed is not None else self._until if t is None else t for t in arrived_at]
        arrived = [moment if t is None else min(t, moment) for t, moment in zip(arrived_at, moments, strict=True)]
        return np.array(arrived, dtype=np.int64), np.array(moments, dtype=np.int64)

    def _known(
        self, customer_ids: Sequence[str | None], arrived_at: Sequence[int | None], at: datetime | int | None
    ) -> tuple[npt.NDArray[np.int32], CustomerRows | None, dict[str, list[Any]]]:
        """Positions of contacts' customers, their past (None where all are strangers or no tower reads it), and what
        else the store tells of them, as columns of contacts, without any where all are strangers."""
        if self.customers is None:
            return np.full(len(customer_ids), -1, dtype=np.int32), None, {}
        who = self.customers.codes(customer_ids)
        if not (who >= 0).any():
            return who, None, {}
        past = None
        if self._reads_past:
            past = self.customers.past(who, *self.times(arrived_at, at))
        since = [None if moment == NULL_TIME else moment for moment in self.customers.since(who).tolist()]
        return who, past, {"customer_since": since, "customer_language": self.customers.languages(who)}

    def rank(
        self,
        contact: ContactVectors,
        k: int,
        eligible: npt.NDArray[np.int64] | None = None,
        rank: Rank | None = None,
        snapshot: Snapshot | None = None,
    ) -> Ranked:
        """The best k for one encoded contact; `eligible` as distinct codes of the snapshot, or None."""
        if k < 1:
            raise MatchError(f"k: at least 1 expected, got {k}")
        view = snapshot or self._snapshot
        meaning = self._join.default if rank is None else rank
        if meaning not in self._join.ranks:
            raise MatchError(f"this bundle does not rank by {meaning!r}; it has {', '.join(sorted(self._join.ranks))}")
        contact, memory, also = self._met(contact, view)
        codes = view.candidates(contact, meaning, k, eligible, also)
        scored = self._join.score(meaning, contact, memory, codes, view.profiles.vectors[codes])
        places = np.argsort(-scored.score, kind="stable")[:k]
        return Ranked(codes[places], places, scored)

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


def _filled(given: Any, known: list[Any]) -> list[Any]:
    """A column (N,) of contacts, None where it is absent, with its gaps filled from what is known."""
    if given is None:
        return known
    values = given.to_pylist() if hasattr(given, "to_pylist") else given
    # What is not itself is NaN.
    return [other if one is None or one != one else one for one, other in zip(values, known, strict=True)]


def _as_candidates(snapshot: Snapshot, ranked: Ranked) -> list[Candidate]:
    p, reasons = ranked.p_resolved, explain(ranked)
    return [
        Candidate(snapshot.ids[code], float(score), None if p is None else float(p[i]), reasons[i])
        for i, (code, score) in enumerate(zip(ranked.codes, ranked.score, strict=True))
    ]


def explain(ranked: Ranked) -> list[tuple[Reason, ...]]:
    """The parts that set each of the best k apart from the mean of the scored candidates, strongest first."""
    parts = ranked.scored.contributions
    if not len(ranked.places):
        return []
    effects = parts[ranked.places] - parts.mean(axis=0)
    whole = np.maximum(np.abs(effects).sum(axis=1, keepdims=True), 1e-12)
    shares = effects / whole
    order = np.argsort(-np.abs(shares), axis=1, kind="stable")[:, :REASONS]
    names = ranked.scored.names
    return [
        tuple(
            Reason(names[j], float(effects[i, j]), float(shares[i, j]))
            for j in order[i]
            if abs(shares[i, j]) >= LEAST_SHARE
        )
        for i in range(len(order))
    ]
