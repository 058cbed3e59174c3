"""What features of one contact or CSA were computed from: the shape of the answer, and the parts of a log it needs.

Notable: values come from the functions that training and serving call; what is added here is which facts stand behind
them. `provenance_contact.py` and `provenance_csa.py` answer, `provenance_text.py` prints. Only facts known strictly
before the moment are named; later ones are counted as left out and looked at no further.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twotower.clock import NEVER, format_time
from twotower.features.registry import FAMILIES, FEATURES
from twotower.features.schema import FeatureSchema
from twotower.tables.log import Log, take_rows

NEWEST = 20  # facts that are named one by one; all are counted
Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_PLURAL = re.compile(r"(?<=hand-over)s|(?<=contact)s|(?<=row)s")
LEFT_OUT = {
    "handovers_known_later": "hand-overs not counted: known at {at} or later",
    "handovers_never_known": "hand-overs not counted: the log does not know how they ended",
    "handovers_assigned_later": "hand-overs not counted as work: assigned at {at} or later",
    "contacts_arrived_later": "contacts of the customer not counted: arrived at {at} or later",
    "rows_valid_later": "dated rows not counted: valid from later on",
}

# Families and features that read a text or ask a head: without a bundle's contact tower they cannot be told.
OF_TOWER = ("complexity", "profile", "upset", "similarity", "history")
VECTORS_OF_TOWER = ("skills",)


@dataclass(frozen=True)
class Evidence:
    """Facts of one kind that values were computed from: `what` they are, their `count`, the µs at which the `first` and
    the `last` became known (None without any), and the `newest` of them, newest first; `when` names that time."""

    what: str
    count: int
    first: int | None = None
    last: int | None = None
    newest: tuple[dict[str, Any], ...] = ()
    when: str = "known"

    @property
    def line(self) -> str:
        """The evidence in one line."""
        if self.first is None or self.last is None:
            return counted(self.count, self.what)
        last = f" … {format_time(self.last)}" if self.last > self.first else ""
        return f"{counted(self.count, self.what)}, {self.when} {format_time(self.first)}{last}"

    def data(self) -> dict[str, Any]:
        """The same for machines."""
        times = [None if time is None else format_time(time) for time in (self.first, self.last)]
        return {"what": self.what, "count": self.count, "first": times[0], "last": times[1], "newest": self.newest}


@dataclass(frozen=True)
class Column:
    """One column of a feature.

    `value` a number, or a label in words, None where it is unknown; `origin` what it was computed from, in one line;
    `evidence` the key of the facts, None where a row is all; `of` what sets this column apart from the feature's
    others; `more` further figures; `telling` False where it is one of many and says nothing of this subject alone.
    """

    name: str
    value: float | str | None
    origin: str
    evidence: str | None = None
    of: str = ""
    more: dict[str, Any] = field(default_factory=dict)
    telling: bool = True

    def data(self) -> dict[str, Any]:
        """The same for machines."""
        of = {"of": self.of} if self.of else {}
        where = {"from": self.origin, "evidence": self.evidence}
        return {"name": self.name, "value": self.value, **of, **where, **self.more}


@dataclass(frozen=True)
class Shown:
    """A feature as `FeatureSchema.described` declares it, with its columns."""

    declared: dict[str, Any]
    columns: tuple[Column, ...]

    @property
    def is_vector(self) -> bool:
        """Whether its columns are components that mean nothing one by one."""
        return not self.declared["watched"]

    def data(self) -> dict[str, Any]:
        """The same for machines."""
        return {**self.declared, "columns": [column.data() for column in self.columns]}


@dataclass(frozen=True)
class Explained:
    """Features of a `subject` as of `at` (µs) with what they came from.

    `rows`: where the subject stands, by file, from 0, None where it does not; `left_out`: how many facts of the subject
    were known at `at` or later, by `LEFT_OUT`; `absent`: features that cannot be told, or are not read, and why;
    `notes`: what else a reader should know.
    """

    subject: dict[str, str | None]
    at: int
    rows: dict[str, int | None]
    features: tuple[Shown, ...]
    evidence: dict[str, Evidence]
    left_out: dict[str, int]
    absent: dict[str, str]
    notes: tuple[str, ...] = ()

    def values(self) -> dict[str, float | str | None]:
        """Value by name of the column."""
        return {column.name: column.value for shown in self.features for column in shown.columns}

    def data(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "subject": self.subject,
            "at": format_time(self.at),
            "rows": self.rows,
            "features": [shown.data() for shown in self.features],
            "evidence": {name: one.data() for name, one in self.evidence.items()},
            "left_out": self.left_out,
            "absent": self.absent,
            "notes": self.notes,
        }


def counted(count: int, what: str) -> str:
    """A number of things, such as `1 hand-over known later`; what: in the plural."""
    return f"{count} {what if count != 1 else _PLURAL.sub('', what, count=1)}"


def facts(what: str, log: Log, handovers: Longs, **more: npt.NDArray[Any]) -> Evidence:
    """Hand-overs (n,), positions in the log's in order of `known_at`, as evidence; more: of each, columns (n,)."""
    moves, newest = log.handovers, []
    for i in range(len(handovers) - 1, max(-1, len(handovers) - 1 - NEWEST), -1):
        row = handovers[i]
        fact = {
            "contact_id": log.contacts.ids[int(moves.contact[row])].as_py(),
            "known_at": format_time(int(moves.known_at[row])),
            "resolved": (None, False, True)[int(moves.resolved[row]) + 1],
        }
        newest.append(fact | {name: column[i] for name, column in more.items()})
    known = moves.known_at[handovers]
    first, last = (int(known[0]), int(known[-1])) if len(known) else (None, None)
    return Evidence(what, len(handovers), first, last, tuple(newest))


