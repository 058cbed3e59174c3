"""Probabilities of being the largest against adaptive quadrature, closed forms and simulation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import log_ndtr
from scipy.stats import norm

from serve.explore_chances import chances_of_largest, log_phi

GAUSSIANS = st.lists(st.tuples(st.floats(-20, 20), st.floats(0, 5)), min_size=1, max_size=40)


def by_quadrature(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Adaptive quadrature of each integral by itself, cut where any of the Gaussians bends."""
    bends = np.concatenate([mean + k * deviation for k in (-3, -1, 0, 1, 3)])
    found = []
    for a in range(len(mean)):
        others = [b for b in range(len(mean)) if b != a]
        low, high = mean[a] - 9 * deviation[a], mean[a] + 9 * deviation[a]
        cuts = np.unique(np.clip([low, high, *bends], low, high))

        def density(t: float, a: int = a, others: list[int] = others) -> float:
            below = np.prod(norm.cdf(t, mean[others], deviation[others]))
            return float(norm.pdf(t, mean[a], deviation[a]) * below)

        parts = pairwise(cuts)
        found.append(sum(quad(density, x, y, epsabs=1e-13, epsrel=1e-12)[0] for x, y in parts))
    return np.array(found)


@pytest.mark.parametrize("spread", [0.2, 1.5])
def test_they_agree_with_adaptive_quadrature(spread: float) -> None:
    random = np.random.default_rng(3)
    for size in (2, 3, 5, 7):
        mean, deviation = random.normal(size=size), np.exp(random.normal(-1, spread, size))
        assert chances_of_largest(mean, deviation) == pytest.approx(by_quadrature(mean, deviation), abs=1e-9)


def test_two_have_a_closed_form() -> None:
    mean, deviation = np.array([0.3, -0.2]), np.array([0.05, 2.0])
    expected = norm.cdf(0.5 / math.hypot(0.05, 2.0))
    assert chances_of_largest(mean, deviation) == pytest.approx([expected, 1 - expected], abs=1e-9)


@pytest.mark.parametrize("size", [1, 25, 256])
def test_equals_have_equal_chances(size: int) -> None:
    assert chances_of_largest(np.full(size, 1.7), np.full(size, 0.3)) == pytest.approx(1 / size, abs=1e-9)


def test_they_agree_with_simulation() -> None:
    random = np.random.default_rng(5)
    mean, deviation = random.normal(0, 0.5, 25), random.uniform(0.1, 0.8, 25)
    draws = 200_000
    largest = (mean + deviation * random.normal(size=(draws, 25))).argmax(axis=1)
    share = np.bincount(largest, minlength=25) / draws
    expected = chances_of_largest(mean, deviation)
    assert np.abs(share - expected).max() < 5 * math.sqrt(0.25 / draws)


def test_who_is_certain_wins_by_what_the_others_leave() -> None:
    mean, deviation = np.array([0.0, 0.0, 0.5, -3.0]), np.array([0.0, 0.0, 1.0, 0.0])
    assert chances_of_largest(mean, deviation) == pytest.approx([norm.cdf(-0.5), 0, norm.cdf(0.5), 0], abs=1e-9)


def test_all_certain_is_the_first_best() -> None:
    assert chances_of_largest(np.array([0.1, 0.4, 0.4]), np.zeros(3)).tolist() == [0, 1, 0]


@given(GAUSSIANS)
def test_they_are_a_distribution_whatever_the_widths(drawn: list[tuple[float, float]]) -> None:
    mean, deviation = np.array(drawn).T
    found = chances_of_largest(mean, deviation)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1, abs=1e-12)


@given(GAUSSIANS)
def test_before_they_are_made_to_sum_to_one_they_do(drawn: list[tuple[float, float]]) -> None:
    """One more who is the largest by 1e-9 at most leaves the others' chances as they are."""
    mean, deviation = np.array(drawn).T
    least = (mean - 7 * deviation).max() - 1
    more = chances_of_largest(np.append(mean, least), np.append(deviation, 0.0))
    assert more[:-1] == pytest.approx(chances_of_largest(mean, deviation), abs=1e-9)
    assert more[-1] < 1e-9


def test_the_table_of_log_phi() -> None:
    z = np.linspace(-8, 9, 100_003)
    assert np.abs(log_phi(z) - log_ndtr(z)).max() < 1e-11
    assert log_phi(np.array([-50.0, 50.0])) == pytest.approx([log_ndtr(-8), 0], abs=1e-11)
