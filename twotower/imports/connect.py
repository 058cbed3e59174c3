"""Amazon Connect: contact records and Contact Lens transcripts, read into the spill.

Formats: the contact records data model of the Amazon Connect administrator guide (`ctr-data-model`), and the example
output files of Contact Lens for calls and for chats. A record of either kind is told by its fields, so both may lie in
one folder, as they do in a bucket.

Notable: contact records are delivered at least once, and again whenever they change; all deliveries are kept here, and
the latest by LastUpdateTimestamp counts (`connect_chain`). Of a transcript only what comes before the first sign of an
agent is kept at all; the times decide later, when they are known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC
from functools import partial
from typing import Any, NamedTuple

from twotower.imports.case import Case
from twotower.imports.connect_lens import TRANSCRIPTS, Transcript, transcript_of
from twotower.imports.convert import Converter
from twotower.imports.formats import Damaged, Fields, JsonFormat, Settings, declared, identity, part
from twotower.imports.notes import GUESSED, REPAIRED, Place
from twotower.imports.spill import Spill
from twotower.imports.times import Times, Unread
from twotower.imports.values import clean, language_of
from twotower.tables.schema import CONTACTS, INTERACTIONS


class Leg(NamedTuple):
    """One delivery of a contact record; times in microseconds since 1970."""

    n: int
    """The row, in the order of chains."""
    contact_id: str
    root: str | None
    """The first record of its chain, as far as it says."""
    previous: str | None
    updated: int | None
    place: str
    channel: str
    method: str | None
    initiated: int | None
    connected: int | None
    disconnected: int | None
    reason: str | None
    next: str | None
    queue: str | None
    enqueued: int | None
    csa_id: str | None
    agent_at: int | None
    acw_end: int | None
    talk_s: float | None
    hold_s: float | None
    acw_s: float | None
    team: str | None
    site: str | None
    profile: str | None
    customer: str | None
    """The customer's hash."""
    language: str | None
    outside: int
    """1: sent on to a number outside of Connect."""
    recorded: int | None
    """When the recording began."""
    more: str | None
    """What the mapping takes from attributes, JSON."""


LEGS = declared(Leg)
TASK = "intent_text from the name and description of the task"


