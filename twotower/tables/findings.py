"""Every problem of a folder, counted by kind, with the first few of each kind kept as examples."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twotower.clock import NULL_TIME, format_time, from_arrow
from twotower.tables.read import Problem

EXAMPLES = 10
Kind = tuple[str, str | None, str]


class Findings:
    """Collects problems; a kind is a file, a column and a reason, and a million rows of one kind stay small."""

    def __init__(self) -> None:
        self.counts: dict[Kind, int] = {}
        self.examples: dict[Kind, list[Problem]] = {}

    def __len__(self) -> int:
        """How many problems there are, examples or not."""
        return sum(self.counts.values())

    def add(self, *problems: Problem) -> None:
        """Single problems, each with its own place."""
        for problem in problems:
            self._count((problem.file, problem.column, problem.why), 1, [problem])

    def add_rows(
        self, file: str, column: str, why: str, rows: npt.NDArray[np.int64], values: pa.Array | None = None
    ) -> None:
        """Problems of one kind in many rows: (n,) row numbers of the file, and what stands in the first of them."""
        said = readable(values) if values is not None else [None] * EXAMPLES
        pairs = zip(rows[:EXAMPLES], said, strict=False)
        self.add_kind([Problem(file, why, column, int(row), value) for row, value in pairs], len(rows))

    def add_kind(self, examples: Sequence[Problem], count: int) -> None:
        """`count` problems of one kind, of which these are the first."""
        if examples:
            self._count((examples[0].file, examples[0].column, examples[0].why), count, list(examples))

    def text(self) -> str:
        """One line a problem, and a line with the count of what is not shown."""
        lines = []
        for kind, count in self.counts.items():
            shown = self.examples[kind]
            lines += [problem.line for problem in shown]
            if count > len(shown):
                place = kind[0] + (f", column {kind[1]}" if kind[1] else "")
                lines.append(f"{place}: {kind[2]}: {count - len(shown):,} more, {count:,} in all")
        total = len(self)
        return "\n".join([*lines, f"{total:,} problem{'s' if total != 1 else ''}; rows count from 0"])

    def data(self) -> list[dict[str, Any]]:
        """One entry a kind, with its count and its examples."""
        return [
            {
                "file": kind[0],
                "column": kind[1],
                "why": kind[2],
                "count": count,
                "examples": [{"row": problem.row, "value": problem.value} for problem in self.examples[kind]],
            }
            for kind, count in self.counts.items()
        ]

    def _count(self, kind: Kind, count: int, shown: list[Problem]) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + count
        kept = self.examples.setdefault(kind, [])
        kept += shown[: EXAMPLES - len(kept)]


def readable(values: pa.Array) -> list[str]:
    """Values as text for a line each."""
    if pa.types.is_timestamp(values.type):
        # As numbers: Arrow can hold times that Python cannot.
        return [format_time(time) for time in from_arrow(values, NULL_TIME)]
    return [short(value) for value in values.to_pylist()]


def short(value: Any, length: int = 60) -> str:
    """A value in a line: its repr, cut where it is long."""
    text = value.isoformat() if isinstance(value, datetime) else " ".join(repr(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"
