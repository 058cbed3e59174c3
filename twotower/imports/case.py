"""What every source is made into: a contact with its hand-overs, before texts are masked and tables written.

Times are microseconds since 1970 in UTC; None where nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Handover:
    """One hand-over, as interactions.parquet has it, and what it says of its CSA."""

    csa_id: str
    assigned_at: int
    ended_at: int | None = None
    known_at: int | None = None
    resolved: bool | None = None
    csat: float | None = None
    quality_score: float | None = None
    handle_time_s: float | None = None
    transferred: bool | None = None
    policy: str | None = None
    propensity: float | None = None
    queue: str | None = None
    """The queue it came through, which the CSA so serves."""
    team: str | None = None
    site: str | None = None
    profile: str | None = None


@dataclass(slots=True)
class Case:
    """One contact, as contacts.parquet has it; `place` is where it was read."""

    contact_id: str
    place: str
    arrived_at: int
    channel: str
    customer_id: str | None = None
    queue: str | None = None
    language: str | None = None
    intent: str | None = None
    intent_text: str = ""
    transcript: str = ""
    priority: float | None = None
    abandoned_at: int | None = None
    eligible: list[str] | None = None
    handovers: list[Handover] = field(default_factory=list)
