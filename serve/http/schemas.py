"""What the service is asked and what it answers, as OpenAPI tells it.

Notable: strict: a number is no text and a text no number, a field that is not known is an error of the caller's, but
for those of a contact, which may have more columns than the matcher reads. JSON is parsed by pydantic's parser, which
refuses more than some 200 levels of nesting, halves of characters, and numbers that are none.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from serve.assign import WAIT, Method
from serve.contact import EARLIEST, LATEST, MatchError, moment_of
from serve.roster.changes import LONGEST_ID, Presence
from serve.roster.eligibility import Need
from serve.sets.wait import Order, Waiting
from twotower.clock import parse_time
from twotower.errors import ConfigError

LONGEST_TEXT = 500_000
Id = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00]+$")]
Label = Annotated[str, StringConstraints(max_length=LONGEST_ID)]
Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]


def _moment(value: Any) -> int:
    """µs since 1970. A text of digits alone is refused: others read seconds there."""
    if isinstance(value, str):
        try:
            value = parse_time(value, "time")
        except ConfigError:
            raise ValueError("a time with its zone is expected, like 2026-01-31T00:00:00Z, or microseconds") from None
    try:
        return moment_of(value, "time")
    except MatchError as error:
        raise ValueError(str(error)) from None


Moment = Annotated[
    int,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": EARLIEST, "maximum": LATEST - 1},
                {"type": "string", "format": "date-time"},
            ]
        }
    ),
]


class Asked(BaseModel):
    """Base of all that is asked."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class ContactBody(BaseModel):
    """A contact as in contacts.parquet; every field may be missing or null. Times: ISO 8601 with a zone, or µs."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)
    contact_id: Id | None = None
    customer_id: Id | None = None
    arrived_at: Moment | None = None
    channel: Label | None = None
    queue: Label | None = None
    language: Label | None = None
    intent: Label | None = None
    intent_text: Text | None = None
    transcript: Text | None = None
    priority: float | None = None
    customer_since: Moment | None = None
    customer_language: Label | None = None

    def fields(self) -> dict[str, Any]:
        """As the matcher takes it."""
        return {name: value for name, value in self.__dict__.items() if value is not None}


class NeedBody(Asked):
    """What a contact asks of who takes it; the roster looks up who that is."""

    language: Label | None = None
    channel: Label | None = None
    on_shift: bool = True
    states: Annotated[list[Presence], Field(max_length=3)] = ["idle"]

    def need(self) -> Need:
        """As the matcher takes it."""
        return Need(self.language, self.channel, self.on_shift, tuple(self.states))


EligibleBody = list[Id] | NeedBody | None


def eligible_of(body: EligibleBody) -> Any:
    """As the matcher takes it."""
    return body.need() if isinstance(body, NeedBody) else body


class MatchBody(Asked):
    """One contact, and who could take it."""

    contact: ContactBody
    k: Annotated[int, Field(ge=1)] = 10
    eligible: EligibleBody = None
    queue: Annotated[list[Id], Field(max_length=10_000)] | None = None
    rank: Literal["success", "handled"] | None = None
    at: Moment | None = None
    decision_id: Id | None = None


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class WaitBody(Asked):
    """What a second of waiting is worth, beside the probability of being resolved, how long a wait may be, and which of
    the contacts' priorities come first (null: they do not count)."""

    per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = WAIT.per_s
    guarantee_s: Seconds | None = None
    priority: Order | None = None

    def waiting(self) -> Waiting:
        """As the matcher takes it."""
        guarantee_s = math.inf if self.guarantee_s is None else self.guarantee_s
        return Waiting(self.per_s, guarantee_s, priority=self.priority)


class AssignContact(ContactBody):
    """A contact that waits, and who could take it; wait_s: for how long, in place of what `arrived_at` tells;
    guarantee_s: after how long it is taken up before all others."""

    eligible: EligibleBody = None
    wait_s: Seconds | None = None
    guarantee_s: Seconds | None = None


