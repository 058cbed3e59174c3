"""Options of `twotower train` that cannot be are one line and exit status 1; others reach Lightning."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.train.runs import train, work_of


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--model.learning_rate=0.1"], "learning_rate"),
        (["--model.lr=fast"], "lr"),
        (["--model.lr=-1"], "lr"),
        (["--trainer.devices=many"], "devices"),
        (["--trainer.max_epochs=1.5"], "max_epochs"),
        (["--data.towers.backbone=lstm"], "backbone 'lstm': 'static' or 'transformer' was expected"),
        (["--data.towers.members=0"], "dimensions must be positive"),
        (["--data.validation_share=0.9"], "validation_share"),
        (["--data.memory=maybe"], "memory"),
        (["--data.objective=bpr"], "objective 'bpr' is unknown: 'auto', 'sigmoid'"),
        (["--join.ridge=strong"], "ridge"),
        (["--mood=1"], "mood"),
        (["stray"], "stray"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml: no such file"),
        (["--until", "yesterday"], "--until: 'yesterday' is no time"),
        (["--until", "2026-06-01T00:00:00"], "names no time zone"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(tiny, tmp_path, capsys, options, line):
    assert refused(tiny, tmp_path / "run", options, capsys).count(line) >= 1


@pytest.mark.parametrize(
    "content", ["model: {lr: fast}", "model: {mood: 1}", "model: [", "- 1", "data: {towers: {text_dim: wide}}"]
)
def test_a_configuration_that_cannot_be_is_one_line(tiny, tmp_path, capsys, content):
    config = tmp_path / "config.yaml"
    config.write_text(content)
    refused(tiny, tmp_path / "run", ["--config", str(config)], capsys)


def test_a_log_without_failures_cannot_be_contrasted(tiny_open, tmp_path, capsys):
    error = refused(tiny_open, tmp_path / "run", ["--data.objective=sigmoid"], capsys)
    assert "interactions.parquet: no hand-over has resolved = false" in error
    assert "use --data.objective corrected_softmax" in error


def test_tables_that_are_not_there_are_one_line(tmp_path, capsys):
    assert "no such file; a data set needs contacts" in refused(tmp_path / "nowhere", tmp_path / "run", [], capsys)


def test_nothing_known_before_the_cut_is_one_line(tiny, tmp_path, capsys):
    refused(tiny, tmp_path / "run", ["--until", "2001-01-01T00:00:00Z"], capsys)


def test_an_output_that_exists_is_left_alone(tiny, tmp_path, capsys):
    output = tmp_path / "run"
    output.mkdir()
    (output / "mine").write_text("mine")
    assert train(tiny, output) == 1
    assert "exists already" in capsys.readouterr().err
    assert [p.name for p in output.iterdir()] == ["mine"]


def test_a_configuration_file_and_options_on_the_command_line(tiny_open, tmp_path, capsys):
    """A run on a log of successes: memory and corrected softmax, as the log suggests."""
    config = tmp_path / "config.yaml"
    config.write_text("seed_everything: 7\ndata: {towers: {members: 2, profile_dim: 8}}\njoin: {history_per_csa: 16}\n")
    run = tmp_path / "run"
    assert train(tiny_open, run, "--config", str(config), "--trainer.max_epochs=1", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["objective"] == "corrected_softmax"
    assert said["memory"] == "trained"
    assert (said["seed"], said["history_per_csa"]) == (7, 16)
    assert json.loads((run / "model.json").read_text())["config"]["members"] == 2
    ranks = json.loads((run / "calibration.json").read_text())
    assert (ranks["default"], ranks["calibrated"]) == ("handled", False)
    assert pq.read_metadata(tiny_open / "contacts.parquet").num_rows == said["data"]["contacts"]


def refused(data: Path, output: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on stderr of a run that stops with exit status 1 and leaves nothing."""
    assert train(data, output, *options) == 1
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert captured.out == ""
    assert lines[-1].startswith("twotower train: ")
    # What Lightning says before (the seed, the devices) is no part of the error.
    assert not [line for line in lines[:-1] if line.startswith(("Traceback", "usage:", "Error", "error"))]
    assert not output.exists()
    assert not work_of(output).exists()
    return lines[-1]
