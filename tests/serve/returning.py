"""A centre whose customers return, its bundle with every family of features, and stores of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from serve.customers import Customers
from serve.customers_build import build_customers
from tests.serve import fakes
from tests.support import replaced
from twotower.bundle.bundle import Bundle
from twotower.clock import NULL_TIME
from twotower.tables.log import Log

SECRET, OTHER = b"0123456789abcdef", b"fedcba9876543210"
T = fakes.until_us()
# In languages that nobody names and few are taken to be in, so in none that the centre serves.
STRAY = (
    "注文はどこですか",
    "πού είναι η παραγγελία",
    "где мой заказ",
    "איפה ההזמנה שלי",
    "คำสั่งซื้อ",
    "주문 어디에 있나요",
)
LANGUAGES = ("de", "en-GB", None, "pt-BR", "en", "und", "EN_us")  # of customers, in turn


def tables(contacts: int = 600) -> dict[str, pa.Table]:
    """Thirty days; customers 0 … 8 are customers since different days before them, most have a language of their own.
    Some contacts name no language, and their texts have no letters or are in none that the centre serves."""
    content = fakes.tables(contacts=contacts)
    names = [f"customer-{i}" for i in range(9)]
    since = pa.array([T - fakes.days(40 + i) for i in range(9)], pa.timestamp("us", "UTC"))
    tags = [LANGUAGES[i % len(LANGUAGES)] for i in range(9)]
    customers = pa.table({"customer_id": names, "since": since, "language": tags})
    texts = content["contacts"]["intent_text"].to_pylist()
    texts = [
        text if i % 4 else ("12?", f"{STRAY[i // 8 % len(STRAY)]} {text.split()[0]} thanks")[i // 4 % 2]
        for i, text in enumerate(texts)
    ]
    named = pa.array(["en" if i % 4 else None for i in range(contacts)], pa.string())
    told = replaced(replaced(content["contacts"], "intent_text", texts), "language", named)
    return {**content, "contacts": told, "customers": customers}


def without(content: dict[str, pa.Table], customer_id: str) -> dict[str, pa.Table]:
    """The tables of a centre that a customer never called."""
    contacts, moves, customers = (content[name] for name in ("contacts", "interactions", "customers"))
    stays = pc.fill_null(pc.not_equal(contacts["customer_id"], customer_id), True)
    contacts = contacts.filter(stays)
    return {
        **content,
        "contacts": contacts,
        "interactions": moves.filter(pc.is_in(moves["contact_id"], contacts["contact_id"])),
        "customers": customers.filter(pc.not_equal(customers["customer_id"], customer_id)),
    }


def cut(content: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """The tables of what was known before T."""
    moment = pa.scalar(T, pa.timestamp("us", "UTC"))
    contacts, moves = content["contacts"], content["interactions"]
    return {
        **content,
        "contacts": contacts.filter(pc.less(contacts["arrived_at"], moment)),
        "interactions": moves.filter(pc.less(moves["known_at"], moment)),
    }


def build(bundle: Path, data: Path, until: int | None = T, secret: bytes = SECRET) -> Customers:
    """The store of a centre until a moment."""
    log = Log.load(data, until)
    return build_customers(Bundle.open(bundle), log, secret, NULL_TIME if until is None else until)


def contacts_of(log: Log, positions: Any) -> list[dict[str, Any]]:
    """Contacts of a log as a router has them."""
    table, ids = log.contacts, log.customer_ids.to_pylist()
    texts = ("channel", "queue", "language", "intent", "intent_text", "transcript")
    return [
        {
            "contact_id": table.ids[i].as_py(),
            "customer_id": None if table.customer[i] < 0 else ids[table.customer[i]],
            "arrived_at": int(table.arrived_at[i]),
            **{name: getattr(table, name)[i].as_py() for name in texts},
        }
        for i in np.asarray(positions).tolist()
    ]


@pytest.fixture(scope="module")
def returning_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables."""
    return fakes.write_tables(tables(), tmp_path_factory.mktemp("returning") / "data")


@pytest.fixture(scope="module")
def bundle(returning_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the days before T, whose towers read every family of features."""
    folder = tmp_path_factory.mktemp("returning")
    return fakes.fake_bundle(fakes.write_run(returning_data, folder / "run", families=fakes.ALL), folder / "bundle")


@pytest.fixture(scope="module")
def file(bundle: Path, returning_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the days before T."""
    path = tmp_path_factory.mktemp("store") / "customers"
    build(bundle, returning_data).save(path)
    return path
