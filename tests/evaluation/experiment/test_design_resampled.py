"""Power by trying on the history's own contacts agrees with the formula, and finds nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.experiment import power, power_resampled
from evaluation.experiment.design_blocks import blocks_of, icc, parts_of
from evaluation.experiment.design_choose import chosen
from evaluation.experiment.design_options import cluster, customer
from evaluation.experiment.design_spec import Asked
from evaluation.experiment.effects import Means, setting_of
from evaluation.experiment.power_resampled import by_lots, differences
from evaluation.experiment.schedule import draw, redraws
from evaluation.experiment.spans import spans_of
from tests.evaluation.experiment.pasts import BEGINS, past
from tests.evaluation.experiment.test_design_schedule import plan
from twotower.clock import DAY, HOUR, parse_time

ASKED = Asked(effect=0.03, show=None)
LATER = BEGINS + 200 * DAY


@pytest.mark.parametrize(("days", "hours", "wash"), [(14, 4.0, 0.0), (28, 8.0, 60.0), (28, 2.0, 15.0)])
@pytest.mark.parametrize("sd", [0.0, 0.06])
def test_a_switchback_by_formula_and_by_trying(days, hours, wash, sd):
    history = past(182, 600, block_sd=sd, block_hours=hours)
    of = plan(days, block_hours=hours, wash_out_minutes=wash)
    blocks = blocks_of(history, history.metric("resolved"), hours, wash)
    promised = power.of_blocks(blocks, parts_of(blocks), parse_time(of.begins), days, wash)
    tried = power_resampled.switchback(blocks, of, promised.smallest(0.8, 0.05), many=1500)
    assert tried.se == pytest.approx(promised.se, rel=0.1)
    assert tried.found == pytest.approx(0.8, abs=0.06)
    assert tried.false == pytest.approx(0.05, abs=0.02)
    assert tried.half == pytest.approx(1.96 * np.sqrt(tried.found * (1 - tried.found) / 1500))


def test_what_carries_over_is_not_found():
    history = past(182, 600)
    of, blocks = plan(28), blocks_of(history, history.metric("resolved"), 4.0)
    whole, half = (power_resampled.switchback(blocks, of, 0.03, kept=kept).found for kept in (1.0, 0.5))
    assert half < whole - 0.2


def test_a_boundary_for_any_time_is_left_less_often():
    history = past(182, 600)
    of, blocks = plan(28), blocks_of(history, history.metric("resolved"), 4.0)
    promised = power.of_blocks(blocks, parts_of(blocks), parse_time(of.begins), 28, 0.0)
    tried = power_resampled.switchback(blocks, of, promised.smallest(0.8, 0.05, True), reach=promised.reach(0.05))
    assert tried.found == pytest.approx(0.8, abs=0.05)
    assert tried.false < 0.01


def test_contacts_of_a_wash_out_count_where_the_arm_stayed():
    """Whatever is drawn, at most the early contacts of blocks that changed are gone."""
    history = past(28, 600)
    y = history.metric("resolved")
    none = power_resampled.switchback(blocks_of(history, y, 4.0, 0.0), plan(14), 0.05)
    some = power_resampled.switchback(blocks_of(history, y, 4.0, 120.0), plan(14, wash_out_minutes=120), 0.05)
    # Half of the blocks lose half of their contacts.
    assert some.se / none.se == pytest.approx(np.sqrt(1 / 0.75), rel=0.07)


def test_the_statistic_is_the_analysis_own():
    rng = np.random.default_rng(0)
    n, y = rng.integers(50, 200, 84).astype(float), 0.6 + rng.normal(0, 0.05, 84)
    of = plan(14)
    schedule = draw(of, ("centre",))
    arms = (schedule["arm"] == "matcher").to_numpy().astype(np.int8)[None, :]
    value, _ = differences(n[None], (n * y)[None], arms, schedule["pair"].to_numpy(), 0.05)
    frame = _frame(schedule, n, y)
    setting = setting_of(of, spans_of(of, schedule), frame)
    told = Means(setting, setting.outcome("resolved", adjusted=False)).difference()
    assert value[0] == pytest.approx(told.value, abs=2e-3)


def _frame(schedule, n, y):
    """Contacts of blocks as many and as good as told."""
    import pandas as pd

    from evaluation.experiment.frame import FRAME

    row = np.repeat(np.arange(len(n)), n.astype(int))
    place = np.concatenate([np.arange(k) for k in n.astype(int)])
    good = place < np.round(n * y)[row]
    columns = dict.fromkeys(FRAME, np.nan) | {
        "unit": "centre", "block": row, "arm": (schedule["arm"] == "matcher").to_numpy().astype(np.int8)[row],
        "arrived_at": schedule["begins_at"].iloc[row].reset_index(drop=True) + pd.to_timedelta(place, unit="s"),
        "washed": False, "resolved": good.astype(float), "customer_id": row,
    }  # fmt: skip
    return pd.DataFrame(columns)


def test_lots_drawn_again_find_no_more_than_they_may():
    rng = np.random.default_rng(5)
    arms = redraws(plan(14), ("centre",), 2000)
    n = rng.integers(1, 200, arms.shape).astype(float) * np.tile(np.r_[0.05, 0.05, 1, 1, 1, 0.3], 14)
    s = n * (0.5 + rng.standard_t(3, arms.shape) * 0.1)
    pair = np.tile(np.arange(42), 2)
    assert by_lots(n, s, arms, pair, 0.05, 0).mean() == pytest.approx(0.05, abs=0.015)
    assert by_lots(n, s + 0.25 * n * arms, arms, pair, 0.05, 0).mean() > 0.8


def test_clusters_by_formula_and_by_trying():
    history = past(84, 1500, sites=10, site_sd=0.03)
    option = cluster(ASKED, history, "resolved", "site", LATER)
    assert option.impossible is None
    assert option.against == ()
    of = plan(28, design="cluster", unit="site", block_hours=None)
    y = history.metric("resolved")
    code, day = history.units["site"].code, (history.arrived - history.begins) // DAY
    at = day * 10 + code
    daily = np.bincount(at, minlength=840).reshape(84, 10).astype(float), np.bincount(at, y, 840).reshape(84, 10)
    promised = option.of_days(28)
    tried = power_resampled.clusters(daily, of, option.units, promised.smallest(0.8, 0.05))
    assert tried.se == pytest.approx(promised.se, rel=0.4)
    assert tried.found == pytest.approx(0.8, abs=0.2)
    assert tried.false < 0.12


def test_neighbours_in_their_past_are_alike():
    history = past(84, 1500, sites=10, site_sd=0.06)
    option = cluster(ASKED, history, "resolved", "site", LATER)
    mean = [history.metric("resolved")[history.units["site"].code == int(name[1:])].mean() for name in option.units]
    assert np.corrcoef(np.arange(10), mean)[0, 1] > 0.9
    apart = icc(history.metric("resolved"), history.units["site"].code)[0] * 0.21
    assert option.of_days(1000.0).se < np.sqrt(4 * apart / 10)


def test_customers_by_formula_and_by_trying():
    history = past(112, 500, customers=1500, customer_sd=0.15, csas=30, csa_sd=0.06)
    option = customer(ASKED, history, "resolved", LATER)
    of = plan(28, design="customer", unit="csa", block_hours=24.0)
    promised = option.of_days(28)
    rows = history.customer >= 0
    since = (history.arrived - history.begins) / DAY
    met = power_resampled.Met(since[rows], history.metric("resolved"), history.customer, history.csa, history.days)
    tried = power_resampled.customers(met, of, 28, promised.smallest(0.8, 0.05))
    assert tried.se == pytest.approx(promised.se, rel=0.15)
    assert tried.found == pytest.approx(0.8, abs=0.08)
    assert tried.false < 0.1
    plain = customer(ASKED, past(112, 500, customers=1500, csas=30), "resolved", LATER).of_days(28)
    assert promised.se > 1.05 * plain.se


def test_trying_repeats():
    history = past(56, 400)
    blocks = blocks_of(history, history.metric("resolved"), 4.0)
    assert power_resampled.switchback(blocks, plan(14), 0.02) == power_resampled.switchback(blocks, plan(14), 0.02)
    choice = chosen(ASKED, history, None, parse_time("2026-03-02T00:00:00Z"), 0.0)
    assert choice.option.design == "switchback"


def test_weeks_that_are_not_alike_are_in_the_formula_too():
    history, rng = past(182, 1200), np.random.default_rng(6)
    block = (history.arrived - history.begins) // (4 * HOUR)
    y = (rng.random(len(history)) < np.where(block % 2, 0.95, 0.35)).astype(float)
    kept = rng.random(len(history)) < rng.uniform(0.1, 1.0, int(block.max()) + 1)[block]
    blocks = blocks_of(history, np.where(kept, y, np.nan), 4.0)
    of, parts = plan(28), parts_of(blocks)
    plain = power.of_blocks(blocks, replace(parts, uneven=1.0), parse_time(of.begins), 28, 0.0).se
    tried = power_resampled.switchback(blocks, of, 0.0).se
    assert tried > 1.3 * plain
    assert power.of_blocks(blocks, parts, parse_time(of.begins), 28, 0.0).se == pytest.approx(tried, rel=0.12)
