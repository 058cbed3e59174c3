"""Databases by URL: SQLite in write-ahead mode, PostgreSQL through psycopg; and which of their errors pass.

Notable: both flush to the disk before a commit returns (SQLite `synchronous = FULL`; PostgreSQL `synchronous_commit`
where the server has it off). A transaction that writes takes SQLite's write lock when it begins, so it never fails half
way. SQLite overwrites what it deletes, as an erasure must not leave bytes behind. No message holds a value or a
password.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from serve.store.errors import StoreError, StoreUnavailable
from twotower.errors import ConfigError

WAIT_S = 5.0
"""How long a lock that somebody else holds is waited for."""
READING = {"reading": True}
"""Execution option of a connection that only reads: a snapshot that waits for nobody."""
_SQLITE = {
    f"SQLITE_{name}" for name in ("BUSY", "LOCKED", "FULL", "IOERR", "CANTOPEN", "NOMEM", "READONLY", "PROTOCOL")
}
# Connection, transaction rolled back, resources (a full disk), a lock, an operator, the system.
_POSTGRESQL = ("08", "40", "53", "55", "57", "58")


def read_url(text: str) -> URL:
    """`sqlite:///FILE`, or `postgresql://…`, which psycopg 3 opens. Raises ConfigError without the password."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigError(
            "the store's URL is none; write it like sqlite:///feedback.db or postgresql://host/name"
        ) from None
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if not url.database or url.database == ":memory:":
            raise ConfigError("the store's URL names no file, so nothing would be kept; write sqlite:///feedback.db")
        return url
    if url.drivername == "postgresql+psycopg":
        return url
    raise ConfigError(f"the store's URL is of {url.drivername}; sqlite:///FILE and postgresql://… are known")


def open_engine(url: URL) -> Engine:
    """An engine of the database, which is not connected to yet. Raises StoreError where the file cannot be."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    engine = create_engine(
        url,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",  # who waited for a lock sees what its holder did
        hide_parameters=True,
        connect_args={"connect_timeout": int(WAIT_S), "tcp_user_timeout": int(WAIT_S * 1000)},
    )

    @event.listens_for(engine, "connect")
    def _settle(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('synchronous_commit')")
            if cursor.fetchone()[0] == "off":
                cursor.execute("SET synchronous_commit = on")
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{WAIT_S * 1000:.0f}ms"])
        connection.commit()

    return engine


def _sqlite(url: URL) -> Engine:
    path = Path(str(url.database))
    if not path.parent.is_dir():
        raise StoreError(f"{path}: its folder does not exist; make it first")
    # What customers said is for its owner alone; the files beside it get the same mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": WAIT_S})

    @event.listens_for(engine, "connect")
    def _settle(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below and nowhere else
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead mode. The one statement that does not wait for others who do the same just now."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_BUSY") or time.monotonic() > end:
                raise
            time.sleep(0.02)


def shown_url(url: URL) -> str:
    """The URL for messages."""
    return url.render_as_string(hide_password=True)


@contextmanager
def plainly(what: str) -> Iterator[None]:
    """What a database raises as StoreUnavailable or StoreError, in one line that begins with `what`."""
    try:
        yield
    except SQLAlchemyError as error:
        reason = passing(error)
        if reason is not None:
            raise StoreUnavailable(f"{what}: {reason}; nothing was stored, try again") from error
        raise StoreError(f"{what}: the database refuses it ({_name(error)})") from error


def passing(error: SQLAlchemyError) -> str | None:
    """Why the database cannot now, None where it never will."""
    if isinstance(error, PoolTimeout):
        return "all connections are in use"
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        name = getattr(cause, "sqlite_errorname", "") or ""
        general = "_".join(name.split("_")[:2])
        return f"{cause} ({name})" if general in _SQLITE else None
    state = getattr(cause, "sqlstate", None)
    if error.connection_invalidated or (state is None and type(cause).__name__ == "OperationalError"):
        return "the server does not answer"
    return f"the server says {_name(error)}" if state is not None and state.startswith(_POSTGRESQL) else None


def _name(error: SQLAlchemyError) -> str:
    """The kind of an error, without values."""
    cause = getattr(error, "orig", None) or error
    name = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return f"{type(cause).__name__} {name}" if name else type(cause).__name__
