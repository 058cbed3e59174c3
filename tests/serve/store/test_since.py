"""What was stored since: rows by when they were written, whatever moments they tell of."""

from __future__ import annotations

import pytest

from serve.store import feedback as storing
from serve.store import log
from serve.store.since import arrived_since, ended_since, known_since
from serve.store.store import Store
from tests.serve.store import told
from tests.support import at
from twotower.clock import NEVER, NULL_TIME


def arrivals(store: Store, stored_at: int = NULL_TIME, arrived_at: int = NEVER) -> list[str]:
    return [one["contact_id"] for one in arrived_since(store, stored_at, arrived_at, ())]


def test_contacts_come_once_they_are_stored_in_the_order_of_arrival(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour, (contact_id, minute) in enumerate([("c1", 5), ("c2", 3), ("c3", 4)]):
        monkeypatch.setattr(log, "now", lambda hour=hour: at(60 * hour))
        store.log.decided(told.decided(contact_id, minute))
        assert store.log.flush()
    store.log.decided(told.decided("c4", contact={"customer_id": None}))
    assert store.log.flush()
    assert arrivals(store) == ["c2", "c3", "c1"]
    assert arrivals(store, at(60)) == ["c2", "c3"]
    assert arrivals(store, NEVER, at(4)) == ["c1"]
    [found] = arrived_since(store, at(60), NEVER, {"c2"})
    assert (found["contact_id"], found["arrived_at"], found["stored_at"]) == ("c3", at(4), at(120))


def test_a_contact_is_found_when_its_text_is_masked(masking: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    masking.log._texts.close()
    masking.log.decided(told.decided("c1"))
    assert masking.log.flush()
    assert arrivals(masking) == []
    masking.contacts([{"contact_id": "c1", "customer_id": "anna", "arrived_at": at(0), "intent_text": told.TEXT}])
    [found] = arrived_since(masking, NULL_TIME, NEVER, ())
    assert told.PHONE not in found["intent_text"]
    assert found["intent_text"].startswith("My card")


def test_ends_come_with_their_contact_once_something_is_known(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.log.decided(told.decided("c1"))
    store.log.decided(told.decided("c2"))
    assert store.log.flush()
    for hour, fact in enumerate(
        [
            told.feedback("c1", ended_at=at(9), resolved=True),
            told.feedback("c2", ended_at=at(5)),
            told.feedback("c1", known_at=at(90), csat=4),
            told.feedback("c3", ended_at=at(5), resolved=True),
        ]
    ):
        monkeypatch.setattr(storing, "now", lambda hour=hour: at(60 * hour))
        assert store.feedback(fact) == 1
    [whole] = known_since(store, at(0))
    assert (whole.key, whole.known_at, whole.outcome) == (("c1", "ada", at(1)), at(90), {"resolved": True, "csat": 4.0})
    assert whole.contact["customer_id"] == "anna"
    [late] = ended_since(store, at(60), ())
    assert (late.key, late.outcome, late.stored_at) == (whole.key, {"csat": 4.0}, at(120))
    assert ended_since(store, at(0), {whole.key}) == []
    assert ended_since(store, at(121), ()) == []
