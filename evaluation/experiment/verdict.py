"""What is known, how sure, what to do: one paragraph by the plan's own rules.

Notable: the rules are in order, and the first that applies decides. A guardrail that is surely broken or a primary
metric that is surely worse stops; an effect that is surely smaller than what is worth having stops as well, better or
not; better with all guardrails held ships; everything else goes on while the plan lasts, and at its end leaves things
as they are. Where a check refused there is no paragraph but the refusal, and no number in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.experiment.checks import Check
from evaluation.experiment.estimate import Estimate
from evaluation.experiment.guards import Guard
from evaluation.experiment.outcomes import OF_CELLS
from evaluation.experiment.plan import Plan
from evaluation.experiment.value import Value
from evaluation.experiment.words import TITLES, change, level, money, span
from twotower.clock import format_time, parse_time

Action = Literal["ship", "stop", "go on", "no answer"]


@dataclass(frozen=True)
class Verdict:
    """What to do, and why."""

    action: Action
    why: str
    """Which rule decided."""
    paragraph: str
    until: int | None = None
    """Of `go on`: when more can be told, µs UTC, or the plan's end."""


def refused(checks: Sequence[Check]) -> Verdict:
    """No number, for these reasons."""
    reasons = [one.said for one in checks if one.status == "refused"]
    return Verdict("no answer", "refused", "No answer: " + "; ".join(reasons) + ".")


def verdict(plan: Plan, found: Estimate, guards: Sequence[Guard], worth: Value | None, look: int) -> Verdict:
    """By the plan's rules; look: the moment that the data reach to, µs UTC."""
    sign = 1.0 if plan.primary.better == "higher" else -1.0
    low, high = sorted((sign * found.low, sign * found.high))
    ends, title = parse_time(plan.ends), TITLES[plan.primary.metric]
    broken = [one for one in guards if one.state == "broken"]
    not_held = [one for one in guards if one.state in ("open", "not measured")]
    over = look >= ends
    action, until = _decide(low, high, plan.primary.smallest_effect, broken, not_held, over)
    when = _until(found, ends, plan) if action == "go on" else None
    why = {
        "broken": f"{_named(broken)} got worse by more than its margin",
        "worse": f"{title} got worse",
        "small": f"the effect on {title} is surely smaller than the {_size(plan)} that is worth having",
        "better": f"{title} got better, and every guardrail holds" if guards else f"{title} got better",
        "not held": f"{title} got better, but {_named(not_held)} is not known to stay within its margin",
        "not shown": f"{title} is not known to be better or worse",
    }[until]
    parts = [_known(plan, found), _guards(guards), _worth(worth), _advice(action, why, when, over, until)]
    return Verdict(action, until, " ".join(part for part in parts if part), when)


def _decide(
    low: float, high: float, smallest: float, broken: Sequence[Guard], not_held: Sequence[Guard], over: bool
) -> tuple[Action, str]:
    """Of the gain's interval: what to do and which rule says so."""
    if broken:
        return "stop", "broken"
    if high < 0:
        return "stop", "worse"
    if high < smallest:
        return "stop", "small"
    if low > 0 and not not_held:
        return "ship", "better"
    if low > 0:
        return ("stop" if over else "go on"), "not held"
    return ("stop" if over else "go on"), "not shown"


def _known(plan: Plan, found: Estimate) -> str:
    """The effect and how sure it is."""
    effect, metric = found.effect, plan.primary.metric
    kind = "always-valid " if found.rule == "always_valid" else ""
    sure = f"{100 * (1 - effect.alpha):g} % {kind}interval {span(metric, found.low, found.high)}"
    if not math.isfinite(found.high - found.low):
        sure = f"too little is known for a {100 * (1 - effect.alpha):g} % {kind}interval"
    before = ", adjusted for what was known before" if effect.adjusted else ""
    counted = "hours on shift" if metric in OF_CELLS else "contacts"
    text = (
        f"{TITLES[metric].capitalize()} was {level(metric, effect.treatment)} under {plan.treatment.name} and "
        f"{level(metric, effect.control)} under {plan.control.name}{before}: "
        f"{change(metric, effect.value)} ({sure}; {effect.contacts:,} {counted}, {effect.clusters} clusters)."
    )
    if found.rule == "always_valid" and found.crossed_at is not None:
        text += f" The interval first left out zero with what was known on {format_time(found.crossed_at)[:10]}"
        text += ", and no longer does." if found.low <= 0 <= found.high else "."
    return text


def _guards(guards: Sequence[Guard]) -> str:
    """How many guardrails are in which state."""
    if not guards:
        return ""
    said = []
    for state, word in (("held", "held"), ("open", "open"), ("broken", "broken"), ("not measured", "not measured")):
        names = [TITLES[one.of.metric] for one in guards if one.state == state]
        if names:
            said.append(f"{word}: {', '.join(names)}")
    return f"Guardrails {'; '.join(said)}."


def _worth(worth: Value | None) -> str:
    if worth is None:
        return ""
    year, low, high = worth.per_year
    return (
        f"By the plan's prices it is worth {money(year, worth.currency)} a year at this traffic "
        f"({money(low, worth.currency)} to {money(high, worth.currency)})."
    )


def _advice(action: Action, why: str, when: int | None, over: bool, rule: str) -> str:
    if action == "ship":
        return f"Ship: {why}."
    if action == "go on":
        return f"Go on until {format_time(when or 0)}: {why}."
    if over and rule in ("not shown", "not held"):
        return f"Stop and keep the control: the plan has ended, and {why}; asking again needs a new, larger experiment."
    return f"Stop and keep the control: {why}."


def _until(found: Estimate, ends: int, plan: Plan) -> int:
    """When the interval will be as narrow as the effect is large, if the effect is what it seems; at most the plan's
    end."""
    seen, begins = found.monitored, parse_time(plan.begins)
    if not len(seen.value) or not math.isfinite(seen.high[-1]):
        return ends
    half, size = float(seen.high[-1] - seen.low[-1]) / 2, abs(float(seen.value[-1]))
    better = float(seen.value[-1]) * (1 if plan.primary.better == "higher" else -1) > 0
    if not better or size <= 0:
        return ends
    now = int(seen.known_at[-1])
    return int(min(ends, max(now, begins + (now - begins) * (half / size) ** 2)))


def _named(guards: Sequence[Guard]) -> str:
    return " and ".join(TITLES[one.of.metric] for one in guards)


def _size(plan: Plan) -> str:
    return change(plan.primary.metric, plan.primary.smallest_effect).removeprefix("+")
