"""The history benchmark: what it prints is what it writes, and peers that compute something else do not compare."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed: pip install 'twotower-matcher[train]'")
pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'twotower-matcher[dev]'")


def test_a_small_run_compares_all_three(tmp_path, monkeypatch, capsys):
    import features

    sizes = ["--handovers", "3000", "--csas", "50", "--customers", "200", "--width", "4", "--snapshots", "5"]
    monkeypatch.setattr(
        sys, "argv", ["features.py", *sizes, "--peer-handovers", "600", "--output", str(tmp_path / "features.json")]
    )
    features.main()
    figures = json.loads((tmp_path / "features.json").read_text())
    assert [row["task"] for row in figures["peers"]] == ["CSAs at snapshots", "customers at contacts"]
    assert all(row["pandas_s"] > 0 and row["duckdb_s"] > 0 for row in figures["peers"])
    assert list(figures["seconds"])[1] == "CSAs, 5 snapshots"
    assert figures["width"] == 4
    printed = capsys.readouterr().out
    assert "3,000 hand-overs, 50 CSAs, 200 customers, width 4" in printed
    assert "600 hand-overs, 20 CSAs, 40 customers, width 4" in printed


def test_a_peer_that_computes_something_else_ends_it():
    import features

    with pytest.raises(SystemExit, match="some task: duckdb computes something else"):
        features._compared("some task", lambda: np.ones(3), lambda: np.ones(3), lambda: np.full(3, 1.1), 3)
