"""Schedules are as the seed draws them, balanced, within their constraints, and one of those that could be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.experiment.frame import CONTROL, OUT, SCHEDULE, TREATMENT
from evaluation.experiment.plan import Plan
from evaluation.experiment.schedule import (
    ALIKE,
    ALONE,
    balanced,
    blocks_of,
    customer_arms,
    draw,
    place,
    redraws,
    spans_of,
    units_of,
)
from twotower.clock import DAY, HOUR, parse_time
from twotower.errors import ConfigError

BEGINS = "2026-03-02T00:00:00Z"  # a Monday
CENTRE = ("centre",)


def plan(days: float = 14, **other: Any) -> Plan:
    """A switchback in blocks of four hours."""
    ends = pd.Timestamp(BEGINS) + pd.Timedelta(days=days)
    usual: dict[str, Any] = {
        "name": "t", "hypothesis": "h", "design": "switchback", "unit": "centre", "begins": BEGINS,
        "ends": ends.isoformat(), "control": {"name": "queue", "policies": ["fifo"]},
        "treatment": {"name": "matcher", "policies": ["match"]}, "block_hours": 4.0,
        "primary": {"smallest_effect": 0.01},
    }  # fmt: skip
    return Plan.model_validate(usual | other)


def arms(schedule: pd.DataFrame) -> np.ndarray:
    """(S,) 1: treatment."""
    return (schedule["arm"] == "matcher").to_numpy().astype(int)


def test_a_schedule_has_the_columns_of_the_contract_and_covers_the_time():
    found = draw(plan(), CENTRE)
    assert list(found.columns) == list(SCHEDULE)
    assert str(found["begins_at"].dtype) == "datetime64[us, UTC]"
    assert found["pair"].dtype == np.int64
    assert len(found) == 84
    assert (found["begins_at"][1:].to_numpy() == found["ends_at"][:-1].to_numpy()).all()
    assert found["begins_at"][0] == pd.Timestamp(BEGINS)
    assert set(found["unit"]) == {"centre"}


def test_the_seed_decides_and_nothing_else():
    assert draw(plan(seed=1), CENTRE).equals(draw(plan(seed=1), CENTRE))
    assert not draw(plan(seed=1), CENTRE).equals(draw(plan(seed=2), CENTRE))
    assert draw(plan(seed=1), CENTRE, seed=2).equals(draw(plan(seed=2), CENTRE))
    assert np.array_equal(redraws(plan(), CENTRE, 50), redraws(plan(), CENTRE, 50))


@pytest.mark.parametrize("weeks", [2, 4])
def test_whole_weeks_pair_the_same_slot_of_two_weeks(weeks):
    found = draw(plan(7 * weeks), CENTRE)
    for _, pair in found.groupby("pair"):
        assert sorted(pair["arm"]) == ["matcher", "queue"]
        assert pair["begins_at"].diff().iloc[1] == pd.Timedelta(days=7)
    assert ALONE not in set(found["pair"])


def test_one_week_pairs_the_same_hours_of_days_of_a_kind():
    found = draw(plan(7), CENTRE)
    assert arms(found).sum() == 21
    days = [sorted(pair["begins_at"].dt.day_of_week) for _, pair in found.groupby("pair")]
    hours = [pair["begins_at"].dt.hour.nunique() for _, pair in found.groupby("pair")]
    # Five working days leave Friday over, whose blocks pair with each other.
    assert days.count([0, 1]) == days.count([2, 3]) == days.count([5, 6]) == 6
    assert days.count([4, 4]) == 3
    assert hours.count(1) == 18


@settings(max_examples=40)
@given(st.integers(1, 60), st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0, 24.0]), st.integers(0, 9), st.booleans())
def test_every_schedule_is_balanced_within_a_block(blocks, hours, seed, sites):
    units = ("north", "south") if sites else CENTRE
    of = plan(blocks * hours / 24, block_hours=hours, seed=seed, unit="site" if sites else "centre")
    found = draw(of, units)
    assert len(found) == blocks * len(units)
    for _, unit in found.groupby("unit"):
        assert abs(2 * arms(unit).sum() - len(unit)) <= 1
    pairs = found[found["pair"] != ALONE].groupby("pair")
    assert (pairs.size() == 2).all()
    assert (pairs["unit"].nunique() == 1).all()
    assert (pairs["arm"].nunique() == 2).all()


def test_redraws_are_of_the_same_lottery_as_the_schedule():
    of = plan(14, most_in_a_row=3)
    many, spans = redraws(of, CENTRE, 2000), spans_of(of, CENTRE)
    assert many.shape == (2000, 84)
    assert set(np.unique(many)) == {0, 1}
    # Every span is as likely of either arm; of a pair one is of each.
    assert np.all(np.abs(many.mean(axis=0) - 0.5) < 4.5 * 0.5 / np.sqrt(2000))
    for pair in range(spans.pair.max() + 1):
        assert np.all(many[:, spans.pair == pair].sum(axis=1) == 1)
    drawn = np.array([arms(draw(of, CENTRE, seed)) for seed in range(150)])
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(150)
    # The first two blocks agree as often in the one as in the other.
    agree = [np.mean(one[:, 0] == one[:, 1]) for one in (many, drawn)]
    assert abs(agree[0] - agree[1]) < 4 * 0.5 / np.sqrt(150)


@pytest.mark.parametrize("balance", ["pairs", "none"])
@pytest.mark.parametrize("days", [7, 14, 21])
def test_no_arm_holds_for_longer_than_allowed(balance, days):
    many = redraws(plan(days, most_in_a_row=3, balance=balance), CENTRE, 500)
    longest = np.lib.stride_tricks.sliding_window_view(many, 4, axis=1).sum(axis=2)
    assert np.all((longest > 0) & (longest < 4))
    free = redraws(plan(days, balance=balance), CENTRE, 500)
    assert np.any(np.lib.stride_tricks.sliding_window_view(free, 4, axis=1).sum(axis=2) == 4)


def test_a_constraint_that_leaves_no_schedule_is_one_line():
    # Days of one block in pairs of Monday and Tuesday, Wednesday and Thursday: alternating is possible …
    assert arms(draw(plan(4, block_hours=24, most_in_a_row=1), CENTRE)).sum() == 2
    # … but not where a pair lies a week apart and weeks have an even number of blocks.
    with pytest.raises(ConfigError, match="most_in_a_row: 1 blocks of an arm in a row leave hardly any schedule"):
        draw(plan(14, block_hours=12, most_in_a_row=1), CENTRE)


def test_without_pairs_the_share_is_kept_exactly():
    many = redraws(plan(14, balance="none", share=0.25), CENTRE, 200)
    assert np.all(many.sum(axis=1) == 21)
    sites = tuple(f"s{i}" for i in range(9))
    of = plan(28, design="cluster", unit="site", block_hours=None, balance="none", share=0.34)
    assert np.all(redraws(of, sites, 200).sum(axis=1) == 3)


def test_clusters_that_are_neighbours_in_their_past_get_different_arms():
    sites = ("oslo", "bari", "lyon", "kiel", "graz")
    of = plan(28, design="cluster", unit="site", block_hours=None)
    found = draw(of, sites)
    assert len(found) == 5
    by = found.set_index("unit")
    assert by.loc["oslo", "pair"] == by.loc["bari", "pair"] != by.loc["lyon", "pair"] == by.loc["kiel", "pair"]
    assert by.loc["graz", "pair"] == ALONE
    assert by.loc["oslo", "arm"] != by.loc["bari", "arm"]
    again = spans_of(of, units_of(found))
    assert np.array_equal(again.pair, spans_of(of, sites).pair)


def test_pools_of_csas_are_drawn_anew_in_every_block():
    csas = tuple(f"a{i}" for i in range(10))
    of = plan(7, design="customer", unit="csa", block_hours=24.0)
    found = draw(of, csas)
    assert len(found) == 70
    wide = found.pivot(index="begins_at", columns="unit", values="arm") == "matcher"
    assert (wide.sum(axis=1) == 5).all()
    assert len(wide.drop_duplicates()) > 4
    assert (wide["a0"] != wide["a1"]).all()


def test_customers_stay_in_their_arm_and_split_as_the_share_says():
    ids = [f"k{i}" for i in range(20000)]
    of = plan(design="customer", unit="csa", share=0.3, balance="none")
    found = customer_arms(of, ids)
    assert np.array_equal(found, customer_arms(of, ids))
    assert abs(found.mean() - 0.3) < 4 * np.sqrt(0.21 / 20000)
    other = customer_arms(plan(design="customer", unit="csa", share=0.3, balance="none", seed=1), ids)
    assert abs(np.corrcoef(found, other)[0, 1]) < 4 / np.sqrt(20000)


def test_a_salt_gives_both_arms_customers_who_called_alike_often():
    ids = [f"k{i}" for i in range(2000)]
    often = np.round(20_000 / (np.arange(2000) + 20.0)).astype(np.int64)
    apart = []
    for seed in range(6):
        of = plan(design="customer", unit="csa", seed=seed)
        found, share = balanced(of, ids, often)
        assert share == pytest.approx(often[customer_arms(found, ids) == 1].sum() / often.sum())
        assert abs(share - 0.5) <= ALIKE
        assert found.model_copy(update={"salt": 0}) == of
        apart.append(abs(often[customer_arms(of, ids) == 1].sum() / often.sum() - 0.5))
    assert max(apart) > 2 * ALIKE


def test_blocks_that_meet_a_pause_are_left_out():
    pause = {"begins": "2026-03-04T06:00:00Z", "ends": "2026-03-05T00:00:00Z"}
    begins, _ = blocks_of(plan(7, pauses=[pause]))
    left = set(blocks_of(plan(7))[0].tolist()) - set(begins.tolist())
    first = parse_time(BEGINS)
    assert left == {first + 2 * DAY + hour * HOUR for hour in (4, 8, 12, 16, 20)}
    with pytest.raises(ConfigError, match="pauses: no block is left"):
        draw(plan(1, pauses=[{"begins": BEGINS, "ends": "2026-03-03T00:00:00Z"}]), CENTRE)


def test_contacts_fall_into_their_span_and_those_soon_after_a_change_do_not_count():
    of = plan(1, wash_out_minutes=30)
    schedule = draw(of, CENTRE)
    schedule["arm"] = ["queue", "queue", "matcher", "matcher", "queue", "matcher"]
    first = parse_time(BEGINS)
    hours = np.array([-1.0, 0.1, 4.1, 8.1, 8.5, 12.1, 16.1, 20.1, 23.9, 24.0])
    at = (first + hours * HOUR).astype(np.int64)
    found = place(of, schedule, at, np.full(len(at), "centre", object))
    assert found.block.tolist() == [-1, 0, 1, 2, 2, 3, 4, 5, 5, -1]
    assert found.arm.tolist() == [OUT, CONTROL, CONTROL, *[TREATMENT] * 3, CONTROL, TREATMENT, TREATMENT, OUT]
    # The control held before the experiment, so its first block is no change.
    assert found.washed.tolist() == [False, False, False, True, False, False, True, True, False, False]


def test_after_a_pause_an_arm_begins_anew():
    of = plan(1, wash_out_minutes=60, pauses=[{"begins": "2026-03-02T08:00:00Z", "ends": "2026-03-02T12:00:00Z"}])
    schedule = draw(of, CENTRE)
    schedule["arm"] = ["matcher"] * 5
    at = (parse_time(BEGINS) + np.array([0.5, 4.5, 10.0, 12.5, 16.5]) * HOUR).astype(np.int64)
    found = place(of, schedule, at, np.full(5, "centre", object))
    assert found.arm.tolist() == [TREATMENT, TREATMENT, OUT, TREATMENT, TREATMENT]
    assert found.washed.tolist() == [True, False, False, True, False]


def test_units_of_sites_teams_and_pools_are_their_own():
    first = parse_time(BEGINS)
    of = plan(28, design="cluster", unit="site", block_hours=None, wash_out_minutes=60)
    schedule = draw(of, ("a", "b"))
    unit = np.array(["a", "b", "c", "a"], object)
    found = place(of, schedule, np.array([first, first + 2 * HOUR, first, first + 40 * DAY]), unit)
    assert found.block.tolist() == [0, 1, -1, -1]
    assert sorted(found.arm[:2].tolist()) == [CONTROL, TREATMENT]
    assert found.arm[2:].tolist() == [OUT, OUT]
    assert found.washed.tolist() == [True, False, False, False]
    pools = plan(2, design="customer", unit="csa", block_hours=24.0)
    at, arm = np.array([first + HOUR, first + 25 * HOUR]), np.array(["queue", "matcher"], object)
    found = place(pools, draw(pools, ("x", "y", "z")), at, arm)
    assert found.block.tolist() == [0, 1]
    assert found.arm.tolist() == [CONTROL, TREATMENT]


@pytest.mark.parametrize(
    ("units", "other", "said"),
    [
        ((), {}, "no centre to draw an arm for"),
        (("a", "b"), {}, "2 units given; the whole centre is one"),
        (("a", "a"), {"unit": "site"}, "the site 'a' is there twice"),
        (("a",), {"design": "cluster", "unit": "site", "block_hours": None}, "a single site cannot be in two arms"),
        (("a",), {"design": "customer", "unit": "csa"}, "a single csa cannot be in two arms"),
    ],
)
def test_units_that_cannot_be_are_one_line(units, other, said):
    with pytest.raises(ConfigError, match=said):
        draw(plan(**other), units)


def rail(metric: str, better: str) -> dict[str, Any]:
    return {"metric": metric, "better": better, "margin": 0.1}


CLUSTER = {"design": "cluster", "unit": "site", "block_hours": None}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"share": 0.3}, "share: 0.3; balance: pairs gives each arm one of a pair"),
        ({"most_in_a_row": 2, **CLUSTER}, "most_in_a_row: of a switchback"),
        ({"pauses": [{"begins": BEGINS, "ends": BEGINS}]}, "pauses: .* is not before"),
        ({"control": {"name": "matcher", "policies": ["queue"]}}, "both are 'matcher'; two names expected"),
        ({"control": {"name": "queue", "policies": ["match"]}}, "the same policy is in both, 'match'"),
        ({"control": {"name": "queue", "policies": [""]}}, "at least 1 character"),
        ({"wash_out_minutes": 240.0}, "wash_out_minutes: 240 leaves nothing of a block of 240 minutes"),
        ({"wash_out_minutes": 20_160.0, **CLUSTER}, "leaves nothing of a block of 20160 minutes"),
        ({"guardrails": [rail("resolved", "higher")]}, "guardrails: resolved is the primary metric"),
        ({"guardrails": [rail("wait_s", "lower")] * 2}, "guardrails: wait_s is there twice"),
        ({"guardrails": [rail("wait_s", "higher")]}, "better: higher; wait_s is better when lower"),
        ({"guardrails": [rail("csat", "lower")]}, "better: lower; csat is better when higher"),
        ({"secondary": ["csat", "resolved"]}, "secondary: resolved is the primary metric"),
        ({"secondary": ["csat", "quality", "csat"]}, "secondary: csat is there twice"),
    ],
)  # fmt: skip
def test_plans_that_cannot_be_are_refused(other, said):
    with pytest.raises(ValueError, match=said):
        plan(**other)


def test_people_may_guard_against_idleness_and_rushed_contacts():
    rails = [rail("occupancy", "higher"), rail("handle_minutes", "higher")]
    assert [one.better for one in plan(guardrails=rails).guardrails] == ["higher", "higher"]


def test_a_wash_out_may_be_all_of_a_block_but_a_minute():
    assert plan(wash_out_minutes=239.0).wash_out_minutes == 239
