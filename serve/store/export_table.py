"""From rows to Arrow: what every table of an export is written by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from twotower.clock import ARROW_TIME
from twotower.tables.schema import Table


def schema_of(table: Table) -> pa.Schema:
    """A declared table as an Arrow schema."""
    return pa.schema([(column.name, column.type) for column in table.columns])


def as_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; times come as µs."""
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        values = [row[name] for row in rows]
        columns.append(pa.array(values, pa.int64()).cast(kind) if kind == ARROW_TIME else pa.array(values, kind))
    return pa.table(columns, schema=schema)
