"""The confidence sequence: what it promises under dependence, that a look does not change, where it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.experiment.effects import Means, setting_of
from evaluation.experiment.estimate import estimate
from evaluation.experiment.monitor import path, planned_cells
from evaluation.experiment.spans import Spans, spans_of
from tests.evaluation.experiment.made import World, make, plan_of
from twotower.clock import DAY


def setting(made, spans=None, **more):
    return setting_of(made.plan, spans or spans_of(made.plan, made.schedule), made.frame, **more)


def test_there_is_a_look_after_every_block():
    made = make(plan_of())
    of = setting(made)
    found = path(of, of.outcome("resolved"), 0.05)
    assert found.known_at.tolist() == sorted(of.cells.ends.tolist())
    assert planned_cells(of) == 84


def test_outcomes_are_known_when_they_are_mature():
    made = make(plan_of(mature_days=3))
    of = setting(made)
    assert path(of, of.outcome("resolved"), 0.05).known_at[0] == of.cells.ends[0] + 3 * DAY


@pytest.mark.parametrize("design", ["switchback", "customer"])
def test_the_last_look_is_the_estimate_of_all_cells(design):
    made = make(plan_of(design))
    of = setting(made)
    outcome = of.outcome("resolved")
    found, told = path(of, outcome, 0.05), Means(of, outcome).difference()
    assert found.value[-1] == pytest.approx(told.value, abs=2e-4)  # θ is that of the contacts that count
    assert found.se[-1] == pytest.approx(told.se, rel=0.1)


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_an_early_look_is_the_same_whatever_comes_later(design):
    made = make(plan_of(design), World(effect=0.03))
    of = setting(made)
    whole = path(of, of.outcome("resolved"), 0.05)
    half = int(whole.known_at[len(whole.known_at) // 2])
    spans = of.spans
    if design != "cluster":
        early = spans.ends <= half
        spans = Spans(*(getattr(spans, name)[early] for name in ("begins", "ends", "unit", "arm", "pair")))
    inside = (of.cells.arrived < half) & (made.frame["arm"].to_numpy() >= 0)
    cut = made.changed(arm=np.where(inside, made.frame["arm"], -1).astype(np.int8))
    other = setting(cut, spans)
    before = path(other, other.outcome("resolved"), 0.05)
    many = len(before.value)
    assert 0 < many < len(whole.value)
    assert before.value == pytest.approx(whole.value[:many], nan_ok=True)
    if design != "customer":
        assert before.low == pytest.approx(whole.low[:many])


def test_an_effect_that_is_large_is_found_before_the_end():
    made = make(plan_of(), World(effect=0.12, contacts=8000))
    found = estimate(made.plan, made.schedule, made.frame)
    assert found.crossed_at is not None
    assert found.crossed_at < found.monitored.known_at[-1]
    assert found.low > 0


def test_which_interval_decides_is_the_plans():
    for rule in ("fixed", "always_valid"):
        made = make(plan_of(stopping={"rule": rule}), World(effect=0.05))
        found = estimate(made.plan, made.schedule, made.frame, draws=200)
        mine = (found.effect.low, found.effect.high)
        last = (found.monitored.low[-1], found.monitored.high[-1])
        assert (found.low, found.high) == (mine if rule == "fixed" else last)
        assert last[1] - last[0] > mine[1] - mine[0]


def test_the_first_looks_say_nothing():
    made = make(plan_of())
    of = setting(made)
    found = path(of, of.outcome("resolved"), 0.05)
    assert found.low[0] == -math.inf
    assert np.isfinite(found.low[-1])


def test_a_margin_that_is_relative_is_taken_from_the_controls_mean():
    made = make(plan_of(), World(wait_s=(40.0, 44.0)))
    of = setting(made)
    outcome = of.outcome("wait_s")
    plain, shifted = path(of, outcome, 0.1), path(of, outcome, 0.1, shift=0.1)
    m0, m1 = outcome.means(of.cells.arm)
    assert plain.value[-1] == pytest.approx(m1 - m0, rel=0.02)
    assert shifted.value[-1] == pytest.approx(m1 - 1.1 * m0, rel=0.05, abs=0.05)


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_with_no_effect_it_rarely_leaves_out_zero_though_contacts_hang_together(design):
    """Thirty experiments of no effect, looked at after every block or day; 5 % are allowed, five are 3 sigma."""
    world = World(contacts=1500, shock=0.08, customers=400, customer_spread=0.1)
    crossed = 0
    for seed in range(30):
        made = make(plan_of(design), world, seed)
        of = setting(made)
        crossed += path(of, of.outcome("resolved"), 0.05).crossed is not None
    assert crossed <= 5


def test_nobody_known_is_no_look():
    made = make(plan_of())
    of = setting(made.changed(csat=np.nan))
    found = path(of, of.outcome("csat"), 0.05)
    assert len(found.value) == 0
    assert found.crossed is None
    assert found.crossed_at is None


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_the_lift_is_the_effect_over_the_controls_mean(design):
    made = make(plan_of(design), World(contacts=4000, effect=0.1))
    of = setting(made)
    outcome = of.outcome("resolved")
    plain, lift = path(of, outcome, 0.05), path(of, outcome, 0.05, lift=True)
    m0, m1 = outcome.means(of.cells.arm)
    assert lift.value[-1] == pytest.approx(m1 / m0 - 1, abs=1e-3)
    # The delta method: the treatment's part over m₀, the control's by m₁ / m₀ more.
    assert plain.se[-1] / m0 < lift.se[-1] < plain.se[-1] * m1 / m0**2
    assert ((lift.low > 0) == (plain.low > 0)).mean() > 0.9
