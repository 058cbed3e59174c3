"""The plot of how a match grows: every size is drawn, and the same rows give the same bytes."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


def rows() -> list[dict[str, Any]]:
    facts = {"recall_at_50": 0.97, "resident_mb": 400}
    steps = [step for step, _ in import_module("serving_plot").STEPS] + ["floor: cutting the words"]
    return [
        {"step": step, "csas": csas, "p50_ms": csas / 1e4, "p99_ms": csas / 5e3, **facts}
        for csas in (1000, 1_000_000)
        for step in steps
    ]


def test_every_step_is_drawn_and_the_bytes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("serving_plot")
    record, target = tmp_path / "rows.json", tmp_path / "plot.svg"
    record.write_text(json.dumps({"rows": rows()}))
    monkeypatch.setattr(sys, "argv", ["serving_plot.py", str(record), "--output", str(target)])
    module.main()
    svg = target.read_text()
    assert svg == module.plot(rows()[::-1])
    assert all(step in svg for step, _ in module.STEPS)
    assert "floor" not in svg
    assert svg != module.plot([{**row, "p99_ms": 1.0} for row in rows()])
