"""A design as text for the terminal and as JSON for machines."""

from __future__ import annotations

from typing import Any

from evaluation.experiment.design import Designed
from evaluation.experiment.design_guards import said
from evaluation.experiment.design_tables import guard_rows, option_rows, plan_rows, sure_rows
from evaluation.experiment.design_tried import enough
from evaluation.experiment.simulated_bias import Bias
from evaluation.experiment.words import towards
from evaluation.report_text import table
from evaluation.simulate.replicate import Estimate
from twotower.cli import plain
from twotower.clock import format_time


def text_report(of: Designed) -> str:
    """The whole in plain text."""
    end = of.at_end
    parts = [
        heading(of),
        *(f"guardrails: {line}" for line in said(of.guards)),
        "",
        table(plan_rows(of)),
        "",
        *(f"- {line}" for line in of.choice.why),
    ]
    parts += ["", table([row[:-1] for row in option_rows(of)])]
    parts += ["", f"How long, {of.choice.option.design}:", table(sure_rows(of))]
    if of.guards:
        parts += ["", table(guard_rows(of))]
    if end.tried is not None:
        parts += ["", checked(of)]
    return "\n".join([*parts, *(f"note: {line}" for line in of.notes)])


def heading(of: Designed) -> str:
    """In one line."""
    plan, primary = of.plan, of.plan.primary
    found, end = towards(primary.metric, primary.smallest_effect, primary.better), of.at_end.tried
    less = ""
    if plan.stopping.rule == "fixed" and end is not None and not enough(of.asked, end):
        less = f" by formula, but of {end.found:.0%} by trying"
    return (
        f"{plan.name}: {of.choice.days:g} days of {plan.design} find {found} with a power of "
        f"{plan.expected.get('power', float('nan')):.0%}{less}"
    )


def checked(of: Designed) -> str:
    """Formula and trying, side by side."""
    end = of.at_end
    if end.tried is None:
        return ""
    return (
        f"power at the end, one look: {end.fixed:.1%} by formula, {end.tried.found:.1%} ± {end.tried.half:.1%} in "
        f"{end.tried.many:,} experiments made of the history's own blocks; without an effect {end.tried.false:.1%} "
        "found one"
    )


def json_report(of: Designed) -> dict[str, Any]:
    """Everything, as JSON holds it."""
    told = of.told
    data: dict[str, Any] = {
        "plan": of.plan.model_dump(mode="json"),
        "why": list(of.choice.why),
        "options": [
            {
                "design": one.design, "unit": one.unit, "block_hours": one.block_hours,
                "wash_out_minutes": one.wash_out_minutes, "missed": one.missed, "against": list(one.against),
                "impossible": one.impossible, "chosen": one is of.choice.option, "units": list(one.units)[:100],
                "days": None if one.impossible else one.days(of.asked),
                "smallest": one.smallest(of.asked, of.choice.days), "power": one.power(of.asked, of.choice.days),
                "tried": None if tried is None else
                         {"days": tried.days, **vars(tried.tried), "half": tried.tried.half},
            }
            for one, tried in zip(of.choice.options, of.compared, strict=True)
        ],
        "blocks": [
            {"block_hours": one.block_hours, "wash_out_minutes": one.wash_out_minutes, "missed": one.missed,
             "days": one.days(of.asked), "smallest": one.smallest(of.asked, of.choice.days)}
            for one in of.choice.grid if not one.impossible
        ],
        "sure": [{**vars(one), "tried": None if one.tried is None else {**vars(one.tried), "half": one.tried.half}}
                 for one in of.sure],
        "carry_over": None if of.decay is None else vars(of.decay) | {"source": of.decay.source},
        "guardrails": [
            {**one.of.model_dump(), "now": one.level, "held": one.held, "smallest": one.smallest,
             "default_margin": one.default and one.default[0], "default_held": one.default and one.default[1]}
            for one in of.guards
        ],
        "guardrails_said": said(of.guards),
        "history": {
            "contacts": told.contacts, "days": told.days, "begins": format_time(told.begins),
            "ends": format_time(told.ends), "mean": told.mean, "block_hours": told.hours, "parts": vars(told.parts),
            "icc": {name: {"icc": share, "groups": groups} for name, (share, groups) in told.icc.items()},
            "explained": told.explained, "gain": told.gain, "week": vars(told.week),
        },
        "like": None if of.like is None else vars(of.like),
        "biases": [as_json(one) for one in of.biases],
        "replayed": _replayed(of),
        "notes": list(of.notes),
    }  # fmt: skip
    found: dict[str, Any] = plain(data)
    return found


def as_json(of: Bias) -> dict[str, Any]:
    """One bias."""
    return {
        "load": of.load, "metric": of.metric, "way": of.way, "covered": of.covered,
        **{name: _estimate(getattr(of, name)) for name in ("truth", "told", "off")},
    }  # fmt: skip


def _estimate(of: Estimate) -> dict[str, float]:
    return {"mean": of.mean, "half": of.half}


def _replayed(of: Designed) -> dict[str, Any] | None:
    again = of.replayed
    if again is None:
        return None
    return {
        "from": format_time(again.begins), "days": again.days, "policies": list(again.policies), "load": again.load,
        "biases": [as_json(one) for one in again.biases],
        "carried": [{"metric": one.metric, "effect": one.effect, "missed": one.missed, **vars(one.decay)}
                    for one in again.carried],
        "notes": list(again.notes),
    }  # fmt: skip
