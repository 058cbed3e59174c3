"""Hard contacts of a replay, and prices of contacts that differ within their class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluation.simulate.demand import at
from evaluation.simulate.replay_hard import hardest, split
from evaluation.simulate.sets import Believed, prices_of, types_of
from tests.evaluation.simulate.centres import skilled


def test_the_hardest_are_those_whom_nobody_resolves_well() -> None:
    random = np.random.default_rng(0)
    pairs = random.normal(0, 1, (200, 10)).astype(np.float32)
    pairs[:40] -= 3
    can = random.random((200, 10)) < 0.5
    can[7] = False
    found = hardest(pairs, can, 0.2)
    assert not found[7]
    assert found[:40].sum() >= 38
    assert found.sum() == 40
    # One who is good at it makes nothing easy.
    pairs[0, 3] = 5
    assert hardest(pairs, np.ones_like(can), 0.2)[0]


def test_classes_are_there_twice() -> None:
    centre = skilled()
    demand = at(centre, np.arange(30.0), np.arange(30) % 3, 0)
    hard = np.arange(30) < 6
    found, moved, known = split(centre, demand, np.arange(30.0).reshape(3, 10), hard)
    assert found.classes == ("bill", "line", "move", "bill, hard", "line, hard", "move, hard")
    assert found.hard is not None
    assert found.hard.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(moved.kind, np.arange(30) % 3 + 3 * hard)
    np.testing.assert_array_equal(found.can[3:], centre.can)
    np.testing.assert_array_equal(known[3:], known[:3])
    assert len(found.patience) in (1, 6)


def test_a_class_is_split_into_contacts_alike() -> None:
    """Two kinds of contacts in one class, each with its specialist: on average nobody is better than another."""
    centre = replace(skilled(1.0), handle_s=np.full((3, 10), 300.0), success=np.full((3, 10), 0.5))
    kind, row = np.zeros(400, np.int32), np.arange(400, dtype=np.int32)
    pairs = np.full((400, 10), 0.2, np.float32)
    pairs[:200, 0] = pairs[200:, 1] = 0.9
    believed = Believed(centre.success, centre.handle_s, pairs)
    of, share, value = types_of(centre, believed, kind, row)
    assert of.tolist() == [0, 0]
    np.testing.assert_allclose(share, 0.5)
    assert sorted(map(tuple, value[:, :2].round(3).tolist())) == [(0.2, 0.9), (0.9, 0.2)]
    rates = np.zeros_like(centre.rates)
    rates[0] = 40.0
    price = prices_of(replace(centre, rates=rates), believed, kind, row)
    # Twelve of 20 contacts an hour have the specialist's time: an hour of theirs makes of 12 contacts' 0.2 a 0.9 each.
    np.testing.assert_allclose(price[:, :2], 12 * 0.7, rtol=1e-6)
    np.testing.assert_allclose(price[:, 2:], 0, atol=1e-9)
