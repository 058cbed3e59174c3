"""A call log as arrays: who came when, waited how long, was served by whom for how long, or abandoned.

Notable: a class is a type of call and whether it has priority, so there are two classes for each type where the log
has priorities at all. Calls that never reached the queue, that are to be ignored, or that came outside opening hours
are counted and left out. The first row that cannot be is named with its file, row, column and value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.simulate.mapping import Columns, Days, LogMapping
from twotower.errors import ConfigError, DataError, shown

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
DAY_S = 86400.0
UNKNOWN = -1


@dataclass(frozen=True)
class Calls:
    """Calls (N,) by day and arrival; D days, T types, J CSAs."""

    dates: tuple[date, ...]
    """(D,)."""
    kinds: tuple[Days, ...]
    kind_of: Longs
    """(D,) kind of each day."""
    types: tuple[str, ...]
    csas: tuple[str, ...]
    counted: Flags
    """(T,) whether a type is in figures."""
    priorities: bool
    """Whether the log tells who has priority."""
    day: Longs
    arrival: Doubles
    """Seconds of the day."""
    type: Longs
    high: Longs
    """1: has priority, 0: has none, UNKNOWN: the log does not tell."""
    wait: Doubles
    lost: Flags
    handle: Doubles
    """Seconds; 0 of those who abandoned."""
    csa: Longs
    """UNKNOWN: nobody named, or abandoned."""
    left_out: dict[str, int]
    """How many rows were left out, and why."""

    def __len__(self) -> int:
        return len(self.day)

    def of_days(self, days: Longs) -> Calls:
        """Calls of some days; days keep their numbers."""
        keep = np.isin(self.day, days)
        names = ("day", "arrival", "type", "high", "wait", "lost", "handle", "csa")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def hours_of(self, day: int) -> Days:
        """Kind of a day."""
        return self.kinds[int(self.kind_of[day])]

    @property
    def start(self) -> Doubles:
        """When service began, s of the day; of those who abandoned, when they left."""
        return self.arrival + self.wait

    @property
    def named(self) -> Flags:
        """Served by somebody who is named."""
        return self.csa != UNKNOWN


def read_calls(path: str | Path, mapping: LogMapping) -> Calls:
    """Reads a Parquet or CSV file. Raises DataError or ConfigError, one line."""
    import pandas as pd

    name = str(path)
    suffix = Path(path).suffix.lower()
    if suffix not in (".parquet", ".csv"):
        raise ConfigError(f"{name}: a .parquet or .csv file expected")
    try:
        frame = pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from None
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: is no {suffix[1:]} table ({' '.join(str(error).split())[:200]})") from None
    return calls_of(frame, mapping, name)


def calls_of(frame: Any, mapping: LogMapping, name: str = "log") -> Calls:
    """Calls of a pandas frame. Raises DataError."""
    missing = [column for column in mapping.columns() if column not in frame.columns]
    if missing:
        raise DataError(f"{name}: no column {missing[0]!r}; name the right one in the mapping's `columns`")
    if not len(frame):
        raise DataError(f"{name}: no rows")
    table = _Table(frame, mapping, name)
    outcome = table.text(mapping.outcome)
    known = (*mapping.served, *mapping.abandoned, *mapping.ignored)
    table.refuse(~np.isin(outcome, known), mapping.outcome, f"one of {', '.join(known)}")
    lost = np.isin(outcome, mapping.abandoned)
    dates, day, weekday = table.dates()
    wait, handle = table.seconds(mapping.waited), table.seconds(mapping.handled)
    arrival = table.times(mapping.arrival)
    kind_of = _kinds(mapping, weekday, name)
    opens, closes = (np.array([getattr(kind, at) for kind in mapping.days]) for at in ("opens_s", "closes_s"))
    ignored = np.isin(outcome, mapping.ignored)
    failed = np.isin([one.isoformat() for one in dates], mapping.failed)[day]
    left = np.zeros(len(frame), np.bool_)
    if mapping.left_column is not None:
        left = lost & np.isin(table.text(mapping.left_column), mapping.left_values)
    closed = (arrival < opens[kind_of[day]]) | (arrival >= closes[kind_of[day]])
    keep, reasons = ~failed, {"on days of failure": int(failed.sum())}
    for why, rows in (("ignored", ignored), ("left before the queue", left), ("closed", closed)):
        reasons[why] = int((keep & rows).sum())
        keep &= ~rows
    order = np.flatnonzero(keep)[np.lexsort((arrival[keep], day[keep]))]
    types, of_type = np.unique(table.text(mapping.kind), return_inverse=True)
    csas, csa = _csas(table.text(mapping.csa), lost, mapping)
    high = np.zeros(len(frame), np.int64)
    if mapping.priority is not None:
        high[:] = np.isin(table.text(mapping.priority), mapping.high)
        if mapping.priority_of_queued_only:
            high[wait <= 0] = UNKNOWN
    return Calls(
        dates, mapping.days, kind_of, tuple(str(one) for one in types), csas,
        ~np.isin(types, mapping.not_counted), mapping.priority is not None,
        day[order], arrival[order], of_type.astype(np.int64)[order], high[order], wait[order], lost[order],
        np.where(lost, 0.0, handle)[order], csa[order],
        {"rows": len(frame), **reasons},
    )  # fmt: skip


def _csas(text: npt.NDArray[np.str_], lost: Flags, mapping: LogMapping) -> tuple[tuple[str, ...], Longs]:
    nobody = lost | np.isin(text, [*mapping.nobody, ""])
    names, inverse = np.unique(text[~nobody], return_inverse=True)
    csa = np.full(len(text), UNKNOWN, np.int64)
    csa[~nobody] = inverse
    return tuple(str(one) for one in names), csa


def _kinds(mapping: LogMapping, weekday: Longs, name: str) -> Longs:
    kind_of = np.full(len(weekday), UNKNOWN, np.int64)
    for place, kind in enumerate(mapping.days):
        kind_of[np.isin(weekday, kind.of)] = place
    if np.any(kind_of == UNKNOWN):
        raise DataError(f"{name}: calls on a weekday of none of the mapping's `days`; add its opening hours")
    return kind_of


class _Table:
    """Columns of a frame, checked."""

    def __init__(self, frame: Any, mapping: LogMapping, name: str) -> None:
        self.frame, self.mapping, self.name = frame, mapping, name

    def text(self, column: str) -> npt.NDArray[np.str_]:
        """As stripped text."""
        values: npt.NDArray[np.str_] = self.frame[column].astype(str).str.strip().to_numpy().astype(np.str_)
        return values

    def refuse(self, wrong: Flags, column: str, expected: str) -> None:
        """Raises DataError that names the first row that is wrong."""
        rows = np.flatnonzero(wrong)
        if len(rows):
            value = self.frame[column].iloc[int(rows[0])]
            value = value.item() if hasattr(value, "item") else value
            raise DataError(
                f"{self.name}, row {rows[0] + 1}: {column}: {shown(value)}; {expected} expected; correct the "
                f"{'row' if len(rows) == 1 else f'{len(rows)} such rows'}, or the mapping"
            )

    def dates(self) -> tuple[tuple[date, ...], Longs, Longs]:
        """Dates (D,) in order, each row's, and weekdays (D,)."""
        import pandas as pd

        column, form = self.mapping.date, self.mapping.date_format
        found = pd.to_datetime(pd.Series(self.text(column)), format=form, errors="coerce")
        self.refuse(found.isna().to_numpy(), column, f"a date of the form {form}")
        days, inverse = np.unique(found.to_numpy().astype("datetime64[D]"), return_inverse=True)
        dates = tuple(one.item() for one in days)
        return dates, inverse.astype(np.int64), np.array([one.weekday() for one in dates], np.int64)

    def times(self, column: str) -> Doubles:
        """Seconds of the day."""
        import pandas as pd

        form = self.mapping.time_format
        found = pd.to_datetime(pd.Series(self.text(column)), format=form, errors="coerce")
        self.refuse(found.isna().to_numpy(), column, f"a time of the form {form}")
        since = found - found.dt.normalize()
        seconds: Doubles = since.dt.total_seconds().to_numpy().astype(np.float64)
        return seconds

    def seconds(self, columns: Columns) -> Doubles:
        """A duration; one that would be negative by its two times went over midnight."""
        import pandas as pd

        if not isinstance(columns, str):
            begin, end = (self.times(column) for column in columns)
            return np.where(end < begin, end - begin + DAY_S, end - begin)
        found: Doubles = pd.to_numeric(self.frame[columns], errors="coerce").to_numpy().astype(np.float64)
        self.refuse(~((found >= 0) & (found < DAY_S)), columns, "seconds of 0 to less than a day")
        return found
