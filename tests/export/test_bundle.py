"""From run to bundle: whole or not at all, and the same run gives the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import bundle as module
from export.bundle import export_bundle
from export.verb import VERB
from serve.matcher import Matcher
from tests.serve import fakes
from twotower.bundle.bundle import Bundle
from twotower.cli import run_verb
from twotower.errors import ConfigError, OutputError


class Entry:
    """An installed entry point."""

    value = "export.verb:VERB"

    def load(self) -> Any:
        return VERB


@pytest.fixture
def hand_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own graphs instead of torch's."""
    monkeypatch.setattr(module, "write_towers", fakes.copy_towers)


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Path:
    """A run folder that a test may change."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


@pytest.mark.usefixtures("hand_made")
def test_the_same_run_gives_the_same_bytes(run_folder: Path, copy: Path, tmp_path: Path) -> None:
    """From another folder, written elsewhere."""
    first, second = export_bundle(run_folder, tmp_path / "a"), export_bundle(copy, tmp_path / "deep" / "b")
    assert first.id == second.id
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "deep" / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "deep" / "b" / name).read_bytes()


@pytest.mark.usefixtures("hand_made")
@pytest.mark.parametrize(
    "step", ["write_towers", "write_roster", "write_history", "write_index", "model_card", "describe_files"]
)
def test_an_interrupted_export_leaves_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    plain = getattr(module, step)

    def interrupt(*arguments: Any, **options: Any) -> None:
        plain(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(run_folder, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("hand_made")
def test_an_output_that_exists_is_left_alone(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        export_bundle(run_folder, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("name", ["model.safetensors", "calibration.json", "history.npz", "features.state"])
def test_an_unfinished_run_is_one_line(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ConfigError, match=f"not a finished training run \\({name} is missing\\)"):
        export_bundle(copy, tmp_path / "bundle")


def test_a_damaged_run_is_one_line(copy: Path, tmp_path: Path) -> None:
    np.savez(copy / "csas.npz", ids=np.array(["a"]))
    with pytest.raises(ConfigError, match=r"csas\.npz"):
        export_bundle(copy, tmp_path / "bundle")
    (copy / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a run that this version can export"):
        export_bundle(copy, tmp_path / "bundle")


@pytest.mark.usefixtures("hand_made")
def test_the_card_has_the_runs_figures_and_no_others(copy: Path, tmp_path: Path) -> None:
    facts = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**facts, "metrics": {"val_auc": 0.71828}, "seed": 41}))
    export_bundle(copy, tmp_path / "bundle")
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert "| val_auc | 0.7183 |" in card
    assert "| seed | 41 |" in card
    assert "2026-01-21T00:00:00Z" in card
    assert "$" not in card


@pytest.mark.usefixtures("hand_made")
def test_a_run_without_probe_exports_and_says_why_int8_was_not_tried(copy: Path, tmp_path: Path) -> None:
    (copy / "probe.npz").unlink()
    manifest = export_bundle(copy, tmp_path / "bundle", quantise=True)
    assert manifest.quantisation["kept"] == "fp32"
    assert "no contacts to measure on" in manifest.quantisation["reason"]


@pytest.mark.usefixtures("hand_made")
def test_the_roster_holds_what_the_graph_gives(run_folder: Path, tmp_path: Path) -> None:
    export_bundle(run_folder, tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    vectors, own = bundle.csa_encoder.encode(bundle.roster.features, bundle.roster.identity)
    np.testing.assert_array_equal(bundle.roster.vectors, vectors)
    np.testing.assert_array_equal(bundle.roster.own, own)
    assert bundle.engine.moment <= bundle.manifest.window["until"]


@pytest.mark.usefixtures("hand_made")
def test_the_verb_says_what_it_wrote(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [str(run_folder), "--output", str(tmp_path / "bundle"), "--quantize", "int8", "--json"]
    assert run_verb("export", argv, Entry()) == 0  # type: ignore[arg-type]
    said = json.loads(capsys.readouterr().out)
    assert said["id"] == Bundle.open(tmp_path / "bundle").manifest.id
    assert said["quantisation"]["asked"] == "int8"
    assert run_verb("export", argv, Entry()) == 1  # type: ignore[arg-type]
    assert "exists already" in capsys.readouterr().err


def test_a_trained_run_goes_all_the_way(tmp_path: Path) -> None:
    """Real towers, untrained, through torch's exporter into a matcher."""
    from tests.export.test_onnx import towers
    from twotower.towers.config import TowerConfig
    from twotower.towers.store import save

    run = fakes.write_run(fakes.write_tables(fakes.tables(), tmp_path / "data"), tmp_path / "run")
    schema = module.Run.load(run).schema
    config = TowerConfig(text_dim=16, base_dim=8, profile_dim=4, members=2, memory_dim=6, view_dim=0)
    save(towers(schema), config, run)
    manifest = export_bundle(run, tmp_path / "bundle")
    assert manifest.model["profile_width"] == 2 * 4 + 1
    assert len(Matcher.load(tmp_path / "bundle").match({"intent_text": "refund"}, k=3)) == 3
