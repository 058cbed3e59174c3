"""What to do: the plan's rules in their order, in one paragraph, and no number where a check refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation.experiment.checks import Check
from evaluation.experiment.effects import Effect
from evaluation.experiment.estimate import Estimate
from evaluation.experiment.guards import Guard
from evaluation.experiment.monitor import Path
from evaluation.experiment.plan import Guardrail, Plan
from evaluation.experiment.value import Value
from evaluation.experiment.verdict import refused, verdict
from tests.evaluation.experiment.made import plan_of
from twotower.clock import DAY, parse_time

BEGINS = parse_time("2026-03-02T00:00:00Z")
ENDS = parse_time("2026-03-16T00:00:00Z")
HALF = BEGINS + 7 * DAY
ASKED = Guardrail(metric="wait_s", better="lower", margin=0.1, relative=True)


def told(plan: Plan, value: float, half: float, rule: str = "always_valid") -> Estimate:
    """An estimate with the interval value ± half, known half-way and at the end."""
    effect = Effect(
        "resolved", 0.7, 0.7 + value, value, half / 2, 40.0, value - half, value + half, 0.01, 0.05, 9000, 42, "CR2 t"
    )
    values = np.full(2, value)
    path = Path("resolved", np.array([HALF - DAY, HALF]), values, values, values - half, values + half, 0.05)
    return Estimate(effect, path, rule)


def guards(*states: str) -> tuple[Guard, ...]:
    return tuple(Guard(ASKED, state) for state in states)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "half", "states", "look", "action", "why"),
    [
        (0.05, 0.02, (), ENDS, "ship", "better"),
        (0.05, 0.02, ("held", "held"), HALF, "ship", "better"),
        (0.05, 0.02, ("held", "broken"), HALF, "stop", "broken"),
        (0.05, 0.02, ("open",), HALF, "go on", "not held"),
        (0.05, 0.02, ("open",), ENDS, "stop", "not held"),
        (0.05, 0.02, ("not measured",), ENDS, "stop", "not held"),
        (-0.05, 0.02, ("held",), HALF, "stop", "worse"),
        (0.005, 0.010, ("held",), HALF, "stop", "small"),
        (0.012, 0.005, ("held",), HALF, "stop", "small"),
        (0.03, 0.04, ("held",), HALF, "go on", "not shown"),
        (0.03, 0.04, ("held",), ENDS, "stop", "not shown"),
        (0.03, math.inf, ("held",), HALF, "go on", "not shown"),
    ],
)
def test_the_first_rule_that_applies_decides(value, half, states, look, action, why):
    plan = plan_of()
    found = verdict(plan, told(plan, value, half), guards(*states), None, look)
    assert (found.action, found.why) == (action, why)
    assert "\n" not in found.paragraph
    assert (found.until is not None) == (action == "go on")


def test_lower_is_better_where_the_plan_says_so():
    plan = plan_of(primary={"metric": "wait_s", "better": "lower", "smallest_effect": 2.0})
    assert verdict(plan, told(plan, -5.0, 2.0), (), None, ENDS).why == "better"
    assert verdict(plan, told(plan, 5.0, 2.0), (), None, ENDS).why == "worse"


def test_the_paragraph_says_what_is_known_how_sure_and_what_to_do():
    plan = plan_of()
    worth = Value("EUR", (), 0.5, 0.1, 0.9, 0.99, 100_000.0, ())
    said = verdict(plan, told(plan, 0.05, 0.02), guards("held", "open"), worth, HALF).paragraph
    assert said.startswith("Resolution was 75.0 % under matched and 70.0 % under queue")
    assert "+5.00 points (95 % always-valid interval +3.00 to +7.00 points; 9,000 contacts, 42 clusters)" in said
    assert "first left out zero with what was known on 2026-03-08" in said
    assert "Guardrails held: wait; open: wait." in said
    assert "EUR 50,000 a year at this traffic (EUR 10,000 to EUR 90,000)" in said
    assert "Go on until" in said
    assert said.endswith("resolution got better, but wait is not known to stay within its margin.")


def test_adjusted_is_said_only_of_what_is_adjusted():
    plan = plan_of()
    found = told(plan, 0.05, 0.02)
    assert "under queue: +5.00 points" in verdict(plan, found, (), None, HALF).paragraph
    adjusted = replace(found, effect=replace(found.effect, adjusted=True))
    assert "under queue, adjusted for what was known before: +5.00 points" in (
        verdict(plan, adjusted, (), None, HALF).paragraph
    )


def test_hours_on_shift_are_no_contacts():
    plan = plan_of(primary={"metric": "occupancy", "better": "lower", "smallest_effect": 0.01})
    said = verdict(plan, told(plan, -0.05, 0.02), (), None, HALF).paragraph
    assert "9,000 hours on shift, 42 clusters" in said
    assert "contacts" not in said


def test_an_interval_that_left_out_zero_and_holds_it_again_is_said():
    plan = plan_of()
    found = told(plan, 0.03, 0.04)
    path = replace(found.monitored, low=np.array([0.01, -0.01]))
    said = verdict(plan, replace(found, monitored=path), (), None, HALF)
    assert "first left out zero with what was known on 2026-03-08, and no longer does." in said.paragraph
    assert said.action == "go on"


def test_a_fixed_rule_speaks_of_one_interval():
    plan = plan_of(stopping={"rule": "fixed"})
    said = verdict(plan, told(plan, 0.05, 0.02, "fixed"), (), None, ENDS).paragraph
    assert "95 % interval +3.00 to +7.00 points" in said
    assert "always-valid" not in said


def test_until_when_to_go_on_follows_from_how_much_is_missing():
    """At half of the time the interval is 4 points wide and the effect 3: it must shrink by 3/4, (4/3)² as long."""
    plan = plan_of()
    found = verdict(plan, told(plan, 0.03, 0.04), (), None, HALF)
    assert found.until == pytest.approx(BEGINS + 7 * DAY * (4 / 3) ** 2, abs=1e6)
    assert verdict(plan, told(plan, 0.03, 0.3), (), None, HALF).until == ENDS
    assert verdict(plan, told(plan, -0.01, 0.05), (), None, HALF).until == ENDS
    assert verdict(plan, told(plan, 0.03, math.inf), (), None, HALF).until == ENDS


def test_an_interval_that_is_not_bounded_is_said_in_words():
    plan = plan_of()
    assert (
        "too little is known for a 95 % always-valid interval"
        in verdict(plan, told(plan, 0.03, math.inf), (), None, HALF).paragraph
    )


def test_a_refusal_is_its_reasons_and_nothing_else():
    checks = [Check("a", "passed", "1,234 contacts"), Check("b", "refused", "no arm"), Check("c", "refused", "no data")]
    found = refused(checks)
    assert (found.action, found.paragraph) == ("no answer", "No answer: no arm; no data.")
