"""Zendesk: tickets with their comments, audits, metrics, users and groups, read into the spill.

Formats: the incremental and the full JSON export of tickets, ticket audits, ticket events (with `comment_events`),
ticket metrics, satisfaction ratings, users and groups, as the Zendesk API reference describes them: pages (`{"tickets":
[…]}`), lists, and lines. What an object is tells the page's list, else its own fields.

Notable: an incremental export holds a ticket again whenever it changed; the latest by `updated_at` counts. Comments and
changes may come with the ticket, in audits, in events or in all of them: they are told apart by their ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC
from functools import partial
from typing import Any, NamedTuple

from twotower.imports.case import Case
from twotower.imports.convert import Converter
from twotower.imports.formats import Damaged, Fields, JsonFormat, LeftOut, Settings, declared, identity, part
from twotower.imports.notes import REPAIRED, Place
from twotower.imports.spill import Spill
from twotower.imports.times import Times, Unread
from twotower.imports.values import clean, language_of
from twotower.tables.schema import CONTACTS, INTERACTIONS


class Ticket(NamedTuple):
    """One state of a ticket; times in microseconds since 1970."""

    n: int
    """The row, in the order of tickets."""
    ticket_id: str
    updated: int | None
    place: str
    created: int | None
    channel: str | None
    subject: str | None
    description: str | None
    status: str | None
    priority: float | None
    assignee: str | None
    group_id: str | None
    group_name: str | None
    requester: str | None
    submitter: str | None
    locale: str | None
    score: str | None
    merged: int
    """1: into another ticket."""
    metrics: str | None
    """The metric_set that came with it, JSON."""
    more: str | None
    """What the mapping takes from fields, JSON."""


TICKETS = declared(Ticket)
COMMENTS = "ticket_id TEXT, at INTEGER, comment_id TEXT, author TEXT, public INTEGER, body TEXT, via TEXT"
CHANGES = "ticket_id TEXT, at INTEGER, event_id TEXT, field TEXT, value TEXT, previous TEXT"
PRIORITIES = {"low": 1.0, "normal": 2.0, "high": 3.0, "urgent": 4.0}
FOLLOWED = frozenset({"assignee_id", "status"})
"""Fields whose changes are kept."""
TIMES = ("initially_assigned_at", "assigned_at", "solved_at", "status_updated_at")
PAGES = {
    "tickets": "ticket", "ticket_audits": "audit", "audits": "audit", "ticket_events": "event",
    "ticket_metrics": "metrics", "metric_sets": "metrics", "users": "user", "groups": "group",
    "satisfaction_ratings": "rating",
}  # fmt: skip
MOST_CHARACTERS = 100_000


class Zendesk(JsonFormat):
    """Exports of Zendesk Support."""

    pages = frozenset(PAGES)
    tables = (
        f"CREATE TABLE tickets ({TICKETS}); CREATE TABLE comments ({COMMENTS}); CREATE TABLE changes ({CHANGES}); "
        "CREATE TABLE metrics (ticket_id TEXT, updated INTEGER, payload TEXT); "
        "CREATE TABLE users (user_id TEXT, updated INTEGER, role TEXT, locale TEXT, created INTEGER); "
        "CREATE TABLE groups (group_id TEXT, name TEXT)"
    )

    def __init__(self, settings: Settings, spill: Spill) -> None:
        super().__init__(settings, spill)
        self._options = settings.mapping.zendesk
        self._times = Times(None, UTC)
        columns = {column.name: column for table in (CONTACTS, INTERACTIONS) for column in table.columns}
        self._fields = {
            name: Converter(columns[name], field, settings.mapping.zone, settings.mapping.decimal, settings.keys)
            for name, field in self._options.fields.items()
        }

        self._taken = {name for field in self._options.fields.values() for name in field.names}

    def is_record(self, value: dict[str, Any], page: str | None) -> bool:
        """Anything that is read."""
        return (page in PAGES and "id" in value) or kind_of(value) is not None

    def take(self, value: dict[str, Any], page: str | None, place: Place) -> None:
        """Puts one object into the spill."""
        kind = PAGES.get(page or "") or kind_of(value)
        fields = Fields(self.notes, place, self._times)
        if kind is None:
            self._others(value, place)
            return
        self.spill.counts[f"{kind}s" if kind != "metrics" else kind] += 1
        {
            "ticket": self._ticket, "audit": self._audit, "event": self._event, "metrics": self._metrics,
            "user": self._user, "group": self._group, "rating": self._rating, "comment": self._own_comment,
        }[kind](value, fields, place)  # fmt: skip

    def _others(self, value: dict[str, Any], place: Place) -> None:
        """A page whose lists come behind other things, taken as a whole; else nothing that is known."""
        lists = {name: one for name, one in value.items() if name in PAGES and isinstance(one, list)}
        if not lists:
            if any(isinstance(one, list) for one in value.values()):
                raise LeftOut("pages of objects that no table needs")
            raise Damaged("objects that are no ticket and nothing that belongs to one")
        for name, entries in lists.items():
            for one in entries:
                if isinstance(one, dict):
                    self.take(one, name, place)

    def _ticket(self, value: dict[str, Any], fields: Fields, place: Place) -> None:
        ticket_id = identity(value.get("id"), "a ticket id")
        requester, assignee, group = part(value, "requester"), part(value, "assignee"), part(value, "group")
        metrics = part(value, "metric_set")
        tags = value.get("tags")
        row = Ticket(
            n=0,
            ticket_id=ticket_id,
            updated=fields.time(value, "updated_at"),
            place=str(place),
            created=fields.time(value, "created_at"),
            channel=_text(part(value, "via").get("channel")),
            subject=_text(value.get("raw_subject")) or _text(value.get("subject")),
            description=_text(value.get("description")),
            status=_text(value.get("status")),
            priority=self._priority(value, fields),
            assignee=_id(value.get("assignee_id")) or _id(assignee.get("id")),
            group_id=_id(value.get("group_id")) or _id(group.get("id")),
            group_name=_text(group.get("name")),
            requester=_id(value.get("requester_id")) or _id(requester.get("id")),
            submitter=_id(value.get("submitter_id")) or _id(part(value, "submitter").get("id")),
            locale=_locale(requester, fields),
            score=_text(part(value, "satisfaction_rating").get("score")),
            merged=int(isinstance(tags, list) and "closed_by_merge" in tags),
            metrics=json.dumps(self._kept(metrics, fields)) if metrics else None,
            more=self._more(value, place),
        )
        self.spill.add("tickets", row[1:])
        for name, entries in (("comments", self._comment), ("audits", self._audit)):
            found = value.get(name)
            for one in found if isinstance(found, list) else []:
                if isinstance(one, dict):
                    entries({"ticket_id": ticket_id, **one}, fields, place)

    def _priority(self, value: dict[str, Any], fields: Fields) -> float | None:
        named = _text(value.get("priority"))
        if named is not None and named not in PRIORITIES:
            fields.repair("priority that is none of low, normal, high, urgent: left out")
        return PRIORITIES.get(named or "")

    def _kept(self, metrics: dict[str, Any], fields: Fields) -> dict[str, Any]:
        found: dict[str, Any] = {name: fields.time(metrics, name) for name in TIMES}
        return found | {name: fields.count(metrics, name) for name in ("reopens", "assignee_stations")}

    def _more(self, value: dict[str, Any], place: Place) -> str | None:
        found: dict[str, Any] = {}
        custom = value.get("custom_fields")
        custom = custom if isinstance(custom, list) else value.get("fields")
        by_id = {_id(one.get("id")): one.get("value") for one in _objects(custom)}
        for name, one in by_id.items():
            if one is not None and name not in self._taken:
                self.not_used(f"field {name}")
        get = partial(_field_value, value, by_id)
        for name, converter in self._fields.items():
            try:
                one = converter.value(get)
            except Unread as why:
                self.notes.add(REPAIRED, f"{name} from {' '.join(converter.field.source)}: {why}; left out", place)
                continue
            if one is not None:
                found[name] = one
        return json.dumps(found, ensure_ascii=False) if found else None

    def _own_comment(self, value: dict[str, Any], fields: Fields, place: Place) -> None:
        identity(value.get("ticket_id"), "a ticket_id")
        self._comment(value, fields, place)

    def _comment(self, value: dict[str, Any], fields: Fields, place: Place) -> None:
        """A comment of a ticket, an audit or an event; private ones are agents' notes and never kept."""
        at = fields.time(value, "created_at")
        body = _text(value.get("plain_body")) or _text(value.get("body"))
        if at is None or body is None:
            return
        if len(body) > MOST_CHARACTERS:
            fields.repair(f"comments of more than {MOST_CHARACTERS:,} characters: the rest is left out")
        public = value.get("public") is not False
        via = _text(part(value, "via").get("channel")) or ""
        ticket_id, author = _id(value.get("ticket_id")), _id(value.get("author_id"))
        text = body[:MOST_CHARACTERS] if public else ""
        self.spill.add("comments", (ticket_id, at, _id(value.get("id")), author, int(public), text, via))

    def _audit(self, value: dict[str, Any], fields: Fields, place: Place) -> None:
        ticket_id = identity(value.get("ticket_id"), "a ticket_id")
        at = fields.time(value, "created_at")
        if at is None:
            raise Damaged("audits without a time")
        shared = {"ticket_id": ticket_id, "created_at": value.get("created_at"), "author_id": value.get("author_id"),
                  "via": value.get("via")}  # fmt: skip
        for event in _objects(value.get("events")):
            kind = event.get("type")
            if kind in ("Comment", "VoiceComment"):
                self._comment({**shared, **event}, fields, place)
            elif kind in ("Create", "Change") and event.get("field_name") in FOLLOWED:
                self._change(ticket_id, at, event, str(event["field_name"]), event.get("value"))
            elif kind == "SatisfactionRating":
                self._change(ticket_id, at, event, "score", event.get("score"))
            elif isinstance(kind, str) and kind.startswith("Chat"):
                fields.leave_out("chat histories inside of audits, which are not read")

    def _event(self, value: dict[str, Any], fields: Fields, place: Place) -> None:
        """An entry of the export of ticket events."""
        ticket_id = identity(value.get("ticket_id"), "a ticket_id")
        at = fields.time(value, "created_at") or fields.time(value, "timestamp")
        if at is None:
            raise Damaged("ticket events without a time")
        shared = {"ticket_id": ticket_id, "created_at": at / 1e6, "author_id": value.get("updater_id")}
        for event in _objects(value.get("child_events")):
            if event.get("event_type") == "Comment" and "body" in event:
                self._comment({**shared, **event}, fields, place)
            elif event.get("event_type") in ("Create", "Change"):
                for name in FOLLOWED & event.keys():
                    self._change(ticket_id, at, event, name, event[name])

    def _change(self, ticket_id: str, at: int, event: dict[str, Any], field: str, value: Any) -> None:
        previous = _id(event.get("previous_value"))
        self.spill.add("changes", (ticket_id, at, _id(event.get("id")), field, _id(value), previous))

    def _metrics(self, value: dict[str, Any], fields: Fields, place: Place) -> None:
        ticket_id = identity(value.get("ticket_id"), "a ticket_id")
        kept = json.dumps(self._kept(value, fields))
        self.spill.add("metrics", (ticket_id, fields.time(value, "updated_at"), kept))

    def _rating(self, value: dict[str, Any], fields: Fields, place: Place) -> None:
        ticket_id = identity(value.get("ticket_id"), "a ticket_id")
        at = fields.time(value, "updated_at") or fields.time(value, "created_at")
        if at is None:
            raise Damaged("satisfaction ratings without a time")
        self._change(ticket_id, at, value, "score", value.get("score"))

    def _user(self, value: dict[str, Any], fields: Fields, place: Place) -> None:
        user_id = identity(value.get("id"), "a user id")
        row = (user_id, fields.time(value, "updated_at"), _text(value.get("role")), _locale(value, fields),
               fields.time(value, "created_at"))  # fmt: skip
        self.spill.add("users", row)

    def _group(self, value: dict[str, Any], fields: Fields, place: Place) -> None:
        self.spill.add("groups", (identity(value.get("id"), "a group id"), _text(value.get("name"))))

    def arrange(self) -> None:
        """Sorts everything by ticket."""
        from twotower.imports.zendesk_tickets import arrange

        arrange(self.spill, self.settings.keys)

    def cases(self, after: int) -> Iterator[tuple[int, Case | None]]:
        """One case a ticket."""
        from twotower.imports.zendesk_tickets import Tickets

        yield from Tickets(self.spill, self._options, self.settings.keys).cases(after)

    def mapped(self) -> dict[str, str]:
        """What comes from where."""
        given = {
            "contacts.contact_id": "id", "contacts.customer_id": "requester_id, under a keyed hash",
            "contacts.arrived_at": "created_at", "contacts.channel": "via.channel",
            "contacts.queue": "group_id, by its name where groups are there",
            "contacts.language": "the requester's locale", "contacts.intent_text": "subject",
            "contacts.transcript": "public comments before the first assignment and the first reply of an agent",
            "contacts.priority": "priority: low 1, normal 2, high 3, urgent 4",
            "interactions.csa_id": "assignee_id", "interactions.assigned_at": "audits, else metric_set",
            "interactions.ended_at": "the next assignment, else when it was solved",
            "interactions.resolved": "solved or closed, and not re-opened",
            "interactions.csat": "satisfaction_rating: good 5, bad 1", "interactions.transferred": "audits",
            "customers.language": "users.locale", "customers.since": "users.created_at",
        }  # fmt: skip
        contact = {column.name for column in CONTACTS.columns}
        for name, field in self._options.fields.items():
            table = "contacts" if name in contact else "interactions"
            given[f"{table}.{name}"] = f"field {' '.join(field.source)}" if field.source else f"{field.value!r}"
        return given


def kind_of(value: dict[str, Any]) -> str | None:
    """What an object is by its own fields; None where that is nothing that is read."""
    if "ticket_id" in value:
        if "events" in value:
            return "audit"
        if "child_events" in value:
            return "event"
        if "reopens" in value or "assignee_stations" in value:
            return "metrics"
        if "body" in value:
            return "comment"
        return "rating" if "score" in value else None
    if "id" not in value:
        return None
    if "role" in value and ("email" in value or "name" in value):
        return "user"
    if "status" in value or "subject" in value or "raw_subject" in value or "requester_id" in value:
        return "ticket"
    return "group" if "name" in value and "/groups/" in str(value.get("url")) else None


def _field_value(ticket: dict[str, Any], by_id: dict[str | None, Any], name: str) -> Any:
    found = by_id.get(name)
    return ticket.get(name) if found is None else found


def _locale(user: dict[str, Any], fields: Fields) -> str | None:
    try:
        return language_of(user.get("locale"))
    except Unread as why:
        fields.repair(f"locale {why}: left out")
        return None


def _text(value: Any) -> str | None:
    return clean(value).strip() or None if isinstance(value, str) else None


def _id(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**40:
        return str(value)
    return _text(value)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
