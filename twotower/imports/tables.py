"""Files of rows, CSV or Parquet, read into the spill by a mapping, and made into cases.

One file may fill several tables (a line that tells of a contact and of its hand-over), and several files one table.

Notable: rows of one contact that come from anywhere meet in the spill by `contact_id`. A contact that is told several
times is the first one told; a row that repeats another one is dropped, and both are counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import groupby
from typing import Any

from twotower.errors import DataError
from twotower.imports.case import Case, Handover
from twotower.imports.convert import ROW, Converter
from twotower.imports.formats import Damaged, Format, LeftOut, Settings, Step, identity
from twotower.imports.mapping import TABLES, Field, TableMap
from twotower.imports.notes import DAMAGED, GUESSED, LEFT_OUT, REPAIRED, Place
from twotower.imports.rows import ENCODING, header_of, rows_of
from twotower.imports.sources import SourceFile
from twotower.imports.spill import Spill
from twotower.imports.times import Unread

KEYS = {"contacts": ("contact_id", "arrived_at"), "interactions": ("contact_id", "csa_id", "assigned_at"),
        "csas": ("csa_id",), "customers": ("customer_id",), "shifts": ("csa_id", "starts_at", "ends_at")}  # fmt: skip
"""What a row cannot do without."""
MOST_ROWS = 10_000
"""Rows of one contact that are looked at: a column that names no contact would make one of all."""
BATCH = 5_000


class Rows(Format):
    """Files of rows."""

    tables = (
        "CREATE TABLE told (contact_id TEXT, kind INTEGER, at INTEGER, place TEXT, payload TEXT); "
        "CREATE TABLE csa_rows (csa_id TEXT, valid_from INTEGER, place TEXT, payload TEXT)"
    )

    def __init__(self, settings: Settings, spill: Spill) -> None:
        super().__init__(settings, spill)
        mapping = settings.mapping
        self._place = Place("", 0)
        self._converters = {
            table: {
                name: Converter(
                    TABLES[table].column(name), field, mapping.zone, mapping.decimal, settings.keys, self._doubt
                )
                for name, field in sorted(one.columns.items(), key=lambda item: item[0] != "csa_id")
            }
            for table, one in mapping.tables.items()
        }

    def _doubt(self, reason: str) -> None:
        self.notes.add(GUESSED, reason, self._place)

    def check_files(self, files: list[SourceFile]) -> None:
        """Whether every table has a file and every file its columns, before a row is read.

        Raises:
            DataError: one line that names the file, the column and the table.
        """
        mapping = self.settings.mapping
        for table, one in mapping.tables.items():
            if not any(_fills(one, file) for file in files):
                raise DataError(f"tables.{table}.files: no file of the source is named like {', '.join(one.files)}")
        for file in files:
            if not any(_fills(one, file) for one in mapping.tables.values()):
                continue
            names = header_of(file, mapping.delimiter, mapping.encoding)
            for table, one in mapping.tables.items():
                for column, field in one.columns.items() if _fills(one, file) else ():
                    for wanted in field.names:
                        if wanted not in names:
                            raise DataError(f"{file.name}: no column {wanted!r}, which the map names for "
                                            f"{table}.{column}; there are {', '.join(names)}")  # fmt: skip

    def read(self, file: SourceFile, cursor: Any) -> Iterator[Step]:
        """Reads one file."""
        mapping = self.settings.mapping
        tables = [table for table, one in mapping.tables.items() if _fills(one, file)]
        if not tables:
            self.notes.add(LEFT_OUT, "files that the map names for no table", file.name)
            return
        if cursor is None:
            taken = {
                name for table in tables for field in mapping.tables[table].columns.values() for name in field.names
            }
            for name in header_of(file, mapping.delimiter, mapping.encoding):
                if name not in taken:
                    self.not_used(f"column {name}")
        for row in rows_of(file, cursor, mapping.delimiter, mapping.encoding, self.settings.largest):
            self._place = Place(file.name, row.line)
            self.spill.counts["records"] += 1
            if row.mended:
                self.notes.add(REPAIRED, ENCODING, self._place)
            if row.values is None:
                self.notes.add(DAMAGED, row.why or "", self._place)
            else:
                self._take(row.values, tables)
            yield Step(list(row.after), row.consumed, max(row.consumed, row.after[0]))

    def _take(self, values: dict[str, Any], tables: list[str]) -> None:
        """One row into each of the tables that its file fills; what damages it for one of them costs the row."""
        found: list[tuple[str, dict[str, Any]]] = []
        values[ROW] = str(self._place)
        for table in tables:
            try:
                found.append((table, self._converted(table, values)))
            except LeftOut as why:
                self.notes.add(LEFT_OUT, str(why), self._place)
            except Damaged as why:
                self.notes.add(DAMAGED, str(why), self._place)
                return
        for table, one in found:
            self._add(table, one)

    def _converted(self, table: str, values: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, converter in self._converters[table].items():
            try:
                one = converter.value(values.get)
            except Unread as why:
                if name in KEYS[table]:
                    raise Damaged(f"{table}: rows whose {name} {why}") from None
                self.notes.add(REPAIRED, f"{table}.{name} {why}: left out", self._place)
                continue
            if one is not None:
                found[name] = one
            elif name == "csa_id" and table == "interactions":
                raise LeftOut("interactions: rows without a csa_id: nobody took the contact")
        if table == "customers" and "customer_id" not in found and not self.settings.keys.identifies:
            raise LeftOut("customers: rows of customers, who are not to be identified")
        for name in KEYS[table]:
            if name not in found:
                raise Damaged(f"{table}: rows without {name}")
            if isinstance(found[name], str):
                found[name] = identity(found[name], name)
        if table == "shifts" and found["ends_at"] < found["starts_at"]:
            raise Damaged("shifts: rows that end before they start")
        return found

    def _add(self, table: str, found: dict[str, Any]) -> None:
        place = str(self._place)
        if table in ("contacts", "interactions"):
            at = found["arrived_at" if table == "contacts" else "assigned_at"]
            row = (found["contact_id"], int(table == "interactions"), at, place, json.dumps(found, ensure_ascii=False))
            self.spill.add("told", row)
        elif table == "csas":
            payload = json.dumps(found, ensure_ascii=False, sort_keys=True)
            self.spill.add("csa_rows", (found["csa_id"], found.get("valid_from"), place, payload))
        elif table == "customers":
            self.spill.add("customers", (found["customer_id"], found.get("language"), found.get("since")))
        else:
            self.spill.add("shifts", (found["csa_id"], found["starts_at"], found["ends_at"]))

    def arrange(self) -> None:
        """Sorts rows by contact; of CSAs and customers the last row that names one the same way counts."""
        db = self.spill.db
        with self.spill.once("sorted") as due:
            if due:
                db.execute("CREATE TABLE sorted (n INTEGER PRIMARY KEY, contact_id, kind, at, place, payload)")
                db.execute(
                    "INSERT INTO sorted (contact_id, kind, at, place, payload) SELECT * FROM told "
                    "ORDER BY contact_id, kind, at, rowid"
                )
                db.execute("DROP TABLE told")
                self._csas()
                twice = "SELECT count(*) - count(DISTINCT customer_id) FROM customers"
                (count,) = db.execute(twice).fetchone()
                if count:
                    self.notes.add(LEFT_OUT, "customers: further rows of the same customer_id", "customers", count)
                    last = "SELECT max(rowid) FROM customers GROUP BY customer_id"
                    db.execute(f"DELETE FROM customers WHERE rowid NOT IN ({last})")

    def _csas(self) -> None:
        query = "SELECT csa_id, valid_from, place, payload FROM csa_rows ORDER BY csa_id, valid_from, rowid"
        for _, group in groupby(self.spill.db.execute(query).fetchall(), key=lambda row: row[:2]):
            *earlier, last = group
            if earlier:
                self.notes.add(
                    LEFT_OUT, "csas: further rows of the same csa_id and valid_from", earlier[0][2], len(earlier)
                )
            self.spill.add("csas", (last[0], last[3]))

    def cases(self, after: int) -> Iterator[tuple[int, Case | None]]:
        """One case a contact."""
        for _, group in groupby(self._sorted(after), key=lambda row: row[1]):
            first: Any = None
            handovers: list[Any] = []
            last = beyond = 0
            for row in group:  # contacts before hand-overs, each by time
                last, _, handed_over, _, place, payload = row
                if handed_over and len(handovers) < MOST_ROWS:
                    handovers.append(row)
                elif handed_over:
                    beyond += 1
                elif first is None:
                    first = row
                elif payload != first[5]:
                    self.notes.add(GUESSED, "contacts that are told in several ways: the first counts", place)
            if beyond:
                self.notes.add(DAMAGED, f"rows of a contact beyond its first {MOST_ROWS:,}", handovers[-1][4], beyond)
            yield last, self._case(first, handovers)

    def _sorted(self, after: int) -> Iterator[Any]:
        query = "SELECT * FROM sorted WHERE n > ? ORDER BY n LIMIT ?"
        while rows := self.spill.db.execute(query, (after, BATCH)).fetchall():
            yield from rows
            after = rows[-1][0]

    def _case(self, contact: Any, rows: list[Any]) -> Case | None:
        if contact is None:
            self.notes.add(DAMAGED, "interactions: rows of a contact that is not there", rows[0][4], len(rows))
            return None
        place, told = contact[4], json.loads(contact[5])
        channel = told.get("channel")
        if channel is None:
            channel = "unknown"
            self.notes.add(GUESSED, "channel: none is stated; unknown", place)
        abandoned = told.get("abandoned_at")
        if abandoned is not None and abandoned < told["arrived_at"]:
            self.notes.add(REPAIRED, "contacts.abandoned_at before arrived_at: left out", place)
            told.pop("abandoned_at")
        given = {name: told[name] for name in told if name not in ("contact_id", "arrived_at", "channel")}
        case = Case(told["contact_id"], place, told["arrived_at"], channel, **given)
        case.handovers = self._handovers([(row[4], json.loads(row[5])) for row in rows])
        met = min((one.assigned_at for one in case.handovers), default=case.arrived_at)
        if met < case.arrived_at:
            self.notes.add(REPAIRED, "contacts that were assigned before they arrived: arrived then", place)
            case.arrived_at = met
        return case

    def _handovers(self, told: list[tuple[str, dict[str, Any]]]) -> list[Handover]:
        found: dict[tuple[str, int], Handover] = {}
        for place, values in told:
            values.pop("contact_id")
            key = (values["csa_id"], values["assigned_at"])
            if key in found:
                self.notes.add(LEFT_OUT, "interactions: further rows of the same hand-over", place)
                continue
            for name in ("ended_at", "known_at"):
                if name in values and values[name] < values["assigned_at"]:
                    self.notes.add(REPAIRED, f"interactions.{name} before assigned_at: left out", place)
                    values.pop(name)
            found[key] = Handover(**values)
        return list(found.values())

    def mapped(self) -> dict[str, str]:
        """What comes from where."""
        return {
            f"{table}.{name}": _words(field)
            for table, one in self.settings.mapping.tables.items()
            for name, field in one.columns.items()
        }


def _fills(table: TableMap, file: SourceFile) -> bool:
    return any(fnmatch(file.name, pattern) for pattern in table.files)


def _words(field: Field) -> str:
    words = "file and row" if field.row else repr(field.value) if field.value is not None else " ".join(field.source)
    return " + ".join([words, *(_words(more) for more in field.plus)])
