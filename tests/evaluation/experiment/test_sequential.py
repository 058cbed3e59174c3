"""Boundaries for all times at once: published numbers, one formula under three names, and what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.experiment.stats.sequential import (
    Sample,
    best_rho,
    normal_mixture,
    relative_lift,
    sample_size,
    times_standard_error,
    times_standard_error_t,
)


@pytest.mark.parametrize(
    ("control", "treatment", "n"), [(0.10, 0.11, 14_749), (0.70, 0.72, 8_077), (0.80, 0.81, 24_638)]
)
def test_sample_sizes_are_the_published_ones(control, treatment, n):
    assert sample_size(control, treatment, alpha=0.05, power=0.8) == n


def test_a_sample_of_that_size_finds_the_difference_with_that_power():
    n, rng = sample_size(0.5, 0.6), np.random.default_rng(0)
    a, b = rng.binomial(n, 0.5, 20_000) / n, rng.binomial(n, 0.6, 20_000) / n
    z = (b - a) / np.sqrt((a * (1 - a) + b * (1 - b)) / n)
    assert np.mean(np.abs(z) > 1.959964) == pytest.approx(0.8, abs=0.015)


def test_the_sequential_two_sample_lift_is_the_published_one():
    control, treatment = Sample(1396.87, 52377.9767, 3000), Sample(2422.7, 134698.29, 3461)
    found = relative_lift(control, treatment, alpha=0.05, tuning=1000)
    assert found.value == pytest.approx(0.50336, abs=5e-6)
    assert (found.low, found.high) == pytest.approx((-0.55844, 1.56516), abs=5e-6)


def test_a_sample_knows_its_mean_and_unbiased_variance():
    values = np.random.default_rng(1).normal(3, 2, 50)
    found = Sample(values.sum(), (values**2).sum(), 50)
    assert found.mean == pytest.approx(values.mean())
    assert found.variance == pytest.approx(values.var(ddof=1))


@pytest.mark.parametrize(("exact", "rho", "bound"), [(False, 12.60056, 30.35209), (True, 12.17735, 30.35122)])
def test_the_two_sided_normal_mixture_is_the_published_one(exact, rho, bound):
    found = best_rho(100, 0.05, exact)
    assert found == pytest.approx(rho, abs=5e-6)
    assert normal_mixture(100, found, 0.05) == pytest.approx(bound, abs=5e-6)


@pytest.mark.parametrize("v", [0.3, 100.0, 4e6])
def test_no_other_rho_is_tighter_where_it_is_tuned(v):
    best = best_rho(v, 0.05)
    at_best = normal_mixture(v, best, 0.05)
    assert all(normal_mixture(v, best * factor, 0.05) > at_best for factor in (0.5, 0.9, 1.1, 2.0))


def test_the_boundary_is_the_asymptotic_confidence_sequence_of_waudby_smith_and_others():
    """Their theorem: σ √(2 (n ρ'² + 1) / (n² ρ'²) · log(√(n ρ'² + 1) / α)), with ρ' = 1 / √ρ."""
    n, rho, alpha = 357.0, 12.6, 0.05
    other = 1 / math.sqrt(rho)
    theirs = math.sqrt(2 * (n * other**2 + 1) / (n**2 * other**2) * math.log(math.sqrt(n * other**2 + 1) / alpha))
    assert times_standard_error(n, rho, alpha) / math.sqrt(n) == pytest.approx(theirs, rel=1e-12)


def test_the_boundary_of_t_statistics_grows_into_the_normal_one():
    n = np.array([5.0, 50.0, 500.0])
    normal = times_standard_error(n, 12.0, 0.05)
    assert times_standard_error_t(n, 1e9, 12.0, 0.05) == pytest.approx(normal, rel=1e-6)
    few = times_standard_error_t(n, 20.0, 12.0, 0.05)
    assert (few > normal).all()


def test_where_nothing_can_be_said_the_boundary_is_infinite():
    assert times_standard_error_t(3.0, 1.0, 12.0, 0.05) == math.inf
    assert times_standard_error_t(10.0, 0.0, 12.0, 0.05) == math.inf
    assert times_standard_error(0.0, 12.0, 0.05) == math.inf


def test_the_boundary_of_t_statistics_is_where_the_e_value_reaches_one_over_alpha():
    """The Bayes factor of N(0, 1/ρ) standard deviations against 0, right Haar prior on σ, integrated numerically."""
    from scipy import integrate, stats

    n, rho, alpha = 30, 7.0, 0.05
    t = float(times_standard_error_t(n, n - 1, rho, alpha))

    def likelihood(delta: float) -> float:
        return float(stats.nct.pdf(t, n - 1, delta * math.sqrt(n)) * stats.norm.pdf(delta, 0, 1 / math.sqrt(rho)))

    mixed, _ = integrate.quad(likelihood, -3, 3, points=[0.0, t / math.sqrt(n)], limit=200)
    assert mixed / stats.t.pdf(t, n - 1) == pytest.approx(1 / alpha, rel=1e-3)


@pytest.mark.parametrize("tuned", [50, 200])
def test_looking_after_every_observation_is_wrong_no_more_often_than_promised(tuned):
    rng, runs, n = np.random.default_rng(2), 2000, 400
    x = rng.normal(0, 3.0, (runs, n))
    many = np.arange(1, n + 1)
    mean = x.cumsum(axis=1) / many
    sd = np.sqrt(np.maximum((x**2).cumsum(axis=1) / many - mean**2, 0) * many / np.maximum(many - 1, 1))
    reach = times_standard_error_t(many, many - 1.0, best_rho(tuned, 0.05), 0.05)
    with np.errstate(invalid="ignore"):
        crossed = (np.abs(mean) > reach * sd / np.sqrt(many)).any(axis=1)
    assert 0.005 < crossed.mean() < 0.055
    naive = (np.abs(mean) > 1.96 * sd / np.sqrt(many))[:, 20:].any(axis=1)
    assert naive.mean() > 0.25
