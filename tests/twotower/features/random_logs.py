"""Small random logs with everything that real ones have: nulls, empty and single-character texts, emoji, ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.support import Tables, minutes
from twotower.features.complexity import COMPLEXITY
from twotower.features.schema import FeatureSchema
from twotower.features.streams import Told
from twotower.text.signals import signals

TEXTS = (
    None, "", "x", "?", "😀", "\0", "   ", "ÉÀЖ ẞ", "🇩🇪👩‍👩‍👧", "٣３", "REFUND ME NOW!!! I am furious",
    "Ich bin sehr wütend.\nBitte helfen Sie mir!", "¿Dónde está mi pedido?", "1. card lost\n2. pin lost\n3. help!",
    "Thanks, it did not take long :)", "注文はどこですか", "word " * 900,
)  # fmt: skip
CSA_IDS = ("ada", "bob", "cy", "dee", "eve", "fay")


def random_tables(seed: int, contacts: int = 60) -> Tables:
    """Forty days of a centre; some contacts and CSAs without hand-overs, some hand-overs without an end."""
    rng = np.random.default_rng(seed)
    arrived = np.sort(rng.integers(0, 40 * 1440, contacts))
    arrived[1::7] = arrived[::7][: len(arrived[1::7])]
    arrived = np.sort(arrived)

    def some(values: Any, null: float = 0.3) -> list[Any]:
        return [None if rng.random() < null else value for value in rng.choice(values, contacts).tolist()]

    return {
        "contacts": pa.table(
            {
                "contact_id": [f"c{i:03}" for i in range(contacts)],
                "customer_id": pa.array(some(["anna", "bert", "carl", "dora"]), pa.string()),
                "arrived_at": minutes(*arrived.tolist()),
                "channel": some(["chat", "call", "e-mail"], 0.0),
                "language": pa.array(some(["en", "en-GB", "de", "pt-BR", "xx"], 0.5), pa.string()),
                "intent": pa.array(some(["refund", "card"], 0.5), pa.string()),
                "intent_text": [TEXTS[i] or "" for i in rng.integers(0, len(TEXTS), contacts)],
                "transcript": [TEXTS[i] or "" for i in rng.integers(0, len(TEXTS), contacts)],
                "priority": pa.array(some([-1.0, 0.0, 1e9]), pa.float64()),
            }
        ),
        "customers": pa.table(
            {
                "customer_id": ["anna", "bert", "carl", "dora"],
                "since": minutes(-5e5, None, 20 * 1440, 1e6),
                "language": ["de-AT", "en", None, "und"],
            }
        ),
        "csas": _csas(),
        "interactions": _handovers(rng, arrived),
    }


def _csas() -> pa.Table:
    """The last is never assigned anything; two have two dated rows."""
    ids = [*CSA_IDS, "ada", "bob"]
    return pa.table(
        {
            "csa_id": ids,
            "valid_from": minutes(*[None] * 4, 30 * 1440, None, 10 * 1440, 50 * 1440),
            "hired_at": minutes(-1e6, None, 0, 20 * 1440, 1e5, None, -1e6, None),
            "site": [None, "Porto", "Leeds", None, "Porto", "", None, None],
            "team": [None, "red", None, None, "blue", "red", None, None],
            "kind": [None, "bot", None, None, None, None, None, None],
            "languages": [["en"], ["en-GB", "de"], [], ["und"], ["pt-BR", "pt"], ["de"], ["en", "pt"], []],
            "skills": pa.array(
                [
                    [{"name": "refunds", "level": 0.5}], [], [{"name": "cards", "level": 1.0}],
                    [{"name": "cards", "level": 0.0}, {"name": "😀", "level": 0.3}], [], [], [], [],
                ]
            ),
            "profile": ["", "seit 2020", "x", "😀", "", "", "again", ""],
            "capacity": [1] * 8,
        }
    )  # fmt: skip


def _handovers(rng: np.random.Generator, arrived: npt.NDArray[np.int64]) -> pa.Table:
    picked = np.flatnonzero(rng.random(len(arrived)) < 0.8)
    assigned = arrived[picked] + rng.integers(0, 90, len(picked))
    ended = assigned + rng.integers(0, 300, len(picked))

    def some(values: Any, null: float = 0.3) -> list[Any]:
        return [None if rng.random() < null else value for value in rng.choice(values, len(picked)).tolist()]

    stays = rng.permutation(len(picked)) < len(picked) // 8
    late = rng.random(len(picked)) < 0.2
    return pa.table(
        {
            "contact_id": [f"c{i:03}" for i in picked],
            "csa_id": rng.choice(CSA_IDS[:-1], len(picked)).tolist(),
            "assigned_at": minutes(*assigned.tolist()),
            "ended_at": minutes(*[None if o else e for o, e in zip(stays, ended.tolist(), strict=True)]),
            "known_at": minutes(
                *[e + 3000 if k and not o else None for o, k, e in zip(stays, late, ended.tolist(), strict=True)]
            ),
            "resolved": pa.array(some([True, False]), pa.bool_()),
            "csat": pa.array(some([1.0, 3.0, 5.0]), pa.float64()),
            "handle_time_s": pa.array(some([0.0, 60.0, 1e6]), pa.float64()),
            "transferred": pa.array(some([True, False]), pa.bool_()),
        }
    )


def random_told(seed: int, schema: FeatureSchema, categories: npt.NDArray[np.int64], texts: list[str | None]) -> Told:
    """What N contacts tell: random unit vectors, complexity within its bounds and now and then not known."""
    rng = np.random.default_rng(seed)
    n = len(categories)
    base = rng.standard_normal((n, schema.base_dim)).astype(np.float32)
    low, high = (np.array([getattr(one, side) for one in COMPLEXITY]) for side in ("low", "high"))
    complexity = (low + rng.random((n, len(COMPLEXITY))) * (high - low)).astype(np.float32)
    complexity[rng.random(n) < 0.2] = np.nan
    return Told(base / np.linalg.norm(base, axis=1, keepdims=True), categories, complexity, signals(texts))
