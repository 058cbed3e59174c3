"""Empirical Bayes: strengths are recovered from simulated spreads, and equal the formulas on small numbers."""

from __future__ import annotations

import numpy as np
import pytest

from twotower.features.engine.shrink import LEAST, MOST, effective, mean_strength, rate_strength, shrunk

RNG = np.random.default_rng(7)


def arrays(*values):
    return [np.array(v, dtype=np.float64) for v in values]


def test_equal_weights_are_as_many_as_they_are():
    assert effective(*arrays([3.0, 0], [3.0, 0])).tolist() == [3, 0]


def test_unequal_weights_are_fewer():
    weights = 0.5 ** np.arange(4)
    found = effective(np.array([weights.sum()]), np.array([(weights**2).sum()]))
    assert found[0] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert found[0] < 4


def test_nobody_is_their_group_and_the_well_known_are_themselves():
    found = shrunk(np.array([0.0, 900.0]), np.array([0.0, 1000.0]), 0.5, 10.0)
    assert found.tolist() == [0.5, pytest.approx((900 + 5) / 1010)]


@pytest.mark.parametrize("strength", [5.0, 20.0, 100.0])
def test_the_strength_behind_rates_is_recovered(strength):
    n = RNG.integers(5, 120, 6000).astype(np.float64)
    rates = RNG.beta(0.7 * strength, 0.3 * strength, 6000)
    successes = RNG.binomial(n.astype(int), rates).astype(np.float64)
    assert rate_strength(successes, n, n) == pytest.approx(strength, rel=0.15)


@pytest.mark.parametrize("strength", [5.0, 50.0])
def test_the_strength_around_known_priors_is_recovered(strength):
    n, prior = RNG.integers(1, 30, 20_000).astype(np.float64), RNG.uniform(0.2, 0.9, 20_000)
    successes = RNG.binomial(n.astype(int), RNG.beta(prior * strength, (1 - prior) * strength)).astype(np.float64)
    assert rate_strength(successes, n, n, prior) == pytest.approx(strength, rel=0.15)


def test_decay_is_not_taken_for_spread():
    """Weights that differ leave more chance in a rate than their sum says: without the effective size it looks real."""
    weights = 0.5 ** (np.arange(60) / 5)
    outcomes = RNG.random((4000, 60)) < 0.7
    trials, squares = np.full(4000, weights.sum()), np.full(4000, (weights**2).sum())
    successes = (outcomes * weights).sum(axis=1)
    assert rate_strength(successes, trials, effective(trials, squares)) > 200
    assert rate_strength(successes, trials, trials * 4) < 50


def test_the_shared_mean_is_kleinmans_formula():
    successes, n = arrays([8, 1, 5, 9], [10, 8, 6, 11])
    p, total = successes / n, n.sum()
    mean = successes.sum() / total
    spread = (n * (p - mean) ** 2).sum()
    gamma = (spread - mean * (1 - mean) * 3) / (mean * (1 - mean) * (total - (n**2).sum() / total - 3))
    assert rate_strength(successes, n, n) == pytest.approx(1 / gamma - 1)


def test_no_more_spread_than_chance_reads_as_the_group():
    same = np.full(50, 10.0)
    assert rate_strength(same * 0.5, same, same) == MOST
    assert mean_strength(same * 2.0, same * 5.0, same, same) == MOST


def test_all_or_nothing_is_trusted_at_once():
    successes, n = arrays([20, 0] * 20, [20, 20] * 20)
    assert rate_strength(successes, n, n) == LEAST


@pytest.mark.parametrize("units", [0, 1])
def test_too_few_to_compare_read_as_the_group(units):
    some = np.full(units, 5.0)
    assert rate_strength(some, some, some) == MOST
    assert mean_strength(some, some, some, some) == MOST


def test_hand_overs_alone_in_their_units_tell_no_chance():
    ones = np.ones(9)
    assert mean_strength(np.arange(9.0), np.arange(9.0) ** 2, ones, ones) == MOST


@pytest.mark.parametrize("known", [False, True])
def test_the_strength_behind_means_is_recovered(known):
    sigma, tau, units = 1.2, 0.4, 4000
    centre = np.where(np.arange(units) % 2, 5.0, 6.0) if known else np.full(units, 5.0)
    means, n = RNG.normal(centre, tau), RNG.integers(2, 40, units)
    draws = [RNG.normal(m, sigma, k) for m, k in zip(means, n, strict=True)]
    total, squared = (np.array([(d**power).sum() for d in draws]) for power in (1, 2))
    weight = n.astype(np.float64)
    found = mean_strength(total, squared, weight, weight, centre if known else None)
    assert found == pytest.approx(sigma**2 / tau**2, rel=0.15)
