"""The CSAs of an export: dated rows that were logged, those of a file beside them, and a blank row for who has none.

Notable: whoever is named anywhere must have a row, or the tables would not be accepted and everybody's feedback would
be lost with theirs. A blank row says what is known, nothing, and is counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, select

from serve.store.export_table import as_table, schema_of
from serve.store.roster import BLANK, NAMES
from serve.store.tables import csas
from twotower.clock import ARROW_TIME, NULL_TIME
from twotower.errors import DataError
from twotower.tables.read import open_table, read_table, refuse
from twotower.tables.schema import CSAS

Rows = dict[tuple[str, int], dict[str, Any]]
_TIMES = [column.name for column in CSAS.columns if column.type == ARROW_TIME]


def write_csas(
    connection: Connection, folder: Path, until: int, named: set[str], beside: str | Path | None
) -> tuple[int, int]:
    """Write csas.parquet with rows of before `until` µs; how many rows, and how many CSAs have a blank one.

    named: who must be there; beside: a csas.parquet, whose rows count where none was logged of the same CSA and date.
    """
    rows = {} if beside is None else _of_file(Path(beside), until)
    rows |= _logged(connection, until)
    known = {csa_id for csa_id, _ in rows}
    for csa_id in sorted(named - known):
        rows[csa_id, NULL_TIME] = _decoded({**dict.fromkeys(NAMES), **BLANK, "csa_id": csa_id})
    ordered = [rows[key] for key in sorted(rows)]
    pq.write_table(as_table(ordered, schema_of(CSAS)), folder / CSAS.file)
    return len(ordered), len(named - known)


def _logged(connection: Connection, until: int) -> Rows:
    found = connection.execute(select(csas).where(csas.c.valid_from < until)).mappings()
    return {(row["csa_id"], row["valid_from"]): _told_before(_decoded(dict(row)), until) for row in found}


def _of_file(path: Path, until: int) -> Rows:
    """Rows of a csas.parquet. Raises DataError naming what is wrong with it."""
    if path.name != CSAS.file:
        raise DataError(f"{path}: a file named {CSAS.file} is expected")
    opened, problems = open_table(path.parent, CSAS)
    if opened is None or problems:
        raise refuse(path.parent, problems[0]) if problems else DataError(f"{path}: no such file")
    table = read_table(path.parent, CSAS)
    for name in _TIMES:
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
    rows: Rows = {}
    for row in table.to_pylist():
        date = NULL_TIME if row["valid_from"] is None else row["valid_from"]
        if date < until:
            rows[row["csa_id"], date] = _told_before({**row, "profile": row["profile"] or ""}, until)
    return rows


def _decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    date = row["valid_from"]
    lists = {name: json.loads(row[name]) for name in ("languages", "skills")}
    return {**row, **lists, "valid_from": None if date == NULL_TIME else date}


def _told_before(row: dict[str, Any], until: int) -> dict[str, Any]:
    """The row without a departure that was to come."""
    left = row["left_at"]
    return {**row, "left_at": None if left is not None and left >= until else left}
