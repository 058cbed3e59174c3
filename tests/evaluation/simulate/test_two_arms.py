"""Two policies in one centre: each alone it is the simulator as it was, and who follows which is as assigned."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from evaluation.simulate import run
from evaluation.simulate.demand import Demand, at, poisson
from evaluation.simulate.policies import decided, fifo, greedy, p_mu, random, skills
from evaluation.simulate.run import Records, simulate
from evaluation.simulate.state import NOBODY, RESOLVED
from evaluation.simulate.two_arms import Assigned, simulate_arms
from evaluation.simulate.world import CONTROL, SHARED, TREATMENT
from tests.evaluation.simulate.centres import single, skilled
from twotower.errors import ConfigError

HOUR = 3600.0
MORE = {"repeats": np.array([0.6, 0.0, 0.3]), "transfers": np.array([0.1, 0.0, 0.0]), "transfer_to": np.ones(3, int)}
CENTRE = skilled(1.0, 48, **MORE)
DEMAND = poisson(CENTRE, 0, 0)
N, J = len(DEMAND), len(CENTRE.csas)
GREEDY = greedy(CENTRE.success, 1e-4)
GREEDY_OF_ONE = greedy(np.ones((1, 2)))


def same(one: Records, other: Records) -> bool:
    """Whether the same happened to everybody."""
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name), equal_nan=True) for f in fields(Records))


def whole(arms: list[int], hours: float = 4.0, n: int = N, csas: int = J) -> Assigned:
    """The whole centre in one arm at a time."""
    arm = np.array(arms, np.int8)[:, None]
    return Assigned(np.arange(len(arm)) * hours * HOUR, arm, np.zeros(n, np.int32), np.repeat(arm, csas, axis=1))


def by_contact(unit: np.ndarray, staff: np.ndarray) -> Assigned:
    """Contacts of unit 0 in the control, of unit 1 in the treatment; staff (J,) or (B, J) by blocks of four hours."""
    staff = np.atleast_2d(staff).astype(np.int8)
    arm = np.tile(np.array([[CONTROL, TREATMENT]], np.int8), (len(staff), 1))
    return Assigned(np.arange(len(staff)) * 4 * HOUR, arm, unit.astype(np.int32), staff)


@pytest.mark.parametrize("arm", [CONTROL, TREATMENT])
@pytest.mark.parametrize("how", ["blocks", "pools", "shared"])
def test_everybody_in_one_arm_is_that_policy_alone(arm, how):
    of = {
        "blocks": whole([arm] * 12),
        "pools": by_contact(np.full(N, arm), np.full((12, J), arm)),
        "shared": by_contact(np.full(N, arm), np.full(J, SHARED)),
    }[how]
    alone = simulate(CENTRE, (fifo(), GREEDY)[arm], demand=DEMAND)
    assert same(simulate_arms(CENTRE, fifo(), GREEDY, of, demand=DEMAND), alone)


SKILLS = skills(np.where(CENTRE.can, 0, -1).astype(np.int8), (0.0,))


@pytest.mark.parametrize("rule", [fifo(), random(), p_mu(CENTRE), SKILLS], ids=lambda rule: rule.name)
def test_changing_between_a_policy_and_itself_changes_nothing(rule):
    changing = whole(np.random.default_rng(0).integers(0, 2, 24).tolist(), 2)
    assert same(simulate_arms(CENTRE, rule, rule, changing, demand=DEMAND), simulate(CENTRE, rule, demand=DEMAND))


def test_pools_are_two_centres():
    half = np.arange(J) % 2
    unit = np.random.default_rng(1).integers(0, 2, N)
    found = simulate_arms(CENTRE, fifo(), GREEDY, by_contact(unit, half), demand=DEMAND)
    first = found.row  # of the first contact, so that what comes of it is of the same unit
    for arm, rule in enumerate((fifo(), GREEDY)):
        own = np.where(half == arm, CENTRE.handle_s, 0.0)
        mine = unit == arm
        part = Demand(*(getattr(DEMAND, f.name)[mine] for f in fields(Demand)))
        alone = simulate(replace(CENTRE, handle_s=own), rule, demand=part)
        of = unit[first] == arm
        order, other = np.lexsort((found.arrival[of], first[of])), np.lexsort((alone.arrival, alone.row))
        for name in ("arrival", "kind", "csa", "start", "end", "status"):
            assert np.array_equal(getattr(found, name)[of][order], getattr(alone, name)[other], equal_nan=True)


def test_csas_take_contacts_of_their_arm_of_the_block():
    rng = np.random.default_rng(2)
    staff = np.array([rng.permutation(np.arange(J) % 2) for _ in range(12)])
    unit = rng.integers(0, 2, N)
    of = by_contact(unit, staff)
    found = simulate_arms(replace(CENTRE, repeats=None), fifo(), GREEDY, of, demand=DEMAND)
    taken = np.flatnonzero(found.csa != NOBODY)
    assert len(taken) > N / 2
    assert np.array_equal(staff[of.block_at(found.start[taken]), found.csa[taken]], unit[found.row[taken]])


def test_who_moves_to_a_pool_where_somebody_waits_takes_them_up_at_once():
    centre = single(2, 12, sigma=np.array([0.0]), handle_s=np.full((1, 2), 5 * HOUR))
    demand = at(centre, np.array([0.0, 10.0]), [0, 0], 0)
    of = by_contact(np.array([0, 0]), np.array([[0, 1], [0, 1], [0, 0]]))
    assert simulate_arms(centre, fifo(), GREEDY_OF_ONE, of, demand=demand).start.tolist() == [0.0, 5 * HOUR]
    sooner = replace(of, begins=np.array([0.0, HOUR, 2 * HOUR]))
    assert simulate_arms(centre, fifo(), GREEDY_OF_ONE, sooner, demand=demand).start.tolist() == [0.0, 2 * HOUR]


def test_who_waits_at_a_change_is_handled_by_the_new_arm():
    centre = single(1, 8)
    nobody = skills(np.full((1, 1), -1, np.int8), (0.0,))
    demand = at(centre, np.array([60.0, 120.0, HOUR + 1]), [0, 0, 0], 0)
    found = simulate_arms(centre, nobody, fifo(), whole([0, 1], 1, 3, 1), demand=demand)
    assert found.start[0] == HOUR
    assert found.start[1] == found.end[0]
    back = simulate_arms(centre, nobody, fifo(), whole([1, 0], 1, 3, 1), demand=demand)
    assert back.start[0] == 60.0
    assert back.csa[2] == NOBODY


def test_steps_of_overflow_open_for_who_waits_at_a_change():
    """The new arm's steps are looked at when they open, though nobody else comes or goes."""
    centre = single(1, 8)
    late = skills(np.full((1, 1), 1, np.int8), (0.0, 1800.0))
    nobody = skills(np.full((1, 1), -1, np.int8), (0.0,))
    demand = at(centre, np.array([HOUR - 60.0]), [0], 0)
    found = simulate_arms(centre, nobody, late, whole([0, 1], 1, 1, 1), demand=demand)
    assert found.start[0] == HOUR - 60.0 + 1800.0


