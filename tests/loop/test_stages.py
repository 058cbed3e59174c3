"""Seconds by stage."""

from __future__ import annotations

import time

import pytest

from loop.stages import Stages


def test_stages_keep_their_order_and_add_up() -> None:
    stages = Stages()
    for name in ("generate", "train", "generate"):
        with stages.stage(name):
            time.sleep(0.02)
    assert list(stages.seconds) == ["generate", "train"]
    assert stages.seconds["generate"] > stages.seconds["train"] >= 0.02
    assert stages.total == pytest.approx(sum(stages.seconds.values()))


def test_a_stage_that_fails_took_its_time_too() -> None:
    stages = Stages()
    with pytest.raises(ValueError, match="no"), stages.stage("train"):
        time.sleep(0.02)
        raise ValueError("no")
    assert stages.seconds["train"] >= 0.02


def test_rows_end_with_the_total() -> None:
    stages = Stages()
    stages.seconds |= {"generate": 1.0, "train": 3.0}
    assert stages.rows() == [("generate", "1.0 s", "25%"), ("train", "3.0 s", "75%"), ("total", "4.0 s", "100%")]


def test_nothing_has_run() -> None:
    assert Stages().rows() == [("total", "0.0 s", "100%")]
