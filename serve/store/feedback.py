"""Feedback: facts about hand-overs, durable before they are acknowledged, each counted once.

Notable: a fact is kept as what it added, with the moment at which that became known; so a hand-over can be read as of
any moment later on. What was told once stands: telling it again changes nothing, telling otherwise is refused by the
name of the field. Several that are told together are stored together or not at all. A hand-over's row is locked while
it is looked at, so two processes that tell different things cannot both be right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, and_, select, update

from serve.store.engine import plainly
from serve.store.erasures import Erasures
from serve.store.errors import Conflict
from serve.store.records import OUTCOMES, TOLD, Feedback, named, time_of
from serve.store.rows import insert_new
from serve.store.tables import abandoned, facts, handovers
from twotower.clock import now

STATED = ("ended_at", *OUTCOMES)


def store_feedback(engine: Engine, erasures: Erasures, told: Sequence[Feedback]) -> int:
    """Store what is new of it in one transaction; how many told something new. What is of a contact that was erased and
    not told again since is left out.

    Raises Conflict naming the field, StoreUnavailable where it is to be tried again; nothing is stored then.
    """
    # In one order everywhere, so that two processes never wait for each other.
    ordered = sorted(told, key=lambda one: one.key)
    with plainly("feedback"), engine.begin() as connection:
        gone = erasures.gone(connection, {one.contact_id for one in ordered})
        return sum(_store(connection, one) for one in ordered if one.contact_id not in gone)


def store_abandoned(engine: Engine, erasures: Erasures, contact_id: str, at: Any) -> bool:
    """A customer gave up waiting; False where that was told before, or the contact was erased. Raises InvalidFact,
    Conflict, StoreUnavailable."""
    row = {"contact_id": named("contact_id", contact_id), "abandoned_at": time_of("abandoned_at", at)}
    with plainly("feedback"), engine.begin() as connection:
        if erasures.gone(connection, [contact_id]):
            return False
        if insert_new(connection, abandoned, [row]):
            return True
        where = abandoned.c.contact_id == contact_id
        stands = connection.execute(select(abandoned.c.abandoned_at).where(where)).scalar_one()
        _refuse("contact", contact_id, {"abandoned_at": stands}, {"abandoned_at": row["abandoned_at"]})
        return False


def _store(connection: Connection, one: Feedback) -> bool:
    """Store one fact; whether it told anything new."""
    new = _store_handover(connection, one)
    known: dict[str, Any] = {}
    for stored in connection.execute(select(facts).where(_of(facts, one))).mappings():
        known.update({name: stored[name] for name in STATED if stored[name] is not None})
    tells = {name: getattr(one, name) for name in STATED if getattr(one, name) is not None}
    _refuse("hand-over", _name(one), known, tells)
    added = {name: value for name, value in tells.items() if name not in known}
    if not added and one.feedback_id is None:
        return new
    feedback_id = hashlib.blake2b(one.as_json().encode(), digest_size=16).hexdigest()
    row: dict[str, Any] = {
        **dict.fromkeys(STATED),
        **added,
        "feedback_id": feedback_id if one.feedback_id is None else one.feedback_id,
        **dict(zip(("contact_id", "csa_id", "assigned_at"), one.key, strict=True)),
        "known_at": one.moment if any(name in OUTCOMES for name in added) else None,
        "told": one.as_json(),
        "stored_at": now(),
    }
    if insert_new(connection, facts, [row]):
        return new or bool(added)
    _refuse_other_content(connection, str(row["feedback_id"]), one)
    return new


def _store_handover(connection: Connection, one: Feedback) -> bool:
    """The hand-over's row, locked until the transaction ends; whether it is new."""
    told = {name: getattr(one, name) for name in TOLD}
    where = _of(handovers, one)
    row = dict(zip(("contact_id", "csa_id", "assigned_at"), one.key, strict=True))
    if insert_new(connection, handovers, [{**row, **told}]):
        return True
    stands = dict(connection.execute(select(handovers).where(where).with_for_update()).mappings().one())
    tells = {name: value for name, value in told.items() if value is not None}
    _refuse("hand-over", _name(one), stands, tells)
    added = {name: value for name, value in tells.items() if stands[name] is None}
    if added:
        connection.execute(update(handovers).where(where).values(**added))
    return bool(added)


def _refuse_other_content(connection: Connection, feedback_id: str, one: Feedback) -> None:
    """Conflict where a feedback_id came with other content before."""
    found = connection.execute(select(facts.c.told).where(facts.c.feedback_id == feedback_id)).scalar_one()
    before, tells = json.loads(found), json.loads(one.as_json())
    _refuse("feedback", feedback_id, {**dict.fromkeys(tells), **before}, {**dict.fromkeys(before), **tells}, nulls=True)


def _refuse(what: str, name: str, stands: Mapping[str, Any], tells: Mapping[str, Any], nulls: bool = False) -> None:
    for field, value in tells.items():
        before = stands.get(field)
        if before != value and (nulls or before is not None):
            raise Conflict(
                f"{what} {name!r}, field {field}: {value!r} is told, but {before!r} was told before and stands"
            )


def _of(table: Any, one: Feedback) -> Any:
    contact_id, csa_id, assigned_at = one.key
    columns = table.c
    return and_(columns.contact_id == contact_id, columns.csa_id == csa_id, columns.assigned_at == assigned_at)


def _name(one: Feedback) -> str:
    return f"{one.contact_id} to {one.csa_id}"
