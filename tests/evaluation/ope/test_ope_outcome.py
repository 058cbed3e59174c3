"""The judge: it has not seen what it judges, learns who is good at what, and is nobody's model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.ope.folds import folds_of
from evaluation.ope.logged import Logged, read_logged
from evaluation.ope.outcome import LEAST, OF_CSA, SPREADS, Features, _data, _Rows, judged
from tests.evaluation.ope import worlds
from twotower.clock import DAY, parse_time
from twotower.errors import ConfigError
from twotower.tables.log import Log

BEGIN, END = parse_time(worlds.FROM), parse_time(worlds.TO)


@pytest.fixture(scope="module")
def logged(ope_data: Path, ope_log: Log) -> Logged:
    return read_logged(ope_data, ope_log, BEGIN, END)[0]


@pytest.fixture(scope="module")
def features(logged: Logged) -> Features:
    return Features.of(logged)


def with_handovers(logged: Logged, **columns: Any) -> Logged:
    """The same rounds in a log with other outcomes."""
    moves = replace(logged.log.handovers, **columns)
    return replace(logged, log=replace(logged.log, handovers=moves))


def test_folds_are_of_customers(ope_log: Log) -> None:
    fold = folds_of(ope_log, 5, "customer", 0)
    customer = ope_log.contacts.customer
    for one in np.unique(customer[customer >= 0])[:50]:
        assert len(np.unique(fold[customer == one])) == 1
    assert np.bincount(fold).min() > len(fold) / 8
    assert not np.array_equal(fold, folds_of(ope_log, 5, "customer", 1))


def test_folds_are_of_days(ope_log: Log) -> None:
    fold, day = folds_of(ope_log, 5, "day", 0), ope_log.contacts.arrived_at // DAY
    assert all(len(np.unique(fold[day == one])) == 1 for one in np.unique(day))
    assert len(np.unique(fold)) == 5


@pytest.mark.parametrize("folds", [1, 31])
def test_folds_that_cannot_be_dealt(ope_log: Log, folds: int) -> None:
    with pytest.raises(ConfigError, match=rf"folds: {folds}; 2 or more are expected, and at most one for each day"):
        folds_of(ope_log, folds, "day", 0)


@pytest.mark.parametrize("by", ["customer", "day"])
def test_what_is_judged_was_not_seen(logged: Logged, by: Any) -> None:
    """Changing a fold's own outcomes changes nothing that is said of it, and something of the others."""
    features = Features.of(logged, by=by)
    before = judged(logged, features, "resolved")
    own = features.fold[logged.log.handovers.contact] == 2
    resolved = logged.log.handovers.resolved.copy()
    resolved[own] = 1 - resolved[own]
    after = judged(with_handovers(logged, resolved=resolved), features, "resolved")
    assert before is not None
    assert after is not None
    fold = features.fold[logged.contact][logged.pairs.row]
    assert np.array_equal(before.expected[fold == 2], after.expected[fold == 2])
    assert not np.array_equal(before.expected[fold == 0], after.expected[fold == 0])


def test_it_learns_who_is_good_at_what(logged: Logged, features: Features) -> None:
    found = judged(logged, features, "resolved")
    assert found is not None
    text = logged.log.contacts.intent_text.to_pylist()
    topic = np.array([worlds.fakes.TOPICS.index(text[i].split()[0]) for i in logged.contact])
    true = worlds.success(topic[logged.pairs.row], logged.pairs.csa)
    assert found.expected[true == worlds.GOOD].mean() > found.expected[true == worlds.ELSE].mean() + 0.03
    assert found.quality.explained > 0.005
    assert found.quality.auc > 0.54
    assert 0.7 < found.quality.slope < 1.8
    assert "no policy's own model" in found.quality.line()


def test_other_outcomes_are_in_their_own_units(logged: Logged, features: Features) -> None:
    for metric, low, high in (("csat", 1, 5), ("handle_time_s", 60, 900), ("transferred", 0, 1)):
        found = judged(logged, features, metric)
        assert found is not None
        assert low <= found.expected.min() <= found.expected.max() <= high
        known = logged.reward(metric)
        assert found.expected[logged.pairs.own].mean() == pytest.approx(np.nanmean(known), rel=0.1)
        assert found.quality.metric == metric
    assert np.isnan(found.quality.auc) == (metric != "transferred")


def test_noise_is_judged_to_be_noise(logged: Logged, features: Features) -> None:
    random = np.random.default_rng(0)
    noise = random.normal(5, 2, len(logged.log.handovers)).astype(np.float32)
    found = judged(with_handovers(logged, handle_time_s=noise), features, "handle_time_s")
    assert found is not None
    assert found.quality.explained > -0.01
    assert found.expected.std() < 0.5


def test_too_few_outcomes_make_no_judge(logged: Logged, features: Features) -> None:
    few = np.where(np.arange(len(logged.log.handovers)) < LEAST - 1, 3.0, np.nan).astype(np.float32)
    assert judged(with_handovers(logged, csat=few), features, "csat") is None


def test_outcomes_that_are_all_alike(logged: Logged, features: Features) -> None:
    same = np.ones_like(logged.log.handovers.resolved)
    found = judged(with_handovers(logged, resolved=same), features, "resolved")
    assert found is not None
    assert found.expected == pytest.approx(np.ones(len(found.expected)))


def test_turns_come_to_the_joint_optimum(logged: Logged, features: Features) -> None:
    """Weights in turn against one system of equations for all of them."""
    data = _data(logged.log, features, "resolved")
    rows, spread = np.arange(0, len(data.value), 4), SPREADS[3]
    found = _Rows.of(data, rows).fit(spread)
    size, k = data.csas, data.own.shape[1]
    prior = np.full(k, spread)
    prior[0] = OF_CSA
    own = np.zeros((len(rows), size, k))
    own[np.arange(len(rows)), data.csa[rows]] = data.own[rows] * prior
    design = np.concatenate([data.wide[rows], own.reshape(len(rows), -1)], axis=1)
    value = data.value[rows]
    y = (value - value.mean()) / value.std()
    weights = np.linalg.solve(design.T @ design + np.eye(design.shape[1]), design.T @ y)
    joint = value.mean() + value.std() * (design @ weights)
    assert found.of(data, rows) == pytest.approx(joint, abs=0.02)
