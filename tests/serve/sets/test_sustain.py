"""What CSAs have had is counted right, and rest, caps, shares and practice follow from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serve.sets.given import Window
from serve.sets.shadow import Ledger, relaxed
from serve.sets.sustain import Limits, Load
from serve.sets.window import settle
from twotower.errors import ConfigError

ALL = np.arange(3)
NONE, HARD = np.zeros(1, np.bool_), np.ones(1, np.bool_)


def test_occupancy_is_work_over_time_on_shift() -> None:
    load = Load(3, Limits(over_s=600.0))
    load.begun(1, 0.0)
    assert load.occupancy(300.0) == pytest.approx([0, 1, 0])
    load.ended(1, 300.0)
    late = load.occupancy(600.0)[1]
    assert late == pytest.approx((np.exp(-0.5) - np.exp(-1)) / (1 - np.exp(-1)))
    load.shift(1, 600.0, False)
    assert load.occupancy(2000.0)[1] == pytest.approx(late)  # who is off shift is as busy as they were
    two = Load(1, Limits(), places=[2.0])
    two.begun(0, 0.0)
    assert two.occupancy(60.0) == pytest.approx([0.5])


def test_events_in_small_steps_are_the_same_as_in_large_ones() -> None:
    one, many = (Load(3, Limits(over_s=100.0, exposure_h=2.0)) for _ in range(2))
    for load in (one, many):
        load.begun([0, 2], 10.0, [True, False], [False, True])
    for t in np.linspace(10, 400, 50):
        many.occupancy(t)
    for load in (one, many):
        load.ended([0, 2], 400.0)
        load.occupancy(500.0)
    for name in ("work", "shifted", "hours", "taken", "hard", "pleasant", "rest_until", "streak"):
        assert getattr(one, name) == pytest.approx(getattr(many, name)), name


def test_a_csa_rests_after_a_hard_contact_alone() -> None:
    load = Load(3, Limits(rest_s=60.0))
    load.begun([0, 1], 0.0, [True, False])
    load.ended([0, 1], 100.0)
    terms = load.terms(130.0, ALL, NONE)
    assert terms.rest.tolist() == [True, False, False]
    assert terms.again_s == pytest.approx(30.0)
    assert not load.terms(160.0, ALL, NONE).rest.any()
    load.begun(1, 160.0, hard=False)
    load.ended(1, 170.0, hard=True)  # it turned out so
    assert load.terms(180.0, ALL, NONE).rest.tolist() == [False, True, False]


def test_the_cap_holds_until_the_time_that_is_told() -> None:
    load = Load(3, Limits(occupancy=0.8, over_s=600.0))
    load.begun(0, 0.0)
    load.ended(0, 500.0)
    assert load.occupancy(500.0)[0] == pytest.approx(1)
    terms = load.terms(500.0, ALL, NONE)
    assert terms.cap.tolist() == [[True, False, False]]
    assert load.occupancy(500.0 + terms.again_s)[0] == pytest.approx(0.8)
    assert not load.terms(500.0 + terms.again_s, ALL, NONE).cap.any()
    assert Load(3, Limits(occupancy=0.0)).terms(0.0, ALL, NONE).cap.all()


def test_hard_contacts_in_a_row_end() -> None:
    load = Load(3, Limits(in_a_row=2))
    both = np.array([True, False])
    for t in range(2):
        load.begun(0, float(t), hard=True)
        load.ended(0, float(t))
    assert load.terms(2.0, ALL, both).cap.tolist() == [[True, False, False], [False, False, False]]
    load.begun(0, 3.0, hard=False)
    load.ended(0, 3.0)
    assert not load.terms(4.0, ALL, both).cap.any()


def test_shares_and_practice_even_out_over_time() -> None:
    """Values always prefer CSA 0 for hard contacts and for pleasant ones; with weights everyone gets their share."""
    counts = {}
    for weight in (0.0, 0.2):
        rng = np.random.default_rng(0)
        load = Load(
            3, Limits(spread_hard=weight, spread_pleasant=weight, exposure_h=60.0, exposure=weight / 2, fades_s=1e6)
        )
        had = np.zeros((3, 3))
        for step in range(300):
            kind = rng.random(1)
            hard, pleasant = kind < 0.3, kind > 0.7
            terms = load.terms(20.0 * step, ALL, hard, pleasant)
            value = np.array([[0.9, 0.6, 0.5]]) + terms.value
            who = settle(Window(value, np.ones((1, 3), np.bool_))).csa
            load.begun(who, 20.0 * step, hard, pleasant)
            load.ended(who, 20.0 * step + 10, hard)
            had[:, who[0]] += [hard[0], pleasant[0], 1]
        counts[weight] = had
    assert counts[0.0][2].tolist() == [300, 0, 0]
    assert counts[0.2][2].min() > 90  # of 60 an hour on shift over 100 minutes: all of them
    assert np.ptp(counts[0.2][0] / counts[0.2][2]) < 0.06
    assert np.ptp(counts[0.2][1] / counts[0.2][2]) < 0.06


@pytest.mark.parametrize(
    "fields",
    [
        {"occupancy": 1.2},
        {"occupancy": -0.1},
        {"rest_s": -5.0},
        {"in_a_row": 1.5},
        {"over_s": 0.0},
        {"spread_hard": np.nan},
    ],
)
def test_limits_that_cannot_be_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Limits(**fields)


def test_events_that_cannot_be_are_refused() -> None:
    load = Load(3, Limits())
    load.begun(0, 10.0)
    with pytest.raises(ConfigError, match="before what is known"):
        load.begun(0, 9.0)
    with pytest.raises(ConfigError, match="before what is known"):
        load.begun(0, np.nan)
    with pytest.raises(ConfigError, match="no contact in hand"):
        load.ended(1, 11.0)
    with pytest.raises(ConfigError, match="positions from 0 to 2"):
        load.begun(3, 11.0)
    with pytest.raises(ConfigError, match="places"):
        Load(2, Limits(), places=[0.5, 1])


def test_what_a_constraint_costs_is_the_difference_it_makes() -> None:
    value = np.array([[0.9, 0.5], [0.8, 0.1]])
    rest = np.array([True, False])
    window = Window(value, np.ones((2, 2), np.bool_), rest=rest, forbidden=np.array([[1, 1]]))
    costs = {one.constraint: (round(one.value, 9), one.contacts) for one in relaxed(window)}
    # 0.5 alone; 0.5 + 0.8 without the rest; without the forbidden pair one contact still, the better one
    assert costs == {"rest": (0.8, 1), "cap": (0.0, 0), "forbidden": (0.0, 0)}
    ledger = Ledger(0.0)
    for t in (900.0, 1800.0):
        ledger.add(t, window)
    assert ledger.table()[0] == {"constraint": "rest", "value_h": pytest.approx(3.2), "contacts_h": 4.0}
    with pytest.raises(ConfigError, match="which is counted"):
        ledger.add(5.0, window)
