"""`twotower redact`: a data folder copied with its free text redacted.

Notable: everything else is the same. Files without such text are copied byte for byte; a table with it is streamed in
batches of some thirty-two megabytes, and its other columns, its schema and the order of its rows stay as they are. The
copy appears whole or not at all. What the configuration names and the folder lacks is refused, and text that no table
declares and no option names is reported, so that nobody takes it for clean.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from twotower.errors import ConfigError, DataError
from twotower.files import atomic_directory
from twotower.progress import bar
from twotower.redaction.columns import redact_column
from twotower.redaction.redactor import Redactor
from twotower.redaction.tally import Tally
from twotower.tables.read import Problem, refuse
from twotower.tables.schema import CONTACTS, CUSTOMERS, TABLES

BATCH = 1 << 25
"""Bytes of a batch, by the average row of its row group."""
ROWS = 1 << 13
"""Rows of a batch at most."""


def redact_folder(folder: str | Path, output: str | Path, redactor: Redactor) -> Tally:
    """Copies a data folder with its free text redacted.

    Args:
        folder: a data set; what else lies in it is copied too, sub-folders included.
        output: the folder to write, which must not exist.
        redactor: its configuration says which columns of which tables are free text.

    Returns:
        What was masked, by table and column.

    Raises:
        DataError: the folder, a table or a column is missing, damaged or no text.
        ConfigError: the output lies inside the folder.
        OutputError: the output exists or cannot be written.
    """
    source = Path(folder)
    if not source.is_dir():
        raise DataError(f"{folder}: no such folder; name the folder that holds contacts.parquet and the other tables")
    if Path(output).resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{output}: lies inside {folder}, which is copied; name an --output elsewhere")
    tally = Tally()
    columns = redactor.config.columns if redactor.config.enabled else {}
    opened = {f"{table}.parquet": _open(source, table, names) for table, names in columns.items()}
    known = _customer_names(source, redactor)
    with atomic_directory(output) as partial:
        for path in sorted(source.rglob("*")):
            target = partial / path.relative_to(source)
            if path.is_symlink() and path.is_dir():
                raise DataError(f"{path}: is a link to another folder, which is not followed; remove it or name a copy")
            if path.is_dir():
                target.mkdir()
            elif (found := opened.get(str(path.relative_to(source)))) is not None:
                _redact_table(found, target, path.stem, columns[path.stem], redactor, known, tally)
            else:
                shutil.copyfile(path, target)
                tally.copied.append(str(path.relative_to(source)))
    tally.passed += _not_asked(source, columns)
    return tally


def _open(folder: Path, table: str, columns: Sequence[str]) -> pq.ParquetFile:
    """The table's file, with all its columns of text there."""
    file = f"{table}.parquet"
    try:
        opened = pq.ParquetFile(folder / file, buffer_size=1 << 20, pre_buffer=False)
    except FileNotFoundError:
        raise refuse(folder, Problem(file, "no such file; take the table out of `columns` if there is none")) from None
    except (pa.ArrowException, OSError) as error:
        raise refuse(folder, _damaged(file, error)) from None
    for name in columns:
        if opened.schema_arrow.names.count(name) != 1:
            raise refuse(folder, Problem(file, "the column to redact is missing, or stands there twice", name))
        found = opened.schema_arrow.field(name).type
        if not _is_text(found):
            raise refuse(folder, Problem(file, f"cannot be redacted: {found}, where text is expected", name))
    return opened


def _is_text(found: pa.DataType) -> bool:
    if pt.is_dictionary(found):
        return _is_text(found.value_type)
    return bool(pt.is_string(found) or pt.is_large_string(found) or pt.is_string_view(found) or pt.is_null(found))


def _not_asked(folder: Path, columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Columns `table.column` that hold text, are the user's own and were not redacted."""
    declared = {table.name: {column.name for column in table.columns} for table in TABLES}
    found = []
    for path in sorted(folder.glob("*.parquet")):
        known = declared.get(path.stem, set()) | set(columns.get(path.stem, ()))
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError):
            continue  # copied as it is, and listed as such
        found += [f"{path.stem}.{one.name}" for one in schema if one.name not in known and "string" in str(one.type)]
    return found


def _redact_table(
    opened: pq.ParquetFile,
    target: Path,
    table: str,
    columns: Sequence[str],
    redactor: Redactor,
    known: _Names,
    tally: Tally,
) -> None:
    schema = opened.schema_arrow
    with (
        bar(f"redacting {target.name}", opened.metadata.num_rows, "rows") as advance,
        pq.ParquetWriter(target, schema) as writer,
    ):
        pending: list[pa.RecordBatch] = []
        for batch in _batches(opened, target.name):
            names = known.of(batch) if table == CONTACTS.name else None
            tags = batch.column("language") if _speaks(schema) else None
            for name in columns:
                place = schema.get_field_index(name)
                done = redact_column(redactor, batch.column(place), tags, names, tally.column(table, name))
                batch = batch.set_column(place, schema.field(place), done)
            pending.append(batch)
            # Each write is a row group of its own; small ones would make the file slow to read.
            if sum(one.nbytes for one in pending) >= 4 * BATCH:
                writer.write_table(pa.Table.from_batches(pending, schema))
                pending = []
            advance(batch.num_rows)
        if pending:
            writer.write_table(pa.Table.from_batches(pending, schema))


def _speaks(schema: pa.Schema) -> bool:
    return schema.names.count("language") == 1 and _is_text(schema.field("language").type)


def _batches(opened: pq.ParquetFile, file: str) -> Iterator[pa.RecordBatch]:
    """All columns, row group by row group, so that dictionaries of several never meet in one batch."""
    try:
        for group in range(opened.num_row_groups):
            size = opened.metadata.row_group(group)
            rows = max(1, min(ROWS, BATCH * size.num_rows // max(size.total_byte_size, 1)))
            yield from opened.iter_batches(rows, row_groups=[group])
    except (pa.ArrowException, OSError) as error:
        raise DataError(_damaged(file, error).line) from None


def _damaged(file: str, error: Exception) -> Problem:
    return Problem(file, f"is truncated or no Parquet file ({str(error).splitlines()[0]}); write it again")


class _Names:
    """Customers' names by customer_id, as Arrow columns."""

    def __init__(self, ids: Any = None, columns: Sequence[Any] = ()) -> None:
        self._ids = ids
        self._columns = tuple(columns)

    def of(self, batch: pa.RecordBatch) -> list[list[str]] | None:
        """The names known for each contact of the batch; None where none are known for any."""
        if self._ids is None or batch.schema.names.count("customer_id") != 1:
            return None
        ids = pc.cast(batch.column("customer_id"), self._ids.type)
        rows = pc.index_in(ids, value_set=self._ids, skip_nulls=True)
        known = zip(*(column.take(rows).to_pylist() for column in self._columns), strict=True)
        return [[name for name in names if name] for names in known]


def _customer_names(folder: Path, redactor: Redactor) -> _Names:
    wanted = redactor.config.customer_names
    if not wanted or not redactor.config.enabled:
        return _Names()
    opened = _open(folder, CUSTOMERS.name, ("customer_id", *wanted))
    table = opened.read(columns=["customer_id", *wanted])
    texts = [pc.cast(table[name], pa.large_string()).combine_chunks() for name in ("customer_id", *wanted)]
    return _Names(texts[0], texts[1:])