def test_a_csa_of_both_serves_who_has_waited_longest():
    centre = single(1, 8, sigma=np.array([0.0]))
    demand = at(centre, np.array([0.0, 10.0, 20.0, 30.0]), [0, 0, 0, 0], 0)
    for unit in ([0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]):
        found = simulate_arms(centre, fifo(), random(), by_contact(np.array(unit), np.array([SHARED])), demand=demand)
        waits = np.argsort(found.start)
        # `random` may turn its own two round; arms take turns by who of all has waited longest.
        assert [unit[i] for i in waits] == unit


def test_the_other_arm_is_served_where_the_one_whose_turn_it_is_holds_back():
    centre = single(1, 8, sigma=np.array([0.0]))
    demand = at(centre, np.array([0.0, 10.0, 20.0]), [0, 0, 0], 0)
    late = skills(np.full((1, 1), 1, np.int8), (0.0, 1000.0))
    found = simulate_arms(centre, fifo(), late, by_contact(np.array([0, 1, 0]), np.array([SHARED])), demand=demand)
    assert found.start.tolist() == [0.0, 1010.0, found.end[0]]


def test_arrays_that_grow_change_nothing(monkeypatch):
    of = whole([0, 1] * 24, 1)
    centre = replace(CENTRE, repeats=np.full(3, 0.9))
    usual = simulate_arms(centre, fifo(), GREEDY, of, demand=DEMAND)
    monkeypatch.setattr(run, "ROOM", 1.0)
    assert same(simulate_arms(centre, fifo(), GREEDY, of, demand=DEMAND), usual)
    assert len(usual) > 1.25 * N + 64


def test_a_better_arm_takes_the_better_people_from_the_other_where_both_share_them():
    """Why contacts of one floor are not to be randomised one by one."""
    busy = skilled(0.9, 24 * 14)
    demand = poisson(busy, 3, 0)
    unit = np.random.default_rng(3).integers(0, 2, len(demand))
    best = greedy(busy.success, 1e-4)
    found = simulate_arms(busy, fifo(), best, by_contact(unit, np.full(J, SHARED)), demand=demand)
    control, treatment = (simulate(busy, rule, demand=demand) for rule in (fifo(), best))
    good = [np.mean((r.status == RESOLVED)[: len(demand)]) for r in (control, treatment)]
    share = [np.mean((found.status == RESOLVED)[: len(demand)][unit == arm]) for arm in (0, 1)]
    assert share[0] < good[0] - 0.005
    assert share[1] - share[0] > 1.3 * (good[1] - good[0])


def assigned(**other) -> Assigned:
    """One block, one unit, nobody assigned, with some fields changed."""
    usual = {"begins": np.zeros(1), "arm": np.zeros((1, 1), np.int8), "unit": np.zeros(N, np.int32),
             "staff": np.zeros((1, J), np.int8)}  # fmt: skip
    return Assigned(**(usual | other))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"begins": np.zeros(0)}, "begins: one or more ascending seconds"),
        ({"begins": np.array([0.0, 0.0])}, "begins: one or more ascending seconds"),
        ({"arm": np.zeros((2, 1), np.int8)}, "a row for each of 1 blocks"),
        ({"arm": np.full((1, 1), 2, np.int8)}, "arm: 0 and 1 expected"),
        ({"staff": np.full((1, J), 2, np.int8)}, "staff: 0, 1 and -1 expected"),
        ({"unit": np.ones(N, np.int32)}, "unit: 0 to 0 expected"),
    ],
)
def test_what_cannot_be_assigned_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        assigned(**wrong)


def test_what_does_not_fit_the_centre_is_refused():
    with pytest.raises(ConfigError, match=f"staff: 2 CSAs; {J} expected"):
        simulate_arms(CENTRE, fifo(), GREEDY, assigned(staff=np.zeros((1, 2), np.int8)), demand=DEMAND)
    with pytest.raises(ConfigError, match=f"unit: of 1 contacts; {N} expected"):
        simulate_arms(CENTRE, fifo(), GREEDY, assigned(unit=np.zeros(1, np.int32)), demand=DEMAND)
    with pytest.raises(ConfigError, match="policy decided is asked in Python at every decision and can be no arm"):
        simulate_arms(CENTRE, fifo(), decided(lambda: None), assigned(), demand=DEMAND)
