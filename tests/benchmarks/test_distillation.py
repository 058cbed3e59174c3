"""The benchmark of distillation: paired ratios, what it writes and says, and that the three runs read alike."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from evaluation.ranking_judge import Judged
from twotower.metrics import Bootstrap

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def distillation() -> Any:
    """The benchmark, which is no package."""
    return import_module("distillation")


def judged(name: str, first: list[float]) -> Judged:
    """A ranker that put the one who handled each contact at these places."""
    places = np.array(first)
    return Judged(name, np.arange(len(places)), places, 1 / np.log2(1 + places), np.zeros(len(places), np.int32))


def test_a_ratio_is_that_of_means_and_its_interval_is_paired(distillation):
    rng = np.random.default_rng(0)
    whole = rng.uniform(0.1, 1, 500)
    bootstrap = Bootstrap(500)
    found = distillation.ratio(0.9 * whole, whole, bootstrap)
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.9, 0.9))
    noisy = distillation.ratio(0.9 * whole + rng.normal(0, 0.1, 500), whole, bootstrap)
    assert noisy.low < noisy.value < noisy.high
    assert noisy.value == pytest.approx(0.9, abs=0.03)


def test_figures_hold_the_student_against_teacher_and_static_tower(distillation):
    places = {
        distillation.TEACHER: [1, 2, 1, 4], distillation.ALONE: [2, 2, 4, 4], distillation.STUDENT: [1, 2, 2, 4],
    }  # fmt: skip
    found = {
        name: distillation.Trained({"text": "frozen"}, None, judged(name, first)) for name, first in places.items()
    }
    row = distillation.figures(found, Bootstrap(4))
    assert row["metrics"][distillation.TEACHER]["mrr@10"][0] == pytest.approx(0.6875)
    assert row["kept_of_teacher"][distillation.STUDENT][0] == pytest.approx(0.5625 / 0.6875)
    assert row["student_less_teacher"][0] == pytest.approx(-0.125)
    assert row["student_less_alone"][0] == pytest.approx(0.1875)
    text = distillation.told({**row, "log": "buck2", "contacts": 4})
    assert "the student is not within 2% of its teacher" in text
    assert "0.8182" in text
    assert "there already" in text
    row["kept_of_teacher"][distillation.STUDENT] = [0.981, 0.97, 0.99]
    assert "the student is within 2% of its teacher" in distillation.told({**row, "log": "buck2", "contacts": 4})


def test_a_run_that_is_there_is_used_and_none_is_trained(distillation, tmp_path, monkeypatch):
    asked: list[Path] = []
    monkeypatch.setattr(distillation, "run_training", lambda data, folder, *rest: asked.append(folder))
    assert distillation.train_once(tmp_path, 0, tmp_path, CONFIGS / "distil.yaml", []) is None
    assert asked == []
    assert distillation.train_once(tmp_path, 0, tmp_path / "run", CONFIGS / "distil.yaml", []) is not None
    assert asked == [tmp_path / "run"]


def test_teacher_and_student_read_as_many_tokens_by_the_same_encoder():
    teacher, student = (
        yaml.safe_load((CONFIGS / f"{n}.yaml").read_text())["data"]["towers"] for n in ("transformer", "distil")
    )
    assert (teacher["backbone"], student["backbone"]) == ("transformer", "static")
    assert teacher["max_tokens"] == student["max_tokens"]
    assert teacher["encoder"] == student["encoder"]
