"""What was stored since: contacts that arrived and hand-overs that ended, for processes that did not see them.

Notable: rows are found by when they were written, by the clock of who wrote them, as what they tell may be of any time.
A contact is found when its text is there, masked or left out; so it is told as the tables for training tell it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from serve.store.engine import READING, plainly
from serve.store.rows import parts
from serve.store.store import Store
from serve.store.tables import contacts, facts

TOLD = ("resolved", "handle_time_s", "transferred", "csat")
MOST = 20_000  # rows of one question, the latest
Key = tuple[str, str, int]


class Ended(NamedTuple):
    """A hand-over of which something became known; times are µs.

    key: contact, CSA, beginning; contact: its fields, as `Matcher.match` takes them; known_at: of the last of its
    outcome; outcome: by `TOLD`, without nulls; first_at, stored_at: when the first of it became known, and was stored,
    0 where no row says so.
    """

    key: Key
    contact: dict[str, Any]
    known_at: int
    outcome: dict[str, Any]
    first_at: int
    stored_at: int


def known_since(store: Store, moment: int) -> list[Ended]:
    """Hand-overs of which something became known at a moment (µs) or later, in that order. Raises StoreUnavailable."""
    return _ended(store, facts.c.known_at >= moment, ())


def ended_since(store: Store, stored_at: int, known: Container[Key]) -> list[Ended]:
    """Hand-overs but for `known` of whose outcome something was stored at a moment (µs) or later, in the order in which
    it became known. Raises StoreUnavailable."""
    return _ended(store, and_(facts.c.stored_at >= stored_at, facts.c.known_at.is_not(None)), known)


def arrived_since(store: Store, stored_at: int, arrived_at: int, known: Container[str]) -> list[dict[str, Any]]:
    """Contacts of customers but for `known` (ids), in order of arrival, that were stored at one moment or later or came
    after the other (µs): their fields without nulls, and `stored_at`. Raises StoreUnavailable."""
    columns = contacts.c
    since = or_(columns.stored_at >= stored_at, columns.arrived_at > arrived_at)
    latest = (
        select(columns.contact_id)
        .where(since, columns.stored_at.is_not(None), columns.customer_id.is_not(None))
        .order_by(columns.arrived_at.desc(), columns.contact_id)
        .limit(MOST)
    )
    with plainly("contacts"), store.engine.connect().execution_options(**READING) as connection:
        new = [one for one in connection.execute(latest).scalars() if one not in known]
        found = _contacts(store, connection, new)
    return [found[one] for one in reversed(new) if one in found]


def _ended(store: Store, where: ColumnElement[bool], known: Container[Key]) -> list[Ended]:
    latest = select(facts).where(where).order_by(facts.c.known_at.desc(), facts.c.feedback_id).limit(MOST)
    with plainly("feedback"), store.engine.connect().execution_options(**READING) as connection:
        rows = [(_key(row), row) for row in connection.execute(latest).mappings()]
        new = [(key, row) for key, row in reversed(rows) if key not in known]
        people = _contacts(store, connection, sorted({key[0] for key, _ in new}))
    found: dict[Key, Ended] = {}
    for key, row in new:
        if key[0] not in people:
            continue
        outcome = {name: row[name] for name in TOLD if row[name] is not None}
        at, stored_at = row["known_at"], row["stored_at"] or 0
        first = found.pop(key, Ended(key, people[key[0]], at, {}, at, stored_at))
        found[key] = first._replace(known_at=at, outcome={**first.outcome, **outcome})
    return list(found.values())


def _key(row: Any) -> Key:
    return row["contact_id"], row["csa_id"], row["assigned_at"]


def _contacts(store: Store, connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Fields of contacts by id, without nulls; not of those that were erased, whose rows may go a little later."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts(sorted(set(ids) - store.erasures.erased(connection, ids))):
        for row in connection.execute(select(contacts).where(contacts.c.contact_id.in_(part))).mappings():
            found[row["contact_id"]] = {name: value for name, value in row.items() if value is not None}
    return found
