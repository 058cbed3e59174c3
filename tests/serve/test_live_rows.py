"""Rows that grow while they are read: the same as sorting everything at once, and never moving under a reader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve import live_rows
from serve.live_rows import Fresh, LiveRows, LiveVectors
from twotower.clock import NEVER
from twotower.scoring.memory import Memory, ranges
from twotower.scoring.rows import HistoryRows, build_rows

CSAS, WIDTH = 4, 3
KEPT = ("known_at", "code", "scale", "residual", "outcome", "weight")


@dataclass(frozen=True)
class One:
    """A hand-over; its number stands in everything but its time and its CSA."""

    csa: int
    known_at: int
    number: int

    @property
    def vector(self):
        return np.full(WIDTH, self.number, np.float32)


def built(some: list[One], per_csa: int) -> HistoryRows:
    """All at once; contacts in the order of the list, which is how ties are broken."""
    csa = np.array([one.csa for one in some], np.int32)
    known = np.array([one.known_at for one in some], np.int64)
    number = np.array([one.number for one in some])
    return build_rows(
        csa, known, np.repeat(number[:, None], WIDTH, 1).astype(np.float32), number.astype(np.float32) / 8,
        (number % 3 - 1).astype(np.int8), np.full(len(some), -1, np.int32), np.arange(len(some)), per_csa,
    )  # fmt: skip


def add(live: LiveRows, one: One) -> None:
    resolved = one.number % 3 - 1
    live.add(one.csa, one.known_at, one.vector, one.number / 8 if resolved >= 0 else 0, resolved >= 0, resolved != 0)


def seen(rows: HistoryRows) -> list[list[object]]:
    """What counts of each CSA in the end, in order."""
    counts = [(rows.csa == csa) & (rows.until == NEVER) for csa in range(CSAS)]
    return [[getattr(rows, name)[mine].tolist() for name in KEPT] for mine in counts]


def everything(memory: Memory) -> list[list[object]]:
    """All that lies in the runs."""
    found = []
    for csa in range(CSAS):
        index, _ = ranges(memory.begin[[csa]], memory.end[[csa]])
        assert (memory.rows.csa[index] == csa).all()
        found.append([getattr(memory.rows, name)[index].tolist() for name in KEPT])
    return found


def as_of(memory: Memory, moment: int) -> list[list[object]]:
    """What a contact at a moment is given."""
    found = memory.gather(np.ones(WIDTH, np.float32), moment, np.arange(CSAS))
    return [found.owner.tolist(), *(getattr(memory.rows, name)[found.index].tolist() for name in KEPT)]


some = st.lists(st.tuples(st.integers(0, CSAS - 1), st.integers(0, 9)), max_size=40)


@given(some, some, st.integers(1, 5), st.integers(1, 3), st.integers(1, 12), st.integers(0, 60))
def test_added_one_by_one_or_sorted_at_once(first, later, per_csa, spare, room, trail):
    """Also those that come late, whatever room there is, and as of any moment."""
    every = [One(csa, at, i) for i, (csa, at) in enumerate(first + later)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_rows, "SPARE", spare)
        patch.setattr(live_rows, "LEAST_ROOM", room)
        patch.setattr(live_rows, "TRAIL", trail)
        start = built(every[: len(first)], per_csa)
        live = LiveRows(start.take(start.until == NEVER), CSAS, per_csa)
        held = []
        for one in every[len(first) :]:
            add(live, one)
            held.append((live.memory(), everything(live.memory())))
            if one.number % 7 == 0:
                live.settle()
        for memory, then in held:
            assert everything(memory) == then  # what a reader holds never changes
        assert seen(live.rows()) == seen(built(every, per_csa))
        if trail + per_csa >= len(every):  # nobody was forgotten for good
            rolled = Memory(built(every, per_csa), CSAS)
            for moment in range(1 + max([-1, *(at for _, at in first)]), 11):  # the start knows no earlier ones
                assert as_of(live.memory(), moment) == as_of(rolled, moment)


def test_a_csa_is_copied_now_and_then_and_everyone_rarely(monkeypatch):
    live, moved = LiveRows(built([One(i % CSAS, 0, i) for i in range(400)], 100), CSAS, 100), []
    settle = LiveRows.settle
    monkeypatch.setattr(LiveRows, "settle", lambda self: (moved.append(1), settle(self))[1])
    for i in range(8000):
        live.add(i % CSAS, 1 + i, np.zeros(WIDTH, np.float32), 0.0, True, 1.0)
    assert len(moved) < 40
    live.settle()
    moved.clear()
    for i in range(CSAS * live_rows.SPARE):
        live.add(i % CSAS, 9000 + i, np.zeros(WIDTH, np.float32), 0.0, True, 1.0)
    assert not moved


def test_rows_that_were_handed_in_do_not_change():
    start = built([One(0, 1, 1), One(1, 1, 2)], 2)
    before = {name: getattr(start, name).copy() for name in KEPT}
    live = LiveRows(start, CSAS, 2)
    for i in range(9):
        add(live, One(0, 2 + i, i))
    for name in KEPT:
        np.testing.assert_array_equal(getattr(start, name), before[name])


def test_vectors_are_replaced_for_who_looks_later():
    live = LiveVectors(np.zeros((3, 2), np.float32), np.zeros((3, 4), np.float32))
    views = [(live.view(), 0)]
    for i in range(1, 600):  # more than there is room for
        live.put(i % 3, np.full(2, i, np.float32), np.full(4, i, np.float32))
        views.append((live.view(), i))
    for (vectors, own, places), i in views:
        expected = [max([0, *range(c or 3, i + 1, 3)]) for c in range(3)]
        assert vectors[places][:, 0].tolist() == expected
        assert own[places][:, 2].tolist() == expected


def test_fresh_vectors_stay_in_order():
    fresh = Fresh(2)
    early = fresh.view()
    for i in range(600):
        fresh.add(i, np.full(2, i, np.float32))
    vectors, csa = fresh.view()
    assert len(early[1]) == 0
    assert csa.tolist() == list(range(600))
    assert vectors[:, 1].tolist() == csa.tolist()


def test_the_older_half_of_too_many_fresh_vectors_is_forgotten(monkeypatch):
    monkeypatch.setattr(live_rows, "MOST_FRESH", 512)
    fresh = Fresh(2)
    for i in range(1300):
        fresh.add(i, np.full(2, i, np.float32))
    vectors, csa = fresh.view()
    assert csa.tolist() == list(range(1300 - len(csa), 1300))
    assert 256 <= len(csa) <= 512
    assert vectors[:, 0].tolist() == csa.tolist()
