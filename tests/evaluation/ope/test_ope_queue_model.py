"""Propensities of a queue: published numbers, a queue that is known, nothing of what came later, and the checks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.ope.folds import folds_of
from evaluation.ope.logged import Logged, read_logged
from evaluation.ope.queue_features import NAMES, PRIOR, QueueState, Timeline
from evaluation.ope.queue_model import FLOOR, Estimated, calibration, completed, conditional_logit, estimated, floored
from evaluation.ope.rounds import Pairs
from tests.evaluation.logs import contact, handover, write
from tests.evaluation.ope import worlds
from twotower.clock import DAY, NULL_TIME, parse_time
from twotower.errors import ConfigError
from twotower.tables.log import Log

BEGIN, END = parse_time(worlds.FROM), parse_time(worlds.TO)


@pytest.fixture(scope="module")
def logged(ope_data: Path, ope_log: Log) -> Logged:
    return read_logged(ope_data, ope_log, BEGIN, END)[0]


@pytest.fixture(scope="module")
def past(ope_data: Path, ope_log: Log) -> Logged:
    return read_logged(ope_data, ope_log, BEGIN - 20 * DAY, END, source="estimated")[0]


@pytest.fixture(scope="module")
def model(logged: Logged, past: Logged) -> Estimated:
    return estimated(logged, past, folds_of(logged.log, 5))


def test_published_numbers_of_a_conditional_logit() -> None:
    """Greene, Econometric Analysis, table of the travel mode choice model: 210 travellers, air, train, bus, car."""
    datasets = pytest.importorskip("statsmodels.api").datasets
    table = datasets.modechoice.load_pandas().data
    n = len(table) // 4
    mode = table["mode"].to_numpy()
    columns = [mode == 1, mode == 2, mode == 3, table["gc"], table["ttme"], table["hinc"] * (mode == 1)]
    features = np.stack([np.asarray(column, float) for column in columns], axis=1)
    pairs = Pairs(np.arange(n + 1) * 4, np.tile(np.arange(4), n), np.flatnonzero(table["choice"].to_numpy() == 1))
    found = conditional_logit(features, pairs, 4, 0.0, ridge=0.0, tolerance=1e-13)
    assert found.weights == pytest.approx([5.2074, 3.8690, 3.1632, -0.01550, -0.09612, 0.01329], abs=2e-4)
    assert found.log_likelihood == pytest.approx(-199.1284, abs=1e-4)


def test_gradients_are_those_of_the_likelihood(logged: Logged) -> None:
    """With priors the optimum is where no single step is better."""
    random = np.random.default_rng(0)
    pairs, _ = logged.pairs.take(np.arange(60))
    features = random.normal(size=(len(pairs.csa), 3))
    found = conditional_logit(features, pairs, worlds.CSAS, 0.5, tolerance=1e-13)
    x = np.column_stack([c - (pairs.total(c) / pairs.lengths)[pairs.row] for c in features.T])
    scale = np.sqrt((x**2).mean(axis=0))

    def objective(weights: np.ndarray, own: np.ndarray) -> float:
        p = pairs.softmax(features @ weights + own[pairs.csa])
        return float(-np.log(p[pairs.own]).sum() + 0.5 * ((weights * scale) ** 2).sum() + 0.5 * (own**2).sum() / 0.25)

    best = objective(found.weights, found.own)
    for step in (1e-2, -1e-2):
        for k in range(3):
            assert objective(found.weights + step * np.eye(3)[k], found.own) > best
        for j in range(2, 10):
            assert objective(found.weights, found.own + step * np.eye(worlds.CSAS)[j]) > best


def test_a_known_queue_is_found(logged: Logged, model: Estimated) -> None:
    true = worlds.chances(logged.pairs.csa.reshape(-1, worlds.LISTED)).ravel()
    assert np.corrcoef(np.log(true), np.log(model.chances))[0, 1] > 0.9
    assert np.abs(model.chances - true).mean() < 0.03
    assert logged.pairs.total(model.chances) == pytest.approx(np.ones(len(logged)))
    checked = model.checked
    assert checked.loss < checked.equal_loss - 0.05
    assert checked.error < 0.15
    assert checked.slope == pytest.approx(1, abs=0.25)
    assert sum(band.pairs for band in checked.bands) == len(logged.pairs.csa)
    assert set(checked.weights) == set(NAMES)
    assert "conditional logit" in checked.line()


def test_chances_come_from_other_folds(logged: Logged, past: Logged, model: Estimated) -> None:
    """Other choices in one fold change the chances of the others, and of their own fold only by what came before."""
    fold = folds_of(logged.log, 5)
    mine = fold[past.contact] == 3
    own = past.pairs.own.copy()
    own[mine] = past.pairs.offsets[:-1][mine]
    other = replace(past, pairs=replace(past.pairs, own=own))
    state = QueueState.of(past)

    def said(of: Logged) -> np.ndarray:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(QueueState, "of", classmethod(lambda cls, past: state))  # features as they were
            return estimated(logged, of, fold).chances

    before, after = said(past), said(other)
    pairs = fold[logged.contact][logged.pairs.row]
    assert before == pytest.approx(model.chances)
    assert np.array_equal(before[pairs == 3], after[pairs == 3])
    assert not np.allclose(before[pairs == 0], after[pairs == 0])


def test_too_few_choices(logged: Logged) -> None:
    few, _ = logged.pairs.take(np.arange(50))
    small = replace(logged, contact=logged.contact[:50], handover=logged.handover[:50], pairs=few)
    with pytest.raises(ConfigError, match="50 hand-overs to one of several eligible; 100 are needed"):
        estimated(logged, small, folds_of(logged.log, 5))


def test_chances_have_a_floor() -> None:
    pairs = Pairs(np.array([0, 4]), np.arange(4), np.array([0]))
    found, share = floored(np.array([0.996, 0.002, 0.001, 0.001]), pairs)
    assert found.sum() == pytest.approx(1)
    assert found.min() == pytest.approx(FLOOR / 4 / (0.996 + 3 * FLOOR / 4))
    assert share == 0.75


def test_bands_hold_chances_against_frequencies() -> None:
    random = np.random.default_rng(0)
    n = 3000
    chances = random.dirichlet(np.ones(3), n)
    place = (np.cumsum(chances, axis=1) < random.random((n, 1))).sum(axis=1)
    offsets = np.arange(n + 1) * 3
    pairs = Pairs(offsets, np.tile(np.arange(3), n), offsets[:-1] + place)
    for band in calibration(chances.ravel(), pairs):
        assert band.predicted == pytest.approx(band.observed, abs=0.06)


def test_what_is_logged_completes_what_is_not(logged: Logged, model: Estimated) -> None:
    found = completed(logged, model)
    assert found is not None
    assert found[logged.pairs.own] == pytest.approx(logged.propensity)
    assert logged.pairs.total(found) == pytest.approx(np.ones(len(logged)))
    true = worlds.chances(logged.pairs.csa.reshape(-1, worlds.LISTED)).ravel()
    assert np.abs(found - true).mean() < np.abs(model.chances - true).mean()
    assert completed(logged, None) is None
    known = replace(logged, chances=true)
    assert completed(known, None) is true


def test_timelines_count_strictly_before() -> None:
    random = np.random.default_rng(0)
    group, time = random.integers(0, 5, 200), random.integers(0, 50, 200)
    weight = random.random(200)
    line = Timeline(group, time, weight)
    asked, since = random.integers(0, 6, 80), random.integers(0, 30, 80)
    until = since + random.integers(0, 30, 80)
    found, latest = line.between(asked, since, until), line.latest(asked, until)
    for i in range(80):
        before = (group == asked[i]) & (time < until[i])
        assert found[i] == pytest.approx(weight[before & (time >= since[i])].sum())
        assert latest[i] == (time[before].max() if before.any() else NULL_TIME)


@pytest.fixture
def four(tmp_path: Path) -> Logged:
    """Anna asks four times. As she asks again at minute 30, ada had two of her contacts, one of them going on; bob had
    one, which ended 15 minutes before."""
    lists: dict[str, Any] = {"eligible": ["ada", "bob"], "customer": "anna"}
    moves = [handover(0, "ada", 4), handover(1, "bob", 15), handover(2, "ada", 40), handover(3, "bob", 35)]
    folder = write(tmp_path / "four", [contact(m, "x", **lists) for m in (0, 5, 20, 30)], moves, ["ada", "bob"])
    whole = Log.load(folder)
    arrived = whole.contacts.arrived_at
    return read_logged(folder, whole, int(arrived[0]), int(arrived[-1]) + 1, source="estimated")[0]


def test_features_are_of_what_was_before(four: Logged) -> None:
    pairs = Pairs(np.array([0, 2]), np.array([0, 1]), np.array([1]))
    ada, bob = QueueState.of(four).features(np.array([3]), pairs)
    row = {name: (float(ada[k]), float(bob[k])) for k, name in enumerate(NAMES)}
    assert row["load"] == pytest.approx((np.log(2), 0.0))
    assert row["idle"] == pytest.approx((0.0, np.log1p(15)))
    assert row["longest_idle"] == (0.0, 1.0)
    assert row["idle_rank"] == (1.0, 0.0)
    assert row["last_hour"] == pytest.approx((np.log(3), np.log(2)))
    assert row["share"] == pytest.approx((np.log((2 + PRIOR) / (1.5 + PRIOR)), np.log((1 + PRIOR) / (1.5 + PRIOR))))
    assert row["pairing"] == pytest.approx((np.log(3), np.log(2)))
    assert row["tenure"] == pytest.approx((np.log1p(365), np.log1p(365)))


def test_nothing_later_is_seen(ope_data: Path, ope_log: Log, past: Logged) -> None:
    """Features at a contact's arrival are the same in a log that ends there."""
    last = len(past) // 2
    moment = int(ope_log.contacts.arrived_at[past.contact[last]])
    rows = np.arange(last - 20, last + 1)
    pairs, _ = past.pairs.take(rows)
    whole = QueueState.of(past).features(past.contact[rows], pairs)
    begun = ope_log.handovers.assigned_at < moment
    ended = np.where(ope_log.handovers.ended_at < moment, ope_log.handovers.ended_at, np.iinfo(np.int64).max)
    moves = ope_log.handovers
    kept = {name: getattr(moves, name)[begun] for name in ("contact", "csa", "assigned_at", "known_at", "resolved")}
    early = replace(moves, **kept, ended_at=ended[begun])
    before = np.flatnonzero(ope_log.contacts.arrived_at[past.contact] < moment)
    some, _ = past.pairs.take(before)
    cut = replace(past, log=replace(ope_log, handovers=early), contact=past.contact[before], pairs=some)
    again = QueueState.of(cut).features(past.contact[rows], pairs)
    assert again == pytest.approx(whole)
