"""Beliefs about CSAs follow Bayes' rule under a Gaussian approximation."""

from __future__ import annotations

import numpy as np
import pytest

from serve.beliefs import Beliefs, Spread
from twotower.scoring.spread import Factors

WIDTH = 5


def some(seed: int, rows: int = 4, alone: bool = False) -> tuple[Beliefs, np.ndarray, np.ndarray]:
    """Beliefs about two CSAs, the vectors and the factors they began with."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((2, WIDTH)).astype(np.float32)
    factors = (0.5 * rng.standard_normal((2, rows, WIDTH))).astype(np.float16)
    if not alone:
        factors[:, -1] = 0
    return Beliefs(vectors, Factors.of(factors)), vectors, factors


def covariance(factor: np.ndarray) -> np.ndarray:
    rows = factor.astype(np.float64)
    found: np.ndarray = rows[:-1].T @ rows[:-1] + np.diag(rows[-1] ** 2)
    return found


def believed(spread: Spread, csa: int) -> np.ndarray:
    """The covariance of one CSA's vector, as a reader of deviations sees it: from those of u_i and u_i + u_j."""
    width = spread.trained.parts.shape[2]
    units, where = np.eye(width, dtype=np.float32), np.array([csa])
    found = np.empty((width, width))
    for i in range(width):
        for j in range(width):
            plus, minus = (float(spread.deviations(units[i] + sign * units[j], where)[0]) for sign in (1, -1))
            found[i, j] = (plus**2 - minus**2) / 4
    return found


def exactly(mean: np.ndarray, sigma: np.ndarray, u: np.ndarray, level: float, resolved: bool) -> tuple[np.ndarray, ...]:
    """Mean and covariance after an outcome, by the formulas as they are written."""
    pull = sigma @ u
    variance = u @ pull
    p = 1 / (1 + np.exp(-(level + mean @ u) / np.sqrt(1 + np.pi * variance / 8)))
    w = p * (1 - p)
    gain = 1 / (1 + w * variance)
    return mean + pull * (resolved - p) * gain, sigma - w * gain * np.outer(pull, pull)


