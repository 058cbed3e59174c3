"""Ranking and outcome metrics against brute force and scikit-learn."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from twotower.errors import ConfigError, DataError
from twotower.metrics import (
    Bootstrap,
    auc,
    hit,
    log_losses,
    rank_positives,
    reciprocal,
    reliability,
)

INF = float("inf")


def ranks(scores: list[float], positives: list[int], candidates: list[int] | None = None) -> float:
    """The first rank of a single contact."""
    row = np.array([scores])
    mask = np.isin(np.arange(len(scores)), positives)[None]
    allowed = None if candidates is None else np.isin(np.arange(len(scores)), candidates)[None]
    return float(rank_positives(row, mask, allowed).first[0])


def test_the_best_positive_counts() -> None:
    assert ranks([0.1, 0.9, 0.5], [0]) == 3
    assert ranks([0.1, 0.9, 0.5], [0, 2]) == 2


def test_a_tie_gets_its_average_rank() -> None:
    assert ranks([1, 1, 1, 0], [1]) == 2
    assert ranks([2, 1, 1], [2]) == 2.5
    assert ranks([0, 0, 0, 0, 0], [3]) == 3


def test_who_is_no_candidate_takes_no_place() -> None:
    assert ranks([9, 8, 1], [2], candidates=[1, 2]) == 2
    assert ranks([9, 8, 1], [2], candidates=[0, 1]) == INF
    assert ranks([9, 8, -INF], [2]) == INF


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int8, st.integers(2, 5), elements=st.integers(0, 2)),
    st.data(),
)
def test_expected_rank_and_ndcg_are_means_over_orders_of_the_tie(scores: np.ndarray, data: st.DataObject) -> None:
    size = len(scores)
    positive = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    firsts, gains = [], []
    for order in permutations(range(size)):
        by_score = sorted(order, key=lambda item: -scores[item])
        places = [place for place, item in enumerate(by_score, start=1) if positive[item]]
        firsts.append(min(places, default=INF))
        gains.append(sum(1 / np.log2(1 + place) for place in places if place <= 3))
    block = rank_positives(scores[None].astype(np.float32), positive[None], cut=3)
    assert block.first[0] == pytest.approx(np.mean(firsts))
    ideal = sum(1 / np.log2(1 + place) for place in range(1, min(3, positive.sum()) + 1))
    if positive.any():
        assert block.ndcg[0] == pytest.approx(np.mean(gains) / ideal)
    else:
        assert np.isnan(block.ndcg[0])


def test_ndcg_is_the_one_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    scores = generator.integers(0, 6, size=(50, 20)).astype(np.float32)
    positives = generator.random((50, 20)) < 0.2
    positives[:, 0] = True
    ours = rank_positives(scores, positives).ndcg
    assert ours.mean() == pytest.approx(ndcg_score(positives, scores, k=10))


def test_hits_and_reciprocal_ranks() -> None:
    first = np.array([1.0, 1.5, 4.0, 11.0, INF])
    assert hit(first, 1).tolist() == [1, 0, 0, 0, 0]
    assert hit(first, 5).tolist() == [1, 1, 1, 0, 0]
    assert reciprocal(first).tolist() == [1, 1 / 1.5, 0.25, 0, 0]
    assert reciprocal(first, None).tolist() == [1, 1 / 1.5, 0.25, 1 / 11, 0]


def test_a_nan_score_is_refused() -> None:
    with pytest.raises(DataError, match="row 1 of the scores holds a NaN"):
        rank_positives(np.array([[1.0, 2.0], [1.0, np.nan]]), np.ones((2, 2), bool))
    with pytest.raises(DataError, match="shape"):
        rank_positives(np.ones((1, 2)), np.ones((1, 3), bool))


def test_blocks_of_any_size_rank_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    scores, positives = generator.random((9, 7)), generator.random((9, 7)) < 0.4
    whole = rank_positives(scores, positives)
    monkeypatch.setattr("twotower.metrics.CELLS", 1)
    assert rank_positives(scores, positives).first.tolist() == whole.first.tolist()


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        interval = Bootstrap(60, seed=seed, draws=300).mean(generator.normal(0.3, 1, 60))
        covered += interval.low <= 0.3 <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_a_paired_difference_is_tighter_than_two_intervals() -> None:
    generator = np.random.default_rng(2)
    base = generator.random(300)
    better = base + generator.normal(0.05, 0.02, 300)
    bootstrap = Bootstrap(300)
    paired = bootstrap.difference(better, base)
    assert paired.low > 0
    assert paired.high - paired.low < 0.2 * (bootstrap.mean(base).high - bootstrap.mean(base).low)
    assert paired.value == pytest.approx(better.mean() - base.mean())


def test_the_same_seed_gives_the_same_interval_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).random(40)
    whole = Bootstrap(40, seed=7, draws=50).mean(values)
    monkeypatch.setattr("twotower.metrics.CELLS", 80)
    parts = Bootstrap(40, seed=7, draws=50).mean(values)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high))
    assert Bootstrap(40, seed=8, draws=50).mean(values) != parts


def test_units_without_a_value_are_left_out() -> None:
    interval = Bootstrap(4, draws=100).mean(np.array([1.0, np.nan, 1.0, np.nan]))
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_one_unit_has_no_interval() -> None:
    interval = Bootstrap(1).mean(np.array([0.5]))
    assert interval.value == 0.5
    assert np.isnan(interval.low)


def test_a_bootstrap_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="draws=0"):
        Bootstrap(5, draws=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_auc_is_the_one_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 8, 30) / 8
    outcomes = generator.random(30) < 0.5
    outcomes[:2] = [True, False]
    weights = generator.integers(0, 3, 30).astype(float)
    weights[:2] = 1
    assert auc(scores, outcomes) == pytest.approx(roc_auc_score(outcomes, scores))
    assert auc(scores, outcomes, weights) == pytest.approx(roc_auc_score(outcomes, scores, sample_weight=weights))


def test_auc_needs_both_outcomes() -> None:
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([True, True])))


def test_log_loss_is_the_one_of_scikit_learn() -> None:
    generator = np.random.default_rng(4)
    p, y = generator.random(200), generator.random(200) < 0.4
    assert log_losses(p, y).mean() == pytest.approx(log_loss(y, p))
    assert log_losses(np.array([0.0]), np.array([True]))[0] == pytest.approx(-np.log(1e-7))


def test_reliability_by_hand() -> None:
    p = np.array([0.2, 0.2, 0.2, 0.8, 0.8, 0.8])
    y = np.array([True, False, False, True, True, True])
    bins = reliability(p, y, bins=2)
    assert bins.count.tolist() == [3, 3]
    assert bins.predicted.tolist() == pytest.approx([0.2, 0.8])
    assert bins.observed.tolist() == pytest.approx([1 / 3, 1.0])
    assert bins.error == pytest.approx((abs(0.2 - 1 / 3) + 0.2) / 2)


def test_equal_probabilities_share_a_bin() -> None:
    bins = reliability(np.full(50, 0.3), np.arange(50) < 15)
    assert bins.count.tolist() == [50]
    assert bins.error == pytest.approx(0.0)


def test_true_probabilities_are_calibrated_and_shifted_ones_are_not() -> None:
    generator = np.random.default_rng(6)
    p = generator.random(20_000)
    y = generator.random(20_000) < p
    assert reliability(p, y).error < 0.015
    assert reliability(p / 2, y).error > 0.2
