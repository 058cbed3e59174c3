"""The decision log: what was decided, for whom, among whom, with which chances, by which model.

Notable: decisions are durable within the window of the group commit (`committer.WINDOW_S`), which is what a crash may
lose. The contact's text follows when it is redacted, in a queue of its own: a text takes a thousand times as long as a
decision, and a decision must not wait for it. The first telling of a contact stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Engine, bindparam, select, update

from serve.store.committer import Committer, Counts
from serve.store.engine import plainly
from serve.store.erasures import Erasures, Told
from serve.store.errors import InvalidFact
from serve.store.records import Decided, finite, named, storable, time_of
from serve.store.redacting import RedactingProcess
from serve.store.rows import insert_new, parts
from serve.store.tables import contacts, decisions
from twotower.clock import now

TextKept = Literal["redacted", "none"]
LABELS = ("channel", "queue", "language", "intent", "customer_language")
TEXTS = ("intent_text", "transcript")


class Logged(NamedTuple):
    """A decision, a copy of its contact's fields, which the caller may go on changing, and the erasures that were heard
    of by then."""

    one: Decided
    contact: dict[str, Any]
    heard: int


class Said(NamedTuple):
    """A contact's text, as it came, and the erasures that were heard of by then."""

    contact_id: str
    language: str | None
    texts: tuple[str, str]
    customer_id: str | None
    heard: int

    @property
    def told(self) -> Told:
        """Whose it is."""
        return Told(self.contact_id, self.customer_id, self.heard)


class DecisionLog:
    """Where the router puts its decisions. Safe to call from several threads.

    engine: of the store; erasures: who was erased from it; text: "redacted", or "none" where no text is kept;
    redacting: who masks it; bound: how many decisions, and how many texts, may wait.
    """

    def __init__(
        self, engine: Engine, erasures: Erasures, text: TextKept, redacting: RedactingProcess, bound: int
    ) -> None:
        self._engine, self._erasures, self._text, self._redacting = engine, erasures, text, redacting
        self._decisions = Committer(self._write, bound, "decisions")
        self._texts = Committer(self._write_texts, bound, "texts")

    def decided(self, one: Decided) -> str:
        """Log a decision: some microseconds, no database, never an exception. Returns its id, by which feedback can
        name it."""
        try:
            self._decisions.put(Logged(one, dict(one.contact), self._erasures.number))
        except Exception:  # the hot path of a router: what cannot be logged is counted
            self._decisions.lose()
        return one.decision_id

    @property
    def counts(self) -> Counts:
        """Of decisions."""
        return self._decisions.counts

    @property
    def text_counts(self) -> Counts:
        """Of contacts' texts, which have no window."""
        return self._texts.counts

    @property
    def away(self) -> bool:
        """Whether the database did not take what was last to be written."""
        return self._decisions.away or self._texts.away

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until all that was told so far is in the database, texts included; False where it is not in time."""
        return self._decisions.flush(timeout_s) and self._texts.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, and no more after it."""
        self._decisions.close(timeout_s)
        self._texts.close(timeout_s)

    def _write(self, batch: list[Logged]) -> list[bool]:
        rows = [decision_row(logged.one, logged.contact) for logged in batch]
        whose = [
            Told(row["contact_id"], logged.contact.get("customer_id"), logged.heard)
            for row, logged in zip(rows, batch, strict=True)
        ]
        with plainly("decisions"), self._engine.begin() as connection:
            kept = self._erasures.kept(connection, whose)
            pairs = list(compress(zip(rows, batch, strict=True), kept))
            told = {row["contact_id"]: (row, logged) for row, logged in reversed(pairs)}
            insert_new(connection, decisions, [row for row, _ in pairs])
            people = [contact_fields(one.contact, name, row["decided_at"]) for name, (row, one) in told.items()]
            insert_new(connection, contacts, people)
            without = untold(connection, list(told))
            if self._text == "none":
                set_texts(connection, [(contact_id, "", "") for contact_id in without])
        if self._text == "redacted":
            for contact_id in sorted(without):
                logged = told[contact_id][1]
                self._texts.put(said(logged.contact, contact_id, logged.heard))
        return kept

    def _write_texts(self, batch: list[Said]) -> list[bool]:
        rows = masked(self._redacting, batch)
        with plainly("texts"), self._engine.begin() as connection:
            kept = self._erasures.kept(connection, [one.told for one in batch])
            set_texts(connection, list(compress(rows, kept)))
        return kept