class Connect(JsonFormat):
    """Contact records and transcripts of Amazon Connect."""

    tables = f"CREATE TABLE legs ({LEGS}); {TRANSCRIPTS}"

    def __init__(self, settings: Settings, spill: Spill) -> None:
        super().__init__(settings, spill)
        self._options = settings.mapping.connect
        # The format's times are in UTC, whether they say so or not.
        self._times = Times(None, UTC)
        columns = {column.name: column for table in (CONTACTS, INTERACTIONS) for column in table.columns}
        self._attributes = {
            name: Converter(columns[name], field, settings.mapping.zone, settings.mapping.decimal, settings.keys)
            for name, field in self._options.attributes.items()
        }

        self._taken = {name for field in self._options.attributes.values() for name in field.names}

    def is_record(self, value: dict[str, Any], page: str | None) -> bool:
        """A contact record, or a transcript."""
        return is_contact(value) or is_transcript(value)

    def take(self, value: dict[str, Any], page: str | None, place: Place) -> None:
        """Puts one record into the spill."""
        if is_transcript(value):
            self._take_transcript(value, place)
        elif is_contact(value):
            self.spill.counts["contact records"] += 1
            self.spill.add("legs", self._leg(value, place)[1:])
        else:
            raise Damaged("objects that are neither a contact record nor a transcript")

    def _take_transcript(self, value: dict[str, Any], place: Place) -> None:
        contact_id = identity(part(value, "CustomerMetadata").get("ContactId"), "a CustomerMetadata.ContactId")
        found: Transcript = transcript_of(value, Fields(self.notes, place, self._times, "Transcript."))
        self.spill.counts["transcripts"] += 1
        preferred = found.masked == self.settings.masked
        turns = json.dumps(found.turns, ensure_ascii=False)
        self.spill.add("said", (contact_id, int(preferred), str(place), found.language, turns))

    def _leg(self, value: dict[str, Any], place: Place) -> Leg:
        fields = Fields(self.notes, place, self._times)
        contact_id = identity(value.get("ContactId"), "a ContactId")
        initial, previous = _other(value, "InitialContactId"), _other(value, "PreviousContactId")
        agent, queue = part(value, "Agent"), part(value, "Queue")
        channel = _text(value.get("Channel"))
        if channel is None:
            channel = "unknown"
            fields.guess("channel: none is stated; unknown")
        team, site = _groups(part(agent, "HierarchyGroups"))
        return Leg(
            n=0,
            contact_id=contact_id,
            root=initial or (None if previous else contact_id),
            previous=previous,
            updated=fields.time(value, "LastUpdateTimestamp"),
            place=str(place),
            channel=channel,
            method=_text(value.get("InitiationMethod")),
            initiated=fields.time(value, "InitiationTimestamp"),
            connected=fields.time(value, "ConnectedToSystemTimestamp"),
            disconnected=fields.time(value, "DisconnectTimestamp"),
            reason=_text(value.get("DisconnectReason")),
            next=_other(value, "NextContactId"),
            queue=_queue(queue),
            enqueued=fields.time(queue, "EnqueueTimestamp"),
            csa_id=self._csa(agent, fields),
            agent_at=self._agent_at(agent, queue, fields),
            acw_end=_work_ended(agent, fields),
            talk_s=fields.count(agent, "AgentInteractionDuration"),
            hold_s=fields.count(agent, "CustomerHoldDuration"),
            acw_s=fields.count(agent, "AfterContactWorkDuration"),
            team=team,
            site=site,
            profile=_text(part(agent, "RoutingProfile").get("Name")),
            customer=self._customer(value, fields),
            language=self._language(value, fields),
            outside=int(bool(part(value, "TransferredToEndpoint").get("Address"))),
            recorded=self._recorded(value, fields),
            more=self._more(value, place),
        )

    def _csa(self, agent: dict[str, Any], fields: Fields) -> str | None:
        arn, name = _last_part(agent.get("ARN")), _text(agent.get("Username"))
        wanted, other = (arn, name) if self._options.csa_id == "arn" else (name, arn)
        if wanted is None and other is not None:
            fields.guess(f"csa_id: no {self._options.csa_id} is stated; the other name of the agent")
        return wanted or other

    def _agent_at(self, agent: dict[str, Any], queue: dict[str, Any], fields: Fields) -> int | None:
        found = fields.time(agent, "ConnectedToAgentTimestamp")
        if found is None and agent:
            found = fields.time(queue, "DequeueTimestamp")
            if found is not None:
                fields.guess("assigned_at: no ConnectedToAgentTimestamp; when it left the queue")
        return found

    def _customer(self, value: dict[str, Any], fields: Fields) -> str | None:
        """The customer under a hash: who reads the spill learns no number."""
        address = _text(part(value, "CustomerEndpoint").get("Address"))
        if address is None:
            return None
        phone = part(value, "CustomerEndpoint").get("Type") in (None, "TELEPHONE_NUMBER")
        found = self.settings.keys.key(address, "phone" if phone and address[:1] in "+0123456789" else "auto")
        if found is None and self.settings.keys.identifies:
            fields.repair("callers who show no number: no customer")
        return found

    def _language(self, value: dict[str, Any], fields: Fields) -> str | None:
        lens = part(part(part(value, "ContactLens"), "ConversationalAnalytics"), "Configuration")
        try:
            return language_of(value.get("LanguageCode") or lens.get("LanguageLocale"))
        except Unread as why:
            fields.repair(f"LanguageCode {why}: left out")
            return None

    def _recorded(self, value: dict[str, Any], fields: Fields) -> int | None:
        """When the first recording of voices began, where the record says so."""
        recordings = value.get("Recordings")
        begun = [
            time
            for one in (recordings if isinstance(recordings, list) else [])
            if isinstance(one, dict) and one.get("MediaStreamType") == "AUDIO"
            and (time := fields.time(one, "StartTimestamp")) is not None
        ]  # fmt: skip
        return min(begun, default=None)

    def _more(self, value: dict[str, Any], place: Place) -> str | None:
        """What the mapping takes from attributes, and the words of a task, as JSON."""
        found: dict[str, Any] = {}
        details = part(value, "ContactDetails")
        words = [text for name in ("Name", "Description") if (text := _text(details.get(name)))]
        if words:
            found["intent_text"] = "\n".join(words)
            self.notes.add(GUESSED, TASK, place)
        attributes = part(value, "Attributes")
        for name in attributes:
            if name not in self._taken:
                self.not_used(f"attribute {name}")
        get = partial(_attribute, attributes, details)
        for name, converter in self._attributes.items():
            try:
                one = converter.value(get)
            except Unread as why:
                self.notes.add(REPAIRED, f"{name} from {' '.join(converter.field.source)}: {why}; left out", place)
                continue
            if one is not None:
                found[name] = one
        return json.dumps(found, ensure_ascii=False) if found else None

    def arrange(self) -> None:
        """Finds the chains, sorts the records by them, and sets the transcripts in order."""
        from twotower.imports.connect_chain import arrange

        arrange(self.spill)

    def cases(self, after: int) -> Iterator[tuple[int, Case | None]]:
        """One case a chain."""
        from twotower.imports.connect_chain import Chains

        yield from Chains(self.spill, self._options).cases(after)

    def mapped(self) -> dict[str, str]:
        """What comes from where."""
        given = {
            "contacts.contact_id": "InitialContactId, else ContactId",
            "contacts.customer_id": "CustomerEndpoint.Address, under a keyed hash",
            "contacts.arrived_at": "Queue.EnqueueTimestamp, else ConnectedToSystemTimestamp, InitiationTimestamp",
            "contacts.channel": "Channel", "contacts.queue": "Queue.Name",
            "contacts.language": "LanguageCode of the record, else of the transcript",
            "contacts.intent_text": "ContactDetails of a task, else the customer's first turn",
            "contacts.transcript": "Contact Lens: turns before the first agent",
            "contacts.abandoned_at": "DisconnectTimestamp of who was queued and met no agent",
            "interactions.csa_id": "Agent.ARN" if self._options.csa_id == "arn" else "Agent.Username",
            "interactions.assigned_at": "Agent.ConnectedToAgentTimestamp",
            "interactions.ended_at": "Agent.AfterContactWorkEndTimestamp, else durations, else DisconnectTimestamp",
            "interactions.handle_time_s": "AgentInteractionDuration + CustomerHoldDuration + AfterContactWorkDuration",
            "interactions.transferred": "a following record of the chain, or TransferredToEndpoint",
            "csas.team": "Agent.HierarchyGroups, the deepest", "csas.site": "Agent.HierarchyGroups.Level1",
            "csas.profile": "Agent.RoutingProfile.Name",
        }  # fmt: skip
        contact = {column.name for column in CONTACTS.columns}
        for name, field in self._options.attributes.items():
            table = "contacts" if name in contact else "interactions"
            given[f"{table}.{name}"] = f"Attributes.{' '.join(field.source)}" if field.source else f"{field.value!r}"
        return given


