"""Transcripts of Contact Lens: which turns were said before a CSA was chosen.

A call's turns carry offsets from the beginning of the recording, a chat's turns absolute times. A recording begins when
the call is connected to an agent (Amazon Connect administrator guide, "Set up recording behavior"), so that of most
calls nothing at all was said before; where the record tells of a recording that began earlier, as one of the flow does,
its offsets are counted from there.

Notable: two rules, and a turn must pass both. It comes before the first sign of an agent in the transcript itself (a
turn of theirs, or that they joined), and it ended no later than the moment at which the contact was connected to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twotower.imports.formats import Fields, LeftOut
from twotower.imports.times import Unread
from twotower.imports.values import clean, language_of

TRANSCRIPTS = "CREATE TABLE said (contact_id TEXT, preferred INTEGER, place TEXT, language TEXT, turns TEXT)"
HUMANS = frozenset({"AGENT", "SUPERVISOR", "MANAGER", "THIRDPARTY"})
"""Roles of whom somebody chose."""
SPEAKERS = {"CUSTOMER": "customer", "SYSTEM": "system", "CUSTOM_BOT": "bot", "BOT": "bot", "IVR": "system"}
MILLI = 1_000
TEXTS = ("text/plain", "text/markdown")
MOST_TURNS = 2_000
"""Turns of a transcript that are kept."""
MOST_CHARACTERS = 100_000
"""Characters of a turn that are kept."""

Turn = tuple[int | None, int | None, str, str]
"""(µs after the recording's beginning, or None; µs since 1970, or None; who; what)."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is kept of one."""

    language: str | None
    masked: bool
    """Whether Contact Lens masked it."""
    turns: list[Turn] = field(default_factory=list)


def transcript_of(value: dict[str, Any], fields: Fields) -> Transcript:
    """Keeps the turns before the first sign of an agent.

    Raises:
        LeftOut: the analysis was not completed.
    """
    if value.get("JobStatus", "COMPLETED") != "COMPLETED":
        raise LeftOut("transcripts whose analysis did not complete")
    roles = {
        str(one.get("ParticipantId")): str(one.get("ParticipantRole") or "").upper()
        for one in _objects(value.get("Participants"))
    }
    content = value.get("ContentMetadata")
    masked = isinstance(content, dict) and content.get("Output") == "Redacted"
    turns: list[Turn] = []
    for item in _objects(value.get("Transcript")):
        participant = str(item.get("ParticipantId") or "")
        role = str(item.get("ParticipantRole") or roles.get(participant) or participant).upper()
        if role in HUMANS:
            break
        if len(turns) == MOST_TURNS:
            fields.repair(f"transcripts with more than {MOST_TURNS:,} turns before an agent: the rest is left out")
            break
        if (turn := _turn(item, role, fields)) is not None:
            turns.append(turn)
    return Transcript(_language(value, fields), masked, turns)


def _turn(item: dict[str, Any], role: str, fields: Fields) -> Turn | None:
    said = item.get("Content")
    if not isinstance(said, str) or item.get("Type", "MESSAGE") != "MESSAGE":
        return None
    if str(item.get("ContentType", TEXTS[0])) not in TEXTS:
        return None  # buttons, events, attachments
    text = " ".join(clean(said).split())
    if len(text) > MOST_CHARACTERS:
        fields.repair(f"turns of more than {MOST_CHARACTERS:,} characters: the rest is left out")
        text = text[:MOST_CHARACTERS]
    offset = fields.count(item, "EndOffsetMillis")
    if offset is None:
        offset = fields.count(item, "BeginOffsetMillis")
    at = fields.time(item, "AbsoluteTime")
    if not text or (offset is None and at is None):
        return None
    return (None if offset is None else round(offset * MILLI), at, SPEAKERS.get(role, "system"), text)


def before(turns: list[Turn], chosen: int | None, recorded: int | None) -> list[tuple[str, str]]:
    """(who, what) of the turns that ended at `chosen` or earlier; all of them where nobody was chosen.

    recorded: when the recording began, µs; None: not known, and offsets then say nothing, so their turns are left out.
    """
    kept = []
    for offset, at, who, said in turns:
        moment = at if at is not None else None if recorded is None or offset is None else recorded + offset
        if chosen is None or (moment is not None and moment <= chosen):
            kept.append((who, said))
    return kept


def as_text(turns: list[tuple[str, str]], everyone: bool) -> str:
    """A line a turn: `customer: my card is lost`."""
    return "\n".join(f"{who}: {said}" if everyone else said for who, said in turns if everyone or who == "customer")


def _language(value: dict[str, Any], fields: Fields) -> str | None:
    try:
        return language_of(value.get("LanguageCode"))
    except Unread as why:
        fields.repair(f"LanguageCode {why}: left out")
        return None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
