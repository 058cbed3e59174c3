"""What an import has to say of what it did not take over as it stood: counted by reason, each with one example.

Notable: a reason never holds a value of the data, so that the number of reasons stays small whatever the data are, and
the report holds nothing personal. The example is the first place in the order of reading, which a resumed import keeps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

DAMAGED = "damaged"
"""Records that cannot be used: these count against `--tolerate`."""
LEFT_OUT = "left out"
"""Records that belong into no table by a rule that docs/import.md states."""
REPAIRED = "repaired"
"""Records that were taken with one value put right, or with a value left out that cannot be."""
GUESSED = "guessed"
"""Records of which something was assumed that the source does not say."""
KINDS = (DAMAGED, LEFT_OUT, REPAIRED, GUESSED)

MOST_REASONS = 500
"""Reasons of one kind; whatever comes after them is counted together."""
OTHER = "other reasons"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: the file's name inside the source, its line (a table's: row) from 1, and the byte of the
    file where it begins, where several records stand in one line."""

    file: str
    line: int
    byte: int | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f" (byte {self.byte:,})" if self.byte is not None else "")


@dataclass(slots=True)
class Note:
    """How often, and where for the first time."""

    count: int
    example: str


class Notes:
    """Counts by kind and reason."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str], Note] = {}

    def add(self, kind: str, reason: str, place: Place | str, times: int = 1) -> None:
        """Counts one more; `place` is kept if it is the first."""
        key = (kind, reason)
        known = self._notes.get(key)
        if known is None and sum(1 for found, _ in self._notes if found == kind) >= MOST_REASONS:
            key = (kind, OTHER)
            known = self._notes.get(key)
        if known is None:
            self._notes[key] = Note(times, str(place))
        else:
            known.count += times

    def load(self, rows: Iterable[tuple[str, str, int, str]]) -> None:
        """Puts rows back that `rows` gave, before anything is added."""
        for kind, reason, count, example in rows:
            self._notes[kind, reason] = Note(count, example)

    def rows(self) -> list[tuple[str, str, int, str]]:
        """(kind, reason, count, example), in the order in which reasons were met."""
        return [(kind, reason, note.count, note.example) for (kind, reason), note in self._notes.items()]

    def total(self, kind: str) -> int:
        """How many there are of one kind."""
        return sum(note.count for (found, _), note in self._notes.items() if found == kind)

    def data(self) -> dict[str, list[dict[str, Any]]]:
        """By kind, the most frequent reason first."""
        return {
            kind: [
                {"reason": reason, "count": count, "example": example}
                for found, reason, count, example in sorted(self.rows(), key=lambda row: (-row[2], row[1]))
                if found == kind
            ]
            for kind in KINDS
        }

    def text(self) -> str:
        """A line a reason, under its kind."""
        lines = []
        for kind, reasons in self.data().items():
            lines += [f"{kind}:"] if reasons else []
            lines += [f"  {one['count']:>10,}  {one['reason']}, first at {one['example']}" for one in reasons]
        return "\n".join(lines)
