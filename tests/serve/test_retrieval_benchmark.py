"""The retrieval benchmark runs, and its figures can be believed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "retrieval.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("retrieval_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_centre_is_measured_and_written(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results" / "retrieval.json"
    argv = ["retrieval.py", "--csas", "400", "--history", "40", "--queries", "16", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", argv)
    benchmark.main()
    found = json.loads(output.read_text())
    assert [(c["rank"], c["eligible_share"]) for c in found["cases"]] == [
        ("success", 1.0), ("success", 0.05), ("handled", 1.0), ("handled", 0.05),
    ]  # fmt: skip
    for case in found["cases"]:
        assert 0.5 < case["recall_at_10"] <= 1
        assert case["ms"]["candidates"]["p50"] + case["ms"]["score"]["p50"] <= 2 * case["ms"]["both"]["p99"]
    # Twenty eligible CSAs are all scored, so nothing can be missed.
    assert all(c["recall_at_10"] == 1 for c in found["cases"] if c["eligible_share"] == 0.05)
    assert "synthetic" in capsys.readouterr().out
