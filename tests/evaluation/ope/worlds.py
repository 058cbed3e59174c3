"""A small centre whose queue is known: who could have been chosen, with which chance, and what comes of it.

Everybody but the first and the last CSA can be eligible, four for a contact. The queue likes some better than others,
π₀ ∝ exp(LIKED), and a contact is resolved with 0.8 by who is good at its topic, else with 0.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.ope.decisions import OFFER
from tests.serve import fakes

CSAS, DAYS, LISTED, CUSTOMERS = 12, 30, 4, 397
NAMES = [f"csa-{j:02}" for j in range(CSAS)]
LIKED = np.linspace(-0.8, 0.8, CSAS)
TOPICS = len(fakes.TOPICS)
GOOD, ELSE = 0.8, 0.4
FROM, TO = "2026-01-21T00:00:00Z", "2026-01-31T00:00:00Z"


def success(topic: np.ndarray, csa: np.ndarray) -> np.ndarray:
    """True probability that a CSA resolves a contact of a topic."""
    return np.where(csa % TOPICS == topic, GOOD, ELSE)


def chances(eligible: np.ndarray) -> np.ndarray:
    """π₀ (n, `LISTED`) of the lists (n, `LISTED`)."""
    weight = np.exp(LIKED[eligible])
    return weight / weight.sum(axis=1, keepdims=True)


def tables(contacts: int = 2400, seed: int = 0, propensity: bool = True) -> dict[str, pa.Table]:
    """A data set of thirty days; the queue's propensities are logged where `propensity`."""
    random = np.random.default_rng((seed, 5))
    content = fakes.tables(contacts, CSAS, DAYS, seed)
    text = content["contacts"]["intent_text"].to_pylist()
    topic = np.array([fakes.TOPICS.index(one.split()[0]) for one in text])
    listed = np.sort(np.stack([random.choice(np.arange(1, CSAS - 1), LISTED, replace=False) for _ in text]), axis=1)
    chance = chances(listed)
    place = (np.cumsum(chance, axis=1) < random.random((contacts, 1))).sum(axis=1)
    row = np.arange(contacts)
    chosen = listed[row, place]
    resolved = random.random(contacts) < success(topic, chosen)
    replaced = {
        "csa_id": [NAMES[j] for j in chosen],
        "resolved": resolved.tolist(),
        "policy": ["queue"] * contacts,
        "propensity": chance[row, place] if propensity else pa.nulls(contacts, pa.float64()),
        "csat": [None if i % 3 else float(2 + 2 * good + i % 2) for i, good in enumerate(resolved)],
    }
    moves = content["interactions"]
    for name, values in replaced.items():
        moves = moves.drop_columns([name]) if name in moves.column_names else moves
        moves = moves.append_column(name, pa.array(values))
    people = content["contacts"].drop_columns(["eligible"])
    customers = [None if i % 5 == 0 else f"customer-{i % CUSTOMERS}" for i in range(contacts)]
    people = people.drop_columns(["customer_id"]).append_column("customer_id", pa.array(customers))
    people = people.append_column("eligible", pa.array([[NAMES[j] for j in row] for row in listed.tolist()]))
    return {**content, "contacts": people, "interactions": moves}


def decided(content: dict[str, pa.Table], **changes: Any) -> pa.Table:
    """`decisions.parquet` of the same choices, by a router that told the chance of each candidate; `changes` replace
    columns."""
    moves, contacts = content["interactions"], content["contacts"]
    lists = dict(zip(contacts["contact_id"].to_pylist(), contacts["eligible"].to_pylist(), strict=True))
    rows = []
    for one in moves.to_pylist():
        who = lists[one["contact_id"]]
        chance = chances(np.array([[NAMES.index(name) for name in who]]))[0]
        offers = [
            {"csa_id": name, "score": float(-k), "p_resolved": 0.5, "propensity": float(p)}
            for k, (name, p) in enumerate(zip(who, chance, strict=True))
        ]
        rows.append({
            "contact_id": one["contact_id"], "decided_at": one["assigned_at"] - timedelta(seconds=1),
            "urgent": False, "eligible": who, "candidates": offers, "chosen": one["csa_id"],
            "propensity": float(chance[who.index(one["csa_id"])]),
        })  # fmt: skip
    schema = pa.schema([
        ("contact_id", pa.string()), ("decided_at", pa.timestamp("us", "UTC")), ("urgent", pa.bool_()),
        ("eligible", pa.list_(pa.string())), ("candidates", pa.list_(OFFER)), ("chosen", pa.string()),
        ("propensity", pa.float64()),
    ])  # fmt: skip
    for name, values in changes.items():
        for row, value in zip(rows, values, strict=False):
            row[name] = value
    return pa.Table.from_pylist(rows, schema)


def write(content: dict[str, pa.Table], folder: Path, decisions: pa.Table | None = None) -> Path:
    """The data set, with decisions where there are any."""
    fakes.write_tables(content, folder)
    if decisions is not None:
        pq.write_table(decisions, folder / "decisions.parquet")
    return folder


def with_column(
    content: dict[str, pa.Table], table: str, name: str, values: Sequence[Any] | pa.Array
) -> dict[str, pa.Table]:
    """The same with one column replaced."""
    made = content[table].drop_columns([name]) if name in content[table].column_names else content[table]
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return {**content, table: made.append_column(name, column)}
