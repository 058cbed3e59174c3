"""A day at a generated centre, told to a store as its router would tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from serve.store.records import Decided, Feedback, Offered
from serve.store.store import Store
from twotower.clock import from_arrow

OUTCOME = ("resolved", "csat", "quality_score", "handle_time_s", "transferred")
TIMES = {
    "arrived_at",
    "abandoned_at",
    "assigned_at",
    "ended_at",
    "known_at",
    "valid_from",
    "hired_at",
    "left_at",
    "since",
}


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a table, times in µs."""
    table = pq.read_table(folder / f"{name}.parquet")
    rows = table.to_pylist()
    for column in TIMES & set(table.column_names):
        moments = from_arrow(table[column], 0).tolist()
        for row, moment in zip(rows, moments, strict=True):
            row[column] = None if row[column] is None else moment
    return rows


def decisions(folder: Path) -> list[Decided]:
    """One decision for each hand-over, and one for each contact that nobody took: everyone eligible is offered."""
    contacts = {row["contact_id"]: row for row in read(folder, "contacts")}
    customers = {row["customer_id"]: row for row in read(folder, "customers")}
    taken = read(folder, "interactions")
    left = contacts.keys() - {row["contact_id"] for row in taken}
    nobody = {"csa_id": None, "policy": None, "propensity": None}
    rows = [
        *taken,
        *({**nobody, "contact_id": one, "assigned_at": contacts[one]["arrived_at"]} for one in sorted(left)),
    ]
    made = []
    for number, row in enumerate(rows):
        contact = contacts[row["contact_id"]]
        customer = customers.get(contact["customer_id"], {})
        told = {**contact, "customer_language": customer.get("language"), "customer_since": customer.get("since")}
        offers = [Offered(one, 1.0, 0.5, 1 / len(contact["eligible"])) for one in contact["eligible"]]
        made.append(
            Decided(
                told, offers, contact["eligible"], row["csa_id"], row["policy"], row["propensity"], model="m",
                roster_version=1, decided_at=row["assigned_at"], decision_id=f"d{number:05}",
            )
        )  # fmt: skip
    return made


def outcomes(folder: Path) -> list[Feedback]:
    """Each hand-over's beginning, end and outcome, one after the other."""
    told = []
    for row in read(folder, "interactions"):
        key = {name: row[name] for name in ("contact_id", "csa_id", "assigned_at")}
        known = row["known_at"] if row["known_at"] is not None else row["ended_at"]
        outcome = {name: row[name] for name in OUTCOME if row.get(name) is not None}
        told += [Feedback.of(key), Feedback.of({**key, "ended_at": row["ended_at"]})]
        told += [Feedback.of({**key, **outcome, "known_at": known})] if outcome else []
    return told


def tell(store: Store, folder: Path) -> None:
    """The whole centre: its CSAs, decisions, feedback, and who gave up."""
    store.roster(read(folder, "csas"))
    for one in decisions(folder):
        store.log.decided(one)
    told = outcomes(folder)
    for start in range(0, len(told), 500):
        store.feedback(*told[start : start + 500])
    for row in read(folder, "contacts"):
        if row.get("abandoned_at") is not None:
            store.abandoned(row["contact_id"], row["abandoned_at"])
    assert store.log.flush(120)
