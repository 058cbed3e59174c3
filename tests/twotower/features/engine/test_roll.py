"""A walk through a log, whole or in shards, gives the same readings to the bit; a changed roster keeps pasts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twotower.features.engine.histories import BEGIN, CSAS, END, FAMILIES, SETTINGS, draw_table, tables
from twotower.clock import DAY, NULL_TIME
from twotower.features.engine.cluster import Shard, part_of
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.roll import gathered, positions, shard_of, step, together, walk
from twotower.features.engine.settings import CsaSettings

NAMES = [name for name, _ in FAMILIES]
MOMENTS = np.arange(BEGIN, END + 2 * DAY, 7 * DAY)


def bits(reading):
    arrays = [v for v in vars(reading).values() if isinstance(v, np.ndarray)]
    arrays += [array for group in reading.groups.values() for array in (group.csa, group.code, group.sums)]
    return b"".join(array.tobytes() for array in arrays)


def state_bits(history):
    return {name: array.tobytes() for name, array in history.state().items()}


def taken(history, mine):
    return CsaHistory.restored(history.settings, part_of(history, mine))


@given(tables())
@settings(max_examples=30)
def test_a_walk_reads_what_each_moment_alone_would(table):
    handovers, work = table.handovers(), table.work()
    for moment, reading in zip(MOMENTS, walk(CsaHistory(SETTINGS, CSAS), handovers, work, MOMENTS, NAMES), strict=True):
        assert bits(reading) == bits(step(CsaHistory(SETTINGS, CSAS), handovers, work, int(moment), NAMES))


@given(tables(), st.integers(1, CSAS + 2))
@settings(max_examples=30)
def test_shards_read_what_one_process_reads(table, shards):
    handovers, work, mine = table.handovers(), table.work(), positions(CSAS, shards)
    empty = CsaHistory(SETTINGS, CSAS)
    parts = [
        Shard(SETTINGS, part_of(empty, of), shard_of(handovers, CSAS, of), shard_of(work, CSAS, of), None)
        for of in mine
    ]
    local = CsaHistory(SETTINGS, CSAS)
    for reading, moment in zip(walk(local, handovers, work, MOMENTS, NAMES), MOMENTS, strict=True):
        sharded = together([part.step(int(moment), NAMES) for part in parts], mine)
        assert sharded.moment == moment
        assert bits(sharded) == bits(reading)
    assert state_bits(gathered([part.history for part in parts], mine, CSAS)) == state_bits(local)


@given(tables(), st.integers(BEGIN, END))
@settings(max_examples=30)
def test_a_history_taken_apart_and_put_together_goes_on_to_the_bit(table, moment):
    handovers, work, mine = table.handovers(), table.work(), positions(CSAS, 2)
    history = CsaHistory(SETTINGS, CSAS)
    history.advance(handovers, moment, work)
    again = gathered([taken(history, of) for of in mine], mine, CSAS)
    for one in (history, again):
        one.advance(handovers, END + DAY, work)
    assert state_bits(again) == state_bits(history)


def test_a_changed_roster_keeps_everyone_their_own_past():
    table = draw_table(np.random.default_rng(0), 60)
    history = CsaHistory(SETTINGS, CSAS)
    history.advance(table.handovers(), END, table.work())
    places = np.array([6, 0, 3, 1, 5])
    moved, before = gathered([history], [places], 7).read(families=NAMES), history.read(families=NAMES)
    for name in ("counts", "sums", "squares", "embeddings", "load", "work", "first", "last"):
        assert getattr(moved, name)[places].tobytes() == getattr(before, name).tobytes()
    assert moved.counts[[2, 4]].tolist() == np.zeros((2, 7)).tolist()
    assert moved.last[[2, 4]].tolist() == [NULL_TIME] * 2
    for name in NAMES:
        of = [dict(zip(zip(g.csa, g.code, strict=True), g.sums.tolist(), strict=True)) for g in
              (moved.groups[name], before.groups[name])]  # fmt: skip
        assert of[0] == {(places[csa], code): sums for (csa, code), sums in of[1].items()}


def test_histories_of_different_moments_are_not_put_together():
    first, second = CsaHistory(SETTINGS, 2, BEGIN), CsaHistory(SETTINGS, 2, END)
    with pytest.raises(ValueError, match="different moments"):
        gathered([first, second], positions(4, 2), 4)


def test_everyone_has_one_shard():
    assert np.sort(np.concatenate(positions(10, 3))).tolist() == list(range(10))
    assert len(positions(2, 5)) == 2


def test_without_families_there_are_no_groups():
    history = CsaHistory(CsaSettings(SETTINGS.width), CSAS)
    history.advance(draw_table(np.random.default_rng(0), 60).handovers(), END)
    mine = positions(CSAS, 2)
    again = gathered([taken(history, of) for of in mine], mine, CSAS)
    assert bits(again.read()) == bits(history.read())
