"""Outcomes of hand-overs as callers hand them over: checked, with times as microseconds.

Notable: a name that is not known is refused, not ignored as with contacts: an outcome that is misspelt would teach the
matcher that nothing is known of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serve.contact import MatchError, moment_of

FLAGS, NUMBERS = ("resolved", "transferred"), {"handle_time_s": (0.0, math.inf), "csat": (1.0, 5.0)}
NAMES = (*FLAGS, *NUMBERS, "ended_at")


@dataclass(frozen=True)
class Outcome:
    """How a hand-over ended: `known_at`, `ended_at` µs; the rest as in `interactions.parquet`, None where it is not
    known."""

    known_at: int
    ended_at: int
    resolved: bool | None = None
    transferred: bool | None = None
    handle_time_s: float | None = None
    csat: float | None = None

    @classmethod
    def of(cls, known_at: datetime | int, fields: Mapping[str, Any]) -> Outcome:
        """From fields by `NAMES`, any of which may be missing or None. Raises MatchError naming one that cannot be."""
        if unknown := [name for name in fields if name not in NAMES]:
            raise MatchError(f"outcome field {unknown[0]!r} is not known: {', '.join(NAMES)} are")
        known = moment_of(known_at, "known_at")
        ended_at = fields.get("ended_at")
        ended = known if ended_at is None else moment_of(ended_at, "ended_at")
        if ended > known:
            raise MatchError("ended_at: later than known_at, but an outcome is not known before the end")
        resolved, transferred = (_flag(name, fields.get(name)) for name in FLAGS)
        handle_time_s, csat = (_number(name, fields.get(name)) for name in NUMBERS)
        return cls(known, ended, resolved, transferred, handle_time_s, csat)


def _flag(name: str, value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise MatchError(f"outcome field {name!r}: True, False or None expected, got {type(value).__name__}")
    return value


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    low, high = NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or value == math.inf:
        raise MatchError(f"outcome field {name!r}: a number from {low:g} to {high:g} or None expected, got {value!r}")
    return float(value)
