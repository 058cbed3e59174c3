"""Findings as one page that needs nothing beside it: what to do first, then every statistic over the windows.

Notable: a plot shows the usual range as a band, so that a person sees what the test sees; the numbers stand beneath,
and all of them in `drift.json` as well. Names come from the user's tables and are escaped.
"""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.page import page, svg, table, write_folder
from loop.drift.catalogue import GROUPS, KINDS
from loop.drift.judge import Finding
from loop.drift.report import heading, line, named, shown, usual, verdict
from loop.drift.run import Drift
from twotower.clock import format_time

COLOURS = {"ok": "#1b6ca8", "watch": "#d98c21", "alarm": "#c0392b", "not known": "#9aa5b1"}
COLUMNS, HEIGHT = 3, 2.1  # inches a row


def write_report(found: Drift, folder: str | Path) -> None:
    """Write `report.html` and `drift.json` to a new folder, whole or not at all. Raises OutputError: the folder exists
    already or cannot be written."""
    write_folder(folder, html_report(found), drift=found.as_json())


def html_report(found: Drift) -> str:
    """The page."""
    body = [f"<h1>Drift</h1><p>{escape(heading(found))}</p>"]
    body += [
        f'<p class="note"><strong>{one.status}: {escape(one.title)}</strong>. {escape(line(one))}</p>'
        for one in found.of("alarm", "watch")
    ]
    body += [f"<p>{escape(verdict(found)[-1])}</p>"]
    if not found.of("alarm", "watch"):
        body.append(f"<p>{escape(verdict(found)[0])}</p>")
    body += ["<ul>", *(f"<li>{escape(note)}</li>" for note in found.notes), "</ul>"]
    for group, title in GROUPS.items():
        body += [f"<h2>{escape(title)}</h2>", *_group(found, group)]
        if group == "labels" and found.maturation:
            body += ["<p>Share of outcomes known, by days since the hand-over (Kaplan–Meier over the earlier windows)."
                     "</p>", svg(lambda figure: _curve(figure, found), 6, 2.4), _curve_table(found)]  # fmt: skip
    return page("Drift", body)


def _group(found: Drift, group: str) -> list[str]:
    ones = [one for one in found.findings if one.group == group]
    drawn = [one for one in ones if np.isfinite(one.values).any()]
    parts = []
    if drawn:
        rows = math.ceil(len(drawn) / COLUMNS)
        parts = [
            "<p>Each point is a window, the last the newest; the band is the usual range.</p>",
            svg(lambda figure: _plots(figure, found, drawn, rows), 11, HEIGHT * rows),
        ]
    head = ("", "value", "usual", "status", "p (adjusted)", "earlier windows", "what it means", "of which")
    cells = [
        (
            one.title, shown(one.name, one.value), usual(one), one.status,
            "–" if one.adjusted is None else f"{one.adjusted:.4f}", str(one.windows), one.sentence, named(one),
        )
        for one in ones
    ]  # fmt: skip
    parts.append(table(head, cells))
    if drawn:
        ends = [format_time(edge)[:10] for edge in found.edges[1:]]
        values = [(end, *(shown(one.name, one.values[w]) for one in drawn)) for w, end in enumerate(ends)]
        parts.append("<details><summary>values by window</summary>")
        parts += [table(("window until", *(one.name for one in drawn)), values), "</details>"]
    return parts


def _plots(figure: Any, found: Drift, drawn: list[Finding], rows: int) -> None:
    figure.set_layout_engine("none")  # to solve for a layout takes several times as long as to draw
    for i, one in enumerate(drawn):
        row, column = divmod(i, COLUMNS)
        left, bottom = 0.05 + column / COLUMNS, 1 - (row + 0.78) / rows
        axes = figure.add_axes((left, bottom, 0.8 / COLUMNS, 0.62 / rows))
        values = np.array(one.values)
        if KINDS[one.name].unit in ("share", "ratio"):
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        at = np.arange(-len(values) + 1, 1)
        if one.p is not None:
            axes.axhspan(
                *(_edge(end, values) for end in (one.low, one.high)), color=COLOURS["ok"], alpha=0.12, linewidth=0
            )
        axes.plot(at, values, "-o", color="#6b7785", linewidth=1, markersize=2.5)
        axes.plot(at[-1:], values[-1:], "o", color=COLOURS[one.status], markersize=5)
        axes.set_title(f"{one.name}: {one.status}", fontsize=8, color=COLOURS[one.status])
        axes.set_xlabel(f"windows of {found.days} days", fontsize=7)


def _edge(end: float, values: Any) -> float:
    """An end of the band; an open one reaches to the edge of what is drawn."""
    if math.isfinite(end):
        return end
    known = values[np.isfinite(values)]
    return float(min(known.min(), 0.0) if end < 0 else known.max())


def _curve(figure: Any, found: Drift) -> None:
    axes = figure.subplots()
    days, share = zip(*found.maturation, strict=True)
    axes.step([0.0, *days], [0.0, *share], where="post", color=COLOURS["ok"])
    axes.set_ylim(0, 1)
    axes.set_xlabel("days since the hand-over")
    axes.set_ylabel("outcomes known")


def _curve_table(found: Drift) -> str:
    step = max(1, len(found.maturation) // 8)
    points = [*found.maturation[::step], found.maturation[-1]]
    rows = [(f"{days:.2f}", f"{share:.1%}") for days, share in dict(points).items()]
    return table(("days", "outcomes known"), rows)
