"""What the store forgets: a customer, or what is older than a moment.

Notable: rows go in small transactions, so that decisions and feedback get in between, and so that a run that is stopped
is simply run again. Afterwards SQLite's write-ahead file is emptied and PostgreSQL is asked to vacuum: what is deleted
should not lie about in either. A contact is old when nothing of it became known since: not its arrival, not a decision,
not a hand-over, not an outcome.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine, delete, exists, or_, select, text, union
from sqlalchemy.exc import SQLAlchemyError

from serve.store.engine import READING, plainly
from serve.store.records import time_of
from serve.store.rows import delete_contacts, parts
from serve.store.tables import OF_CONTACTS, PREFIX, abandoned, contacts, csas, decisions, erasures, facts, handovers

_log = logging.getLogger("serve.store")


def erase_contacts(engine: Engine, contact_ids: Iterable[str]) -> dict[str, int]:
    """Delete all rows of the contacts that `Erasures.record` named; how many of each table. Raises StoreUnavailable."""
    done = _delete(engine, sorted(contact_ids), "erasure")
    _settle(engine)
    return done


def prune(engine: Engine, before: Any) -> dict[str, int]:
    """Delete what is older than a moment; how many rows of each table. Raises InvalidFact, StoreUnavailable."""
    moment = time_of("before", before)
    with plainly("pruning"), engine.connect().execution_options(**READING) as connection:
        old = sorted(connection.execute(_old(moment)).scalars())
    done = _delete(engine, old, "pruning")
    later = csas.alias()
    replaced = exists().where(
        later.c.csa_id == csas.c.csa_id, later.c.valid_from > csas.c.valid_from, later.c.valid_from < moment
    )
    with plainly("pruning"), engine.begin() as connection:
        done[csas.name.removeprefix(PREFIX)] = connection.execute(delete(csas).where(replaced)).rowcount
        gone = erasures.c.erased_at < moment
        done[erasures.name.removeprefix(PREFIX)] = connection.execute(delete(erasures).where(gone)).rowcount
    _settle(engine)
    return done


def _old(moment: int) -> Any:
    """Ids of which nothing became known at a moment or later, whichever table names them."""
    named = union(*(select(table.c.contact_id) for table in OF_CONTACTS)).subquery()
    fresh = union(
        select(contacts.c.contact_id).where(contacts.c.arrived_at >= moment),
        select(decisions.c.contact_id).where(decisions.c.decided_at >= moment),
        select(abandoned.c.contact_id).where(abandoned.c.abandoned_at >= moment),
        select(handovers.c.contact_id).where(handovers.c.assigned_at >= moment),
        select(facts.c.contact_id).where(or_(facts.c.known_at >= moment, facts.c.ended_at >= moment)),
    ).subquery()
    return select(named.c.contact_id).where(named.c.contact_id.not_in(select(fresh.c.contact_id)))


def _delete(engine: Engine, contact_ids: list[str], what: str) -> dict[str, int]:
    done = {table.name.removeprefix(PREFIX): 0 for table in OF_CONTACTS}
    for part in parts(contact_ids):
        with plainly(what), engine.begin() as connection:
            for name, count in delete_contacts(connection, part).items():
                done[name] += count
    return done


def _settle(engine: Engine) -> None:
    """Leave no bytes of what was deleted where the database lets us."""
    try:
        if engine.dialect.name == "postgresql":
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"VACUUM {', '.join(table.name for table in (*OF_CONTACTS, csas))}"))
        elif _emptied(engine):
            _log.warning("the write-ahead file could not be emptied, as somebody reads; a later checkpoint does it")
    except (SQLAlchemyError, sqlite3.Error) as error:
        _log.warning("deleted, but the space was not cleaned (%s); the database does so later", type(error).__name__)


def _emptied(engine: Engine) -> bool:
    """Empty SQLite's write-ahead file; True where a reader is in the way."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        busy, *_ = cursor.fetchall()[0]
        return bool(busy)
    finally:
        connection.close()
