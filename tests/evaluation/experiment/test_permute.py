"""Lots drawn again: whose they are, what they say, and that an interval is what the test does not reject."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from evaluation.experiment.stats.permute import ALWAYS, Sums, lots, redraw

NONE = np.zeros(0)


def plain(n: np.ndarray, s: np.ndarray, cluster: np.ndarray) -> Sums:
    """Cells without a wash-out."""
    zeros = np.zeros_like(n)
    return Sums(n, s, zeros, zeros, np.full(len(n), ALWAYS), cluster)


def paired(seed: int, pairs: int, effect: float = 0.0) -> tuple[Sums, np.ndarray]:
    rng = np.random.default_rng(seed)
    arm = np.array([[a, 1 - a] for a in rng.integers(0, 2, pairs)], np.int8).ravel()
    n = rng.integers(50, 200, 2 * pairs).astype(float)
    mean = np.repeat(rng.normal(0, 1, pairs), 2) + rng.normal(0, 0.1, 2 * pairs) + effect * arm
    return plain(n, n * mean, np.repeat(np.arange(pairs), 2)), arm


def test_few_pairs_are_all_tried_and_the_first_is_the_one_that_was():
    sums, arm = paired(0, 5)
    drawn, whole = lots(arm, sums.cluster, np.zeros(10, np.int64), 1000, 0)
    assert whole
    assert len(drawn) == 32 == len({tuple(one) for one in drawn.tolist()})
    assert drawn[0].tolist() == arm.tolist()
    assert (drawn.reshape(32, 5, 2).sum(axis=2) == 1).all()


def test_many_pairs_are_exchanged_at_random_and_repeatably():
    sums, arm = paired(1, 30)
    drawn, whole = lots(arm, sums.cluster, np.zeros(60, np.int64), 500, 7)
    again, _ = lots(arm, sums.cluster, np.zeros(60, np.int64), 500, 7)
    assert not whole
    assert drawn.shape == (501, 60)
    assert (drawn == again).all()
    assert (drawn.reshape(501, 30, 2).sum(axis=2) == 1).all()
    assert drawn[1:].mean(axis=0) == pytest.approx(0.5, abs=0.1)


def test_cells_that_are_alone_are_permuted_within_their_group():
    arm = np.array([1, 1, 1, 0, 0, 0, 0, 1], np.int8)
    group = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    drawn, whole = lots(arm, np.arange(8), group, 300, 0)
    assert not whole
    assert (drawn[:, :4].sum(axis=1) == 3).all()
    assert (drawn[:, 4:].sum(axis=1) == 1).all()
    assert len({tuple(one) for one in drawn.tolist()}) == 16


def test_the_p_of_all_lots_is_a_count():
    sums, arm = paired(2, 4, effect=0.2)
    drawn, whole = lots(arm, sums.cluster, np.zeros(8, np.int64), 0, 0)
    found = redraw(sums, drawn, whole)

    def t(signs: np.ndarray) -> float:
        value, parts = 0.0, np.zeros(8)
        for a, sign in ((1, 1.0), (0, -1.0)):
            mine = signs == a
            mean = sums.s[mine].sum() / sums.n[mine].sum()
            value += sign * mean
            parts[mine] = sign * (sums.s[mine] - mean * sums.n[mine]) / sums.n[mine].sum()
        return abs(value) / math.sqrt((parts.reshape(4, 2).sum(axis=1) ** 2).sum())

    every = [t(np.array([[a, 1 - a] for a in one]).ravel()) for one in product((0, 1), repeat=4)]
    assert found.p_value() == pytest.approx(np.mean(np.array(every) >= t(arm) * (1 - 1e-9)))


def test_pairs_of_one_size_are_fishers_test_of_signs():
    rng = np.random.default_rng(3)
    difference = rng.normal(0.3, 1, 9)
    arm = np.tile(np.array([0, 1], np.int8), 9)
    s = np.stack([np.zeros(9), difference], axis=1).ravel()
    sums = plain(np.ones(18), s, np.repeat(np.arange(9), 2))
    found = redraw(sums, *lots(arm, sums.cluster, np.zeros(18, np.int64), 0, 0))
    theirs = stats.permutation_test((difference,), np.mean, permutation_type="samples", n_resamples=np.inf)
    # Studentised or not, differences of pairs are in the same order: the sum of their squares does not change.
    assert found.p_value() == pytest.approx(theirs.pvalue)


def test_the_interval_is_what_the_test_does_not_reject():
    sums, arm = paired(4, 12, effect=0.1)
    found = redraw(sums, *lots(arm, sums.cluster, np.zeros(24, np.int64), 0, 0))
    low, high = found.interval(0.05)
    assert low < found.value < high
    for end, outwards in ((low, -1e-6), (high, 1e-6)):
        assert found.p_value(end + outwards) <= 0.05
        assert found.p_value(end - outwards) > 0.05


def test_a_constant_effect_moves_estimate_and_interval_and_no_p():
    one, arm = paired(5, 12)
    other = plain(one.n, one.s + 0.7 * one.n * arm, one.cluster)
    drawn = lots(arm, one.cluster, np.zeros(24, np.int64), 0, 0)
    before, after = redraw(one, *drawn), redraw(other, *drawn)
    assert after.value == pytest.approx(before.value + 0.7)
    assert after.p_value(0.7) == pytest.approx(before.p_value())
    assert np.array(after.interval(0.1)) == pytest.approx(np.array(before.interval(0.1)) + 0.7, abs=1e-6)


def test_too_few_lots_reject_nothing_and_say_so_by_an_infinite_interval():
    sums, arm = paired(6, 4, effect=50.0)
    found = redraw(sums, *lots(arm, sums.cluster, np.zeros(8, np.int64), 0, 0))
    assert found.p_value() == pytest.approx(2 / 16)
    assert found.interval(0.05) == (-math.inf, math.inf)


def test_contacts_of_a_wash_out_follow_each_draw():
    """Three cells in a row; the first minutes of a cell count where it has the arm of the one before."""
    sums = Sums(
        np.full(4, 10.0),
        np.zeros(4),
        np.full(4, 5.0),
        np.array([5.0, 10, 15, 20]),
        np.array([-1, 0, 1, 2]),
        np.arange(4),
    )
    arms = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]], np.int8)
    # The control was before the first cell.
    assert sums.counted(arms).tolist() == [[1, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]]
    found = redraw(sums, arms, False)
    # First draw: the control's 10 + 5 and 10 + 5 contacts have 5 + 10, the treatment's 10 and 10 + 5 have 20.
    assert found.value == pytest.approx(20 / 25 - 15 / 30)


def test_cells_whose_first_minutes_never_count():
    sums = Sums(np.ones(4), np.ones(4), np.ones(4), np.full(4, 9.0), np.full(4, ALWAYS), np.arange(4))
    assert not sums.counted(np.array([[0, 0, 1, 1]], np.int8)).any()


def test_draws_that_leave_an_arm_a_single_cell_do_not_count():
    sums = plain(np.ones(6), np.arange(6.0), np.arange(6))
    arms = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1], [1, 0, 1, 0, 1, 0]], np.int8)
    assert len(redraw(sums, arms, False).a) == 2


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_under_no_effect_p_is_uniform_however_blocks_hang_together(rho):
    rng, p = np.random.default_rng(7), []
    for _ in range(400):
        shock = np.zeros(40)
        for i in range(40):
            shock[i] = rho * (shock[i - 1] if i else 0.0) + rng.normal()
        n = rng.integers(20, 400, 40).astype(float)
        first = rng.integers(0, 2, 20)
        arm = np.concatenate([first, 1 - first]).astype(np.int8)
        sums = plain(n, n * shock, np.tile(np.arange(20), 2))
        p.append(
            redraw(sums, *lots(arm, sums.cluster, np.zeros(40, np.int64), 199, int(rng.integers(1 << 30)))).p_value()
        )
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < 0.08
