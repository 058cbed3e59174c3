"""The primary effect: unbiased, with the errors its design calls for, and nothing the covariate could smuggle in."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest

from evaluation.experiment.analyse import analyse
from evaluation.experiment.effects import CR2, RANDOMISED, TWO_WAY, Means, effect, method_of, setting_of, smallest_p
from evaluation.experiment.estimate import estimate
from evaluation.experiment.outcomes import outcome_of
from evaluation.experiment.spans import spans_of
from tests.evaluation.experiment.made import World, make, plan_of
from twotower.errors import DataError


def setting(made, **more):
    return setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, **more)


@pytest.mark.parametrize(("design", "method"), [("switchback", RANDOMISED), ("cluster", CR2), ("customer", TWO_WAY)])
def test_each_design_has_its_inference(design, method):
    assert method_of(setting(make(plan_of(design)), draws=200)) == method


def test_a_switchback_of_too_few_lots_falls_back():
    few = plan_of(ends="2026-03-04T00:00:00Z", block_hours=12.0)
    assert method_of(setting(make(few))) == CR2


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_the_effect_is_found_and_its_interval_is_about_right(design):
    """Twelve experiments with an effect of five points; the mean is near it, and most intervals hold it."""
    found = [
        estimate(made.plan, made.schedule, made.frame, draws=300).effect
        for made in (make(plan_of(design), World(effect=0.05, contacts=4000), seed) for seed in range(12))
    ]
    values = np.array([one.value for one in found])
    errors = np.array([one.se for one in found])
    assert values.mean() == pytest.approx(0.05, abs=3 * values.std() / math.sqrt(12))
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.6)
    assert sum(one.low <= 0.05 <= one.high for one in found) >= 10


def test_lots_that_are_alone_and_few_are_counted():
    """Three days of blocks of twelve hours, three of each arm: twenty lots, so no p is below a tenth."""
    few = setting(make(plan_of(balance="none", ends="2026-03-05T00:00:00Z", block_hours=12.0)))
    assert smallest_p(few) == pytest.approx(2 / 20)
    assert method_of(few) == CR2


def test_means_are_over_contacts_that_count():
    made = make(plan_of(), World(effect=0.1))
    of = setting(made, draws=200)
    found = effect(of, outcome_of(of.cells, "resolved", of.column("resolved")), 0.05)
    kept = made.frame[~made.frame["washed"]].groupby("arm")["resolved"].mean()
    assert (found.control, found.treatment) == pytest.approx((kept[0], kept[1]))
    assert found.value == pytest.approx(kept[1] - kept[0])
    assert found.relative == pytest.approx(kept[1] / kept[0] - 1)


def test_a_covariate_that_knows_much_makes_errors_small():
    made = make(plan_of(), World(shock=0.0))
    told = made.changed(covariate=made.frame["resolved"] + np.random.default_rng(0).normal(0, 0.2, len(made.frame)))
    of = setting(told, draws=200)
    adjusted = of.outcome("resolved")
    found, naive = effect(of, adjusted, 0.05), 2 * made.frame["resolved"].std() / math.sqrt(len(made.frame))
    assert adjusted.explained > 0.8
    assert found.explained == adjusted.explained
    assert found.se < 0.6 * naive


def test_theta_is_that_of_deng_and_others_and_knows_no_arm():
    made = make(plan_of(), World(effect=0.3))
    of = setting(made)
    y, x = of.column("resolved"), of.column("covariate")
    found = outcome_of(of.cells, "resolved", y, x)
    assert found.theta == pytest.approx(np.cov(y, x)[0, 1] / np.var(x, ddof=1))
    assert found.explained == pytest.approx(np.corrcoef(y, x)[0, 1] ** 2)


def test_contacts_without_a_covariate_are_not_adjusted_and_not_dropped():
    made = make(plan_of())
    x = made.frame["covariate"].to_numpy().copy()
    x[::3] = np.nan
    of = setting(made.changed(covariate=x))
    found = of.outcome("resolved")
    assert found.values is not None
    assert found.values[::3] == pytest.approx(made.frame["resolved"].to_numpy()[::3])
    assert found.n.sum() == of.cells.counted.sum()


def test_without_any_covariate_there_is_no_adjustment():
    made = make(plan_of())
    found = setting(made.changed(covariate=np.nan)).outcome("resolved")
    assert (found.theta, found.explained) == (0.0, 0.0)


def test_blocks_that_share_a_shock_have_wider_errors_than_contacts():
    made = make(plan_of(), World(shock=0.1))
    of = setting(made, draws=300)
    told = Means(of, of.outcome("resolved")).difference()
    naive = 2 * made.frame["resolved"].std() / math.sqrt(len(made.frame))
    assert told.se > 1.5 * naive


def test_customers_who_come_often_have_wider_errors():
    often = World(customers=60, customer_spread=0.25, shock=0.0)
    made = make(plan_of("customer"), often)
    of = setting(made)
    means = Means(of, of.outcome("resolved", adjusted=False))
    told = means.difference()
    assert means.fit is not None
    assert told.se > 1.5 * means.fit.one(1).se
    assert told.df == 13


def test_a_contact_without_a_customer_is_a_customer_of_its_own():
    made = make(plan_of("customer"))
    nobody = made.changed(customer_id=np.where(np.arange(len(made.frame)) < 10, None, made.frame["customer_id"]))
    codes = setting(nobody).customers
    assert len(np.unique(codes[:10])) == 10
    assert not np.isin(codes[:10], codes[10:]).any()


def test_the_two_way_errors_are_those_of_cameron_gelbach_and_miller():
    import statsmodels.api as sm

    made = make(plan_of("customer"), World(customers=60, customer_spread=0.3, shock=0.0))
    of = setting(made)
    outcome = of.outcome("resolved", adjusted=False)
    told = Means(of, outcome).difference()
    x = sm.add_constant(made.frame["arm"].to_numpy(float))
    groups = np.stack([of.customers, of.cells.cluster[of.cells.of]], axis=1)
    theirs = sm.OLS(made.frame["resolved"].to_numpy(), x).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    assert told.value == pytest.approx(theirs.params[1])
    assert told.se == pytest.approx(theirs.bse[1], rel=0.05)


def test_lots_of_a_plan_with_short_runs_are_the_plans_own():
    made = make(plan_of(most_in_a_row=2))
    arms, whole = setting(made, draws=100).lots
    assert not whole
    assert arms.shape == (101, 84)
    windows = np.lib.stride_tricks.sliding_window_view(arms, 3, axis=1).sum(axis=2)
    assert ((windows > 0) & (windows < 3)).all()


def test_lots_of_a_foreign_schedule_with_short_runs_are_refused():
    made = make(plan_of(most_in_a_row=2))
    later = made.schedule.assign(
        begins_at=made.schedule["begins_at"] + pd.Timedelta(hours=1),
        ends_at=made.schedule["ends_at"] + pd.Timedelta(hours=1),
    )
    with pytest.raises(DataError, match="the plan draws no span from"):
        _ = setting_of(made.plan, spans_of(made.plan, later), made.frame.assign(arm=np.int8(-1))).lots


@pytest.mark.parametrize("balance", ["pairs", "none"])
def test_exchanges_within_a_schedule_are_what_the_plan_would_draw(balance):
    """Means and covariances of arms agree between both ways of drawing again."""
    from evaluation.experiment.schedule import redraws

    made = make(plan_of(balance=balance))
    ours = setting(made, draws=4000).lots[0][1:].astype(float)
    theirs = redraws(made.plan, ["centre"], 4000).astype(float)
    assert ours.mean(axis=0) == pytest.approx(theirs.mean(axis=0), abs=0.05)
    assert np.cov(ours.T) == pytest.approx(np.cov(theirs.T), abs=0.03)


def test_metrics_that_nobody_measured_are_named():
    with pytest.raises(DataError, match="occupancy: nobody measured it"):
        setting(make(plan_of())).outcome("occupancy")


def test_metrics_of_cells_are_ratios_of_sums():
    made = make(plan_of())
    of = setting(made, draws=200)
    rng = np.random.default_rng(0)
    rows = len(of.cells)
    blocks = pd.DataFrame(
        {
            "unit": "centre", "begins_at": made.schedule["begins_at"], "metric": "occupancy",
            "n": rng.uniform(10, 40, rows), "early_n": rng.uniform(1, 5, rows),
        }
    )  # fmt: skip
    busy = 0.7 + 0.1 * of.cells.arm
    blocks = blocks.assign(s=blocks["n"] * busy, early_s=blocks["early_n"] * busy)
    found = effect(setting(made, blocks=blocks, draws=200), setting(made, blocks=blocks).outcome("occupancy"), 0.05)
    assert (found.control, found.treatment) == pytest.approx((0.7, 0.8))


def test_an_experiment_is_estimated_in_well_under_a_third_of_a_second():
    made = make(plan_of(), World(contacts=20_000))
    estimate(made.plan, made.schedule, made.frame)
    best = math.inf
    for _ in range(3):
        begun = time.process_time()
        estimate(made.plan, made.schedule, made.frame)
        best = min(best, time.process_time() - begun)
    assert best < 0.3


def test_categories_and_numbers_as_ids_say_the_same():
    """Frames that simulations make do not write names out."""
    made = make(plan_of(), World(contacts=3000, effect=0.05))
    names = ("unit", "csa_id", "policy", "language", "intent", "tenure", "load")
    coded = made.changed(**{name: made.frame[name].astype("category") for name in names})
    coded = coded.changed(
        contact_id=np.arange(3000), customer_id=made.frame["customer_id"].str[1:].astype(int), intent=pd.Categorical(
            made.frame["intent"].where(made.frame["intent"] != "i0", None)
        )
    )  # fmt: skip
    one, two = (analyse(each.plan, each.schedule, each.frame, draws=200) for each in (made, coded))
    assert two.refusals == ()
    assert two.found.estimate.effect == one.found.estimate.effect
    assert two.found.taken == one.found.taken
    assert {band.value for band in two.found.bands if band.kind == "intent"} >= {"(none)", "i1"}
