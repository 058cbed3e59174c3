"""Bounds under the marginal sensitivity model: those of a linear program, and they hold what they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from evaluation.ope.bandit import Bandit
from evaluation.ope.estimators import SNIPS
from evaluation.ope.rounds import Rounds
from evaluation.ope.sensitivity import ratio_bounds, sensitivity, weight_box
from twotower.errors import ConfigError


def program(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """The same bounds by Charnes and Cooper's transformation, solved as a linear program: u = w t, Σ u = 1."""
    n = len(values)
    upper = np.concatenate([np.eye(n), -high[:, None]], axis=1)
    lower = np.concatenate([-np.eye(n), low[:, None]], axis=1)
    inside = {"A_ub": np.concatenate([upper, lower]), "b_ub": np.zeros(2 * n)}
    whole = {"A_eq": np.concatenate([np.ones(n), [0.0]])[None], "b_eq": [1.0]}
    cost = np.concatenate([values, [0.0]])
    least, most = (linprog(sign * cost, **inside, **whole, bounds=(0, None)).fun for sign in (1, -1))
    return least, -most


@pytest.mark.parametrize("seed", range(8))
def test_bounds_are_those_of_a_linear_program(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 40))
    values = random.integers(0, 2, n).astype(float) if seed % 2 else random.normal(size=n)
    low = random.exponential(size=n)
    high = low + random.exponential(size=n) * random.integers(0, 2, n)
    assert ratio_bounds(values, low, high) == pytest.approx(program(values, low, high), abs=1e-8)


def test_rounds_that_count_twice() -> None:
    random = np.random.default_rng(1)
    values, low = random.normal(size=20), random.exponential(size=20)
    many = random.integers(0, 3, 20)
    twice = np.repeat(np.arange(20), many)
    counted = ratio_bounds(values, low, 2 * low, many.astype(float))
    assert counted == pytest.approx(ratio_bounds(values[twice], low[twice], 2 * low[twice]))


def test_no_weight_has_no_bounds() -> None:
    assert np.isnan(ratio_bounds(np.ones(3), np.zeros(3), np.zeros(3))).all()


def test_the_box_is_the_odds_ratio() -> None:
    rounds = Rounds(np.zeros(2), np.array([0.2, 1.0]), np.array([0.5, 1.0]))
    low, high = weight_box(rounds, 2.0)
    for weight, factor in ((low, 2.0), (high, 0.5)):
        true = 0.5 / weight[0]
        assert (true / (1 - true)) / (0.2 / 0.8) == pytest.approx(factor)
    assert (low[1], high[1]) == (1.0, 1.0)  # a choice that was certain is certain whatever was not seen
    with pytest.raises(ConfigError, match=r"Λ = 0.9"):
        weight_box(rounds, 0.9)


@pytest.fixture(scope="module")
def log() -> Rounds:
    return Bandit().log(1500, 0)


def test_without_hidden_choice_the_range_is_the_estimate(log: Rounds) -> None:
    [bound, *_] = sensitivity(log, doubly=False, draws=60).bounds
    value = SNIPS().terms(log).value - log.reward.mean()
    assert (bound.low, bound.high) == pytest.approx((value, value))
    assert bound.outer_low < value < bound.outer_high


def test_the_range_only_grows(log: Rounds) -> None:
    bounds = sensitivity(log, draws=40).bounds
    for name, sign in (("low", -1), ("outer_low", -1), ("high", 1), ("outer_high", 1)):
        values = np.array([getattr(one, name) for one in bounds]) * sign
        assert (np.diff(values) >= 0).all(), name


def test_a_model_narrows_the_range(log: Rounds) -> None:
    with_model, without = (sensitivity(log, (2.0,), doubly, draws=0).bounds[0] for doubly in (True, False))
    assert with_model.high - with_model.low < without.high - without.low


def test_the_flip_is_where_the_interval_reaches_nought(log: Rounds) -> None:
    curve = sensitivity(log, draws=60)
    assert 1 < curve.flips < 50
    below, above = (sensitivity(log, (curve.flips * f,), draws=60).bounds[0] for f in (0.98, 1.0))
    assert below.outer_low > 0
    assert above.outer_low <= 0 <= above.outer_high


def test_nothing_concluded_and_never_lost(log: Rounds) -> None:
    same = replace(log, target=log.propensity, q_target=log.q_logged)
    assert sensitivity(same, draws=60).flips == 1.0
    certain = Rounds(
        (np.arange(1000) % 10 == 0).astype(float), np.ones(1000), (np.arange(1000) % 10 == 0).astype(float)
    )
    assert sensitivity(certain, draws=60).flips == float("inf")


def test_a_hidden_choice_is_within_the_range_of_its_strength() -> None:
    """A queue that also goes by the outcome to come: propensities are known without it, not given it."""
    random = np.random.default_rng(0)
    n, strength = 10_000, 1.8
    potential = random.random((n, 2)) < [0.5, 0.6]  # what each of two would bring
    odds = np.where(potential[:, 1], strength, 1 / strength)
    chosen = (random.random(n) < odds / (1 + odds)).astype(int)
    seen = chosen.mean()  # all that a table tells, about a half
    rounds = Rounds(
        potential[np.arange(n), chosen].astype(float), np.where(chosen, seen, 1 - seen), (chosen == 1).astype(float)
    )
    value = potential[:, 1].mean() - rounds.reward.mean()
    plain, weak, strong = sensitivity(rounds, (1.0, 1.2, 2.2), doubly=False, draws=60).bounds
    assert not plain.outer_low <= value <= plain.outer_high
    assert not weak.outer_low <= value <= weak.outer_high
    assert strong.outer_low <= value <= strong.outer_high
