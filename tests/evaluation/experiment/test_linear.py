"""Least squares with errors by cluster: equal to statsmodels and to formulas where there are some, right where few."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evaluation.experiment.stats.linear import Told, across_time, fit, lags_of


def two_arms(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.repeat([0.0, 1.0], n // 2))
    return np.stack([np.ones(n), arm], axis=1), rng.normal(arm, 1 + arm, n), rng.uniform(1, 9, n)


def test_coefficients_are_those_of_statsmodels():
    import statsmodels.api as sm

    x, y, w = two_arms(0)
    found = fit(x, y, w, np.arange(40))
    assert found is not None
    assert found.coefficients == pytest.approx(sm.WLS(y, x, weights=w).fit().params)


def test_single_rows_as_clusters_give_hc2():
    import statsmodels.api as sm

    x, y, _ = two_arms(1)
    found = fit(x, y, np.ones(40), np.arange(40))
    assert found is not None
    assert found.one(1).se == pytest.approx(sm.OLS(y, x).fit(cov_type="HC2").bse[1])


def test_of_two_means_it_is_welchs_variance_and_nearly_his_degrees_of_freedom():
    x, y, _ = two_arms(2, 60)
    found = fit(x, y, np.ones(60), np.arange(60))
    assert found is not None
    told, parts = found.one(1), [y[x[:, 1] == a] for a in (0, 1)]
    assert told.se == pytest.approx(math.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)))
    # Bell and McCaffrey's degrees of freedom suppose alike variances, so they are n − 2 for arms of the same size.
    assert told.df == pytest.approx(58.0)
    assert told.p() == pytest.approx(stats.ttest_ind(parts[1], parts[0], equal_var=False).pvalue, rel=0.1)


def test_pairs_as_clusters_are_the_paired_t_test():
    rng = np.random.default_rng(3)
    pairs = rng.normal(0, 5, 12)
    control, treatment = pairs + rng.normal(0, 1, 12), pairs + 0.5 + rng.normal(0, 1, 12)
    x = np.stack([np.ones(24), np.repeat([0.0, 1.0], 12)], axis=1)
    found = fit(x, np.concatenate([control, treatment]), np.ones(24), np.tile(np.arange(12), 2))
    assert found is not None
    told, theirs = found.one(1), stats.ttest_rel(treatment, control)
    assert told.p() == pytest.approx(theirs.pvalue, rel=1e-6)
    assert told.df == pytest.approx(11.0)
    interval = theirs.confidence_interval(0.9)
    assert told.interval(0.1) == pytest.approx((interval.low, interval.high), rel=1e-6)


def test_a_contrast_is_a_linear_combination():
    x, y, w = two_arms(4)
    found = fit(x, y, w, np.arange(40) // 2)
    assert found is not None
    treated = found.of(np.array([1.0, 1.0]))
    assert treated.value == pytest.approx(np.average(y[x[:, 1] == 1], weights=w[x[:, 1] == 1]))


def test_what_cannot_be_told_is_none():
    x, y, w = two_arms(5)
    same = np.stack([np.ones(40), np.ones(40)], axis=1)
    assert fit(same, y, w, np.arange(40)) is None
    assert fit(x, y, w, np.zeros(40, np.int64)) is None
    assert fit(x[:2], y[:2], w[:2], np.arange(2)) is None


def test_few_clusters_of_different_sizes_are_right_where_the_usual_sandwich_is_not():
    """Eight clusters a side, one of them large, contacts of a cluster alike: what is promised at 5 %."""
    rng, runs = np.random.default_rng(6), 800
    sizes = np.array([60.0, 10, 10, 10, 12, 8, 9, 11] * 2)
    wrong = np.zeros(3)
    for _ in range(runs):
        arm = rng.permutation(np.repeat([0.0, 1.0], 8))
        y = rng.normal(0, 0.3, 16) + rng.normal(0, 1, 16) / np.sqrt(sizes)
        x = np.stack([np.ones(16), arm], axis=1)
        found = fit(x, y, sizes, np.arange(16))
        assert found is not None
        told = found.one(1)
        naive = math.sqrt(sum(1 / sizes[arm == a].sum() for a in (0, 1)))
        wrong += [told.p() < 0.05, abs(told.value) > 1.96 * told.se, abs(told.value) > 1.96 * naive]
    share = wrong / runs
    assert share[0] < 0.07
    assert share[1] > share[0]
    assert share[2] > 0.2


def test_errors_across_time_are_statsmodels_and_wider_where_neighbours_are_alike():
    rng = np.random.default_rng(7)
    shock = np.zeros(200)
    for i in range(1, 200):
        shock[i] = 0.9 * shock[i - 1] + rng.normal()
    arm = np.repeat(rng.integers(0, 2, 20), 10).astype(float)
    x = np.stack([np.ones(200), arm], axis=1)
    hac, alone = across_time(x, shock, np.ones(200), 1), fit(x, shock, np.ones(200), np.arange(200))
    assert alone is not None
    assert hac.value == pytest.approx(alone.one(1).value)
    assert hac.se > 1.3 * alone.one(1).se
    assert hac.df == 198


@pytest.mark.parametrize(("n", "lags"), [(10, 2), (84, 3), (100, 4), (1000, 6)])
def test_lags_follow_newey_and_west(n, lags):
    assert lags_of(n) == lags


def test_what_is_told_has_two_sides_and_one():
    told = Told(2.0, 1.0, 1e9)
    assert told.p() == pytest.approx(2 * stats.norm.sf(2.0))
    assert told.p(2.0) == pytest.approx(1.0)
    assert told.below(4.0) == pytest.approx(stats.norm.sf(2.0))
    assert told.interval(0.05) == pytest.approx((2 - 1.959964, 2 + 1.959964), abs=1e-5)


def test_without_an_error_nothing_is_sure():
    told = Told(2.0, math.nan, 0.0)
    assert told.p() == 1.0
    assert told.below(5.0) == 1.0
    assert told.interval(0.05) == (-math.inf, math.inf)
