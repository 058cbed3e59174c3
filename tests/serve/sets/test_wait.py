"""Waits have a worth and an end: nobody starves, whatever the values, prices, rests and arrivals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.sets.given import Window
from serve.sets.wait import Waiting
from serve.sets.window import settle
from twotower.errors import ConfigError


@given(st.integers(0, 2**32), st.sampled_from([0.0, 7.0, 30.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_each_contact_is_taken_within_its_bound(seed: int, guarantee_s: float, own: bool) -> None:
    """Values are against the contact that is watched, others come all the time and some CSAs rest; each window in which
    somebody who may take it has room, after it is overdue, counts against `ahead` + 1."""
    rng = np.random.default_rng(seed)
    csas, waiting = 3, Waiting(per_s=0.01, guarantee_s=guarantee_s)
    may = [np.array([True, False, False])]  # the watched contact comes first in the list, and last in every value
    arrived, guarantee = [0.0], [guarantee_s]
    ahead: int | None = None
    chances = now = 0.0
    for _ in range(200):
        now += float(rng.integers(1, 4))
        for _ in range(rng.integers(0, 4)):
            may.append(rng.random(csas) < 0.7)
            arrived.append(now)
            guarantee.append(float(rng.integers(0, 20)) if own else guarantee_s)
        can, waited = np.array(may), now - np.array(arrived)
        overdue = waiting.overdue_s(waited, np.array(guarantee))
        value = 100 * rng.random(can.shape)
        value[0] = -1e6
        room = (rng.random(csas) < 0.5).astype(np.int64)
        found = settle(
            Window(value, can, room, age=waiting.age(waited), price=rng.random(csas), overdue_s=overdue,
                   rest=rng.random(csas) < 0.5, cap=rng.random(csas) < 0.5)
        )  # fmt: skip
        if overdue[0] > 0:
            if ahead is None:
                ahead = int((overdue > overdue[0]).sum())
            chances += bool((can[0] & (room > 0)).any())
            assert chances <= ahead + 1
        if found.csa[0] >= 0:
            assert overdue[0] > 0
            return
        left = found.csa < 0
        may = [one for one, keep in zip(may, left, strict=True) if keep]
        arrived, guarantee = ([one for one, keep in zip(of, left, strict=True) if keep] for of in (arrived, guarantee))
    raise AssertionError("the contact starved")


def test_age_grows_linearly_or_faster() -> None:
    assert Waiting(per_s=0.1).age([0.0, 10.0]).tolist() == [0.0, 1.0]
    convex = Waiting(per_s=0.1, guarantee_s=20.0, power=2.0).age([10.0, 20.0, 40.0])
    assert convex == pytest.approx([0.5, 2.0, 8.0])


def test_a_guarantee_is_over_from_its_last_second_on() -> None:
    waiting = Waiting(guarantee_s=10.0)
    assert (waiting.overdue_s([9.0, 10.0, 12.0]) > 0).tolist() == [False, True, True]
    assert (waiting.overdue_s([9.0, 9.0], [5.0, np.inf]) > 0).tolist() == [True, False]
    assert not (Waiting().overdue_s([1e9]) > 0).any()


def test_an_older_contact_comes_before_a_dearer_one() -> None:
    both = np.ones((2, 1), np.bool_)
    waiting = Waiting(guarantee_s=10.0)
    waited = [11.0, 15.0]
    found = settle(Window(np.array([[1e12], [-1e12]]), both, overdue_s=waiting.overdue_s(waited)))
    assert found.csa.tolist() == [-1, 0]


@pytest.mark.parametrize(
    "fields", [{"per_s": -1.0}, {"guarantee_s": -1.0}, {"guarantee_s": np.nan}, {"power": 0.5}, {"power": 2.0}]
)
def test_what_cannot_be_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Waiting(**fields)


def test_negative_waits_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"waited_s: -1.0 s; 0 or more"):
        Waiting().age([-1.0])
    with pytest.raises(ConfigError, match="waited_s: nan at 1"):
        Waiting().overdue_s([1.0, np.nan])
    with pytest.raises(ConfigError, match="guarantee_s"):
        Waiting().overdue_s([1.0, 2.0], [1.0, -2.0])
