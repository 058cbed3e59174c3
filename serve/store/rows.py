"""Rows in and out of tables, on either database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete
from sqlalchemy.dialects import postgresql, sqlite

from serve.store.tables import OF_CONTACTS, PREFIX

PART = 200  # rows a statement: SQLite takes some thousands of values in one


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert those whose key is not there; how many."""
    if not rows:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return connection.execute(insert, list(rows)).rowcount


def delete_contacts(connection: Connection, contact_ids: Sequence[str]) -> dict[str, int]:
    """Delete all rows of contacts; how many of each table. At most `PART` contacts at once."""
    return {
        table.name.removeprefix(PREFIX): connection.execute(
            delete(table).where(table.c.contact_id.in_(contact_ids))
        ).rowcount
        for table in OF_CONTACTS
    }


def parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Some rows at a time."""
    for start in range(0, len(rows), PART):
        yield rows[start : start + PART]
