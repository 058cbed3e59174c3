"""Small logs for tests: rows as dictionaries, written as tables and read back as a `Log`."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twotower.tables.log import Log

START = datetime(2026, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")


def at(minute: float | None) -> datetime | None:
    """A moment, in minutes after the start."""
    return None if minute is None else START + timedelta(minutes=minute)


def contact(minute: float, text: str = "", **more: Any) -> dict[str, Any]:
    """A contact; its id follows its place in the list."""
    return {"minute": minute, "intent_text": text, **more}


def handover(of: int, csa: str, known: float | None, resolved: bool | None = True) -> dict[str, Any]:
    """A hand-over of the contact at place `of` whose outcome is known at minute `known`."""
    return {"of": of, "csa": csa, "known": known, "resolved": resolved}


def write(
    folder: Path, contacts: list[dict[str, Any]], handovers: list[dict[str, Any]], csas: list[dict[str, Any] | str]
) -> Path:
    """The tables of a small centre; contact i is `c00i`."""
    folder.mkdir(parents=True, exist_ok=True)
    people = [{"id": csa} if isinstance(csa, str) else csa for csa in csas]

    def column(rows: list[dict[str, Any]], name: str, kind: pa.DataType, default: Any = None) -> pa.Array:
        return pa.array([row.get(name, default) for row in rows], kind)

    def times(rows: list[dict[str, Any]], name: str) -> pa.Array:
        return pa.array([at(row.get(name)) for row in rows], TIME)

    text, texts = pa.string(), pa.list_(pa.string())
    tables = {
        "contacts": {
            "contact_id": [f"c{i:03}" for i in range(len(contacts))],
            "customer_id": column(contacts, "customer", text),
            "arrived_at": times(contacts, "minute"),
            "channel": column(contacts, "channel", text, "chat"),
            "queue": column(contacts, "queue", text),
            "language": column(contacts, "language", text, "en"),
            "intent": column(contacts, "intent", text),
            "intent_text": column(contacts, "intent_text", text),
            "transcript": column(contacts, "transcript", text, ""),
            "eligible": column(contacts, "eligible", texts),
        },
        "csas": {
            "csa_id": column(people, "id", text),
            "hired_at": times(people, "hired"),
            "left_at": times(people, "left"),
            "languages": column(people, "languages", texts, ["en"]),
            "skills": pa.array([[]] * len(people), pa.list_(pa.struct({"name": text, "level": pa.float64()}))),
            "profile": column(people, "profile", text, ""),
            "capacity": [1] * len(people),
        },
        "interactions": {
            "contact_id": [f"c{row['of']:03}" for row in handovers],
            "csa_id": column(handovers, "csa", text),
            "assigned_at": pa.array([at(contacts[row["of"]]["minute"]) for row in handovers], TIME),
            "ended_at": times(handovers, "known"),
            "resolved": column(handovers, "resolved", pa.bool_()),
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def log(contacts: list[dict[str, Any]], handovers: list[dict[str, Any]], csas: list[dict[str, Any] | str]) -> Log:
    """The same in memory."""
    with tempfile.TemporaryDirectory() as folder:
        return Log.load(write(Path(folder), contacts, handovers, csas))


TOPICS = ("refund card", "late parcel", "lost password", "wrong invoice")


def random_centre(
    seed: int, n: int = 60, csas: int = 5, failures: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any] | str]]:
    """Contacts that share seconds and customers, hand-overs known late, never, or several to a contact."""
    rng = np.random.default_rng(seed)
    minutes = np.sort(rng.integers(0, 40, n))
    contacts = [
        contact(
            int(minute),
            f"{TOPICS[rng.integers(4)]} {rng.choice(['please', 'now', 'again'])}",
            customer=None if rng.random() < 0.2 else f"k{rng.integers(6)}",
            intent=None if rng.random() < 0.2 else f"i{rng.integers(3)}",
            queue=f"q{rng.integers(2)}",
        )
        for minute in minutes
    ]
    handovers = []
    for i in range(n):
        for csa in rng.choice(csas, rng.integers(0, 3), replace=False):
            known = None if rng.random() < 0.1 else float(minutes[i] + rng.integers(0, 15))
            resolved = None if rng.random() < 0.1 else bool(rng.random() < 0.6) or not failures
            handovers.append(handover(i, f"a{csa}", known, resolved))
    return contacts, handovers, [f"a{j}" for j in range(csas)]
