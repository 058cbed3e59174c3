"""An analysis as one HTML file that needs nothing beside it: the verdict, a picture for each question, its numbers
beneath."""

from __future__ import annotations

from html import escape
from pathlib import Path

from evaluation.experiment.analyse import Analysis
from evaluation.experiment.analyse_pictures import pictures, timeline
from evaluation.experiment.analyse_tables import tables
from evaluation.experiment.analyse_text import heading, json_report
from evaluation.page import page, table, write_folder
from twotower.clock import format_time

BLOCKS_SHOWN = 400


def write_analysis(analysis: Analysis, folder: str | Path) -> None:
    """`report.html` and `analysis.json` in a new folder, whole or not at all. Raises OutputError."""
    write_folder(folder, html_report(analysis), analysis=json_report(analysis))


def html_report(analysis: Analysis) -> str:
    """The page; of a refused analysis, the refusals alone."""
    plan = analysis.plan
    body = [f"<h1>{escape(plan.name)}</h1>", f"<p>{escape(heading(analysis))}</p>"]
    body += [f"<p>Hypothesis: {escape(plan.hypothesis)}</p>"]
    body += [f"<h2>Verdict: {analysis.verdict.action}</h2>", f"<p>{escape(analysis.verdict.paragraph)}</p>"]
    said = [*analysis.notes, *(one.said for one in analysis.checks if one.status == "note")]
    body += [f'<p class="note">{escape(line)}</p>' for line in said]
    if analysis.found is None:
        return page(f"{plan.name}: no answer", body)
    drawn = pictures(analysis)
    for one in tables(analysis):
        body += [f"<h2>{escape(one.title)}</h2>", f"<p>{escape(one.explained)}</p>"]
        body += [drawn[one.title]] if one.title in drawn else []
        body.append(table(one.head, one.rows))
    body += ["<h2>Blocks</h2>", "<p>Which arm when, and what became of each; larger points are of more contacts.</p>"]
    body += [
        timeline(analysis),
        table(("unit", "from", "to", "arm", "contacts", "washed out", "mean"), _blocks(analysis)),
    ]
    body += ["<h2>Checks</h2>", "<p>All of these passed, or there would be no number above.</p>"]
    body.append(table(("check", "", ""), [(one.name, one.status, one.said) for one in analysis.checks]))
    return page(f"{plan.name}: {analysis.verdict.action}", body)


def _blocks(analysis: Analysis) -> list[tuple[str, ...]]:
    from evaluation.experiment.words import level

    found, plan = analysis.found, analysis.plan
    if found is None:
        return []
    names = (plan.control.name, plan.treatment.name)
    rows: list[tuple[str, ...]] = [
        (
            one.unit, format_time(one.begins), format_time(one.ends), names[one.arm], f"{one.contacts:,}",
            f"{one.washed:,}", level(plan.primary.metric, one.mean),
        )
        for one in found.blocks[:BLOCKS_SHOWN]
    ]  # fmt: skip
    if len(found.blocks) > BLOCKS_SHOWN:
        rows.append((f"{len(found.blocks) - BLOCKS_SHOWN} more, in analysis.json", "", "", "", "", "", ""))
    return rows
