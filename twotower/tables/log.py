"""A data set in memory: columns as numpy arrays, ids coded as positions in sorted id arrays.

Everything downstream works on codes and int64 times; text and categories stay Arrow arrays. `Log.load(folder, until=T)`
is the only way history enters training, so the cut at T holds everywhere if it holds here (`Log.cut`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twotower.clock import NEVER, NULL_TIME, Times, to_arrow
from twotower.tables.ragged import Ragged as Ragged

Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Contacts:
    """N contacts, sorted by (arrived_at, contact_id)."""

    ids: pa.StringArray
    arrived_at: Times
    customer: Codes
    """Position in `Log.customer_ids`; −1 where null."""
    intent_text: pa.LargeStringArray
    transcript: pa.LargeStringArray
    channel: pa.StringArray
    queue: pa.StringArray
    language: pa.StringArray
    intent: pa.StringArray
    priority: Floats
    """NaN where null."""
    abandoned_at: Times
    """`clock.NEVER` where null."""
    eligible: Ragged | None
    """CSA codes per contact; None where no contact has a list, and everyone could have taken it."""

    def __len__(self) -> int:
        return len(self.arrived_at)


@dataclass(frozen=True)
class Csas:
    """J CSAs in R dated rows, sorted by (csa, valid_from). The latest row not after a moment counts at that moment."""

    ids: pa.StringArray
    """(J,) sorted"""
    csa: Codes
    """(R,) position in `ids`"""
    valid_from: Times
    """`clock.NULL_TIME` where null"""
    hired_at: Times
    """`clock.NULL_TIME` where null"""
    left_at: Times
    """`clock.NEVER` where null"""
    site: pa.StringArray
    team: pa.StringArray
    kind: pa.StringArray
    """`csa` where null"""
    languages: pa.ListArray
    skills: pa.ListArray
    """of struct<name: string, level: double>"""
    profile: pa.LargeStringArray
    capacity: Codes
    cost: Floats
    """NaN where null"""

    def __len__(self) -> int:
        return len(self.ids)

    def row_at(self, t: int) -> Codes:
        """(J,) the position of the dated row that counts at t; −1 for a CSA whose every row is later."""
        begun = np.bincount(self.csa[self.valid_from <= t], minlength=len(self))
        first = np.searchsorted(self.csa, np.arange(len(self)))
        return np.where(begun > 0, first + begun - 1, -1).astype(np.int32)

    def declared_at(self, t: int) -> pa.Table:
        """What is declared of each CSA by the dated row that counts at t, as in `csas.parquet` but for the dates from
        and until which it counts; who has no such row yet is left out."""
        row = self.row_at(t)
        who = np.flatnonzero(row >= 0)
        rows = pa.array(row[who])
        columns: dict[str, Any] = {
            "csa_id": self.ids.take(pa.array(who)),
            "hired_at": to_arrow(self.hired_at[row[who]]),
        }
        for name in ("site", "team", "kind", "languages", "skills", "profile"):
            columns[name] = getattr(self, name).take(rows)
        cost = self.cost[row[who]]
        return pa.table({**columns, "capacity": self.capacity[row[who]], "cost": pa.array(cost, mask=np.isnan(cost))})

    def active_at(self, t: int) -> npt.NDArray[np.bool_]:
        """(J,) who works at t: hired at t or before, not left at t or before, by the dated row that counts at t."""
        row = self.row_at(t)
        active: npt.NDArray[np.bool_] = (row >= 0) & (self.hired_at[row] <= t) & (self.left_at[row] > t)
        return active


@dataclass(frozen=True)
class Handovers:
    """M hand-overs, sorted by (known_at, contact, csa)."""

    contact: Codes
    csa: Codes
    assigned_at: Times
    ended_at: Times
    """`clock.NEVER` where null"""
    known_at: Times
    """When the outcome became known: `ended_at` where the table has null; `clock.NEVER` where both are"""
    resolved: Flags
    """1, 0, or −1 where null"""
    csat: Floats
    quality_score: Floats
    handle_time_s: Floats
    propensity: Floats
    """NaN where null, like the three above"""
    transferred: Flags
    """1, 0, or −1 where null"""
    policy: pa.StringArray

    def __len__(self) -> int:
        return len(self.contact)


@dataclass(frozen=True)
class Log:
    """A whole data set: contacts, customers, CSAs and hand-overs, read-only."""

    contacts: Contacts
    customer_ids: pa.StringArray
    """sorted; those of the contacts"""
    customer_since: Times
    """`clock.NULL_TIME` where unknown"""
    customer_language: pa.StringArray
    csas: Csas
    handovers: Handovers

    def __post_init__(self) -> None:
        """Many parts share these arrays, so none may write to them."""
        for part in (self, self.contacts, self.csas, self.handovers, self.contacts.eligible):
            for column in vars(part).values() if part is not None else ():
                if isinstance(column, np.ndarray):
                    column.setflags(write=False)

    @classmethod
    def load(cls, folder: str | Path, until: int | None = None) -> Log:
        """Reads a data set; with `until` (µs UTC) only what was known before that moment.

        Raises:
            DataError: a file is missing or damaged, a column is missing or of a wrong type, a time has no zone, a table
                is empty, an id stands twice, a hand-over or an eligible list names who is not there, a hand-over ended
                before it was assigned. `twotower check` finds these and the rest, all at once.
        """
        from twotower.tables.load import load

        log = load(folder)
        return log if until is None else log.cut(until)

    def cut(self, t: int) -> Log:
        """What was known before t: half-open, so what happened at t itself is not in it.

        Contacts that arrived before t; hand-overs of these that were assigned before t, without what became known of
        them at t or later; CSA rows that count before t (`max(valid_from, hired_at) < t`), and nobody else in eligible
        lists or hand-overs; times at t or later that were written afterwards (`left_at`, `abandoned_at`) become null.
        Codes are positions in the result.
        """
        here = self.contacts.arrived_at < t
        row = np.maximum(self.csas.valid_from, self.csas.hired_at) < t
        csas, csa_code = _cut_csas(self.csas, row, t)
        contact_code = _renumber(here)
        contacts = take_rows(self.contacts, here)
        customers = np.unique(contacts.customer[contacts.customer >= 0])
        customer_code = np.full(len(self.customer_ids) + 1, -1, dtype=np.int32)  # the last one answers for −1
        customer_code[customers] = np.arange(len(customers))
        since = self.customer_since[customers]
        eligible = contacts.eligible
        old = self.handovers
        begun = (old.assigned_at < t) & (contact_code[old.contact] >= 0) & (csa_code[old.csa] >= 0)
        return Log(
            contacts=replace(
                contacts,
                customer=customer_code[contacts.customer],
                abandoned_at=np.where(contacts.abandoned_at >= t, NEVER, contacts.abandoned_at),
                eligible=None if eligible is None or bool(eligible.all_.all()) else eligible.keep(csa_code),
            ),
            customer_ids=self.customer_ids.take(pa.array(customers)),
            customer_since=np.where(since >= t, NULL_TIME, since),
            customer_language=self.customer_language.take(pa.array(customers)),
            csas=csas,
            handovers=_cut_handovers(take_rows(old, begun), contact_code, csa_code, t),
        )


def _cut_handovers(rows: Handovers, contact_code: Codes, csa_code: Codes, t: int) -> Handovers:
    """Hand-overs that had begun at t, under new codes, without an end or an outcome that came at t or later."""
    open_ = rows.known_at >= t
    floats = ("csat", "quality_score", "handle_time_s")
    cut = replace(
        rows,
        contact=contact_code[rows.contact],
        csa=csa_code[rows.csa],
        ended_at=np.where(rows.ended_at >= t, NEVER, rows.ended_at),
        known_at=np.where(open_, NEVER, rows.known_at),
        **{name: np.where(open_, np.int8(-1), getattr(rows, name)) for name in ("resolved", "transferred")},
        **{name: np.where(open_, np.float32(np.nan), getattr(rows, name)) for name in floats},
    )
    ordered: Handovers = take_rows(cut, np.lexsort((cut.ended_at, cut.assigned_at, cut.csa, cut.contact, cut.known_at)))
    return ordered


def _cut_csas(csas: Csas, row: npt.NDArray[np.bool_], t: int) -> tuple[Csas, Codes]:
    """The dated rows where `row` holds, and the new code of every old CSA."""
    left = np.zeros(len(csas), dtype=np.bool_)
    left[csas.csa[row]] = True
    code = _renumber(left)
    kept = take_rows(csas, row, skip=("ids",))
    ids = csas.ids.filter(pa.array(left))
    left_at = np.where(kept.left_at >= t, NEVER, kept.left_at)
    return replace(kept, ids=ids, csa=code[kept.csa], left_at=left_at), code


def _renumber(kept: npt.NDArray[np.bool_]) -> Codes:
    """New position of every old one, −1 where it is not kept."""
    return np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)


def take_rows(columns: Any, kept: npt.NDArray[Any], skip: tuple[str, ...] = ()) -> Any:
    """A dataclass of columns with the kept rows only: a mask, or positions in their new order."""
    kept = np.flatnonzero(kept) if kept.dtype == np.bool_ else kept
    changed: dict[str, Any] = {}
    for field in fields(columns):
        value = getattr(columns, field.name)
        if field.name in skip or value is None:
            continue
        if isinstance(value, Ragged):
            changed[field.name] = value.take(kept)
        elif isinstance(value, np.ndarray):
            changed[field.name] = value[kept]
        else:
            changed[field.name] = value.take(pa.array(kept))
    return replace(columns, **changed)
