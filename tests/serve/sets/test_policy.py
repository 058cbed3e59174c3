"""A policy over time: limits, guarantees, prices and windows work together, on a small centre that is run by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serve.sets.clock import Clock
from serve.sets.given import Window
from serve.sets.policy import Rules, SetPolicy, Waitlist
from serve.sets.prices import Demand, Prices
from serve.sets.sustain import Limits, Load
from serve.sets.wait import Waiting
from serve.sets.window import Settled, settle
from twotower.errors import ConfigError


def waitlist(now_s: float = 0.0, waited: Any = (0.0, 0.0), csa: Any = (0, 1), **fields: Any) -> Waitlist:
    shape = (len(waited), len(csa))
    plain = {"value": np.full(shape, 0.5), "can": np.ones(shape, np.bool_)}
    return Waitlist(now_s, np.array(waited), csa=np.array(csa, np.int64), **{**plain, **fields})


def test_a_rest_is_kept_until_a_deadline_breaks_it() -> None:
    policy = SetPolicy(2, Rules(Waiting(guarantee_s=30.0), Limits(rest_s=60.0)))
    hard = np.ones(2, np.bool_)
    assert len(policy.decide(waitlist(0.0, hard=hard), begin=True).pairs) == 2
    policy.load.ended([0, 1], 100.0)
    found = policy.decide(waitlist(110.0, [5.0]))
    assert not len(found.pairs)
    assert found.again_s == pytest.approx(25.0)  # when the guarantee is over, before the rest is
    assert found.settled is not None
    assert found.settled.why(0) == "rest"
    late = policy.decide(waitlist(135.0, [30.0]))
    assert late.settled is not None
    assert len(late.pairs) == 1
    assert late.settled.broke_rest.tolist() == [True]
    assert late.again_s == np.inf
    rested = policy.decide(waitlist(160.0, [5.0]))
    assert len(rested.pairs) == 1


def test_without_a_promise_nothing_is_asked_again() -> None:
    found = SetPolicy(1).decide(waitlist(csa=[0]))
    assert len(found.pairs) == 1
    assert found.again_s == np.inf


def test_prices_keep_the_specialist() -> None:
    demand = Demand(
        np.array([40.0, 30.0]), np.array([[0.7, 0.8], [0.0, 0.9]]), np.full((2, 2), 300.0),
        np.array([[True, True], [False, True]]), np.array([5.0, 1.0]),
    )  # fmt: skip
    prices = Prices(demand, np.array([0, 1]))
    value = np.array([[0.7, 0.8]])
    one = waitlist(waited=[0.0], value=value, kind=np.array([0]))
    assert SetPolicy(2, Rules()).decide(one).pairs.tolist() == [[0, 1]]
    assert SetPolicy(2, Rules(prices=prices)).decide(one).pairs.tolist() == [[0, 0]]
    assert SetPolicy(2, Rules(prices=prices, fill=True)).decide(
        waitlist(waited=[0.0], value=value[:, 1:], csa=[1], kind=np.array([0]))
    ).pairs.tolist() == [[0, 0]]


def test_a_window_stays_open_for_its_time_or_a_deadline() -> None:
    clock = Clock(cost_s=0.001, least_s=4.0, most_s=4.0)
    policy = SetPolicy(2, Rules(Waiting(guarantee_s=20.0), clock=clock))
    found = policy.decide(waitlist(10.0))
    assert (len(found.pairs), found.again_s, found.settled) == (0, 4.0, None)
    assert policy.decide(waitlist(13.0, [3.0, 3.0])).again_s == pytest.approx(1.0)
    assert len(policy.decide(waitlist(14.0, [4.0, 4.0])).pairs) == 2
    assert policy.decide(waitlist(20.0, [17.0])).again_s == pytest.approx(3.0)  # the deadline comes first
    assert len(policy.decide(waitlist(23.0, [20.0])).pairs) == 1


def test_a_day_keeps_its_promises() -> None:
    """Half an hour of traffic with rests, a cap and a guarantee: nobody waits past it while who may take them has room,
    nobody is used above the cap without a deadline, and hard contacts are spread."""
    rng = np.random.default_rng(1)
    limits = Limits(occupancy=0.9, over_s=900.0, rest_s=20.0, in_a_row=2, spread_hard=0.1)
    policy = SetPolicy(4, Rules(Waiting(per_s=0.001, guarantee_s=60.0), limits))
    queue: list[tuple[float, bool]] = []
    busy: dict[int, tuple[float, bool]] = {}
    taken = np.zeros((4, 2))
    for now in np.arange(0.0, 1800.0, 5.0):
        for csa in [csa for csa, (until, _) in busy.items() if until <= now]:
            policy.load.ended(csa, now, busy.pop(csa)[1])
        queue += [(now, bool(rng.random() < 0.4)) for _ in range(rng.poisson(0.12))]
        free = np.array([csa for csa in range(4) if csa not in busy], np.int64)
        hard = np.array([one for _, one in queue], np.bool_)
        waited = now - np.array([at for at, _ in queue])
        value = np.tile([[0.9, 0.7, 0.6, 0.5]], (len(queue), 1))[:, free]
        found = policy.decide(waitlist(now, waited, free, value=value, hard=hard), begin=True)
        assert found.settled is not None
        late = waited >= 60
        assert len(found.pairs) == len(free) or (found.settled.csa[late] >= 0).all()
        assert not (found.settled.broke_cap | found.settled.broke_rest)[~late].any()
        for contact, csa in found.pairs.tolist():
            busy[int(free[csa])] = (now + 60 + 30 * rng.random(), bool(hard[contact]))
            taken[free[csa]] += [1, hard[contact]]
        gone = set(found.pairs[:, 0].tolist())
        queue = [one for i, one in enumerate(queue) if i not in gone]
    assert (taken[:, 0] > 0).all()
    assert np.ptp(taken[:, 1]) <= 6


def test_nobody_to_take_and_nobody_to_be_taken() -> None:
    policy = SetPolicy(2, Rules(limits=Limits(occupancy=0.9)))
    assert policy.decide(waitlist(waited=[])).pairs.shape == (0, 2)
    found = policy.decide(waitlist(csa=[]))
    assert found.settled is not None
    assert [found.settled.why(i) for i in range(2)] == ["nobody may", "nobody may"]
    none = policy.decide(waitlist(can=np.zeros((2, 2), np.bool_)))
    assert none.settled is not None
    assert none.settled.why(1) == "nobody may"
    full = policy.decide(waitlist(room=np.zeros(2, np.int64)))
    assert full.settled is not None
    assert full.settled.why(0) == "full"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"waited": [-1.0, 0.0]}, "waited_s: -1.0 s"),
        ({"value": np.full((2, 2), np.nan)}, "value: nan at 0, 0"),
        ({"value": np.zeros((1, 2))}, "value: shape"),
        ({"can": np.ones((2, 1), np.bool_)}, "can: bool of shape"),
        ({"hard": np.zeros(3, np.bool_)}, "hard: bool of shape"),
        ({"room": np.array([-1, 1])}, "room: whole numbers"),
        ({"guarantee_s": np.array([np.nan, 1.0])}, "guarantee_s"),
        ({"now_s": -10.0}, "time: -10.0 s is before"),
        ({"csa": [0, 9]}, "csa: positions"),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SetPolicy(2).decide(waitlist(**fields))


def test_a_policy_of_other_csas_is_refused() -> None:
    with pytest.raises(ConfigError, match="load: of 3"):
        SetPolicy(2, load=Load(3, Limits()))


def settled(contacts: int, value: float) -> Settled:
    found = settle(Window(np.full((contacts, contacts), value), np.eye(contacts, dtype=np.bool_)))
    assert len(found.pairs) == contacts
    return found


def test_the_window_grows_with_traffic_and_with_what_it_brings() -> None:
    rng = np.random.default_rng(0)

    def learnt(slope: float, per_s: float) -> Clock:
        clock, now = Clock(cost_s=0.02, most_s=30.0), 0.0
        for _ in range(300):
            many = int(rng.integers(1, 12))
            now += many / per_s
            clock.learn(now, many, settled(many, 0.4 + slope * float(np.log1p(many)) + 0.01 * rng.normal()))
        return clock

    busy = learnt(0.1, 2.0)
    assert busy.slope == pytest.approx(0.1, abs=0.02)
    assert busy.arrivals_s == pytest.approx(2.0, rel=0.05)
    assert busy.window_s == pytest.approx(2 * 0.1 / 0.02 - 0.5, rel=0.2)
    assert learnt(0.1, 0.05).window_s == 0.0  # contacts come one by one
    assert learnt(0.0, 2.0).window_s < 2.0  # and nothing is gained
    rows = busy.trade_off([0.0, busy.window_s / 2, busy.window_s, 2 * busy.window_s])
    assert rows[0] == {"window_s": 0.0, "value": 0.0, "wait_s": 0.0, "net": 0.0}
    assert max(rows, key=lambda row: row["net"])["window_s"] == busy.window_s
    assert [row["wait_s"] for row in rows] == [row["window_s"] / 2 for row in rows]


def test_a_clock_that_knows_nothing_does_not_wait() -> None:
    assert Clock(cost_s=0.1).window_s == 0.0
    assert Clock(cost_s=0.1, least_s=2.0).window_s == 2.0


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"cost_s": 0.0}, "cost_s"), ({"least_s": 5.0, "most_s": 1.0}, "least_s"), ({"fades": 0.0}, "fades")],
)
def test_clocks_that_cannot_be_are_refused(fields: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Clock(**{"cost_s": 1.0, **fields})
    with pytest.raises(ConfigError, match="windows_s"):
        Clock(1.0).trade_off([-1.0])
