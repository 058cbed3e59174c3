"""Feedback: what was told stands, more adds to it, the same again changes nothing, otherwise is refused by name."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from serve.store.errors import Conflict, InvalidFact
from serve.store.records import Feedback
from serve.store.store import Store
from serve.store.tables import abandoned, facts, handovers
from tests.serve.store import told
from tests.support import at


def test_feedback_adds_up(store: Store) -> None:
    assert store.feedback(told.feedback(policy="queue", propensity=0.5)) == 1
    assert store.feedback(told.feedback(ended_at=at(5), handle_time_s=200)) == 1
    assert store.feedback(told.feedback(known_at=at(90), resolved=True)) == 1
    assert store.feedback(told.feedback(known_at=at(900), csat=4, decision_id="d1")) == 1
    [row] = told.rows(store, handovers)
    assert row == {
        "contact_id": "c1", "csa_id": "ada", "assigned_at": at(1), "decision_id": "d1", "policy": "queue",
        "propensity": 0.5,
    }  # fmt: skip
    kept = [{name: value for name, value in row.items() if value is not None} for row in told.rows(store, facts)]
    found = sorted(
        (told.without(row, "feedback_id", "told", "stored_at", "contact_id", "csa_id", "assigned_at") for row in kept),
        key=str,
    )
    assert found == sorted(
        [
            {"ended_at": at(5), "known_at": at(5), "handle_time_s": 200.0},
            {"known_at": at(90), "resolved": True},
            {"known_at": at(900), "csat": 4.0},
        ],
        key=str,
    )


def test_the_same_again_changes_nothing(store: Store) -> None:
    one = told.feedback(ended_at=at(5), resolved=False, policy="queue")
    assert [store.feedback(one) for _ in range(3)] == [1, 0, 0]
    assert store.feedback(told.feedback(known_at=at(7), resolved=False)) == 0  # known since earlier
    assert store.feedback(told.feedback()) == 0
    assert told.count(store, facts) == told.count(store, handovers) == 1


@pytest.mark.parametrize(
    ("name", "otherwise"),
    [
        ("resolved", {"resolved": False, "known_at": at(9)}),
        ("ended_at", {"ended_at": at(6)}),
        ("csat", {"csat": 2, "known_at": at(9)}),
        ("policy", {"policy": "another"}),
        ("propensity", {"propensity": 0.25}),
        ("decision_id", {"decision_id": "d2"}),
    ],
)
def test_a_repeat_that_says_otherwise_is_refused_by_name(store: Store, name: str, otherwise: dict[str, object]) -> None:
    first = {"policy": "queue", "propensity": 0.5, "decision_id": "d1"}
    store.feedback(told.feedback(ended_at=at(5), resolved=True, csat=3, **first))
    with pytest.raises(Conflict, match=f"field {name}"):
        store.feedback(told.feedback(**otherwise))
    assert told.count(store, facts) == 1


def test_several_are_stored_together_or_not_at_all(store: Store) -> None:
    store.feedback(told.feedback("c2", ended_at=at(5), resolved=True))
    with pytest.raises(Conflict, match="c2 to ada"):
        store.feedback(
            told.feedback("c1", ended_at=at(5), resolved=True),
            told.feedback("c2", ended_at=at(5), resolved=False),
            told.feedback("c3", ended_at=at(5), resolved=True),
        )
    assert [row["contact_id"] for row in told.rows(store, handovers)] == ["c2"]
    assert store.feedback(told.feedback("c1"), told.feedback("c2"), told.feedback("c3")) == 2
    assert store.feedback() == 0


def test_the_senders_key_counts_once(store: Store) -> None:
    one = told.feedback(ended_at=at(5), resolved=True, feedback_id="f1")
    assert [store.feedback(one), store.feedback(one)] == [1, 0]
    assert store.feedback(told.feedback(ended_at=at(5), resolved=True, feedback_id="f2")) == 0
    with pytest.raises(Conflict, match="'f1', field contact_id"):
        store.feedback(told.feedback("c2", ended_at=at(5), resolved=True, feedback_id="f1"))
    with pytest.raises(Conflict, match="'f1', field resolved"):
        store.feedback(told.feedback(ended_at=at(5), feedback_id="f1"))
    assert [row["contact_id"] for row in told.rows(store, handovers)] == ["c1"]


def test_a_csa_may_get_a_contact_twice(store: Store) -> None:
    store.feedback(told.feedback(minute=1, ended_at=at(5), resolved=False))
    store.feedback(told.feedback(minute=9, ended_at=at(12), resolved=True))
    assert told.count(store, handovers) == 2


def test_of_two_who_tell_different_things_at_once_one_is_refused(store: Store) -> None:
    said: list[str] = []
    together = threading.Barrier(2)

    def tell(resolved: bool) -> None:
        together.wait()
        try:
            store.feedback(told.feedback(ended_at=at(5), resolved=resolved))
            said.append("stored")
        except Conflict:
            said.append("refused")

    threads = [threading.Thread(target=tell, args=(resolved,)) for resolved in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["refused", "stored"]
    assert told.count(store, facts) == 1


def test_giving_up_is_told_once(store: Store) -> None:
    assert store.abandoned("c1", at(3))
    assert not store.abandoned("c1", datetime.fromtimestamp(at(3) / 1e6, UTC))
    with pytest.raises(Conflict, match="abandoned_at"):
        store.abandoned("c1", at(4))
    assert told.rows(store, abandoned) == [{"contact_id": "c1", "abandoned_at": at(3)}]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"csa_id": None}, "'csa_id' is missing"),
        ({"contact_id": ""}, "contact_id: ''"),
        ({"contact_id": "a\0b"}, "without NUL"),
        ({"assigned_at": "noon"}, "assigned_at"),
        ({"assigned_at": datetime(2026, 1, 1)}, "zone"),
        ({"ended_at": 10**18}, "ended_at"),
        ({"ended_at": at(0)}, "earlier than assigned_at"),
        ({"known_at": at(0), "resolved": True}, "earlier than assigned_at"),
        ({"resolved": True}, "known_at: missing"),
        ({"resolved": 1, "ended_at": at(5)}, "resolved: 1"),
        ({"csat": 6, "ended_at": at(5)}, "csat: 6"),
        ({"csat": True, "ended_at": at(5)}, "csat: True"),
        ({"quality_score": float("nan"), "ended_at": at(5)}, "quality_score: nan"),
        ({"handle_time_s": "7", "ended_at": at(5)}, "handle_time_s: '7'"),
        ({"handle_time_s": 10**400, "ended_at": at(5)}, "handle_time_s: a whole number"),
        ({"propensity": 0.0}, "propensity: 0.0"),
        ({"resolvd": True}, "'resolvd' is not known"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidFact, match=why):
        Feedback.of({"contact_id": "c1", "csa_id": "ada", "assigned_at": at(1), **fields})
