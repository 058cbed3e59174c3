"""The benchmark of drift counts what was found and what was not."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest


def test_a_quick_run_writes_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = import_module("drift")
    kinds = ("new intent", "labels two days late")
    monkeypatch.setattr(benchmark, "SPOILT", {name: benchmark.SPOILT[name] for name in kinds})
    out = tmp_path / "drift.json"
    argv = ["drift.py", "--seeds", "1", "--weeks", "9", "--contacts", "400", "--output", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    benchmark.main()
    found = json.loads(out.read_text())["drift"]
    assert found["calm"]["weeks"] == 2
    assert 0 <= found["calm"]["alarmed"] <= 1
    assert set(found["spoilt"]) == set(kinds)
    assert found["spoilt"]["new intent"]["found"] == 1
    assert found["spoilt"]["labels two days late"]["wrong"] == 0
    assert "calm weeks" in capsys.readouterr().out
