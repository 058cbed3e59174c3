"""Simulated experiments are what the plan says, and their frames are the contract's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from evaluation.experiment.estimate import estimate
from evaluation.experiment.frame import CONTROL, FRAME, OUT, TREATMENT
from evaluation.experiment.simulated import Experiment, Shocks, alone, arrived, by_contact
from evaluation.experiment.simulated_contacts import came_back, seen
from evaluation.experiment.simulated_frame import frame_of, past_means
from evaluation.simulate.state import NOBODY, TRANSFERRED
from tests.evaluation.experiment.beds import bed
from tests.evaluation.experiment.test_design_schedule import plan
from twotower.errors import ConfigError

SWITCH = plan(14, wash_out_minutes=20)
CLUSTER = plan(14, design="cluster", unit="site", block_hours=None, wash_out_minutes=20)
CUSTOMER = plan(14, design="customer", unit="csa", block_hours=24.0, wash_out_minutes=20)
MORE = {"repeats": np.full(3, 0.4), "transfers": np.array([0.2, 0.0, 0.0]), "transfer_to": np.array([1, 1, 1])}


def test_a_frame_is_that_of_the_contract():
    experiment = Experiment(bed(**MORE), SWITCH)
    ran = experiment.run(experiment.draws(1)[0], 0)
    found = frame_of(experiment, ran, text=True)
    assert list(found.columns) == list(FRAME)
    assert found["arrived_at"].is_monotonic_increasing
    for name, said in FRAME.items():
        kind = str(found[name].dtype)
        expected = "str" if said.startswith("text") else said if said.startswith("datetime") else said.split(",")[0]
        assert kind == expected, name
    assert found["contact_id"].is_unique
    assert set(found["arm"]) == {CONTROL, TREATMENT}
    assert found.loc[found["abandoned"] == 1, "resolved"].eq(0).all()
    assert found.loc[found["csa_id"].isna(), "handle_minutes"].isna().all()
    # What is run by the thousand says the same in fewer bytes.
    lean = frame_of(experiment, ran)
    for name in ("unit", "csa_id", "policy", "language", "intent", "load"):
        pd.testing.assert_series_equal(lean[name].astype("str"), found[name].astype("str"))
    for name in ("arm", "block", "washed", "resolved", "wait_s", "repeat"):
        assert np.array_equal(lean[name], found[name], equal_nan=found[name].dtype == float)


def test_blocks_arms_and_wash_out_are_as_the_schedule_says():
    pause = {"begins": "2026-03-03T00:00:00Z", "ends": "2026-03-03T08:00:00Z"}
    experiment = Experiment(bed(), plan(3, wash_out_minutes=30, pauses=[pause]))
    arms = experiment.draws(1)[0]
    schedule, found = experiment.schedule(arms), frame_of(experiment, experiment.run(arms, 0), text=True)
    before = "queue"
    for number, row in enumerate(schedule.itertuples()):
        inside = (found["arrived_at"] >= row.begins_at) & (found["arrived_at"] < row.ends_at)
        assert (found.loc[inside, "block"] == number).all()
        assert (found.loc[inside, "arm"] == (row.arm == "matcher")).all()
        if number and schedule["ends_at"][number - 1] < row.begins_at:
            before = "queue"
        soon = inside & (found["arrived_at"] < row.begins_at + pd.Timedelta(minutes=30)) & (row.arm != before)
        assert np.array_equal(found.loc[inside, "washed"], soon[inside])
        before = row.arm
    outside = found["arm"] == OUT
    assert outside.any()
    assert found.loc[outside, "arrived_at"].between("2026-03-03T00:00:00Z", "2026-03-03T08:00:00Z").all()
    assert (found.loc[outside, "block"] == -1).all()
    assert not found.loc[outside, "washed"].any()
    assert (found.loc[outside & found["csa_id"].notna() & (found["wait_s"] < 60), "policy"] == "fifo").mean() > 0.99


@pytest.mark.parametrize("of", [SWITCH, CLUSTER, CUSTOMER], ids=lambda of: of.design)
def test_contacts_are_given_by_their_arm(of):
    experiment = Experiment(bed(sites=4 if of.design == "cluster" else 1), of)
    arms = experiment.draws(1)[0]
    found = frame_of(experiment, experiment.run(arms, 1), text=True)
    taken = found[found["csa_id"].notna()]
    own = np.array(["fifo", "match"])[taken["arm"]]
    if of.design == "switchback":  # who waits at a change is given by the new arm
        assert 0 < (taken["policy"] != own).mean() < 0.01
    else:
        assert (taken["policy"] == own).all()
    if of.design == "customer":
        assert found.groupby("customer_id")["arm"].nunique().max() == 1
        pools = experiment.schedule(arms).set_index(["begins_at", "unit"])["arm"]
        # A moment later, as who waits when a window begins is taken then, and times are whole microseconds.
        begins = (taken["arrived_at"] + pd.to_timedelta(taken["wait_s"] + 0.001, unit="s")).dt.floor("D")
        inside = begins < pools.index.get_level_values(0).max() + pd.Timedelta(days=1)
        pool = pools.loc[list(zip(begins[inside], taken["csa_id"][inside], strict=True))]
        assert (pool.to_numpy() == taken["unit"][inside].to_numpy()).all()
    if of.design == "cluster":
        assert found.groupby("unit")["arm"].nunique().max() == 1
        assert (found["unit"].str[1] == found["intent"].str[-1]).all()


@pytest.mark.parametrize("of", [SWITCH, CLUSTER, CUSTOMER], ids=lambda of: of.design)
def test_the_analysis_reads_simulated_experiments(of):
    experiment = Experiment(bed(sites=4 if of.design == "cluster" else 1, customers=800), of)
    arms = experiment.draws(1)[0]
    found = estimate(of, experiment.schedule(arms), frame_of(experiment, experiment.run(arms, 2)))
    assert 0.0 < found.effect.value < 0.3
    assert found.effect.low < found.effect.value < found.effect.high


def test_everything_in_one_arm_is_the_truth():
    experiment = Experiment(bed(**MORE), SWITCH)
    control, treatment = experiment.truth(3)
    for arm, truth in ((CONTROL, control), (TREATMENT, treatment)):
        found = frame_of(experiment, experiment.run(np.full(84, arm, np.int8), 3))
        assert len(found) == len(truth)
        for name in ("resolved", "wait_s", "abandoned", "handle_minutes"):
            assert np.array_equal(found[name], truth.metrics[name], equal_nan=True)
    assert np.array_equal(control.arrival[control.new], treatment.arrival[treatment.new])


def test_hand_overs_of_a_contact_stand_together_and_repeats_apart():
    of = bed(**MORE)
    records = alone(of, arrived(of, 0), CONTROL, 0)
    found = seen(of.centre, records, of.centre.horizon_s)
    moved, asked = found.metrics["transferred"] == 1, found.kind == 0
    taken = ~np.isnan(found.metrics["transferred"])
    assert moved[asked & taken].mean() == pytest.approx(0.2, abs=0.01)
    assert not moved[~asked].any()
    minutes = found.metrics["handle_minutes"]
    assert minutes[moved].mean() > 1.6 * minutes[taken & asked & ~moved].mean()
    # Every record is a contact, or the part of one that somebody handed on.
    parts = (records.parent != NOBODY) & (records.status[np.maximum(records.parent, 0)] == TRANSFERRED)
    assert len(found) == (~parts & (records.arrival < of.centre.horizon_s)).sum()
    assert found.new.sum() == (records.parent == NOBODY).sum()
    back = came_back(found, found.row, 7.0, of.centre.horizon_s)
    early = found.arrival < of.centre.horizon_s - 7 * 86400
    # Who comes back was not resolved, and most do so within the week.
    again = np.flatnonzero(early & (back == 1))
    assert np.all(found.metrics["resolved"][again] == 0)
    assert np.isnan(back[~early]).all()
    assert not np.isnan(back[early]).any()


def test_experiments_repeat_and_replications_differ():
    experiment = Experiment(bed(customers=500, customer_sd=0.3, shocks=Shocks(0.3, days=0.2)), CUSTOMER)
    arms = experiment.draws(2)
    one = frame_of(experiment, experiment.run(arms[0], 0))
    pd.testing.assert_frame_equal(one, frame_of(experiment, experiment.run(arms[0], 0)))
    assert len(frame_of(experiment, experiment.run(arms[0], 1))) != len(one)
    # Another schedule meets the same contacts.
    other = frame_of(experiment, experiment.run(arms[1], 0))
    assert np.array_equal(one["arrived_at"], other["arrived_at"])


def test_shocks_make_contacts_of_a_time_alike_and_customers_alike():
    def spread(of, by):
        found = seen(of.centre, alone(of, who := arrived(of, 0), CONTROL, 0), of.centre.horizon_s)
        codes = by(found, who)
        kept = np.bincount(codes)[codes] > 20
        mean = pd.Series(found.metrics["resolved"][kept]).groupby(codes[kept]).mean()
        size = pd.Series(codes[kept]).value_counts()
        return mean.var() / (0.24 / size.mean())

    by_block = lambda found, _: (found.arrival // 7200).astype(int)  # noqa: E731
    by_customer = lambda found, who: who.customer[found.row]  # noqa: E731
    big = {"csas": 30, "load": 0.6}
    assert spread(bed(**big, shocks=Shocks(0.6)), by_block) > 2 * spread(bed(**big), by_block)
    of = {**big, "customers": 150}
    assert spread(bed(**of, customer_sd=1.0), by_customer) > 2 * spread(bed(**of), by_customer)


def test_past_means_are_of_the_control_and_of_another_time():
    of = bed()
    past = past_means(of, 10**6, of.centre.horizon_s, "resolved")
    control = seen(of.centre, alone(of, arrived(of, 0), CONTROL, 0), of.centre.horizon_s)
    for kind in range(3):
        assert past[kind] == pytest.approx(control.metrics["resolved"][control.kind == kind].mean(), abs=0.05)


def test_contacts_by_a_coin_share_the_floor():
    of = bed()
    records, unit = by_contact(of, arrived(of, 0), 0, 0.3)
    assert unit.mean() == pytest.approx(0.3, abs=0.03)
    assert len(records) == len(unit)


def test_plans_that_do_not_fit_are_one_line():
    with pytest.raises(ConfigError, match="the centre is simulated for 7 days, the plan has 14"):
        Experiment(bed(7), SWITCH)
    with pytest.raises(ConfigError, match="the simulated centre has no sites"):
        Experiment(bed(), CLUSTER)


def test_the_testbed_of_tables_keeps_its_contacts():
    of = bed()
    given = arrived(of, 0).demand
    fixed = replace(of, demand=given)
    one, other = arrived(fixed, 1).demand, arrived(fixed, 2).demand
    assert np.array_equal(one.arrival, given.arrival)
    assert np.array_equal(one.arrival, other.arrival)
    assert not np.array_equal(one.key, other.key)
