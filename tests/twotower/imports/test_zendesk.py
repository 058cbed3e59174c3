"""Zendesk tickets: hand-overs by audits and without, outcomes and when they became known, comments before an agent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.twotower.imports.conftest import SECRET, Imported, Place
from tests.twotower.imports.exports import audit, change, comment, lines, metric_set, micros, ticket
from twotower.imports.customers import CustomerKeys

DAY = 86_400
TICKET = ticket(1, 0)
METRICS = metric_set(1, 0)


def imported(place: Place, *records: Any, **more: Any) -> Imported:
    return place.zendesk(*records, redactor=None, **more)


def test_a_ticket_and_its_hand_over(place: Place) -> None:
    done = imported(place, TICKET | {"metric_set": METRICS})
    assert done.one() == {
        "contact_id": "1",
        "customer_id": CustomerKeys(SECRET).key("900", "id"),
        "arrived_at": micros(0),
        "channel": "email",
        "queue": "98",
        "language": None,
        "intent": None,
        "intent_text": "Card was charged twice",
        "transcript": "customer: I was charged twice for one order.",
        "priority": 2.0,
        "abandoned_at": None,
        "eligible": None,
    }
    assert done.one("interactions") == {
        "contact_id": "1",
        "csa_id": "11",
        "assigned_at": micros(600),
        "ended_at": micros(3600),
        "known_at": micros(90_000),  # the rating has no time of its own: the ticket's last change
        "resolved": True,
        "csat": 5.0,
        "quality_score": None,
        "handle_time_s": None,
        "transferred": False,
        "policy": None,
        "propensity": None,
    }


def outcome(place: Place, *records: Any, **more: Any) -> list[tuple[str, Any, Any]]:
    rows = imported(place, *records, **more).rows("interactions")
    return [(row["csa_id"], row["resolved"], row["known_at"]) for row in rows]


PLAIN = TICKET | {"satisfaction_rating": {"score": "unoffered"}}


def test_closed_is_known_when_it_was_closed(place: Place) -> None:
    assert outcome(place, PLAIN, METRICS) == [("11", True, micros(80_000))]


def test_solved_is_known_when_it_can_no_longer_be_opened_again(place: Place) -> None:
    assert outcome(place, PLAIN | {"status": "solved"}, METRICS) == [("11", True, micros(3600 + 4 * DAY))]


def test_the_days_of_waiting_are_the_maps(place: Place) -> None:
    mapping = {"source": "zendesk", "zendesk": {"reopen_days": 0}}
    assert outcome(place, PLAIN | {"status": "solved"}, METRICS, mapping=mapping) == [("11", True, micros(3600))]


def test_opened_again_is_not_resolved(place: Place) -> None:
    assert outcome(place, PLAIN, METRICS | {"reopens": 1}) == [("11", False, micros(80_000))]


@pytest.mark.parametrize("status", ["new", "open", "pending", "hold"])
def test_what_is_not_solved_is_not_known(place: Place, status: str) -> None:
    assert outcome(place, PLAIN | {"status": status}, METRICS | {"solved_at": None}) == [("11", None, None)]


def test_without_metrics_times_are_guessed(place: Place) -> None:
    done = imported(place, PLAIN)
    row = done.one("interactions")
    assert (row["assigned_at"], row["resolved"], row["known_at"]) == (micros(0), True, micros(90_000))
    assert set(done.notes("guessed")) >= {
        "assigned_at: neither audits nor metrics; when the ticket came",
        "resolved: no time at which it was solved; the last change",
        "resolved: nothing tells of re-opened tickets; solved counts",
    }


AUDITS = [
    audit(1, 1, 0, change("assignee_id", None, kind="Create"), change("status", "new", kind="Create"), author=900),
    audit(1, 2, 600, change("assignee_id", "11"), change("status", "open", "new")),
    audit(1, 3, 2000, change("assignee_id", "12", "11")),
    audit(1, 4, 5000, change("status", "solved", "open"), author=12),
    audit(1, 5, 200_000, change("status", "closed", "solved"), author=-1),
]


@pytest.mark.parametrize("how", ["own objects", "inside of the ticket", "a page", "ticket events"])
def test_reassignments_by_audits_wherever_they_stand(place: Place, how: str) -> None:
    ticket = PLAIN | {"assignee_id": 12}
    if how == "own objects":
        records: list[Any] = [*reversed(AUDITS), ticket, METRICS]
    elif how == "inside of the ticket":
        records = [ticket | {"audits": AUDITS}, METRICS]
    elif how == "a page":
        records = [{"count": 1, "tickets": [ticket]}, {"ticket_audits": AUDITS, "after_url": None}, METRICS]
    else:
        events = [
            {"id": one["id"], "ticket_id": 1, "created_at": one["created_at"], "timestamp": 1, "event_type": "Audit",
             "child_events": [{"id": event["id"], "event_type": event["type"], event["field_name"]: event["value"],
                               "previous_value": event["previous_value"]} for event in one["events"]]}
            for one in AUDITS
        ]  # fmt: skip
        records = [{"ticket_events": events, "end_time": 1}, ticket, METRICS]
    done = imported(place, *records)
    rows = [(row["csa_id"], row["assigned_at"], row["ended_at"], row["resolved"], row["known_at"], row["transferred"])
            for row in done.rows("interactions")]  # fmt: skip
    assert rows == [
        ("11", micros(600), micros(2000), False, micros(2000), True),
        ("12", micros(2000), micros(5000), True, micros(200_000), False),
    ]


def test_audits_that_are_there_twice_count_once(place: Place) -> None:
    done = imported(place, PLAIN | {"audits": AUDITS}, *AUDITS)
    assert len(done.rows("interactions")) == 2


def test_opened_again_is_known_when_it_was(place: Place) -> None:
    again = [audit(1, 6, 9000, change("status", "open", "solved"), author=900),
             audit(1, 7, 12_000, change("status", "solved", "open"), author=12)]  # fmt: skip
    assert outcome(place, PLAIN, *AUDITS[:4], *again, METRICS) == [
        ("11", False, micros(2000)), ("12", False, micros(9000)),
    ]  # fmt: skip


def test_a_rating_is_known_when_it_was_given(place: Place) -> None:
    rated = audit(
        1, 8, 300_000, {"type": "SatisfactionRating", "score": "bad", "assignee_id": 12, "body": ""}, author=900
    )
    done = imported(place, TICKET, *AUDITS, rated)
    first, last = done.rows("interactions")
    assert (first["csat"], last["csat"], last["known_at"]) == (None, 1.0, micros(300_000))


def test_ratings_of_their_own(place: Place) -> None:
    rating = {"id": 9, "ticket_id": 1, "score": "bad", "created_at": "2026-01-07T09:00:00Z",
              "updated_at": "2026-01-08T09:00:00Z", "assignee_id": 11}  # fmt: skip
    done = imported(place, json.loads(lines([PLAIN])), {"satisfaction_ratings": [rating], "count": 1}, METRICS)
    assert (done.one("interactions")["csat"], done.one("interactions")["known_at"]) == (1.0, micros(3 * DAY))


def test_several_had_it_and_no_audits_tell(place: Place) -> None:
    done = imported(place, PLAIN, METRICS | {"assignee_stations": 3})
    assert len(done.rows("interactions")) == 1
    assert done.notes("guessed")["tickets that several had, without audits: only the last hand-over is known"] == 1


COMMENTS = [
    comment(1, 0, 900, "I was charged twice."),
    comment(2, 60, -1, "We have received your request."),
    comment(3, 120, 900, "It was order 7."),
    comment(4, 500, 77, "note to self: looks like fraud", public=False),
    comment(5, 700, 11, "Hello, this is Ada."),
    comment(6, 800, 900, "My PIN is secret."),
]
SAID = "customer: I was charged twice.\nsystem: We have received your request.\ncustomer: It was order 7."


def test_comments_before_the_assignment(place: Place) -> None:
    assert imported(place, TICKET | {"comments": COMMENTS}, METRICS).one()["transcript"] == SAID


def test_comments_before_an_agents_reply_where_the_assignment_came_later(place: Place) -> None:
    late = METRICS | {"initially_assigned_at": "2026-01-06T09:00:00Z", "assigned_at": "2026-01-06T09:00:00Z"}
    assert imported(place, TICKET | {"comments": COMMENTS}, late).one()["transcript"] == SAID


def test_private_comments_are_never_kept(place: Place) -> None:
    private = [comment(1, 0, 900, "I was charged twice."), comment(2, 10, 900, "secret", public=False)]
    done = imported(place, TICKET | {"comments": private}, METRICS)
    assert done.one()["transcript"] == "customer: I was charged twice."


def test_comments_in_audits_and_events(place: Place) -> None:
    told = [audit(1, n, second, {"type": "Comment", "body": body, "public": True, "author_id": author}, author=author)
            for n, second, author, body in [(1, 0, 900, "I was charged twice."), (2, 700, 11, "Hello.")]]  # fmt: skip
    assert imported(place, TICKET, *told, METRICS).one()["transcript"] == "customer: I was charged twice."
    place.output = place.folder / "other"
    event = {"id": 5, "ticket_id": 1, "timestamp": micros(0) // 1_000_000, "updater_id": 900, "event_type": "Audit",
             "child_events": [{"id": 6, "event_type": "Comment", "type": "Comment", "author_id": 900, "public": True,
                               "body": "I was charged twice."}]}  # fmt: skip
    assert imported(place, TICKET, event, METRICS).one()["transcript"] == "customer: I was charged twice."


def test_other_customers_are_told_from_agents_by_their_role(place: Place) -> None:
    users = [{"id": 77, "name": "x", "role": "end-user", "locale": "en-US"}]
    told = [COMMENTS[0], comment(9, 30, 77, "I am copied in.")]
    done = imported(place, TICKET | {"comments": told}, METRICS, {"users": users, "count": 1})
    assert done.one()["transcript"].endswith("customer: I am copied in.")
    place.output = place.folder / "other"
    done = imported(place, TICKET | {"comments": told}, METRICS)
    assert "copied" not in done.one()["transcript"]  # perhaps an agent: nothing from there on


def test_a_ticket_that_an_agent_wrote_has_no_transcript(place: Place) -> None:
    done = imported(place, TICKET | {"submitter_id": 11, "comments": [comment(1, 0, 11, "Customer called.")]}, METRICS)
    assert done.one()["transcript"] == ""
    assert done.notes("repaired") == {"tickets that an agent wrote first: no transcript": 1}


def test_the_latest_state_counts(place: Place) -> None:
    old = PLAIN | {"status": "open", "updated_at": "2026-01-05T10:00:00Z", "subject": "old", "raw_subject": "old"}
    done = imported(place, PLAIN, old, METRICS)
    assert done.one()["intent_text"] == "Card was charged twice"
    assert done.notes("left out") == {"older states of a ticket": 1}


def test_deleted_and_merged_tickets_are_left_out(place: Place) -> None:
    done = imported(place, TICKET, METRICS, ticket(2, 10, status="deleted"), ticket(3, 10, tags=["closed_by_merge"]))
    assert done.one()["contact_id"] == "1"
    assert done.notes("left out") == {"tickets that were deleted": 1, "tickets that were merged into another": 1}


def test_customers_and_queues_by_their_own_objects(place: Place) -> None:
    users = [{"id": 900, "name": "Ana", "email": "ana@example.com", "role": "end-user", "locale": "es-ES",
              "created_at": "2020-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"},
             {"id": 11, "name": "Ada", "role": "agent", "locale": "en-US"}]  # fmt: skip
    groups = [{"id": 98, "name": "Billing", "url": "https://example.zendesk.com/api/v2/groups/98.json"}]
    done = imported(place, {"users": users}, {"groups": groups}, TICKET, METRICS)
    assert (done.one()["queue"], done.one()["language"]) == ("Billing", "es-ES")
    row = done.one("customers")
    assert (row["customer_id"], row["language"]) == (done.one()["customer_id"], "es-ES")
    assert row["since"] == 1_577_836_800_000_000
    assert done.one("csas")["team"] == "Billing"


def test_the_full_export_embeds_people_and_groups(place: Place) -> None:
    full = {key: value for key, value in TICKET.items() if not key.endswith("_id") or key == "external_id"}
    full |= {"requester": {"id": 900, "locale": "de", "email": "a@b.com"}, "submitter": {"id": 900},
             "assignee": {"id": 11}, "group": {"id": 98, "name": "Billing"}, "metric_set": METRICS}  # fmt: skip
    done = imported(place, full)
    assert (done.one()["queue"], done.one()["language"], done.one("interactions")["csa_id"]) == ("Billing", "de", "11")


def test_custom_fields_by_the_map(place: Place) -> None:
    mapping = {"source": "zendesk", "zendesk": {"fields": {
        "intent": 27642, "handle_time_s": {"from": 5, "unit": "s"}, "language": "tongue",
        "resolved": {"from": "status", "true": ["closed"], "false": ["open"]}, "csat": {"from": 6, "scale": [0, 10]},
    }}}  # fmt: skip
    told = PLAIN | {"custom_fields": [*PLAIN["custom_fields"], {"id": 5, "value": "240"}, {"id": 6, "value": 10}],
                    "tongue": "fr"}  # fmt: skip
    done = imported(place, told, METRICS, mapping=mapping)
    assert (done.one()["intent"], done.one()["language"]) == ("billing", "fr")
    row = done.one("interactions")
    assert (row["handle_time_s"], row["csat"], row["resolved"]) == (240.0, 5.0, True)
    assert done.outcome.unused == {}
    place.output = place.folder / "other"
    assert imported(place, told, METRICS).outcome.unused == {"field 27642": 1, "field 5": 1, "field 6": 1}


def test_nobody_had_it(place: Place) -> None:
    done = imported(place, TICKET, METRICS, ticket(2, 10, assignee_id=None, status="open"))
    assert len(done.rows("contacts")) == 2
    assert len(done.rows("interactions")) == 1


def test_damage_and_what_is_not_read(place: Place) -> None:
    chat = audit(1, 9, 10, {"type": "ChatStartedEvent", "value": {"history": []}})
    done = imported(
        place, TICKET, METRICS, chat, ticket(2, 10, created_at=None), ticket(3, 10) | {"id": None},
        {"organizations": [{"id": 1}], "count": 1}, {"hello": "world"},
        {"ticket_id": 1, "events": [], "created_at": "x"},
        metric_set(99, 0), tolerate=1.0,
    )  # fmt: skip
    assert done.notes("damaged") == {
        "tickets without created_at": 1,
        "records without a ticket id": 1,
        "objects that are no ticket and nothing that belongs to one": 1,
        "audits without a time": 1,
    }
    assert done.notes("left out") == {
        "chat histories inside of audits, which are not read": 1,
        "pages of objects that no table needs": 1,
        "metrics of tickets that are not in the export": 1,
    }


def test_texts_are_masked(place: Place, redactor: Any) -> None:
    told = TICKET | {"subject": "card 4111 1111 1111 1111", "raw_subject": "card 4111 1111 1111 1111",
                     "description": "write to ana@example.com"}  # fmt: skip
    done = place.zendesk(told, METRICS, redactor=redactor)
    assert done.one()["intent_text"] == "card [card]"
    assert done.one()["transcript"] == "customer: write to [email]"
