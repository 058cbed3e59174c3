"""Outcomes of hand-overs as callers hand them over: checked, with times as microseconds.

Notable: a name that is not known is refused, not ignored as with contacts: an outcome that is misspelt would teach the
matcher that nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from serve.contact import MatchError, moment_of

FLAGS = ("resolved", "transferred")
NUMBERS = {"handle_time_s": (0, 10_000_000), "csat": (1, 5)}  # from, to; the first is four months
NAMES = (*FLAGS, *NUMBERS, "ended_at")


@dataclass(frozen=True)
class Outcome:
    """How a hand-over ended: `known_at` µs; `ended_at` µs where its end is told with it; the rest as in
    `interactions.parquet`, None where it is not known."""

    known_at: int
    ended_at: int | None = None
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
        ended = None if fields.get("ended_at") is None else moment_of(fields["ended_at"], "ended_at")
        if ended is not None and ended > known:
            raise MatchError("ended_at: later than known_at, but an outcome is not known before the end")
        resolved, transferred = (_flag(name, fields.get(name)) for name in FLAGS)
        handle_time_s, csat = (_number(name, fields.get(name)) for name in NUMBERS)
        return cls(known, ended, resolved, transferred, handle_time_s, csat)


def _flag(name: str, value: Any) -> bool | None:
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    raise MatchError(f"outcome field {name!r}: True, False or None expected, got {value!r}")


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    low, high = NUMBERS[name]
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise MatchError(f"outcome field {name!r}: a number from {low} to {high} or None expected, got {value!r}")
    return float(value)
