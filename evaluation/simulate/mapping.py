"""Which column of a call log is what, as a YAML file says it (`configs/anonymousbank.yaml` is one)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twotower.errors import ConfigError, shown

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NEEDED = ("date", "arrival", "waited", "handled", "outcome", "csa", "class")
CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
Columns = str | tuple[str, str]


@dataclass(frozen=True)
class Days:
    """Days of one kind: which weekdays they are, and from when to when, in seconds of the day, they are open."""

    name: str
    of: tuple[int, ...]
    """Monday is 0."""
    opens_s: float
    closes_s: float


@dataclass(frozen=True)
class LogMapping:
    """How to read a log. `waited` and `handled` are a column of seconds, or two of times, from and to."""

    date: str
    arrival: str
    waited: Columns
    handled: Columns
    outcome: str
    csa: str
    kind: str
    days: tuple[Days, ...]
    served: tuple[str, ...]
    abandoned: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    priority: str | None = None
    high: tuple[str, ...] = ()
    priority_of_queued_only: bool = False
    left_column: str | None = None
    left_values: tuple[str, ...] = ()
    nobody: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    """Dates on which the system failed, like 1999-02-03: no centre is to be fitted to them, or judged by them."""
    not_counted: tuple[str, ...] = ()
    """Classes that are work for CSAs, but in no figure: calls that the centre makes."""
    date_format: str = "%Y-%m-%d"
    time_format: str = "%H:%M:%S"

    def columns(self) -> list[str]:
        """Names of all columns that are read."""
        found = [self.date, self.arrival, self.outcome, self.csa, self.kind]
        for one in (self.waited, self.handled):
            found += [one] if isinstance(one, str) else list(one)
        found += [name for name in (self.priority, self.left_column) if name is not None]
        return list(dict.fromkeys(found))


def read_mapping(path: str | Path) -> LogMapping:
    """Reads the file. Raises ConfigError, one line, that names the field and what was expected."""
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: is no YAML file ({' '.join(str(error).split())})") from None
    try:
        return mapping_of(found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def mapping_of(found: object) -> LogMapping:
    """The mapping of a parsed file. Raises ConfigError."""
    fields = {
        "columns", "formats", "outcomes", "left_before", "nobody", "high", "priority_of_queued_only", "days",
        "not_counted", "failed",
    }  # fmt: skip
    top = _table(found, "the file", fields, {"columns", "outcomes", "days"})
    columns = _table(top["columns"], "columns", {*NEEDED, "priority"}, set(NEEDED))
    formats = _table(top.get("formats", {}), "formats", {"date", "time"}, set())
    outcomes = _table(top["outcomes"], "outcomes", {"served", "abandoned", "ignored"}, {"served", "abandoned"})
    left = _table(top.get("left_before", {}), "left_before", {"column", "values"}, set())
    queued_only = top.get("priority_of_queued_only", False)
    if not isinstance(queued_only, bool):
        raise ConfigError(f"priority_of_queued_only: {shown(queued_only)}; true or false expected")
    if ("priority" in columns) != ("high" in top):
        raise ConfigError("columns.priority and high: both, or neither, expected")
    return LogMapping(
        **{name: _name(columns[name], f"columns.{name}") for name in ("date", "arrival", "outcome", "csa")},
        kind=_name(columns["class"], "columns.class"),
        waited=_columns(columns["waited"], "columns.waited"),
        handled=_columns(columns["handled"], "columns.handled"),
        priority=_name(columns["priority"], "columns.priority") if "priority" in columns else None,
        days=_days(top["days"]),
        served=_values(outcomes["served"], "outcomes.served"),
        abandoned=_values(outcomes["abandoned"], "outcomes.abandoned"),
        ignored=_values(outcomes.get("ignored", []), "outcomes.ignored"),
        high=_values(top.get("high", []), "high"),
        priority_of_queued_only=queued_only,
        left_column=_name(left["column"], "left_before.column") if left else None,
        left_values=_values(left.get("values"), "left_before.values") if left else (),
        nobody=_values(top.get("nobody", []), "nobody"),
        failed=_values(top.get("failed", []), "failed"),
        not_counted=_values(top.get("not_counted", []), "not_counted"),
        date_format=_name(formats.get("date", "%Y-%m-%d"), "formats.date"),
        time_format=_name(formats.get("time", "%H:%M:%S"), "formats.time"),
    )


def _table(found: object, name: str, known: set[str], needed: set[str]) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ConfigError(f"{name}: {shown(found)}; a mapping of {', '.join(sorted(known))} expected")
    if unknown := sorted(str(key) for key in found if key not in known):
        raise ConfigError(f"{name}: {unknown[0]!r} is no field; {', '.join(sorted(known))} are")
    if missing := sorted(needed - set(found)):
        raise ConfigError(f"{name}: {missing[0]!r} is missing; {', '.join(sorted(needed))} are needed")
    return found


def _name(found: object, name: str) -> str:
    if not isinstance(found, str) or not found:
        raise ConfigError(f"{name}: {shown(found)}; text expected")
    return found


def _columns(found: object, name: str) -> Columns:
    if isinstance(found, list) and len(found) == 2:
        return _name(found[0], name), _name(found[1], name)
    if isinstance(found, list):
        raise ConfigError(f"{name}: {shown(found)}; a column of seconds, or two of times, from and to, expected")
    return _name(found, name)


def _values(found: object, name: str) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(one, str | int) for one in found):
        raise ConfigError(f"{name}: {shown(found)}; a list of values expected")
    return tuple(str(one) for one in found)


def _days(found: object) -> tuple[Days, ...]:
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"days: {shown(found)}; kinds of days, each with `of` and `open`, expected")
    kinds, seen = [], set()
    for name, one in found.items():
        table = _table(one, f"days.{name}", {"of", "open"}, {"of", "open"})
        of = _values(table["of"], f"days.{name}.of")
        if wrong := [day for day in of if day not in WEEKDAYS or day in seen]:
            raise ConfigError(f"days.{name}.of: {wrong[0]!r}; weekdays, each in one kind, expected")
        seen |= set(of)
        hours = table["open"]
        if not isinstance(hours, list) or len(hours) != 2:
            raise ConfigError(f"days.{name}.open: {shown(hours)}; two times, such as ['7:00', '24:00'], expected")
        opens, closes = (_clock(hour, f"days.{name}.open") for hour in hours)
        if opens >= closes:
            raise ConfigError(f"days.{name}.open: {shown(hours)}; an opening before the closing expected")
        kinds.append(Days(str(name), tuple(WEEKDAYS.index(day) for day in of), opens, closes))
    return tuple(kinds)


def _clock(found: object, name: str) -> float:
    parts = CLOCK.fullmatch(found) if isinstance(found, str) else None
    if parts is None:
        raise ConfigError(f"{name}: {shown(found)}; a time in quotes, such as '7:00', expected")
    seconds = sum(int(part or 0) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True))
    if seconds > 86400:
        raise ConfigError(f"{name}: {shown(found)}; 24:00 at most expected")
    return float(seconds)
