"""Every configuration that ships is read by the parser that training uses, and loggers take what they are given."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from train.cli import build_cli
from train.run import run_training
from twotower.errors import ConfigError

PLACE = Path(__file__).parents[2] / "configs"
OTHERS = {  # of other verbs
    "redaction", "utility", "simulate", "experiment", "ope", "replay", "staffing", "frontier", "anonymousbank",
    "retrain", "rollout",
}  # fmt: skip
CONFIGS = [path for path in sorted(PLACE.glob("*.yaml")) if path.stem not in OTHERS]


@pytest.mark.parametrize("config", CONFIGS, ids=[c.stem for c in CONFIGS])
def test_a_configuration_is_understood(config, tmp_path):
    # A machine without a GPU still has to read the GPU's options.
    options = ["--trainer.accelerator", "cpu", "--trainer.precision", "32", "--trainer.logger", "false"]
    cli = build_cli([config], tmp_path, None, tmp_path / "work", options)
    assert "batch_size" in cli.resolved


def test_of_several_configurations_the_later_win(tmp_path):
    both = [PLACE / "transformer.yaml", PLACE / "gpu.yaml"]
    options = ["--trainer.accelerator", "cpu", "--trainer.precision", "32", "--data.memory_rows", "128"]
    for configs, batch in ((both, 4096), (both[::-1], 256)):
        cli = build_cli(configs, tmp_path, None, tmp_path / "work", options)
        assert (cli.datamodule.batch_size, cli.datamodule.memory_rows) == (batch, 128)
        assert cli.datamodule.towers.backbone == "transformer"
        assert cli.datamodule.workers == 4
    with pytest.raises(ConfigError, match=r"no-such\.yaml: no such file"):
        build_cli([both[0], tmp_path / "no-such.yaml"], tmp_path, None, tmp_path / "work", [])


def logged(name: str, data: Path, folder: Path) -> set[str]:
    """Metrics that a run in a folder logged as a configuration says, by name."""
    options = ["--trainer.max_epochs=1", "--data.towers.view_dim=0", "--data.towers.members=1"]
    assert run_training(data, folder / "run", None, [PLACE / f"{name}.yaml"], options) is not None
    if name == "mlflow":
        with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
            return {key for (key,) in connection.execute("SELECT DISTINCT key FROM metrics")}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [events] = folder.rglob("events.out*")
    found = EventAccumulator(str(events))
    found.Reload()
    return set(found.Tags()["scalars"])


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_logger_writes_what_was_measured(name, tiny, tmp_path, monkeypatch, empty_mlflow):
    monkeypatch.chdir(tmp_path)
    if name == "mlflow":
        shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    assert {"val_rank", "val_auc"} <= logged(name, tiny, tmp_path)
