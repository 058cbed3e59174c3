"""Gates: what a log cannot tell is refused with the figure that failed, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.ope.bandit import Bandit, pairs_of
from evaluation.ope.overlap import Gates, never_chosen_mass, overlap, refusals, unsupported_mass
from evaluation.ope.rounds import Pairs
from twotower.errors import ConfigError

GATES = Gates()


def test_equal_weights_are_worth_all_rounds() -> None:
    found = overlap(np.ones(500))
    assert (found.effective, found.effective_clusters, found.mean, found.agreeing) == (500, 500, 1, 1)
    assert found.mean_error == 0
    assert found.share == 1 / 500
    assert refusals(found, GATES) == []


def test_effective_sample_size_is_kongs() -> None:
    weight = np.random.default_rng(0).exponential(size=400)
    found = overlap(weight)
    assert found.effective == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert found.effective == pytest.approx(400 / (1 + weight.var() / weight.mean() ** 2))
    assert found.quantiles == pytest.approx(np.quantile(weight, [0.01, 0.25, 0.5, 0.75, 0.99]))


def test_a_right_log_is_answered() -> None:
    log = Bandit().log(3000, 0)
    assert refusals(overlap(log.weight, unsupported=0.0), GATES) == []


def test_too_few_rounds() -> None:
    [line] = refusals(overlap(np.ones(40), unsupported=0.0), replace(GATES, least_effective=1))
    assert line == "40 rounds with a known reward, 100 are needed: choose a longer window"


def test_too_little_overlap() -> None:
    weight = np.zeros(5000)
    weight[:60] = 5000 / 60
    [line] = refusals(overlap(weight), GATES)
    assert line.startswith("too little overlap: 5,000 rounds tell as much as 60 of the policy's own")
    assert "100 are needed" in line


def test_one_customer_with_all_the_weight() -> None:
    cluster = np.arange(2000)
    cluster[:200] = 0
    found = overlap(np.ones(2000), cluster)
    assert (found.clusters, found.share) == (1801, 0.1)
    assert "one cluster has 10.0% of all weight (5.0% at most)" in refusals(found, GATES)


def test_few_clusters() -> None:
    lines = refusals(overlap(np.ones(2000), np.arange(2000) % 20), replace(GATES, most_weight=1))
    assert lines == ["20 clusters weigh as 20 alike ones (30 are needed): choose a longer window, or another --cluster"]


def test_wrong_propensities_move_the_mean_weight() -> None:
    log = Bandit().log(4000, 0)
    wrong = replace(log, propensity=np.minimum(1.0, log.propensity * 1.5))
    [line] = refusals(overlap(wrong.weight), GATES)
    assert line.startswith("the mean weight is 0.714 ± 0.019 where 1 is expected")
    assert "propensities are wrong" in line


def test_a_mean_that_chance_explains_is_let_pass() -> None:
    random = np.random.default_rng(0)
    weight = random.exponential(1.2, 120)
    found = overlap(weight)
    assert found.mean > 1.1
    assert not any("mean weight" in line for line in refusals(found, GATES))


def test_false_alarms_of_the_mean_weight_are_rare() -> None:
    bandit = Bandit(sharpness=np.inf)
    alarms = [any("mean" in line for line in refusals(overlap(bandit.log(1000, s).weight), GATES)) for s in range(200)]
    assert sum(alarms) <= 2


def test_support_is_exact_where_all_chances_are_known() -> None:
    pairs = pairs_of(np.array([0, 1, 2, 0]), 3)
    propensity = np.array([0.5, 0.5, 0.0, 0.9, 0.1, 0.0, 0.0, 0.0, 1.0, 0.5, 0.49995, 0.00005])
    target = np.array([0.2, 0.3, 0.5, 1.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 1.0])
    assert unsupported_mass(pairs, target, propensity, 1e-4) == pytest.approx((0.5 + 0 + 0.5 + 1.0) / 4)
    assert unsupported_mass(pairs, target, propensity, 0.0) == 0
    found = overlap(np.ones(1000), unsupported=0.5)
    [line] = refusals(found, GATES)
    assert line.startswith("no support: 50.0% of what the policy would choose is never chosen in the log")


def test_support_by_who_was_ever_chosen() -> None:
    """Three contacts of two CSAs each, 30 times; CSA 2 is never chosen, and would have been 30 times by chance."""
    lists, own, target = np.array([0, 1, 0, 2, 1, 2]), np.array([0, 2, 4]), np.array([0.5, 0.5, 0.2, 0.8, 0.0, 1.0])

    def mass(times: int, certain: float) -> float:
        pairs = Pairs(
            np.arange(0, 6 * times + 1, 2), np.tile(lists, times), (own + 6 * np.arange(times)[:, None]).ravel()
        )
        return never_chosen_mass(pairs, np.tile(target, times), np.tile([certain, 0.5, 0.5], times))

    assert mass(30, 0.5) == pytest.approx((0.8 + 1.0) / 3)
    assert mass(30, 1.0) == pytest.approx((0.5 + 0.8 + 1.0) / 3)
    assert mass(5, 0.5) == 0  # five times is chance


@pytest.mark.parametrize(("name", "value"), [("least_effective", -1.0), ("mean_weight", float("nan"))])
def test_a_threshold_that_cannot_be(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"gates.{name}: .*a number of 0 or more"):
        Gates(**{name: value})
