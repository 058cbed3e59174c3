"""A window's assignment is the best one under strict precedence, and says so with prices that prove it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.sets import large
from serve.sets.given import Candidates, Window
from serve.sets.window import CAP, FULL, LESS, NOBODY, OTHERS, REST, Settled, settle
from twotower.errors import ConfigError


def keyed(window: Window, csa: tuple[int, ...]) -> tuple[Any, ...] | None:
    """By what an assignment is better than another, first things first; None: it may not be."""
    value, can, room = window.value, window.can, window.room
    late = window.overdue_s
    assert room is not None
    assert late is not None
    assert window.rest is not None
    assert window.cap is not None
    first = np.zeros(len(csa)) if window.priority is None else np.asarray(window.priority)
    pairs = [(i, j) for i, j in enumerate(csa) if j >= 0]
    if any(not can[i, j] or ((window.rest[i, j] or window.cap[i, j]) and late[i] <= 0) for i, j in pairs):
        return None
    if any(csa.count(j) > room[j] for j in range(len(room))):
        return None
    old = sorted((i for i in range(len(csa)) if late[i] > 0), key=lambda i: (-late[i], i))
    return (
        tuple(csa[i] >= 0 for i in old),
        -sum(bool(window.rest[pair]) for pair in pairs),
        -sum(bool(window.cap[pair]) for pair in pairs),
        tuple(sum(first[i] == one for i, _ in pairs) for one in sorted({*first[first > 0]}, reverse=True)),
        len(pairs) if window.fill else 0,
        sum(float(value[pair]) for pair in pairs),
    )


def best(window: Window) -> tuple[Any, ...]:
    """The key of the best of all assignments."""
    waiting, csas = window.value.shape
    keys = (keyed(window, csa) for csa in itertools.product(range(-1, csas), repeat=waiting))
    return max(key for key in keys if key is not None)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    waiting, csas = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (waiting, csas)
    value = rng.normal(size=shape) * 10.0 ** rng.integers(-9, 10, size=shape)
    if draw(st.booleans()):  # ties
        value = rng.integers(-2, 4, size=shape).astype(np.float64)
    share = draw(st.sampled_from([0.0, 0.3, 0.8]))
    of_csas = draw(st.booleans())
    rest, cap = (np.broadcast_to(one[0], shape) if of_csas else one for one in rng.random((2, *shape)) < share)
    late = np.where(rng.random(waiting) < share, rng.integers(1, 4, waiting), -1).astype(np.float64)
    room = rng.integers(0, 3, csas)
    priority = draw(st.sampled_from([None, rng.integers(-1, 3, waiting) * 2.5]))
    can, fill = rng.random(shape) < 0.7, draw(st.booleans())
    return Window(value, can, room, overdue_s=late, rest=rest, cap=cap, priority=priority, fill=fill)


def same(window: Window, found: Settled) -> None:
    key, expected = keyed(window, tuple(found.csa.tolist())), best(window)
    assert key is not None
    assert key[:-1] == expected[:-1]
    size = float(np.abs(window.value).max(initial=0.0))
    assert key[-1] == pytest.approx(expected[-1], abs=1e-14 * size)
    assert found.value == pytest.approx(key[-1], abs=1e-14 * size)
    assert 0 <= found.gap <= 1e-11 * (1 + size)


@given(windows())
@settings(max_examples=300, deadline=None)
def test_no_assignment_is_better_in_the_order_of_precedence(window: Window) -> None:
    same(window, settle(window))


@given(windows(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_candidates_are_matched_as_the_matrix_is(window: Window, auctioned: bool) -> None:
    with pytest.MonkeyPatch.context() as patched:
        if auctioned:
            patched.setattr(large, "MANY", 0)
            window = replace(window, room=np.minimum(window.room, 1))
        of_csas = {"rest": window.rest[0], "cap": window.cap[0]}  # type: ignore[index]
        window = replace(window, **{name: np.broadcast_to(row, window.value.shape) for name, row in of_csas.items()})
        same(window, settle(listed(window, **of_csas)))


def listed(window: Window, **fields: Any) -> Candidates:
    start = np.concatenate([[0], np.cumsum(window.can.sum(axis=1))])
    return Candidates(
        start, np.nonzero(window.can)[1], window.value[window.can], window.value.shape[1], window.room,
        overdue_s=window.overdue_s, priority=window.priority, fill=window.fill, **fields,
    )  # fmt: skip


def test_small_differences_decide_beside_large_ones() -> None:
    value = np.array([[1e9, 1e9], [1.0, 1.0 + 1e-12]])
    rest = np.zeros((2, 2), np.bool_)
    found = settle(Window(value, np.ones((2, 2), np.bool_), overdue_s=np.array([5.0, 9.0]), rest=rest))
    assert found.csa.tolist() == [0, 1]


def test_many_candidates_give_the_exact_value() -> None:
    rng = np.random.default_rng(3)
    contacts, csas, each = 1_500, 1_200, 20
    skill, need = rng.normal(size=(csas, 4)), rng.normal(size=(contacts, 4))
    value = need @ skill.T + rng.normal(size=csas)
    best_few = np.sort(np.argpartition(-value, each, axis=1)[:, :each], axis=1)
    start = np.arange(contacts + 1) * each
    late = np.where(rng.random(contacts) < 0.01, 5.0, 0.0)
    few = Candidates(start, best_few.ravel(), np.take_along_axis(value, best_few, 1).ravel(), csas, overdue_s=late)
    found = settle(few)
    dense = np.zeros((contacts, csas), np.bool_)
    np.put_along_axis(dense, best_few, True, axis=1)
    assert found.value == pytest.approx(settle(Window(value, dense, overdue_s=late)).value, rel=1e-12)
    assert found.gap < 1e-8
    assert len(np.unique(found.csa[found.csa >= 0])) == (found.csa >= 0).sum()


def test_nobody_is_left_while_somebody_who_may_has_room() -> None:
    rng = np.random.default_rng(4)
    value, may = rng.random((6, 6)), rng.random((6, 6)) < 0.6
    asked = []

    def more(contacts: Any, csas: Any) -> Any:
        asked.append(contacts)
        return np.where(may, value, np.nan)[np.ix_(contacts, csas)]

    may[:, 0] = True
    few = Candidates(np.arange(7), np.zeros(6, np.int64), value[:, 0], 6, more=more)  # all like the first the most
    found = settle(few)
    assert len(asked[0]) == 5
    used = set(found.csa.tolist())
    for contact in np.flatnonzero(found.csa < 0):
        assert not {int(j) for j in np.flatnonzero(may[contact])} - used
    pairs = found.pairs
    assert found.value == pytest.approx(value[pairs[:, 0], pairs[:, 1]].sum())


def test_prices_are_what_a_place_is_worth() -> None:
    value = np.array([[0.9, 0.2], [0.8, 0.1]])
    found = settle(Window(value, np.ones((2, 2), np.bool_)))
    assert found.csa_price == pytest.approx([0.7, 0.0])
    assert found.contact_price == pytest.approx([0.2, 0.1])
    assert found.csa_price.sum() + found.contact_price.sum() == pytest.approx(found.value)


def test_more_of_the_highest_priority_before_any_of_the_next() -> None:
    value = np.array([[0.9, 0.9], [0.1, 0.1], [-5.0, -5.0], [0.2, 0.2]])
    first = np.array([0.0, 1.0, 2.0, 1.0])
    can = np.array([[True, True], [True, False], [True, True], [False, True]])
    assert settle(Window(value, can, priority=first)).csa.tolist() in ([-1, 0, 1, -1], [-1, -1, 0, 1])
    assert settle(Window(value, can)).csa.tolist() == [0, -1, -1, 1]
    late = np.array([-1.0, 1.0, -1.0, -1.0])
    assert settle(Window(value, can, np.array([1, 0]), overdue_s=late, priority=first)).csa.tolist() == [-1, 0, -1, -1]
    rest = np.array([True, False])
    assert settle(Window(value, can, rest=rest, priority=first)).csa.tolist() == [-1, -1, 1, -1]  # breaks no rest


def test_what_is_not_proven_is_the_same() -> None:
    rng = np.random.default_rng(5)
    window = Window(rng.random((6, 4)), rng.random((6, 4)) < 0.7, fill=True)
    plain = settle(window, prove=False)
    assert plain.csa.tolist() == settle(window).csa.tolist()
    assert np.isnan(plain.gap)
    assert np.isnan(plain.csa_price).all()


def test_who_waits_hears_why() -> None:
    can = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]], np.bool_)
    value = np.full((6, 4), 0.5)
    value[5] = 0.4
    room = np.array([0, 1, 1, 1])
    rest, cap = np.array([0, 1, 0, 0], np.bool_), np.array([0, 0, 1, 0], np.bool_)
    found = settle(Window(value, can, room, rest=rest, cap=cap))
    assert found.reason.tolist() == [NOBODY, FULL, REST, CAP, 0, OTHERS]
    assert found.why(0) == "nobody may"
    dear = settle(Window(value, can, room, price=np.ones(4)))
    assert dear.reason.tolist() == [NOBODY, FULL, LESS, LESS, LESS, LESS]


def test_more_contacts_than_room_take_the_best() -> None:
    found = settle(Window(np.array([[0.1], [0.9], [0.5]]), np.ones((3, 1), np.bool_), np.array([2])))
    assert found.csa.tolist() == [-1, 0, 0]
    assert settle(Window(np.zeros((3, 0)), np.zeros((3, 0), np.bool_))).csa.tolist() == [-1, -1, -1]
    assert settle(Window(np.zeros((0, 3)), np.zeros((0, 3), np.bool_))).pairs.shape == (0, 2)
    none = Candidates(np.zeros(4, np.int64), np.zeros(0, np.int64), np.zeros(0), 2, fill=True)
    assert settle(none).csa.tolist() == [-1, -1, -1]


ONES = np.ones((2, 2), np.bool_)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"value": np.array([[0.0, np.nan], [0, 0]])}, "value: nan at 0, 1"),
        ({"value": np.zeros(2)}, r"value: shape \(2,\)"),
        ({"can": np.ones((2, 3), np.bool_)}, "can: bool of shape"),
        ({"can": np.ones((2, 2))}, "can: float64 of shape"),
        ({"room": np.array([1, -1])}, "room: whole numbers"),
        ({"room": np.array([1, 1.5])}, "room: whole numbers"),
        ({"room": np.array([1.0, np.nan])}, "room: whole numbers"),
        ({"room": np.array([1])}, "room: shape"),
        ({"age": np.array([1.0])}, "age: shape"),
        ({"age": np.array([np.inf, 0])}, "age: inf at 0"),
        ({"price": np.zeros(3)}, "price: shape"),
        ({"overdue_s": np.array([np.nan, 0])}, "overdue_s: nan at 0"),
        ({"rest": np.array([1, 0])}, "rest: int64 of shape"),
        ({"forbidden": np.array([[0, 2]])}, "forbidden: pairs"),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settle(Window(**{"value": np.zeros((2, 2)), "can": ONES, **fields}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start": np.array([0, 2, 1, 3])}, "start: ascending"),
        ({"csa": np.array([0, 3, 1])}, "csa: positions from 0 to 1"),
        ({"csa": np.array([0, 0, 1])}, "twice"),
        ({"value": np.zeros(2)}, "value: shape"),
        ({"value": np.array([0, 0, np.nan])}, "value: nan at 2"),
    ],
)
def test_candidates_that_do_not_fit_are_named(fields: dict[str, Any], said: str) -> None:
    plain = {"start": np.array([0, 2, 3]), "csa": np.array([0, 1, 1]), "value": np.zeros(3), "csas": 2}
    with pytest.raises(ConfigError, match=said):
        settle(Candidates(**{**plain, **fields}))


def test_a_forbidden_pair_does_not_meet() -> None:
    value = np.array([[1.0, 0.1], [0.1, 0.0]])
    found = settle(Window(value, ONES, forbidden=np.array([[0, 0]])))
    assert found.csa.tolist() == [1, 0]
    assert ONES.all()  # what was given is as it was
