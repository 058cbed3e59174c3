"""Findings in plain text."""

from __future__ import annotations

import math

from evaluation.report_text import table
from loop.drift.catalogue import GROUPS, KINDS
from loop.drift.judge import Finding
from loop.drift.run import Drift
from twotower.clock import format_time


def text_report(found: Drift) -> str:
    """Alarms first, then every statistic by group."""
    lines = [heading(found), *(f"note: {line}" for line in found.notes), "", *verdict(found)]
    for group, title in GROUPS.items():
        rows = [("", "value", "usual", "status")]
        known = [one for one in found.findings if one.group == group and one.status != "not known"]
        rows += [(one.title, shown(one.name, one.value), usual(one), one.status) for one in known]
        unknown = [one for one in found.findings if one.group == group and one.status == "not known"]
        lines += ["", title]
        lines += [table(rows)] if known else []
        lines += [f"{one.title}: not known, {one.reason}" for one in unknown]
    return "\n".join(lines)


def heading(found: Drift) -> str:
    """What was compared with what."""
    return (
        f"{format_time(found.start)} to {format_time(found.stop)}: {found.contacts:,} contacts, {found.handovers:,} "
        f"hand-overs, against {len(found.edges) - 2} windows of {found.days} days before"
    )


def verdict(found: Drift) -> list[str]:
    """A line for every alarm, then for what is to be watched; one where there is neither."""
    told = [f"{one.status.upper()} {one.name}: {line(one)}" for one in found.of("alarm", "watch")]
    tested = sum(one.p is not None for one in found.findings)
    if not told:
        told = ["Nothing has drifted more than it does from window to window."]
    return [
        *told,
        f"{tested} statistics were judged together: where nothing drifts, the chance of any alarm is {found.rate:.0%} "
        "at most.",
    ]


def line(one: Finding) -> str:
    """Value, usual range, sentence, and what it is made of."""
    made = f" [{named(one)}]" if one.named else ""
    return f"{shown(one.name, one.value)}, usually {usual(one)}. {one.sentence[:1].upper()}{one.sentence[1:]}{made}"


def named(one: Finding) -> str:
    """What the value is made of."""
    count = one.name.startswith(("input.new", "roster", "feedback.effective", "feedback.gini"))
    if one.name in ("roster.joiners", "roster.leavers"):
        return ", ".join(one.named)
    return ", ".join(f"{key} {value:,.0f}" if count else f"{key} {value:+.2%}" for key, value in one.named.items())


def usual(one: Finding) -> str:
    """The usual range, `below x` and `above x` where it is open."""
    if one.p is None:
        return "–"
    if math.isinf(one.low):
        return f"below {shown(one.name, one.high)}"
    if math.isinf(one.high):
        return f"above {shown(one.name, one.low)}"
    return f"{shown(one.name, one.low)} to {shown(one.name, one.high)}"


def shown(name: str, value: float) -> str:
    """A value in the unit of its statistic."""
    if math.isnan(value):
        return "–"
    unit = KINDS[name].unit
    if unit in ("share", "ratio"):
        return f"{value:.1%}"
    if unit == "count":
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}"
