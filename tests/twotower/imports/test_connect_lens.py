"""Contact Lens: only what was said before a CSA was chosen goes into the transcript."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.twotower.imports.conftest import Imported, Place
from tests.twotower.imports.exports import agent, at, call, chat, contact, micros
from twotower.imports.connect_lens import as_text, before

ONE = contact("c1", 0, agent("ada", 40), Channel="CHAT")
TALK = [
    (1, "CUSTOMER", ""),
    (2, "SYSTEM", "Welcome"),
    (5, "CUSTOM_BOT", "How can I help?"),
    (20, "CUSTOMER", "My card is lost"),
    (39, "SYSTEM", "You are in the queue"),
    (41, "AGENT", ""),
    (42, "AGENT", "Hi, this is Ada"),
    (60, "CUSTOMER", "It was stolen"),
]
BEFORE = "system: Welcome\nbot: How can I help?\ncustomer: My card is lost\nsystem: You are in the queue"


def imported(place: Place, *records: Any, **more: Any) -> Imported:
    return place.connect(*records, redactor=None, **more)


def test_a_chat_until_the_agent(place: Place) -> None:
    done = imported(place, ONE, chat("c1", TALK))
    assert done.one()["transcript"] == BEFORE
    assert done.one()["intent_text"] == "My card is lost"
    assert done.one()["language"] == "en-US"
    assert "intent_text: the customer's first turn before an agent" in done.notes("guessed")


def test_the_customers_turns_alone(place: Place) -> None:
    mapping = {"source": "connect", "connect": {"turns": "customer"}}
    assert imported(place, ONE, chat("c1", TALK), mapping=mapping).one()["transcript"] == "My card is lost"


def test_the_time_cuts_where_the_agent_says_nothing(place: Place) -> None:
    """No turn of an agent anywhere: what was said after the contact was connected is left out all the same."""
    talk = [(20, "CUSTOMER", "My card is lost"), (40, "CUSTOMER", "hello?"), (40.001, "CUSTOMER", "is anybody there?")]
    assert imported(place, ONE, chat("c1", talk)).one()["transcript"] == "customer: My card is lost\ncustomer: hello?"


@pytest.mark.parametrize("role", ["AGENT", "SUPERVISOR"])
def test_an_agents_first_sign_cuts_where_the_times_are_wrong(place: Place, role: str) -> None:
    """Clock skew: the record says that the agent came later than the transcript shows."""
    talk = [(5, "CUSTOMER", "My card is lost"), (7, role, "Hi, this is Ada"), (9, "CUSTOMER", "It was stolen")]
    assert imported(place, ONE, chat("c1", talk)).one()["transcript"] == "customer: My card is lost"


def test_turns_are_no_buttons_and_no_files(place: Place) -> None:
    found = chat("c1", [(5, "CUSTOMER", "My card is lost")])
    other = dict(found["Transcript"][0])
    found["Transcript"] += [
        other | {"ContentType": "application/vnd.amazonaws.connect.message.interactive", "Content": '{"a": 1}'},
        other | {"Type": "ATTACHMENT", "Content": None},
        other | {"ContentType": "text/markdown", "Content": "**please**"},
        "no turn",
    ]
    assert imported(place, ONE, found).one()["transcript"] == "customer: My card is lost\ncustomer: **please**"


def test_a_call_is_recorded_from_the_agent_on_so_nothing_is_before(place: Place) -> None:
    said = call("c1", [(0, 900, "c", "Hello"), (1000, 2000, "a", "Hello, this is Ada"), (2100, 5000, "c", "My card")])
    done = imported(place, ONE | {"Channel": "VOICE"}, said)
    assert done.one()["transcript"] == ""
    assert done.one()["language"] == "en-GB"


def test_a_recording_of_the_flow_counts_from_its_own_beginning(place: Place) -> None:
    said = call("c1", [(0, 3000, "s", "What is it about?"), (4000, 8000, "c", "My card is lost"),
                       (39_000, 41_000, "c", "Hello? Is somebody"), (41_500, 42_000, "a", "Ada here")])  # fmt: skip
    recorded = {"Recordings": [
        {"MediaStreamType": "AUDIO", "ParticipantType": "IVR", "StartTimestamp": at(0), "Status": "AVAILABLE"},
        {"MediaStreamType": "AUDIO", "ParticipantType": "ALL", "StartTimestamp": at(40), "Status": "AVAILABLE"},
    ]}  # fmt: skip
    done = imported(place, ONE | recorded | {"Channel": "VOICE"}, said)
    # The turn that was still spoken when the agent was connected is not before it.
    assert done.one()["transcript"] == "system: What is it about?\ncustomer: My card is lost"


def test_participants_by_their_role_or_their_name(place: Place) -> None:
    """The documented example names participants by id and by role in the same file."""
    said = call("c1", [(0, 10, "CUSTOMER", "I am the customer"), (20, 30, "AGENT", "I am Ada")])
    done = imported(place, contact("c1", 0, None), contact("c2", 0, agent("ada", 40)), said)
    told = {row["contact_id"]: row["transcript"] for row in done.rows("contacts")}
    assert told == {"c1": "customer: I am the customer", "c2": ""}


def test_all_that_was_said_where_nobody_came(place: Place) -> None:
    talk = [(5, "CUSTOMER", "My card is lost"), (300, "CUSTOMER", "hello?")]
    done = imported(place, contact("c1", 0, None, Channel="CHAT"), contact("c2", 0, agent("ada", 40)), chat("c1", talk))
    told = {row["contact_id"]: row["transcript"] for row in done.rows("contacts")}
    assert told["c1"] == "customer: My card is lost\ncustomer: hello?"


def test_a_transfer_adds_nothing_that_was_said_to_the_first_csa(place: Place) -> None:
    second = contact("c2", 150, agent("bob", 200), InitialContactId="c1", PreviousContactId="c1",
                     InitiationMethod="TRANSFER", Channel="CHAT")  # fmt: skip
    later = chat("c2", [(160, "CUSTOMER", "still waiting"), (201, "AGENT", "Bob here")])
    assert imported(place, second, later, ONE, chat("c1", TALK)).one()["transcript"] == BEFORE


def test_the_transcript_may_come_first_and_in_another_file(place: Place) -> None:
    place.put("0/chat.json", json.dumps(chat("c1", TALK), indent=1))
    place.put("1/records.json", json.dumps(ONE))
    assert place.run("connect", redactor=None).one()["transcript"] == BEFORE


def test_of_two_versions_the_masked_one_is_taken_unless_texts_stay(place: Place, redactor: Any) -> None:
    raw = chat("c1", [(5, "CUSTOMER", "I am Ana Tester-Nobody")])
    masked = chat(
        "c1", [(5, "CUSTOMER", "I am [PII]")], ContentMetadata={"Output": "Redacted", "RedactionTypes": ["PII"]}
    )
    for n, (records, how) in enumerate([((ONE, raw, masked), redactor), ((ONE, masked, raw), redactor),
                                        ((ONE, raw, masked), None), ((ONE, masked, raw), None)]):  # fmt: skip
        place.output = place.folder / f"out{n}"
        done = place.connect(*records, redactor=how)
        assert ("PII" in done.one()["transcript"]) == (how is not None)
        assert done.notes("left out") == {"further transcripts of the same contact record": 1}


def test_transcripts_that_belong_to_nothing_or_failed(place: Place) -> None:
    done = imported(place, ONE, chat("c9", TALK), chat("c1", TALK, JobStatus="FAILED"))
    assert done.notes("left out") == {
        "transcripts of contacts without a contact record": 1,
        "transcripts whose analysis did not complete": 1,
    }
    assert done.one()["transcript"] == ""


def test_a_transcript_without_a_contact_id_is_damaged(place: Place) -> None:
    done = imported(place, ONE, chat("c1", TALK) | {"CustomerMetadata": {}}, tolerate=1.0)
    assert done.notes("damaged") == {"records without a CustomerMetadata.ContactId": 1}


def test_texts_are_masked(place: Place, redactor: Any) -> None:
    talk = [(5, "CUSTOMER", "my card 4111 1111 1111 1111 is lost, write to ana@example.com")]
    done = place.connect(ONE, chat("c1", talk), redactor=redactor)
    assert done.one()["transcript"] == "customer: my card [card] is lost, write to [email]"
    assert done.one()["intent_text"] == "my card [card] is lost, write to [email]"
    assert done.outcome.masked == {"card": 2, "email": 2}


def test_turns_at_the_very_moment() -> None:
    turns: list[Any] = [(None, 10, "customer", "a"), (None, 11, "customer", "b"), (5, None, "customer", "c")]
    assert before(turns, 10, None) == [("customer", "a")]
    assert before(turns, 10, 5) == [("customer", "a"), ("customer", "c")]
    assert [said for _, said in before(turns, None, None)] == ["a", "b", "c"]
    assert as_text([("system", "x"), ("customer", "y")], False) == "y"


def test_a_transcript_of_thousands_of_turns_is_cut(place: Place) -> None:
    talk = [(1, "CUSTOMER", f"turn {n}") for n in range(2_010)]
    done = imported(place, ONE, chat("c1", talk))
    assert done.one()["transcript"].count("\n") == 1_999
    assert "Transcript" not in str(done.notes("damaged"))
    assert sum("turns before an agent" in reason for reason in done.notes("repaired")) == 1
    assert micros(0) < done.one()["arrived_at"]
