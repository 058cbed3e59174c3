"""The benchmark of the analysis: published numbers are ours, and rows hold what they say."""

from __future__ import annotations

import json
from importlib import import_module

import pytest


def test_published_numbers_are_ours() -> None:
    for row in import_module("experiment_numbers").published():
        assert row["here"] == pytest.approx(row["published"], abs=1e-5), row["what"]


@pytest.mark.parametrize("design", ["switchback, short", "switchback of sites", "cluster", "customer"])
def test_a_row_counts_what_happened(design: str) -> None:
    script = import_module("experiment_numbers")
    row = script.measure(design, 0.25, experiments=2, contacts=2500, weeks=2, shock=0.02)
    assert row["mean"] == pytest.approx(0.25, abs=0.08)
    assert row["rejected"] == row["as_if_contacts"] == 1.0
    assert row["seconds"] > 0
    assert 0.0 <= row["crossed"] <= 1.0
    assert row["sequence_covered"] == 1.0


def test_it_writes_what_it_prints(tmp_path, monkeypatch, capsys) -> None:
    script = import_module("experiment_numbers")
    argv = ["--experiments", "1", "--contacts", "800", "--weeks", "2", "--designs", "cluster", "--effects", "0"]
    monkeypatch.setattr("sys.argv", ["experiment_numbers.py", *argv, "--output", str(tmp_path / "found.json")])
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["design"] for row in found["designs"]] == ["cluster"]
    assert script.table(found) in capsys.readouterr().out
