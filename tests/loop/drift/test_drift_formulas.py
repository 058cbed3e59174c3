"""Each statistic is the formula that it names, on numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import rel_entr

from evaluation.simulate.figures import gini
from loop.drift.calibrated import measured, recalibration
from loop.drift.inputs import counted, psi
from loop.drift.outcomes import Maturation
from loop.drift.people import inverse_simpson
from loop.drift.series import share
from loop.drift.texts import distance, jensen_shannon
from twotower.clock import DAY


def test_population_stability() -> None:
    one, other = np.array([49.5, 29.5, 19.5, 0.0]), np.array([39.5, 29.5, 29.5, 0.0])  # a half more: 50, 30, 20
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])
    assert psi(one, other) == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert psi(one, one) == 0
    assert psi(one, other) == pytest.approx(psi(other, one))


def test_without_drift_population_stability_is_chi_squared_over_the_sizes() -> None:
    random, p, n, m = np.random.default_rng(0), np.array([0.4, 0.3, 0.2, 0.1]), 2000, 1000
    found = [psi(*(random.multinomial(size, p).astype(float) for size in (n, m))) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(3 * (1 / n + 1 / m), rel=0.05)


def test_counts_of_categories_by_window() -> None:
    found = counted(np.array([-1, 0, 0, 1, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 2, 2]), 2)
    assert found.tolist() == [[1, 1, 0], [0, 2, 1]]


def test_jensen_shannon() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.25, 0.75])
    m = (p + q) / 2
    expected = (rel_entr(p, m).sum() + rel_entr(q, m).sum()) / 2 / np.log(2)
    assert jensen_shannon(8 * p, 4 * q) == pytest.approx(float(expected))
    assert jensen_shannon(np.array([3.0, 0]), np.array([0, 5.0])) == 1
    assert jensen_shannon(p, 7 * p) == 0


def test_the_distance_of_vectors_is_unbiased_and_scatters_as_told() -> None:
    random, scale = np.random.default_rng(1), np.array([3.0, 1.0, 1.0, 0.5, 0.1])
    found = [distance(random.normal(size=(300, 5)) * scale, random.normal(size=(150, 5)) * scale) for _ in range(3000)]
    values = np.array([value for value, _ in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    assert values.std() == pytest.approx(float(np.mean([error for _, error in found])), rel=0.06)
    moved, error = distance(random.normal(size=(300, 5)) * scale, random.normal(size=(150, 5)) * scale + 1.0)
    assert moved == pytest.approx(5 / np.square(scale).sum(), abs=4 * error + 0.2)


def test_spread_of_work() -> None:
    assert inverse_simpson(np.array([5.0, 5, 5, 0])) == pytest.approx(3)
    assert gini(np.array([4.0, 4, 4, 4])) == pytest.approx(0)
    assert gini(np.array([0.0, 0, 0, 8])) == pytest.approx(3 / 4)
    counts = np.array([1.0, 2, 7, 4])
    pairs = np.abs(counts[:, None] - counts[None, :]).sum() / (2 * len(counts) ** 2 * counts.mean())
    assert gini(counts) == pytest.approx(float(pairs))


def test_a_share_of_nothing_is_not_known_and_one_event_is_not_infinitely_much() -> None:
    values, error = share(np.array([0.0, 0.0, 50.0]), np.array([100.0, 0.0, 100.0]))
    assert values[0] == 0
    assert np.isnan(values[1])
    assert np.isnan(error[1])
    assert error[2] == error[0] == pytest.approx(np.sqrt(0.01 * 0.99 / 100))  # whatever the newest is


def test_the_maturation_curve_is_kaplan_and_meier_s() -> None:
    """The textbook's: events at 1, 3, 3, 5; censored at 2, 4 and 6."""
    duration = np.array([1, 2, 3, 3, 4, 5, 6]) * DAY
    known = np.array([True, False, True, True, False, True, False])
    curve = Maturation.fit(duration, known)
    survivors = np.cumprod([6 / 7, 3 / 5, 1 / 2])
    assert curve.age.tolist() == [1 * DAY, 3 * DAY, 5 * DAY]
    assert curve.share == pytest.approx(1 - survivors)
    assert curve.at(np.array([0, DAY - 1, DAY, 4 * DAY, 99 * DAY])) == pytest.approx(
        [0, 0, 1 / 7, 1 - survivors[1], 1 - survivors[2]]
    )
    assert curve.age_of(0.5) == 3 * DAY
    assert curve.plateau == pytest.approx(1 - survivors[2])


def test_censoring_does_not_bend_the_curve() -> None:
    random = np.random.default_rng(2)
    delay, looked = random.exponential(2.0, 20_000), random.uniform(0, 7, 20_000)
    curve = Maturation.fit((np.minimum(delay, looked) * DAY).astype(np.int64), delay < looked)
    for days in (0.5, 2, 5):
        assert curve.at(np.array([int(days * DAY)]))[0] == pytest.approx(1 - np.exp(-days / 2), abs=0.02)


def test_nothing_known_has_no_curve() -> None:
    curve = Maturation.fit(np.array([5, 6]), np.array([False, False]))
    assert len(curve.age) == 0
    assert curve.plateau == 0
    assert curve.points() == []


def test_a_recalibration_finds_slope_and_intercept() -> None:
    random = np.random.default_rng(3)
    x = random.normal(0, 1, 40_000)
    outcome = random.random(40_000) < 1 / (1 + np.exp(-(0.4 - 0.3 + 0.6 * x)))
    slope, intercept, errors = recalibration(x, outcome, 0.4)
    assert slope == pytest.approx(0.6, abs=4 * errors[0])
    assert intercept == pytest.approx(-0.3, abs=4 * errors[1])
    assert np.isnan(recalibration(np.zeros(10), np.ones(10, bool), 0.0)[0])


def test_of_a_calibrated_model_the_measures_scatter_as_told() -> None:
    random, found = np.random.default_rng(4), []
    for _ in range(300):
        p = 1 / (1 + np.exp(-random.normal(0.5, 1, 800)))
        values, errors = measured(p, random.random(800) < p)
        found.append((values - (0, 1, 0, 0)) / errors)
    z = np.array(found)
    assert np.abs(z[:, :3].mean(axis=0)).max() < 0.25
    assert z[:, :3].std(axis=0) == pytest.approx(np.ones(3), abs=0.15)
    assert (z[:, 3] > 3).mean() < 0.02
