"""What must hold in any run, whatever the policy; and each thing that a centre can do, seen in its records."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from evaluation.simulate import policies
from evaluation.simulate.centre import Burnout, Centre, Learning, Patience, Shifts
from evaluation.simulate.demand import at, poisson
from evaluation.simulate.figures import figures, waits
from evaluation.simulate.policies import Choice, Rule, Vectors, View
from evaluation.simulate.run import Records, Truth, simulate
from evaluation.simulate.state import ABANDONED, NOBODY, OPEN, RESOLVED, TRANSFERRED, UNRESOLVED
from tests.evaluation.simulate.centres import HANDLE_S, single, skilled
from twotower.errors import ConfigError, TwoTowerError

LEVEL = np.array([[0 if j % 2 == k % 2 else 1 for j in range(10)] for k in range(3)], np.int8)


class FirstFits:
    """A rule in Python: contacts by age, each to the first CSA with room who can."""

    def __init__(self, centre: Centre) -> None:
        self.can = centre.can

    def __call__(self, view: View) -> Choice:
        room, pairs = dict(zip(view.csa.tolist(), view.room.tolist(), strict=True)), []
        for place, kind in enumerate(view.kind.tolist()):
            for csa in view.csa.tolist():
                if room[csa] and self.can[kind, csa] and view.barred[place] != csa:
                    room[csa] -= 1
                    pairs.append((place, csa))
                    break
        return Choice(np.array(pairs, np.int64).reshape(-1, 2))


def rules(centre: Centre) -> list[Rule]:
    value = np.where(centre.can, centre.success, 0.0)
    return [
        policies.fifo(), policies.random(), policies.skills(LEVEL, (0.0, 30.0)), policies.p_mu(centre),
        policies.c_mu(centre, np.ones(3)), policies.greedy(value, 1e-4),
        policies.greedy(value, 0.0, scanned=1, name="g1"),
        replace(policies.greedy(value, name="priced"), price=np.full(10, 0.5), hold_s=60.0),
        policies.decided(lambda: FirstFits(centre)),
        policies.decided(lambda: FirstFits(centre), 15.0, name="by a clock"),
    ]  # fmt: skip


FOLLOWED = {
    "repeats": np.array([0.5, 0.2, 0.0]), "delay_s": np.full(3, 900.0), "transfers": np.array([0.1, 0.0, 0.2]),
    "transfer_to": np.array([1, 0, 1]),
}  # fmt: skip
HALF = Shifts(np.repeat(np.arange(10), 2), np.tile([0.0, 7200.0], 10), np.tile([5400.0, 28800.0], 10))


def overlapping(records: Records, capacity: int) -> bool:
    """Whether some CSA ever had more contacts in hand than they take."""
    for csa in set(records.csa.tolist()) - {NOBODY}:
        of = records.csa == csa
        moments = np.concatenate([records.start[of], records.end[of]])
        change = np.repeat([1, -1], of.sum())
        order = np.lexsort((change, moments))
        if np.cumsum(change[order]).max() > capacity:
            return True
    return False


@pytest.mark.parametrize("place", range(10))
@pytest.mark.parametrize("more", [{}, FOLLOWED, {"shifts": HALF}, {"capacity": np.full(10, 3), "chats": 0.5}])
def test_nobody_is_in_two_places_and_nobody_is_lost(place: int, more: dict[str, np.ndarray]) -> None:
    centre = skilled(1.1, **more)
    records = simulate(centre, rules(centre)[place], seed=place)
    taken = records.csa != NOBODY
    assert taken.any()
    assert not overlapping(records, 3 if "capacity" in more else 1)
    assert centre.can[records.kind[taken], records.csa[taken]].all()
    assert (records.start[taken] >= records.arrival[taken]).all()
    assert (records.end[taken] > records.start[taken]).all()
    # Each contact ended in one way, and was taken unless it abandoned or was left over.
    assert set(records.status[taken].tolist()) <= {RESOLVED, UNRESOLVED, TRANSFERRED}
    assert set(records.status[~taken].tolist()) <= {ABANDONED, OPEN}
    assert len(poisson(centre, place, 0)) == (records.parent == NOBODY).sum()
    if "shifts" in more:
        within = (records.start[:, None] >= HALF.starts) & (records.start[:, None] < HALF.ends)
        assert (within & (records.csa[:, None] == HALF.csa)).any(axis=1)[taken].all()
    assert figures(centre, records).contacts == (records.arrival < centre.horizon_s).sum()


def test_no_contact_waits_while_somebody_who_can_take_it_is_idle() -> None:
    """Work is conserved by a policy that holds nothing back."""
    centre = skilled(0.8)
    records = simulate(centre, policies.fifo(), seed=5)
    waited = np.flatnonzero((records.csa != NOBODY) & (waits(records) > 0))
    for contact in waited[:200]:
        at_arrival = (records.start <= records.arrival[contact]) & (records.end > records.arrival[contact])
        busy = set(records.csa[at_arrival].tolist())
        assert set(np.flatnonzero(centre.can[records.kind[contact]]).tolist()) <= busy


def test_first_come_first_served_and_longest_idle() -> None:
    centre = single(3, 20, an_hour=55.0)
    records = simulate(centre, policies.fifo(), seed=1)
    assert (np.diff(records.start) >= 0).all()
    last = dict.fromkeys(range(3), 0.0)
    for contact in range(len(records)):
        if waits(records)[contact] == 0 and contact > 3:
            idle = {csa: at for csa, at in last.items() if at <= records.start[contact]}
            assert records.csa[contact] == min(idle, key=lambda csa: idle[csa])
        last[int(records.csa[contact])] = records.end[contact]


def test_the_same_seed_is_the_same_run_and_another_is_another() -> None:
    centre = skilled(**FOLLOWED)
    one, two, other = (simulate(centre, policies.fifo(), seed=s) for s in (3, 3, 4))
    for name in ("arrival", "csa", "start", "end", "status"):
        assert np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True)
    assert not np.array_equal(one.arrival, other.arrival)


def test_a_contact_has_the_same_luck_under_every_policy() -> None:
    centre = single(12, 50, success=np.full((1, 12), 0.5))
    first, second = (simulate(centre, rule, seed=2) for rule in (policies.fifo(), policies.random()))
    assert np.array_equal(first.arrival, second.arrival)
    assert not np.array_equal(first.csa, second.csa)
    assert np.array_equal(first.status, second.status)
    assert (first.end - first.start) == pytest.approx(second.end - second.start)


def test_repeats_come_back_and_have_an_end() -> None:
    centre = single(20, 100, repeats=np.array([0.6]), delay_s=np.array([1000.0]))
    records = simulate(centre, policies.fifo())
    again = records.parent != NOBODY
    parents = records.parent[again]
    assert (records.status[parents] == UNRESOLVED).all()
    share = again.sum() / (records.status == UNRESOLVED).sum()
    assert share == pytest.approx(0.6, abs=0.03)
    assert (records.arrival[again] - records.end[parents]).mean() == pytest.approx(1000, rel=0.1)
    assert np.array_equal(records.row[again], records.row[parents])


def test_a_transfer_goes_to_another_csa_and_class_at_once() -> None:
    centre = skilled(0.5, transfers=np.array([0.3, 0.0, 0.0]), transfer_to=np.array([1, 0, 0]))
    records = simulate(centre, policies.fifo())
    on = np.flatnonzero(records.parent != NOBODY)
    before = records.parent[on]
    assert len(on) > 20
    assert (records.kind[on] == 1).all()
    assert (records.kind[before] == 0).all()
    assert np.array_equal(records.arrival[on], records.end[before])
    assert (records.csa[on] != records.csa[before]).all()


def test_beginners_resolve_less_and_take_longer_until_they_have_learnt() -> None:
    centre = single(4, 200, an_hour=60.0, experience=np.array([0.0, 1e9, 1e9, 1e9]), learning=Learning(3.0, 1.0, 300.0))
    records = simulate(centre, policies.fifo())
    mine = np.flatnonzero(records.csa == 0)
    early, late, others = mine[:300], mine[-1000:], np.flatnonzero(records.csa == 1)
    took, good = records.end - records.start, records.status == RESOLVED
    assert good[early].mean() < 0.3 < 0.45 < good[late].mean()
    assert took[early].mean() > 1.4 * took[others].mean()
    assert took[late].mean() == pytest.approx(took[others].mean(), rel=0.15)


def test_strain_costs_what_it_costs_only_under_load() -> None:
    def resolved(an_hour: float) -> float:
        burnout = Burnout(tau_s=3600.0, threshold=0.7, harm=2.0, tired=0.3)
        centre = single(5, 200, Patience("exponential", 300), an_hour, burnout=burnout)
        return figures(centre, simulate(centre, policies.fifo()), 7200.0).resolved

    calm = single(5, 200, Patience("exponential", 300), 30.0)
    assert resolved(30.0) == pytest.approx(figures(calm, simulate(calm, policies.fifo()), 7200.0).resolved, abs=0.02)
    assert resolved(140.0) < 0.33


def test_several_chats_at_once_take_longer_each() -> None:
    alone = single(2, 100, an_hour=60.0)
    three = replace(alone, capacity=np.full(2, 3), chats=0.4)
    one, many = (figures(c, simulate(c, policies.fifo())) for c in (alone, three))
    assert many.mean_wait_s < one.mean_wait_s
    assert many.handle_s > 1.2 * one.handle_s
    assert many.occupancy <= 1


def test_overflow_opens_by_steps() -> None:
    centre = single(2, 40, an_hour=25.0)
    level = np.array([[0, 1]], np.int8)
    records = simulate(centre, policies.skills(level, (0.0, 45.0)))
    second = records.csa == 1
    assert second.any()
    assert (waits(records)[second] >= 45.0 - 1e-6).all()
    at_once = waits(records)[second] < 45.0 + 1e-6
    assert at_once.any(), "nobody overflowed while the second CSA was idle"


def test_a_price_keeps_a_scarce_csa_until_the_contact_was_held_long_enough() -> None:
    centre = single(2, 40, an_hour=25.0)
    rule = replace(policies.greedy(np.array([[0.5, 0.5]])), price=np.array([0.0, 0.6]), hold_s=40.0)
    records = simulate(centre, rule)
    second = records.csa == 1
    assert second.any()
    assert (waits(records)[second] >= 40.0 - 1e-6).all()


def test_vectors_decide_who_gets_whom_and_what_is_true() -> None:
    centre = single(2, 50, an_hour=10.0, success=np.full((1, 2), 0.5))
    n = len(poisson(centre, 0, 0))
    taste = np.where(np.arange(n) % 2 == 0, 4.0, -4.0).astype(np.float32)[:, None]
    vectors = Vectors(taste, np.array([[1.0], [-1.0]], np.float32))
    rule = policies.greedy(np.zeros((1, 2)), vectors=vectors)
    records = simulate(centre, rule, truth=Truth(vectors))
    at_once = waits(records) == 0
    free_both = at_once & (records.csa == np.arange(n) % 2)
    assert free_both.mean() > 0.8
    assert (records.status[free_both] == RESOLVED).mean() > 0.95
    assert (records.status[records.csa != np.arange(n) % 2] == RESOLVED).mean() < 0.1


def test_after_call_work_keeps_a_csa_from_the_next_contact_and_is_in_no_handling_time() -> None:
    after = np.linspace(20.0, 40.0, 5)[None, None, :]
    centre = single(1, 100, an_hour=25.0, sigma=np.array([0.0]), after_s=after, repeats=np.array([0.3]))
    records = simulate(centre, policies.fifo())
    order = np.argsort(records.start)
    gap = records.start[order][1:] - records.end[order][:-1]
    assert (gap >= 20.0 - 1e-6).all()
    waited = waits(records)[order][1:] > 1e-6
    assert gap[waited].max() <= 40.0 + 1e-6
    assert gap[waited].mean() == pytest.approx(30.0, abs=0.5)
    assert (records.end - records.start) == pytest.approx(HANDLE_S)
    again = records.parent != NOBODY
    assert (records.arrival[again] > records.end[records.parent[again]]).all()


def test_after_call_work_is_shorter_while_others_wait() -> None:
    after = np.array([[[60.0, 60.0]], [[5.0, 5.0]]])
    centre = single(1, 100, Patience("exponential", 500), 14.0, after_s=after, after_waiting=(0, 2))
    records = simulate(centre, policies.fifo())
    taken = np.flatnonzero(records.csa != NOBODY)
    taken = taken[np.argsort(records.start[taken])]
    leaves = np.where(records.csa != NOBODY, records.start, records.end)
    seen = set()
    for one, following in pairwise(taken.tolist()):
        ended = records.end[one]
        waiting = int(((records.arrival < ended) & (leaves > ended)).sum())
        expected = 5.0 if waiting >= 2 else 60.0
        seen.add(expected)
        if waits(records)[following] > 0:
            assert records.start[following] - ended == pytest.approx(expected)
    assert seen == {5.0, 60.0}


def test_the_pace_of_an_interval_holds_for_contacts_taken_in_it() -> None:
    pace, after = np.tile([1.0, 3.0], 20), np.full((1, 1, 2), 20.0)
    centre = single(1, 20, an_hour=9.0, sigma=np.array([0.0]), pace=pace, after_s=after, after_pace=1 / pace)
    records = simulate(centre, policies.fifo())
    ends, queued = records.end[:-1], (waits(records)[1:] > 0) & (records.end[:-1] < centre.horizon_s)
    work = 20.0 / pace[(ends[queued] / centre.interval_s).astype(int)]
    assert (records.start[1:] - ends)[queued] == pytest.approx(work)
    within = records.start < centre.horizon_s
    expected = HANDLE_S * pace[(records.start[within] / centre.interval_s).astype(int)]
    assert (records.end - records.start)[within] == pytest.approx(expected)


def test_a_head_start_counts_as_time_waited_in_the_order_of_queues() -> None:
    centre = skilled(3.0, head_start_s=np.array([90.0, 0.0, 0.0]))
    everybody = replace(centre, handle_s=np.full((3, 10), 300.0), success=np.full((3, 10), 0.5))
    records = simulate(everybody, policies.fifo(), seed=3)
    since = records.arrival - np.where(records.kind == 0, 90.0, 0.0)
    found = np.flatnonzero((records.csa != NOBODY) & (waits(records) > 0))
    for contact in found[::10]:
        start = records.start[contact]
        leaves = np.where(records.csa != NOBODY, records.start, records.end)
        waiting = (records.arrival < start) & (leaves > start)
        assert not (since[waiting] < since[contact] - 1e-9).any()
    even = waits(simulate(replace(everybody, head_start_s=None), policies.fifo(), seed=3))
    assert np.nanmean(waits(records)[records.kind == 0]) < np.nanmean(even[records.kind == 0])


def test_moments_of_a_log_are_kept() -> None:
    centre = skilled()
    demand = at(centre, np.array([1.0, 1.0, 5000.0]), [0, 2, 1], seed=0)
    records = simulate(centre, policies.fifo(), demand=demand)
    assert records.arrival.tolist() == [1.0, 1.0, 5000.0]
    assert records.kind.tolist() == [0, 2, 1]


def test_with_nobody_there_all_abandon_or_are_left_over() -> None:
    nobody = single(0, 2, Patience("constant", 60.0))
    records = simulate(nobody, policies.fifo())
    assert (records.status == ABANDONED).all()
    assert waits(records) == pytest.approx(60.0)
    left = simulate(single(0, 2), policies.fifo())
    assert (left.status == OPEN).all()
    assert figures(single(0, 2), left).left_over == 1.0


def test_a_class_that_nobody_can_take_waits_and_is_named() -> None:
    centre = single(3, 4, Patience("constant", 60.0))
    orphan = replace(
        centre, classes=("call", "orphan"), rates=np.repeat(centre.rates, 2, axis=0), sigma=np.array([0.8, 0.8]),
        handle_s=np.vstack([centre.handle_s, np.zeros(3)]), success=np.vstack([centre.success, np.zeros(3)]),
    )  # fmt: skip
    assert orphan.unserved() == ("orphan",)
    records = simulate(orphan, policies.fifo())
    assert (records.status[records.kind == 1] == ABANDONED).all()


class Wrong:
    def __init__(self, pairs: list[tuple[int, int]], again_s: float = np.inf) -> None:
        self.choice = Choice(np.array(pairs), again_s)

    def __call__(self, view: View) -> Choice:
        return self.choice


@pytest.mark.parametrize(
    ("pairs", "again_s", "said"),
    [
        ([(0, 99)], np.inf, "chose contact 0 and CSA 99"),
        ([(7, 0)], np.inf, "chose contact 7"),
        ([(0, 0), (0, 1)], np.inf, "to two CSAs"),
        ([], 0.0, "asked again after 0.0 s; more than 0"),
    ],
)
def test_a_rule_that_cannot_be_is_named(pairs: list[tuple[int, int]], again_s: float, said: str) -> None:
    with pytest.raises(TwoTowerError, match=said):
        simulate(single(3, 2), policies.decided(lambda: Wrong(pairs, again_s)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rates": np.array([[5.0, -1.0]])}, r"centre.rates\[0, 1\]: -1.0; 0 to inf"),
        ({"handle_s": np.full((1, 3), -2.0)}, r"centre.handle_s\[0, 0\]: -2.0"),
        ({"handle_s": np.full((1, 3), np.inf)}, "handle_s: not finite"),
        ({"success": np.full((1, 3), 1.5)}, r"success\[0, 0\]: 1.5; 0 to 1"),
        ({"success": np.full((2, 3), 0.5)}, r"success: shape \(2, 3\); \(1, 3\)"),
        ({"interval_s": 0.0}, "interval_s: 0.0 seconds"),
        ({"capacity": np.array([1, 0, 1])}, r"capacity\[1\]: 0; 1 to inf"),
        ({"head_start_s": np.array([-1.0])}, r"head_start_s\[0\]: -1.0"),
        ({"pace": np.array([1.0, 0.0])}, r"pace\[1\]: 0.0; 0.001 to 1000"),
        ({"after_s": np.array([[[0.0, 5.0]]])}, r"after_s: \(1, 3, 2 or more\) seconds"),
        ({"after_s": np.array([[[0.0, 5.0], [3.0, 2.0], [0.0, 1.0]]])}, "after_s: ascending seconds"),
        ({"after_s": np.zeros((2, 3, 2)), "after_waiting": (0, 0)}, r"after_waiting: \(0, 0\); ascending"),
        ({"repeats": np.array([1.0]), "success": np.zeros((1, 3))}, "has no end"),
        ({"transfers": np.array([0.5])}, "transfer_to"),
        ({"patience": (Patience(), Patience())}, "patience: 2 given"),
        ({"shifts": Shifts(np.array([5]), np.array([0.0]), np.array([9.0]))}, r"shifts\[0\]: CSA 5"),
        ({"shifts": Shifts(np.array([1]), np.array([9.0]), np.array([3.0]))}, "from 9 s to 3 s"),
        (
            {"shifts": Shifts(np.array([1, 1]), np.array([0.0, 5]), np.array([9.0, 12]))},
            "two shifts of A1 overlap at 5",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(single(3, 1), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("patience", "said"),
    [
        ({"kind": "sometimes"}, "never, constant, exponential"),
        ({"kind": "exponential", "mean_s": -3.0}, "mean_s: -3.0"),
        ({"kind": "quantiles", "table": (5.0, 3.0)}, "ascending"),
    ],
)
def test_patience_that_cannot_be_is_refused(patience: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Patience(**patience)  # type: ignore[arg-type]


def test_shifts_that_touch_are_one() -> None:
    shifts = Shifts(np.array([0, 0, 1]), np.array([3600.0, 0.0, 0.0]), np.array([7200.0, 3600.0, 7200.0]))
    assert shifts.joined().starts.tolist() == [0.0, 0.0]
    centre = single(2, 2, shifts=shifts, an_hour=30.0)
    records = simulate(centre, policies.fifo())
    assert ((records.csa == 0) & (records.start > 3700)).any()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("exponential", 120.0), ("lognormal", 120.0), ("constant", 120.0), ("quantiles", 50.0)],
)
def test_patience_is_as_long_as_it_says(kind: str, expected: float) -> None:
    patience = Patience(kind, 120.0, table=(0.0, 50.0, 100.0))  # type: ignore[arg-type]
    centre = single(1, 300, patience)
    assert poisson(centre, 0, 0).patience.mean() == pytest.approx(expected, rel=0.05)
