"""What is told to the store: decisions as they are made, facts about hand-overs as they become known.

Notable: no database here, so whoever decides can make these without the extra. A decision is made on the router's hot
path and takes microseconds: its parts are kept as they come and are judged by the thread that writes. A fact is judged
at once, by the bounds that the tables declare, as its sender is still there to hear of it.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, Protocol

from serve.contact import MatchError, moment_of
from serve.explore import Decision
from serve.store.errors import InvalidFact
from twotower.clock import now
from twotower.errors import shown
from twotower.tables.schema import FLAG, FLOAT, INTERACTIONS

MOST_ID = 512  # characters; what an index of every database takes
OUTCOMES = ("resolved", "csat", "quality_score", "handle_time_s", "transferred")
TOLD = ("decision_id", "policy", "propensity")
_NO_ID = re.compile("[\x00\ud800-\udfff]")
_KINDS = {column.name: column for column in INTERACTIONS.columns}

Eligible = Sequence[str] | Callable[[], Sequence[str]] | None


class Offered(NamedTuple):
    """A candidate of a decision; `propensity` is the probability with which the policy takes it, None where unknown."""

    csa_id: str
    score: float
    p_resolved: float | None = None
    propensity: float | None = None


class Scored(Protocol):
    """What is read of a candidate, such as `serve.answer.Candidate`."""

    @property
    def csa_id(self) -> str:
        """The CSA."""

    @property
    def score(self) -> float:
        """What candidates are ordered by."""

    @property
    def p_resolved(self) -> float | None:
        """Predicted probability of success."""


_random = random.Random(os.urandom(32))
# Two processes with one state would give the same ids.
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def uuid7() -> str:
    """A new id, in the order of time to a millisecond (RFC 9562, version 7). No secret: who sees many can tell more."""
    bits = _random.getrandbits
    digits = f"{time.time_ns() // 1_000_000:012x}7{bits(12):03x}{bits(62) | 1 << 63:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@dataclass(slots=True)  # not frozen, which would take as long again
class Decided:
    """One decision for one contact. Making it checks nothing; it is not to be changed."""

    contact: Mapping[str, Any]
    """Its fields as `Matcher.match` takes them; without a contact_id it stands under the decision's id."""
    candidates: Sequence[Offered]
    eligible: Eligible = None
    """CSA ids who could have taken it, or a function that lists them when the decision is written; None: everyone."""
    chosen: str | None = None
    """Whom the router took, None where that is not decided here."""
    policy: str | None = None
    propensity: float | None = None
    """Probability with which the policy takes the chosen."""
    arm: str | None = None
    seed: int | None = None
    salt: str | None = None
    attempt: int = 0
    urgent: bool | None = None
    model: str | None = None
    """Id of the bundle."""
    roster_version: int | None = None
    fallback: str | None = None
    """Why the model did not answer, None where it did."""
    decided_at: int = field(default_factory=now)
    """µs since 1970."""
    decision_id: str = field(default_factory=uuid7)
    """Names it once: a decision that is told again counts once."""

    @classmethod
    def explored(
        cls, contact: Mapping[str, Any], candidates: Sequence[Scored], decision: Decision, **more: Any
    ) -> Decided:
        """What `serve.explore.Explorer.choose` decided among candidates. more: further fields, such as `eligible`."""
        chances = dict(zip(decision.csa_ids, decision.propensities, strict=True))
        return cls(
            {**contact, "contact_id": decision.contact_id},
            [Offered(one.csa_id, one.score, one.p_resolved, chances.get(one.csa_id)) for one in candidates],
            chosen=decision.csa_id,
            **{
                name: getattr(decision, name)
                for name in ("policy", "propensity", "arm", "seed", "salt", "attempt", "urgent")
            },
            **more,
        )


def offered(candidates: Iterable[Scored]) -> list[Offered]:
    """Candidates of a match without propensities."""
    return [Offered(one.csa_id, one.score, one.p_resolved) for one in candidates]


