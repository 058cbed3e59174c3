"""The evaluation as text for a terminal and as JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.calibration import Band, in_words
from evaluation.ranking_run import Evaluation
from evaluation.ranking_truth import TruthReport
from twotower.cli import plain
from twotower.metrics import HITS, Interval

METRICS = (*(f"hit@{k}" for k in HITS), "mrr", "mrr@10", "ndcg@10")
TITLES = {"mrr": "MRR", "mrr@10": "MRR@10", "ndcg@10": "nDCG@10", "auc": "AUC", "ece": "ECE"}
OUTCOMES = ("auc", "log loss", "ece", "concordance")
WORST = 8


def text_report(found: Evaluation) -> str:
    """The whole report in plain text."""
    parts = [heading(found), *(f"note: {line}" for line in found.warnings), "", ranking_table(found), verdict(found)]
    if found.outcomes:
        parts += ["", outcome_table(found)]
    if found.calibration:
        parts += ["", calibration_table(found.calibration), *in_words(found.calibration)]
    if found.truth is not None:
        parts += ["", truth_table(found.truth)]
    parts += ["", "What the model misses, worst first (share of contacts → share of the loss):", residual_table(found)]
    parts += ["", "Where new signals are to be found:", *(f"- {line}" for line in found.words)]
    return "\n".join(parts)


def heading(found: Evaluation) -> str:
    """What was judged on what."""
    left_out = f"; {found.without:,} that nobody took and resolved are left out" if found.without else ""
    return (
        f"{found.model}, ranking by {found.rank}: {found.contacts:,} contacts from {found.start} on, "
        f"{found.csas:,} CSAs{left_out}"
    )


def verdict(found: Evaluation) -> str:
    """The paired difference to the baseline that validation chose."""
    ahead = found.ahead[found.best]
    word = "ahead of" if ahead.low > 0 else "behind" if ahead.high < 0 else "not told apart from"
    return f"MRR@10: the model is {word} {found.best}, the best baseline by validation: {signed(ahead)}"


def ranking_table(found: Evaluation) -> str:
    """One line per ranker, ± half the width of the 95 % interval."""
    rows = [["", *(TITLES.get(name, name) for name in METRICS), "model − it, MRR@10"]]
    for name, metrics in found.metrics.items():
        ahead = signed(found.ahead[name]) if name in found.ahead else ""
        rows.append([name, *(short(metrics[key]) for key in METRICS), ahead])
    return table(rows) + "\n± is half the width of the 95 % interval (bootstrap over contacts)"


def outcome_table(found: Evaluation) -> str:
    """P(resolved) on hand-overs whose outcome the log tells."""
    outside = f", {found.outside:,} to no candidate left out" if found.outside else ""
    rows = [[f"{found.handovers:,} outcomes{outside}", *(TITLES.get(name, name) for name in OUTCOMES)]]
    for name, metrics in found.outcomes.items():
        rows.append([name, *(short(metrics.get(key)) for key in OUTCOMES)])
    lines = [table(rows)]
    if found.less_loss is not None:
        lines.append(
            f"log loss below that of {found.best_rate}, the best rate by validation: {signed(found.less_loss)}"
        )
    else:
        lines.append("the model gives no probability of success")
    return "\n".join(lines)


def calibration_table(found: Sequence[Band]) -> str:
    """Calibration overall and by band."""
    rows = [["calibration of P(resolved)", "pairs", "predicted", "observed", "ECE", "by chance"]]
    for band in found:
        name = "all" if band.kind == "all" else f"{band.kind}: {band.value}"
        figures = [f"{value:.3f}" for value in (band.predicted, band.observed, band.error, band.chance)]
        rows.append([name, f"{band.pairs:,}", *figures])
    return table(rows)


def truth_table(truth: TruthReport) -> str:
    """Captured uplift of the first choices."""
    rows = [["first choices", "P(resolved)", "captured of the oracle's uplift", "of the ceiling"]]
    one = truth.ceiling
    rows += [["queue", f"{one.queue:.4f}", "0.000", ""], ["oracle", f"{one.oracle:.4f}", "1.000", ""]]
    rows.append(["ceiling", f"{one.model:.4f}", share(one.captured, one.low, one.high), "1.000"])
    for name, two in truth.captured.items():
        rows.append([name, f"{two.model:.4f}", share(two.captured, two.low, two.high), f"{truth.of_ceiling(name):.3f}"])
    return table(rows)


def residual_table(found: Evaluation) -> str:
    """The worst slices; a star marks those that pass false-discovery control."""
    worst = [*found.slices[:WORST], *found.csa_slices[: WORST // 2]]
    rows = [["", "contacts", "share", "loss", found.measure, "elsewhere", "baseline − model"]]
    for residual in worst:
        star = "*" if residual.significant else " "
        behind = "" if residual.behind is None else f"{residual.behind.value:+.3f}"
        figures = [
            f"{residual.share:.1%}",
            f"{residual.loss:.1%}",
            short(residual.reached),
            f"{residual.rest:.3f}",
            behind,
        ]
        rows.append([f"{star} {residual.kind}: {residual.value}", f"{residual.contacts:,}", *figures])
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def short(value: Interval | float | None) -> str:
    """`0.415 ±0.019`; a dash where there is nothing."""
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    if value.value != value.value:
        return "–"
    return f"{value.value:.3f}" + (f" ±{(value.high - value.low) / 2:.3f}" if value.low == value.low else "")


def signed(value: Interval) -> str:
    """`+0.012 [+0.004, +0.020]`."""
    return f"{value.value:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def share(value: float, low: float, high: float) -> str:
    """`0.741 [0.712, 0.770]`."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def json_report(found: Evaluation) -> dict[str, Any]:
    """Everything that was measured, as JSON holds it; NaN becomes null."""
    reliability = found.reliability
    truth = found.truth
    data: dict[str, Any] = {
        name: getattr(found, name)
        for name in ("model", "rank", "contacts", "without", "csas", "best", "chosen", "measure", "words", "warnings")
    }
    data["from"] = found.start
    data["metrics"] = {name: _intervals(metrics) for name, metrics in found.metrics.items()}
    data["ahead"] = _intervals(found.ahead)
    data["slices"] = [residual.as_json() for residual in found.slices]
    data["csas_missed"] = [residual.as_json() for residual in found.csa_slices]
    if found.outcomes:
        data["outcomes"] = {name: _intervals(metrics) for name, metrics in found.outcomes.items()}
        data |= {"handovers": found.handovers, "outside": found.outside, "best_rate": found.best_rate}
        data["less_loss"] = None if found.less_loss is None else vars(found.less_loss)
        data["reliability"] = None if reliability is None else vars(reliability)
        data["calibration"] = [vars(band) for band in found.calibration]
    if truth is not None:
        captured = {name: vars(one) | {"of_ceiling": truth.of_ceiling(name)} for name, one in truth.captured.items()}
        data["truth"] = {"captured": captured, "ceiling": vars(truth.ceiling)}
    done: dict[str, Any] = plain(data)
    return done


def _intervals(values: dict[str, Any]) -> dict[str, Any]:
    return {name: vars(value) if isinstance(value, Interval) else value for name, value in values.items()}
