"""Splits, positives, candidates and the judge, by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from evaluation.ranking import candidate_mask, choose, positive_csas, split_log
from evaluation.ranking_judge import judge
from tests.evaluation.logs import START, contact, handover, log
from twotower.clock import parse_time
from twotower.errors import ConfigError, DataError
from twotower.metrics import Bootstrap
from twotower.tables.log import Log

MINUTE = 60_000_000
T0 = int(START.timestamp()) * 1_000_000


class Fixed:
    """Says the same of every contact, or what it is given per contact."""

    def __init__(self, scores: list[float] | list[list[float]], name: str = "fixed") -> None:
        self.name = name
        self._scores = np.array(scores, dtype=np.float32)

    def scores(self, log: Log, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        if self._scores.ndim == 2:
            return self._scores[positions]
        return np.tile(self._scores, (len(positions), 1))


def test_the_last_tenth_is_the_test_and_the_tenth_before_it_tunes() -> None:
    split = split_log(log([contact(i) for i in range(25)], [handover(0, "a", 1)], ["a"]))
    assert split.test.tolist() == [23, 24]
    assert split.validation.tolist() == [21, 22]


def test_from_is_the_first_moment_of_the_test() -> None:
    small = log([contact(i // 2) for i in range(20)], [handover(0, "a", 1)], ["a"])
    split = split_log(small, T0 + 7 * MINUTE)
    assert split.start == 14
    assert split.validation.tolist() == [12, 13]


def test_a_from_without_test_or_without_past_is_refused() -> None:
    small = log([contact(i) for i in range(20)], [handover(0, "a", 1)], ["a"])
    with pytest.raises(ConfigError, match="no contact arrived then or later; the last came at 2026-01-01T00:19:00Z"):
        split_log(small, parse_time("2027-01-01T00:00:00Z"))
    with pytest.raises(ConfigError, match="no history"):
        split_log(small, T0)


def test_who_resolved_or_may_have_is_a_positive_once() -> None:
    small = log(
        [contact(0), contact(1), contact(2)],
        [
            handover(0, "b", 5),
            handover(0, "b", 9, resolved=None),
            handover(0, "a", 5, resolved=None),
            handover(1, "a", 5, resolved=False),
        ],
        ["a", "b"],
    )
    positives = positive_csas(small)
    assert [positives.row(i).tolist() for i in range(3)] == [[0, 1], [], []]


def test_candidates_are_the_eligible_or_who_works_then() -> None:
    small = log(
        [contact(1), contact(5, eligible=["b", "c"]), contact(9, eligible=[])],
        [handover(0, "a", 1)],
        ["a", {"id": "b", "left": 1}, {"id": "c", "hired": 4}],
    )
    mask = candidate_mask(small, np.arange(3))
    assert mask.tolist() == [[True, False, False], [False, True, True], [False, False, False]]


def test_no_mask_where_everybody_may() -> None:
    assert candidate_mask(log([contact(1)], [handover(0, "a", 1)], ["a", "b"]), np.arange(1)) is None


def test_the_judge_by_hand() -> None:
    small = log(
        [contact(0), contact(1), contact(2, eligible=["a", "c"]), contact(3)],
        [handover(0, "a", 9), handover(1, "c", 9), handover(2, "c", 9), handover(3, "b", 9), handover(3, "c", 9)],
        ["a", "b", "c"],
    )
    judged = judge(Fixed([3, 2, 1]), small, np.arange(4))
    assert judged.first.tolist() == [1, 3, 2, 2]
    assert judged.top.tolist() == [0, 0, 0, 0]
    figures = judged.metrics(Bootstrap(4, draws=50))
    assert figures["hit@1"].value == 0.25
    assert figures["mrr@10"].value == pytest.approx((1 + 1 / 3 + 1 / 2 + 1 / 2) / 4)
    gain = (1 / np.log2(3) + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert figures["ndcg@10"].value == pytest.approx((1 + 1 / np.log2(4) + 1 / np.log2(3) + gain) / 4)


def test_one_who_says_the_same_of_all_ranks_like_chance() -> None:
    small = log([contact(i) for i in range(4)], [handover(i, "a", 9) for i in range(4)], [f"{c}" for c in "abcde"])
    judged = judge(Fixed([0.0] * 5), small, np.arange(4))
    assert judged.first.tolist() == [3, 3, 3, 3]


def test_a_positive_that_is_put_last_of_all_is_not_found() -> None:
    small = log([contact(0)], [handover(0, "b", 9)], ["a", "b", "c"])
    assert judge(Fixed([1, -np.inf, 0]), small, np.arange(1)).first[0] == np.inf


def test_lots_are_drawn_among_ties_at_the_top_only() -> None:
    scores = np.tile(np.array([1, 2, 2, 2], dtype=np.float32), (300, 1))
    candidates = np.tile(np.array([True, True, True, False]), (300, 1))
    top = choose(scores, candidates, np.random.default_rng(0))
    assert set(top.tolist()) == {1, 2}
    assert 110 < (top == 1).sum() < 190


def test_blocks_of_any_size_judge_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    small = log(
        [contact(i) for i in range(30)], [handover(i, f"a{i % 4}", 50) for i in range(30)], [f"a{j}" for j in range(4)]
    )
    ranker = Fixed(rng.random((30, 4)).tolist())
    whole = judge(ranker, small, np.arange(5, 30))
    monkeypatch.setattr("evaluation.ranking.BLOCK_CELLS", 9)
    parts = judge(ranker, small, np.arange(5, 30))
    assert parts.first.tolist() == whole.first.tolist()
    assert parts.top.tolist() == whole.top.tolist()


def test_scores_that_are_none_are_refused_by_name() -> None:
    small = log([contact(0)], [handover(0, "b", 9)], ["a", "b"])
    with pytest.raises(DataError, match=r"bad: scores of shape \(1, 3\)"):
        judge(Fixed([1, 2, 3], "bad"), small, np.arange(1))
    with pytest.raises(DataError, match="bad: a score of contact c000 is not a number"):
        judge(Fixed([1, np.nan], "bad"), small, np.arange(1))
