"""An analysis as text for a terminal and as JSON for machines. Where a check refused, neither holds an estimate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from evaluation.experiment.analyse import Analysis, Found
from evaluation.experiment.analyse_tables import tables
from evaluation.experiment.monitor import Path
from evaluation.report_text import table as text_table
from twotower.clock import format_time


def heading(analysis: Analysis) -> str:
    """What was asked, until when."""
    plan = analysis.plan
    return (
        f"{plan.name} ({plan.design} by {plan.unit}): {plan.treatment.name} against {plan.control.name}, "
        f"from {plan.begins} as known at {format_time(analysis.look)}"
    )


def text_report(analysis: Analysis) -> str:
    """The verdict, what to keep in mind, every table, the checks."""
    parts = [heading(analysis), f"hypothesis: {analysis.plan.hypothesis}", "", analysis.verdict.paragraph]
    parts += [f"note: {line}" for line in analysis.notes]
    parts += [f"note: {one.said}" for one in analysis.checks if one.status == "note"]
    for one in tables(analysis):
        parts += ["", f"{one.title}. {one.explained}", text_table([one.head, *one.rows])]
    if analysis.found is not None:
        rows = [(one.name, one.status, one.said) for one in analysis.checks]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        parts += ["", "Checks", *(f"{a.ljust(widths[0])}  {b.ljust(widths[1])}  {c}" for a, b, c in rows)]
    return "\n".join(parts)


def json_report(analysis: Analysis) -> dict[str, Any]:
    """Everything, as JSON holds it; infinite bounds become null."""
    plan, verdict = analysis.plan, analysis.verdict
    data: dict[str, Any] = {
        "plan": plan.model_dump(mode="json"), "look": format_time(analysis.look), "refusals": analysis.refusals,
        "checks": [{"name": one.name, "status": one.status} | _said(one.said, one.status) for one in analysis.checks],
        "notes": analysis.notes,
        "verdict": {
            "action": verdict.action, "why": verdict.why, "paragraph": verdict.paragraph,
            "until": None if verdict.until is None else format_time(verdict.until),
        },
        "found": None if analysis.found is None else _found(analysis.found),
    }  # fmt: skip
    return data


def _said(said: str, status: str) -> dict[str, str]:
    """What passed needs no words for machines, and may hold figures that a refusal must not let out."""
    return {} if status == "passed" else {"said": said}


def _found(found: Found) -> dict[str, Any]:
    primary = found.estimate
    data: dict[str, Any] = {
        "primary": asdict(primary.effect) | {"relative": primary.effect.relative},
        "decides": {"rule": primary.rule, "low": primary.low, "high": primary.high},
        "monitored": _path(primary.monitored),
        "monitored_lift": None if primary.lift is None else _path(primary.lift),
        "sensitivity": [asdict(one) for one in found.sensitivity],
        "guardrails": [_guard(one) for one in found.guards],
        "secondary": [asdict(one) for one in found.secondary],
        "bands": [asdict(one) for one in found.bands],
        "novelty": asdict(found.novelty), "blocks": [_block(one) for one in found.blocks],
    }  # fmt: skip
    for stretch in data["novelty"]["stretches"]:
        stretch |= {name: format_time(int(stretch[name])) for name in ("begins", "ends")}
    data["carry_over"] = None if found.carry_over is None else asdict(found.carry_over)
    data["taken"] = None if found.taken is None else asdict(found.taken)
    if found.value is not None:
        year = dict(zip(("value", "low", "high"), found.value.per_year, strict=True))
        data["value"] = asdict(found.value) | {"per_year": year}
    return data


def _path(seen: Path) -> dict[str, Any]:
    return {
        "alpha": seen.alpha, "known_at": [format_time(int(one)) for one in seen.known_at], "value": seen.value,
        "low": seen.low, "high": seen.high,
        "crossed_at": None if seen.crossed_at is None else format_time(seen.crossed_at),
    }  # fmt: skip


def _guard(one: Any) -> dict[str, Any]:
    data = {name: getattr(one, name) for name in ("state", "control", "treatment", "harm", "low", "high", "p")}
    asked = one.of.model_dump(mode="json")
    broken = None if one.broken_at is None else format_time(one.broken_at)
    return {**asked, **data, "broken_at": broken}


def _block(one: Any) -> dict[str, Any]:
    return asdict(one) | {"begins": format_time(one.begins), "ends": format_time(one.ends)}
