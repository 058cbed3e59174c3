"""The decision log: what a router's decision leaves in the database, and what the router never notices."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from serve.answer import Candidate
from serve.explore import Explorer
from serve.explore_options import Exploration
from serve.store.records import Decided, uuid7
from serve.store.store import Store
from serve.store.tables import contacts, decisions
from tests.serve.store import told
from tests.support import at
from twotower.errors import ConfigError


def test_a_decision_is_stored_as_it_was_made(store: Store) -> None:
    name = store.log.decided(told.decided(arm="greedy", seed=3, salt="1:ab", urgent=False, attempt=1))
    assert store.log.flush()
    [row] = told.rows(store, decisions)
    assert json.loads(row.pop("candidates")) == [["ada", 1.5, 0.75, 0.9], ["bob", 0.5, 0.5, 0.1]]
    assert json.loads(row.pop("eligible")) == ["ada", "bob", "cy"]
    assert row == {
        "decision_id": name, "contact_id": "c1", "decided_at": at(0), "attempt": 1, "urgent": False, "chosen": "ada",
        "policy": "explore-uniform", "propensity": 0.9, "arm": "greedy", "seed": 3, "salt": "1:ab", "model": "bundle-1",
        "roster_version": 7, "fallback": None,
    }  # fmt: skip


def test_text_is_stored_masked_and_never_as_it_came(masking: Store, tmp_path: Path) -> None:
    store = masking
    store.log.decided(told.decided())
    assert store.log.flush()
    [row] = told.rows(store, contacts)
    assert row["intent_text"] == "My card was charged twice, call me at [phone]"
    assert row["transcript"] == ""
    for file in tmp_path.glob("store.db*"):
        assert told.PHONE.encode() not in file.read_bytes()


def test_text_can_be_kept_out_altogether(store: Store) -> None:
    store.log.decided(told.decided())
    assert store.log.flush()
    assert [row["intent_text"] for row in told.rows(store, contacts)] == [""]
    assert store.log.text_counts.accepted == 0


def test_redaction_that_is_switched_off_is_refused(tmp_path: Path) -> None:
    from twotower.redaction.config import RedactionConfig

    with pytest.raises(ConfigError, match="switched off"):
        Store.open(f"sqlite:///{tmp_path / 'store.db'}", redaction=RedactionConfig(enabled=False))


def test_a_decision_that_is_told_again_counts_once(store: Store) -> None:
    one = told.decided()
    for _ in range(3):
        store.log.decided(one)
    assert store.log.flush()
    assert told.count(store, decisions) == 1
    assert store.log.counts.written == 3


def test_the_first_telling_of_a_contact_stands(masking: Store) -> None:
    store = masking
    store.log.decided(told.decided(contact={"channel": "chat"}))
    store.log.decided(told.decided(contact={"channel": "call", "intent_text": "another"}))
    assert store.log.flush()
    store.log.decided(told.decided(contact={"channel": "e-mail"}))
    assert store.log.flush()
    [row] = told.rows(store, contacts)
    assert row["channel"] == "chat"
    assert row["intent_text"].startswith("My card")
    assert told.count(store, decisions) == 3


def test_what_the_caller_changes_afterwards_is_not_seen(store: Store) -> None:
    contact = {"contact_id": "c1", "channel": "chat"}
    store.log.decided(Decided(contact, []))
    contact["channel"] = "call"
    assert store.log.flush()
    assert [row["channel"] for row in told.rows(store, contacts)] == ["chat"]


def test_who_was_eligible_may_be_listed_later(store: Store) -> None:
    asked: list[str] = []

    def listed() -> list[str]:
        asked.append(threading.current_thread().name)
        return ["ada"]

    store.log.decided(told.decided(eligible=listed))
    assert store.log.flush()
    assert asked == ["decisions"]
    assert [row["eligible"] for row in told.rows(store, decisions)] == ['["ada"]']


def test_a_contact_without_an_id_stands_under_the_decisions(store: Store) -> None:
    name = store.log.decided(Decided({"channel": "chat"}, [], eligible=None))
    assert store.log.flush()
    assert [row["contact_id"] for row in told.rows(store, contacts)] == [name]
    [row] = told.rows(store, decisions)
    assert row["eligible"] is None


@pytest.mark.parametrize(
    "odd",
    [
        {"contact_id": "no\0"},
        {"contact_id": 7},
        {"contact_id": "x" * 600},
        {"contact_id": "c2", "arrived_at": "noon"},
        {"contact_id": "c2", "customer_id": ["anna"]},
    ],
    ids=repr,
)
def test_what_no_database_holds_is_lost_alone_and_counted(store: Store, odd: dict[str, object]) -> None:
    for contact in ({}, odd, {"contact_id": "c3"}):
        store.log.decided(told.decided(contact=contact))
    assert store.log.flush()
    assert [row["contact_id"] for row in told.rows(store, contacts)] == ["c1", "c3"]
    counts = store.log.counts
    assert (counts.accepted, counts.written, counts.lost, counts.waiting) == (3, 2, 1, 0)


def test_odd_values_of_a_contact_are_null(masking: Store) -> None:
    store = masking
    odd = {"channel": 3, "priority": float("nan"), "intent_text": None, "transcript": "a\0b\ud800c", "language": ""}
    store.log.decided(told.decided(contact=odd, propensity=float("inf")))
    assert store.log.flush()
    [row] = told.rows(store, contacts)
    assert [row[name] for name in ("channel", "priority", "intent_text", "language")] == [None, None, "", None]
    assert row["transcript"] == "a�b�c"
    assert told.rows(store, decisions)[0]["propensity"] is None


def test_nothing_is_raised_into_the_router(store: Store) -> None:
    store.log.decided(Decided(None, []))  # type: ignore[arg-type]
    assert store.log.counts.lost == 1
    store.close()
    store.log.decided(told.decided())
    assert store.log.counts.lost == 2


def test_what_does_not_fit_into_the_queue_is_lost_and_counted(url: str) -> None:
    with Store.open(url, text="none", bound=5) as store, store.engine.begin() as connection:
        connection.execute(text("UPDATE twotower_contacts SET channel = ''"))  # SQLite: holds the lock to write
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE twotower_decisions"))
        for number in range(5 + 64 + 20):
            store.log.decided(told.decided(f"c{number}"))
        counts = store.log.counts
        assert counts.accepted + counts.lost == 89
        assert counts.lost >= 20
        assert counts.waiting <= 5 + 64
        connection.rollback()
        assert store.log.flush()
        assert store.log.counts.written == counts.accepted
        assert told.count(store, decisions) == counts.accepted


def test_an_explored_decision_brings_its_chances(store: Store) -> None:
    explorer = Explorer(Exploration(policy="uniform", share=1.0, uniform=1.0, most_loss=1.0), b"k" * 16)
    candidates = [Candidate(name, p, p, 0.1, ()) for name, p in (("ada", 0.75), ("bob", 0.5))]
    decision = explorer.choose("c9", candidates, urgent=False, attempt=2)
    store.log.decided(Decided.explored({"channel": "chat"}, candidates, decision, eligible=["ada", "bob"], model="m"))
    assert store.log.flush()
    [row] = told.rows(store, decisions)
    assert json.loads(row["candidates"]) == [["ada", 0.75, 0.75, 0.5], ["bob", 0.5, 0.5, 0.5]]
    assert (row["chosen"], row["propensity"], row["policy"]) == (decision.csa_id, 0.5, decision.policy)
    assert (row["arm"], row["salt"], row["attempt"], row["urgent"]) == ("uniform", decision.salt, 2, False)


def test_ids_are_new_and_in_the_order_of_time() -> None:
    made = [uuid7() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert [name[14] for name in made] == ["7"] * 1000
    assert {name[19] for name in made} <= set("89ab")
    assert [name[:13] for name in made] == sorted(name[:13] for name in made)
