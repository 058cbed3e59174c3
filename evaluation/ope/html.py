"""An off-policy evaluation as one HTML file that needs nothing beside it, and the folder it is written to.

Notable: each picture stands above the table of its numbers, and all numbers are in `ope.json` as well. Names come from
the user's folders and tables and are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from evaluation.ope.found import Found
from evaluation.ope.logged import METRICS
from evaluation.ope.plots import plots
from evaluation.ope.report import (
    balance_rows,
    heading,
    json_report,
    said,
    sensitivity_line,
    sensitivity_rows,
    value_rows,
    weight_rows,
)
from evaluation.page import page, table, write_folder

EXPLAINED = {
    "values": "What each policy would have earned, with its interval; the line is what the log's own policy earned. "
    "The estimator that was asked for is filled. Where estimators that weigh (IPS, SNIPS) and those that also model "
    "(DR, Switch-DR) differ by more than their intervals, believe neither.",
    "weights": "A weight says for how many of the policy's own choices one logged choice stands. The further to the "
    "right, the fewer contacts decide. The effective sample size is how many of the policy's own choices would tell as "
    "much.",
    "balance": "Weighted, the log should look like what the policy would see. Points beyond the dashed lines, and "
    "further from 0 than their bars, say that propensities are wrong.",
    "calibration": "Of pairs with like estimated chance, how often was this CSA chosen? On the line they are right.",
    "sensitivity": "How the difference to the log could change if the queue chose by something that no table holds. Λ "
    "is by how much that may multiply the odds of a choice. Where the band reaches 0, nothing is concluded any more.",
}

ALONE = (
    "The log tells the propensity of whom it chose, and every estimator but MIPS goes by that. How the others share "
    "what is left is estimated, for MIPS alone."
)


def write_report(found: Found, folder: str | Path) -> None:
    """Write `report.html` and `ope.json` to a new folder, whole or not at all. Raises OutputError: the folder exists
    already or cannot be written."""
    write_folder(folder, html_report(found), ope=json_report(found))


def html_report(found: Found) -> str:
    """The page."""
    drawn = plots(found)
    body = [f"<h1>Off-policy evaluation</h1><p>{escape(heading(found))}</p>"]
    refused = [line for metric in found.logging for line in said(found, metric) if line.startswith("refused")]
    body += [f'<p class="note"><strong>{escape(line)}</strong></p>' for line in refused]
    body += ["<ul>", *(f"<li>{escape(line)}</li>" for line in found.notes)]
    body += [f"<li>{escape(one.line())}</li>" for one in found.judges.values()]
    if found.queue is not None:
        body.append(f"<li>{escape(found.queue.line(found.source))}</li>")
    body += ["</ul>", "<h2>Policies</h2>"]
    body.append(_table([["policy", "what it does"], *([one.name, one.described] for one in found.policies)]))
    for metric in found.logging:
        body += [f"<h2>{escape(metric)} ({METRICS[metric].unit})</h2>", _told("values")]
        body += [drawn.get(f"values {metric}", ""), _table(value_rows(found, metric))]
        body += [f"<p>{escape(line)}</p>" for line in said(found, metric) if not line.startswith("refused")]
    body += ["<h2>Weights</h2>", _told("weights"), drawn.get("weights", ""), drawn.get("effective", "")]
    body += [_table(weight_rows(found)), *_gates(found)]
    if len(rows := balance_rows(found)) > 1:
        body += ["<h2>Balance</h2>", _told("balance"), drawn.get("balance", ""), _table(rows)]
    body += _queue(found, drawn) + _sensitivity(found, drawn)
    return page("Off-policy evaluation", body)


def _gates(found: Found) -> list[str]:
    rows = [["an answer is refused beyond", "threshold"]]
    rows += [[name.replace("_", " "), f"{value:g}"] for name, value in vars(found.gates).items()]
    return [_table(rows)]


def _queue(found: Found, drawn: dict[str, str]) -> list[str]:
    queue = found.queue
    if queue is None:
        return []
    bands = [["chance band", "pairs", "predicted", "observed"]]
    bands += [
        [str(i), f"{one.pairs:,}", f"{one.predicted:.4f}", f"{one.observed:.4f}"]
        for i, one in enumerate(queue.bands, 1)
    ]
    weights = [["what the queue seems to go by", "log-odds for one deviation more"]]
    weights += [[name.replace("_", " "), f"{value:+.3f}"] for name, value in queue.weights.items()]
    estimated = found.source == "estimated"
    return [
        f"<h2>{'Propensities of the queue' if estimated else 'Chances of those who were not chosen'}</h2>",
        *([] if estimated else [f"<p>{escape(ALONE)}</p>"]),
        _told("calibration"),
        drawn.get("calibration", ""),
        _table(bands),
        _table(weights),
    ]


def _sensitivity(found: Found, drawn: dict[str, str]) -> list[str]:
    parts: list[str] = []
    for answer in found.answers:
        if answer.sensitivity is None:
            continue
        parts += [] if parts else ["<h2>Sensitivity to what was not observed</h2>", _told("sensitivity")]
        parts += [f"<p>{escape(sensitivity_line(answer, found.estimator))}</p>"]
        parts += [drawn.get(f"sensitivity {answer.policy} {answer.metric}", "")]
        parts.append(_table(sensitivity_rows(answer.sensitivity.bounds)))
    return parts


def _told(what: str) -> str:
    return f"<p>{escape(EXPLAINED[what])}</p>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return table(rows[0], rows[1:])
