"""A contact's features, and its customer's, with what they came from: columns of its own row, and the customer's past.

Notable: which columns of the row a feature reads is not written down anywhere; it is watched while the feature is
computed. The customer's past is computed from the customer's own contacts alone, to the same bits as from a whole log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twotower.clock import format_time
from twotower.features.complexity import COMPLEXITY
from twotower.features.contact import LABELS, NUMBERS, ContactRows, category
from twotower.features.customer import CustomerRows, style_of
from twotower.features.feature import Feature
from twotower.features.provenance import (
    NEWEST,
    Column,
    Evidence,
    Explained,
    Shown,
    declared,
    facts,
    left_out,
    listed,
    of_customer,
    untold,
)
from twotower.features.registry import FEATURES
from twotower.features.schema import FeatureSchema, in_order, log_columns
from twotower.features.streams import CustomerPast
from twotower.tables.log import Log
from twotower.tables.schema import CONTACTS, CUSTOMERS

if TYPE_CHECKING:
    from twotower.bundle.sessions import ContactEncoder, Encoded

_READ: dict[str, Feature[ContactRows]] = {one.name: one for one in (*LABELS, *NUMBERS)}
_TEXTS = ("intent_text", "transcript")  # what heads read; those of complexity read labels too
_COMPLEXITY = [one.name for one in COMPLEXITY]
_MINE = {one.name for one in FEATURES if one.level in ("contact", "customer")}
_OF_CUSTOMER = {"customer_since": "since", "customer_language": "language"}  # columns of customers.parquet
_ENDS = ("end not known", "not resolved", "resolved")  # by the last outcome, −1, 0 and 1


@dataclass(frozen=True)
class ContactCase:
    """One contact of a log with what training and the router would make of it.

    contact: its position; schema: of a bundle, or `provenance.unfitted`; row, customer_row: where contact and customer
    stand in their files, counted from 0, None where they do not; encoder: a bundle's contact tower.
    """

    log: Log
    contact: int
    schema: FeatureSchema
    row: int | None = None
    customer_row: int | None = None
    encoder: ContactEncoder | None = None

    @property
    def at(self) -> int:
        """The arrival (µs): what was known strictly before it counts."""
        return int(self.log.contacts.arrived_at[self.contact])

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The contact's own row."""
        return log_columns(self.log, np.array([self.contact]))

    @cached_property
    def mine(self) -> Log:
        """The customer's contacts up to this one, which is the last."""
        return of_customer(self.log, self.contact)

    @cached_property
    def rows(self) -> ContactRows:
        """The same as rows that features read."""
        return self.schema.rows(log_columns(self.mine))

    @cached_property
    def past(self) -> CustomerRows | None:
        """What was known of the customer; None where no feature asks."""
        contacts = self.mine.contacts
        return CustomerPast(self.mine, self.schema, self.rows).at(contacts.customer[-1:], contacts.arrived_at[-1:])

    @cached_property
    def inputs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The tower's tensors of this contact: codes (1, C) and numbers (1, F)."""
        return self.schema.contact_inputs(self.columns, self.past)

    @cached_property
    def told(self) -> Encoded | None:
        """What the contact tower says of it, None without one."""
        return None if self.encoder is None else self.encoder.encode(self.columns, self.past)


def explain_contact(case: ContactCase) -> Explained:
    """The features of a contact and of its customer as of its arrival."""
    evidence = _evidence(case)
    numbers = dict(zip(case.schema.numbers, case.inputs[1][0].tolist(), strict=True))
    told = _with_heads(case)
    shown = [Shown(one, _columns(case, one, numbers, evidence)) for one in declared(told, "contact", "customer")]
    log, contacts = case.log, case.log.contacts
    customer = int(contacts.customer[case.contact])
    theirs = np.isin(contacts.customer, customer) if customer >= 0 else np.arange(len(contacts)) == case.contact
    later = theirs & (contacts.arrived_at >= case.at)
    later[case.contact] = False
    return Explained(
        subject={
            "contact": contacts.ids[case.contact].as_py(),
            "customer": log.customer_ids[customer].as_py() if customer >= 0 else None,
        },
        at=case.at,
        rows={CONTACTS.file: case.row, CUSTOMERS.file: case.customer_row},
        features=tuple(shown),
        evidence=evidence,
        left_out={
            "contacts_arrived_later": int(later.sum()),
            **left_out(log, theirs[log.handovers.contact], case.at),
        },
        absent={name: why for name, why in untold(told, case.encoder is not None).items() if name in _MINE},
        notes=tuple(_notes(case, told)),
    )


