"""What a simulation found: a table for the terminal, JSON, and a page with pictures."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Any

from evaluation.page import page, table, write_folder
from evaluation.report_text import table as text_table
from evaluation.simulate.figures import NAMES
from evaluation.simulate.pictures import pictures
from evaluation.simulate.replicate import Comparison, Estimate, Trial

COLUMNS = {
    "resolved": ("resolved", "{:.1%}"), "csat": ("csat", "{:.2f}"), "level": ("service level", "{:.1%}"),
    "mean_wait_s": ("mean wait", "{:.1f} s"), "p90_wait_s": ("p90 wait", "{:.0f} s"),
    "abandoned": ("abandon", "{:.1%}"), "handle_s": ("handle", "{:.0f} s"),
    "occupancy": ("occupancy", "{:.1%}"), "busiest": ("busiest", "{:.1%}"),
    "gini_load": ("Gini load", "{:.3f}"), "gini_hard": ("Gini hard", "{:.3f}"),
    "gap_resolved": ("language gap", "{:.1%}"), "gap_wait_s": ("its wait", "{:.0f} s"),
}  # fmt: skip
"""Figures of the table, their titles and formats."""
EXPLAINED = (
    "Mean over replications ± half of the 95 % interval. Every policy met the same contacts with the same luck, so "
    "differences are of pairs: a difference whose interval leaves out 0 is told apart."
)


def shown_columns(found: Comparison) -> list[str]:
    """Figures that there is something to say of."""
    return [name for name in COLUMNS if any(not math.isnan(found.of(one, name).mean) for one in found.names)]


def said(estimate: Estimate, form: str, sign: str = "") -> str:
    """A figure and its half interval, in words."""
    if math.isnan(estimate.mean):
        return "–"
    text = form.replace("{:", "{:" + sign).format(estimate.mean)
    if math.isnan(estimate.half):
        return text
    unit = "%" if form.endswith("%}") else ""
    half = form.replace("%", "f") if unit else form
    return f"{text.removesuffix(' s')} ± {half.format(estimate.half * (100 if unit else 1))}"


def rows_of(found: Comparison, than: str | None = None) -> list[list[str]]:
    """A row a policy; than: what each has more than this one."""
    rows = []
    for name in found.names:
        if name == than:
            continue
        of = [found.of(name, one) if than is None else found.less(name, than, one) for one in shown_columns(found)]
        forms = [COLUMNS[one][1] for one in shown_columns(found)]
        rows.append([name, *(said(one, form, "+" if than else "") for one, form in zip(of, forms, strict=True))])
    return rows


def head_of(found: Comparison) -> list[str]:
    """Titles of the columns."""
    return ["policy", *(COLUMNS[name][0] for name in shown_columns(found))]


def heading(name: str, trial: Trial, found: Comparison) -> str:
    """What was run."""
    centre, runs = trial.centre, found.values.shape[1]
    return (
        f"{name}: {len(centre.classes)} classes, {len(centre.csas)} CSAs, {centre.horizon_s / 3600:g} h, "
        f"load {centre.load():.2f}, {found.of(found.names[0], 'contacts').mean:,.0f} contacts, {runs} replications"
    )


def text_report(name: str, trial: Trial, found: Comparison) -> str:
    """For the terminal."""
    parts = [heading(name, trial, found), *_warnings(trial), "", text_table([head_of(found), *rows_of(found)])]
    if len(found.names) > 1:
        parts += ["", f"more than {found.names[0]}:", text_table([head_of(found), *rows_of(found, found.names[0])])]
    return "\n".join([*parts, "", EXPLAINED])


def json_report(name: str, trial: Trial, found: Comparison) -> dict[str, Any]:
    """Every figure of every policy: mean, half interval, difference from the first policy."""
    policies = {}
    for one in found.names:
        of = {figure: _pair(found.of(one, figure)) for figure in NAMES}
        more = {figure: _pair(found.less(one, found.names[0], figure)) for figure in NAMES}
        policies[one] = (
            {"figures": of, f"more than {found.names[0]}": more} if one != found.names[0] else {"figures": of}
        )
    centre = trial.centre
    return {
        "name": name, "classes": len(centre.classes), "csas": len(centre.csas), "hours": centre.horizon_s / 3600,
        "load": centre.load(), "replications": int(found.values.shape[1]), "seed": trial.seed,
        "warm_up_s": trial.warm_up_s, "target_s": trial.target_s, "policies": policies, "warnings": _warnings(trial),
    }  # fmt: skip


def write_report(name: str, trial: Trial, found: Comparison, folder: str | Path) -> None:
    """`report.html` and `simulation.json` in a new folder, whole or not at all. Raises OutputError."""
    write_folder(folder, html_report(name, trial, found), simulation=json_report(name, trial, found))


def html_report(name: str, trial: Trial, found: Comparison) -> str:
    """The page."""
    body = [f"<h1>{escape(heading(name, trial, found))}</h1>"]
    body += [f'<p class="note">{escape(line)}</p>' for line in _warnings(trial)]
    body += [f"<p>{escape(EXPLAINED)}</p>", table(head_of(found), rows_of(found))]
    if len(found.names) > 1:
        body += [f"<h2>More than {escape(found.names[0])}</h2>", table(head_of(found), rows_of(found, found.names[0]))]
    for title, drawn in pictures(trial, found).items():
        body += [f"<h2>{escape(title)}</h2>", drawn]
    return page(f"{name}: simulation", body)


def _warnings(trial: Trial) -> list[str]:
    found, load = list(trial.notes), trial.centre.load()
    if lost := trial.centre.unserved():
        found.append(f"nobody can take {', '.join(lost)}: such contacts wait until they abandon")
    if load >= 1 and not any(one.kind != "never" for one in trial.centre.patience):
        found.append(f"load {load:.2f} and nobody abandons: waits grow for as long as contacts arrive")
    return found


def _pair(estimate: Estimate) -> dict[str, float]:
    return {"mean": estimate.mean, "half": estimate.half}
