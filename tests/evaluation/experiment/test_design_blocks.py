"""Blocks of a history, the parts of its variance, what hangs together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.experiment.design_blocks import blocks_of, icc, parts_of, week_of
from evaluation.experiment.schedule import MONDAY, WEEK
from tests.evaluation.experiment.pasts import BEGINS, past
from twotower.clock import DAY, HOUR
from twotower.errors import ConfigError


def test_blocks_hold_every_contact_of_their_time():
    history = past(20, 300)  # not whole weeks
    y = history.metric("resolved").copy()
    y[::7] = np.nan
    found = blocks_of(history, y, 6.0, 90.0)
    assert found.n.shape == (3, 28)
    assert found.n.sum() == (~np.isnan(y)).sum()
    assert found.s.sum() == np.nansum(y)
    for week, slot in ((0, 0), (1, 5), (2, 23)):
        begin = BEGINS + (week * 28 + slot) * 6 * HOUR
        inside = history.part(begin, begin + 6 * HOUR) & ~np.isnan(y)
        early = history.part(begin, begin + 3 * HOUR // 2) & ~np.isnan(y)
        assert found.n[week, slot] == inside.sum()
        assert found.s[week, slot] == y[inside].sum()
        assert found.early_n[week, slot] == early.sum()
        assert found.early_s[week, slot] == y[early].sum()
    # Six whole days of the third week.
    assert found.inside.sum() == 20 * 4
    assert found.weekly[0] == pytest.approx(found.n[:, 0].mean())


def test_weeks_begin_on_monday_whenever_the_history_does():
    history = past(28, 300)
    later = replace(history, begins=BEGINS + 2 * DAY)
    found = blocks_of(later, np.where(later.arrived >= later.begins, later.metric("resolved"), np.nan), 24.0)
    assert (found.first - MONDAY) % WEEK == 0
    assert found.inside[0].tolist() == [False] * 2 + [True] * 5
    assert found.n[0, :2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("sd", [0.0, 0.04, 0.08])
@pytest.mark.parametrize("hours", [4.0, 8.0])
def test_what_blocks_share_is_found_beside_chance(sd, hours):
    history = past(182, 800, block_sd=sd, block_hours=hours)
    found = parts_of(blocks_of(history, history.metric("resolved"), hours))
    assert found.between == pytest.approx(sd**2, abs=0.0006 + 0.2 * sd**2)
    assert found.within == pytest.approx(0.21 - sd**2, abs=0.005)
    assert found.icc == pytest.approx(sd**2 / 0.21, abs=0.003 + sd**2)


def test_the_weeks_own_pattern_is_no_variance():
    history = past(182, 800)
    rng = np.random.default_rng(0)
    slot = (history.arrived - MONDAY) % WEEK // (4 * HOUR)
    pattern = rng.normal(0, 0.15, 42)
    y = (rng.random(len(history)) < np.clip(0.6 + pattern[slot], 0, 1)).astype(float)
    assert parts_of(blocks_of(history, y, 4.0)).between < 0.0008
    trend = (history.arrived - BEGINS) / (182 * DAY)
    y = (rng.random(len(history)) < 0.4 + 0.3 * trend).astype(float)
    assert parts_of(blocks_of(history, y, 4.0)).between < 0.0008


def test_weeks_that_are_not_alike_in_traffic_add_variance():
    """Slots of very different means whose contacts vary from week to week."""
    history, rng = past(182, 1200), np.random.default_rng(6)
    slot = (history.arrived - MONDAY) % WEEK // (4 * HOUR)
    y = (rng.random(len(history)) < np.where(slot % 2, 0.95, 0.35)).astype(float)
    even = parts_of(blocks_of(history, y, 4.0))
    # By chance alone as many contacts more or less as Poisson has it, times how far slots are from the mean.
    assert even.uneven == pytest.approx(1 + 0.3**2 / even.within, abs=0.15)
    assert parts_of(blocks_of(history, history.metric("resolved"), 4.0)).uneven < 1.05
    kept = rng.random(len(history)) < rng.uniform(0.1, 1.0, 2000)[(history.arrived - BEGINS) // (4 * HOUR)]
    odd = parts_of(blocks_of(history, np.where(kept, y, np.nan), 4.0))
    assert odd.uneven > even.uneven + 1


def test_blocks_that_hang_together_are_seen_to():
    alone, together = past(112, 800, block_sd=0.1), past(112, 800, block_sd=0.1, block_hours=24.0)
    lag = [parts_of(blocks_of(one, one.metric("resolved"), 4.0)).autocorrelation[0] for one in (alone, together)]
    assert abs(lag[0]) < 0.12
    assert lag[1] > 0.5


def test_the_intraclass_correlation_is_that_of_the_definition():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(400), rng.integers(2, 40, 400))
    y = rng.normal(0, 1, 400)[group] * np.sqrt(0.1) + rng.normal(0, np.sqrt(0.9), len(group))
    assert icc(y, group)[0] == pytest.approx(0.1, abs=0.02)
    # Donner and Koval's balanced case by hand: two groups of two.
    found, many = icc(np.array([1.0, 2.0, 5.0, 6.0]), np.array([0, 0, 1, 1]))
    assert found == pytest.approx((16.0 - 0.5) / (16.0 + 0.5))
    assert many == 2


@given(st.integers(0, 50), st.integers(1, 6))
def test_the_intraclass_correlation_is_a_share(n, groups):
    rng = np.random.default_rng(n)
    found, _ = icc(rng.normal(0, 1, n), rng.integers(-1, groups, n))
    assert 0 <= found <= 1


def test_history_explains_what_comes_after_it():
    plain, told = past(56, 800), past(56, 800, intent_sd=0.15)
    assert plain.adjusted("resolved")[1] < 0.005
    values, explained = told.adjusted("resolved")
    assert explained == pytest.approx(0.15**2 * 21 / 16 * 0.75 / 0.21, abs=0.04)
    middle = BEGINS + 28 * DAY
    assert np.isnan(values[told.arrived < middle]).all()
    late = told.arrived >= middle
    assert np.nanvar(values) == pytest.approx((1 - explained) * np.var(told.metric("resolved")[late]), rel=0.02)
    assert np.nanmean(values) == pytest.approx(told.metric("resolved")[late].mean(), abs=1e-9)


def test_a_metric_that_is_not_there_is_one_line():
    history = past(28, 300)
    with pytest.raises(ConfigError, match="metric csat: no contact before the experiment has it"):
        history.metric("csat")
    with pytest.raises(ConfigError, match="metric occupancy: no single contact has it, so it can be a guardrail"):
        history.metric("occupancy")
    few = np.where(np.arange(len(history)) % 4 == 0, 4.0, np.nan)
    with pytest.raises(ConfigError, match="metric csat: only 25% of contacts"):
        replace(history, columns={**history.columns, "csat": few}).metric("csat")


def test_a_week_is_told_by_day():
    history = past(28, 800)
    quiet = history.part(BEGINS, BEGINS + 28 * DAY) & ((history.arrived - MONDAY) % WEEK // DAY != 6)
    names = ("arrived", "left", "customer", "csa")
    some = replace(history, **{name: getattr(history, name)[quiet] for name in names})
    found = week_of(some, history.metric("resolved")[quiet])
    assert found.contacts[0] == pytest.approx(800, rel=0.05)
    assert found.contacts[6] == 0
    assert found.mean[2] == pytest.approx(0.7, abs=0.03)
