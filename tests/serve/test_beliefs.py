"""Beliefs about CSAs follow Bayes' rule under a Gaussian approximation."""

from __future__ import annotations

import numpy as np
import pytest

from serve.beliefs import Beliefs

WIDTH = 5


def some(seed: int, rows: int = 4, alone: bool = False) -> tuple[Beliefs, np.ndarray, np.ndarray]:
    """Beliefs about two CSAs, the vectors and the factors they began with."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((2, WIDTH)).astype(np.float32)
    factors = (0.5 * rng.standard_normal((2, rows, WIDTH))).astype(np.float16)
    if not alone:
        factors[:, -1] = 0
    return Beliefs(vectors, factors), vectors, factors


def covariance(factor: np.ndarray) -> np.ndarray:
    rows = factor.astype(np.float64)
    found: np.ndarray = rows[:-1].T @ rows[:-1] + np.diag(rows[-1] ** 2)
    return found


@pytest.mark.parametrize("resolved", [True, False])
def test_one_outcome_moves_mean_and_covariance_as_the_formula_says(resolved: bool) -> None:
    beliefs, vectors, factors = some(0)
    u = np.random.default_rng(1).standard_normal(WIDTH).astype(np.float32)
    sigma = covariance(factors[1])
    variance = u @ sigma @ u
    p = 1 / (1 + np.exp(-(0.3 + vectors[1] @ u) / np.sqrt(1 + np.pi * variance / 8)))
    w = p * (1 - p)
    beliefs.learn(1, u, 0.3, resolved)
    expected = vectors[1] + sigma @ u * (resolved - p) / (1 + w * variance)
    np.testing.assert_allclose(beliefs.vector(1, vectors[1]), expected, rtol=1e-5, atol=1e-6)
    shrunk = sigma - w * np.outer(sigma @ u, sigma @ u) / (1 + w * variance)
    np.testing.assert_allclose(covariance(beliefs.factor(1)), shrunk, atol=3e-3)  # factors are handed out in float16
    np.testing.assert_array_equal(beliefs.vector(0, vectors[0]), vectors[0])
    np.testing.assert_array_equal(beliefs.factor(0), factors[0])


def test_many_outcomes_lead_to_what_the_exact_posterior_says() -> None:
    """One dimension, where the posterior can be summed on a grid."""
    rng = np.random.default_rng(2)
    start = 1.5
    beliefs = Beliefs(np.zeros((1, 1), np.float32), np.array([[[start], [0.0]]], np.float16))
    grid = np.linspace(-6, 6, 4001)
    log_posterior = -(grid**2) / (2 * start**2)
    for _ in range(60):
        u = float(rng.choice([0.5, 1.0, -1.0]))
        resolved = bool(rng.random() < 1 / (1 + np.exp(-(0.2 + 1.2 * u))))
        beliefs.learn(0, np.array([u], np.float32), 0.2, resolved)
        log_posterior -= np.logaddexp(0, -(1 if resolved else -1) * (0.2 + grid * u))
    weight = np.exp(log_posterior - log_posterior.max())
    weight /= weight.sum()
    mean = (weight * grid).sum()
    deviation = np.sqrt((weight * (grid - mean) ** 2).sum())
    assert beliefs.vector(0, np.zeros(1, np.float32))[0] == pytest.approx(mean, abs=0.15 * deviation)
    assert float(beliefs.factor(0)[0, 0]) == pytest.approx(deviation, rel=0.1)


def test_what_varies_alone_is_learnt_and_shrinks_too() -> None:
    beliefs, vectors, _ = some(3, rows=1, alone=True)
    u = np.eye(WIDTH, dtype=np.float32)[2]
    before = covariance(beliefs.factor(0))
    for _ in range(20):
        beliefs.learn(0, u, 0.0, True)
    moved = beliefs.vector(0, vectors[0]) - vectors[0]
    assert moved[2] > 0
    assert not moved[[0, 1, 3, 4]].any()
    after = covariance(beliefs.factor(0))
    assert after[2, 2] < before[2, 2]
    np.testing.assert_array_equal(np.delete(np.diag(after), 2), np.delete(np.diag(before), 2))


def test_nothing_that_training_left_is_changed() -> None:
    beliefs, vectors, factors = some(4, alone=True)
    kept = vectors.copy(), factors.copy()
    beliefs.learn(0, np.ones(WIDTH, np.float32), 0.0, False)
    everyone, spread = beliefs.all_vectors(vectors), beliefs.all_factors()
    np.testing.assert_array_equal(vectors, kept[0])
    np.testing.assert_array_equal(factors, kept[1])
    assert not np.array_equal(everyone[0], vectors[0])
    assert not np.array_equal(spread[0], factors[0])
    np.testing.assert_array_equal(everyone[1], vectors[1])


def test_an_extreme_contact_neither_overflows_nor_makes_a_factor_imaginary() -> None:
    beliefs, vectors, _ = some(5, alone=True)
    for resolved in (True, False, True):
        beliefs.learn(0, np.full(WIDTH, 1e4, np.float32), -1e3, resolved)
    assert np.isfinite(beliefs.vector(0, vectors[0])).all()
    assert np.isfinite(beliefs.factor(0)).all()
