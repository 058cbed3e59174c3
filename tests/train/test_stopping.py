"""When a run ends, and which epoch it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.runs import short, work_of
from train import run
from train.checkpoints import read
from train.cli import MatcherCLI
from train.stopping import MEMORY_PATIENCE, StopEarly
from twotower.towers.two_tower import TwoTower


@pytest.mark.parametrize(
    ("patience", "with_memory", "best"), [(None, False, False), (None, True, True), (3, False, True), (3, True, True)]
)
def test_the_best_epoch_is_kept_where_training_may_stop_early(patience: int | None, with_memory: bool, best: bool):
    assert StopEarly(patience=patience).keeps_best(with_memory) is best


def test_the_patience_is_the_stated_one():
    assert StopEarly().patience == MEMORY_PATIENCE
    assert StopEarly(patience=2).patience == 2


def epochs(patch: pytest.MonkeyPatch, data: Path, output: Path, *options: str) -> tuple[int, int]:
    """Epochs that were trained, and the number of the one whose weights were kept, under a metric that only falls."""
    weights: list[torch.Tensor] = []
    whole = run.write_run

    def falling(model: TwoTower, *_: object) -> dict[str, float]:
        weights.append(model.csa_tower.identities.detach().clone())
        return {"val_rank": -float(len(weights))}

    def write_run(cli: MatcherCLI, folder: Path) -> dict[str, Any]:
        kept = cli.model.towers.csa_tower.identities
        found.append(next(i for i, one in enumerate(weights) if torch.equal(one, kept)))
        return whole(cli, folder)

    found: list[int] = []
    patch.setattr("train.module.validation_metrics", falling)
    patch.setattr(run, "write_run", write_run)
    assert short(data, output, "--trainer.max_epochs=4", *options) == 0
    return len(weights), found[0]


def test_a_profile_goes_through_its_cycle_and_keeps_the_end(
    monkeypatch: pytest.MonkeyPatch, tiny: Path, tmp_path: Path
):
    assert epochs(monkeypatch, tiny, tmp_path / "run") == (4, 3)


def test_a_named_patience_stops_it_and_keeps_the_best(monkeypatch: pytest.MonkeyPatch, tiny: Path, tmp_path: Path):
    assert epochs(monkeypatch, tiny, tmp_path / "run", "--early_stopping.patience=1") == (2, 0)


def test_a_run_that_was_interrupted_goes_on_from_its_last_epoch_and_not_from_its_best(
    monkeypatch: pytest.MonkeyPatch, tiny: Path, tmp_path: Path
):
    seen: list[int] = []

    def falling(*_: object) -> dict[str, float]:
        seen.append(len(seen))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return {"val_rank": -float(len(seen))}

    monkeypatch.setattr("train.module.validation_metrics", falling)
    assert short(tiny, tmp_path / "run", "--trainer.max_epochs=5") != 0
    assert read(work_of(tmp_path / "run") / "last.ckpt")["epoch"] == 2
