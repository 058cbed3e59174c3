"""Small helpers that several tests import."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

START = datetime(2026, 1, 1, tzinfo=UTC)
Tables = dict[str, pa.Table]

SLOW = (
    "loop/test_demo.py", "train/test_devices.py", "train/test_interrupted.py", "loop/test_retrain.py",
    "benchmarks/test_experiments.py", "serve/http/test_served.py", "train/test_distil.py", "train/test_outcomes.py",
    "benchmarks/test_train_throughput.py", "serve/http/test_erase.py", "twotower/imports/test_import_resume.py",
    "evaluation/simulate/test_sets.py", "export/test_reduced.py", "train/test_compiled_text.py", "train/test_skew.py",
    "train/test_newcomers.py",
)  # fmt: skip
"""Files whose tests take the longest, together, in the order in which workers begin them: so none of them is what the
others wait for in the end, and one worker has compiled the simulator, which numba keeps, when another needs it."""


def minutes(*after: float | None) -> pa.Array:
    """Times so many minutes after the first of January 2026, null for None."""
    times = [None if m is None else START + timedelta(minutes=m) for m in after]
    return pa.array(times, pa.timestamp("us", tz="UTC"))


def replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with one column changed."""
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return table.set_column(table.schema.get_field_index(name), name, column)


def at(minutes_after: float) -> int:
    """The moment so many minutes after the first of January 2026, in microseconds."""
    return round((START.timestamp() + minutes_after * 60) * 1_000_000)