@dataclass(frozen=True)
class Feedback:
    """What is known by now of one hand-over: a row of interactions.parquet, as far as it goes. Times are µs.

    `known_at` is when the outcome it tells became known, `ended_at` where that is not said. Telling more later adds to
    it; telling the same again changes nothing.
    """

    contact_id: str
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
    decision_id: str | None = None
    feedback_id: str | None = None
    """The sender's key, None: the hand-over and what is told of it are the key."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Feedback:
        """From fields by name, times as `Matcher.match` takes them. Raises InvalidFact naming one that cannot be; one
        that is not known is refused, as an outcome that is misspelt would say that nothing is known."""
        names = [one.name for one in fields(cls)]
        if unknown := [name for name in told if name not in names]:
            raise InvalidFact(f"feedback field {shown(unknown[0])} is not known: {', '.join(names)} are")
        found = {name: _checked(name, told.get(name)) for name in names}
        for name in ("contact_id", "csa_id", "assigned_at"):
            if found[name] is None:
                raise InvalidFact(f"feedback field {name!r} is missing; contact_id, csa_id and assigned_at name it")
        made = cls(**found)
        made._refuse_order()
        return made

    @property
    def key(self) -> tuple[str, str, int]:
        """Which hand-over it is of."""
        return self.contact_id, self.csa_id, self.assigned_at

    @property
    def outcome(self) -> dict[str, Any]:
        """What it tells of the outcome, without nulls."""
        return {name: getattr(self, name) for name in OUTCOMES if getattr(self, name) is not None}

    @property
    def moment(self) -> int | None:
        """When its outcome became known, None where it tells none."""
        return (self.ended_at if self.known_at is None else self.known_at) if self.outcome else None

    def as_json(self) -> str:
        """All that it tells, in one line that is the same for the same."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None}, sort_keys=True)

    def _refuse_order(self) -> None:
        if self.outcome and self.moment is None:
            raise InvalidFact("known_at: missing, as is ended_at; say since when the outcome is known")
        for name in ("ended_at", "known_at"):
            value = getattr(self, name)
            if value is not None and value < self.assigned_at:
                raise InvalidFact(f"{name}: earlier than assigned_at; times of a hand-over do not run backwards")


def named(name: str, value: Any) -> str:
    """An id that every database can hold. Raises InvalidFact."""
    if not isinstance(value, str) or not 0 < len(value) <= MOST_ID or _NO_ID.search(value):
        raise InvalidFact(f"{name}: {shown(value)}; a text of 1 to {MOST_ID} characters without NUL is expected")
    return value


def storable(text: str) -> str:
    """Text without what no database holds, NUL and halves of characters: U+FFFD stands there."""
    return _NO_ID.sub("�", text)


def finite(value: Any) -> float | None:
    """A number as a float, None for what is none or not finite."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def time_of(name: str, value: Any) -> int:
    """µs since 1970 of a datetime with a zone or of such a number. Raises InvalidFact."""
    try:
        return moment_of(value, name)
    except MatchError as error:
        raise InvalidFact(str(error)) from None


def _checked(name: str, value: Any) -> Any:
    """One field as its column declares it; None stays."""
    if value is None:
        return None
    column = _KINDS.get(name)
    if name.endswith("_at"):
        return time_of(name, value)
    if column is not None and column.type == FLAG:
        if not isinstance(value, bool):
            raise InvalidFact(f"{name}: {shown(value)}; true, false or null is expected")
        return value
    if column is not None and column.type == FLOAT:
        low = 0.0 if column.low is None else column.low
        high = math.inf if column.high is None else column.high
        number = finite(value) if not isinstance(value, str) else None
        if number is None or not low <= number <= high or (column.above is not None and number <= column.above):
            raise InvalidFact(f"{name}: {shown(value)}; a number is expected, {column.unit}")
        return number
    return named(name, value)