@pytest.mark.parametrize("resolved", [True, False])
def test_one_outcome_moves_mean_and_covariance_as_the_formula_says(resolved: bool) -> None:
    beliefs, vectors, factors = some(0)
    u = np.random.default_rng(1).standard_normal(WIDTH).astype(np.float32)
    expected, shrunk = exactly(vectors[1], covariance(factors[1]), u, 0.3, resolved)
    beliefs.learn(1, u, 0.3, resolved)
    np.testing.assert_allclose(beliefs.vector(1, vectors[1]), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(believed(beliefs.spread(), 1), shrunk, atol=1e-5)
    np.testing.assert_array_equal(beliefs.vector(0, vectors[0]), vectors[0])
    assert beliefs.spread().roots[0] is None


@pytest.mark.parametrize("alone", ["nothing", "the constant", "everything"])
def test_many_dense_outcomes_follow_the_formula_whatever_varies_alone(alone: str) -> None:
    """A thousand outcomes of contacts with all components, of which the first hundred repeat one contact."""
    rng, width = np.random.default_rng(6), 24
    vectors = rng.standard_normal((2, width)).astype(np.float32)
    factors = (0.3 * rng.standard_normal((2, 7, width))).astype(np.float16)
    factors[:, -1] = {"nothing": 0.0, "the constant": np.eye(width)[-1], "everything": np.linspace(0.2, 1, width)}[
        alone
    ]
    begun = Factors.of(factors)
    beliefs, mean, sigma = Beliefs(vectors, begun), vectors[1].astype(np.float64), covariance(begun.of_one(1))
    u = rng.standard_normal(width).astype(np.float32)
    for i in range(1000):
        if i >= 100:
            u = rng.standard_normal(width).astype(np.float32)
        mean, sigma = exactly(mean, sigma, u.astype(np.float64), -0.4, i % 2 == 0)
        beliefs.learn(1, u, -0.4, i % 2 == 0)
        if i in (0, 99, 999):
            found = float(beliefs.spread().deviations(u, np.array([1]))[0])
            assert found == pytest.approx(np.sqrt(u @ sigma @ u), rel=1e-3)
            assert float(beliefs.vector(1, vectors[1]) @ u) == pytest.approx(float(mean @ u), abs=1e-3)
            np.testing.assert_allclose(believed(beliefs.spread(), 1), sigma, atol=1e-5)


def test_who_reads_deviations_goes_on_reading_what_was_believed_then() -> None:
    beliefs, _, factors = some(7, alone=True)
    u, both = np.ones(WIDTH, np.float32), np.array([1, 0])
    views, found = [], []
    for i in range(5):
        views.append(beliefs.spread())
        found.append(views[-1].deviations(u, both).tolist())
        beliefs.learn(0, u, 0.0, i % 2 == 0)
    assert [view.deviations(u, both).tolist() for view in views] == found
    assert [one for one, _ in found] == [pytest.approx(np.sqrt(u @ covariance(factors[1]) @ u), rel=1e-4)] * 5
    assert np.all(np.diff([other for _, other in found]) < 0)
    assert views[0].nbytes < views[1].nbytes


def test_many_outcomes_lead_to_what_the_exact_posterior_says() -> None:
    """One dimension, where the posterior can be summed on a grid."""
    rng = np.random.default_rng(2)
    start = 1.5
    beliefs = Beliefs(np.zeros((1, 1), np.float32), Factors.of(np.array([[[start], [0.0]]])))
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
    found = beliefs.spread().deviations(np.ones(1, np.float32), np.array([0]))
    assert float(found[0]) == pytest.approx(deviation, rel=0.1)


def test_what_varies_alone_is_learnt_and_shrinks_too() -> None:
    beliefs, vectors, _ = some(3, rows=1, alone=True)
    u = np.eye(WIDTH, dtype=np.float32)[2]
    before = believed(beliefs.spread(), 0)
    for _ in range(20):
        beliefs.learn(0, u, 0.0, True)
    moved = beliefs.vector(0, vectors[0]) - vectors[0]
    assert moved[2] > 0
    assert not moved[[0, 1, 3, 4]].any()
    after = believed(beliefs.spread(), 0)
    assert after[2, 2] < before[2, 2]
    np.testing.assert_allclose(np.delete(np.diag(after), 2), np.delete(np.diag(before), 2), rtol=3e-4)


def test_nothing_that_training_left_is_changed() -> None:
    beliefs, vectors, factors = some(4, alone=True)
    kept = vectors.copy(), factors.copy()
    beliefs.learn(0, np.ones(WIDTH, np.float32), 0.0, False)
    everyone, spread = beliefs.all_vectors(vectors), beliefs.spread()
    np.testing.assert_array_equal(vectors, kept[0])
    np.testing.assert_array_equal(factors, kept[1])
    assert not np.array_equal(everyone[0], vectors[0])
    assert np.trace(believed(spread, 0)) < np.trace(covariance(factors[0]))
    np.testing.assert_array_equal(everyone[1], vectors[1])


def test_an_extreme_contact_neither_overflows_nor_makes_a_factor_imaginary() -> None:
    beliefs, vectors, _ = some(5, alone=True)
    for resolved in (True, False, True):
        beliefs.learn(0, np.full(WIDTH, 1e4, np.float32), -1e3, resolved)
    assert np.isfinite(beliefs.vector(0, vectors[0])).all()
    assert np.isfinite(believed(beliefs.spread(), 0)).all()


def test_of_whom_nothing_is_open_the_deviation_is_zero() -> None:
    beliefs, _, factors = some(6)
    factors[0] = 0
    spread = Spread.of(Factors.of(factors))
    assert np.isfinite(spread.trained.values()).all()
    np.testing.assert_allclose(spread.trained.values(), factors, atol=float(np.abs(factors).max()) / 60_000)
    assert spread.deviations(np.ones(WIDTH, np.float32), np.array([0])).tolist() == [0]
    beliefs.grow(len(factors) + 3)
    assert beliefs.spread().deviations(np.ones(WIDTH, np.float32), np.array([len(factors) + 2])).tolist() == [0]


@pytest.mark.filterwarnings("error")
def test_places_of_whom_nothing_is_believed_are_nought() -> None:
    factors = Factors.of(np.zeros((3, 2, WIDTH), np.float16))
    assert not factors.parts.any()
    assert not factors.deviations(np.ones(WIDTH, np.float32), np.arange(3)).any()
