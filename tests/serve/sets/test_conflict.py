"""Contradictions are reported as minimal sets: all of it contradicts itself, and nothing less does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.sets.conflict import Named, conflict, guarantees_conflict
from serve.sets.given import Window
from serve.sets.plan import Plan
from serve.sets.prices import Demand
from serve.sets.sustain import Limits
from serve.sets.wait import Waiting
from twotower.errors import ConfigError


def demand(**fields: Any) -> Demand:
    plain: dict[str, Any] = {
        "arrivals_h": np.array([20.0, 10.0]), "value": np.array([[0.6, 0.7], [0.2, 0.9]]),
        "handle_s": np.full((2, 2), 300.0), "can": np.array([[True, True], [False, True]]),
        "csas": np.array([3.0, 1.0]),
    }  # fmt: skip
    return Demand(**{**plain, **fields})


def plan(limits: Limits, hard: Any = (0.2, 0.2), waiting: Waiting | None = None, **fields: Any) -> Plan:
    return Plan(demand(**fields), limits, np.array(hard), waiting, ("general", "loans"), ("cards", "loan"))


@given(st.integers(0, 2**32))
@settings(max_examples=12, deadline=None)
def test_the_set_is_minimal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, size=(6, 1, 2)).astype(np.float64)
    named = [Named(str(i), row, rng.integers(-3, 4, 1).astype(np.float64)) for i, row in enumerate(rows)]
    found = conflict(named)
    if found is None:
        return
    members = [one for one in named if one.name in found.names]
    again = conflict(members)
    assert again is not None
    assert set(again.names) == set(found.names)
    assert all(conflict([other for other in members if other is not one]) is None for one in members)


def test_a_plan_that_can_hold_has_no_conflict() -> None:
    assert plan(Limits(occupancy=0.9, rest_s=60, in_a_row=3, exposure_h=2.0)).conflict() is None


def test_no_occupancy_and_some_exposure_contradict_each_other() -> None:
    found = plan(Limits(occupancy=0.0, exposure_h=1.0), arrivals_h=np.zeros(2)).conflict()
    assert found is not None
    assert set(found.names) in (
        {"occupancy cap of general", "exposure of general"}, {"occupancy cap of loans", "exposure of loans"},
    )  # fmt: skip
    assert "cannot all hold; relax one of them" in str(found)
    assert isinstance(found.refused(), ConfigError)


def test_more_demand_than_hours_names_the_group_and_who_else_may() -> None:
    found = plan(Limits(), arrivals_h=np.array([1.0, 13.0])).conflict()
    assert found is not None
    assert set(found.names) == {"demand of loan", "hours of loans", "who may take loan"}


def test_a_guarantee_shorter_than_the_rest_of_the_only_csa() -> None:
    found = plan(Limits(rest_s=120.0), waiting=Waiting(guarantee_s=60.0)).conflict()
    assert found is not None
    assert found.names == ("rest of 120 s", "wait guarantee of 60 s for loan, whom one CSA may take")
    assert plan(Limits(rest_s=30.0), waiting=Waiting(guarantee_s=60.0)).conflict() is None


def test_hard_contacts_need_others_between_them() -> None:
    found = plan(Limits(in_a_row=0), hard=(0.0, 1.0)).conflict()
    assert found is not None
    assert set(found.names) == {"demand of loan", "hard in a row of loans", "hard in a row of general"}


def test_shadow_prices_are_what_one_unit_more_brings() -> None:
    limits = Limits(occupancy=0.5, rest_s=120, in_a_row=2, exposure_h=1.0)
    tight = plan(limits, hard=(0.5, 0.5))
    prices = {row["constraint"]: row["value_h"] for row in tight.shadow_prices()}
    assert prices["occupancy cap of loans"] > 0
    assert list(prices.values()) == sorted(prices.values(), reverse=True)
    whole = best_value(tight)
    more = best_value(replace(tight, demand=demand(arrivals_h=np.array([20.01, 10.0]))))
    assert (more - whole) / 0.01 == pytest.approx(prices["demand of cards"], abs=1e-6)
    eased = best_value(replace(tight, limits=replace(limits, occupancy=0.5 + 0.001)))
    gained = (3 * prices["occupancy cap of general"] + prices["occupancy cap of loans"]) * 0.001
    assert eased - whole == pytest.approx(gained, abs=1e-9)
    with pytest.raises(ConfigError, match="cannot all hold"):
        plan(Limits(occupancy=0.0, exposure_h=1.0)).shadow_prices()


def best_value(of: Plan) -> float:
    """By duality: the sum of limits times their prices."""
    kinds, groups = of._names()
    bounds = {f"demand of {kind}": of.demand.arrivals_h[k] for k, kind in enumerate(kinds)}
    bounds |= {one.name: float(one.bounds[0]) for one in of._limits(groups)}
    return float(sum(bounds[row["constraint"]] * row["value_h"] for row in of.shadow_prices()))


def window(**fields: Any) -> Window:
    return Window(np.zeros((2, 2)), np.ones((2, 2), np.bool_), overdue_s=np.array([5.0, 3.0]), **fields)


def test_guarantees_of_a_window_are_held_against_what_stands_in_their_way() -> None:
    assert guarantees_conflict(window()) is None
    assert guarantees_conflict(replace(window(), overdue_s=None)) is None
    found = guarantees_conflict(window(room=np.array([1, 0])))
    assert found is not None
    assert set(found.names) == {"guarantee of contact 0", "guarantee of contact 1", "room of CSA 0", "room of CSA 1"}
    barred = window(forbidden=np.array([[0, 0], [0, 1]]))
    found = guarantees_conflict(barred, contacts=["c-1", "c-2"])
    assert found is not None
    assert set(found.names) == {"forbidden pairs of contact c-1", "guarantee of contact c-1"}
    resting = Window(np.zeros((1, 1)), np.ones((1, 1), np.bool_), overdue_s=np.ones(1), rest=np.ones(1, np.bool_))
    found = guarantees_conflict(resting, csas=["ada"])
    assert found is not None
    assert set(found.names) == {"rest of ada", "guarantee of contact 0"}
    with pytest.raises(ConfigError, match="named"):
        guarantees_conflict(resting, csas=["ada", "bob"])
