"""What refuses an answer: one line, the worst place named, and no number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evaluation.experiment.analyse import analyse
from evaluation.experiment.checks import of_data
from evaluation.experiment.effects import setting_of
from evaluation.experiment.spans import spans_of
from tests.evaluation.experiment.made import Made, World, make, plan_of
from tests.evaluation.experiment.told import refused, said_of
from twotower.clock import DAY, HOUR, format_time, parse_time
from twotower.errors import DataError


def test_an_experiment_as_it_should_be_passes():
    for design in ("switchback", "cluster", "customer"):
        found = said_of(make(plan_of(design), World(contacts=3000)))
        assert found.refusals == ()
        assert found.found is not None


# Sample ratio


def test_a_treatment_that_loses_contacts_is_a_mismatch():
    made = make(plan_of(), World(contacts=8000))
    rng = np.random.default_rng(0)
    line = refused(made.rows((made.frame["arm"] == 0) | (rng.random(8000) < 0.8)))
    assert line.startswith("sample-ratio mismatch: ")
    assert "by the lots" in line


def test_blocks_of_different_traffic_are_no_mismatch():
    """Contacts as if each had been drawn would refuse most honest switchbacks; lots refuse one in a thousand."""
    naive = 0
    for seed in range(12):
        made = make(plan_of(block_hours=12.0, balance="none"), World(contacts=4000), seed)
        setting = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, draws=300)
        ratio = next(one for one in of_data(setting, {}) if one.name == "sample ratio")
        assert ratio.status == "passed"
        naive += stats.binomtest(int((made.frame["arm"] == 1).sum()), 4000, 0.5).pvalue < 0.001
    assert naive > 3


def test_customers_who_are_lost_are_a_mismatch():
    made = make(plan_of("customer"), World(contacts=6000, customers=4000))
    rng = np.random.default_rng(0)
    line = refused(made.rows((made.frame["arm"] == 0) | (rng.random(6000) < 0.6)))
    assert line.startswith("sample-ratio mismatch: ")
    assert "of customers in the treatment, 50.0% expected" in line


def test_the_share_that_is_expected_is_the_plans():
    made = make(plan_of("customer", share=0.3), World(customers=4000))
    assert said_of(made).refusals == ()


def test_a_customer_in_both_arms_is_refused():
    made = make(plan_of("customer"))
    both = made.changed(customer_id=np.where(np.arange(len(made.frame)) % 10 == 0, "k0", made.frame["customer_id"]))
    assert refused(both).startswith("1 customers were in both arms")


# Arms


def test_a_missing_arm_is_refused():
    made = make(plan_of())
    assert "arm 'matched' has not a contact that counts" in refused(made.rows(made.frame["arm"] == 0))
    alone = made.schedule[made.schedule["arm"] == "queue"].assign(pair=-1)
    found = analyse(made.plan, alone, made.frame)
    assert "arm 'matched' has no span at all" in " ".join(found.refusals)


@pytest.mark.parametrize(("design", "word"), [("switchback", "block"), ("cluster", "cluster")])
def test_an_arm_of_a_single_cluster_is_refused(design, word):
    made = make(plan_of(design, balance="none"))
    treated = made.schedule.index[made.schedule["arm"] == "matched"]
    one = made.schedule.drop(treated[1:]).reset_index(drop=True)
    found = analyse(made.plan, one, made.frame)
    assert f"arm 'matched' has a single {word}, so chance cannot be told from effect" in found.refusals


def test_pools_of_a_single_window_are_refused():
    made = make(plan_of("customer"))
    one = made.schedule[made.schedule["begins_at"] == made.schedule["begins_at"].min()]
    found = analyse(made.plan, one, made.frame)
    assert any("a single window" in line for line in found.refusals)


def test_spans_that_overlap_are_refused():
    made = make(plan_of())
    longer = made.schedule.assign(ends_at=made.schedule["ends_at"] + pd.Timedelta(minutes=1))
    found = analyse(made.plan, longer, made.frame)
    assert found.found is None
    assert any("overlaps" in line for line in found.refusals)


# Outcomes


def test_a_metric_that_is_absent_in_one_arm_is_refused():
    made = make(plan_of(guardrails=[{"metric": "csat", "better": "higher", "margin": 0.1}]))
    rated = made.changed(csat=np.where(made.frame["arm"] == 0, 4.0, np.nan))
    assert refused(rated) == "csat is known in less than two cells of arm 'matched'"


def test_a_primary_metric_that_nobody_measured_is_refused():
    assert refused(make(plan_of()).changed(resolved=np.nan)) == "resolved is known in less than two cells of either arm"


def test_a_guardrail_that_nobody_measured_is_said_and_cannot_be_held():
    made = make(plan_of(guardrails=[{"metric": "csat", "better": "higher", "margin": 0.1}]), World(effect=0.15))
    found = said_of(made)
    assert found.found is not None
    assert found.found.guards[0].state == "not measured"
    assert found.verdict.action != "ship"


def known_of(made: Made, control: float, treatment: float, metric: str = "resolved", seed: int = 0) -> Made:
    """With a metric that is known of some shares of the arms' contacts, but of all who gave up."""
    known = np.random.default_rng(seed).random(len(made.frame)) < np.where(made.frame["arm"] == 1, treatment, control)
    return made.changed(**{metric: np.where(known | (made.frame["abandoned"] == 1), made.frame[metric], np.nan)})


