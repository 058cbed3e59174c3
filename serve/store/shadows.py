"""What another bundle would have answered, beside what was: rows that go with their contact when that is erased.

Notable: a row waits in a queue of its own and is written by the same group commit as decisions; where the queue is full
it is lost and counted, and no decision waits for it. Whoever is erased meanwhile is left out, as of decisions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from sqlalchemy import Engine, Row, select

from serve.store.engine import READING, plainly
from serve.store.erasures import Erasures, Told
from serve.store.records import Offered, finite, named
from serve.store.rows import insert_new
from serve.store.tables import contacts, shadows
from twotower.clock import now

BANDS = ("channel", "language", "queue")
"""Columns of contacts by which shadows are told apart."""


@dataclass(frozen=True)
class Shadowed:
    """One answer that nobody was given. heard: the erasures that were heard of when the contact was (`Told`)."""

    decision_id: str
    contact_id: str
    customer_id: str | None
    heard: int
    served: str
    """Digest of the bundle that decided."""
    shadow: str
    """Digest of the other."""
    answered: Sequence[Offered] | None = None
    """None: it did not answer."""
    same_first: bool | None = None
    """Whether both have the same first choice."""
    overlap: float | None = None
    """Share of the served candidates that the other has as well, of as many."""
    error: str | None = None
    served_s: float | None = None
    shadow_s: float | None = None
    decided_at: int = field(default_factory=now)

    def row(self) -> dict[str, Any]:
        """As it is stored. Raises InvalidFact for ids that cannot be."""
        offers = self.answered
        return {
            "decision_id": named("decision_id", self.decision_id), "shadow": self.shadow, "served": self.served,
            "contact_id": named("contact_id", self.contact_id), "decided_at": self.decided_at,
            "same_first": self.same_first, "overlap": finite(self.overlap), "error": self.error,
            "answered": None if offers is None
            else json.dumps([[one.csa_id, finite(one.score), finite(one.p_resolved)] for one in offers]),
            "served_s": finite(self.served_s), "shadow_s": finite(self.shadow_s),
        }  # fmt: skip


def write_shadows(engine: Engine, erasures: Erasures, batch: list[Shadowed]) -> list[bool]:
    """Store some in one transaction; which of them were not erased meanwhile. Raises StoreUnavailable."""
    rows = [one.row() for one in batch]
    with plainly("shadows"), engine.begin() as connection:
        told = [Told(one.contact_id, one.customer_id, one.heard) for one in batch]
        kept = erasures.kept(connection, told)
        insert_new(connection, shadows, list(compress(rows, kept)))
    return kept


def shadows_since(engine: Engine, shadow: str, served: str, since: int) -> list[Row[Any]]:
    """What one bundle would have answered beside another's decisions from a moment on (µs): same_first, overlap, error,
    served_s, shadow_s, and BANDS of the contact, null where the log does not hold it. Raises StoreUnavailable."""
    columns = [shadows.c[name] for name in ("same_first", "overlap", "error", "served_s", "shadow_s")]
    asked = (
        select(*columns, *(contacts.c[name] for name in BANDS))
        .outerjoin(contacts, contacts.c.contact_id == shadows.c.contact_id)
        .where(shadows.c.shadow == shadow, shadows.c.served == served, shadows.c.decided_at >= since)
    )
    with plainly("shadows"), engine.connect().execution_options(**READING) as connection:
        return list(connection.execute(asked).all())
