"""The benchmark of the text path: a tiny run of all its cases."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import pytest


def test_every_case_is_measured_in_turn(tmp_path, monkeypatch, capsys):
    benchmark, out = import_module("text_path"), tmp_path / "text_path.json"
    words = ["--contacts", "3", "--tokens", "12", "--repeats", "1", "--cells", "16", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["text_path.py", *words, "--output", str(out)])
    monkeypatch.setitem(benchmark.CELLS, "cpu", benchmark.CELLS["cpu"])
    benchmark.main()
    found = json.loads(out.read_text())
    rows = {row["case"]: row for row in found["rows"]}
    assert set(rows) == {
        f"{case}{precision}"
        for case in (
            "encode, one padded pass", "encode, buckets", "learn, one padded pass", "learn, buckets, kept",
            "learn, buckets, read again",
        )
        for precision in ("", ", bf16")
    }  # fmt: skip
    for name, row in rows.items():
        first = rows[f"{name.partition(',')[0]}, one padded pass"]["seconds"]
        assert row["times_first"] == pytest.approx(first / row["seconds"])
        assert row["texts_per_second"] == pytest.approx(3 / row["seconds"])
    assert 0.99 < found["least_cosine_of_bfloat16"] < 1
    assert "learn, buckets, read again, bf16" in capsys.readouterr().out
