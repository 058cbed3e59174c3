"""The tables out of the spill: Parquet files in the types of docs/tables.md, rows in an order of their own.

Notable: the order is that of the data (time, then id), never that of files or of runs, so that the same export gives
the same bytes however often reading it was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from twotower.imports.spill import Spill
from twotower.redaction.redactor import Redactor
from twotower.tables.schema import CONTACTS, CSAS, CUSTOMERS, INTERACTIONS, SHIFTS, Table

ROWS = 1 << 13
"""Rows of a read."""
GROUP = 64 << 20
"""Bytes of a row group, as Arrow holds them, or `GROUP_ROWS`."""
GROUP_ROWS = 1 << 17

_INTERACTIONS = (
    "SELECT contact_id, csa_id, assigned_at, ended_at, known_at, resolved, csat, quality_score, handle_time_s, "
    "transferred, policy, propensity FROM handovers ORDER BY assigned_at, contact_id, n"
)
_CONTACTS = (
    "SELECT contact_id, customer_id, arrived_at, channel, queue, language, intent, intent_text, transcript, priority, "
    "abandoned_at, eligible FROM contacts ORDER BY arrived_at, contact_id"
)


def write_tables(
    spill: Spill, folder: Path, redactor: Redactor | None, advance: Callable[[int], None]
) -> dict[str, dict[str, int]]:
    """Writes every table that has rows, and contacts, interactions and csas whatever they have.

    redactor: masks the CSAs' profiles; those of contacts' texts are masked already.

    Returns:
        Rows that have a value, by table and column; "" is how many rows there are.
    """
    sources: list[tuple[Table, Iterator[Sequence[Any]]]] = [
        (CONTACTS, _contacts(spill)),
        (INTERACTIONS, _rows(spill, _INTERACTIONS)),
        (CSAS, _csas(spill, redactor)),
    ]
    for table, query in (
        (CUSTOMERS, "SELECT customer_id, language, since FROM customers ORDER BY customer_id"),
        (SHIFTS, "SELECT csa_id, starts_at, ends_at FROM shifts ORDER BY starts_at, csa_id, ends_at"),
    ):
        if spill.db.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]:
            sources.append((table, _rows(spill, query)))
    return {table.name: _write(table, rows, folder / table.file, advance) for table, rows in sources}


def _rows(spill: Spill, query: str) -> Iterator[Sequence[Any]]:
    yield from spill.db.execute(query)


def _contacts(spill: Spill) -> Iterator[Sequence[Any]]:
    for row in spill.db.execute(_CONTACTS):
        yield (*row[:-1], None if row[-1] is None else json.loads(row[-1]))


def _csas(spill: Spill, redactor: Redactor | None) -> Iterator[Sequence[Any]]:
    stand_ins: dict[str, Any] = {"languages": [], "skills": [], "profile": "", "capacity": 1}
    for (payload,) in spill.db.execute("SELECT payload FROM csas ORDER BY csa_id, rowid"):
        row = stand_ins | {name: value for name, value in json.loads(payload).items() if value is not None}
        if redactor is not None and row["profile"]:
            row["profile"] = redactor.redact(row["profile"]).text
        yield [row.get(column.name) for column in CSAS.columns]


def _write(table: Table, rows: Iterator[Sequence[Any]], path: Path, advance: Callable[[int], None]) -> dict[str, int]:
    """One table, batch by batch."""
    filled = {"": 0, **{column.name: 0 for column in table.columns}}
    schema = pa.schema([pa.field(column.name, column.type) for column in table.columns])
    pending: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := _batch(rows, schema):
            pending.append(batch)
            filled[""] += batch.num_rows
            for name in schema.names:
                filled[name] += batch.num_rows - batch.column(name).null_count
            if sum(one.nbytes for one in pending) >= GROUP or sum(one.num_rows for one in pending) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(pending, schema), row_group_size=1 << 30)
                pending = []
            advance(batch.num_rows)
        if pending:
            writer.write_table(pa.Table.from_batches(pending, schema), row_group_size=1 << 30)
    return filled


def _batch(rows: Iterator[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch | None:
    taken = list(islice(rows, ROWS))
    if not taken:
        return None
    columns = zip(*taken, strict=True)
    arrays = [_array(list(values), one.type) for values, one in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pt.is_boolean(kind):
        return pa.array([None if value is None else bool(value) for value in values], kind)
    if pt.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)
