"""Which map is taken, by what it is worth out of fold."""

from __future__ import annotations

import numpy as np
import pytest

from train.calibrate import LEAST, LEAST_IN_STEP, calibrate, isotonic, temperature
from twotower.metrics import log_losses, reliability


def outcomes(p: np.ndarray, seed: int) -> np.ndarray:
    drawn: np.ndarray = np.random.default_rng(seed).random(len(p)) < p
    return drawn


def logits(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 1.5, size)


def test_what_is_calibrated_is_left_alone() -> None:
    z = logits(6000)
    found = calibrate(z, outcomes(1 / (1 + np.exp(-z)), 1))
    assert found.chosen.method == "none"
    assert set(found.log_loss) == {"none", "temperature", "isotonic"}


def test_too_sure_logits_get_their_temperature() -> None:
    z = logits(6000)
    resolved = outcomes(1 / (1 + np.exp(-z / 2.5)), 2)
    found = calibrate(z, resolved)
    assert found.chosen.method == "temperature"
    assert found.chosen.temperature == pytest.approx(2.5, rel=0.1)
    assert temperature(z, resolved) == found.chosen.temperature


def test_a_bend_that_no_temperature_straightens_gets_the_free_map() -> None:
    z = logits(12_000)
    p = np.where(z > 0, 0.55 + 0.05 * np.tanh(z), 0.1)
    resolved = outcomes(p, 3)
    found = calibrate(z, resolved)
    assert found.chosen.method == "isotonic"
    later = logits(20_000, 9)
    truth = np.where(later > 0, 0.55 + 0.05 * np.tanh(later), 0.1)
    assert np.abs(found.chosen(later.astype(np.float32)) - truth).mean() < 0.03
    assert found.log_loss["isotonic"] < found.log_loss["none"]


def test_losses_are_out_of_fold() -> None:
    """Noise that the free map could follow makes it lose."""
    z = logits(LEAST)
    resolved = outcomes(np.full(LEAST, 0.5), 4)
    found = calibrate(z, resolved)
    inside = log_losses(isotonic(z, resolved)(z.astype(np.float32)), resolved).mean()
    assert found.log_loss["isotonic"] > inside


def test_steps_hold_enough_outcomes_and_nothing_is_certain() -> None:
    z = logits(3 * LEAST_IN_STEP)
    found = isotonic(z, np.ones(len(z), bool))
    assert len(found.logits) == 3
    assert max(found.values) < 1
    assert min(isotonic(z, np.zeros(len(z), bool)).values) > 0


def test_too_few_outcomes_or_all_alike_tell_nothing() -> None:
    z = logits(LEAST - 1)
    assert calibrate(z, outcomes(np.full(len(z), 0.5), 5)).chosen.method == "none"
    many = logits(5000)
    assert calibrate(many, np.ones(5000, bool)).log_loss == {}


def test_the_error_told_is_that_of_the_map_out_of_fold() -> None:
    z = logits(5000)
    resolved = outcomes(1 / (1 + np.exp(-z)), 6)
    found = calibrate(z, resolved)
    assert found.error["none"] == pytest.approx(
        reliability(1 / (1 + np.exp(-z.astype(np.float32))), resolved).error, abs=1e-6
    )
