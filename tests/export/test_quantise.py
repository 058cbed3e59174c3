"""The int8 gate: kept only where a router would not notice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export import quantise as module
from export.quantise import Judge, metric, overlap
from export.run import Run
from tests.serve import fakes
from twotower.bundle.bundle import Bundle
from twotower.scoring.memory import Memory


def quantised(run_folder: Path, output: Path) -> Bundle:
    return Bundle.open(fakes.fake_bundle(run_folder, output, quantise=True))


def test_int8_is_kept_where_all_limits_hold(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A toy's tower is far from its limits on some processors: those without VNNI add int8 products in 16 bits.
    for limit, value in {"MOST_LOSS": 0.5, "LEAST_OVERLAP": 0.5, "LEAST_BASE": 0.5, "LEAST_INTENT": 0.5}.items():
        monkeypatch.setattr(module, limit, value)
    monkeypatch.setattr(module, "MOST_OUTCOME", 5.0)
    bundle = quantised(run_folder, tmp_path / "bundle")
    facts = bundle.manifest.quantisation
    assert facts["kept"] == "int8"
    assert facts["contacts"] == 40
    assert 0.5 <= facts["top10_overlap"] <= 1
    assert bundle.file("contact_tower.onnx").read_bytes() != (run_folder / "contact_tower.onnx").read_bytes()
    assert "int8" in bundle.file("MODEL_CARD.md").read_text()
    assert "contact_tower.int8.onnx" not in bundle.manifest.files


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("LEAST_OVERLAP", 1.01, "top-10 overlap"),
        ("MOST_LOSS", -1.0, "auc falls by"),
        ("LEAST_BASE", 1.01, "base embeddings agree by"),
        ("LEAST_INTENT", 1.01, "predicted intents by"),
        ("MOST_OUTCOME", -0.01, "an outcome's level is off by"),
    ],
)
def test_int8_is_dropped_where_a_limit_is_missed(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, reason: str
) -> None:
    monkeypatch.setattr(module, limit, value)
    bundle = quantised(run_folder, tmp_path / "bundle")
    assert bundle.manifest.quantisation["kept"] == "fp32"
    assert reason in bundle.manifest.quantisation["reason"]
    assert bundle.file("contact_tower.onnx").read_bytes() == (run_folder / "contact_tower.onnx").read_bytes()
    assert not list(bundle.path.glob("*int8*"))


def test_the_same_graph_quantises_to_the_same_bytes(run_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        module.quantise(run_folder / "contact_tower.onnx", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_overlap_counts_shared_members_of_the_top_ten() -> None:
    first = np.tile(np.arange(20.0, 0, -1), (2, 1)).astype(np.float32)
    second = first.copy()
    second[1, :5] = -1  # five of the second row's ten leave
    assert overlap(first, first) == 1.0
    assert overlap(first, second) == pytest.approx(0.75)


def test_the_metric_is_the_auc_of_outcomes_or_the_rank_of_who_took_it(run_folder: Path) -> None:
    run = Run.load(run_folder)
    assert run.probe is not None
    judge = Judge(run.join, Memory(run.history, 11), np.zeros((11, 5), np.float32), run.probe)
    good = run.probe.resolved == 1
    scores = np.zeros((len(run.probe), 11), np.float32)
    scores[np.arange(len(good)), run.probe.csa] = np.where(good, 2.0, 1.0)
    assert metric(judge, scores, "success") == ("auc", 1.0)
    assert metric(judge, -scores, "success") == ("auc", 0.0)
    assert metric(judge, scores, "handled") == ("mrr", 1.0)
    assert metric(judge, -scores, "handled") == ("mrr", pytest.approx(1 / 11))
