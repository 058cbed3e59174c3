"""Small helpers that several tests import."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

START = datetime(2026, 1, 1, tzinfo=UTC)
Tables = dict[str, pa.Table]


def minutes(*after: float | None) -> pa.Array:
    """Times so many minutes after the first of January 2026, null for None."""
    times = [None if m is None else START + timedelta(minutes=m) for m in after]
    return pa.array(times, pa.timestamp("us", tz="UTC"))


def replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with one column changed."""
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return table.set_column(table.schema.get_field_index(name), name, column)


def at(minutes_after: float) -> int:
    """The moment so many minutes after the first of January 2026, in microseconds."""
    return round((START.timestamp() + minutes_after * 60) * 1_000_000)
