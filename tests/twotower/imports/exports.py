"""Small exports in the public formats, written by the tests: field names are those of the formats' documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
ARN = "arn:aws:connect:eu-west-2:123456789012:instance/1d908e11-3d5f-4cfb-b34d-1e7e0f216898"


def at(seconds: float) -> str:
    """A time so many seconds after the first contact, as Connect and Zendesk write it."""
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def micros(seconds: float) -> int:
    """The same in microseconds since 1970."""
    return round((START.timestamp() + seconds) * 1_000_000)


def agent(
    name: str, connected: float | None, talk: int = 100, hold: int = 0, acw: int = 20, **more: Any
) -> dict[str, Any]:
    """`Agent` of a contact record."""
    ended = None if connected is None else at(connected + talk + hold + acw)
    return {
        "ARN": f"{ARN}/agent/{name}",
        "AfterContactWorkDuration": acw,
        "AfterContactWorkEndTimestamp": ended,
        "AfterContactWorkStartTimestamp": None if connected is None else at(connected + talk + hold),
        "AgentInteractionDuration": talk,
        "ConnectedToAgentTimestamp": None if connected is None else at(connected),
        "CustomerHoldDuration": hold,
        "HierarchyGroups": {
            "Level1": {"ARN": f"{ARN}/agent-group/1", "GroupName": "London"},
            "Level2": {"ARN": f"{ARN}/agent-group/2", "GroupName": "Cards"},
            "Level3": None,
            "Level4": None,
            "Level5": None,
        },
        "LongestHoldDuration": hold,
        "NumberOfHolds": int(hold > 0),
        "RoutingProfile": {"ARN": f"{ARN}/routing-profile/9", "Name": "Basic Routing Profile"},
        "Username": name.upper(),
        **more,
    }


def contact(contact_id: str, begun: float, served: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A contact record: it arrives, waits ten seconds after the flow, and is served."""
    ended = begun + 400
    record = {
        "AWSAccountId": "123456789012",
        "AWSContactTraceRecordFormatVersion": "2017-03-10",
        "Agent": served,
        "AgentConnectionAttempts": int(served is not None),
        "Attributes": {},
        "Channel": "VOICE",
        "ConnectedToSystemTimestamp": at(begun),
        "ContactDetails": {},
        "ContactId": contact_id,
        "CustomerEndpoint": {"Address": "+442071838750", "Type": "TELEPHONE_NUMBER"},
        "DisconnectReason": "CUSTOMER_DISCONNECT",
        "DisconnectTimestamp": at(ended),
        "InitialContactId": None,
        "InitiationMethod": "INBOUND",
        "InitiationTimestamp": at(begun),
        "InstanceARN": ARN,
        "LastUpdateTimestamp": at(ended + 60),
        "MediaStreams": [{"Type": "AUDIO"}],
        "NextContactId": None,
        "PreviousContactId": None,
        "Queue": {
            "ARN": f"{ARN}/queue/7",
            "DequeueTimestamp": at(begun + 40),
            "Duration": 30,
            "EnqueueTimestamp": at(begun + 10),
            "Name": "Cards",
        },
        "Recordings": [],
        "SystemEndpoint": {"Address": "+448000000000", "Type": "TELEPHONE_NUMBER"},
        "TransferCompletedTimestamp": None,
        "TransferredToEndpoint": None,
    }
    return record | more


def chat(contact_id: str, turns: Iterable[tuple[float, str, str]], **more: Any) -> dict[str, Any]:
    """Contact Lens of a chat: (seconds, role, what) of each turn, "" for the role's joining."""
    found = list(turns)
    roles = dict.fromkeys(role for _, role, _ in found)
    return {
        "AccountId": "123456789012",
        "Categories": {"MatchedCategories": [], "MatchedDetails": {}},
        "Channel": "CHAT",
        "ChatTranscriptVersion": "2019-08-26",
        "ContentMetadata": {"Output": "Raw"},
        "ConversationCharacteristics": {},
        "CustomerMetadata": {"ContactId": contact_id, "InputS3Uri": "s3://x", "InstanceId": "1d908e11"},
        "JobStatus": "COMPLETED",
        "LanguageCode": "en-US",
        "Participants": [{"ParticipantId": f"id-{role}", "ParticipantRole": role} for role in roles],
        "Transcript": [
            {
                "AbsoluteTime": (START + timedelta(seconds=second))
                .isoformat(timespec="milliseconds")
                .replace("+00:00", "Z"),
                **({"Content": what} if what else {}),
                "ContentType": "text/plain" if what else "application/vnd.amazonaws.connect.event.participant.joined",
                "DisplayName": role.title(),
                "Id": f"turn-{n}",
                "ParticipantId": f"id-{role}",
                "ParticipantRole": role,
                "Type": "MESSAGE" if what else "EVENT",
            }
            for n, (second, role, what) in enumerate(found)
        ],
    } | more


