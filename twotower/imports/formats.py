"""What every format has in common: how it is read into the spill, and how cases come out of it.

Notable: reading knows one record at a time and joins nothing. Whatever belongs together (deliveries of one contact
record, transfers, transcripts, comments, audits) meets in the spill, in its order, not in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args, get_type_hints

from twotower.imports.case import Case
from twotower.imports.customers import CustomerKeys
from twotower.imports.mapping import ImportMap
from twotower.imports.notes import DAMAGED, GUESSED, LEFT_OUT, REPAIRED, Notes, Place
from twotower.imports.records import LARGEST, Cursor, Found, Records
from twotower.imports.sources import SourceFile, Stream
from twotower.imports.spill import Spill
from twotower.imports.times import Times, Unread

UNUSED = "unused "
"""Before the names of counts of what no column takes."""
MOST_UNUSED = 200


class Damaged(Exception):
    """A record cannot be used; the text says why, without a value of it."""


class LeftOut(Exception):
    """A record belongs into no table; the text says by which rule."""


class Step(NamedTuple):
    """One record was read: where to go on, how many bytes of the file that took so far, and how many after
    decompression."""

    cursor: Any
    consumed: int
    unpacked: int


@dataclass(frozen=True)
class Settings:
    """What formats are told."""

    mapping: ImportMap
    keys: CustomerKeys
    largest: int = LARGEST
    masked: bool = True
    """Whether texts will be masked: then a transcript that the source masked already is preferred."""


class Format(ABC):
    """One kind of export."""

    tables: str
    """SQL that creates the format's own tables."""

    def __init__(self, settings: Settings, spill: Spill) -> None:
        self.settings, self.spill = settings, spill

    @property
    def notes(self) -> Notes:
        """Where everything is noted."""
        return self.spill.notes

    def not_used(self, what: str) -> None:
        """Counts something that a record tells and no column takes; names beyond `MOST_UNUSED` together."""
        key = f"{UNUSED}{what}"
        if key not in self.spill.counts:
            known = sum(1 for name in self.spill.counts if name.startswith(UNUSED))
            key = key if known < MOST_UNUSED else f"{UNUSED}others"
        self.spill.counts[key] += 1

    @abstractmethod
    def read(self, file: SourceFile, cursor: Any) -> Iterator[Step]:
        """Reads a file from a cursor on (None: from its beginning) into the spill; a step for each record."""

    @abstractmethod
    def arrange(self) -> None:
        """Brings together, in the spill, what was read from all files; may be run again after it was stopped."""

    @abstractmethod
    def cases(self, after: int) -> Iterator[tuple[int, Case | None]]:
        """The cases behind number `after`, each with its number, ascending; None for what becomes no case."""

    @abstractmethod
    def mapped(self) -> dict[str, str]:
        """From what each column `table.column` comes, in words."""


class JsonFormat(Format):
    """Exports that are JSON objects."""

    pages: frozenset[str] = frozenset()

    @abstractmethod
    def is_record(self, value: dict[str, Any], page: str | None) -> bool:
        """Whether an object looks like a record of this format."""

    @abstractmethod
    def take(self, value: dict[str, Any], page: str | None, place: Place) -> None:
        """Puts one record into the spill. Raises Damaged or LeftOut."""

    def read(self, file: SourceFile, cursor: Any) -> Iterator[Step]:
        """Reads one file."""
        at = Cursor() if cursor is None else Cursor(*cursor)
        stream = Stream(file.path, at.offset)
        empty = at.offset == 0
        try:
            for found in Records(stream.read, self.is_record, self.pages, at, self.settings.largest):
                empty = False
                self._take(found, Place(file.name, found.line, found.byte))
                after = found.after
                yield Step(after, stream.consumed, after.offset)
            if stream.damage is not None:
                self.notes.add(DAMAGED, stream.damage, file.name)
            elif empty:
                self.notes.add(DAMAGED, "files without a record", file.name)
        finally:
            stream.close()

    def _take(self, found: Found, place: Place) -> None:
        self.spill.counts["records"] += 1
        if found.value is None:
            self.notes.add(DAMAGED, found.why or "", place)
            return
        if found.mended:
            self.notes.add(REPAIRED, "bytes that are not UTF-8, replaced", place)
        try:
            self.take(found.value, found.page, place)
        except Damaged as why:
            self.notes.add(DAMAGED, str(why), place)
        except LeftOut as why:
            self.notes.add(LEFT_OUT, str(why), place)


class Fields:
    """Values of one record by name, each read or noted; never raises for what a value is.

    The notes' reasons begin with `prefix` and the value's name.
    """

    def __init__(self, notes: Notes, place: Place | str, times: Times, prefix: str = "") -> None:
        self._notes, self._place, self._times, self._prefix = notes, place, times, prefix

    def time(self, holder: dict[str, Any], name: str) -> int | None:
        """A time in microseconds, None for nothing and for what is no time."""
        value = holder.get(name)
        if value is None or value == "":
            return None
        try:
            return self._times.read(value)
        except Unread as why:
            self._notes.add(REPAIRED, f"{self._prefix}{name} {why}: left out", self._place)
            return None

    def count(self, holder: dict[str, Any], name: str) -> float | None:
        """A number of zero or more, None for nothing and for what is none."""
        value = holder.get(name)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
            return float(value)
        why = "is negative" if isinstance(value, int | float) and value < 0 else "is no number"
        self._notes.add(REPAIRED, f"{self._prefix}{name} {why}: left out", self._place)
        return None

    def guess(self, reason: str) -> None:
        """Something was assumed."""
        self._notes.add(GUESSED, reason, self._place)

    def leave_out(self, reason: str) -> None:
        """Something was not read."""
        self._notes.add(LEFT_OUT, reason, self._place)

    def repair(self, reason: str) -> None:
        """Something was put right."""
        self._notes.add(REPAIRED, reason, self._place)


def declared(row: type) -> str:
    """SQL columns of a NamedTuple of optional texts and numbers, without its first field, the number of the row."""
    kinds = {str: "TEXT", int: "INTEGER", float: "REAL"}
    columns = []
    for name, hint in list(get_type_hints(row).items())[1:]:
        kind = next((one for one in get_args(hint) if one is not type(None)), hint)
        columns.append(f"{name} {kinds[kind]}")
    return ", ".join(columns)


def part(holder: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under a name, an empty one where there is none."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def identity(value: Any, what: str) -> str:
    """An id as text. Raises Damaged where there is none, or one of bytes that are no text."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**40 else None
    if not isinstance(value, str) or not value.strip():
        raise Damaged(f"records without {what}")
    text = value.strip()
    if len(text) > 256 or "\ufffd" in text or "\0" in text or not _encodable(text):
        raise Damaged(f"records with {what} that is no id: over 256 characters, or broken ones")
    return text


def _encodable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
