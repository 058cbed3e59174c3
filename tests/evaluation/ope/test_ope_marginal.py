"""Marginal weights: sums over groups, from IPS to the log's mean, and the grouping that SLOPE takes."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.ope.estimators import IPS, MIPS
from evaluation.ope.marginal import LEAST_GROUPS, chosen_marginal, groupings, marginal_weights
from evaluation.ope.rounds import Floats, Ints, Pairs, Rounds
from tests.evaluation.ope import enumerated
from twotower.errors import DataError


@pytest.fixture(scope="module")
def small() -> tuple[Rounds, Pairs, Floats, Floats]:
    rounds, pairs, propensity = enumerated.population(groups=np.array([0, 1, 1]))
    x = np.array([x for x, _, _ in enumerated.outcomes()])
    return rounds, pairs, enumerated.TARGET[x].ravel(), propensity


def test_weights_are_sums_over_groups(small: tuple[Rounds, Pairs, Floats, Floats]) -> None:
    rounds, pairs, target, propensity = small
    found = marginal_weights(pairs, target, propensity, np.array([0, 1, 1]))
    assert rounds.marginal is not None
    assert found == pytest.approx(rounds.marginal)
    assert found.mean() == pytest.approx(1)


def test_single_csas_are_ips_and_one_group_is_the_log(small: tuple[Rounds, Pairs, Floats, Floats]) -> None:
    rounds, pairs, target, propensity = small
    assert marginal_weights(pairs, target, propensity, np.arange(3)) == pytest.approx(rounds.weight)
    assert marginal_weights(pairs, target, propensity, np.zeros(3, int)) == pytest.approx(np.ones(len(rounds)))


def test_who_had_no_chance_cannot_have_been_chosen() -> None:
    pairs = Pairs(np.array([0, 2]), np.array([0, 1]), np.array([1]))
    with pytest.raises(DataError, match="round 0: who was chosen"):
        marginal_weights(pairs, np.array([0.5, 0.5]), np.array([1.0, 0.0]), np.arange(2))


def test_groupings_go_from_single_to_few() -> None:
    vectors = np.repeat(np.random.default_rng(0).normal(0, 5, (5, 3)), 8, axis=0)
    found = groupings(vectors + 1e-3 * np.random.default_rng(1).normal(size=vectors.shape))
    assert [len(np.unique(one)) for one in found] == [40, 20, 10, 5]
    assert found[-1].max() + 1 >= LEAST_GROUPS
    assert all(len(set(found[-1][8 * k : 8 * k + 8])) == 1 for k in range(5))


def large(spread: float, seed: int = 0) -> tuple[Pairs, Floats, Floats, Floats, list[Ints], float]:
    """2,000 rounds, 200 CSAs in 8 groups whose members differ by `spread`; one of them wanted; and its value."""
    random = np.random.default_rng(seed)
    n, size = 2000, 200
    group = np.arange(size) % 8
    q = np.clip(0.3 + 0.05 * group + spread * random.normal(size=size), 0.02, 0.98)
    wanted = random.integers(0, 25, n) * 8 + 7
    chosen = random.integers(0, size, n)
    offsets = np.arange(n + 1) * size
    pairs = Pairs(offsets, np.tile(np.arange(size), n), offsets[:-1] + chosen)
    target = np.zeros(n * size)
    target[offsets[:-1] + wanted] = 1.0
    reward = (random.random(n) < q[chosen]).astype(float)
    groups = [np.arange(size), np.arange(size) % 100, np.arange(size) % 40, group, np.arange(size) % 4]
    return pairs, target, np.full(n * size, 1 / size), reward, groups, float(q[wanted].mean())


def test_groups_of_like_csas_tell_more_than_single_ones() -> None:
    pairs, target, chance, reward, groups, value = large(0.0)
    fine, coarse = (marginal_weights(pairs, target, chance, one) for one in (groups[0], groups[3]))
    assert (fine * reward).var() > 10 * (coarse * reward).var()
    assert (coarse * reward).mean() == pytest.approx(value, abs=0.06)


def test_the_coarsest_that_does_not_contradict_is_taken() -> None:
    pairs, target, chance, reward, groups, value = large(0.0)
    found = chosen_marginal(pairs, target, chance, groups, reward, None, 1e-4)
    assert found.groups <= 8
    assert found.csas == 200
    assert found.unsupported == 0
    rounds = Rounds(reward, np.full(len(reward), 1 / 200), target[pairs.own], marginal=found.weight)
    ips = IPS().terms(rounds)
    assert abs(MIPS().terms(rounds).value - value) < abs(ips.value - value) + 3 * ips.numerator.std() / np.sqrt(2000)


def test_groups_that_hide_a_difference_are_not_taken() -> None:
    """One CSA who alone is good: merged with others, the estimate is far from what single weights say."""
    random = np.random.default_rng(0)
    n, size = 20_000, 8
    offsets = np.arange(n + 1) * size
    chosen = random.integers(0, size, n)
    pairs = Pairs(offsets, np.tile(np.arange(size), n), offsets[:-1] + chosen)
    target = np.tile((np.arange(size) == 3).astype(float), n)
    reward = (random.random(n) < np.where(chosen == 3, 0.9, 0.1)).astype(float)
    groups = [np.arange(size), np.arange(size) // 2, np.arange(size) // 4]
    found = chosen_marginal(pairs, target, np.full(n * size, 1 / size), groups, reward, None, 1e-4)
    assert found.groups == 8
    assert (found.weight * reward).mean() == pytest.approx(0.9, abs=0.05)


def test_rewards_that_are_not_known_do_not_count() -> None:
    pairs, target, chance, reward, groups, _ = large(0.0)
    some = reward.copy()
    some[::3] = np.nan
    found = chosen_marginal(pairs, target, chance, groups, some, None, 1e-4)
    assert len(found.weight) == len(reward)


def test_a_group_that_the_log_never_chooses_is_no_support() -> None:
    pairs = Pairs(np.array([0, 3]), np.array([0, 1, 2]), np.array([0]))
    target, chance = np.array([0.3, 0.2, 0.5]), np.array([0.6, 0.4, 0.0])
    apart = chosen_marginal(pairs, target, chance, [np.array([0, 0, 1])], np.ones(1), None, 1e-4)
    together = chosen_marginal(pairs, target, chance, [np.array([0, 1, 1])], np.ones(1), None, 1e-4)
    assert (apart.unsupported, together.unsupported) == (0.5, 0.0)