def call(contact_id: str, turns: Iterable[tuple[int, int, str, str]], **more: Any) -> dict[str, Any]:
    """Contact Lens of a call: (from, until, participant, what), milliseconds from the recording's beginning."""
    return {
        "Version": "1.1.0",
        "AccountId": "123456789012",
        "Channel": "VOICE",
        "ContentMetadata": {"Output": "Raw"},
        "JobStatus": "COMPLETED",
        "LanguageCode": "en-GB",
        "Participants": [
            {"ParticipantId": "c", "ParticipantRole": "CUSTOMER"},
            {"ParticipantId": "a", "ParticipantRole": "AGENT"},
            {"ParticipantId": "s", "ParticipantRole": "SYSTEM"},
        ],
        "Categories": {"MatchedCategories": [], "MatchedDetails": {}},
        "ConversationCharacteristics": {"TotalConversationDurationMillis": 32110},
        "CustomModels": [],
        "CustomerMetadata": {"ContactId": contact_id, "InputS3Uri": "s3://x", "InstanceId": "1d908e11"},
        "Transcript": [
            {
                "BeginOffsetMillis": begun,
                "Content": what,
                "EndOffsetMillis": ended,
                "Id": f"turn-{n}",
                "ParticipantId": who,
                "Sentiment": "NEUTRAL",
                "LoudnessScore": [79.27],
            }
            for n, (begun, ended, who, what) in enumerate(turns)
        ],
    } | more


def ticket(ticket_id: int, created: float, **more: Any) -> dict[str, Any]:
    """A Zendesk ticket that was solved, as the incremental export gives it."""
    return {
        "url": f"https://example.zendesk.com/api/v2/tickets/{ticket_id}.json",
        "id": ticket_id,
        "external_id": None,
        "via": {"channel": "email", "source": {"from": {}, "to": {}, "rel": None}},
        "created_at": at(created),
        "updated_at": at(created + 90_000),
        "generated_timestamp": micros(created + 90_000) // 1_000_000,
        "type": "question",
        "subject": "Card was charged twice",
        "raw_subject": "Card was charged twice",
        "description": "I was charged twice for one order.",
        "priority": "normal",
        "status": "closed",
        "recipient": "support@example.com",
        "requester_id": 900,
        "submitter_id": 900,
        "assignee_id": 11,
        "group_id": 98,
        "tags": ["card"],
        "custom_fields": [{"id": 27642, "value": "billing"}],
        "satisfaction_rating": {"score": "good"},
    } | more


def metric_set(ticket_id: int, created: float, **more: Any) -> dict[str, Any]:
    """A ticket's metrics."""
    return {
        "id": 5000 + ticket_id,
        "ticket_id": ticket_id,
        "created_at": at(created),
        "updated_at": at(created + 90_000),
        "group_stations": 1,
        "assignee_stations": 1,
        "reopens": 0,
        "replies": 1,
        "initially_assigned_at": at(created + 600),
        "assigned_at": at(created + 600),
        "solved_at": at(created + 3600),
        "status_updated_at": at(created + 80_000),
        "reply_time_in_minutes": {"calendar": 20, "business": 20},
    } | more


def audit(ticket_id: int, audit_id: int, seconds: float, *events: dict[str, Any], author: int = 11) -> dict[str, Any]:
    """One audit of a ticket."""
    return {
        "id": audit_id,
        "ticket_id": ticket_id,
        "created_at": at(seconds),
        "author_id": author,
        "metadata": {"custom": {}, "system": {}},
        "via": {"channel": "web"},
        "events": [{"id": audit_id * 100 + n, **event} for n, event in enumerate(events)],
    }


def change(name: str, value: Any, previous: Any = None, kind: str = "Change") -> dict[str, Any]:
    """A change of a field inside of an audit."""
    return {"type": kind, "field_name": name, "value": value, "previous_value": previous}


def comment(comment_id: int, seconds: float, author: int, body: str, public: bool = True) -> dict[str, Any]:
    """A comment of a ticket."""
    return {
        "id": comment_id,
        "type": "Comment",
        "author_id": author,
        "body": body,
        "html_body": f"<p>{body}</p>",
        "plain_body": body,
        "public": public,
        "attachments": [],
        "audit_id": comment_id + 1,
        "via": {"channel": "email"},
        "created_at": at(seconds),
    }


def lines(records: Iterable[Any]) -> str:
    """JSON, a line a record."""
    return "".join(json.dumps(record) + "\n" for record in records)