def decision_row(one: Decided, contact: Mapping[str, Any]) -> dict[str, Any]:
    """A decision for a contact as a row. Raises InvalidFact where an id or a time cannot be."""
    ids = one.eligible() if callable(one.eligible) else one.eligible
    contact_id = contact.get("contact_id")
    return {
        "decision_id": named("decision_id", one.decision_id),
        "contact_id": named("contact_id", one.decision_id if contact_id is None else contact_id),
        "decided_at": time_of("decided_at", one.decided_at),
        "attempt": int(one.attempt),
        "urgent": None if one.urgent is None else bool(one.urgent),
        "eligible": None if ids is None else json.dumps([named("eligible", one) for one in ids]),
        "candidates": json.dumps([_offer(*each) for each in one.candidates]),
        "chosen": None if one.chosen is None else named("chosen", one.chosen),
        "propensity": finite(one.propensity),
        "seed": None if one.seed is None else int(one.seed),
        "roster_version": None if one.roster_version is None else int(one.roster_version),
        **{name: _label(getattr(one, name)) for name in ("policy", "arm", "salt", "model", "fallback")},
    }


def _offer(csa_id: str, score: float, p_resolved: float | None = None, propensity: float | None = None) -> list[Any]:
    return [named("csa_id", csa_id), finite(score), finite(p_resolved), finite(propensity)]


def contact_fields(contact: Mapping[str, Any], contact_id: str, arrived_at: int) -> dict[str, Any]:
    """A contact's fields as a row without its text, `arrived_at` where they do not say when; what is of a wrong type is
    null."""
    customer_id = contact.get("customer_id")
    return {
        "contact_id": contact_id,
        "customer_id": named("customer_id", customer_id) if customer_id else None,
        "arrived_at": arrived_at if contact.get("arrived_at") is None else time_of("arrived_at", contact["arrived_at"]),
        "priority": finite(contact.get("priority")),
        "customer_since": _time_or_none(contact.get("customer_since")),
        **{name: _label(contact.get(name)) for name in LABELS},
    }


def _label(value: Any) -> str | None:
    return storable(value) if isinstance(value, str) and value else None


def _time_or_none(value: Any) -> int | None:
    try:
        return None if value is None else time_of("customer_since", value)
    except InvalidFact:
        return None


def said(contact: Mapping[str, Any], contact_id: str, heard: int) -> Said:
    """The text of a contact; what is no text is none. heard: see `Told`."""
    texts = [contact.get(name) for name in TEXTS]
    first, second = (storable(text) if isinstance(text, str) else "" for text in texts)
    customer_id = contact.get("customer_id")
    return Said(contact_id, _label(contact.get("language")), (first, second), customer_id or None, heard)


def masked(redacting: RedactingProcess, batch: Sequence[Said]) -> list[tuple[str, str, str]]:
    """Contacts (id, intent_text, transcript) with their text masked."""
    texts = iter(redacting.redact([(text, said.language) for said in batch for text in said.texts]))
    return [(said.contact_id, next(texts), next(texts)) for said in batch]


def untold(connection: Connection, contact_ids: Sequence[str]) -> set[str]:
    """Which of some contacts have no text yet."""
    found: set[str] = set()
    for part in parts(contact_ids):
        where = contacts.c.contact_id.in_(part) & contacts.c.intent_text.is_(None)
        found.update(connection.execute(select(contacts.c.contact_id).where(where)).scalars())
    return found


def set_texts(connection: Connection, rows: Sequence[tuple[str, str, str]]) -> None:
    """Give contacts (id, intent_text, transcript) their text, unless they have one or are gone."""
    if rows:
        where = (contacts.c.contact_id == bindparam("whose")) & contacts.c.intent_text.is_(None)
        at = now()
        told = [{**dict(zip(("whose", *TEXTS), row, strict=True)), "stored_at": at} for row in rows]
        connection.execute(update(contacts).where(where), told)
