"""Many numbers at once: adjusted p-values, shrunken effects, the jackknife."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.experiment.stats.multiple import discoveries, jackknife, shrunk


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg():
    p = [0.01, 0.04, 0.03, 0.5]
    assert discoveries(p) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])


def test_those_of_benjamini_and_yekutieli_are_larger_by_the_harmonic_number():
    p = [0.001, 0.2, 0.3, 0.9]
    assert discoveries(p, dependent=True)[0] == pytest.approx(discoveries(p)[0] * (1 + 1 / 2 + 1 / 3 + 1 / 4))
    assert len(discoveries([])) == 0


def test_the_false_discovery_rate_is_what_it_is_called():
    rng, rate = np.random.default_rng(0), []
    from scipy.stats import norm

    for _ in range(400):
        z = rng.normal(0, 1, 50)
        z[:10] += 3.5
        found = discoveries(2 * norm.sf(np.abs(z))) <= 0.1
        rate.append(found[10:].sum() / max(found.sum(), 1))
    assert np.mean(rate) < 0.1


def test_effects_that_differ_by_chance_alone_are_pulled_together():
    value = np.array([-0.2, -0.1, 0.0, 0.1, 0.2, 0.0, 0.3, -0.3])
    found = shrunk(value, np.ones(8))
    assert found.between == 0.0
    assert found.value == pytest.approx(value * (1 - 5 / 7))
    assert (found.se < 0.7).all()


def test_three_bands_cannot_tell_how_much_bands_differ():
    found = shrunk(np.array([1.0, 2.0, 3.0]), np.ones(3))
    assert found.value == pytest.approx([1.0, 2.0, 3.0])
    assert found.se == pytest.approx(1.0)


def test_effects_that_surely_differ_stay_apart():
    value = np.array([-6.0, -2.0, 0.0, 2.0, 6.0])
    found = shrunk(value, np.full(5, 0.1))
    assert found.between == pytest.approx(value.std(ddof=1), rel=0.01)
    assert found.value == pytest.approx(value, abs=0.01)


def test_a_single_effect_is_its_own_mean():
    found = shrunk(np.array([2.0]), np.array([0.5]))
    assert found.value == pytest.approx([2.0])
    assert found.between == 0.0


def test_shrunken_effects_are_nearer_to_the_truth_and_their_errors_are_right():
    rng, raw, pulled, inside = np.random.default_rng(1), [], [], []
    for _ in range(300):
        truth = rng.normal(1.0, 0.5, 15)
        se = rng.uniform(0.3, 1.5, 15)
        seen = rng.normal(truth, se)
        found = shrunk(seen, se)
        raw.append(np.mean((seen - truth) ** 2))
        pulled.append(np.mean((found.value - truth) ** 2))
        inside.append(np.mean(np.abs(found.value - truth) < 1.96 * found.se))
    assert np.mean(pulled) < 0.5 * np.mean(raw)
    assert 0.93 < np.mean(inside) < 0.985


def difference(control: np.ndarray, treatment: np.ndarray) -> np.ndarray:
    return treatment[..., 1:] / treatment[..., :1] - control[..., 1:] / control[..., :1]


def test_the_jackknife_of_equal_clusters_is_welchs_variance():
    rng = np.random.default_rng(2)
    y, arm = rng.normal(0, 1, 30), np.repeat([0, 1], 15)
    found = jackknife(np.stack([np.ones(30), y], axis=1), arm, np.arange(30), difference)
    parts = [y[arm == a] for a in (0, 1)]
    welch = np.sqrt(sum(part.var(ddof=1) / 15 for part in parts))
    told = found.told(0)
    assert told.value == pytest.approx(parts[1].mean() - parts[0].mean())
    # One of 15 is left out of 15, and 29 of 30 are counted: 15 / 14 · 29 / 30 of it, and no less.
    assert 1.0 <= told.se / welch < 1.03
    assert told.df == 29


def test_the_jackknife_knows_that_figures_move_together():
    rng = np.random.default_rng(3)
    y, arm = rng.normal(0, 1, 40), np.repeat([0, 1], 20)
    sums = np.stack([np.ones(40), y, 2 * y], axis=1)
    found = jackknife(sums, arm, np.arange(40), difference)
    assert found.covariance[0, 1] == pytest.approx(2 * found.covariance[0, 0])


def test_clusters_without_contacts_do_not_count():
    y, arm = np.arange(12.0), np.tile([0, 1], 6)
    sums = np.stack([np.ones(12), y], axis=1)
    sums[10:] = 0.0
    found = jackknife(sums, arm, np.arange(12) // 2, difference)
    assert found.df == 4
