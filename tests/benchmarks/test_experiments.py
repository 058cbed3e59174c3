"""The benchmark of experiments, small: it runs, writes what it prints, and keeps what can be seen of few."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import pytest


def test_a_small_run_says_all_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    script = import_module("experiments")
    target = tmp_path / "found.json"
    few = ["--experiments", "6", "--others", "3", "--replications", "2", "--history-days", "28", "--days", "7",
           "--loads", "0.9", "--lots", "200", "--histories", "2", "--output", str(target)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["experiments.py", *few])
    script.main()
    said, found = capsys.readouterr().out, json.loads(target.read_text())
    assert set(found["designs"]) == {
        f"{design}, {name}" for design in ("switchback", "cluster", "customer") for name in ("A/A", "effect")
    } | {"customer, A/A, no salt"}
    of = found["designs"]["switchback, effect"]
    assert of["truth"] > 0
    assert of["covers_own_truth"]["share"] >= 0.5
    # The treatment was chosen so that its effect is the one that the plan finds with the power asked for.
    assert found["power"]["by_formula"]["mean"] == pytest.approx(0.8, abs=0.2)
    assert found["power"]["by_trying"]["mean"] == pytest.approx(found["power"]["by_formula"]["mean"], abs=0.2)
    assert found["designs"]["switchback, A/A"]["truth"] == 0.0
    assert {row["way"] for row in found["bias"]} == {"contact", "switchback"}
    assert len(found["carried"]) == 6
    for part in ("switchback, A/A", "power for", "A/B by contact", "without a wash-out miss"):
        assert part in said


def test_processes_find_the_same(tmp_path) -> None:
    script = import_module("experiments")
    setup = script.Setup(days=2, error=0.4)
    alone = [script.one(setup, 50, number) for number in range(3)]
    again = script.run(setup, 3, 1, 50)
    assert [(row.value, row.low, row.p, row.truth) for row in alone] == [
        (row.value, row.low, row.p, row.truth) for row in again
    ]