def _with_heads(case: ContactCase) -> FeatureSchema:
    """The schema with what a contact tower says of complexity, which it does whether the towers read that or not."""
    if case.encoder is None:
        return case.schema
    return replace(case.schema, families=in_order([*case.schema.families, "complexity"]))


def _notes(case: ContactCase, told: FeatureSchema) -> list[str]:
    notes = []
    if int(case.log.contacts.customer[case.contact]) < 0:
        notes.append("the contact names no customer: nothing is known of one")
    if told.families != case.schema.families:
        notes.append("complexity is told by the contact tower's heads; the towers do not read it in this bundle")
    return notes


def _columns(
    case: ContactCase, one: dict[str, Any], numbers: dict[str, float], evidence: dict[str, Evidence]
) -> tuple[Column, ...]:
    name = one["name"]
    if one["family"] == "labels":
        return (_label(case, name),)
    if one["family"] == "complexity":
        if name not in case.schema.heads:
            return (Column(name, None, "no head: the log told too little of it when the bundle was trained"),)
        value = None if case.told is None else float(case.told.complexity[0, _COMPLEXITY.index(name)])
        read = [*_TEXTS, *case.schema.categories, *(n for n in _read(case, "language") if n in _OF_CUSTOMER)]
        return (Column(name, value, f"the contact tower's head on {_own(case, read)}"),)
    if one["level"] == "contact":
        return (Column(name, numbers[name], _own(case, _read(case, name))),)
    key = {"frequency": "contacts", "style": "styled", "relationship": "met"}[one["family"]]
    origin = _met_line(evidence) if key == "met" else evidence[key].line
    return tuple(Column(column, numbers[column], origin, key) for column in one["columns"])


def _label(case: ContactCase, name: str) -> Column:
    """A label as given, or as found out: the language from the text or the customer's, the intent by the contact
    tower."""
    code = int(case.inputs[0][0, list(case.schema.categories).index(name)]) if case.schema.has("labels") else 0
    rows = case.schema.rows(case.columns)
    value = category(rows, name)[0].as_py()
    more: dict[str, Any] = {} if case.encoder is None else {"code": code}
    given = case.columns[name][0].is_valid
    origin = _own(case, _read(case, name))
    if name == "language" and not rows.tagged[0]:
        how = "identified" if rows.guessed[0] else "the customer's own" if value else "not told"
        return Column(name, value, f"{how}: {origin}", more={**more, "given": False})
    if name == "intent" and not given and case.told is not None:
        predicted = int(case.told.intent[0])
        value = case.schema.categories[name][predicted - 1] if predicted else None
        more |= {"predicted_code": predicted, "probability": float(case.told.intent_p[0])}
        origin = f"the contact tower's head on {_own(case, list(_TEXTS))}"
    elif name == "intent" and not given:
        origin = "null; a bundle's contact tower predicts it (--bundle)"
    return Column(name, value, origin, more={**more, "given": given})


class _Watched(dict[str, Any]):
    """Columns that remember which of them were asked for."""

    asked: set[str]

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def _read(case: ContactCase, name: str) -> list[str]:
    """The columns of the contact that a feature reads, found by computing it."""
    watched = _Watched(case.columns)
    watched.asked = set()
    _READ[name].compute(case.schema.rows(watched))
    return [column for column in case.columns if column in watched.asked]


