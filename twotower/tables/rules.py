"""The declared value checks as pandera schemas, applied to Arrow batches.

A batch becomes a pandas frame of Arrow-backed columns (nothing is copied) and pandera collects every violation in it
(`lazy=True`). Lists are checked as a long frame of their entries, each with the row it belongs to. `eligible` is not:
its entries are references, which `check` looks up as codes, far faster than as texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from twotower.tables.findings import EXAMPLES
from twotower.tables.read import NULL
from twotower.tables.schema import Column, Table

Violation = tuple[str, str, npt.NDArray[np.int64], pa.Array | None]


class Rules:
    """Pandera schemas of one table: one of its flat columns, and one of the entries of each list column."""

    def __init__(self, table: Table) -> None:
        flat = {column.name: column for column in table.columns if not pt.is_nested(column.type)}
        self._flat = _schema(flat)
        self._lists = {
            column.name: _schema(_entries(column))
            for column in table.columns
            if pt.is_nested(column.type) and column.name != "eligible"
        }
        self._optional = {column.name for column in table.columns if column.optional}

    def violations(self, batch: pa.RecordBatch) -> Iterator[Violation]:
        """(column, why, row numbers within the batch, the values there or None for nulls) of each kind of violation."""
        flat = [name for name in batch.schema.names if not pt.is_nested(batch.schema.field(name).type)]
        yield from _judge(self._flat, batch.select(flat), np.arange(batch.num_rows))
        for name in (name for name in batch.schema.names if name in self._lists):
            lists = batch.column(name)
            if lists.null_count and name not in self._optional:
                rows = np.flatnonzero(pc.is_null(lists).to_numpy(zero_copy_only=False))
                yield name, NULL, rows, None
            entries = pc.list_flatten(lists)
            if pt.is_struct(entries.type):
                parts = [pc.struct_field(entries, field.name) for field in entries.type]
                long = pa.record_batch(parts, names=[f"{name}.{field.name}" for field in entries.type])
            else:
                long = pa.record_batch([entries], names=[name])
            yield from _judge(self._lists[name], long, pc.list_parent_indices(lists).to_numpy())


def _schema(columns: dict[str, Column]) -> Any:
    import pandera.pandas as pandera

    declared = {
        name: pandera.Column(nullable=column.optional, required=False, checks=list(_checks(column)))
        for name, column in columns.items()
    }
    return pandera.DataFrameSchema(declared)


def _entries(column: Column) -> dict[str, Column]:
    """The columns of the long frame of a list column's entries; an entry is never null."""
    entry = column.type.value_type
    if not pt.is_struct(entry):
        checks = Column(column.name, entry, column.meaning, pattern=column.pattern, pattern_name=column.pattern_name)
        return {column.name: checks}
    columns = {}
    for field in entry:
        bounds = (column.low, column.high) if pt.is_floating(field.type) else (None, None)
        name = f"{column.name}.{field.name}"
        columns[name] = Column(name, field.type, column.meaning, low=bounds[0], high=bounds[1], key=bounds[0] is None)
    return columns


def _checks(column: Column) -> Iterator[Any]:
    """Pandera checks of one column; each error text is the line that people read."""
    from pandera.pandas import Check

    if column.key:
        yield Check.str_length(min_value=1, error="the empty text, where a name is needed")
    if column.pattern is not None:
        yield Check.str_matches(column.pattern, error=f"must be {column.pattern_name}")
    if pt.is_floating(column.type) or pt.is_integer(column.type):
        low = -np.inf if column.low is None else column.low
        high = np.inf if column.high is None else column.high
        if column.above is not None:
            why = f"must be above {column.above:g} and at most {high:g}"
            yield Check.in_range(column.above, high, include_min=False, error=why)
        elif np.isfinite(low):
            why = f"must be within {low:g}..{high:g}" if np.isfinite(high) else f"must be {low:g} or more, and finite"
            largest = high if np.isfinite(high) else np.finfo(np.float64).max
            yield Check.in_range(low, largest, error=why)
        else:
            largest = np.finfo(np.float64).max
            yield Check.in_range(-largest, largest, error="must be a finite number")


def _judge(schema: Any, batch: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> Iterator[Violation]:
    import pandas as pd
    from pandera.errors import SchemaErrors

    frame = batch.to_pandas(types_mapper=pd.ArrowDtype)
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        for (name, check), cases in errors.failure_cases.groupby(["column", "check"], sort=False):
            places = np.sort(cases["index"].to_numpy().astype(np.int64))
            if check == "not_nullable":
                yield str(name), NULL, rows[places], None
            else:
                values = batch.column(str(name)).take(pa.array(places[:EXAMPLES]))
                yield str(name), str(check), rows[places], values
