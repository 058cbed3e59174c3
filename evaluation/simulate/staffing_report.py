"""What a search for staff found: tables for the terminal, JSON, and a page with pictures."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.page import page, svg, table, write_folder
from evaluation.report_text import table as text_table
from evaluation.simulate.pictures import colour, plain_axes
from evaluation.simulate.replicate import Estimate
from evaluation.simulate.report import said
from evaluation.simulate.staffing import Found, Verdict
from evaluation.simulate.staffing_answer import Answer, PolicyAnswer
from evaluation.simulate.staffing_start import clock
from twotower.cli import plain

FORMS = {"service_level": "{:.1%}", "abandoned": "{:.1%}", "mean_wait_s": "{:.1f} s", "occupancy": "{:.1%}"}
WORDS = {
    "service_level": "service level", "abandoned": "abandoned", "mean_wait_s": "mean wait", "occupancy": "occupancy"
}  # fmt: skip
OVER = {"interval": "each interval", "day": "the day", "each_class": "each class", "each_group": "each group"}


def heading(answer: Answer) -> str:
    """What was asked."""
    problem = answer.problem
    contacts = problem.arrivals.sum()
    return (
        f"{answer.spec.name}: {len(problem.centre.classes)} classes, {len(problem.groups)} groups, {contacts:,.0f} "
        f"contacts a day, {len(answer.targets)} targets, each to hold with a confidence of {answer.spec.confidence:.0%}"
    )


def explained(answer: Answer) -> list[str]:
    """What the tables mean."""
    some = f"{answer.spec.searches} searches with contacts of their own"
    lines = [
        "Staff by interval is the least in this sense: no single CSA can leave an interval without a target that is "
        "not shown to hold any more (each removal was simulated). Fewer in another combination are not ruled out.",
        "Values beside targets are of contacts that the search has not seen; ± is for all targets together.",
    ]
    if answer.spec.searches > 1:
        lines.append(f"Hours and costs are means of {some}; the staff shown is the first one's.")
    if len(answer.policies) > 1:
        lines.append(
            f"Savings are means of {some}, the same for each policy, ± half of the 95 % interval."
            if answer.spec.searches > 1
            else "Savings are of one search each and have no interval; `searches: 3` or more give one."
        )
    return lines


def total_rows(answer: Answer) -> list[list[str]]:
    """A row a policy: hours and cost a day, savings, shifts."""
    head = ["policy", "hours a day", "cost a day", "saves hours", "saves cost", "saves", "shifts: hours", "targets"]
    rows = [head]
    for one in answer.policies:
        hours, cost = float(answer.hours(one).mean()), float(answer.cost(one).mean())
        saved = answer.saved(one) if one is not answer.policies[0] else None
        parts = ["–", "–", "–"]
        if saved is not None:
            share = saved[1].mean / max(1e-9, float(answer.cost(answer.policies[0]).mean()))
            parts = [said(saved[0], "{:.1f}", "+"), said(saved[1], "{:,.1f}", "+"), f"{share:+.1%}"]
        shifts = "–" if one.covered is None else f"{one.covered.hours:.1f}"
        rows.append([one.name, f"{hours:.1f}", f"{cost:,.1f}", *parts, shifts, _status(answer, one)])
    return rows


def _status(answer: Answer, policy: PolicyAnswer) -> str:
    """What is said of the targets: by the searches, and by contacts that they have not seen."""
    if not policy.met:
        return "cannot be met"
    if not all(one.fresh.ok for one in policy.searches):
        return "met in the search, missed on fresh contacts"
    goals = np.array([one.goal * one.sign for one in answer.targets])
    signs = np.array([one.sign for one in answer.targets])
    values = np.array([one.fresh.shown.values * signs for one in policy.searches])
    return "met" if np.all(np.isnan(values) | (values >= goals)) else "met within error"


def staff_rows(answer: Answer, policy: PolicyAnswer) -> list[list[str]]:
    """A row an interval with staff, a column a group."""
    staff = policy.searches[0].staff
    head, width = ["from", *answer.problem.groups, "all"], answer.problem.centre.interval_s
    return [head] + [
        [clock(t * width), *map(str, staff[:, t]), str(staff[:, t].sum())] for t in np.flatnonzero(staff.any(axis=0))
    ]


def target_rows(answer: Answer, verdict: Verdict) -> list[list[str]]:
    """A row for each kind of target: where it is nearest to being missed."""
    rows = [["target", "goal", "nearest", "there"]]
    values, halves = verdict.shown.values, verdict.shown.halves(verdict.quantile)
    kinds = list(dict.fromkeys((one.scope, one.metric) for one in answer.targets))
    for scope, metric in kinds:
        of = [i for i, one in enumerate(answer.targets) if (one.scope, one.metric) == (scope, metric)]
        known = [i for i in of if not math.isnan(values[i])]
        if not known:
            continue
        worst = min(known, key=lambda i: answer.targets[i].sign * (values[i] - answer.targets[i].goal))
        one, form = answer.targets[worst], FORMS[metric]
        sign = "≥" if one.sign > 0 else "≤"
        found = said(Estimate(float(values[worst]), float(halves[worst])), form)
        rows.append([f"{WORDS[metric]}, {OVER[scope]}", f"{sign} {form.format(one.goal)}", place(answer, worst), found])
    return rows


def place(answer: Answer, target: int) -> str:
    """Where a target applies, in words."""
    one, problem = answer.targets[target], answer.problem
    if one.scope == "interval":
        return f"from {clock(one.place * problem.centre.interval_s)}"
    names = {"each_class": problem.centre.classes, "each_group": problem.groups, "day": ("the day",)}
    return names[one.scope][one.place]


def impossible(answer: Answer, policy: PolicyAnswer) -> list[str]:
    """Which targets cannot be met, and how near everybody comes."""
    lines = []
    for found in policy.searches[:1] if not policy.searches[0].met else ():
        verdict = found.verdict
        upper = verdict.shown.bounds(verdict.quantile)[1]
        values, halves = verdict.shown.values, verdict.shown.halves(verdict.quantile)
        for i in verdict.missed():
            one, form = answer.targets[i], FORMS[answer.targets[i].metric]
            got = said(Estimate(float(values[i]), float(halves[i])), form)
            can = "cannot be met" if upper[i] < 0 else f"cannot be shown to be met in {len(verdict.shown.counts)} runs"
            goal = f"{'at least' if one.sign > 0 else 'at most'} {form.format(one.goal)}"
            lines.append(
                f"{policy.name}: {WORDS[one.metric]} of {goal}, {place(answer, int(i))}, {can} within bounds; "
                f"everybody together comes to {got}"
            )
    return lines


def text_report(answer: Answer) -> str:
    """For the terminal."""
    parts = [heading(answer), "", text_table(total_rows(answer))]
    for one in answer.policies:
        parts += ["", *impossible(answer, one)]
        if one.searches[0].met:
            parts += [f"{one.name}: CSAs by interval", text_table(staff_rows(answer, one)), ""]
            parts += [text_table(target_rows(answer, one.searches[0].fresh))]
            parts += ["", *_shift_lines(answer, one)] if one.covered is not None else []
    return "\n".join([*parts, "", *explained(answer)])


def _shift_lines(answer: Answer, policy: PolicyAnswer) -> list[str]:
    lines, covered = [], policy.covered
    if covered is None:
        return []
    for g, name in enumerate(answer.problem.groups):
        of = [f"{many} × {shift}" for many, shift in zip(covered.roster.csas[g], covered.roster.names, strict=True)
              if many]  # fmt: skip
        lines.append(f"shifts of {name}: {', '.join(of) or 'none'}")
    cost = float((covered.roster.csas * covered.roster.hours).sum(axis=1) @ answer.problem.cost)
    ok = "no target is shown to be missed" if covered.verdict.ok else "some target is missed"
    return [*lines, f"{covered.hours:.1f} hours and {cost:,.1f} a day; simulated with these shifts, {ok}"]


def json_report(answer: Answer) -> dict[str, Any]:
    """All of it."""
    problem = answer.problem
    slots = [clock(t * problem.centre.interval_s) for t in range(problem.most.shape[1])]
    policies = {}
    for one in answer.policies:
        saved = answer.saved(one)
        policies[one.name] = {
            "met": one.met, "targets": _status(answer, one),
            "staff": dict(zip(problem.groups, one.searches[0].staff.tolist(), strict=True)),
            "hours": answer.hours(one).tolist(), "cost": answer.cost(one).tolist(),
            "saved": None if saved is None else {
                "hours": {"mean": saved[0].mean, "half": saved[0].half},
                "cost": {"mean": saved[1].mean, "half": saved[1].half},
            },
            "confirmed": all(found.fresh.ok for found in one.searches), "impossible": impossible(answer, one),
            "values": _targets(answer, one.searches[0]), "tried": [found.tried for found in one.searches],
            "shifts": _shifts(answer, one),
        }  # fmt: skip
    return dict(plain({
        "name": answer.spec.name, "intervals": slots, "groups": problem.groups, "confidence": answer.spec.confidence,
        "searches": answer.spec.searches, "seed": answer.spec.seed, "cost_per_hour": problem.cost,
        "policies": policies,
    }))  # fmt: skip


def _targets(answer: Answer, found: Found) -> list[dict[str, Any]]:
    of = found.fresh if found.met else found.verdict
    values, halves = of.shown.values, of.shown.halves(of.quantile)
    return [
        {"scope": one.scope, "place": place(answer, i), "metric": one.metric, "goal": one.goal, "value": values[i],
         "half": halves[i]}
        for i, one in enumerate(answer.targets)
    ]  # fmt: skip


def _shifts(answer: Answer, policy: PolicyAnswer) -> dict[str, Any] | None:
    if policy.covered is None:
        return None
    roster = policy.covered.roster
    csas = {name: dict(zip(roster.names, of, strict=True)) for name, of in
            zip(answer.problem.groups, roster.csas.tolist(), strict=True)}  # fmt: skip
    return {"csas": csas, "hours": policy.covered.hours, "ok": policy.covered.verdict.ok}


def write_report(answer: Answer, folder: str | Path) -> None:
    """`report.html` and `staffing.json` in a new folder, whole or not at all. Raises OutputError."""
    write_folder(folder, html_report(answer), staffing=json_report(answer))


def html_report(answer: Answer) -> str:
    """The page."""
    rows = total_rows(answer)
    body = [f"<h1>{escape(heading(answer))}</h1>", table(rows[0], rows[1:])]
    body += [f"<p>{escape(line)}</p>" for line in explained(answer)]
    for one in answer.policies:
        body.append(f"<h2>{escape(one.name)}</h2>")
        body += [f'<p class="note">{escape(line)}</p>' for line in impossible(answer, one)]
        body.append(svg(lambda figure, one=one: _picture(figure, answer, one), 10, 5.5))  # type: ignore[misc]
        if one.searches[0].met:
            body += [table(rows[0], rows[1:]) for rows in
                     (target_rows(answer, one.searches[0].fresh), staff_rows(answer, one))]  # fmt: skip
        body += [f"<p>{escape(line)}</p>" for line in _shift_lines(answer, one)]
    return page(f"{answer.spec.name}: staffing", body)


def _picture(figure: Any, answer: Answer, policy: PolicyAnswer) -> None:
    """Staff by interval, groups on each other; what was reached by interval, beside its goal."""
    found, hours = policy.searches[0], answer.problem.hours
    of = found.fresh if found.met else found.verdict
    metrics = list(dict.fromkeys(one.metric for one in answer.targets if one.scope == "interval"))
    parts = np.atleast_1d(figure.subplots(1 + len(metrics), 1, sharex=True))
    at, under = np.arange(found.staff.shape[1]) * hours, np.zeros(found.staff.shape[1])
    for g, name in enumerate(answer.problem.groups):
        parts[0].bar(at, found.staff[g], hours, under, align="edge", color=colour(g + 1), label=name)
        under = under + found.staff[g]
    parts[0].set_ylabel("CSAs")
    parts[0].legend(frameon=False, ncols=6)
    values, halves = of.shown.values, of.shown.halves(of.quantile)
    for axes, metric in zip(parts[1:], metrics, strict=True):
        these = [i for i, one in enumerate(answer.targets) if (one.scope, one.metric) == ("interval", metric)]
        x = (np.array([answer.targets[i].place for i in these]) + 0.5) * hours
        axes.errorbar(x, values[these], np.nan_to_num(halves[these]), fmt="o", ms=3, color=colour(1))
        axes.axhline(answer.targets[these[0]].goal, color="#1d2733", lw=1, ls="--")
        if metric in ("service_level", "abandoned"):
            axes.set_ylim(max(0.0, axes.get_ylim()[0]), min(1.02, axes.get_ylim()[1]))
        axes.set_ylabel(WORDS[metric] + (", s" if metric == "mean_wait_s" else ""))
    for axes in parts:
        plain_axes(axes)
    some = np.flatnonzero(found.staff.any(axis=0))
    if len(some):
        parts[-1].set_xlim((some[0] - 1) * hours, (some[-1] + 2) * hours)
    parts[-1].set_xlabel("hour of the day")