def is_contact(value: dict[str, Any]) -> bool:
    """Whether an object is a contact record."""
    return "ContactId" in value and ("InitiationTimestamp" in value or "Channel" in value or "Queue" in value)


def is_transcript(value: dict[str, Any]) -> bool:
    """Whether an object is an output of Contact Lens."""
    return "Transcript" in value and "CustomerMetadata" in value


def _attribute(attributes: dict[str, Any], details: dict[str, Any], name: str) -> Any:
    found = attributes.get(name)
    return details.get(name) if found is None else found


def _text(value: Any) -> str | None:
    return clean(value).strip() or None if isinstance(value, str) else None


def _other(value: dict[str, Any], name: str) -> str | None:
    """The id of another record; what is no id counts as none."""
    try:
        return identity(value.get(name), name)
    except Damaged:
        return None


def _last_part(arn: Any) -> str | None:
    text = _text(arn)
    return None if text is None else text.rpartition("/")[2] or None


def _queue(queue: dict[str, Any]) -> str | None:
    """A queue's name, else the id in its ARN; an agent's own queue is none."""
    named = _text(queue.get("Name"))
    arn = _text(queue.get("ARN"))
    return named if named or arn is None or "/queue/agent/" in arn else _last_part(arn)


def _groups(groups: dict[str, Any]) -> tuple[str | None, str | None]:
    """(team, site): the deepest level of the hierarchy, and the first where that is another."""
    levels = [_text(part(groups, f"Level{n}").get("GroupName")) for n in range(1, 6)]
    named = [level for level in levels if level]
    return (named[-1] if named else None), (named[0] if len(named) > 1 else None)


def _work_ended(agent: dict[str, Any], fields: Fields) -> int | None:
    return fields.time(agent, "AfterContactWorkEndTimestamp") or fields.time(agent, "AfterContactWorkStartTimestamp")
