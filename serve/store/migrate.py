"""Bringing a database to this program's version, under a lock that everybody who opens it takes.

Notable: a database that is there already is asked for its version alone; Alembic is loaded when there is work to do. On
both databases a migration is one transaction: it is done or it was not begun.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, inspect, text

from serve.store.engine import READING, plainly
from serve.store.errors import StoreError
from serve.store.tables import VERSION_TABLE

HEAD = "0005"
"""The newest migration."""
SCRIPTS = "serve.store:migrations"
_LOCK = 0x74776F746F776572  # any number that is nobody else's


def migrate(engine: Engine, target: str = HEAD) -> None:
    """Bring the tables to a version. Raises StoreError for a database of a newer program, StoreUnavailable."""
    with plainly("the store cannot be opened"):
        with engine.connect().execution_options(**READING) as connection:
            if version(connection) == target:
                return
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            found = version(connection)
            if found is not None and found > target:
                raise StoreError(f"the store is of version {found}, this program knows {target}; use the newer program")
            if found != target:
                _upgrade(connection, target)


def version(connection: Connection) -> str | None:
    """The version of a database, None where it has no store."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one_or_none()
    return None if found is None else str(found)


def _upgrade(connection: Connection, target: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    config.attributes["connection"] = connection
    command.upgrade(config, target)
