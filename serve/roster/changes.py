"""What can change about a roster, one CSA at a time, as values that cross a process or a file as JSON.

Notable: a change says what is so from now on, not what was so before, so to apply it twice changes nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from serve.contact import MatchError

Presence = Literal["idle", "busy", "away"]
STATES: tuple[Presence, ...] = ("idle", "busy", "away")
LONGEST_ID = 512


@dataclass(frozen=True)
class Join:
    """A CSA who is new, or one who comes back, with what is declared of them (columns of `csas.parquet`, and
    `channels`). Who is new is matched by that alone until hand-overs end; who comes back has their history, and what
    was declared before in the columns that are not named."""

    csa_id: str
    csa: Mapping[str, Any] = field(default_factory=dict)
    op: ClassVar[str] = "join"


@dataclass(frozen=True)
class Leave:
    """A CSA who is in no answer that begins from now on. What is remembered of them stays."""

    csa_id: str
    op: ClassVar[str] = "leave"


@dataclass(frozen=True)
class Change:
    """Other values of some columns of what is declared: skills, languages, channels, profile, capacity, …"""

    csa_id: str
    csa: Mapping[str, Any]
    op: ClassVar[str] = "change"


@dataclass(frozen=True)
class Shift:
    """On or off shift."""

    csa_id: str
    on: bool
    op: ClassVar[str] = "shift"


@dataclass(frozen=True)
class State:
    """Idle, busy or away."""

    csa_id: str
    state: Presence
    op: ClassVar[str] = "state"


@dataclass(frozen=True)
class Block:
    """A CSA and a customer who must not meet."""

    csa_id: str
    customer_id: str
    op: ClassVar[str] = "block"


@dataclass(frozen=True)
class Unblock:
    """The two may meet again."""

    csa_id: str
    customer_id: str
    op: ClassVar[str] = "unblock"


RosterChange = Join | Leave | Change | Shift | State | Block | Unblock
KINDS: dict[str, type[RosterChange]] = {kind.op: kind for kind in (Join, Leave, Change, Shift, State, Block, Unblock)}


def from_json(value: Any, where: str = "change") -> RosterChange:
    """The change of `{"op": "shift", "csa_id": "A7", "on": true}`. Raises MatchError, which begins with `where`, naming
    the field that is missing, unknown or of a wrong type."""
    if not isinstance(value, Mapping):
        raise MatchError(f"{where}: an object expected, got {type(value).__name__}")
    op = value.get("op")
    kind = KINDS.get(op) if isinstance(op, str) else None
    if kind is None:
        raise MatchError(f"{where}: op {op!r}; {', '.join(KINDS)} are known")
    names = tuple(one.name for one in fields(kind))
    if unknown := sorted(set(map(str, value)) - {"op", *names}):
        raise MatchError(f"{where} ({op}): unknown field {unknown[0]!r}; it has {', '.join(names)}")
    given = {name: value[name] for name in names if name in value}
    missing = [name for name in names if name not in given and not (kind is Join and name == "csa")]
    if missing:
        raise MatchError(f"{where} ({op}): field {missing[0]!r} is missing")
    change = kind(**given)
    check(change, f"{where} ({op})")
    return change


def to_json(change: RosterChange) -> dict[str, Any]:
    """The inverse of `from_json`, of plain values."""
    found = {one.name: getattr(change, one.name) for one in fields(change)}
    if isinstance(change, Join | Change):
        found["csa"] = dict(change.csa)
    return {"op": change.op, **found}


def check(change: RosterChange, where: str) -> None:
    """Raises MatchError, which begins with `where`, for a field of a wrong type or an impossible value."""
    for name in ("csa_id", "customer_id"):
        value = getattr(change, name, "given")
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID:
            raise MatchError(f"{where}: {name} must be text of 1 to {LONGEST_ID} characters")
    if isinstance(change, Shift) and not isinstance(change.on, bool):
        raise MatchError(f"{where}: on must be true or false")
    if isinstance(change, State) and change.state not in STATES:
        raise MatchError(f"{where}: state must be one of {', '.join(STATES)}")
    if isinstance(change, Join | Change) and not isinstance(change.csa, Mapping):
        raise MatchError(f"{where}: csa must be an object of columns of csas.parquet")
