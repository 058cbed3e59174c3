"""Intervals: standard errors are statsmodels', differences are paired, and 95 % are 95 %."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.ope.bandit import Bandit
from evaluation.ope.estimators import DR, IPS, SNIPS, Mean, Terms
from evaluation.ope.intervals import Clusters, estimates, influence, standard_error
from evaluation.ope.rounds import Rounds
from twotower.metrics import Bootstrap


@pytest.fixture(scope="module")
def log() -> Rounds:
    return Bandit().log(800, 0)


def clusters(size: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 90, size)


def test_clustered_errors_are_statsmodels(log: Rounds) -> None:
    sm = pytest.importorskip("statsmodels.api")
    code, terms = clusters(len(log)), DR().terms(log)
    count, size = len(np.unique(code)), len(log)
    fitted = sm.OLS(terms.numerator, np.ones(size)).fit(cov_type="cluster", cov_kwds={"groups": code})
    # Its small-sample factor is C/(C − 1) · (n − 1)/(n − 1).
    assert standard_error(influence(terms), Clusters(size, code)) == pytest.approx(fitted.bse[0])
    assert estimates([terms], [], code, draws=0)[0][0].value == pytest.approx(fitted.params[0])
    assert count < size


def test_a_ratio_has_the_error_of_the_weighted_mean(log: Rounds) -> None:
    """SNIPS is weighted least squares on a constant with robust errors."""
    sm = pytest.importorskip("statsmodels.api")
    fitted = sm.WLS(log.reward, np.ones(len(log)), weights=log.weight).fit(cov_type="HC1")
    assert standard_error(influence(SNIPS().terms(log)), Clusters(len(log), None)) == pytest.approx(fitted.bse[0])


def test_clusters_of_one_are_none(log: Rounds) -> None:
    psi = influence(IPS().terms(log))
    one = standard_error(psi, Clusters(len(log), np.random.default_rng(0).permutation(len(log))))
    assert one == pytest.approx(standard_error(psi, Clusters(len(log), None)))
    assert one == pytest.approx(psi.std(ddof=1) / np.sqrt(len(log)))


def test_rounds_that_are_told_twice_count_once_by_cluster(log: Rounds) -> None:
    twice = log.take(np.tile(np.arange(len(log)), 2))
    code = np.tile(np.arange(len(log)), 2)
    [alone], _ = estimates([IPS().terms(log)], [], None, draws=0)
    [naive], _ = estimates([IPS().terms(twice)], [], None, draws=0)
    [told], _ = estimates([IPS().terms(twice)], [], code, draws=0)
    assert told.error == pytest.approx(alone.error)
    assert naive.error == pytest.approx(alone.error / np.sqrt(2), rel=1e-2)
    [booted], _ = estimates([IPS().terms(twice)], [], code, draws=400)
    [single], _ = estimates([IPS().terms(log)], [], None, draws=400)
    assert (booted.bootstrap.low, booted.bootstrap.high) == (single.bootstrap.low, single.bootstrap.high)


def test_differences_are_paired(log: Rounds) -> None:
    terms = [DR().terms(log), Mean().terms(log)]
    (one, two), [less] = estimates(terms, [(0, 1)], None, draws=500)
    assert less.value == pytest.approx(one.value - two.value)
    assert less.error == pytest.approx((terms[0].numerator - terms[1].numerator).std(ddof=1) / np.sqrt(len(log)))
    assert less.error < np.hypot(one.error, two.error)
    assert less.bootstrap.high - less.bootstrap.low == pytest.approx(less.high - less.low, rel=0.2)


def test_the_bootstrap_is_the_houses(log: Rounds) -> None:
    [found], _ = estimates([IPS().terms(log)], [], None, draws=200, seed=7)
    house = Bootstrap(len(log), 7, 200).mean(log.weight * log.reward)
    assert (found.bootstrap.low, found.bootstrap.high) == pytest.approx((house.low, house.high))


def test_one_cluster_has_no_interval(log: Rounds) -> None:
    [found], _ = estimates([IPS().terms(log)], [], np.zeros(len(log)), draws=100)
    assert np.isnan([found.error, found.low, found.high, found.bootstrap.low]).all()
    assert found.value == pytest.approx(IPS().terms(log).value)


def test_no_weight_is_no_estimate() -> None:
    [found], _ = estimates([Terms(np.zeros(5), np.zeros(5))], [], None, draws=20)
    assert np.isnan(found.value)


def test_both_intervals_cover() -> None:
    """A small version of `benchmarks/ope.py`: 250 logs of 500 rounds, so ± 0.034 by chance (2.5 deviations)."""
    bandit, value = Bandit(), Bandit().true_value(400_000)
    made = [IPS(), SNIPS(), DR()]
    inside = np.zeros((2, len(made)))
    for seed in range(250):
        log = bandit.log(500, seed)
        found, _ = estimates([one.terms(log) for one in made], [], None, draws=150, seed=seed)
        inside[0] += [one.low <= value <= one.high for one in found]
        inside[1] += [one.bootstrap.low <= value <= one.bootstrap.high for one in found]
    assert (np.abs(inside / 250 - 0.95) < 0.034 + 0.01).all(), inside / 250