class AssignBody(Asked):
    """Contacts that wait; capacity: how many of them a CSA takes, by id, 1 where it is not named."""

    contacts: Annotated[list[AssignContact], Field(min_length=1)]
    capacity: Annotated[dict[str, Annotated[int, Field(ge=0, le=10_000)]], Field(max_length=100_000)] = {}
    rank: Literal["success", "handled"] | None = None
    at: Moment | None = None
    method: Method = "sets"
    wait: WaitBody | None = None


class RosterBody(Asked):
    """Changes, made all or none: {"op": "join|leave|change|shift|state|block|unblock", "csa_id": …, …}."""

    changes: Annotated[list[dict[str, Any]], Field(min_length=1)]


class FactBody(Asked):
    """What is known of one hand-over: a row of interactions.parquet, as far as it goes."""

    contact_id: Id
    csa_id: Id
    assigned_at: Moment
    ended_at: Moment | None = None
    known_at: Moment | None = None
    resolved: bool | None = None
    csat: float | None = None
    quality_score: float | None = None
    handle_time_s: float | None = None
    transferred: bool | None = None
    policy: Label | None = None
    propensity: float | None = None
    decision_id: Id | None = None
    feedback_id: Id | None = None


class FeedbackBody(Asked):
    """Facts about hand-overs, stored all or none, durable when the answer comes; a repeat counts once."""

    facts: Annotated[list[FactBody], Field(min_length=1)]


class EraseBody(Asked):
    """A customer to be forgotten. To erase somebody of whom nothing is known is no error."""

    customer_id: Id


class ExplainBody(Asked):
    """A contact and a CSA."""

    contact: ContactBody
    csa_id: Id
    rank: Literal["success", "handled"] | None = None
    at: Moment | None = None
    top: Annotated[int, Field(ge=0, le=100)] = 5


class Problem(BaseModel):
    """Why not."""

    error: str
    request_id: str


class ReasonAnswer(BaseModel):
    """One part of a score, as in the matcher."""

    part: str
    effect: float
    share: float


class CandidateAnswer(BaseModel):
    """A CSA; under a fallback `score` is minus the place."""

    csa_id: str
    score: float
    p_resolved: float | None
    uncertainty: float | None
    reasons: list[ReasonAnswer]
    expected: dict[str, float | None]


class MatchAnswer(BaseModel):
    """Candidates, best first. `fallback`: None where the model answered, else why it did not."""

    request_id: str
    decision_id: str
    candidates: list[CandidateAnswer]
    fallback: str | None
    why: str | None
    model: str
    roster_version: int
    elapsed_ms: dict[str, float]


class AssignmentAnswer(BaseModel):
    """Who takes one contact, null where nobody is left."""

    contact_id: str | None
    decision_id: str
    csa_id: str | None
    score: float | None
    p_resolved: float | None
    fallback: str | None


class AssignAnswer(BaseModel):
    """In the order of the contacts that were given."""

    request_id: str
    assignments: list[AssignmentAnswer]
    model: str
    roster_version: int


class VersionAnswer(BaseModel):
    """The roster's version after the changes; answers that begin later have seen them."""

    request_id: str
    version: int


class CsaAnswer(BaseModel):
    """One CSA of the roster."""

    csa_id: str
    active: bool
    on_shift: bool
    state: str
    since: int | None
    languages: list[str]
    channels: list[str] | None
    joined: bool


class RosterAnswer(BaseModel):
    """Some of a roster's CSAs, from `offset` on, of `total`."""

    version: int
    active: int
    total: int
    offset: int
    csas: list[CsaAnswer]


class FeedbackAnswer(BaseModel):
    """How many facts told something new; all are stored."""

    request_id: str
    new: int


class EraseAnswer(BaseModel):
    """What was erased: rows of the store by table, blocked pairs; and whether the customers' store knew them, null
    without one."""

    request_id: str
    rows: dict[str, int]
    customers: bool | None
    pairs: int


class HealthAnswer(BaseModel):
    """Whether the process is there, or ready."""

    status: str
