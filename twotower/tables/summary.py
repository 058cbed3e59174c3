"""What is there: figures of each table, accumulated batch by batch while `check` reads it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from twotower.clock import format_time
from twotower.tables.schema import Table

LISTED = 12
"""Most frequent values that are named."""
DISTINCT = 10_000
"""Distinct values of a category that are counted; a column with more is no category."""
CATEGORIES = ("channel", "language", "intent", "queue", "kind", "policy", "site", "team", "languages", "skills")


class Summary:
    """Rows, spans of time, shares of nulls, categories and means of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows = 0
        self._filled: Counter[str] = Counter()
        self._spans: dict[str, tuple[int, int]] = {}
        self._categories: dict[str, Counter[str]] = {name: Counter() for name in CATEGORIES}
        self._sums: dict[str, float] = {}
        self._lengths: dict[str, npt.NDArray[np.int64]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """One more batch of canonical columns."""
        self.rows += batch.num_rows
        for name in batch.schema.names:
            column = batch.column(name)
            self._filled[name] += len(column) - column.null_count
            if pt.is_timestamp(column.type):
                self._add_span(name, column)
            elif pt.is_boolean(column.type) or pt.is_floating(column.type):
                total = pc.sum(pc.cast(column, pa.float64())).as_py() or 0.0
                self._sums[name] = self._sums.get(name, 0.0) + total
            elif pt.is_nested(column.type):
                self._add_lengths(name, column)
            if name in self._categories:
                self._add_categories(name, column)

    def data(self) -> dict[str, Any]:
        """The figures as JSON."""
        figures: dict[str, Any] = {"rows": self.rows}
        for name, (first, last) in self._spans.items():
            figures[name] = {"filled": self._filled[name], "first": format_time(first), "last": format_time(last)}
        for name, filled in self._filled.items():
            column = self.table.column(name)
            if name in self._sums:
                figures[name] = {"filled": filled, "mean": self._sums[name] / filled if filled else None}
            elif column.optional and name not in figures:
                figures[name] = {"filled": filled}
        for name, counts in self._categories.items():
            if counts and len(counts) <= DISTINCT:
                frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LISTED]
                figures.setdefault(name, {}).update(distinct=len(counts), most=dict(frequent))
        for name, histogram in self._lengths.items():
            figures.setdefault(name, {}).update(_sizes(histogram))
        return figures

    def _add_span(self, name: str, column: pa.Array) -> None:
        span = pc.min_max(pc.cast(column, pa.int64())).as_py()
        if span["min"] is not None:
            low, high = self._spans.get(name, (span["min"], span["max"]))
            self._spans[name] = (min(low, span["min"]), max(high, span["max"]))

    def _add_lengths(self, name: str, column: pa.Array) -> None:
        found = np.bincount(pc.drop_null(pc.list_value_length(column)).to_numpy())
        known = self._lengths.get(name, np.zeros(0, dtype=np.int64))
        total = np.zeros(max(len(found), len(known)), dtype=np.int64)
        total[: len(found)] += found
        total[: len(known)] += known
        self._lengths[name] = total

    def _add_categories(self, name: str, column: pa.Array) -> None:
        if len(self._categories[name]) > DISTINCT:
            return
        values = pc.list_flatten(column) if pt.is_nested(column.type) else column
        if pt.is_struct(values.type):
            values = pc.struct_field(values, "name")
        for pair in pc.value_counts(values).to_pylist():
            if pair["values"] is not None:
                self._categories[name][pair["values"]] += pair["counts"]


def _sizes(histogram: npt.NDArray[np.int64]) -> dict[str, int]:
    """Sizes of lists from their histogram: lists, entries in all, smallest, median and largest."""
    lists = int(histogram.sum())
    if not lists:
        return {"lists": 0}
    reached = np.cumsum(histogram)
    return {
        "lists": lists,
        "named": int(histogram @ np.arange(len(histogram))),
        "smallest": int(np.searchsorted(reached, 1)),
        "median": int(np.searchsorted(reached, (lists + 1) // 2)),
        "largest": int(np.searchsorted(reached, lists)),
    }


def describe(tables: dict[str, dict[str, Any]]) -> str:
    """The figures for people: a line or two a table."""
    return "\n".join(line for name, figures in tables.items() for line in _lines(name, figures))


def _lines(name: str, figures: dict[str, Any]) -> list[str]:
    rows = figures["rows"]
    said = [f"{rows:,} rows"]
    if "distinct_ids" in figures:
        said.append(f"{figures['distinct_ids']:,} CSAs" if name == "csas" else f"{figures['distinct_ids']:,} customers")
    spans = [figures[key] for key in ("arrived_at", "assigned_at", "starts_at") if key in figures]
    said += [f"{span['first']} to {span['last']}" for span in spans]
    lines = [f"{name:<13} {', '.join(said)}"]
    shares = [
        f"{label} {_share(figures[key]['filled'], rows)}"
        for key, label in (("customer_id", "with a customer"), ("resolved", "with an outcome"), ("csat", "with csat"),
                           ("propensity", "with a propensity"), ("known_at", "with known_at"))
        if key in figures
    ]  # fmt: skip
    if figures.get("resolved", {}).get("filled"):
        shares.insert(1, f"of these failures {1 - figures['resolved']['mean']:.1%}")
    lines += [f"{'':<13} {', '.join(shares)}"] if shares else []
    for key in ("channel", "language", "languages", "intent", "kind"):
        if "most" in figures.get(key, {}):
            lines.append(f"{'':<13} {key}: {_most(figures[key])}")
    if figures.get("eligible", {}).get("lists"):
        sizes = figures["eligible"]
        whole = rows - sizes["lists"]
        lines.append(
            f"{'':<13} eligible: {sizes['smallest']} to {sizes['largest']} CSAs, median {sizes['median']}; "
            f"whole roster for {whole:,} contacts"
        )
    elif name == "contacts":
        lines.append(f"{'':<13} eligible: no lists, the whole roster for every contact")
    return lines


def _most(category: dict[str, Any]) -> str:
    named = ", ".join(f"{value} {count:,}" for value, count in category["most"].items())
    rest = category["distinct"] - len(category["most"])
    return named + (f" and {rest:,} more" if rest > 0 else "")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
