"""Decay: halves in a half-life, and never tells where its origin stood or how events were grouped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.clock import DAY, NULL_TIME, SECOND
from twotower.features.engine.decay import CHUNK, REACH, Decay, faded, moved

HALF_LIVES = (3 * SECOND, DAY)


def total(times, moment, origin, stops=()):
    """Decayed number of events (H,) as of a moment, added in runs that end at `stops`."""
    decay, table = Decay(HALF_LIVES, origin), np.zeros((1, 2, 1))
    for run in np.split(np.asarray(times, np.int64), sorted(stops)):
        for _, weights in decay.pieces(run, lambda shift: moved(table, shift)):
            for weight in weights:
                table[0, :, 0] += weight
    return faded(table, decay.fade(moment))[0, :, 0]


@pytest.mark.parametrize("ages", [0, 1, 2.5, 300, 5000])
def test_an_event_halves_in_a_half_life(ages):
    found = total([20_000 * DAY], 20_000 * DAY + int(ages * DAY), NULL_TIME)
    assert found[1] == pytest.approx(0.5**ages if ages < 400 else 0, rel=1e-14)


@given(
    st.lists(st.integers(-(10**10), 10**10).map(lambda s: s * SECOND), max_size=12).map(sorted),
    st.integers(0, 10**6),
    st.sampled_from([NULL_TIME, -(10**12), 0, 10**15]),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_neither_the_origin_nor_the_grouping_changes_a_bit(times, later, origin, stops):
    moment = (times[-1] if times else 0) + later * SECOND
    # An origin is never later than what is read: a history begins before it.
    found = total(times, moment, min(origin, moment), stops)
    assert found.tobytes() == total(times, moment, NULL_TIME).tobytes()


def test_events_far_beyond_the_reach_count_as_of_their_own_time():
    times = [i * REACH * 3 * SECOND * 2 for i in range(50)]
    assert total(times, times[-1], 0)[0] == 1


def test_runs_cover_all_events_in_order():
    times = np.sort(np.random.default_rng(0).integers(0, 1000 * 3 * SECOND, 2 * CHUNK + 7))
    runs = [part for part, _ in Decay(HALF_LIVES, 0).pieces(times, lambda shift: None)]
    assert [run.start for run in runs[1:]] == [run.stop for run in runs[:-1]]
    assert (runs[0].start, runs[-1].stop) == (0, len(times))


def test_no_events_are_one_empty_run():
    runs = list(Decay(HALF_LIVES, 0).pieces(np.empty(0, np.int64), lambda shift: None))
    assert [(run, weights.shape) for run, weights in runs] == [(slice(0, 0), (0, 2))]


def test_sums_of_squared_weights_fade_twice_as_fast():
    table = np.ones((1, 2, 2))
    moved(table, np.array([1, 3]), [1, 2])
    assert table[0].tolist() == [[0.5, 0.25], [0.125, 1 / 64]]
    assert faded(np.ones((1, 2, 2)), np.array([0.5, 0.25]), [1, 2])[0].tolist() == [[0.5, 0.25], [0.25, 1 / 16]]


def test_moving_the_origin_by_hand_changes_no_reading():
    decay, table = Decay(HALF_LIVES, 0), np.full((1, 2, 1), 3.7)
    before = faded(table, decay.fade(5 * SECOND))
    moved(table, decay.move_to(5 * SECOND))
    assert faded(table, decay.fade(5 * SECOND)).tobytes() == before.tobytes()
