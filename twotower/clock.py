"""Times are int64 microseconds since 1970-01-01T00:00:00Z, from the Parquet files to the bundle.

Two values stand outside time: `NEVER` (later than everything: an outcome not known yet, a CSA who has not left) and
`NULL_TIME` (earlier than everything: a beginning nobody wrote down). Comparisons then need no special case:
`known_at < t` is false for NEVER, `hired_at <= t` is true for NULL_TIME.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twotower.errors import ConfigError

Times = npt.NDArray[np.int64]

NEVER: int = int(np.iinfo(np.int64).max)
NULL_TIME: int = int(np.iinfo(np.int64).min)
SECOND: int = 1_000_000
HOUR: int = 3600 * SECOND
DAY: int = 24 * HOUR
ARROW_TIME = pa.timestamp("us", tz="UTC")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> int:
    """The present by the machine's clock."""
    return time.time_ns() // 1000


def parse_time(text: str, option: str = "time") -> int:
    """Microseconds in UTC of an ISO 8601 time that names its zone, such as `2026-01-31T00:00:00Z`.

    Raises:
        ConfigError: the text is no time, or names no zone; `option` is named in the message.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is no time; write it like 2026-01-31T00:00:00Z") from None
    if moment.tzinfo is None:
        raise ConfigError(f"{option}: {text!r} names no time zone; add Z for UTC, like 2026-01-31T00:00:00Z")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_time(time: int) -> str:
    """ISO 8601 in UTC, to the second where that is exact; `never` and `unknown` for the values outside time."""
    if time == NEVER:
        return "never"
    if time == NULL_TIME:
        return "unknown"
    try:
        moment = _EPOCH + timedelta(microseconds=int(time))
    except OverflowError:
        return f"{time} µs after 1970"
    precision = "microseconds" if moment.microsecond else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def from_arrow(column: Any, null: int) -> Times:
    """An Arrow timestamp column (array or chunked, any unit, with a zone) as int64 microseconds, nulls as `null`."""
    whole = pc.cast(column, ARROW_TIME)
    numbers = pc.fill_null(pc.cast(whole, pa.int64()), null)
    return np.ascontiguousarray(numbers.to_numpy())


def to_arrow(times: Times) -> pa.Array:
    """The inverse of `from_arrow`: `NEVER` and `NULL_TIME` become null."""
    outside = (times == NEVER) | (times == NULL_TIME)
    return pa.array(np.asarray(times, dtype=np.int64), mask=outside).cast(ARROW_TIME)
