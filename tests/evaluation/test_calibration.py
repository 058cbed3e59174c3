"""Calibration overall and by band, and what chance makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.calibration import LEAST, OTHERS, bands, in_words, worst


def pairs(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 0.9, size), rng.random(size), np.array(["a", "b"], dtype=object)[rng.integers(0, 2, size)]


def test_what_is_calibrated_shows_what_chance_makes() -> None:
    errors = []
    for seed in range(40):
        p, u, queue = pairs(3000, seed)
        errors.append([(band.error, band.chance) for band in bands(p, (u < p).astype(float), {"queue": queue})])
    found = np.array(errors).mean(axis=0)
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=0.1)
    assert found[1, 1] > found[0, 1]  # half as many pairs scatter more


def test_a_band_that_is_off_is_found_and_said() -> None:
    p, u, queue = pairs(8000, 1)
    true = np.where(queue == "b", np.clip(p - 0.15, 0, 1), p)
    found = bands(p, (u < true).astype(float), {"queue": queue})
    assert [(band.kind, band.value) for band in found] == [("all", "all"), ("queue", "a"), ("queue", "b")]
    assert worst(found).value == "b"
    assert worst(found).error == pytest.approx(0.15, abs=0.02)
    said = in_words(found)
    assert any("too high for queue b" in line for line in said)
    assert not any("queue a" in line for line in said)


def test_true_probabilities_leave_nothing_to_chance() -> None:
    p, _, queue = pairs(4000, 2)
    exact = bands(p, p, {"queue": queue}, known=True)
    assert all(band.error < 1e-12 and band.chance == 0 for band in exact)
    assert bands(p, p - 0.05, {}, known=True)[0].error == pytest.approx(0.05)


def test_small_bands_are_put_together() -> None:
    p, u, _ = pairs(5 * LEAST, 3)
    queue = np.array([f"q{i // (LEAST // 2)}" if i < 3 * LEAST else "large" for i in range(len(p))], dtype=object)
    found = bands(p, (u < p).astype(float), {"queue": queue})
    assert {band.value: band.pairs for band in found[1:]} == {"large": 2 * LEAST, OTHERS: 3 * LEAST}
    few = np.array(["rare"] * (LEAST - 1) + ["large"] * (len(p) - LEAST + 1), dtype=object)
    assert [band.value for band in bands(p, (u < p).astype(float), {"queue": few})[1:]] == ["large"]
