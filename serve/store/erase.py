"""What the store forgets: a customer, or what is older than a moment.

Notable: rows go in small transactions, so that decisions and feedback get in between, and so that a run that is stopped
is simply run again. Afterwards SQLite's write-ahead file is emptied and PostgreSQL is asked to vacuum: what is deleted
should not lie about in either. A contact is old when nothing of it became known since: not its arrival, not a decision,
not a hand-over, not an outcome.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import Any

from sqlalchemy import Engine, Table, delete, exists, or_, select, text, union
from sqlalchemy.exc import SQLAlchemyError

from serve.store.committer import WINDOW_S
from serve.store.engine import READING, plainly
from serve.store.log import parts
from serve.store.records import time_of
from serve.store.tables import abandoned, contacts, csas, decisions, facts, handovers

SETTLE_S = 10 * WINDOW_S  # until a router has written what it had, where it reaches its database
_log = logging.getLogger("serve.store")
# Contacts last, as they say whose the others are.
OF_CONTACTS: tuple[Table, ...] = (decisions, facts, handovers, abandoned, contacts)


def contacts_of(engine: Engine, customer_id: str) -> set[str]:
    """Ids of a customer's contacts."""
    with plainly("erasure"), engine.connect().execution_options(**READING) as connection:
        where = contacts.c.customer_id == customer_id
        return set(connection.execute(select(contacts.c.contact_id).where(where)).scalars())


def erase(engine: Engine, customer_id: str) -> dict[str, int]:
    """Delete all rows of a customer's contacts; how many of each table. Raises StoreUnavailable: run it again."""
    done = _delete(engine, sorted(contacts_of(engine, customer_id)), "erasure")
    _settle(engine)
    return done


def erase_elsewhere(engine: Engine, customer_id: str) -> dict[str, int]:
    """`erase` from outside of the routers: again after `SETTLE_S`, for what was in their queues the first time."""
    theirs = contacts_of(engine, customer_id)
    first = _delete(engine, sorted(theirs), "erasure")
    time.sleep(SETTLE_S)
    later = _delete(engine, sorted(theirs | contacts_of(engine, customer_id)), "erasure")
    _settle(engine)
    return {name: count + later[name] for name, count in first.items()}


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
        done[csas.name.removeprefix("twotower_")] = connection.execute(delete(csas).where(replaced)).rowcount
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
    done = {table.name.removeprefix("twotower_"): 0 for table in OF_CONTACTS}
    for part in parts(contact_ids):
        with plainly(what), engine.begin() as connection:
            for table in OF_CONTACTS:
                found = connection.execute(delete(table).where(table.c.contact_id.in_(part))).rowcount
                done[table.name.removeprefix("twotower_")] += found
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
