"""A run that trains a transformer, small: how much of it is held at once changes nothing but the last digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train.runs import train
from tests.twotower.towers.encoders import small_encoder
from train.cached_text import CachedText
from train.module import MatcherModule
from twotower.towers.encoders import save_encoder

TEXT = (
    "--trainer.max_epochs=1", "--data.batch_size=128", "--data.towers.backbone=transformer", "--data.towers.view_dim=0",
    "--data.towers.text_dim=16", "--data.towers.base_dim=12",
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A small encoder as a file."""
    folder = tmp_path_factory.mktemp("encoders")
    save_encoder(str(small_encoder(folder / "small")), folder / "small.safetensors")
    return folder / "small.safetensors"


@pytest.fixture(scope="module")
def options(encoder, tmp_path_factory) -> list[str]:
    """Of every run here; what is derived of the encoder is kept apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOTOWER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield [*TEXT, f"--data.towers.encoder={encoder}"]


@pytest.fixture(scope="module")
def whole(tiny_open, options, tmp_path_factory) -> Path:
    """A run that holds all of a step's graphs."""
    run: Path = tmp_path_factory.mktemp("runs") / "whole"
    assert train(tiny_open, run, *options) == 0
    return run


def test_the_run_is_the_same_however_much_is_held_at_once(tiny_open, whole, options, tmp_path, monkeypatch):
    calls = []
    called = CachedText.__call__
    monkeypatch.setattr(CachedText, "__call__", lambda *given: (calls.append(given[0].cells), called(*given))[1])
    assert train(tiny_open, tmp_path / "run", *options, "--model.text_tokens=300") == 0
    assert set(calls) == {300}
    ours, theirs = (load_file(run / "model.safetensors") for run in (tmp_path / "run", whole))
    assert ours.keys() == theirs.keys()
    text = [name for name in ours if ".backbone." in name]
    assert len(text) > 20
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=2e-3), name
    metrics = [json.loads((run / "run.json").read_text())["metrics"] for run in (tmp_path / "run", whole)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-3)


def test_the_text_was_trained(whole, encoder):
    before, after = load_file(encoder), load_file(whole / "model.safetensors")
    moved = [
        name
        for name, value in before.items()
        if not torch.allclose(value.float(), after[f"contact_tower.backbone.model.{name}"], atol=1e-5)
    ]
    assert len(moved) > 15
    assert not any("pooler" in name for name in moved)


def test_no_room_for_a_step_is_one_line(tiny_open, options, tmp_path, monkeypatch, capsys):
    def no_room(self: MatcherModule, *given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")

    monkeypatch.setattr(MatcherModule, "training_step", no_room)
    assert train(tiny_open, tmp_path / "run", *options) == 1
    said = capsys.readouterr().err
    assert "CUDA out of memory: lower data.batch_size, data.memory_batch, data.memory_rows, data.sampled" in said
    assert len(said.strip().splitlines()) == 1


def test_options_of_the_text_are_checked(tiny_open, tmp_path, capsys):
    assert train(tiny_open, tmp_path / "run", "--model.text_tokens=0") == 1
    assert "model.text_tokens 0: must be positive" in capsys.readouterr().err
