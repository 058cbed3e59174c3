"""A Parquet file of contacts for matching, checked and read batch by batch.

Notable: only `contact_id` must be there (and `arrived_at` where history is rolled forward); what else is given must
have the type of `contacts.parquet`. Every refusal is one line with the file, the row and the column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twotower.clock import NULL_TIME, from_arrow
from twotower.errors import DataError
from twotower.tables.load import codes
from twotower.tables.ragged import Ragged
from twotower.tables.read import canonical, schema_problems
from twotower.tables.schema import CONTACTS, Table
from twotower.tables.unicode import NOT_TEXT, broken_text

BATCH = 16_384


@dataclass(frozen=True)
class ContactBatch:
    """B contacts: `ids`, `columns` for the contact encoder, `arrived_at` i8[B] (`clock.NULL_TIME` where null),
    `customer_id` (B) and `eligible` (codes of a roster, or None where the file has no lists)."""

    ids: pa.Array
    columns: dict[str, Any]
    arrived_at: npt.NDArray[np.int64]
    customer_id: pa.Array
    eligible: Ragged | None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, i: int) -> ContactBatch:
        """The contact at a position, alone."""
        one, row = slice(i, i + 1), None if self.eligible is None else self.eligible.row(i)
        eligible = None
        if row is not None:
            eligible = Ragged(np.array([0, len(row)]), row, np.zeros(1, np.bool_))
        columns = {name: values[one] for name, values in self.columns.items()}
        return ContactBatch(self.ids[one], columns, self.arrived_at[one], self.customer_id[one], eligible)


class ContactFile:
    """A file of contacts to match.

    path: Parquet; csa_ids: the roster that `eligible` may name, None: lists are not read; need_arrival: `arrived_at`
    must be given.
    Raises DataError where the file is missing, truncated or empty, lacks a column or has one of a wrong type, where an
    id is null or stands twice, or where an arrival that is needed is null.
    """

    def __init__(self, path: str | Path, csa_ids: pa.Array | None, need_arrival: bool) -> None:
        self.path, self._csa_ids = Path(path), None if csa_ids is None else csa_ids.cast(pa.string())
        needed = ("contact_id", "arrived_at") if need_arrival else ("contact_id",)
        columns = tuple(replace(c, optional=c.name not in needed) for c in CONTACTS.columns)
        self._table = Table(self.path.name, columns)
        self._file = self._open()
        self._need_arrival = need_arrival
        self._check_ids()

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def batches(self) -> Iterator[ContactBatch]:
        """The contacts in the order of the file."""
        first = 0
        there = set(self._file.schema_arrow.names) - ({"eligible"} if self._csa_ids is None else set())
        present = [c.name for c in self._table.columns if c.name in there]
        for raw in self._read(present):
            yield self._batch(raw, first)
            first += raw.num_rows

    def _open(self) -> pq.ParquetFile:
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file; --contacts names a Parquet file of contacts")
        try:
            opened = pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path}: is truncated or no Parquet file ({_first(error)}); write it again") from None
        for problem in schema_problems(opened.schema_arrow, self._table):
            raise DataError(f"{self.path}, column {problem.column}: {problem.why}")
        if opened.metadata.num_rows == 0:
            raise DataError(f"{self.path}: the table is empty; at least one contact is needed")
        return opened

    def _read(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._file.iter_batches(BATCH, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path}: is truncated or no Parquet file ({_first(error)}); write it again") from None

    def _check_ids(self) -> None:
        parts: list[pa.Array] = []
        for raw in self._read(["contact_id"]):
            values = canonical(raw, self._table.column("contact_id"))
            parts.append(self._text(values, "contact_id", sum(map(len, parts))))
        ids = pa.chunked_array(parts)
        if ids.null_count:
            row = int(np.flatnonzero(pc.is_null(ids).to_numpy())[0])
            raise DataError(f"{self.path}, row {row}, column contact_id: null; every contact needs an id")
        if pc.count_distinct(ids).as_py() < len(ids):
            encoded = ids.combine_chunks().dictionary_encode().indices.to_numpy()
            first = np.zeros(len(encoded), dtype=np.bool_)
            first[np.unique(encoded, return_index=True)[1]] = True
            row = int(np.flatnonzero(~first)[0])
            raise DataError(f"{self.path}, row {row}, column contact_id: {ids[row].as_py()!r} stands there twice")

    def _batch(self, raw: pa.RecordBatch, first: int) -> ContactBatch:
        names = [c.name for c in self._table.columns if c.name != "eligible"]
        columns = {name: self._text(canonical(raw, self._table.column(name)), name, first) for name in names}
        arrived = from_arrow(columns["arrived_at"], NULL_TIME)
        if self._need_arrival and (missing := np.flatnonzero(arrived == NULL_TIME)).size:
            row = first + int(missing[0])
            raise DataError(f"{self.path}, row {row}, column arrived_at: null; --data needs every arrival")
        priority = pc.fill_null(columns["priority"], float("nan")).to_numpy(zero_copy_only=False)
        moments = np.where(arrived == NULL_TIME, np.nan, arrived.astype(np.float64))
        return ContactBatch(
            ids=columns["contact_id"],
            columns={**columns, "priority": priority, "arrived_at": moments},
            arrived_at=arrived,
            customer_id=columns["customer_id"],
            eligible=self._eligible(raw, first),
        )

    def _text(self, values: pa.Array, name: str, first: int) -> pa.Array:
        if len(broken := broken_text(values)):
            raise DataError(f"{self.path}, row {first + int(broken[0])}, column {name}: {NOT_TEXT}")
        return values

    def _eligible(self, raw: pa.RecordBatch, first: int) -> Ragged | None:
        column = canonical(raw, self._table.column("eligible"))
        if self._csa_ids is None or column.null_count == len(column):
            return None
        lengths = pc.list_value_length(column)
        counts = pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        found = codes(pc.list_flatten(column), self._csa_ids)
        if (unknown := np.flatnonzero(found < 0)).size:
            row = int(np.searchsorted(offsets, unknown[0], side="right")) - 1
            named = column[row].as_py()[int(unknown[0] - offsets[row])]
            place = f"{self.path}, row {first + row}, column eligible"
            raise DataError(
                f"{place}: unknown csa_id {named!r}; the roster does not hold it (`twotower index rebuild` takes in "
                "who joined)"
            )
        return Ragged(offsets, found, pc.is_null(column).to_numpy(zero_copy_only=False))


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
