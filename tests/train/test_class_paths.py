"""A configuration names classes of a stated list alone; what is outside is refused before it is imported."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import jsonargparse
import pytest
import yaml

from train.class_paths import ALLOWED, hold_class_paths
from train.cli import build_cli
from twotower.errors import ConfigError

LAMBDA = "lightning.pytorch.callbacks.LambdaCallback"
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the module `side_effect` writes when it is imported: it holds a class and a function."""
    trace = tmp_path / "imported"
    module = f"import pathlib\npathlib.Path({str(trace)!r}).write_text('')\nclass Thing: ...\ndef call(*_): ...\n"
    (tmp_path / "side_effect.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "side_effect", raising=False)
    return trace


def refusal(folder: Path, content: object, *options: str) -> str:
    """The line with which a configuration is refused."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as caught:
        build_cli([config], folder, None, folder / "work", options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("trainer", "named"),
    [
        ({"logger": {"class_path": "side_effect.Thing"}}, "side_effect.Thing"),
        ({"logger": [{"class_path": "side_effect.Thing"}]}, "side_effect.Thing"),
        ({"callbacks": [{"class_path": "side_effect.Thing"}]}, "side_effect.Thing"),
        ({"plugins": [{"class_path": "side_effect.Thing"}]}, "side_effect.Thing"),
        ({"callbacks": [{"class_path": LAMBDA, "init_args": {"setup": "side_effect.call"}}]}, "side_effect.call"),
        ({"callbacks": [{"class_path": LAMBDA, "init_args": {"setup": "os.system"}}]}, "os.system"),
        ({"callbacks": [{"class_path": LAMBDA, "init_args": {"setup": "train.cli.yaml.unsafe_load"}}]}, "yaml"),
    ],
)
def test_a_configuration_cannot_have_a_module_imported(tmp_path, effect, trainer, named):
    line = refusal(tmp_path, {"trainer": trainer})
    assert "is not allowed; those under lightning.pytorch.accelerators" in line
    assert named in line
    assert not effect.exists()


@pytest.mark.parametrize(
    "option",
    [
        "--trainer.logger=side_effect.Thing",
        "--trainer.logger.class_path=side_effect.Thing",
        '--trainer.logger={"class_path": "side_effect.Thing"}',
        "--trainer.callbacks+=side_effect.Thing",
        "--trainer.strategy=side_effect.Thing",
        "--trainer.profiler=side_effect.Thing",
        "--optimizer=side_effect.Thing",
    ],
)
def test_an_option_cannot_either(tmp_path, effect, option):
    refusal(tmp_path, {}, option)
    assert not effect.exists()


@pytest.mark.parametrize("option", ["--trainer.profiler=simple", "--trainer.callbacks+=DeviceStatsMonitor"])
def test_lightnings_own_are_allowed(tmp_path, option):
    build_cli([], tmp_path, None, tmp_path / "work", [option])


@pytest.mark.parametrize(("name", "logger"), [("tensorboard", "TensorBoardLogger"), ("mlflow", "MLFlowLogger")])
def test_the_loggers_of_the_configurations_are_allowed(tmp_path, monkeypatch, empty_mlflow, name, logger):
    monkeypatch.chdir(tmp_path)
    # A database of its own: MLflow remembers what it opened by a relative name.
    shutil.copyfile(empty_mlflow, tmp_path / "own.db")
    place = [f"--trainer.logger.init_args.tracking_uri=sqlite:///{tmp_path}/own.db"] if name == "mlflow" else []
    cli = build_cli([CONFIGS / f"{name}.yaml"], tmp_path, None, tmp_path / "work", place)
    assert type(cli.trainer.logger).__name__ == logger


def test_the_list_names_no_module_that_runs_programs():
    assert not {path.partition(".")[0] for path in ALLOWED} - {"lightning", "torch", "train", "twotower"}


def test_where_jsonargparse_has_no_such_list_what_is_named_is_looked_through(tmp_path, effect, monkeypatch):
    """As before its version 4.53."""
    monkeypatch.setattr(jsonargparse, "set_parsing_settings", lambda: None)
    for content in ({"trainer": {"logger": {"class_path": "side_effect.Thing"}}}, {"trainer": {"logger": "os.system"}}):
        assert "is not allowed; those under lightning" in refusal(tmp_path, content)
    for options in (["--trainer.logger=side_effect.Thing"], ["--trainer.logger", "side_effect.Thing"]):
        assert "--trainer.logger: the class path 'side_effect.Thing' is not allowed" in refusal(tmp_path, {}, *options)
    assert not effect.exists()
    config = CONFIGS / "tensorboard.yaml"
    options = ["--data.towers.encoder", "mini.safetensors", "--trainer.callbacks", f"[{LAMBDA}]"]
    hold_class_paths([config], options)