def left_out(log: Log, handovers: Mask, at: int) -> dict[str, int]:
    """How many of the hand-overs where a mask (M,) holds do not count at a moment, by why."""
    known = log.handovers.known_at[handovers]
    return {
        "handovers_known_later": int(((known >= at) & (known < NEVER)).sum()),
        "handovers_never_known": int((known == NEVER).sum()),
    }


def unfitted(log: Log, at: int) -> FeatureSchema:
    """The schema without a bundle: what needs no tower, its columns those of values known before a moment, and of dated
    rows that have begun.

    Languages are those that contacts, or their customers, name: no text of another contact is looked at.
    """
    begun = take_rows(log.csas, log.csas.valid_from <= at, skip=("ids",))
    families = [name for name in FAMILIES if name not in OF_TOWER]
    return FeatureSchema.fit(silent(replace(log.cut(at), csas=begun)), base_dim=0, max_tokens=0, families=families)


def untold(schema: FeatureSchema, with_tower: bool) -> dict[str, str]:
    """Features that are not among a schema's, and why."""
    if with_tower:
        off = [one for one in FEATURES if one.family not in schema.families]
        return {one.name: f"family {one.family!r} is off in this bundle" for one in off}
    needing = [one for one in FEATURES if one.family in OF_TOWER or one.name in VECTORS_OF_TOWER]
    reason = "needs --bundle: read off texts by its contact tower"
    return {one.name: reason for one in needing} | {"group_*:complexity": reason}


def silent(log: Log) -> Log:
    """The log with no word said in it."""
    nothing = pa.repeat(pa.scalar("", pa.large_string()), len(log.contacts))
    return replace(log, contacts=replace(log.contacts, intent_text=nothing, transcript=nothing))


def of_customer(log: Log, contact: int) -> Log:
    """The contact and its customer's earlier ones with their hand-overs; the customer has code 0. The roster is whole.

    What is known of a customer depends on these alone, so nobody else's texts are read.
    """
    contacts, moves = log.contacts, log.handovers
    customer = int(contacts.customer[contact])
    earlier = (contacts.customer == customer) & (contacts.arrived_at < contacts.arrived_at[contact])
    kept = np.append(np.flatnonzero(earlier & (customer >= 0)), contact)
    place = np.full(len(contacts), -1, dtype=np.int32)
    place[kept] = np.arange(len(kept))
    handed = take_rows(moves, place[moves.contact] >= 0)
    some = take_rows(contacts, kept)
    who = np.array([customer] if customer >= 0 else [], dtype=np.int64)
    return replace(
        log,
        contacts=replace(some, customer=np.minimum(some.customer, 0)),
        customer_ids=log.customer_ids.take(pa.array(who)),
        customer_since=log.customer_since[who],
        customer_language=log.customer_language.take(pa.array(who)),
        handovers=replace(handed, contact=place[handed.contact]),
    )


def declared(schema: FeatureSchema, *levels: str) -> list[dict[str, Any]]:
    """The features of some levels that have columns, in the order of the tensors."""
    return [one for one in schema.described() if one["level"] in levels and one["columns"]]


def listed(names: Sequence[str]) -> str:
    """Names as people list them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