def _own(case: ContactCase, columns: list[str]) -> str:
    """Columns of the contact's row, and of the customer's."""
    own = [name for name in columns if name not in _OF_CUSTOMER]
    origins = [f"{place(case.row, CONTACTS.file)}: {listed(own)}"] if own else []
    for name in (name for name in columns if name in _OF_CUSTOMER):
        value = case.columns[name][0]
        known = value.is_valid if isinstance(value, pa.Scalar) else np.isfinite(value)
        where = place(case.customer_row, CUSTOMERS.file)
        if not known:
            nobody = not case.columns["customer_id"][0].is_valid
            where = f"{CUSTOMERS.file} (the contact names no customer)" if nobody else f"{where} (null or no row)"
        origins.append(f"{where}: {_OF_CUSTOMER[name]}")
    return "; ".join(origins)


def place(row: int | None, file: str) -> str:
    """Where something stands."""
    return file if row is None else f"row {row} of {file}"


def _evidence(case: ContactCase) -> dict[str, Evidence]:
    """What the customer's features came from, by kind."""
    found: dict[str, Evidence] = {}
    if case.schema.has("frequency"):
        found["contacts"] = _earlier(case, "earlier contacts", np.arange(len(case.mine.contacts) - 1))
    if case.schema.has("style"):
        shown = np.isfinite(style_of(case.rows.signals)[:, 0])
        found["styled"] = _earlier(case, "earlier contacts whose words show a style", np.flatnonzero(shown[:-1]))
    if case.schema.has("relationship") and case.past is not None:
        found |= _met(case, case.past)
    return found


def _earlier(case: ContactCase, what: str, rows: npt.NDArray[np.int64]) -> Evidence:
    contacts = case.mine.contacts
    if not len(rows):
        return Evidence(what, 0)
    arrived = contacts.arrived_at[rows]
    newest = [
        {"contact_id": contacts.ids[int(row)].as_py(), "arrived_at": format_time(int(contacts.arrived_at[row]))}
        for row in rows[::-1][:NEWEST]
    ]
    return Evidence(what, len(rows), int(arrived[0]), int(arrived[-1]), tuple(newest), "arrived")


def _met(case: ContactCase, past: CustomerRows) -> dict[str, Evidence]:
    """All hand-overs of the customer whose end was known, and those with each CSA who is remembered."""
    log, reading = case.mine, past.reading
    moves = log.handovers
    before = np.flatnonzero((moves.known_at < case.at) & (log.contacts.customer[moves.contact] >= 0))
    ids = [log.csas.ids[int(csa)].as_py() for csa in moves.csa[before]]
    found = {"met": facts("hand-overs of the customer", log, before, csa_id=np.array(ids, dtype=object))}
    order = np.argsort(-reading.pair_last[0], kind="stable")
    for p in order[reading.pair_csa[0, order] >= 0]:
        csa, end = int(reading.pair_csa[0, p]), int(reading.pair_end[0, p])
        name, theirs = log.csas.ids[csa].as_py(), before[moves.csa[before] == csa]
        ended = np.bincount(moves.resolved[theirs] + 1, minlength=len(_ENDS)).tolist()
        how = ", ".join(f"{count} {said}" for count, said in zip(ended, _ENDS, strict=True) if count)
        found[f"met:{name}"] = facts(f"hand-overs with {name} ({how}; the last: {_ENDS[end + 1]})", log, theirs)
    return found


def _met_line(evidence: dict[str, Evidence]) -> str:
    pairs = [one for name, one in evidence.items() if name.startswith("met:")]
    if not pairs:
        return evidence["met"].line
    forgotten = evidence["met"].count - sum(one.count for one in pairs)
    rest = f"; {forgotten} hand-overs with CSAs met longer ago are not remembered" if forgotten else ""
    return f"{'; '.join(one.line for one in pairs)}{rest}"
