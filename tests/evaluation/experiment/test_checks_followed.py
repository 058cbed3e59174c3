"""Whether the schedule was followed: by whose policy hand-overs were, and whose they may be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.experiment.checks import policy_arms
from tests.evaluation.experiment.made import Made, World, make, plan_of
from tests.evaluation.experiment.told import refused, said_of
from twotower.clock import parse_time


def wrong_policy(made: Made, kept: np.ndarray) -> Made:
    """Hand-overs of some contacts by the other arm's policy."""
    policy = np.where(made.frame["arm"] == 1, "fifo", "bundle-7")
    return made.changed(policy=np.where(kept, policy, made.frame["policy"]))


def test_a_schedule_that_was_not_followed_names_the_worst_block():
    made = make(plan_of())
    worst = made.frame["block"] == 40
    some = np.random.default_rng(0).random(len(made.frame)) < 0.03
    line = refused(wrong_policy(made, (worst | some).to_numpy()))
    when = made.frame.loc[worst, "arrived_at"].min()
    block = pd.Timestamp(parse_time(made.plan.begins) + int((when.value / 1e3 - parse_time(made.plan.begins)) //
                         (4 * 3600e6)) * 4 * 3_600_000_000, unit="us")  # fmt: skip
    assert line.startswith("the schedule was not followed: ")
    assert "at most 2.00% tolerated; worst is centre from " + block.strftime("%Y-%m-%dT%H:%M:%SZ") in line


def test_one_block_that_was_surely_not_followed_is_enough():
    made = make(plan_of(), World(contacts=8000))
    big = made.frame[~made.frame["washed"]]["block"].value_counts().index[0]
    some = (made.frame["block"] == big) & (np.arange(len(made.frame)) % 3 == 0)
    assert some.mean() < 0.02
    assert "the schedule was not followed" in refused(wrong_policy(made, some.to_numpy()))


def test_what_the_plan_tolerates_passes():
    made = make(plan_of(not_followed=0.08))
    some = np.random.default_rng(0).random(len(made.frame)) < 0.05
    assert said_of(wrong_policy(made, some)).refusals == ()


def test_hand_overs_in_the_wash_out_may_be_of_either_policy():
    made = make(plan_of())
    assert said_of(wrong_policy(made, made.frame["washed"].to_numpy())).refusals == ()


def test_who_waits_across_a_change_of_arm_is_taken_by_the_policy_that_holds_then():
    made = make(plan_of())
    begins = made.schedule["begins_at"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    arms = (made.schedule["arm"] == made.plan.treatment.name).to_numpy()
    arrived = made.frame["arrived_at"].astype("int64").to_numpy()
    block = np.searchsorted(begins, arrived, side="right") - 1
    after = np.minimum(block + 1, len(begins) - 1)
    late = (begins[after] - arrived < 30 * 60e6) & (arms[after] != arms[block])
    assert 0.03 < late.mean() < 0.2
    assert "the schedule was not followed" in refused(wrong_policy(made, late))
    waited = made.changed(wait_s=np.where(late, 3600.0, made.frame["wait_s"]))
    assert said_of(wrong_policy(waited, late)).refusals == ()


def test_policies_that_nobody_planned_are_refused():
    made = make(plan_of())
    line = refused(made.changed(policy="a person"))
    assert line.startswith("no hand-over in arm 'queue' is by fifo; there are a person; correct")
    half = made.changed(policy=np.where(made.frame["arm"] == 1, "bundle-8", "a person"))
    assert refused(half) == line


def test_no_policies_at_all_cannot_be_checked_and_that_is_said():
    found = said_of(make(plan_of()).changed(policy=None))
    assert found.refusals == ()
    assert any(one.status == "note" and "cannot be checked" in one.said for one in found.checks)


def test_hand_overs_that_do_not_say_which_policy_chose_are_said():
    made = make(plan_of())
    few = said_of(made.changed(policy=made.frame["policy"].where(np.arange(len(made.frame)) % 4 == 0)))
    [note] = [one for one in few.checks if one.name == "policies"]
    assert note.status == "note"
    assert "75% of hand-overs in arm 'queue' and 75% in arm 'matched' do not say which policy chose" in note.said
    assert few.refusals == ()


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
@pytest.mark.parametrize(("share", "good"), [(0.9, False), (0.03, False), (0.01, True)])
def test_hand_overs_of_one_arm_by_policies_of_neither_are_refused(design, share, good):
    """The rest follows the schedule, so that none is by the other arm's policy."""
    made = make(plan_of(design))
    some = (np.random.default_rng(0).random(len(made.frame)) < share) & (made.frame["arm"] == 1)
    manual = made.changed(policy=np.where(some, "manual", made.frame["policy"]))
    if good:
        assert said_of(manual).refusals == ()
        return
    line = refused(manual)
    assert line.startswith("0.00% of hand-overs in arm 'queue' and ")
    assert "are by policies of neither, at most 2.00% tolerated; there are manual; worst is " in line


def test_a_block_that_a_policy_of_neither_arm_had_is_enough():
    made = make(plan_of(), World(contacts=8000))
    big = made.frame[~made.frame["washed"]]["block"].value_counts().index[0]
    some = (made.frame["block"] == big) & (np.arange(len(made.frame)) % 3 == 0)
    assert "there are manual" in refused(made.changed(policy=np.where(some, "manual", made.frame["policy"])))


def test_a_policy_that_is_listed_with_its_arm_is_the_arms():
    made = make(plan_of(treatment={"name": "matched", "policies": ["bundle", "manual"]}))
    some = (np.arange(len(made.frame)) % 3 == 0) & (made.frame["arm"] == 1)
    assert said_of(made.changed(policy=np.where(some, "manual", made.frame["policy"]))).refusals == ()


@pytest.mark.parametrize("nothing", [None, np.nan, ""])
def test_an_arm_that_does_not_say_which_policy_chose_is_refused_in_words(nothing):
    made = make(plan_of())
    policy = made.frame["policy"].astype(object).where(made.frame["arm"] == 1, nothing)
    assert refused(made.changed(policy=policy)) == (
        "no hand-over in arm 'queue' is by fifo; none there says which policy chose; correct the arm's policies in the "
        "plan"
    )


def test_csas_of_the_other_pool_are_not_followed_whatever_the_policy():
    made = make(plan_of("customer"))
    pool = made.schedule.set_index(["begins_at", "arm"])["unit"]
    first = made.frame["arrived_at"].dt.floor("D")
    other = [
        pool.loc[(day, "queue" if arm else "matched")].iloc[0]
        for day, arm in zip(first, made.frame["arm"], strict=True)
    ]
    tenth = np.arange(len(made.frame)) % 10 == 0
    assert "10.00% of hand-overs by the other arm" in refused(
        made.changed(csa_id=np.where(tenth, other, made.frame["csa_id"]))
    )


def test_the_longest_beginning_of_a_policys_name_counts():
    plan = plan_of(control={"name": "a", "policies": ["bundle"]}, treatment={"name": "b", "policies": ["bundle-new"]})
    names = np.array(["bundle", "bundle-old", "bundle-new-3", "fifo", None], object)
    assert policy_arms(plan, names).tolist() == [0, 0, 1, -1, -1]
