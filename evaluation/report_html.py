"""The evaluation as one HTML file that needs nothing beside it, and the folder it is written to.

Notable: every figure of the page is also in `metrics.json`; whatever comes from tables (ids, queues, intents) is
escaped, since it is the user's data and not ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from evaluation.calibration import in_words
from evaluation.page import page, table, write_folder
from evaluation.ranking_run import Evaluation
from evaluation.report_plots import plots
from evaluation.report_text import METRICS, OUTCOMES, TITLES, heading, json_report, share, short, signed, verdict
from evaluation.residuals import Residual
from twotower.metrics import Interval


def write_report(found: Evaluation, folder: str | Path) -> None:
    """Write `report.html` and `metrics.json` to a new folder, whole or not at all.

    Raises:
        OutputError: the folder exists already or cannot be written.
    """
    write_folder(folder, html_report(found), metrics=json_report(found))


def html_report(found: Evaluation) -> str:
    """The page."""
    drawn = plots(found)
    body = [f"<h1>{escape(heading(found))}</h1>"]
    body += [f'<p class="note">{escape(line)}</p>' for line in found.warnings]
    body += [f"<p>{escape(verdict(found))}</p>", _ranking(found), _section("Rankings", drawn)]
    if found.outcomes:
        body += ["<h2>Outcomes</h2>", _outcomes(found), _section("Reliability of P(resolved)", drawn)]
    if found.calibration:
        body += ["<h2>Calibration by band</h2>", _section("Calibration by band", drawn), _calibration(found)]
        body += [f"<p>{escape(line)}</p>" for line in in_words(found.calibration)]
    if found.truth is not None:
        body += ["<h2>Against the truth</h2>", _truth(found)]
    body += ["<h2>Where new signals are to be found</h2>", "<ul>"]
    body += [f"<li>{escape(line)}</li>" for line in found.words]
    body += [
        "</ul>",
        "<h2>What the model misses</h2>",
        _section("Where the loss lies", drawn),
        _residuals(found.slices, found.measure),
    ]
    body += [
        "<h2>CSAs who are missed</h2>",
        _section("CSAs who are missed", drawn),
        _residuals(found.csa_slices, found.measure),
    ]
    body += ["<h2>What tuning chose for the baselines</h2>", _chosen(found)]
    return page(f"{found.model}: evaluation", body)


def _section(title: str, drawn: dict[str, str]) -> str:
    return drawn.get(title, "")


def _ranking(found: Evaluation) -> str:
    head = ["", *(TITLES.get(name, name) for name in METRICS), "model − it, MRR@10"]
    rows = []
    for name, metrics in found.metrics.items():
        ahead = signed(found.ahead[name]) if name in found.ahead else ""
        rows.append([name, *(_bounds(metrics[key]) for key in METRICS), ahead])
    return table(head, rows, found.model)


def _outcomes(found: Evaluation) -> str:
    head = [f"{found.handovers:,} outcomes", *(TITLES.get(name, name) for name in OUTCOMES)]
    rows = [[name, *(_bounds(metrics.get(key)) for key in OUTCOMES)] for name, metrics in found.outcomes.items()]
    said = ""
    if found.less_loss is not None:
        said = f"<p>Log loss below that of {escape(str(found.best_rate))}: {signed(found.less_loss)}</p>"
    return table(head, rows, found.model) + said


def _truth(found: Evaluation) -> str:
    if found.truth is None:
        return ""
    top = found.truth.ceiling
    rows = [["queue", f"{top.queue:.4f}", "0.000", ""], ["oracle", f"{top.oracle:.4f}", "1.000", ""]]
    rows.append(["ceiling", f"{top.model:.4f}", share(top.captured, top.low, top.high), "1.000"])
    for name, one in found.truth.captured.items():
        of_ceiling = f"{found.truth.of_ceiling(name):.3f}"
        rows.append([name, f"{one.model:.4f}", share(one.captured, one.low, one.high), of_ceiling])
    return table(["first choices", "P(resolved)", "captured of the uplift", "of the ceiling"], rows, found.model)


def _calibration(found: Evaluation) -> str:
    rows = []
    for band in found.calibration:
        figures = [f"{value:.3f}" for value in (band.predicted, band.observed, band.error, band.chance)]
        rows.append([f"{band.kind}: {band.value}", f"{band.pairs:,}", *figures])
    return table(["band", "hand-overs", "mean P", "resolved", "ECE", "ECE by chance"], rows)


def _residuals(found: Sequence[Residual], measure: str) -> str:
    head = ["slice", "contacts", "share", "share of loss", measure, "elsewhere", "baseline − model", "p", "told apart"]
    rows = []
    for residual in found:
        figures = [f"{residual.contacts:,}", f"{residual.share:.1%}", f"{residual.loss:.1%}", _bounds(residual.reached)]
        behind = "" if residual.behind is None else signed(residual.behind)
        tail = [f"{residual.rest:.3f}", behind, f"{residual.p:.2g}", "yes" if residual.significant else ""]
        rows.append([f"{residual.kind}: {residual.value}", *figures, *tail])
    return table(head, rows)


def _chosen(found: Evaluation) -> str:
    rows = []
    for name, chosen in found.chosen.items():
        rows.append([name, ", ".join(f"{key} {_plain(value)}" for key, value in chosen.items())])
    return table(["baseline", "chosen"], rows)


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _bounds(value: Interval | float | None) -> str:
    if isinstance(value, Interval) and value.value == value.value:
        return share(value.value, value.low, value.high)
    return short(value)
