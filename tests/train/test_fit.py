"""The join's fits recover known weights and agree with other people's solvers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from sklearn.linear_model import LogisticRegression

from train.join import conditional_logit, logistic, spread

TRUE = np.array([1.5, 0.7, 0.3])
UNITS = np.array([1.0, 100.0, 0.01])  # columns in units of very different size


def choices(n: int, j: int, seed: int, mask: bool = False) -> tuple[npt.NDArray[np.float32], ...]:
    """Candidates' columns (n, J, 3), who was chosen (n,) by weights `TRUE / UNITS`, and who could be."""
    rng = np.random.default_rng(seed)
    columns = (rng.standard_normal((n, j, 3)) * UNITS).astype(np.float32)
    allowed = rng.random((n, j)) < 0.5 if mask else np.ones((n, j), dtype=bool)
    allowed[:, 0] = True
    scores = np.where(allowed, columns @ (TRUE / UNITS) + rng.gumbel(size=(n, j)), -np.inf)
    return columns, scores.argmax(axis=1), allowed


@pytest.mark.parametrize("mask", [False, True])
def test_conditional_logit_recovers_the_weights_that_chose(mask):
    columns, taken, allowed = choices(4000, 8, seed=0, mask=mask)
    weights = conditional_logit(columns, taken, allowed if mask else None, ridge=1e-3)
    assert weights * UNITS == pytest.approx(TRUE, abs=0.08)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 50.0])
def test_conditional_logit_is_the_minimum_of_its_formula(mask, ridge):
    columns, taken, allowed = choices(300, 6, seed=1, mask=mask)
    x = columns.astype(np.float64)
    centred = x - x.mean(axis=1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=(0, 1)))

    def loss(weights: npt.NDArray[np.float64]) -> float:
        scores = np.where(allowed, centred / scale @ weights, -np.inf)
        log_p = log_softmax(scores, axis=1)[np.arange(len(taken)), taken]
        return float(-log_p.sum() + 0.5 * ridge * weights @ weights)

    expected = minimize(loss, np.zeros(3), tol=1e-10).x / scale
    found = conditional_logit(columns, taken, allowed.copy() if mask else None, ridge)
    assert found * scale == pytest.approx(expected * scale, abs=2e-3)


def test_a_constant_column_and_an_offset_per_contact_change_nothing():
    columns, taken, _ = choices(500, 6, seed=2)
    plain = conditional_logit(columns, taken, None, 1.0)
    moved = columns + np.random.default_rng(0).standard_normal((500, 1, 3)).astype(np.float32)
    assert conditional_logit(moved, taken, None, 1.0) * UNITS == pytest.approx(plain * UNITS, abs=1e-2)
    wider = np.concatenate([columns, np.ones((500, 6, 1), np.float32)], axis=2)
    found = conditional_logit(wider, taken, None, 1.0)
    assert found[:3] * UNITS == pytest.approx(plain * UNITS, abs=1e-3)
    assert found[3] == pytest.approx(0, abs=1e-3)


def outcomes(n: int, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((n, 3)) * UNITS
    return columns, rng.random(n) < expit(columns @ (TRUE / UNITS) - 0.4)


def test_logistic_recovers_the_weights_and_the_intercept():
    columns, resolved = outcomes(20_000, seed=0)
    weights, intercept = logistic(columns, resolved, np.zeros(3), ridge=1e-4)
    assert weights * UNITS == pytest.approx(TRUE, abs=0.08)
    assert intercept == pytest.approx(-0.4, abs=0.06)


def test_logistic_without_a_prior_is_scikit_learns():
    columns, resolved = outcomes(800, seed=1)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(columns / UNITS, resolved)
    weights, intercept = logistic(columns / UNITS, resolved, np.zeros(3), ridge=1e-9)
    assert weights == pytest.approx(theirs.coef_[0], abs=1e-4)
    assert intercept == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_the_prior_pulls_the_weights_to_its_centre_and_leaves_the_intercept():
    columns, resolved = outcomes(200, seed=2)
    centre = np.array([0.2, 0.001, 30.0])
    distance = []
    for ridge in (1e-6, 1.0, 1e3, 1e7):
        weights, intercept = logistic(columns, resolved, centre, ridge)
        distance.append(np.abs((weights - centre) * UNITS).max())
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 1e-3
    expected = minimize(
        lambda b: float(np.logaddexp(0, np.where(resolved, -1, 1) * (columns @ centre + b)).sum()), 0.0
    ).x[0]
    assert intercept == pytest.approx(expected, abs=1e-2)


def test_no_weight_counts_against_success():
    columns, _ = outcomes(2000, seed=4)
    p = expit(columns @ (np.array([1.5, -0.7, 0.3]) / UNITS))
    weights, _ = logistic(columns, np.random.default_rng(4).random(2000) < p, np.zeros(3), ridge=1e-4)
    assert weights[1] == 0
    assert (weights[[0, 2]] > 0).all()


def test_outcomes_that_never_failed_still_have_finite_weights():
    columns, _ = outcomes(100, seed=3)
    weights, intercept = logistic(columns, np.ones(100, dtype=bool), np.zeros(3), ridge=1.0)
    assert np.isfinite([*weights, intercept]).all()


def test_positions_are_thinned_evenly():
    positions = np.arange(100, 200)
    assert spread(positions, 1000).tolist() == positions.tolist()
    few = spread(positions, 5)
    assert few.tolist() == [100, 124, 149, 174, 199]
    assert spread(positions[:0], 5).tolist() == []
