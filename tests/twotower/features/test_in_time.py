"""No feature of a contact, of its customer or of any CSA sees what became known at or after the contact's arrival.

The way is the whole one: tables on disk, the log, streams, histories, tensors, with every family on. The future of a
contact is made anew and the rows are shuffled: nothing that the contact reads may move by a bit. A leak is planted in
each of several places, and must be found.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from twotower.clock import NEVER, SECOND
from twotower.features import streams
from twotower.features.complexity import COMPLEXITY
from twotower.features.csa import CsaFeatures
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.customers import CustomerHistory
from twotower.features.registry import FAMILIES
from twotower.features.schema import FeatureSchema, log_columns
from twotower.features.streams import CustomerPast, Told, csa_streams
from twotower.tables import Log

BASE = 3
BEGIN = 1_770_000_000 * SECOND
CSAS, CUSTOMERS = 4, 3
TEXTS = ["I am FURIOUS, refund me now!", "please help with my card", "¿dónde está mi pedido?", "", "ok"]
Rows = dict[str, list]


def world(rng: np.random.Generator, contacts: int, span_s: int) -> tuple[Rows, Rows]:
    """Contacts and hand-overs in whole seconds, so that many share one."""
    arrived = BEGIN + rng.integers(0, span_s, contacts) * SECOND
    made = {
        "contact_id": [f"c{i}" for i in range(contacts)],
        "customer_id": [None if rng.random() < 0.2 else f"k{rng.integers(0, CUSTOMERS)}" for _ in range(contacts)],
        "arrived_at": arrived.tolist(),
        "channel": rng.choice(["chat", "call"], contacts).tolist(),
        "language": [None if rng.random() < 0.3 else "en" for _ in range(contacts)],
        "intent": [None if rng.random() < 0.3 else str(rng.choice(["refund", "card"])) for _ in range(contacts)],
        "intent_text": rng.choice(TEXTS, contacts).tolist(),
        "transcript": rng.choice(TEXTS, contacts).tolist(),
    }
    return made, handovers(rng, made, span_s)


def handovers(rng: np.random.Generator, contacts: Rows, span_s: int) -> Rows:
    """One or two hand-overs of each contact, some without an end, some whose outcome is known late."""
    rows: Rows = {name: [] for name in COLUMNS}
    for contact, arrived in zip(contacts["contact_id"], contacts["arrived_at"], strict=True):
        for csa in rng.permutation(CSAS)[: rng.integers(1, 3)]:
            assigned = arrived + int(rng.integers(0, 3)) * SECOND
            ended = None if rng.random() < 0.1 else assigned + int(rng.integers(0, span_s)) * SECOND
            late = None if ended is None or rng.random() < 0.5 else ended + int(rng.integers(0, span_s)) * SECOND
            row = (contact, f"a{csa}", assigned, ended, late, *outcome(rng))
            for name, value in zip(COLUMNS, row, strict=True):
                rows[name].append(value)
    return rows


COLUMNS = (
    "contact_id", "csa_id", "assigned_at", "ended_at", "known_at", "resolved", "csat", "handle_time_s", "transferred",
)  # fmt: skip


def outcome(rng: np.random.Generator) -> tuple:
    resolved = None if rng.random() < 0.1 else bool(rng.random() < 0.6)
    return resolved, float(rng.integers(1, 6)), float(rng.integers(10, 900)), bool(rng.random() < 0.2)


def otherwise(rng: np.random.Generator, contacts: Rows, moves: Rows, moment: int) -> tuple[Rows, Rows]:
    """The same past with another future: later contacts, later assignments and outcomes not known yet are drawn anew.

    A hand-over that began before the moment stays begun, and one that ended before it stays ended: these were known.
    """
    kept = [i for i, at in enumerate(contacts["arrived_at"]) if at <= moment]
    other = {name: [column[i] for i in kept] for name, column in contacts.items()}
    coming, new_moves = world(rng, int(rng.integers(0, 8)), 4)
    ids = {old: f"new-{old}" for old in coming["contact_id"]}
    shift = moment + SECOND - BEGIN
    coming["contact_id"] = list(ids.values())
    coming["arrived_at"] = [at + shift for at in coming["arrived_at"]]
    for name, column in coming.items():
        other[name].extend(column)
    future = [
        later(rng, moves, i, moment)
        for i in range(len(moves["csa_id"]))
        if moves["contact_id"][i] in other["contact_id"]
    ]
    added = []
    for i in range(len(new_moves["csa_id"])):
        row = {name: new_moves[name][i] for name in COLUMNS}
        moved = {k: None if row[k] is None else row[k] + shift for k in ("assigned_at", "ended_at", "known_at")}
        added.append({**row, **moved, "contact_id": ids[row["contact_id"]]})
    rows = [row for row in (*future, *added) if row is not None]
    together = {name: [row[name] for row in rows] for name in COLUMNS}
    return shuffled(rng, other), shuffled(rng, together)


def later(rng: np.random.Generator, moves: Rows, i: int, moment: int) -> dict | None:
    """A hand-over as it could also have gone on from a moment; None where it need not have begun."""
    row = {name: moves[name][i] for name in COLUMNS}
    known = row["known_at"] if row["known_at"] is not None else row["ended_at"]
    if row["assigned_at"] >= moment:
        if rng.random() < 0.3:
            return None
        row["assigned_at"] = moment + int(rng.integers(0, 3)) * SECOND
        row["csa_id"] = moves["csa_id"][i]
    if known is not None and known < moment:
        return row
    if row["ended_at"] is None or row["ended_at"] >= moment:
        ended = max(moment, row["assigned_at"]) + int(rng.integers(0, 3)) * SECOND
        row["ended_at"] = None if rng.random() < 0.2 else ended
    row["known_at"] = moment + int(rng.integers(0, 5)) * SECOND
    if row["ended_at"] is not None:
        row["known_at"] = max(row["known_at"], row["ended_at"])
    return {**row, **dict(zip(COLUMNS[5:], outcome(rng), strict=True))}


def shuffled(rng: np.random.Generator, rows: Rows) -> Rows:
    order = rng.permutation(len(next(iter(rows.values()))))
    return {name: [column[i] for i in order] for name, column in rows.items()}


def load(contacts: Rows, moves: Rows) -> Log:
    """The log of such tables, by way of the disk."""
    time = pa.timestamp("us", "UTC")
    kinds = {"resolved": pa.bool_(), "transferred": pa.bool_(), "csat": pa.float32(), "handle_time_s": pa.float32()}

    def column(name: str, values: list) -> pa.Array:
        return pa.array(values, time if name.endswith("_at") else kinds.get(name, pa.string()))

    csas = pa.table(
        {
            "csa_id": [f"a{i}" for i in range(CSAS)],
            "hired_at": pa.array([BEGIN + 2 * SECOND * i for i in range(CSAS)], time),
            "languages": [["en"]] * CSAS,
            "skills": [[{"name": "cards", "level": 0.5}]] * CSAS,
            "profile": ["since 2020"] * CSAS,
            "capacity": [1] * CSAS,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (("contacts", contacts), ("interactions", moves)):
            table = pa.table({key: column(key, values) for key, values in rows.items()})
            pq.write_table(table, Path(folder) / f"{name}.parquet")
        pq.write_table(csas, Path(folder) / "csas.parquet")
        return Log.load(folder)


def told(log: Log, schema: FeatureSchema) -> Told:
    """What the contact tower would tell, by its text alone."""
    rows = schema.rows(log_columns(log))
    base, complexity = np.empty((len(rows), BASE)), np.empty((len(rows), len(COMPLEXITY)))
    for i, text in enumerate(rows.text.to_pylist()):
        rng = np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))
        base[i], complexity[i] = rng.normal(size=BASE), rng.random(len(COMPLEXITY))
    return Told(base.astype(np.float32), schema.contact_inputs(rows)[0], complexity.astype(np.float32), rows.signals)


def read(log: Log, schema: FeatureSchema, contact_id: str) -> bytes:
    """All that a contact reads of itself, its customer and the CSAs, as bytes."""
    where = log.contacts.ids.to_pylist().index(contact_id)
    rows, moment = np.array([where]), int(log.contacts.arrived_at[where])
    past = CustomerPast(log, schema, schema.rows(log_columns(log)))
    of_customer = past.at(log.contacts.customer[rows], log.contacts.arrived_at[rows])
    inputs = schema.contact_inputs(schema.rows(log_columns(log, rows)), of_customer)
    known, work = csa_streams(log, schema, told(log, schema))
    history = CsaHistory(schema.csa_settings, len(log.csas))
    history.advance(known, moment, work)
    features = CsaFeatures(log.csas, schema, lambda texts: np.ones((len(texts), BASE), np.float32))
    tensors = (*inputs, features.at(moment, history), history.handled())
    assert all(np.isfinite(tensor).all() for tensor in tensors)
    return b"".join(tensor.tobytes() for tensor in tensors)


def check(phases: tuple[Phase, ...] = tuple(Phase), examples: int = 40) -> None:
    @settings(phases=phases, max_examples=examples, report_multiple_bugs=False, database=None)
    @given(st.integers(0, 2**32), st.integers(4, 20), st.sampled_from([4, 60, 400_000]))
    def holds(seed: int, count: int, span_s: int) -> None:
        rng = np.random.default_rng(seed)
        contacts, moves = world(rng, count, span_s)
        contact = int(rng.integers(count))
        log = load(contacts, moves)
        schema = replace(FeatureSchema.fit(log, BASE, 16, tuple(FAMILIES)), bands=[0.25, 0.5, 0.75])
        other = load(*otherwise(rng, contacts, moves, contacts["arrived_at"][contact]))
        name = contacts["contact_id"][contact]
        assert read(other, schema, name) == read(log, schema, name)

    holds()


def test_what_becomes_known_at_the_arrival_or_later_changes_no_bit():
    check()


def known_from(time: str):
    """`csa_streams` and `customer_streams` in which outcomes count from another time than `known_at`."""

    def earlier(log: Log) -> Log:
        moves = log.handovers
        return replace(
            log, handovers=replace(moves, known_at=np.where(moves.known_at < NEVER, getattr(moves, time), NEVER))
        )

    return earlier


def plant(patch: pytest.MonkeyPatch, leak: str) -> None:
    """Put a leak into the code under test."""
    if leak in ("outcomes from the end on", "outcomes from the assignment on"):
        earlier = known_from("ended_at" if leak.endswith("end on") else "assigned_at")
        whole = csa_streams
        patch.setitem(globals(), "csa_streams", lambda log, *rest: whole(earlier(log), *rest))
    elif leak == "customers from the assignment on":
        earlier, of_customers = known_from("assigned_at"), streams.customer_streams
        patch.setattr(streams, "customer_streams", lambda log, *rest: of_customers(earlier(log), *rest))
    elif leak == "known at the moment is enough":
        advance = CsaHistory.advance
        patch.setattr(CsaHistory, "advance", lambda self, known, at, work=None: advance(self, known, at + 1, work))
        reading = CsaHistory.read
        patch.setattr(CsaHistory, "read", lambda self, at=None, *args: reading(self, self.moment, *args))
    else:
        along = CustomerHistory.along
        patch.setattr(CustomerHistory, "along", lambda self, a, h, who, at: along(self, a, h, who, at + 1))


LEAKS = (
    "outcomes from the end on",
    "outcomes from the assignment on",
    "customers from the assignment on",
    "known at the moment is enough",
    "contacts of the same second are known",
)


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found(leak, monkeypatch):
    plant(monkeypatch, leak)
    with pytest.raises(AssertionError):
        check((Phase.generate,), 100)


def test_the_past_does_count():
    """The check would pass for features that know nothing at all."""
    rng = np.random.default_rng(1)
    contacts, moves = world(rng, 20, 60)
    log = load(contacts, moves)
    schema = FeatureSchema.fit(log, BASE, 16, tuple(FAMILIES))
    last = contacts["contact_id"][int(np.argmax(contacts["arrived_at"]))]
    turned = {**moves, "resolved": [None if r is None else not r for r in moves["resolved"]]}
    assert read(load(contacts, turned), schema, last) != read(log, schema, last)
