"""Tables and what the router was told since, as one data set.

Notable: a row that stands twice counts as it was told last, so a hand-over that was written down without its outcome
is completed by the feedback. Columns that only one side has are null in the other's rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twotower.clock import NULL_TIME
from twotower.errors import DataError
from twotower.tables.schema import TABLES

KEYS = {
    "contacts": ("contact_id",), "interactions": ("contact_id", "csa_id", "assigned_at"),
    "csas": ("csa_id", "valid_from"), "customers": ("customer_id",), "shifts": ("csa_id", "starts_at"),
    "decisions": ("decision_id",),
}  # fmt: skip


STARTS = {"contacts": "arrived_at", "interactions": "assigned_at", "csas": "valid_from", "decisions": "decided_at"}
LATER = {"contacts": ("abandoned_at",), "interactions": ("ended_at",), "csas": ("left_at",)}
OUTCOMES = ("resolved", "csat", "quality_score", "handle_time_s", "transferred")


def merge(folders: Sequence[Path], output: Path, until: int) -> dict[str, int]:
    """The tables of some folders, oldest first, in `output`, as they were known just before `until` (µs UTC), by the
    same rule as `Log.cut`; rows by table. Raises DataError where two have columns that cannot be one."""
    found = {}
    names = [*(table.name for table in TABLES if table.name in KEYS), "decisions"]
    for name in names:
        files = [folder / f"{name}.parquet" for folder in folders if (folder / f"{name}.parquet").is_file()]
        if not files:
            continue
        whole = _concatenated(files)
        kept = whole if len(files) == 1 else whole.filter(pa.array(_latest(whole, KEYS[name])))
        kept = _known(kept, name, until)
        pq.write_table(kept, output / f"{name}.parquet")
        found[name] = len(kept)
    return found


def feedback_tables(url: str, folder: Path, until: int, since: int = NULL_TIME, csas: Path | None = None) -> Path:
    """What a store knows of a window [since, until), µs UTC, as tables in the new folder. csas: a csas.parquet that
    counts where the store has no row. Raises StoreError where nothing became known then."""
    from serve.store.export import export
    from serve.store.store import existing

    shutil.rmtree(folder, ignore_errors=True)  # of a process that died
    folder.parent.mkdir(parents=True, exist_ok=True)
    with existing(url) as engine:
        export(engine, folder, since, until, csas if csas is not None and csas.is_file() else None)
    return folder


def _concatenated(files: Sequence[Path]) -> pa.Table:
    try:
        return pa.concat_tables([pq.read_table(file) for file in files], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{files[-1]}: does not fit {files[0]}: {error}") from None


def _latest(table: pa.Table, keys: Sequence[str]) -> Any:
    """(rows,) whether nobody after it has the same keys."""
    there = [key for key in keys if key in table.column_names]
    frame = table.select(there).to_pandas()
    return np.asarray(~frame.duplicated(keep="last").to_numpy(), np.bool_)


def _known(table: pa.Table, name: str, until: int) -> pa.Table:
    """Rows that there were before a moment, without what became known of them later."""
    moment = pa.scalar(until, pa.int64()).cast(pa.timestamp("us", "UTC"))
    start = STARTS.get(name)
    if start in table.column_names:
        before = pc.fill_null(pc.less(table[start], moment), True)
        table = table.filter(before)
    if name == "interactions":
        table = _untold(table, moment)
    for column in LATER.get(name, ()):
        if column in table.column_names:
            table = _null(table, column, pc.fill_null(pc.greater_equal(table[column], moment), False))
    return table


def _untold(table: pa.Table, moment: pa.Scalar) -> pa.Table:
    """Hand-overs whose outcomes became known at a moment or later have none, but still say when: a null would be read
    as known when they ended."""
    told = [table[name] for name in ("known_at", "ended_at") if name in table.column_names]
    if not told:
        return table
    late = pc.fill_null(pc.greater_equal(pc.coalesce(*told), moment), False)
    for column in OUTCOMES:
        if column in table.column_names:
            table = _null(table, column, late)
    return table


def _null(table: pa.Table, column: str, where: Any) -> pa.Table:
    place = table.schema.get_field_index(column)
    values = pc.if_else(where, pa.scalar(None, table[column].type), table[column])
    return table.set_column(place, table.schema.field(column), values)
