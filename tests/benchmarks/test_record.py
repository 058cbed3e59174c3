"""What was measured is in the file after every part, and parts measured before stay there."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from twotower.errors import DataError

SETTINGS = {"options": ["--x=1"]}


@pytest.fixture
def module() -> ModuleType:
    return import_module("record")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "results" / "figures.json"


def written(output: Path) -> list[tuple[Any, Any]]:
    return [(row["log"], row["figure"]) for row in json.loads(output.read_text())["logs"]]


def row(log: str, figure: int) -> list[dict[str, Any]]:
    return [{"log": log, "figure": figure}]


def test_the_file_is_whole_after_every_part(module, output, capsys):
    record, seen = module.Record(output, SETTINGS, "logs", "log"), []

    def measure(part: str) -> tuple[list[dict[str, Any]], str]:
        seen.append(written(output) if output.exists() else [])
        return row(part, len(seen)), f"table of {part}"

    assert module.measure_each(record, ["b", "a"], measure)
    assert seen == [[], [("b", 1)]]
    assert written(output) == [("a", 2), ("b", 1)]
    assert json.loads(output.read_text())["options"] == ["--x=1"]
    assert {r["machine"]["cores"] > 0 for r in json.loads(output.read_text())["logs"]} == {True}
    assert capsys.readouterr().out == "table of b\n\ntable of a\n\n"
    assert [p.name for p in output.parent.iterdir()] == [output.name]


def test_parts_of_the_same_settings_stay_and_those_measured_anew_are_replaced(module, output):
    record = module.Record(output, SETTINGS, "logs", "log")
    record.put("a", row("a", 1))
    record.put("b", [*row("b", 1), *row("b", 2)])
    again = module.Record(output, SETTINGS, "logs", "log")
    again.put("b", row("b", 3))
    assert written(output) == [("a", 1), ("b", 3)]
    assert again.rows == json.loads(output.read_text())["logs"]


def test_parts_of_other_settings_are_named_and_replaced_when_something_was_measured(module, output, capsys):
    module.Record(output, SETTINGS, "logs", "log").put("a", row("a", 1))
    other = module.Record(output, {"options": []}, "logs", "log")
    assert capsys.readouterr().err == f"note: {output} holds log a under other settings; it is replaced\n"
    assert written(output) == [("a", 1)]
    other.put("b", row("b", 2))
    assert written(output) == [("b", 2)]


def test_a_machine_that_stood_beside_the_rows_goes_into_them(module, output):
    output.parent.mkdir()
    output.write_text(json.dumps({**SETTINGS, "machine": {"cores": 99}, "logs": row("a", 1)}))
    module.Record(output, SETTINGS, "logs", "log").put("b", row("b", 2))
    found = json.loads(output.read_text())
    assert set(found) == {"options", "logs"}
    assert found["logs"][0] == {"log": "a", "figure": 1, "machine": {"cores": 99}}


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"logs": 3}', '{"logs": [{"seed": 0}]}'])
def test_a_file_of_something_else_is_refused_and_left(module, output, content):
    output.parent.mkdir()
    output.write_text(content)
    with pytest.raises(SystemExit, match=r"figures\.json: not figures of this benchmark .* or remove it$"):
        module.Record(output, SETTINGS, "logs", "log")
    assert output.read_text() == content


def test_without_an_output_rows_are_kept_in_memory(module):
    record = module.Record(None, SETTINGS, "logs", "log")
    record.put("a", row("a", 1))
    assert [one["log"] for one in record.rows] == ["a"]


def test_a_part_that_fails_is_told_in_a_line_and_the_others_go_on(module, output, capsys):
    def measure(part: str) -> tuple[list[dict[str, Any]], str]:
        if part == "a":
            raise DataError("a/csas.parquet: no such file")
        return row(part, 1 // (part != "b")), part

    record = module.Record(output, SETTINGS, "logs", "log")
    assert not module.measure_each(record, ["a", "b", "c"], measure)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "log a failed: a/csas.parquet: no such file"
    assert second.startswith("log b failed: ZeroDivisionError: ")
    assert "(test_record.py:" in second
    assert written(output) == [("c", 1)]


def test_an_interrupt_ends_the_run_and_leaves_the_record(module, output):
    def measure(part: str) -> tuple[list[dict[str, Any]], str]:
        if part == "b":
            raise KeyboardInterrupt
        return row(part, 1), part

    with pytest.raises(KeyboardInterrupt):
        module.measure_each(module.Record(output, SETTINGS, "logs", "log"), ["a", "b", "c"], measure)
    assert written(output) == [("a", 1)]


def run(monkeypatch: pytest.MonkeyPatch, script: ModuleType, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["script", *words])
    try:
        script.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_real_logs_one_at_a_time_fill_one_file(monkeypatch, output, tmp_path):
    script = import_module("real_logs")

    def measure(data: Path, ranks: Sequence[str], options: Sequence[str], seed: int) -> tuple[Any, str]:
        if data.name == "dba":
            raise DataError("dba: no such folder")
        return row(data.name, len(options)), data.name

    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setenv("TWOTOWER_REAL_DATA", str(tmp_path))
    assert run(monkeypatch, script, "--logs", "golang_tools", "--output", str(output)) == 0
    assert run(monkeypatch, script, "--logs", "buck2", "--output", str(output)) == 0
    assert written(output) == [("buck2", 1), ("golang_tools", 1)]
    assert run(monkeypatch, script, "--logs", "dba", "buck2", "--epochs", "3", "--output", str(output)) == 1
    assert written(output) == [("buck2", 2)]


def test_generated_centres_count_those_of_earlier_runs_for_their_means(monkeypatch, output, capsys):
    script = import_module("generated_centres")

    def measure(args: Namespace, seed: int, options: Sequence[str]) -> tuple[Any, str]:
        if seed == 9:
            raise ValueError("no such centre")
        share = {"value": 0.5 + seed / 10, "low": 0.0, "high": 1.0}
        rows = [script.figures("default", seed, 25.0, {s: script.Interval(**share) for s in script.SHARES}, 1.0, {})]
        return rows, script.as_table(rows)

    monkeypatch.setattr(script, "measure", measure)
    assert run(monkeypatch, script, "--seeds", "2", "--output", str(output)) == 0
    assert run(monkeypatch, script, "--seeds", "0", "9", "1", "--output", str(output)) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].split() == ["3", "default", "0.600", "0.600"]
    assert err.startswith("seed 9 failed: ValueError: no such centre (test_record.py:")
    assert [r["seed"] for r in json.loads(output.read_text())["rows"]] == [0, 1, 2]
