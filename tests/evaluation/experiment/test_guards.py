"""Guardrails: harm that is ruled out, shown, or neither; secondary metrics and their false discoveries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.experiment.effects import Means, setting_of
from evaluation.experiment.guards import guard, secondary
from evaluation.experiment.plan import Guardrail
from evaluation.experiment.spans import spans_of
from tests.evaluation.experiment.made import World, make, plan_of

WAIT = Guardrail(metric="wait_s", better="lower", margin=0.1, relative=True)
REPEAT = Guardrail(metric="repeat", better="lower", margin=0.03)
HANDLE = Guardrail(metric="handle_minutes", better="lower", margin=0.5)
RESOLVED = Guardrail(metric="resolved", better="higher", margin=0.05)


def found(asked: Guardrail, world: World, rule: str = "fixed", seed: int = 0, **more):
    made = make(plan_of(stopping={"rule": rule}, **more), world, seed)
    of = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, draws=200)
    return guard(of, asked, of.outcome(asked.metric)), of


@pytest.mark.parametrize("rule", ["fixed", "always_valid"])
@pytest.mark.parametrize(
    ("asked", "world", "state"),
    [
        (WAIT, World(contacts=12_000), "held"),
        (WAIT, World(contacts=12_000, wait_s=(40.0, 56.0)), "broken"),
        (WAIT, World(contacts=12_000, wait_s=(40.0, 44.0)), "open"),
        (WAIT, World(contacts=12_000, wait_s=(40.0, 30.0)), "held"),
        (REPEAT, World(contacts=12_000, repeat=(0.2, 0.16)), "held"),
        (REPEAT, World(contacts=12_000, repeat=(0.2, 0.3)), "broken"),
        (REPEAT, World(contacts=500), "open"),
        (HANDLE, World(contacts=12_000, handle=(6.0, 7.5)), "broken"),
        (RESOLVED, World(contacts=12_000, effect=0.1), "held"),
        (RESOLVED, World(contacts=12_000, effect=-0.2), "broken"),
    ],
)
def test_states(rule, asked, world, state):
    assert found(asked, world, rule)[0].state == state


def test_harm_is_the_change_for_the_worse_in_the_guardrails_units():
    one, of = found(WAIT, World(contacts=12_000, wait_s=(40.0, 30.0)))
    assert one.harm == pytest.approx(one.treatment / one.control - 1)
    assert one.low < one.harm < one.high < 0
    other, of = found(RESOLVED, World(contacts=12_000, effect=0.1))
    told = Means(of, of.outcome("resolved")).difference()
    assert other.harm == pytest.approx(-told.value)
    low, high = told.interval(0.1)
    assert (other.low, other.high) == pytest.approx((-high, -low))


def test_a_relative_margin_is_a_contrast_without_a_ratio():
    """Held exactly where the upper bound of m₁ − 1.1 m₀ is below 0."""
    one, of = found(WAIT, World(contacts=3000, wait_s=(40.0, 41.0)))
    told = Means(of, of.outcome("wait_s")).of(-1.1, 1.0)
    assert (one.high < 0.1) == (told.interval(0.1)[1] < 0)
    assert one.high - 0.1 == pytest.approx(told.interval(0.1)[1] / one.control)
    assert one.p == pytest.approx(told.below(0.0))


def test_bounds_for_any_number_of_looks_are_wider():
    fixed, _ = found(WAIT, World(contacts=12_000))
    always, _ = found(WAIT, World(contacts=12_000), "always_valid")
    assert always.high > fixed.high
    assert always.low < fixed.low


def test_when_a_guardrail_broke_is_told():
    one, of = found(WAIT, World(contacts=12_000, wait_s=(40.0, 60.0)), "always_valid")
    assert one.broken_at is not None
    assert of.cells.ends.min() < one.broken_at < of.cells.ends.max()


def test_what_nobody_measured_is_said():
    made = make(plan_of())
    of = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame)
    assert guard(of, WAIT, None).state == "not measured"
    assert guard(of, Guardrail(metric="csat", better="higher", margin=0.1), of.outcome("csat")).state == "not measured"


def test_a_guardrail_is_held_falsely_no_more_often_than_its_level():
    """At the margin itself: of thirty, 5 % may be held; five are 3 sigma."""
    world = World(contacts=1500, wait_s=(40.0, 44.0))
    held = sum(found(WAIT, world, seed=seed)[0].state == "held" for seed in range(30))
    assert held <= 5


def test_a_secondary_metric_that_is_known_only_of_who_gave_up_is_none():
    made = make(
        plan_of(primary={"metric": "wait_s", "better": "lower", "smallest_effect": 5.0}), World(abandoned=(0.1, 0.1))
    )
    lost = made.frame["resolved"].where(made.frame["abandoned"] == 1)
    of = setting_of(
        made.plan.model_copy(update={"secondary": ("resolved", "repeat")}), spans_of(made.plan, made.schedule),
        made.frame.assign(resolved=lost), draws=99,
    )  # fmt: skip
    told = secondary(of, {name: of.outcome(name) for name in ("resolved", "repeat")})
    assert [one.effect.metric for one in told] == ["repeat"]


def test_secondary_metrics_share_a_false_discovery_rate():
    made = make(
        plan_of(secondary=["handle_minutes", "repeat", "wait_s", "csat"]), World(contacts=8000, handle=(6.0, 5.0))
    )
    of = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, draws=999)
    told = secondary(of, {name: of.outcome(name) for name in made.plan.secondary})
    assert [one.effect.metric for one in told] == ["handle_minutes", "repeat", "wait_s"]
    assert [one.found for one in told] == [True, False, False]
    p = np.array([one.effect.p for one in told])
    q = np.array([one.q for one in told])
    assert q[0] == pytest.approx(min(3 * p[0], q[1:].min()))
    assert all(one.q_any >= one.q for one in told)
    assert not any(math.isnan(one.effect.value) for one in told)