LOST = World(abandoned=(0.1, 0.1))


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_who_gave_up_does_not_make_an_outcome_known(design):
    """Of who gave up it is written that nothing was resolved; of all others in the treatment nothing is."""
    made = known_of(make(plan_of(design), LOST), 1.0, 0.0)
    assert (made.frame.loc[made.frame["arm"] == 1, "resolved"] == 0).sum() > 100
    assert refused(made) == "resolved is known in less than two cells of arm 'matched'"


@pytest.mark.filterwarnings("error")
def test_an_experiment_of_which_only_who_gave_up_is_known_is_refused():
    made = make(plan_of(guardrails=[{"metric": "wait_s", "better": "lower", "margin": 10}]), LOST)
    assert refused(known_of(made, 0.0, 0.0)) == "resolved is known in less than two cells of either arm"
    nobody = made.changed(csa_id=None, policy=None, resolved=0.0, abandoned=1.0, handle_minutes=np.nan)
    assert refused(nobody) == "resolved is known in less than two cells of either arm"


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_outcomes_that_are_known_much_more_often_in_one_arm_are_refused(design):
    line = refused(known_of(make(plan_of(design), LOST), 0.6, 0.95))
    assert line.startswith("resolved is known of 6")
    assert "% of contacts in arm 'queue' and of 9" in line
    assert line.endswith("who is not known may differ; find out why, or set mature_days so that both arms are known")


def test_a_guardrail_that_is_known_much_more_often_in_one_arm_is_refused():
    made = make(plan_of(guardrails=[{"metric": "csat", "better": "higher", "margin": 0.1}]))
    assert "csat is known of" in refused(known_of(made.changed(csat=4.0 + made.frame["resolved"]), 0.5, 0.3, "csat"))


def test_outcomes_that_are_known_a_little_more_often_in_one_arm_are_said():
    found = said_of(known_of(make(plan_of(), World(contacts=12_000)), 0.99, 0.955))
    assert found.found is not None
    [note] = [one for one in found.checks if one.status == "note"]
    assert "resolved is known of 98.7% of contacts in arm 'queue' and of 95.5% in arm 'matched'" in note.said


def test_outcomes_that_are_unknown_by_chance_refuse_nothing():
    """Few contacts, of which half are known, and cells that agree by chance."""
    for seed in range(20):
        made = make(plan_of("cluster"), World(contacts=200), seed)
        found = analyse(made.plan, made.schedule, known_of(made, 0.5, 0.5, seed=seed).frame, draws=50)
        assert found.refusals == ()


def known_after(made: Made, days: float, look: int) -> Made:
    """Outcomes of the treatment take so many days."""
    late = (made.frame["arm"] == 1) & (made.frame["arrived_at"].astype("int64") > look - days * DAY)
    return made.changed(resolved=made.frame["resolved"].where(~late))


@pytest.mark.parametrize("look", ["2026-03-05T00:00:00Z", "2026-03-16T00:00:00Z"])
def test_an_outcome_that_takes_a_day_longer_in_one_arm_refuses_nothing(look):
    """What is not known is of few blocks then, whose arms were drawn."""
    made = make(plan_of(), World(contacts=12_000))
    assert said_of(known_after(made, 1.0, parse_time(look)), at=parse_time(look)).refusals == ()


def test_an_outcome_that_takes_days_longer_in_one_arm_needs_days_for_both():
    for mature, refusals in ((0.0, 1), (5.0, 0)):
        made = make(plan_of(mature_days=mature), World(contacts=12_000))
        found = said_of(known_after(made, 5.0, parse_time(made.plan.ends)), data_end=parse_time(made.plan.ends))
        assert len(found.refusals) == refusals
    assert found.found is not None


# Time


def test_a_fixed_experiment_is_not_looked_at_before_its_end():
    made = make(plan_of(stopping={"rule": "fixed"}))
    line = refused(made, at=parse_time("2026-03-09T00:00:00Z"))
    assert line == (
        "a look at 2026-03-09T00:00:00Z comes before the first one allowed, 2026-03-16T00:00:00Z (the rule is fixed); "
        "wait"
    )


