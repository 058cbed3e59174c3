"""Decisions and feedback for the tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table, func, select

from serve.store.records import Decided, Feedback, Offered
from serve.store.store import Store
from tests.support import at

PHONE = "612 345 678"
TEXT = f"My card was charged twice, call me at {PHONE}"


def decided(contact_id: str | None = "c1", minute: float = 0, **more: Any) -> Decided:
    """A decision for a contact that arrived so many minutes after the first of January 2026."""
    contact = {
        "contact_id": contact_id,
        "customer_id": "anna",
        "arrived_at": at(minute),
        "channel": "chat",
        "language": "es",
        "intent_text": TEXT,
        "transcript": "",
        **more.pop("contact", {}),
    }
    offers = [Offered("ada", 1.5, 0.75, 0.9), Offered("bob", 0.5, 0.5, 0.1)]
    given: dict[str, Any] = {
        "eligible": ["ada", "bob", "cy"],
        "chosen": "ada",
        "policy": "explore-uniform",
        "propensity": 0.9,
        "model": "bundle-1",
        "roster_version": 7,
        "decided_at": at(minute),
    }
    return Decided(contact, offers, **{**given, **more})


def feedback(contact_id: str = "c1", csa_id: str = "ada", minute: float = 1, **more: Any) -> Feedback:
    """Feedback about a hand-over that began so many minutes after the first of January 2026."""
    return Feedback.of({"contact_id": contact_id, "csa_id": csa_id, "assigned_at": at(minute), **more})


def rows(store: Store, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, in the order of its key."""
    with store.engine.connect() as connection:
        found = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
        return [dict(row) for row in found]


def count(store: Store, table: Table) -> int:
    """How many rows a table has."""
    with store.engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A row without some columns."""
    return {name: value for name, value in row.items() if name not in names}
