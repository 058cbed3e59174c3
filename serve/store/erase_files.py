"""Erasing a customer from folders of Parquet, and from what was derived from them.

Notable: whatever file has a customer_id or a contact_id is looked at, so candidates that `match` wrote lose their rows
too. Contacts go last, as they say whose the rest is: a run that was stopped is simply run again. Every file is replaced
whole, and at every moment the folder is a valid data set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from twotower.errors import DataError
from twotower.files import atomic_file
from twotower.tables.schema import CONTACTS

IDS = ("customer_id", "contact_id")
_SHARD = re.compile(r"part-\d{5}-of-\d{5}\.parquet")
_DIGEST = re.compile(r"[0-9a-f]{16}")


def contacts_in_files(folders: Iterable[str | Path], customer_id: str) -> set[str]:
    """Ids of a customer's contacts in the contacts.parquet of folders. Raises DataError where one cannot be read."""
    found: set[str] = set()
    for folder in folders:
        for path in _files(folder):
            names = _schema(path).names
            if all(name in names for name in IDS):
                for batch in _batches(path, IDS):
                    mine = _among(batch.column("customer_id"), [customer_id])
                    found.update(batch.column("contact_id").filter(mine).to_pylist())
    return found - {None}


def erase_files(folder: str | Path, customer_id: str, contact_ids: Iterable[str]) -> int:
    """Rewrite what in a folder holds rows of a customer or their contacts; how many rows went. Raises DataError."""
    wanted = {"customer_id": [customer_id], "contact_id": sorted(contact_ids)}
    return sum(_erase(path, wanted) for path in _files(folder))


def remove_tokens(folder: str | Path) -> int:
    """Remove the shards of tokens that training keeps in a folder (`data.tokens`): they are texts, in the order of a
    table that is now another one, and are made anew by the next run. How many went."""
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder; name the one that data.tokens names")
    shards = [
        path
        for kept in sorted(Path(folder).iterdir())
        if kept.is_dir() and _DIGEST.fullmatch(kept.name)
        for path in sorted(kept.iterdir())
        if _SHARD.fullmatch(path.name)
    ]
    for path in shards:
        path.unlink()
    return len(shards)


def _files(folder: str | Path) -> list[Path]:
    """Parquet files of a folder, or the one that is named; contacts last."""
    path = Path(folder)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{folder}: no such folder; name one that an export wrote")
    return sorted(path.rglob("*.parquet"), key=lambda file: (file.name == CONTACTS.file, file))


def _erase(path: Path, wanted: dict[str, list[str]]) -> int:
    names = [name for name in IDS if name in _schema(path).names]
    if not names or not any(pc.any(_mine(batch, wanted)).as_py() for batch in _batches(path, names)):
        return 0
    gone = 0
    opened = pq.ParquetFile(path)
    with atomic_file(path) as partial, pq.ParquetWriter(partial, opened.schema_arrow) as writer:
        for group in range(opened.num_row_groups):
            table = opened.read_row_group(group)
            kept = table.filter(pc.invert(_mine(table, wanted)))
            gone += len(table) - len(kept)
            writer.write_table(kept)
    return gone


def _mine(rows: pa.RecordBatch | pa.Table, wanted: dict[str, list[str]]) -> pa.Array:
    """Which rows name one of the wanted."""
    found = pa.array([False] * rows.num_rows)
    for name, values in wanted.items():
        if name in rows.schema.names:
            found = pc.or_(found, _among(rows.column(name), values))
    return found


def _among(column: pa.Array, values: Sequence[str]) -> pa.Array:
    if pt.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if not (pt.is_string(column.type) or pt.is_large_string(column.type)):
        return pa.array([False] * len(column))
    return pc.is_in(column, value_set=pa.array(values, column.type), skip_nulls=True)


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: is truncated or no Parquet file ({reason}); remove it, erasure reads all") from None


def _batches(path: Path, names: Sequence[str]) -> Iterable[pa.RecordBatch]:
    opened = pq.ParquetFile(path)
    for group in range(opened.num_row_groups):
        yield from opened.iter_batches(row_groups=[group], columns=list(names))
