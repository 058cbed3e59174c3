"""Balance: right propensities balance what they weigh, wrong ones show, and by which property."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.ope.balance import Balance, Covariates, balances, covariates, imbalances
from evaluation.ope.bandit import Bandit, pairs_of
from evaluation.ope.logged import read_logged
from evaluation.ope.overlap import Gates
from evaluation.ope.queue_features import NAMES
from evaluation.ope.rounds import Floats, Pairs
from tests.evaluation.ope import worlds
from twotower.clock import parse_time
from twotower.tables.log import Log


@pytest.fixture(scope="module")
def world() -> tuple[Covariates, Pairs, Floats, Floats]:
    bandit, n = Bandit(), 4000
    x = bandit.contexts(n, 0)
    logging, target = bandit.logging(x), bandit.target(x)
    random = np.random.default_rng(0)
    chosen = (np.cumsum(logging, axis=1) < random.random((n, 1))).sum(axis=1)
    pairs = pairs_of(chosen, bandit.actions)
    speed = np.tile(np.linspace(-1, 1, bandit.actions), n)[:, None]
    given = Covariates(tuple(f"x{k}" for k in range(5)), x, ("speed",), speed)
    return given, pairs, target.ravel(), logging[np.arange(n), chosen]


def test_right_propensities_balance(world: tuple[Covariates, Pairs, Floats, Floats]) -> None:
    given, pairs, target, propensity = world
    found = balances(given, pairs, target, propensity)
    assert [one.name for one in found] == ["x0", "x1", "x2", "x3", "x4", "speed"]
    assert all(abs(one.after) < 4 * one.error for one in found)
    assert all(one.before == 0 for one in found[:5])
    assert abs(found[5].before) > abs(found[5].after)
    assert imbalances(found, Gates()) == []


def test_a_difference_is_what_it_is_defined_as(world: tuple[Covariates, Pairs, Floats, Floats]) -> None:
    given, pairs, target, propensity = world
    weight = target[pairs.own] / propensity
    x = given.contacts[:, 2]
    assert balances(given, pairs, target, propensity)[2].after == pytest.approx(
        ((weight * x).sum() / weight.sum() - x.mean()) / x.std()
    )
    speed = given.csas[:, 0]  # type: ignore[index]
    wanted = pairs.total(target * speed).mean()
    assert balances(given, pairs, target, propensity)[5].after == pytest.approx(
        ((weight * speed[pairs.own]).sum() / weight.sum() - wanted) / speed[pairs.own].std()
    )


def test_wrong_propensities_are_told_by_property(world: tuple[Covariates, Pairs, Floats, Floats]) -> None:
    given, pairs, target, propensity = world
    speed = given.csas[pairs.own, 0]  # type: ignore[index]
    wrong = np.clip(propensity * np.exp(speed), 0, 1)
    [line] = imbalances(balances(given, pairs, target, wrong), Gates())
    assert "speed -0." in line
    assert "propensities are wrong" in line


def test_chance_is_no_imbalance() -> None:
    assert imbalances([Balance("x", 0.0, 0.3, 0.1)], Gates()) == []
    [line] = imbalances([Balance("x", 0.0, 0.3, 0.01), Balance("y", 0.0, -0.5, 0.01)], Gates())
    assert "y -0.50 ± 0.01, x +0.30 ± 0.01;" in line


def test_what_does_not_vary_has_no_balance(world: tuple[Covariates, Pairs, Floats, Floats]) -> None:
    given, pairs, target, propensity = world
    flat = replace(given, contacts=np.ones_like(given.contacts), csas=None)
    assert balances(flat, pairs, target, propensity) == []


def test_covariates_of_a_log(ope_data: Path, ope_log: Log) -> None:
    logged, _ = read_logged(ope_data, ope_log, parse_time(worlds.FROM), parse_time(worlds.TO))
    found = covariates(logged)
    assert found.contacts.shape == (len(logged), len(found.contact_names))
    assert {"channel chat", "channel call", "known customer", "before noon"} <= set(found.contact_names)
    assert not any(name.startswith("language") for name in found.contact_names)  # all are in English
    assert sum(name.startswith("intent") for name in found.contact_names) == 6
    whole = covariates(logged, np.zeros((len(logged.pairs.csa), len(NAMES))))
    assert whole.csa_names[0] == "CSA's load"
