"""What it is worth: prices times effects, and an interval that knows both kinds of not knowing."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from evaluation.experiment.analyse import analyse
from evaluation.experiment.effects import setting_of
from evaluation.experiment.spans import spans_of
from evaluation.experiment.stats.multiple import jackknife
from evaluation.experiment.value import PARTS, value
from tests.evaluation.experiment.made import World, make, plan_of
from twotower.clock import DAY, parse_time

BETTER = World(contacts=12_000, effect=0.05, handle=(6.0, 5.0), repeat=(0.25, 0.2), abandoned=(0.08, 0.04), shock=0.01)
PRICES = {"csa_hour": 30.0, "repeat": 6.0, "abandoned": 8.0, "resolved": 2.0, "sd": 0.2}


def setting(world: World, design: str = "switchback", **prices):
    made = make(plan_of(design, prices={**PRICES, **prices}), world)
    return setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, draws=100)


def effects(of) -> dict[str, float]:
    frame = of.frame[of.cells.counted].assign(handle_minutes=lambda f: f["handle_minutes"].fillna(0.0))
    means = frame.groupby("arm")[list(PARTS)].mean()
    return dict(means.loc[1] - means.loc[0])


def test_the_value_is_prices_times_effects():
    of = setting(BETTER)
    found, told = value(of), effects(of)
    assert found is not None
    by_name = {one.metric: one for one in found.parts}
    for name in PARTS:
        assert by_name[name].effect == pytest.approx(told[name], abs=0.005)
    handled = of.frame[of.cells.counted & (of.frame["arm"] == 0)]["handle_minutes"].fillna(0.0).mean()
    expected = {
        "handle_minutes": -30 / 60 * by_name["handle_minutes"].effect,
        "repeat": -(6 + 30 / 60 * handled) * by_name["repeat"].effect,
        "abandoned": -8 * by_name["abandoned"].effect, "resolved": 2 * by_name["resolved"].effect,
    }  # fmt: skip
    for name, worth in expected.items():
        assert by_name[name].value == pytest.approx(worth)
    assert found.per_contact == pytest.approx(sum(expected.values()))
    assert found.low < found.per_contact < found.high
    assert found.positive > 0.99
    assert found.currency == "EUR"


def test_a_year_is_the_experiments_traffic():
    of = setting(BETTER)
    found = value(of)
    assert found is not None
    assert found.contacts_a_year == pytest.approx(12_000 / 14 * 365)
    assert found.per_year[0] == pytest.approx(found.per_contact * found.contacts_a_year)


PAUSED = [{"begins": "2026-03-05T00:00:00Z", "ends": "2026-03-09T00:00:00Z"}]


@pytest.mark.parametrize("design", ["switchback", "customer"])
def test_a_pause_is_no_time_of_the_experiment(design):
    made = make(plan_of(design, prices=PRICES, pauses=PAUSED), BETTER)
    inside = int((made.frame["arm"] >= 0).sum())
    assert inside < 9500
    of = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, draws=100)
    assert of.cells.time == 10 * DAY
    found = value(of)
    assert found is not None
    assert found.contacts_a_year == pytest.approx(inside / 10 * 365)


def test_spans_of_several_units_are_one_time():
    made = make(plan_of("cluster"), World(contacts=4000))
    later = made.schedule["begins_at"].where(made.schedule.index != 3, made.schedule["begins_at"] + pd.Timedelta("2D"))
    spans = spans_of(made.plan, made.schedule.assign(begins_at=later))
    inside = ~((made.frame["unit"] == made.schedule["unit"][3]) & (made.frame["arrived_at"] < later[3]))
    frame = made.frame.assign(arm=made.frame["arm"].where(inside, -1).astype("int8"))
    assert setting_of(made.plan, spans, frame).cells.time == pytest.approx(14 * DAY, rel=1e-3)


def test_unsure_prices_widen_the_interval():
    widths = []
    for sd in (0.0, 0.2, 0.6):
        found = value(setting(BETTER, sd=sd))
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[0] < widths[1] < widths[2]


def test_the_delta_method_is_what_simulation_over_prices_and_chance_gives():
    of = setting(BETTER, sd=0.3)
    found = value(of)
    assert found is not None
    sums = []
    for name in PARTS:
        column = of.column(name)
        column = np.where(of.frame["csa_id"].isna(), 0.0, column) if name == "handle_minutes" else column
        sums += list(of.cells.sums(column))
    told = jackknife(
        np.stack(sums, axis=1), of.cells.arm, of.cells.cluster,
        lambda a, b: b[..., 1::2] / b[..., 0::2] - a[..., 1::2] / a[..., 0::2],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_normal([one.effect for one in found.parts], told.covariance, 20_000)
    hour, repeat, lost, good = (rng.normal(p, 0.3 * p, 20_000) for p in (30.0, 6.0, 8.0, 2.0))
    n, s = sums[0], sums[1]
    handled = s[of.cells.arm == 0].sum() / n[of.cells.arm == 0].sum()
    worth = -drawn[:, 0] * hour / 60 - drawn[:, 1] * (repeat + handled * hour / 60) - drawn[:, 2] * lost
    worth = worth + drawn[:, 3] * good
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(worth, (0.025, 0.975))), rel=0.12)


def test_outcomes_that_nobody_measured_are_said():
    made = make(plan_of(), BETTER).changed(repeat=np.nan)
    of = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame)
    found = value(of)
    assert found is not None
    assert found.left_out == ("repeat",)
    nothing = make(plan_of(), BETTER).changed(**dict.fromkeys(PARTS, np.nan), csa_id="a00")
    assert value(setting_of(nothing.plan, spans_of(nothing.plan, nothing.schedule), nothing.frame)) is None


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_where_nothing_changes_the_interval_mostly_holds_nothing(design):
    held = 0
    for seed in range(8):
        made = make(plan_of(design, prices=PRICES), World(contacts=1500), seed)
        found = value(setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame))
        assert found is not None
        held += found.low <= 0 <= found.high
        assert math.isfinite(found.low)
    assert held >= 6


def test_at_an_interim_look_a_year_is_the_traffic_until_then():
    made = make(plan_of("cluster"), World(contacts=4000))
    found = analyse(made.plan, made.schedule, made.frame, at=parse_time("2026-03-09T00:00:00Z"))
    assert found.found.value.contacts_a_year == pytest.approx(4000 / 14 * 365, rel=0.2)
    assert len(found.found.novelty.stretches) == 3


def test_customers_who_come_often_widen_the_interval():
    widths = []
    for customers in (4000, 40):
        world = World(customers=customers, customer_spread=0.3, shock=0.0)
        made = make(plan_of("customer", prices={**PRICES, "resolved": 20.0}), world)
        found = value(setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame))
        widths.append(found.high - found.low)
    assert widths[1] > 1.3 * widths[0]
