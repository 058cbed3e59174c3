"""Contact records of Amazon Connect: what becomes of which field, and of records that belong together."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.twotower.imports.conftest import SECRET, Place
from tests.twotower.imports.exports import agent, at, contact, micros
from twotower.errors import DataError
from twotower.imports.customers import CustomerKeys

ADA = agent("ada", 40, talk=100, hold=10, acw=20)
ONE = contact("c1", 0, ADA)


def with_map(**options: Any) -> dict[str, Any]:
    return {"source": "connect", "connect": options}


def test_a_contact_and_its_hand_over(place: Place) -> None:
    done = place.connect(ONE)
    assert done.one() == {
        "contact_id": "c1",
        "customer_id": CustomerKeys(SECRET).key("+442071838750"),
        "arrived_at": micros(10),  # when it was queued, not when the flow began
        "channel": "VOICE",
        "queue": "Cards",
        "language": None,
        "intent": None,
        "intent_text": "",
        "transcript": "",
        "priority": None,
        "abandoned_at": None,
        "eligible": None,
    }
    assert done.one("interactions") == {
        "contact_id": "c1",
        "csa_id": "ada",
        "assigned_at": micros(40),
        "ended_at": micros(170),  # when the after-contact work ended
        "known_at": None,
        "resolved": None,
        "csat": None,
        "quality_score": None,
        "handle_time_s": 130.0,
        "transferred": False,
        "policy": None,
        "propensity": None,
    }


def test_the_csa_that_a_hand_over_shows(place: Place) -> None:
    row = place.connect(ONE).one("csas")
    assert row == {
        "csa_id": "ada",
        "valid_from": None,
        "hired_at": micros(40),
        "left_at": None,
        "site": "London",
        "team": "Cards",
        "languages": [],
        "skills": [{"name": "Cards", "level": 1.0}],
        "profile": "Basic Routing Profile",
        "capacity": 1,
        "kind": None,
        "cost": None,
    }


def test_the_latest_delivery_counts_whatever_the_order(place: Place) -> None:
    early = ONE | {"LastUpdateTimestamp": at(500)}
    late = ONE | {"LastUpdateTimestamp": at(900), "Channel": "CHAT"}
    for n, records in enumerate(permutations([early, late, early])):
        place.output = place.folder / f"out{n}"
        done = place.connect(*records)
        assert done.one()["channel"] == "CHAT"
        assert done.notes("left out") == {"older deliveries of a contact record": 2}


def test_a_transfer_is_one_contact_with_two_hand_overs(place: Place) -> None:
    first = contact("c1", 0, ADA, NextContactId="c2")
    second = contact("c2", 150, agent("bob", 200), InitialContactId="c1", PreviousContactId="c1",
                     InitiationMethod="TRANSFER", Queue={"Name": "Fraud", "EnqueueTimestamp": at(160)})  # fmt: skip
    third = contact("c3", 300, agent("cy", 340), InitialContactId="c1", PreviousContactId="c2",
                    InitiationMethod="TRANSFER")  # fmt: skip
    done = place.connect(third, first, second)
    assert done.one()["contact_id"] == "c1"
    assert done.one()["arrived_at"] == micros(10)
    assert [(row["csa_id"], row["transferred"]) for row in done.rows("interactions")] == [
        ("ada", True), ("bob", True), ("cy", False),
    ]  # fmt: skip
    skills = {row["csa_id"]: [one["name"] for one in row["skills"]] for row in done.rows("csas")}
    assert skills == {"ada": ["Cards"], "bob": ["Fraud"], "cy": ["Cards"]}


def test_chains_that_name_the_record_before_alone_are_joined(place: Place) -> None:
    sent_on = [contact(f"c{n}", 100 * n, agent("bob", 100 * n + 40), PreviousContactId=f"c{n - 1}",
                       InitiationMethod="TRANSFER") for n in range(2, 6)]  # fmt: skip
    done = place.connect(*reversed(sent_on), contact("c1", 0, ADA))
    assert done.one()["contact_id"] == "c1"
    assert len(done.rows("interactions")) == 5


def test_records_in_a_circle_are_one_contact(place: Place) -> None:
    legs = [contact(name, 100 * n, agent("ada", 100 * n + 40), PreviousContactId=before)
            for n, (name, before) in enumerate([("b", "c"), ("c", "a"), ("a", "b"), ("d", "a")])]  # fmt: skip
    done = place.connect(*legs)
    assert done.one()["contact_id"] == "a"
    assert done.notes("repaired") == {"transfer chains that lead in a circle: one contact": 4}


def test_a_chain_whose_beginning_is_not_there(place: Place) -> None:
    done = place.connect(contact("c2", 150, ADA | {"ConnectedToAgentTimestamp": at(200)}, InitialContactId="c1",
                                 PreviousContactId="c1", InitiationMethod="TRANSFER"))  # fmt: skip
    assert done.one()["contact_id"] == "c1"
    assert "chains whose first record is not in the export: made of the others" in done.notes("guessed")


def test_who_gave_up_in_the_queue(place: Place) -> None:
    done = place.connect(ONE, contact("c2", 1000, None))
    assert {row["contact_id"]: row["abandoned_at"] for row in done.rows("contacts")} == {"c1": None, "c2": micros(1400)}


def test_a_survey_behind_who_gave_up_moves_nothing(place: Place) -> None:
    """The flow that runs after the customer left is a record of its own, which ends later."""
    survey = contact("s", 1400, None, Queue=None, InitialContactId="c2", PreviousContactId="c2",
                     InitiationMethod="DISCONNECT")  # fmt: skip
    done = place.connect(ONE, contact("c2", 1000, None, NextContactId="s"), survey)
    assert [row["abandoned_at"] for row in done.rows("contacts")] == [None, micros(1400)]


OUTSIDE = {"TransferredToEndpoint": {"Address": "+18002430000", "Type": "TELEPHONE_NUMBER"}}


@pytest.mark.parametrize(
    "more",
    [{"DisconnectReason": "CONTACT_FLOW_DISCONNECT"}, {"NextContactId": "c9"}, OUTSIDE],
    ids=["flow", "next", "out"],
)
def test_who_did_not_give_up_though_nobody_came(place: Place, more: dict[str, Any]) -> None:
    done = place.connect(ONE, contact("c2", 1000, None, **more))
    assert [row["abandoned_at"] for row in done.rows("contacts")] == [None, None]
    assert sum("not given up by the customer" in reason for reason in done.notes("guessed")) == 1


def test_what_is_no_matter_of_choosing_is_left_out(place: Place) -> None:
    done = place.connect(
        ONE,
        contact("out", 500, agent("bob", 540), InitiationMethod="OUTBOUND"),
        contact("ear", 600, agent("boss", 640), InitiationMethod="MONITOR"),
        contact("ivr", 700, None, Queue=None),
    )
    assert done.one()["contact_id"] == "c1"
    assert [row["csa_id"] for row in done.rows("csas")] == ["ada"]
    assert done.notes("left out") == {
        "contacts that an agent began, for which nobody was chosen": 1,
        "supervisors who listened in": 1,
        "contacts that were never queued and met no agent": 1,
    }


def test_a_queued_callback_belongs_to_the_call(place: Place) -> None:
    done = place.connect(
        contact("c1", 0, None, NextContactId="c2", DisconnectReason="CUSTOMER_DISCONNECT"),
        contact(
            "c2", 60, agent("ada", 900), InitialContactId="c1", PreviousContactId="c1", InitiationMethod="CALLBACK"
        ),
    )
    assert done.one()["abandoned_at"] is None
    assert [row["assigned_at"] for row in done.rows("interactions")] == [micros(900)]


def test_a_transfer_out_of_connect(place: Place) -> None:
    done = place.connect(ONE | {"TransferredToEndpoint": {"Address": "+18002430000", "Type": "TELEPHONE_NUMBER"}})
    assert done.one("interactions")["transferred"] is True


def test_agents_by_their_user_name(place: Place) -> None:
    assert place.connect(ONE, mapping=with_map(csa_id="username")).one("interactions")["csa_id"] == "ADA"


def test_an_agent_without_an_arn(place: Place) -> None:
    done = place.connect(contact("c1", 0, {key: value for key, value in ADA.items() if key != "ARN"}))
    assert done.one("interactions")["csa_id"] == "ADA"
    assert "csa_id: no arn is stated; the other name of the agent" in done.notes("guessed")


def test_an_agents_own_queue_is_none(place: Place) -> None:
    queue = {"ARN": ONE["Queue"]["ARN"].replace("/queue/7", "/queue/agent/ada"), "Name": None,
             "EnqueueTimestamp": at(10)}  # fmt: skip
    assert place.connect(ONE | {"Queue": queue}).one()["queue"] is None


def test_attributes_by_the_map(place: Place) -> None:
    attributes = {"lang": "Spanish", "why": "lost card", "said": "my card is lost", "prio": "2", "ok": "yes",
                  "stars": "8", "mail": "Ana@Example.com", "seconds": "2:10"}  # fmt: skip
    mapping = with_map(
        attributes={
            "language": "lang", "intent": "why", "intent_text": "said", "priority": "prio", "resolved": "ok",
            "csat": {"from": "stars", "scale": [0, 10]}, "customer_id": "mail", "handle_time_s": "seconds",
        }
    )  # fmt: skip
    done = place.connect(ONE | {"Attributes": attributes}, mapping=mapping)
    told = done.one()
    assert (told["language"], told["intent"], told["intent_text"], told["priority"]) == (
        "es", "lost card", "my card is lost", 2.0,
    )  # fmt: skip
    assert told["customer_id"] == CustomerKeys(SECRET).key("ana@example.com")
    ended = done.one("interactions")
    assert (ended["resolved"], ended["csat"], ended["handle_time_s"]) == (True, 4.2, 130.0)
    assert ended["known_at"] == micros(460)  # when the record was last updated: outcomes may come late


def test_what_no_column_takes_is_listed(place: Place) -> None:
    mapping = with_map(attributes={"intent": "why"})
    records = [
        ONE | {"Attributes": {"why": "x", "path": "1"}},
        contact("c2", 900, ADA, Attributes={"path": 2, "other": ""}),
    ]
    done = place.connect(*records, mapping=mapping, tolerate=1.0)
    assert done.outcome.unused == {"attribute other": 1, "attribute path": 2}
    assert "no column takes: attribute other (1), attribute path (2)" in done.outcome.text()


def test_names_that_no_column_takes_are_counted_together_from_some_on(place: Place) -> None:
    done = place.connect(ONE | {"Attributes": {f"a{n}": "x" for n in range(300)}})
    assert len(done.outcome.unused) == 201
    assert done.outcome.unused["others"] == 100


def test_an_attribute_that_cannot_be_costs_itself(place: Place) -> None:
    mapping = with_map(attributes={"csat": "stars"})
    done = place.connect(ONE | {"Attributes": {"stars": "seven"}}, mapping=mapping)
    assert done.one("interactions")["csat"] is None
    assert done.notes("repaired") == {"csat from stars: is no number; left out": 1}


def test_attributes_of_later_records_tell_of_no_arrival(place: Place) -> None:
    """What a later record says of the need was said to a CSA."""
    mapping = with_map(attributes={"intent": "why"})
    later = contact("c2", 150, agent("bob", 200), InitialContactId="c1", PreviousContactId="c1",
                    InitiationMethod="TRANSFER", Attributes={"why": "fraud"})  # fmt: skip
    assert place.connect(ONE, later, mapping=mapping).one()["intent"] is None


def test_a_survey_after_the_call_rates_the_last_hand_over(place: Place) -> None:
    mapping = with_map(attributes={"csat": "stars", "resolved": "ok"})
    second = contact("c2", 150, agent("bob", 200), InitialContactId="c1", PreviousContactId="c1",
                     InitiationMethod="TRANSFER")  # fmt: skip
    survey = contact("c3", 600, None, Queue=None, InitialContactId="c1", PreviousContactId="c2",
                     InitiationMethod="DISCONNECT", Attributes={"stars": 5, "ok": "no"})  # fmt: skip
    first, last = place.connect(ONE, second, survey, mapping=mapping).rows("interactions")
    assert (last["csat"], last["resolved"], last["known_at"]) == (5.0, False, micros(1060))
    # Sent on without being solved, which is known when it was.
    assert (first["csat"], first["resolved"], first["known_at"]) == (None, False, micros(170))


def test_resolved_by_the_customer_not_coming_again(place: Place) -> None:
    mapping = with_map(resolved_without_contact_h=1)
    other = {"CustomerEndpoint": {"Address": "+34600112233", "Type": "TELEPHONE_NUMBER"}}
    records = [
        contact("a", 0, agent("ada", 40)),  # comes again after 30 minutes
        contact("b", 1800, agent("bob", 1840)),  # comes again after more than an hour
        contact("c", 9000, agent("cy", 9040)),  # the export ends before an hour has passed
        contact("d", 9100, agent("cy", 9140), **other),
        contact("e", 10_000, agent("cy", 10_040), CustomerEndpoint=None),
    ]
    done = place.connect(*records, mapping=mapping)
    told = {row["contact_id"]: (row["resolved"], row["known_at"]) for row in done.rows("interactions")}
    assert told == {
        "a": (False, micros(1810)),  # known when the customer was there again
        "b": (True, micros(1960 + 3600)),  # known when the hour had passed
        "c": (None, None),
        "d": (None, None),
        "e": (None, None),
    }


def test_the_words_of_a_task(place: Place) -> None:
    words = {"Name": "Send a new card", "Description": "to the old address"}
    done = place.connect(contact("t", 0, ADA, Channel="TASK", CustomerEndpoint=None, ContactDetails=words))
    assert done.one()["intent_text"] == "Send a new card\nto the old address"
    assert done.one()["customer_id"] is None


def test_times_in_other_zones_and_without_one_are_utc(place: Place) -> None:
    queue = ONE["Queue"] | {"EnqueueTimestamp": "2026-01-05T10:00:10+01:00"}
    served = ADA | {"ConnectedToAgentTimestamp": "2026-01-05 09:00:40.000"}
    done = place.connect(ONE | {"Queue": queue, "Agent": served})
    assert done.one()["arrived_at"] == micros(10)
    assert done.one("interactions")["assigned_at"] == micros(40)


def test_clocks_that_differ_by_seconds_move_the_arrival(place: Place) -> None:
    done = place.connect(contact("c1", 0, agent("ada", 5)))
    assert done.one()["arrived_at"] == micros(5)
    assert done.notes("repaired") == {"agents connected up to a minute before the contact arrived: arrived then": 1}


def test_clocks_that_differ_by_more_damage_the_contact(place: Place) -> None:
    done = place.connect(ONE, contact("c2", 1000, agent("ada", 100)), tolerate=1.0)
    assert done.one()["contact_id"] == "c1"
    assert done.notes("damaged") == {"contacts whose agent was connected over a minute before they began": 1}


def test_straight_to_an_agent_who_sent_it_to_a_queue(place: Place) -> None:
    straight = contact("c1", 0, agent("ada", 3), Queue=None)
    second = contact("c2", 150, agent("bob", 250), InitialContactId="c1", PreviousContactId="c1",
                     InitiationMethod="TRANSFER")  # fmt: skip
    done = place.connect(straight, second)
    assert done.one()["arrived_at"] == micros(0)
    assert [row["csa_id"] for row in done.rows("interactions")] == ["ada", "bob"]


def test_negative_durations_and_ends_before_the_beginning(place: Place) -> None:
    served = ADA | {"AgentInteractionDuration": -7, "AfterContactWorkEndTimestamp": at(20),
                    "AfterContactWorkStartTimestamp": None}  # fmt: skip
    row = place.connect(ONE | {"Agent": served})
    assert row.one("interactions")["ended_at"] is None
    assert row.one("interactions")["handle_time_s"] == 30.0
    assert row.notes("repaired") == {
        "AgentInteractionDuration is negative: left out": 1,
        "hand-overs that ended before they began: the end is left out": 1,
    }


def test_a_record_without_an_id_is_damaged(place: Place) -> None:
    broken = [None, "", "  ", 7.5, "x" * 300, "a\ud800b", ["c1"]]
    done = place.connect(ONE, *(ONE | {"ContactId": one} for one in broken), tolerate=1.0)
    assert done.one()["contact_id"] == "c1"
    assert sum(done.notes("damaged").values()) == len(broken)


def test_a_contact_without_any_time_is_damaged(place: Place) -> None:
    nothing = ONE | {"ContactId": "c2", "Queue": {"EnqueueTimestamp": "soon"}, "Agent": None,
                     "ConnectedToSystemTimestamp": "9999-12-31T00:00:00Z", "InitiationTimestamp": None}  # fmt: skip
    done = place.connect(ONE, nothing, tolerate=1.0)
    assert done.notes("damaged") == {"contacts without a time at which they began": 1}
    assert done.notes("repaired") == {
        "ConnectedToSystemTimestamp is a time outside of 1980 to 2100: left out": 1,
        "EnqueueTimestamp is no time: left out": 1,
    }


def test_callers_who_show_no_number(place: Place) -> None:
    done = place.connect(ONE | {"CustomerEndpoint": {"Address": "anonymous", "Type": "TELEPHONE_NUMBER"}})
    assert done.one()["customer_id"] is None
    assert done.notes("repaired") == {"callers who show no number: no customer": 1}


def test_no_number_and_no_address_is_written_anywhere(place: Place) -> None:
    records = [ONE, contact("c2", 500, agent("bob", 540), Channel="EMAIL",
                            CustomerEndpoint={"Address": "ana@example.com", "Type": "EMAIL_ADDRESS"})]  # fmt: skip
    done = place.connect(*records)
    for file in done.folder.iterdir():
        content = file.read_bytes()
        if file.suffix == ".parquet":
            content = json.dumps(pq.read_table(file).to_pylist(), default=str).encode()
        assert b"2071838750" not in content
        assert b"ana@example" not in content


def test_a_chain_without_end_is_cut(place: Place) -> None:
    legs = [contact(f"c{n}", n, None, InitialContactId="c0" if n else None) for n in range(600)]
    done = place.connect(ONE | {"ContactId": "x"}, *legs, tolerate=1.0)
    assert done.notes("damaged") == {"records of a chain beyond its first 500": 100}


def test_objects_that_are_something_else(place: Place) -> None:
    done = place.connect(ONE, {"hello": "world"}, tolerate=1.0)
    assert done.notes("damaged") == {"objects that are neither a contact record nor a transcript": 1}


def test_nothing_usable_is_one_line(place: Place) -> None:
    with pytest.raises(DataError, match="no contact came of them; mostly contacts that an agent began"):
        place.connect(ONE | {"InitiationMethod": "OUTBOUND"})
    assert not place.output.exists()
