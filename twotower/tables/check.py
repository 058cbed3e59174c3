"""Every problem of a folder in one report, in memory that does not grow with the tables.

Tables are streamed in batches: pandera judges single values, 64-bit hashes find duplicate and unknown ids, codes find
unknown CSAs in eligible lists. CSAs are read first, then contacts, because the later tables refer to them. A column
that is missing or of a wrong type is reported once and left out of every further check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twotower.errors import DataError
from twotower.progress import bar
from twotower.tables.findings import EXAMPLES, Findings, short
from twotower.tables.hashing import Keys, hash_columns, hash_texts
from twotower.tables.load import codes
from twotower.tables.read import TWICE, Problem, batches, canonical, damaged, lossy, open_table, unknown
from twotower.tables.rules import Rules
from twotower.tables.schema import CONTACTS, CSAS, CUSTOMERS, INTERACTIONS, SHIFTS, TABLES, TRUTH, Table
from twotower.tables.summary import Summary
from twotower.tables.unicode import NOT_TEXT, broken_text, without

Look = Callable[[pa.RecordBatch, int], None]
Mask = npt.NDArray[np.bool_]


def check(folder: str | Path) -> tuple[Findings, dict[str, dict[str, Any]]]:
    """Checks a data set.

    Returns:
        Every problem, and the figures of each table that could be read.

    Raises:
        DataError: the folder itself does not exist.
    """
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder; name the folder that holds contacts.parquet and the other tables")
    checker = _Checker(Path(folder))
    checker.csas()
    checker.contacts()
    checker.scan(CUSTOMERS)
    checker.scan(INTERACTIONS, checker.known_contact(INTERACTIONS), checker.known_csa(INTERACTIONS))
    checker.scan(SHIFTS, checker.known_csa(SHIFTS))
    checker.scan(TRUTH, checker.known_contact(TRUTH), checker.known_csa(TRUTH))
    order = [table.name for table in TABLES if table.name in checker.figures]
    return checker.findings, {name: checker.figures[name] for name in order}


class _Checker:
    """The state of one check: problems, figures, and the ids that later tables refer to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings = Findings()
        self.figures: dict[str, dict[str, Any]] = {}
        self.csa_ids: pa.Array | None = None
        self.contact_ids: Keys | None = None

    def csas(self) -> None:
        """CSAs, whose ids fit in memory as they are."""
        found: list[pa.Array] = []
        whole = self.scan(CSAS, lambda batch, first: found.append(pc.unique(batch.column("csa_id"))))
        if whole:
            ids = pc.unique(pa.chunked_array(found, pa.large_string()).drop_null())
            self.csa_ids = pc.cast(ids, pa.string())
            self.figures["csas"]["distinct_ids"] = len(ids)

    def contacts(self) -> None:
        """Contacts: hashes of their ids for the tables to come, eligible lists, customers."""
        ids, customers = Keys(), Keys()

        def look(batch: pa.RecordBatch, first: int) -> None:
            ids.add(hash_texts(batch.column("contact_id")))
            if "customer_id" in batch.schema.names:
                customers.add(np.unique(hash_texts(batch.column("customer_id").drop_null())))

        if self.scan(CONTACTS, look, self._eligible):
            self.contact_ids = ids
            self.figures["contacts"]["distinct_ids"] = customers.distinct()

    def known_contact(self, table: Table) -> Look:
        """Reports hand-overs of contacts that are not there."""

        def look(batch: pa.RecordBatch, first: int) -> None:
            if self.contact_ids is not None:
                column = batch.column("contact_id")
                strange = ~self.contact_ids.known(hash_texts(column)) & column.is_valid().to_numpy(zero_copy_only=False)
                self._report(table, "contact_id", unknown("contact_id", CONTACTS), column, strange, first)

        return look

    def known_csa(self, table: Table) -> Look:
        """Reports CSAs that are not there."""

        def look(batch: pa.RecordBatch, first: int) -> None:
            if self.csa_ids is not None:
                column = batch.column("csa_id")
                strange = (codes(column, self.csa_ids) < 0) & column.is_valid().to_numpy(zero_copy_only=False)
                self._report(table, "csa_id", unknown("csa_id", CSAS), column, strange, first)

        return look

    def scan(self, table: Table, *looks: Look) -> bool:
        """Streams one table through its rules and the further `looks`.

        Returns:
            Whether the whole table and its ids could be read, so that other tables can be held against it.
        """
        opened, problems = open_table(self.folder, table)
        self.findings.add(*problems)
        if opened is None:
            return False
        wrong = {problem.column for problem in problems}
        usable = [c.name for c in table.columns if c.name in opened.schema_arrow.names and c.name not in wrong]
        has_ids = all(column.name in usable for column in table.columns if column.key)
        keys = Keys() if table.unique and not wrong & set(table.unique) else None
        summary = Summary(table)
        try:
            self._stream(table, opened, usable, summary, looks if has_ids else (), keys)
            if keys is not None:
                self._duplicates(table, opened, keys)
        except (pa.ArrowException, OSError) as error:
            self.findings.add(damaged(table, error))
            return False
        self.figures[table.name] = summary.data()
        return has_ids

    def _stream(
        self,
        table: Table,
        opened: pq.ParquetFile,
        usable: list[str],
        summary: Summary,
        looks: Iterable[Look],
        keys: Keys | None,
    ) -> None:
        rules, first = Rules(table), 0
        with bar(f"checking {table.file}", opened.metadata.num_rows, "rows") as advance:
            for raw in batches(opened, usable):
                batch = self._canonical(table, raw, first)
                self._values(table, rules, batch, first)
                if keys is not None:
                    keys.add(hash_columns(_key_columns(table, batch)))
                for look in looks:
                    look(batch, first)
                summary.add(batch)
                first += batch.num_rows
                advance(batch.num_rows)

    def _canonical(self, table: Table, raw: pa.RecordBatch, first: int) -> pa.RecordBatch:
        """The batch in the declared types, `eligible` as it is stored; what a type cannot hold, and text that is none,
        is reported."""
        columns = {}
        for name in raw.schema.names:
            column = table.column(name)
            try:
                columns[name] = raw.column(name) if name == "eligible" else canonical(raw, column)
            except pa.ArrowInvalid as error:
                self.findings.add(lossy(table, column, error))
                columns[name] = canonical(raw, column, safe=False)
            if len(broken := broken_text(columns[name])):
                self.findings.add_rows(table.file, name, NOT_TEXT, broken + first)
                columns[name] = without(columns[name], broken)
        return pa.RecordBatch.from_pydict(columns)

    def _values(self, table: Table, rules: Rules, batch: pa.RecordBatch, first: int) -> None:
        for column, why, rows, values in rules.violations(batch):
            self.findings.add_rows(table.file, column, why, rows + first, values)
        for earlier, later, why in table.order:
            if earlier in batch.schema.names and later in batch.schema.names:
                wrong = pc.fill_null(pc.less(batch.column(later), batch.column(earlier)), False)
                self._report(table, later, why, batch.column(later), wrong.to_numpy(zero_copy_only=False), first)

    def _eligible(self, batch: pa.RecordBatch, first: int) -> None:
        """Reports entries of eligible lists that name nobody."""
        if self.csa_ids is None or "eligible" not in batch.schema.names:
            return
        lists = batch.column("eligible")
        code = codes(pc.list_flatten(lists), self.csa_ids)
        bad = np.flatnonzero(code < 0)
        if len(bad):
            rows = pc.list_parent_indices(lists).to_numpy()[bad] + first
            values = pc.list_flatten(lists).take(pa.array(bad[:EXAMPLES]))
            self.findings.add_rows(CONTACTS.file, "eligible", unknown("csa_id", CSAS), rows, values)

    def _report(self, table: Table, column: str, why: str, values: pa.Array, wrong: Mask, first: int) -> None:
        rows = np.flatnonzero(wrong)
        self.findings.add_rows(table.file, column, why, rows + first, values.take(pa.array(rows[:EXAMPLES])))

    def _duplicates(self, table: Table, opened: pq.ParquetFile, keys: Keys) -> None:
        """Reads the key columns once more where hashes repeat."""
        present = [name for name in table.unique if name in opened.schema_arrow.names]

        def again() -> Iterable[tuple[int, list[pa.Array]]]:
            first = 0
            for batch in batches(opened, present):
                yield first, _key_columns(table, batch)
                first += batch.num_rows

        twice = keys.duplicates(again, EXAMPLES)
        shown = [
            Problem(table.file, TWICE, table.unique[0], row, f"{', '.join(map(short, key))}, first in row {first}")
            for row, first, key in twice.rows
        ]
        self.findings.add_kind(shown, twice.count)


def _key_columns(table: Table, batch: pa.RecordBatch) -> list[pa.Array]:
    """The columns that name a row, nulls where they are absent."""
    return [canonical(batch, table.column(name), safe=False) for name in table.unique]