def test_nobody_looks_before_the_first_look():
    made = make(plan_of(stopping={"first_look": "2026-03-10T00:00:00Z"}))
    assert "(first_look); wait" in refused(made, at=parse_time("2026-03-09T00:00:00Z"))
    assert said_of(made, at=parse_time("2026-03-10T00:00:00Z")).refusals == ()


def test_data_that_end_before_the_plan_are_refused():
    made = make(plan_of())
    early = made.rows(made.frame["arrived_at"] < pd.Timestamp("2026-03-12T00:00:00Z"))
    line = refused(early)
    assert line.startswith("data end at 2026-03-11T")
    assert "more than a day before 2026-03-16T00:00:00Z; give newer tables, or --at for an interim look" in line
    assert said_of(early, at=parse_time("2026-03-12T00:00:00Z")).refusals == ()


def until(made: Made, moment: int) -> Made:
    """Nothing from after a moment, µs UTC."""
    return made.rows((made.frame["arrived_at"].astype("int64") < moment).to_numpy())


@pytest.mark.parametrize(("hours", "blocks"), [(23.5, 6), (9.0, 2)])
def test_a_plan_whose_last_blocks_are_missing_is_refused(hours, blocks):
    made = make(plan_of())
    end = parse_time(made.plan.ends) - int(hours * HOUR)
    line = refused(until(made, end), data_end=end)
    assert line.startswith(f"nothing was written down after {format_time(end)}, so that {blocks} blocks from 2026-03-1")
    assert line.endswith("are missing or less than half there; give newer tables, or --at for an interim look")


@pytest.mark.parametrize(
    ("design", "hours", "said"),
    [
        ("switchback", 5.0, "1 block from 2026-03-15T20:00:00Z on is missing"),
        ("switchback", 3.0, "1 block from 2026-03-15T20:00:00Z on is missing or less than half there"),
        ("switchback", 1.0, None),
        ("customer", 23.5, "1 block from 2026-03-15T00:00:00Z on is missing or less than half there"),
        ("cluster", 23.5, None),
    ],
)
def test_a_block_that_is_missing_at_the_end_is_said(design, hours, said):
    made = make(plan_of(design))
    end = parse_time(made.plan.ends) - int(hours * HOUR)
    found = said_of(until(made, end), data_end=end)
    assert found.refusals == ()
    assert [said in one.said for one in found.checks if one.name == "blocks" and one.status == "note"] == [True] * (
        said is not None
    )


def test_a_centre_that_is_closed_at_night_misses_nothing():
    """Of blocks of two hours six end between eight in the evening and the plan's end at eight in the morning."""
    made = make(plan_of(block_hours=2.0, ends="2026-03-16T08:00:00Z"))
    hour = made.frame["arrived_at"].dt.hour
    closed = made.rows(((hour >= 8) & (hour < 20)).to_numpy())
    found = said_of(closed)
    assert found.refusals == ()
    assert not any(one.name == "blocks" and one.status == "note" for one in found.checks)
    evening = parse_time("2026-03-15T15:30:00Z")
    assert "so that 2 blocks from 2026-03-15T16:00:00Z on are missing" in refused(until(closed, evening))


def test_a_centre_of_few_contacts_misses_nothing_where_nobody_came_by_chance():
    made = make(plan_of(block_hours=1.0, wash_out_minutes=0.0), World(contacts=300))
    evening = parse_time("2026-03-15T19:00:00Z")
    assert said_of(until(made, evening), data_end=evening).refusals == ()


@pytest.mark.parametrize("design", ["switchback", "customer"])
def test_a_look_before_the_first_block_has_ended_is_refused(design):
    made = make(plan_of(design))
    line = refused(made, at=parse_time("2026-03-02T03:00:00Z"))
    assert line.startswith("no block had ended at 2026-03-02T03:00:00Z, the first of the schedule ends at 2026-03-0")


def test_a_schedule_of_another_time_is_refused():
    made = make(plan_of())
    year = pd.Timedelta(days=364)
    later = made.schedule.assign(**{name: made.schedule[name] + year for name in ("begins_at", "ends_at")})
    found = analyse(made.plan, later, made.frame)
    assert found.found is None
    assert found.refusals == (
        "no block had ended at 2026-03-16T00:00:00Z, the first of the schedule ends at 2027-03-01T04:00:00Z; look "
        "later, or give the schedule of this plan",
    )


def test_a_frame_without_a_column_is_an_error():
    made = make(plan_of())
    with pytest.raises(DataError, match="frame: column washed is missing; expected bool"):
        analyse(made.plan, made.schedule, made.frame.drop(columns="washed"))
