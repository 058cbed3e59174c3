"""What was masked, counted: by table, column and kind, never the texts themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from twotower.redaction.spans import Span


@dataclass
class ColumnTally:
    """Counts of one column."""

    rows: int = 0
    """Values read, nulls included."""
    changed: int = 0
    """Values in which something was masked."""
    characters: int = 0
    """Characters that were masked."""
    kinds: Counter[str] = field(default_factory=Counter)
    """How many spans of each kind."""

    def add(self, spans: Iterable[Span], times: int = 1) -> None:
        """One value's spans, which stand in `times` rows."""
        found = tuple(spans)
        self.changed += times if found else 0
        for span in found:
            self.kinds[span.kind] += times
            self.characters += times * (span.end - span.start)

    def data(self) -> dict[str, Any]:
        """The counts for a JSON report; kinds in the order of the alphabet."""
        kinds = {kind: self.kinds[kind] for kind in sorted(self.kinds)}
        return {"rows": self.rows, "changed": self.changed, "characters": self.characters, "masked": kinds}


class Tally:
    """Counts of a data set, table by table and column by column."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, str], ColumnTally] = {}
        self.copied: list[str] = []
        """Files that were copied byte for byte."""
        self.passed: list[str] = []
        """Columns of text, as `table.column`, that nobody asked to redact and no table declares."""

    def column(self, table: str, column: str) -> ColumnTally:
        """The counts of one column, zero at first."""
        return self._columns.setdefault((table, column), ColumnTally())

    def total(self) -> Counter[str]:
        """Spans by kind over all columns."""
        return sum((tally.kinds for tally in self._columns.values()), Counter())

    def data(self) -> dict[str, Any]:
        """`masked` → kind → count over all, `tables` → table → column → counts, and what was not looked at."""
        tables: dict[str, dict[str, Any]] = {}
        for (table, column), tally in self._columns.items():
            tables.setdefault(table, {})[column] = tally.data()
        total = self.total()
        masked = {kind: total[kind] for kind in sorted(total)}
        return {"masked": masked, "tables": tables, "copied": self.copied, "passed": self.passed}

    def text(self) -> str:
        """A line a column for people."""
        lines = []
        for (table, column), tally in self._columns.items():
            found = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tally.kinds.items())) or "nothing masked"
            lines.append(f"{table}.{column}: {tally.changed:,} of {tally.rows:,} rows changed: {found}")
        if self.passed:
            lines.append(f"not redacted, as no `columns` of the configuration names it: {', '.join(self.passed)}")
        return "\n".join(lines)
