"""Contacts as callers hand them over: plain mappings, checked and turned into what the towers read.

Notable: every key may be missing or null (None, or what data frames have in its place), keys that are not known are
ignored, and a value of a wrong type is refused by name, so a router that sends nonsense hears of it at once instead of
getting a quietly worse match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.errors import TwoTowerError

TEXTS = (
    "contact_id",
    "customer_id",
    "channel",
    "queue",
    "language",
    "intent",
    "intent_text",
    "transcript",
    "customer_language",
)
TIMES = ("arrived_at", "customer_since")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST, LATEST = ((datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) for year in (1900, 2200))


class MatchError(TwoTowerError):
    """A contact, an eligible list or an option of a match is not what it should be."""


def clean(contact: Mapping[str, Any]) -> dict[str, Any]:
    """The known fields of a contact, times as int64 µs. Raises MatchError naming a field of a wrong type."""
    found: dict[str, Any] = {}
    for name in TEXTS:
        value = given(contact, name)
        if value is not None and not isinstance(value, str):
            raise MatchError(f"contact field {name!r}: text or None expected, got {type(value).__name__}")
        found[name] = value
    for name in TIMES:
        value = given(contact, name)
        found[name] = None if value is None else moment_of(value, name)
    found["priority"] = priority_of(given(contact, "priority"))
    return found


def given(contact: Mapping[str, Any], name: str) -> Any:
    """A field of a contact, None where it is missing or null: NaN, NaT and NA of a data frame are null, too."""
    value = contact.get(name)
    if value is None or isinstance(value, str):
        return value
    try:
        return None if bool(value != value) else value  # of all values these are not what they are
    except TypeError:  # NA will not even say so
        return None
    except ValueError:  # an array, which is no field
        return value


def priority_of(value: Any) -> float | None:
    """A contact's, None where it has none. Raises MatchError for what is no number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise MatchError(f"contact field 'priority': a number or None expected, got {type(value).__name__}")
    return float(value)


def moment_of(value: Any, name: str) -> int:
    """Microseconds since 1970 in UTC of a datetime with a zone, or of such a number. Raises MatchError otherwise, and
    for moments outside of `EARLIEST` … `LATEST`, where a number of nanoseconds lies."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise MatchError(f"{name}: the time {value.isoformat()} has no zone; give it one, such as datetime.UTC")
        return (value - _EPOCH) // timedelta(microseconds=1)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if not EARLIEST <= value < LATEST:
            raise MatchError(f"{name}: {value} lies outside of 1900 to 2200; microseconds since 1970 are expected")
        return int(value)
    raise MatchError(f"{name}: a datetime with a zone or microseconds since 1970 expected, got {type(value).__name__}")


def columns_of(contacts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Cleaned contacts as columns of equal length."""
    return {name: [contact[name] for contact in contacts] for name in (*TEXTS, *TIMES, "priority")}


def eligible_codes(ids: Iterable[str], codes: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Distinct ascending codes of CSA ids. Raises MatchError naming those that the roster does not hold."""
    if isinstance(ids, str):
        raise MatchError("eligible: a list of csa_id expected, got one text")
    wanted = ids if isinstance(ids, list | tuple) else list(ids)
    try:
        found = np.sort(np.fromiter(map(codes.__getitem__, wanted), np.int64, len(wanted)))
    except KeyError:
        raise _unknown(wanted, codes) from None
    fresh = found[1:] != found[:-1]
    return found if fresh.all() else found[np.concatenate([[True], fresh])]


def _unknown(wanted: Sequence[str], codes: Mapping[str, int]) -> MatchError:
    unknown = sorted({str(i) for i in wanted if i not in codes})
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    named = ", ".join(repr(i) for i in unknown[:5])
    return MatchError(f"eligible: unknown csa_id {named}{more}; the roster of this bundle does not hold them")
