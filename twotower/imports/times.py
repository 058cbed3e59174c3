"""Times as exports write them: ISO 8601, other formats, numbers of seconds to nanoseconds since 1970, with and without
a zone.

Notable: a time that names no zone is read in the zone of `zone`, and refused where none is stated: an hour's error
moves facts across the moment of a match. A local time that a change of the clocks makes twice is the first of the two,
one that it skips is read with the offset before; both are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from twotower.errors import ConfigError

EARLIEST, LATEST = 1980, 2100
"""Years outside are no times of a contact centre; exports write such for "never" and "not set"."""

NO_TIME = "is no time"
NO_ZONE = "is a time without a zone; state `zone` in the map"
OUTSIDE = f"is a time outside of {EARLIEST} to {LATEST}"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LEAST = (datetime(EARLIEST, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_MOST = (datetime(LATEST, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_UNITS = ((1e11, 1_000_000.0), (1e14, 1_000.0), (1e17, 1.0), (1e20, 1e-3))  # numbers below → microseconds of one


class Unread(Exception):
    """A value is not what a column holds; its text completes "`column` …"."""


class Times:
    """Reads times into microseconds since 1970 in UTC.

    Args:
        format: as `datetime.strptime` takes it; None: ISO 8601, or a number since 1970.
        zone: of times that name none; None: such are refused.
        doubtful: called with a reason where a time could be read in two ways.
    """

    def __init__(
        self, format: str | None = None, zone: tzinfo | None = None, doubtful: Callable[[str], None] | None = None
    ) -> None:
        self._format, self._zone, self._doubtful = format, zone, doubtful

    def read(self, value: Any) -> int:
        """Microseconds. Raises Unread."""
        if isinstance(value, str):
            if self._format is None and len(value) == 20 and value[-1] == "Z":
                return _within(_utc(value))
            text = value.strip()
            moment = self._parsed(text)
            if moment is None:
                return self._number(_digits(text))
        elif isinstance(value, datetime):
            moment = value
        elif isinstance(value, date):
            moment = datetime(value.year, value.month, value.day)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(float(value))
        else:
            raise Unread(NO_TIME)
        return _within(self._moment(moment))

    def _parsed(self, text: str) -> datetime | None:
        """The time that a text writes; None where it is a number."""
        try:
            if self._format is not None:
                return datetime.strptime(text, self._format)
            if text.isascii() and text.isdigit() and len(text) != 8:  # eight digits are a date
                return None
            return datetime.fromisoformat(text)
        except ValueError:
            pass
        if self._format is None and text.endswith((" UTC", " GMT")):
            return self._parsed(text[:-4] + "Z")
        if self._format is None and text.isascii() and text.replace(".", "", 1).isdigit():
            return None
        raise Unread(NO_TIME if self._format is None else f"is no time like {self._format}")

    def _number(self, number: float) -> int:
        for below, micro in _UNITS:
            if 0 < number < below:
                return _within(round(number * micro))
        raise Unread(OUTSIDE)

    def _moment(self, moment: datetime) -> int:
        if moment.tzinfo is None:
            if self._zone is None:
                raise Unread(NO_ZONE)
            moment = moment.replace(tzinfo=self._zone)
            if self._doubtful is not None and moment.utcoffset() != moment.replace(fold=1).utcoffset():
                self._doubtful("local times at a change of the clocks, read with the offset before it")
        try:
            return (moment - _EPOCH) // _MICROSECOND
        except OverflowError:
            raise Unread(OUTSIDE) from None


def zone_of(name: str, where: str) -> tzinfo:
    """The zone of that IANA name. Raises ConfigError, one line that names `where`."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"{where}: {name!r} is no time zone; write one like Europe/Madrid or UTC") from None


@lru_cache(maxsize=1 << 12)
def _utc(text: str) -> int:
    """The usual form, `2026-01-31T00:00:00Z`; one record says the same time several times."""
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
    except ValueError:
        raise Unread(NO_TIME) from None


def _digits(text: str) -> float:
    return float(text) if len(text) < 32 else float("inf")


def _within(micros: int) -> int:
    if not _LEAST <= micros < _MOST:
        raise Unread(OUTSIDE)
    return micros
