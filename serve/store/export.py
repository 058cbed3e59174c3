"""From the store to a folder of tables that `twotower check` accepts and `twotower train` trains on.

Notable: a window is half open and is of when something became known. A hand-over is in it where its beginning, its end
or an outcome became known then, with its contact, and is told as it was known just before the window's end: so the same
window gives the same bytes whatever is told afterwards, and windows that follow each other leave nothing out. Rows are
streamed from one snapshot of the database.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, Engine

from serve.store import export_rows as rows_of
from serve.store.engine import READING, plainly
from serve.store.errors import StoreError
from serve.store.export_csas import write_csas
from serve.store.export_table import as_table, schema_of
from serve.store.records import OUTCOMES
from twotower.clock import ARROW_TIME, NEVER, NULL_TIME, format_time
from twotower.files import atomic_directory
from twotower.progress import bar
from twotower.tables.schema import CONTACTS, CUSTOMERS, INTERACTIONS, is_language_tag

ROWS = 20_000  # a row group
OFFER = pa.struct(
    [("csa_id", pa.string()), ("score", pa.float64()), ("p_resolved", pa.float64()), ("propensity", pa.float64())]
)
DECISIONS = pa.schema(
    [
        ("decision_id", pa.string()),
        ("contact_id", pa.string()),
        ("decided_at", ARROW_TIME),
        ("attempt", pa.int64()),
        ("urgent", pa.bool_()),
        ("eligible", pa.list_(pa.string())),
        ("candidates", pa.list_(OFFER)),
        ("chosen", pa.string()),
        ("policy", pa.string()),
        ("propensity", pa.float64()),
        ("arm", pa.string()),
        ("seed", pa.int64()),
        ("salt", pa.string()),
        ("model", pa.string()),
        ("roster_version", pa.int64()),
        ("fallback", pa.string()),
    ]
)


@dataclass
class Exported:
    """What was written, in rows; and what was not: `without_contact` hand-overs whose contact the log does not hold,
    `without_text` contacts that have no text, `without_row` CSAs of whom nothing but the id is known, `left_out` single
    values that the tables do not allow, by column."""

    contacts: int = 0
    interactions: int = 0
    customers: int = 0
    csas: int = 0
    decisions: int = 0
    without_contact: int = 0
    without_text: int = 0
    without_row: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass
class _Seen:
    """What later tables need of earlier ones."""

    done: Exported
    csa_ids: set[str] = field(default_factory=set)
    customers: dict[str, tuple[str | None, int | None]] = field(default_factory=dict)

    def leave_out(self, column: str) -> None:
        self.done.left_out[column] = self.done.left_out.get(column, 0) + 1


def export(
    engine: Engine,
    output: str | Path,
    since: int = NULL_TIME,
    until: int = NEVER,
    csas: str | Path | None = None,
) -> Exported:
    """Write contacts, csas, interactions, customers and decisions of a window [since, until), times in µs.

    csas: a csas.parquet whose rows count where the store has none of the same CSA and date. Raises StoreError where
    nothing became known in the window, OutputError where the folder exists, DataError for a bad csas.parquet.
    """
    if since >= until:
        raise StoreError(f"--since {format_time(since)} is not before --until {format_time(until)}")
    seen = _Seen(Exported())
    with plainly("export"), atomic_directory(output) as folder, _snapshot(engine) as connection:
        window = rows_of.Window(since, until)
        write = _Writing(connection, window, seen, folder)
        write.contacts()
        write.interactions()
        write.decisions()
        write.customers()
        seen.done.without_contact = int(connection.execute(rows_of.without_contact(window)).scalar_one())
        if not seen.done.interactions:
            raise StoreError(
                f"no hand-over of a known contact became known from {format_time(since)} to {format_time(until)}; "
                "nothing is written"
            )
        seen.done.csas, seen.done.without_row = write_csas(connection, folder, until, seen.csa_ids, csas)
    return seen.done


def _snapshot(engine: Engine) -> Connection:
    """A connection on which everything is as of one moment."""
    options: dict[str, Any] = {**READING, "stream_results": True, "yield_per": ROWS}
    if engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    return engine.connect().execution_options(**options)


class _Writing:
    """The tables of one export, one method each."""

    def __init__(self, connection: Connection, window: rows_of.Window, seen: _Seen, folder: Path) -> None:
        self._connection, self._window, self._seen, self._folder = connection, window, seen, folder

    def contacts(self) -> None:
        """Contacts in the order of their arrival."""
        found = self._rows(rows_of.contacts_in(self._window))
        schema = schema_of(CONTACTS)
        self._seen.done.contacts = self._write(CONTACTS.file, schema, (self._contact(row) for row in found))

    def interactions(self) -> None:
        """Hand-overs in the order in which they began."""
        found = self._rows(rows_of.handovers_in(self._window))
        by_key = groupby(found, key=lambda row: (row["assigned_at"], row["contact_id"], row["csa_id"]))
        made = (self._handover(list(same)) for _, same in by_key)
        self._seen.done.interactions = self._write(INTERACTIONS.file, schema_of(INTERACTIONS), made)

    def decisions(self) -> None:
        """Every decision for these contacts, with its candidates and their propensities."""
        found = self._rows(rows_of.decisions_in(self._window))
        self._seen.done.decisions = self._write("decisions.parquet", DECISIONS, (self._decision(row) for row in found))

    def customers(self) -> None:
        """Language and beginning of the customers of whom either is known."""
        known = sorted(self._seen.customers.items())
        made = [{"customer_id": one, "language": tag, "since": since} for one, (tag, since) in known]
        if made:
            self._seen.done.customers = self._write(CUSTOMERS.file, schema_of(CUSTOMERS), made)

    def _rows(self, query: Any) -> Iterator[Mapping[str, Any]]:
        for row in self._connection.execute(query).mappings():
            yield dict(row)

    def _write(self, name: str, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
        done = 0
        with pq.ParquetWriter(self._folder / name, schema) as writer, bar(f"writing {name}", unit="row") as advance:
            for part in _parts(rows):
                writer.write_table(as_table(part, schema))
                done += len(part)
                advance(len(part))
        return done

    def _contact(self, row: Mapping[str, Any]) -> dict[str, Any]:
        seen = self._seen
        eligible = None if row["eligible"] is None else json.loads(row["eligible"])
        seen.csa_ids.update(eligible or ())
        if row["intent_text"] is None:
            seen.done.without_text += 1
        self._customer(row)
        gone = row["abandoned_at"]
        if gone is not None and gone < row["arrived_at"]:
            seen.leave_out("abandoned_at")
            gone = None
        return {
            **{name: row[name] for name in ("contact_id", "customer_id", "arrived_at", "queue", "intent", "priority")},
            "channel": row["channel"] or "",
            "language": self._tag("language", row["language"]),
            "intent_text": row["intent_text"] or "",
            "transcript": row["transcript"] or "",
            "abandoned_at": gone,
            "eligible": eligible,
        }

    def _customer(self, row: Mapping[str, Any]) -> None:
        """The latest that is told of a customer stands."""
        if row["customer_id"] is None:
            return
        tag = self._tag("customer_language", row["customer_language"])
        before = self._seen.customers.get(row["customer_id"], (None, None))
        now = (tag or before[0], row["customer_since"] if row["customer_since"] is not None else before[1])
        if now != (None, None):
            self._seen.customers[row["customer_id"]] = now

    def _tag(self, column: str, tag: str | None) -> str | None:
        """A language tag, null where it is none: the tables do not allow it."""
        if tag is None or is_language_tag(tag):
            return tag
        self._seen.leave_out(column)
        return None

    def _handover(self, same: list[Mapping[str, Any]]) -> dict[str, Any]:
        """One hand-over from its facts, those alone that were known before the window's end."""
        until, row = self._window.until, same[0]
        self._seen.csa_ids.add(row["csa_id"])
        known = [one for one in same if one["known_at"] is not None and one["known_at"] < until]
        ended = [one["ended_at"] for one in same if one["ended_at"] is not None and one["ended_at"] < until]
        decided = row["policy"] is None and row["propensity"] is None and row["decided_policy"] is not None
        propensity = row["decided_propensity"] if decided else row["propensity"]
        if propensity is not None and not 0 < propensity <= 1:
            self._seen.leave_out("propensity")
            propensity = None
        return {
            **{name: row[name] for name in ("contact_id", "csa_id", "assigned_at")},
            "ended_at": ended[0] if ended else None,
            "known_at": max((one["known_at"] for one in known), default=None),
            **{name: next((one[name] for one in known if one[name] is not None), None) for name in OUTCOMES},
            "policy": row["decided_policy"] if decided else row["policy"],
            "propensity": propensity,
        }

    def _decision(self, row: Mapping[str, Any]) -> dict[str, Any]:
        names = [field.name for field in OFFER]
        offers = [dict(zip(names, one, strict=True)) for one in json.loads(row["candidates"])]
        return {
            **row,
            "eligible": None if row["eligible"] is None else json.loads(row["eligible"]),
            "candidates": offers,
        }


def _parts(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    part: list[Mapping[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == ROWS:
            yield part
            part = []
    if part:
        yield part
