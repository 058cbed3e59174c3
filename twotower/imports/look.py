"""A look at the values of one column: what they could be, in what share of the rows.

Notable: days and months are told apart by the values themselves. Where no value has a number above twelve in either
place, both readings are kept, and the draft says that a person has to decide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from twotower.imports.times import Times, Unread
from twotower.imports.values import EMPTY, NO, YES, language_of, number_of, text_of

DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y",
         "%d.%m.%y", "%Y%m%d", "%d %b %Y", "%b %d, %Y", "%d-%b-%Y")  # fmt: skip
CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M %p")
FORMATS = tuple(f"{day}{between}{clock}" for day in DATES for between in (" ", "T") for clock in CLOCKS)
TIME_SHARE = 0.9
"""Share of values that one format must read."""
TRIED = 200
"""Values that formats are tried on."""
CATEGORY = 40
"""Distinct values that are kept by name."""

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.I)
_PHONE = re.compile(r"(?:\+|00)[\d\s().\-]{6,20}|\d{9,13}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_DURATION = re.compile(r"\d{1,3}:\d{2}(?::\d{2})?")


@dataclass
class Look:
    """What one column holds; shares are of the rows that have a value."""

    name: str
    rows: int = 0
    filled: int = 0
    distinct: int = 0
    common: dict[str, int] = field(default_factory=dict)
    """The values of a column with at most `CATEGORY` of them, most frequent first."""
    shares: dict[str, float] = field(default_factory=dict)
    """By kind: number, flag, language, phone, email, uuid, clock, iso, epoch."""
    formats: list[str] = field(default_factory=list)
    """Formats of times that read nearly every value; "" for ISO 8601 and numbers since 1970."""
    day_formats: list[str] = field(default_factory=list)
    """The same for dates alone."""
    zoned: bool = False
    """Whether its times name their zone."""
    decimal_comma: bool = False
    low: float | None = None
    high: float | None = None
    words: float = 0.0
    """Words of a value, on average."""
    examples: list[str] = field(default_factory=list)

    @property
    def share_filled(self) -> float:
        """Share of rows with a value."""
        return self.filled / max(1, self.rows)

    @property
    def share_distinct(self) -> float:
        """Distinct values as a share of those that are there."""
        return self.distinct / max(1, self.filled)

    def share(self, kind: str) -> float:
        """Share of values of that kind."""
        return self.shares.get(kind, 0.0)


def look_at(name: str, values: Sequence[Any]) -> Look:
    """Looks at a column's values, empty ones included."""
    texts = [text for value in values if (text := _text(value)) is not None and text.casefold() not in EMPTY]
    found = Look(name, len(values), len(texts), len(set(texts)))
    if not texts:
        return found
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    if len(counts) <= CATEGORY:
        found.common = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    found.examples = [text if len(text) <= 40 else text[:39] + "…" for text in list(counts)[:3]]
    found.words = sum(len(text.split()) for text in texts) / len(texts)
    distinct = list(counts)
    found.shares = {kind: _share(distinct, test) for kind, test in _KINDS.items()}
    _numbers(found, distinct)
    _times(found, distinct, [value for value in values if isinstance(value, datetime | date)])
    return found


def _text(value: Any) -> str | None:
    try:
        return value.isoformat() if isinstance(value, datetime | date) else text_of(value)
    except Unread:
        return None


def _share(texts: Sequence[str], test: Any) -> float:
    return sum(1 for text in texts if test(text)) / len(texts)


def _reads(read: Any) -> Any:
    def test(text: str) -> bool:
        try:
            return read(text) is not None
        except Unread:
            return False

    return test


_KINDS = {
    "number": _reads(number_of),
    "flag": lambda text: text.casefold() in YES | NO,
    "language": _reads(language_of),
    "phone": lambda text: _PHONE.fullmatch(text) is not None,
    "email": lambda text: _EMAIL.fullmatch(text) is not None,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
    "clock": lambda text: _DURATION.fullmatch(text) is not None,
}


def _numbers(found: Look, texts: Sequence[str]) -> None:
    commas = sum(1 for text in texts if re.fullmatch(r"-?\d{1,3}(?:\.?\d{3})*,\d+", text))
    if found.share("number") < TIME_SHARE and commas:
        share = _share(texts, _reads(lambda text: number_of(text, ",")))
        if share >= TIME_SHARE:
            found.decimal_comma, found.shares["number"] = True, share
    read = []
    for text in texts:
        try:
            number = number_of(text, "," if found.decimal_comma else ".")
        except Unread:
            continue
        if number is not None:
            read.append(number)
    if read:
        found.low, found.high = min(read), max(read)


def _times(found: Look, texts: Sequence[str], typed: Sequence[datetime | date]) -> None:
    if typed:
        found.formats = [""]
        found.zoned = all(isinstance(value, datetime) and value.tzinfo is not None for value in typed)
        return
    tried = list(texts[:TRIED])
    utc = Times(None, UTC)
    if _share(tried, _reads(utc.read)) >= TIME_SHARE and not _plain_number(found):
        found.formats = [""]
        found.zoned = _share(tried, _reads(Times(None, None).read)) >= TIME_SHARE
        if all("T" not in text and ":" not in text and not text.isdigit() for text in tried):
            found.formats, found.day_formats = [], ["%Y-%m-%d"]
        return
    if found.share("number") < TIME_SHARE:
        found.formats = [one for one in FORMATS if _share(tried, _reads(Times(one, UTC).read)) >= TIME_SHARE]
    found.day_formats = [one for one in DATES if _share(tried, _reads(Times(one, UTC).read)) >= TIME_SHARE]


def _plain_number(found: Look) -> bool:
    """Whether a column of numbers is no times: those since 1970 are large and differ."""
    return found.share("number") >= TIME_SHARE and (found.low is None or found.low < 3e8)
