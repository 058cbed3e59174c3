"""CSAs: as the hand-overs show them, from rows of the export, or from a file that says so.

Notable: what hand-overs show is dated. A CSA has a queue among their skills, or a language, from the first hand-over
that shows it, never before, or a table made of the whole log would tell a model of June what was seen in July. They are
hired when first seen, which is the best that a log can say, and counted as a guess.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from twotower.errors import DataError
from twotower.imports.convert import Converter
from twotower.imports.mapping import Field
from twotower.imports.notes import GUESSED, LEFT_OUT
from twotower.imports.rows import is_parquet, rows_of
from twotower.imports.sources import SourceFile
from twotower.imports.spill import Spill
from twotower.imports.times import Unread
from twotower.tables.read import canonical, schema_problems
from twotower.tables.schema import CSAS

Row = dict[str, Any]
COLUMNS = [column.name for column in CSAS.columns]
WHERE = "csas.parquet"
_SHOWN = (
    "SELECT csa_id, assigned_at, ended_at, queue, language, team, site, profile FROM handovers "
    "ORDER BY csa_id, assigned_at, contact_id, n"
)


def make_roster(spill: Spill, file: Path | None) -> None:
    """Fills the spill's table `csas`: by a file, else by rows of the export, else by what hand-overs show."""
    with spill.once("roster") as due:
        if not due:
            return
        if file is not None:
            spill.db.execute("DELETE FROM csas")
            rows = read_roster(file)
            _leave_out_others(spill, {row["csa_id"] for row in rows})
            spill.db.executemany("INSERT INTO csas VALUES (?, ?)", [(row["csa_id"], _payload(row)) for row in rows])
            return
        declared = {csa_id for (csa_id,) in spill.db.execute("SELECT DISTINCT csa_id FROM csas")}
        for row in _shown(spill, declared):
            spill.add("csas", (row["csa_id"], _payload(row)))


def _payload(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, sort_keys=True)


def _leave_out_others(spill: Spill, known: set[str]) -> None:
    db = spill.db
    db.execute("CREATE TEMP TABLE known (csa_id TEXT PRIMARY KEY)")
    db.executemany("INSERT INTO known VALUES (?)", [(csa_id,) for csa_id in known])
    query = "FROM handovers WHERE csa_id NOT IN (SELECT csa_id FROM known)"
    count, first = db.execute(f"SELECT count(*), min(contact_id) {query}").fetchone()
    if count:
        spill.notes.add(LEFT_OUT, "hand-overs to CSAs whom --csas does not name", f"contact {first}", count)
        spill.counts["handovers"] -= count
        db.execute(f"DELETE {query}")
    db.execute("DROP TABLE known")


@dataclass
class _Shown:
    """What is known of one CSA so far."""

    languages: list[str] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)
    team: str | None = None
    site: str | None = None
    profile: str = ""
    capacity: int = 1
    busy_until: list[int] = field(default_factory=list)

    def see(self, assigned: int, ended: int | None, queue: str | None, language: str | None, *more: str | None) -> bool:
        """One more hand-over; whether it showed something new."""
        before = (len(self.languages), len(self.queues), self.team, self.site, self.profile, self.capacity)
        if language and language not in self.languages:
            self.languages.append(language)
        if queue and queue not in self.queues:
            self.queues.append(queue)
        team, site, profile = more
        self.team, self.site, self.profile = team or self.team, site or self.site, profile or self.profile
        while self.busy_until and self.busy_until[0] <= assigned:
            heappop(self.busy_until)
        if ended is not None:
            heappush(self.busy_until, ended)
        self.capacity = max(self.capacity, len(self.busy_until))
        return before != (len(self.languages), len(self.queues), self.team, self.site, self.profile, self.capacity)

    def row(self, csa_id: str, hired: int, since: int | None) -> Row:
        """csas.parquet's row from `since` on."""
        skills = [{"name": name, "level": 1.0} for name in sorted(self.queues)]
        return {
            "csa_id": csa_id, "valid_from": since, "hired_at": hired, "team": self.team, "site": self.site,
            "languages": sorted(self.languages), "skills": skills, "profile": self.profile, "capacity": self.capacity,
        }  # fmt: skip


def _shown(spill: Spill, declared: set[str]) -> Iterator[Row]:
    """Dated rows of CSAs whom no row of the export declares."""
    for csa_id, handovers in groupby(spill.db.execute(_SHOWN), key=lambda row: row[0]):
        if csa_id in declared:
            continue
        shown, hired = _Shown(), None
        rows: dict[int | None, Row] = {}
        for _, assigned, *rest in handovers:
            hired = assigned if hired is None else hired
            if shown.see(assigned, *rest) or not rows:
                since = None if assigned == hired else assigned
                rows[since] = shown.row(csa_id, hired, since)
        spill.notes.add(GUESSED, "csas: hired when first seen, still there, with the queues served as skills", WHERE)
        if not shown.languages:
            spill.notes.add(GUESSED, "csas: no language is known of any of their contacts; none stated", WHERE)
        if shown.capacity > 1:
            spill.notes.add(GUESSED, "csas: capacity by the most hand-overs at once so far", WHERE)
        yield from rows.values()


def read_roster(file: Path) -> list[Row]:
    """The CSAs of a file: Parquet as docs/tables.md declares it, or CSV with columns of these names.

    Raises:
        DataError: the file, a column or a value of it is not what is declared; the line names it.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file; name a file of CSAs, or leave --csas out")
    return _parquet(file) if is_parquet(file) else list(_csv(file))


def _parquet(file: Path) -> list[Row]:
    try:
        raw = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: is no Parquet file ({str(error).splitlines()[0]})") from None
    problems = schema_problems(raw.schema, CSAS)
    if problems:
        raise DataError(f"{file}: column {problems[0].column}: {problems[0].why}")
    columns: dict[str, list[Any]] = {}
    for column in CSAS.columns:
        values = canonical(raw, column, safe=False)
        columns[column.name] = (values.cast(pa.int64()) if pa.types.is_timestamp(column.type) else values).to_pylist()
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if any(not row["csa_id"] for row in rows):
        raise DataError(f"{file}: a row without csa_id; name the CSA")
    return rows


def _csv(file: Path) -> Iterator[Row]:
    found = file.stat()
    source = SourceFile(file.parent, file.name, found.st_size, found.st_mtime_ns)
    converters = {column.name: Converter(column, Field(source=(column.name,)), "UTC") for column in CSAS.columns}
    for row in rows_of(source):
        if row.values is None:
            raise DataError(f"{file}:{row.line}: {row.why}; mend the line")
        made: Row = {}
        for name in row.values:
            if name not in converters:
                raise DataError(f"{file}: the column {name!r} is none of csas; there are {', '.join(COLUMNS)}")
            try:
                made[name] = converters[name].value(row.values.get)
            except Unread as why:
                raise DataError(f"{file}:{row.line}: {name} {why}") from None
        if not made.get("csa_id"):
            raise DataError(f"{file}:{row.line}: a row without csa_id; name the CSA")
        yield made
