"""`twotower train` from tables to a run folder: whole, reproducible, and resumable to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from tests.train.runs import SAMPLED_FILES, SHORT, digests, interrupted, short, work_of
from train.encode import encode
from train.prepare import TrainingSet
from twotower.features.registry import DEFAULT
from twotower.features.schema import in_order
from twotower.scoring.join import ContactVectors, Join
from twotower.towers.two_tower import TwoTower


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    run: Path = tmp_path_factory.mktemp("runs") / "run"
    assert short(tiny, run) == 0
    return run


def test_a_run_folder_is_complete_and_nothing_else_is_left(trained):
    assert set(digests(trained)) == SAMPLED_FILES
    assert not work_of(trained).exists()
    assert [p.name for p in trained.parent.iterdir()] == [trained.name]


def test_a_run_says_what_it_was_made_of(trained):
    facts = json.loads((trained / "run.json").read_text())
    assert facts["objective"] == "sigmoid"
    assert facts["backbone"] == "static"
    assert facts["families"] == in_order(DEFAULT)
    assert (facts["data"]["contacts"], facts["data"]["csas"]) == (500, 12)
    assert 0.5 < facts["data"]["resolved_share"] < 0.9
    assert 0.4 < facts["metrics"]["val_auc"] < 1
    assert facts["window"]["from"] < facts["window"]["until"]
    assert str(trained.parent) not in (trained / "run.json").read_text() + (trained / "config.yaml").read_text()


def test_the_weights_are_finite_and_the_join_ranks_by_success(trained):
    assert all(np.isfinite(values).all() for values in load_file(trained / "model.safetensors").values())
    join = Join.load(trained / "calibration.json")
    assert (join.default, join.calibrated) == ("success", True)
    assert np.isfinite([join.ranks["success"].profile, *join.ranks["success"].kernel_weights]).all()


def test_no_customer_is_in_a_run(trained):
    with np.load(trained / "history.npz", allow_pickle=False) as history:
        assert "customer" not in history.files
        assert len(history["csa"]) > 400


@pytest.mark.parametrize(("solver", "times"), [("gradient", 1), ("sampling", 2)])
def test_all_hand_overs_are_encoded_once_for_every_state_of_the_towers(tiny, tmp_path, monkeypatch, solver, times):
    """A sampled profile takes in the validation window after the join was fitted before it."""
    sizes: list[int] = []

    def counted(model: TwoTower, data: TrainingSet, contacts: npt.NDArray[np.int64]) -> ContactVectors:
        sizes.append(len(contacts))
        return encode(model, data, contacts)

    monkeypatch.setattr("train.join.encode", counted)
    assert short(tiny, tmp_path / "run", "--trainer.max_epochs=1", f"--model.solver={solver}") == 0
    with np.load(tmp_path / "run" / "history.npz", allow_pickle=False) as history:
        handed_over = len(np.unique(history["contact_ids"]))
    assert sum(size >= handed_over for size in sizes) == times


def test_the_same_command_gives_the_same_bytes(tiny, trained, tmp_path):
    assert short(tiny, tmp_path / "run") == 0
    assert digests(tmp_path / "run") == digests(trained)


def test_another_seed_gives_another_model(tiny, trained, tmp_path):
    assert short(tiny, tmp_path / "run", "--seed_everything=1", "--trainer.max_epochs=1") == 0
    assert digests(tmp_path / "run")["model.safetensors"] != digests(trained)["model.safetensors"]


def test_an_interrupted_run_is_finished_by_its_command_to_the_same_bytes_and_by_no_other(
    tiny, trained, tmp_path, capsys, monkeypatch
):
    run = tmp_path / "run"
    assert interrupted(tiny, run, 14, *SHORT) != 0  # in the second epoch
    assert not run.exists()
    assert (work_of(run) / "last.ckpt").is_file()
    capsys.readouterr()
    assert short(tiny, run, "--data.batch_size=128") == 1
    assert "an unfinished run on other data or options is there" in capsys.readouterr().err.splitlines()[-1]
    with monkeypatch.context() as patch:
        patch.setattr("train.run.version", lambda _: "0.0.1")
        assert short(tiny, run) == 1
    assert "or of another version" in capsys.readouterr().err.splitlines()[-1]
    (work_of(run) / "fingerprint").rename(tmp_path / "fingerprint")
    assert short(tiny, run) == 1
    assert "an unfinished run" in capsys.readouterr().err.splitlines()[-1]
    (tmp_path / "fingerprint").rename(work_of(run) / "fingerprint")
    assert short(tiny, run) == 0
    assert "(continued)" in capsys.readouterr().out
    assert digests(run) == digests(trained)


def test_a_run_interrupted_before_its_first_checkpoint_starts_anew(tiny, trained, tmp_path):
    run = tmp_path / "run"
    assert interrupted(tiny, run, 3, *SHORT) != 0
    assert not run.exists()
    assert short(tiny, run) == 0
    assert digests(run) == digests(trained)


def test_a_run_goes_on_exactly_from_the_middle_of_an_epoch(tiny, tmp_path):
    # Of twenty sweeps in two epochs; the last checkpoint is then that of sweep 15. The latest one is the one that is
    # kept: of sweep 20, trained after the interruption.
    options = ("--checkpoint.every_n_train_steps=5", "--checkpoint.monitor=null", "--checkpoint.save_last=true")
    assert short(tiny, tmp_path / "whole", *options) == 0
    run = tmp_path / "run"
    assert (
        interrupted(tiny, run, 18, *SHORT, *options) != 0
    )  # the last checkpoint is that of sweep 15; an epoch has ten
    assert (work_of(run) / "last.ckpt").is_file()
    assert short(tiny, run, *options) == 0
    assert digests(run) == digests(tmp_path / "whole")
