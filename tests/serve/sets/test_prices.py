"""Prices of CSA time are the duals of the fluid model, follow demand, and keep a specialist for who needs one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.sets.given import Window
from serve.sets.prices import Demand, Prices, fluid
from serve.sets.window import settle
from twotower.errors import ConfigError

# General contacts gain 0.1 more from the one specialist, without whom special ones are worth nothing.
PLAIN: dict[str, Any] = {
    "arrivals_h": np.array([40.0, 10.0]), "value": np.array([[0.7, 0.8], [0.0, 0.9]]),
    "handle_s": np.full((2, 2), 300.0), "can": np.array([[True, True], [False, True]]), "csas": np.array([5.0, 1.0]),
}  # fmt: skip
GROUP = np.array([0, 0, 0, 0, 0, 1])


def demand(**fields: Any) -> Demand:
    return Demand(**{**PLAIN, **fields})


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_duals_prove_the_value_of_the_plan(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 5)), int(rng.integers(1, 4)))
    asked = Demand(
        rng.integers(0, 50, shape[0]).astype(np.float64), rng.normal(size=shape), rng.uniform(60, 900, shape),
        rng.random(shape) < 0.7, rng.integers(0, 5, shape[1]).astype(np.float64),
    )  # fmt: skip
    found = fluid(asked)
    assert found.value_h == pytest.approx((found.taken_h * asked.value).sum())
    assert found.value_h == pytest.approx(asked.arrivals_h @ found.contact + asked.csas @ found.per_h)
    worth = found.contact[:, None] + asked.handle_s / 3600 * found.per_h - asked.value
    assert worth[asked.can].min(initial=0.0) > -1e-9
    if asked.csas.min() > 0:  # a further hour brings what it is priced at, or less
        more = fluid(Demand(asked.arrivals_h, asked.value, asked.handle_s, asked.can, asked.csas + np.eye(shape[1])[0]))
        assert more.value_h - found.value_h <= found.per_h[0] + 1e-9


def test_a_scarce_specialist_is_kept_for_who_needs_one() -> None:
    prices = Prices(demand(), GROUP, ["general", "loans"])
    assert prices.per_h == pytest.approx([0.0, 1.2])  # 0.1 for each of the 12 contacts that an hour holds
    busy = Prices(demand(arrivals_h=np.array([40.0, 30.0])), GROUP)
    assert busy.per_h[1] == pytest.approx(0.9 * 12)
    value = np.array([[0.7, 0.8]])
    csa = np.array([0, 5])
    assert settle(Window(value, np.ones((1, 2), np.bool_))).csa.tolist() == [1]
    kept = settle(Window(value, np.ones((1, 2), np.bool_), price=busy.of(csa, np.array([0]), shape=(1, 2))))
    assert kept.csa.tolist() == [0]
    alone = settle(Window(value[:, 1:], np.ones((1, 1), np.bool_), price=busy.of(csa[1:], np.array([0]))))
    assert alone.csa.tolist() == [-1]
    assert alone.why(0) == "worth less than waiting"


def test_prices_move_by_their_step() -> None:
    prices = Prices(demand(), GROUP, step=0.25)
    before = prices.per_h.copy()
    rush = demand(arrivals_h=np.array([40.0, 30.0]))
    prices.update(rush)
    assert prices.per_h == pytest.approx(before + 0.25 * (fluid(rush).per_h - before))
    for _ in range(60):
        prices.update(rush)
    assert prices.per_h == pytest.approx(fluid(rush).per_h, rel=1e-4)


def test_demand_is_learnt_from_what_came() -> None:
    prices = Prices(demand(), GROUP, step=1.0)
    came = demand().arriving(np.array([20, 15]), hours=0.5)
    assert came.arrivals_h.tolist() == [40.0, 30.0]
    prices.update(came)
    assert prices.per_h[1] == pytest.approx(0.9 * 12)
    with pytest.raises(ConfigError, match="hours"):
        demand().arriving(np.array([1, 1]), hours=0.0)
    with pytest.raises(ConfigError, match="demand: of shape"):
        prices.update(Demand(np.ones(1), np.ones((1, 2)), np.ones((1, 2)), np.ones((1, 2), np.bool_), np.ones(2)))
    with pytest.raises(ConfigError, match="rate"):
        prices.realised(np.zeros(2), np.zeros(2), rate=-1.0)


def test_prices_that_only_see_what_happens_find_the_duals_too() -> None:
    """Each hour the demand answers the prices: who is worth the time asks for it."""
    rng = np.random.default_rng(0)
    prices = Prices(demand(arrivals_h=np.array([40.0, 30.0]), csas=np.array([5.0, 2.0])), GROUP)
    values, hours = rng.random(60), np.full(60, 0.1)  # of special contacts an hour, of 6 minutes each
    prices.per_h[:] = 0.0
    shift = np.array([5.0, 2.0])
    trace = []
    for step in range(3_000):
        wants = values > prices.per_h[1] * hours
        prices.realised(np.array([0.0, hours[wants].sum()]), shift, rate=2.0 / np.sqrt(step + 1))
        trace.append(prices.per_h[1])
    twentieth, next_one = np.sort(values)[::-1][19:21] * 10  # 2 hours hold 20 of them
    assert next_one * 0.97 <= np.mean(trace[-1_000:]) <= twentieth * 1.03
    assert prices.per_h[0] == 0.0


def test_what_planners_see() -> None:
    prices = Prices(demand(), GROUP, ["general", "loans"])
    assert prices.table() == [
        {"skill": "loans", "csas": 1.0, "price_h": pytest.approx(1.2), "used": pytest.approx(1.0), "scarce": True},
        {"skill": "general", "csas": 5.0, "price_h": 0.0, "used": pytest.approx(38 / 60), "scarce": False},
    ]
    lines = prices.text().splitlines()
    assert lines[0].split() == ["skill", "CSAs", "price/h", "used", "scarce"]
    assert lines[1].split() == ["loans", "1.0", "1.200", "100.0%", "yes"]


def test_the_price_of_a_pair_is_that_of_its_minutes() -> None:
    prices = Prices(demand(handle_s=np.array([[300.0, 600.0], [300.0, 300.0]])), GROUP)
    prices.per_h[:] = [6.0, 12.0]
    csa = np.array([0, 5])
    assert prices.of(csa, np.array([0, 1])) == pytest.approx(np.array([[0.5, 2.0], [0.5, 1.0]]))
    assert prices.of(csa, handle_s=np.array([60.0, 60.0])) == pytest.approx([0.1, 0.2])
    assert prices.of(csa, handle_s=np.full((1, 2), 60.0), shape=(1, 2)) == pytest.approx(np.array([[0.1, 0.2]]))
    assert prices.of(csa).shape == (2,)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"arrivals_h": np.array([-1.0, 1])}, "arrivals_h"),
        ({"handle_s": np.array([[-1.0, 1], [1, 1]])}, "handle_s: -1.0 s"),
        ({"handle_s": np.zeros((2, 2))}, "handle_s: more than 0"),
        ({"value": np.full((2, 2), np.nan)}, "value: nan"),
        ({"csas": np.ones(3)}, "can: bool of shape"),
    ],
)
def test_demand_that_cannot_be_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        demand(**fields)


def test_options_that_cannot_be_are_named() -> None:
    with pytest.raises(ConfigError, match="group"):
        Prices(demand(), np.array([2]))
    with pytest.raises(ConfigError, match="step"):
        Prices(demand(), GROUP, step=0.0)
    with pytest.raises(ConfigError, match="names"):
        Prices(demand(), GROUP, ["one"])
    nobody = Demand(np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0), np.bool_), np.zeros(0))
    assert Prices(nobody, np.zeros(0, np.int64)).table() == []
