"""Rounds and pairs: what cannot be is refused by its row, lists are what they are in a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evaluation.ope.rounds import Pairs, Rounds
from twotower.errors import DataError

GOOD: dict[str, Any] = {
    "reward": np.array([0.0, 1.0]), "propensity": np.array([0.5, 1.0]), "target": np.array([0.0, 1.0])
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("propensity", [0.5, 0.0], r"round 1: propensity 0; a probability in \(0, 1\]"),
        ("propensity", [-0.1, 0.5], r"round 0: propensity -0.1"),
        ("propensity", [0.5, 1.2], r"round 1: propensity 1.2"),
        ("propensity", [0.5, np.nan], r"round 1: propensity nan"),
        ("target", [0.5, 1.5], r"round 1: target 1.5; a probability in \[0, 1\]"),
        ("reward", [np.nan, 1.0], r"round 0: reward nan; a finite number"),
        ("q_logged", [0.0, np.inf], r"round 1: q_logged inf"),
        ("marginal", [-1.0, 1.0], r"round 0: marginal -1; a weight of 0 or more"),
        ("target", [0.5], r"target has 1 values, reward 2"),
        ("cluster", [1], r"cluster has 1 values, reward 2"),
    ],
)
def test_what_cannot_be_is_refused(name: str, values: list[float], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Rounds(**{**GOOD, name: np.array(values)})


def test_no_rounds() -> None:
    with pytest.raises(DataError, match="there are none"):
        Rounds(np.zeros(0), np.zeros(0), np.zeros(0))


def test_weights_and_parts() -> None:
    rounds = Rounds(**GOOD, cluster=np.array([7, 8]))
    assert rounds.weight.tolist() == [0.0, 1.0]
    part = rounds.take(np.array([1]))
    assert (part.reward.tolist(), part.weight.tolist(), part.cluster.tolist()) == ([1.0], [1.0], [8])  # type: ignore[union-attr]


@pytest.fixture
def pairs() -> Pairs:
    random = np.random.default_rng(0)
    lists = [np.sort(random.choice(9, random.integers(1, 6), replace=False)) for _ in range(40)]
    offsets = np.concatenate(([0], np.cumsum([len(one) for one in lists])))
    own = offsets[:-1] + [random.integers(0, len(one)) for one in lists]
    return Pairs(offsets, np.concatenate(lists), own)


def test_lists_are_what_they_are_in_a_loop(pairs: Pairs) -> None:
    score = np.random.default_rng(1).integers(0, 3, len(pairs.csa)).astype(float)  # with ties
    softmax, greedy, total, largest = (
        pairs.softmax(score),
        pairs.greedy(score),
        pairs.total(score),
        pairs.largest(score),
    )
    for i in range(len(pairs)):
        part = slice(pairs.offsets[i], pairs.offsets[i + 1])
        assert total[i] == score[part].sum()
        assert largest[i] == score[part].max()
        assert softmax[part] == pytest.approx(np.exp(score[part]) / np.exp(score[part]).sum())
        assert greedy[part].tolist() == [float(k == score[part].argmax()) for k in range(len(score[part]))]


def test_lists_are_taken_in_any_order(pairs: Pairs) -> None:
    rows = np.array([7, 3, 3, 39])
    some, at = pairs.take(rows)
    assert np.array_equal(some.csa, pairs.csa[at])
    for k, row in enumerate(rows):
        part = slice(pairs.offsets[row], pairs.offsets[row + 1])
        assert some.csa[some.offsets[k] : some.offsets[k + 1]].tolist() == pairs.csa[part].tolist()
        assert some.csa[some.own[k]] == pairs.csa[pairs.own[row]]
