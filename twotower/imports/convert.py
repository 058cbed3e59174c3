"""Reads the columns of a mapping out of a record: one converter a column, made once.

Notable: a value that cannot be costs itself and not its record, unless the row cannot do without it; which column it
was is part of the reason that is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twotower.clock import ARROW_TIME
from twotower.errors import ConfigError
from twotower.imports.customers import CustomerKeys
from twotower.imports.mapping import Field
from twotower.imports.times import Times, Unread, zone_of
from twotower.imports.values import (
    EMPTY,
    clean,
    flag_of,
    language_of,
    list_of,
    number_of,
    seconds_of,
    skills_of,
    text_of,
)
from twotower.tables.schema import FLAG, FLOAT, INTEGER, SKILLS, TEXT, Column

Get = Callable[[str], Any]
"""Gives the raw value under a name, None where there is none."""
ROW = "\0row"
"""The name under which a row says where it stands."""


class Converter:
    """One column of one table.

    Args:
        column: what is declared of it.
        field: where it comes from.
        zone: of times without one, an IANA name.
        decimal: the sign before decimals.
        keys: customers' ids.
        doubtful: told where a value could be read in two ways.
    """

    def __init__(
        self,
        column: Column,
        field: Field,
        zone: str | None = None,
        decimal: str = ".",
        keys: CustomerKeys | None = None,
        doubtful: Callable[[str], None] | None = None,
    ) -> None:
        self.column, self.field = column, field
        self._decimal, self._keys = decimal, keys
        named = field.zone or zone
        self._times = Times(field.format, None if named is None else zone_of(named, column.name), doubtful)
        self._read = self._reader()
        if field.plus and not column.type.equals(ARROW_TIME):
            raise ConfigError(f"{column.name}: `plus` belongs to times")

    def value(self, get: Get) -> Any:
        """What the column holds: microseconds for a time, Python's own types else; None for nothing.

        Raises:
            Unread: the value cannot be what the column holds.
        """
        raw = self._raw(get)
        if raw is None:
            return None
        if self.field.values:
            text = text_of(raw)
            raw = self.field.values.get(text or "", raw)
        value = self._read(raw)
        if value is not None:
            for more in self.field.plus:
                seconds = seconds_of(_raw(more, get), more.unit, self._decimal)
                if seconds is None:
                    raise Unread(f"has no {' '.join(more.source)} to be added")
                value += round(seconds * 1e6)
        return value

    def _raw(self, get: Get) -> Any:
        if self.field.row:
            return get(ROW)
        return self.field.value if self.field.value is not None else _raw(self.field, get)

    def _reader(self) -> Callable[[Any], Any]:
        name, kind, field = self.column.name, self.column.type, self.field
        if name == "customer_id":
            return self._customer
        if self.column.pattern is not None and kind.equals(TEXT):
            return language_of
        if kind.equals(TEXT):
            return _free if self.column.free else _text
        if kind.equals(ARROW_TIME):
            return lambda raw: None if _nothing(raw) else self._times.read(raw)
        if name == "handle_time_s":
            return lambda raw: seconds_of(raw, field.unit, self._decimal)
        if kind.equals(FLAG):
            return lambda raw: flag_of(raw, field.yes, field.no)
        if kind.equals(FLOAT) or kind.equals(INTEGER):
            return self._number
        if kind.equals(SKILLS):
            return lambda raw: skills_of(raw, field.split)
        return self._list

    def _customer(self, raw: Any) -> str | None:
        text = text_of(raw)
        if text is None or text.casefold() in EMPTY or self._keys is None:
            return None
        return text if self.field.hash == "no" else self._keys.key(text, self.field.hash)

    def _number(self, raw: Any) -> float | int | None:
        number = number_of(raw, self._decimal)
        if number is None:
            return None
        column = self.column
        if self.field.scale is not None and column.low is not None and column.high is not None:
            low, high = self.field.scale
            if not low <= number <= high:
                raise Unread(f"is outside of the scale {low:g}..{high:g}")
            number = column.low + (number - low) * (column.high - column.low) / (high - low)
        if (column.low is not None and number < column.low) or (column.high is not None and number > column.high):
            raise Unread("is out of bounds")
        if column.above is not None and number <= column.above:
            raise Unread("is out of bounds")
        return int(number) if column.type.equals(INTEGER) else number

    def _list(self, raw: Any) -> list[str] | None:
        parts = list_of(raw, self.field.split)
        if parts is None or self.column.pattern is None:
            return parts
        return [tag for part in parts if (tag := language_of(part))]


def converters(fields: Mapping[str, Field], columns: Mapping[str, Column], **options: Any) -> dict[str, Converter]:
    """One converter a mapped column; `options` are those of `Converter`."""
    return {name: Converter(columns[name], field, **options) for name, field in fields.items()}


def _raw(field: Field, get: Get) -> Any:
    if len(field.source) == 1:
        return get(field.source[0])
    parts = [text for name in field.source if (text := text_of(get(name))) is not None]
    return " ".join(parts) if len(parts) == len(field.source) else None


def _nothing(raw: Any) -> bool:
    return raw is None or (isinstance(raw, str) and raw.strip().casefold() in EMPTY)


def _text(raw: Any) -> str | None:
    text = text_of(raw)
    return None if text is None or text.casefold() in EMPTY else text


def _free(raw: Any) -> str | None:
    """Free text keeps its line breaks."""
    return clean(raw).strip() if isinstance(raw, str) else text_of(raw)
