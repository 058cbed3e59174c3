"""A frontier for the terminal, as JSON, and as a page with a picture."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.page import page, svg, table, write_folder
from evaluation.report_text import table as text_table
from evaluation.simulate.frontier import MORE_IS_BETTER, Chosen, Frontier
from evaluation.simulate.pictures import colour, plain_axes
from evaluation.simulate.report import COLUMNS, heading, json_report, said

EXPLAINED = (
    "Mean over replications ± half of the 95 % interval; every point met the same contacts with the same luck. "
    "frontier: no other point is at least as good in every objective and better in one, by means; near: one is, but "
    "is not told apart by pairs; behind: one is, and is told apart."
)


def title(figure: str) -> str:
    """Of a figure, in words."""
    return COLUMNS.get(figure, (figure.replace("_", " "), ""))[0]


def form(figure: str) -> str:
    """How its values are written."""
    return COLUMNS.get(figure, ("", "{:.4g}"))[1]


def standing(of: Frontier, point: int) -> str:
    """Where a point stands."""
    if of.on[point]:
        return "frontier"
    return "near" if of.beaten_by[point] < 0 else "behind"


def takers(of: Frontier, point: int) -> str:
    """Whose rule takes a point."""
    return ", ".join(one.stakeholder for one in of.chosen if one.point == point)


def point_rows(of: Frontier) -> list[list[str]]:
    """A row a point, those on the frontier by the first objective."""
    shown = _shown(of)
    head = ["policy", *(title(name) for name in shown), "stands", "taken by"]
    worth = of.means(of.objectives[0]) * (1 if of.objectives[0] in MORE_IS_BETTER else -1)
    order = sorted(range(len(worth)), key=lambda p: (not of.on[p], -worth[p]))
    return [head] + [
        [of.found.names[p], *(said(of.found.of(of.found.names[p], name), form(name)) for name in shown),
         standing(of, p), takers(of, p)]
        for p in order
    ]  # fmt: skip


def _shown(of: Frontier) -> list[str]:
    rules = [name for one in of.spec.rules.values() for name in (one.figure, *one.subject_to)]
    return [name for name in dict.fromkeys((*of.objectives, *rules)) if not np.all(np.isnan(of.means(name)))]


def choice_rows(of: Frontier) -> list[list[str]]:
    """A row a stakeholder: the rule, the point, what it has more than the first point, by pairs."""
    shown = _shown(of)
    rows = [["stakeholder", "rule", "takes", *(f"{title(name)}, more" for name in shown), "not told apart from"]]
    for one in of.chosen:
        said_of = ["–"] * len(shown)
        if one.point >= 0:
            names = of.found.names[one.point], of.found.names[0]
            said_of = [said(of.found.less(*names, name), form(name), "+") for name in shown]
        taken = "nothing" if one.point < 0 else of.found.names[one.point]
        others = f"{len(one.alike)} others" if len(one.alike) > 2 else "; ".join(of.found.names[p] for p in one.alike)
        rows.append([one.stakeholder, rule_of(of, one), taken, *said_of, others or "–"])
    return rows


def rule_of(of: Frontier, chosen: Chosen) -> str:
    """In words."""
    rule = of.spec.rules[chosen.stakeholder]
    limits = ", ".join(f"{name} {text.strip()}" for name, text in rule.subject_to.items())
    verb = "maximise" if rule.maximise is not None else "minimise"
    return f"{verb} {rule.figure}" + (f" with {limits}" if limits else "")


def text_report(of: Frontier) -> str:
    """For the terminal."""
    parts = [heading(of.spec.name, of.trial, of.found), f"objectives: {', '.join(map(title, of.objectives))}", ""]
    parts.append(text_table(point_rows(of)))
    if of.chosen:
        parts += ["", f"what each rule takes, and how much more it has than {of.found.names[0]}:"]
        parts += [text_table(choice_rows(of)), *(one.why for one in of.chosen if one.why)]
    return "\n".join([*parts, "", EXPLAINED])


def json_of(of: Frontier) -> dict[str, Any]:
    """All of it."""
    data = json_report(of.spec.name, of.trial, of.found)
    for p, name in enumerate(of.found.names):
        behind = of.beaten_by[p]
        data["policies"][name] |= {
            "stands": standing(of, p), "behind": None if behind < 0 else of.found.names[behind],
        }  # fmt: skip
    rules = {
        one.stakeholder: {
            "rule": rule_of(of, one), "takes": None if one.point < 0 else of.found.names[one.point],
            "not told apart from": [of.found.names[p] for p in one.alike], "why": one.why or None,
        }
        for one in of.chosen
    }  # fmt: skip
    return data | {"objectives": of.objectives, "rules": rules}


def write_report(of: Frontier, folder: str | Path) -> None:
    """`report.html` and `frontier.json` in a new folder, whole or not at all. Raises OutputError."""
    write_folder(folder, html_report(of), frontier=json_of(of))


def html_report(of: Frontier) -> str:
    """The page."""
    points = point_rows(of)
    body = [f"<h1>{escape(heading(of.spec.name, of.trial, of.found))}</h1>", f"<p>{escape(EXPLAINED)}</p>"]
    body.append(svg(lambda figure: _picture(figure, of), 10, 6))
    if of.chosen:
        rows = choice_rows(of)
        body += [f"<h2>What each rule takes, beside {escape(of.found.names[0])}</h2>", table(rows[0], rows[1:])]
        body += [f'<p class="note">{escape(one.why)}</p>' for one in of.chosen if one.why]
    body += ["<h2>All points</h2>", table(points[0], points[1:])]
    return page(f"{of.spec.name}: frontier", body)


def _picture(figure: Any, of: Frontier) -> None:
    """Resolution over waits, coloured by occupancy, larger where hard contacts (or load) are shared more evenly."""
    axes, names = figure.subplots(), of.found.names
    wait, good = of.means("mean_wait_s"), of.means("resolved")
    uneven, word = of.means("gini_hard"), "hard contacts"
    if np.all(np.isnan(uneven)):
        uneven, word = of.means("gini_load"), "load"
    size = 30 + 170 * _share_below(uneven)
    halves = np.array([[_half(of, one, name) for name in ("mean_wait_s", "resolved")] for one in names])
    axes.errorbar(wait, good, halves[:, 1], halves[:, 0], fmt="none", ecolor="#c5ccd3", lw=0.7, zorder=1)
    drawn = axes.scatter(wait, good, size, of.means("busiest"), cmap="viridis", edgecolors="white", lw=0.5, zorder=3)
    figure.colorbar(drawn, ax=axes, label="occupancy of the busiest CSA")
    line = outer(wait, good)
    axes.plot(
        wait[line], good[line], color=colour(2), lw=1, drawstyle="steps-post", zorder=2, label="frontier of these two"
    )
    for p in sorted({one.point for one in of.chosen if one.point >= 0}):
        axes.scatter(wait[p], good[p], size[p] + 90, facecolors="none", edgecolors=colour(2), lw=1.2, zorder=4)
        axes.annotate(takers(of, p), (wait[p], good[p]), (9, -12 if p % 2 else 9), textcoords="offset points", zorder=5)
    axes.set_xlabel(f"mean wait, s (large points: {word} shared evenly)")
    axes.set_ylabel("resolved")
    axes.legend(frameon=False)
    plain_axes(axes)


def outer(wait: np.ndarray, good: np.ndarray) -> list[int]:
    """Points that no other beats in both, by wait."""
    found, best = [], -math.inf
    for p in sorted(range(len(wait)), key=lambda i: (wait[i], -good[i])):
        if good[p] > best:
            found.append(p)
            best = good[p]
    return found


def _share_below(values: np.ndarray) -> np.ndarray:
    """In [0, 1], 1 for the smallest."""
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(1 - (values - low) / max(high - low, 1e-9), nan=0.5)


def _half(of: Frontier, policy: str, figure: str) -> float:
    half = of.found.of(policy, figure).half
    return 0.0 if math.isnan(half) else half
