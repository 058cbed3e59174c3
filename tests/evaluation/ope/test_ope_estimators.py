"""Estimators against enumeration: expectations over all logs of a bandit that can be written down, exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.ope.bandit import Bandit
from evaluation.ope.estimators import DM, DR, IPS, MIPS, NAMES, SNIPS, TITLES, Mean, SwitchDR, Terms, estimators
from evaluation.ope.rounds import Rounds
from tests.evaluation.ope import enumerated
from tests.evaluation.ope.enumerated import CONTEXTS, LOGGING, MODEL, REWARD, TARGET, VALUE
from twotower.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def rounds() -> Rounds:
    return enumerated.population()[0]


def test_the_world_is_what_it_is_said_to_be(rounds: Rounds) -> None:
    assert len(rounds) == enumerated.MANY
    assert pytest.approx(0.4 * (0.9 * 0.5 + 0.1 * 0.2) + 0.6 * (0.6 * 0.4 + 0.2 * 0.6 + 0.2 * 0.5)) == VALUE
    assert rounds.weight.mean() == pytest.approx(1)


def test_ips_is_unbiased(rounds: Rounds) -> None:
    assert IPS().terms(rounds).value == pytest.approx(VALUE)


def test_snips_is_consistent_and_does_not_mind_a_shift(rounds: Rounds) -> None:
    assert SNIPS().terms(rounds).value == pytest.approx(VALUE)
    part = rounds.take(np.arange(0, len(rounds), 7))
    shifted = replace(part, reward=part.reward + 10)
    assert SNIPS().terms(shifted).value == pytest.approx(SNIPS().terms(part).value + 10)
    assert IPS().terms(shifted).value != pytest.approx(IPS().terms(part).value + 10, abs=1e-3)


def test_snips_stays_within_the_rewards() -> None:
    heavy = Rounds(np.ones(3), np.array([0.01, 0.5, 0.5]), np.ones(3))
    assert SNIPS().terms(heavy).value == 1
    assert IPS().terms(heavy).value > 30


def test_dm_is_the_models_word(rounds: Rounds) -> None:
    assert DM().terms(rounds).value == pytest.approx(float((CONTEXTS[:, None] * TARGET * MODEL).sum()))


def test_dr_is_unbiased_whatever_the_model(rounds: Rounds) -> None:
    assert DR().terms(rounds).value == pytest.approx(VALUE)
    assert DR().terms(
        replace(rounds, q_logged=rounds.q_logged * 0, q_target=rounds.q_target * 0)
    ).value == pytest.approx(  # type: ignore[operator]
        IPS().terms(rounds).value
    )


def test_dr_is_right_where_the_model_is_and_propensities_are_not(rounds: Rounds) -> None:
    x, a, _ = np.array(enumerated.outcomes()).T
    wrong = replace(
        rounds, propensity=np.full(len(rounds), 1 / 3), q_logged=REWARD[x, a], q_target=(TARGET * REWARD).sum(axis=1)[x]
    )
    assert DR().terms(wrong).value == pytest.approx(VALUE)
    assert IPS().terms(wrong).value != pytest.approx(VALUE, abs=1e-2)


def test_dr_of_a_good_model_varies_less(rounds: Rounds) -> None:
    x, a, _ = np.array(enumerated.outcomes()).T
    good = replace(rounds, q_logged=REWARD[x, a], q_target=(TARGET * REWARD).sum(axis=1)[x])
    assert DR().terms(good).numerator.var() < IPS().terms(rounds).numerator.var()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0, 3.5, np.inf])
def test_switch_dr_has_the_bias_of_the_papers_formula(rounds: Rounds, threshold: float) -> None:
    weight = TARGET / LOGGING
    bias = float((CONTEXTS[:, None] * TARGET * (MODEL - REWARD) * (weight > threshold)).sum())
    assert SwitchDR(threshold).terms(rounds).value == pytest.approx(VALUE + bias)


def test_switch_dr_between_its_ends(rounds: Rounds) -> None:
    assert SwitchDR(0.0).terms(rounds).value == pytest.approx(DM().terms(rounds).value)
    assert SwitchDR(np.inf).terms(rounds).value == pytest.approx(DR().terms(rounds).value)


def test_switch_dr_is_tuned_to_the_least_estimated_error() -> None:
    log = Bandit(sharpness=np.inf, floor=0.05).log(300, 1)
    chosen = SwitchDR.tuned(log, reach=0.05)
    assert chosen.threshold < log.weight.max()  # where the model cannot be far off, large weights are not worth having
    assert SwitchDR.tuned(log, reach=1000.0).threshold >= log.weight.max()  # where it can, nothing is left to it

    def error(threshold: float) -> float:
        terms = SwitchDR(threshold).terms(log).numerator
        return terms.var() / len(log) + (0.05 * np.where(log.weight > threshold, log.weight, 0).mean()) ** 2

    assert error(chosen.threshold) <= min(error(t) for t in np.quantile(log.weight[log.weight > 0], [0, 0.3, 0.7, 1]))


def test_a_threshold_that_is_none() -> None:
    with pytest.raises(ConfigError, match="threshold -1"):
        SwitchDR(-1.0)


def test_mips_is_unbiased_where_actions_matter_through_their_groups() -> None:
    groups = np.array([0, 1, 1])
    alike = np.array([[0.8, 0.5, 0.5], [0.4, 0.5, 0.5]])
    rounds = enumerated.population(alike, groups)[0]
    value = float((CONTEXTS[:, None] * TARGET * alike).sum())
    assert MIPS().terms(rounds).value == pytest.approx(value)
    assert MIPS().terms(rounds).numerator.var() < IPS().terms(rounds).numerator.var()


def test_mips_has_the_bias_of_the_papers_theorem() -> None:
    """Saito and Joachims, theorem 3.5: what actions of one group differ by, under π less under π₀."""
    groups = np.array([0, 1, 1])
    rounds = enumerated.population(groups=groups)[0]
    inside = LOGGING[:, 1:] / LOGGING[:, 1:].sum(axis=1, keepdims=True)
    mean = (inside * REWARD[:, 1:]).sum(axis=1, keepdims=True)
    expected = TARGET[:, 0] * REWARD[:, 0] + (TARGET[:, 1:] * mean).sum(axis=1)
    assert MIPS().terms(rounds).value == pytest.approx(float((CONTEXTS * expected).sum()))
    assert MIPS().terms(rounds).value != pytest.approx(VALUE, abs=1e-3)


def test_mips_of_single_actions_is_ips() -> None:
    rounds = enumerated.population(groups=np.arange(3))[0]
    assert MIPS().terms(rounds).numerator == pytest.approx(IPS().terms(rounds).numerator)


def test_the_logs_own_value(rounds: Rounds) -> None:
    assert Mean().terms(rounds).value == pytest.approx(float((CONTEXTS[:, None] * LOGGING * REWARD).sum()))


@pytest.mark.parametrize("one", [DM(), DR(), SwitchDR(1.0), MIPS()])
def test_what_is_missing_is_named(one: DM | DR | SwitchDR | MIPS) -> None:
    plain = Rounds(np.ones(2), np.ones(2), np.ones(2))
    with pytest.raises(DataError, match=f"^{one.name}: rounds without"):
        one.terms(plain)


def test_those_that_rounds_allow() -> None:
    plain = Rounds(np.ones(2), np.ones(2), np.ones(2))
    assert list(estimators(plain, 1.0)) == ["ips", "snips"]
    whole = enumerated.population(groups=np.array([0, 1, 1]))[0]
    assert set(estimators(whole, 1.0)) == set(NAMES) == set(TITLES)


def test_nothing_over_nothing() -> None:
    assert np.isnan(Terms(np.zeros(2), np.zeros(2)).value)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ips_is_within_two_percent_on_a_hundred_thousand_rounds(seed: int) -> None:
    bandit = Bandit(actions=10)
    log, value = bandit.log(100_000, seed), bandit.true_value(400_000)
    assert abs(Mean().terms(log).value / value - 1) > 0.3  # what is judged is not what was logged
    assert abs(IPS().terms(log).value / value - 1) < 0.02
