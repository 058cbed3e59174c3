"""Reading Parquet files against their declaration: whatever is wrong with a file as such is found here.

`open_table` finds a missing or damaged file, absent columns, wrong types, times without a zone and empty tables before
a row is read; `read_table` then gives the declared columns in the declared types. Types are accepted by what they can
hold: string, large_string and dictionaries of them are text; a column of type null is an all-null column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from twotower.errors import DataError
from twotower.tables.schema import Column, Table
from twotower.tables.unicode import NOT_TEXT, broken_text

NULL = "null, where a value is needed"
TWICE = "stands there twice; it must name one row"


def unknown(id_name: str, table: Table) -> str:
    """Why an id that another table should hold is a problem."""
    return f"no {id_name} of {table.file}"


@dataclass(frozen=True)
class Problem:
    """One thing wrong in one place; `row` counts from 0."""

    file: str
    why: str
    column: str | None = None
    row: int | None = None
    value: str | None = None

    @property
    def line(self) -> str:
        """The problem in one line: file, row, column, value, why."""
        place = self.file
        place += f", row {self.row}" if self.row is not None else ""
        place += f", column {self.column}" if self.column else ""
        return f"{place}: {self.why}" + (f" (found {self.value})" if self.value is not None else "")


def open_table(folder: str | Path, table: Table) -> tuple[pq.ParquetFile | None, list[Problem]]:
    """Opens a table's file and checks its schema.

    Returns:
        The file (None where it is absent, or too damaged to open) and every problem of the file as such. The optional
        file of a `required=False` table may be absent without a problem.
    """
    path = Path(folder) / table.file
    if not path.is_file():
        return None, [_absent(table)] if table.required else []
    try:
        # Small buffers: a row group is streamed rather than held.
        opened = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        repeated = _text_lists(opened)
        if repeated:
            # Lists of ids repeat few texts very often: as dictionaries, only distinct texts are built and looked up.
            opened = pq.ParquetFile(
                path, metadata=opened.metadata, read_dictionary=repeated, buffer_size=1 << 20, pre_buffer=False
            )
    except (pa.ArrowException, OSError) as error:
        return None, [damaged(table, error)]
    problems = schema_problems(opened.schema_arrow, table)
    if opened.metadata.num_rows == 0:
        problems.append(Problem(table.file, "the table is empty; at least one row is needed"))
    return opened, problems


def _absent(table: Table) -> Problem:
    return Problem(table.file, "no such file; a data set needs contacts, csas and interactions")


def _text_lists(opened: pq.ParquetFile) -> list[str]:
    """Parquet paths of the leaves of lists of text, such as `eligible.list.element`."""
    names = [field.name for field in opened.schema_arrow if _accepts(pa.list_(pa.string()), field.type)]
    paths = [opened.schema.column(i).path for i in range(len(opened.schema))]
    return [path for path in paths if path.partition(".")[0] in names and "." in path]


def damaged(table: Table, error: Exception) -> Problem:
    """The problem of a file whose bytes cannot be read."""
    return Problem(table.file, f"is truncated or no Parquet file ({str(error).splitlines()[0]}); write it again")


def lossy(table: Table, column: Column, error: Exception) -> Problem:
    """The problem of a column whose values the declared type cannot hold."""
    said = str(error).splitlines()[0]
    return Problem(table.file, f"cannot be held as {column.type} without loss ({said})", column.name)


def schema_problems(schema: pa.Schema, table: Table) -> list[Problem]:
    """Absent columns, wrong types and times without a zone."""
    problems = []
    for column in table.columns:
        count = schema.names.count(column.name)
        if count > 1:
            problems.append(Problem(table.file, f"stands there {count} times; keep one", column.name))
        elif count == 0 and not column.optional:
            problems.append(Problem(table.file, f"missing; expected {column.type}, {column.meaning}", column.name))
        elif count == 1:
            why = type_problem(column, schema.field(column.name).type)
            problems += [Problem(table.file, why, column.name)] if why else []
    return problems


def type_problem(column: Column, found: pa.DataType) -> str | None:
    """Why a column of type `found` cannot hold what is declared; None where it can."""
    if pt.is_null(found):
        return None
    if pt.is_timestamp(column.type) and pt.is_timestamp(found) and found.tz is None:
        return "times without a time zone; store them as timestamp[us, UTC]"
    if not _accepts(column.type, found):
        return f"wrong type {found}; expected {column.type}"
    return None


def _accepts(declared: pa.DataType, found: pa.DataType) -> bool:
    if pt.is_null(found):
        return True
    if pt.is_dictionary(found):
        return _accepts(declared, found.value_type)
    if pt.is_string(declared):
        return bool(pt.is_string(found) or pt.is_large_string(found) or pt.is_string_view(found))
    if pt.is_timestamp(declared):
        return bool(pt.is_timestamp(found) and found.tz is not None)
    if pt.is_boolean(declared):
        return bool(pt.is_boolean(found))
    if pt.is_integer(declared):
        return bool(pt.is_integer(found))
    if pt.is_floating(declared):
        return bool(pt.is_floating(found) or pt.is_integer(found))
    if pt.is_list(declared):
        is_list = pt.is_list(found) or pt.is_large_list(found) or pt.is_fixed_size_list(found)
        return bool(is_list) and _accepts(declared.value_type, found.value_type)
    if pt.is_struct(declared) and pt.is_struct(found):
        return all(
            found.get_field_index(field.name) >= 0 and _accepts(field.type, found.field(field.name).type)
            for field in declared
        )
    return False


def read_table(
    folder: str | Path, table: Table, columns: Sequence[str] | None = None, as_stored: Sequence[str] = ()
) -> pa.Table:
    """The declared columns in the declared types, absent optional ones as nulls.

    Text comes as large_string, so that no column can outgrow 32-bit offsets; columns `as_stored` keep the type they
    have in the file, lists of text with their text as dictionaries (`open_table`).

    Raises:
        DataError: the file is missing, the first problem of the file as such, text that is not UTF-8, or a null where
            none is allowed.
    """
    opened, problems = open_table(folder, table)
    if problems or opened is None:
        raise DataError(_at(folder, problems[0] if problems else _absent(table)))
    wanted = [table.column(name) for name in columns] if columns is not None else list(table.columns)
    present = [column.name for column in wanted if column.name in opened.schema_arrow.names]
    try:
        raw = _read(opened, present)
    except (pa.ArrowException, OSError) as error:
        raise DataError(_at(folder, damaged(table, error))) from None
    kept = set(as_stored) & set(present)
    arrays = {}
    for column in wanted:
        try:
            arrays[column.name] = raw.column(column.name) if column.name in kept else canonical(raw, column)
        except pa.ArrowInvalid as error:
            raise DataError(_at(folder, lossy(table, column, error))) from None
        if len(broken := broken_text(arrays[column.name])):
            raise DataError(_at(folder, Problem(table.file, NOT_TEXT, column.name, int(broken[0]))))
        if not (column.optional or column.free) and arrays[column.name].null_count:
            row = pc.index(pc.is_null(arrays[column.name]), True).as_py()
            raise DataError(_at(folder, Problem(table.file, NULL, column.name, row)))
    return pa.table(arrays)


def batches(opened: pq.ParquetFile, columns: Sequence[str], rows: int = 1 << 16) -> Iterator[pa.RecordBatch]:
    """The columns in batches of at most `rows`, row group by row group.

    One row group at a time, because Arrow cannot put dictionaries of several row groups into one batch of lists.
    """
    for group in range(opened.num_row_groups):
        yield from opened.iter_batches(rows, row_groups=[group], columns=list(columns))


def _read(opened: pq.ParquetFile, columns: Sequence[str]) -> pa.Table:
    """The columns as stored; lists go through `batches`, flat columns are read at once."""
    lists = [name for name in columns if pt.is_nested(opened.schema_arrow.field(name).type)]
    flat = opened.read(columns=[name for name in columns if name not in lists])
    if not lists:
        return flat
    parts = list(batches(opened, lists))
    for name in lists:
        flat = flat.append_column(name, pa.chunked_array([part.column(name) for part in parts]))
    return flat


def canonical(raw: pa.Table | pa.RecordBatch, column: Column, safe: bool = True) -> Any:
    """One column in its declared type (text as large_string), nulls where it is absent.

    Raises:
        pa.ArrowInvalid: `safe`, and the declared type cannot hold a value, such as a time finer than a microsecond.
    """
    target = wide(column.type)
    if column.name not in raw.schema.names:
        return pa.nulls(raw.num_rows, target)
    values = raw.column(column.name)
    return values if values.type == target else pc.cast(values, target, safe=safe)


def wide(declared: pa.DataType) -> pa.DataType:
    """The declared type with large_string for a plain text column."""
    return pa.large_string() if pt.is_string(declared) else declared


def refuse(folder: str | Path, problem: Problem) -> DataError:
    """The problem as an error that names the folder as well."""
    return DataError(_at(folder, problem))


def _at(folder: str | Path, problem: Problem) -> str:
    return f"{Path(folder)}/{problem.line}"
