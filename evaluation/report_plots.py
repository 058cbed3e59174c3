"""The evaluation's pictures as SVG text, the same bytes for the same figures.

Notable: figures are drawn without pyplot, so nothing global changes and no display is needed; text stays text, so a
report can be searched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import numpy as np

from evaluation.calibration import Band
from evaluation.ranking_run import Evaluation
from evaluation.residuals import Residual
from twotower.metrics import Interval, Reliability

MODEL, OTHER, MISSED = "#1b6ca8", "#9aa5b1", "#c0392b"
SHOWN = 14


def plots(found: Evaluation) -> dict[str, str]:
    """Each picture that there is data for: title → SVG."""
    drawn = {"Rankings": svg(lambda figure: _bars(figure, found), 9, 3.4)}
    if found.reliability is not None and len(found.reliability.count):
        reliability = found.reliability
        drawn["Reliability of P(resolved)"] = svg(lambda figure: _reliability(figure, reliability), 4, 4)
    if len(found.calibration) > 1:
        some = found.calibration[1:]
        drawn["Calibration by band"] = svg(lambda figure: _bands(figure, some), 6, 0.6 + 0.22 * len(some))
    if found.slices:
        worst = found.slices[:SHOWN]
        drawn["Where the loss lies"] = svg(
            lambda figure: _slices(figure, worst, found.measure), 9, 0.6 + 0.3 * len(worst)
        )
    if found.csa_slices:
        missed = found.csa_slices[:SHOWN]
        drawn["CSAs who are missed"] = svg(
            lambda figure: _slices(figure, missed, found.measure), 9, 0.6 + 0.3 * len(missed)
        )
    return drawn


def svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    """A picture of so many inches as SVG text."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "twotower", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def _bars(figure: Any, found: Evaluation) -> None:
    names = list(found.metrics)
    colours = [MODEL if name == found.model else OTHER for name in names]
    for axes, metric, title in zip(
        figure.subplots(1, 3, sharey=True), ("mrr@10", "hit@1", "hit@10"), ("MRR@10", "hit@1", "hit@10"), strict=True
    ):
        _horizontal(axes, names, [found.metrics[name][metric] for name in names], colours)
        axes.set_title(title)
        axes.set_xlim(left=0)


def _slices(figure: Any, worst: list[Residual], measure: str) -> None:
    axes, loss = figure.subplots(1, 2, sharey=True)
    names = [f"{residual.kind}: {residual.value}"[:60] for residual in worst]
    colours = [MISSED if residual.significant and residual.excess > 0 else OTHER for residual in worst]
    _horizontal(axes, names, [residual.reached for residual in worst], colours)
    axes.plot([residual.rest for residual in worst], range(len(worst)), "|", color="black", markersize=9)
    axes.set_title(f"{measure} (mark: elsewhere)")
    loss.barh(range(len(worst)), [100 * residual.excess for residual in worst], color=colours)
    loss.set_title("share of loss − share of contacts, %")


def _horizontal(axes: Any, names: list[str], values: list[Interval], colours: list[str]) -> None:
    centre = np.array([value.value for value in values])
    low = np.array([value.low for value in values])
    high = np.array([value.high for value in values])
    error = np.nan_to_num(np.stack([centre - low, high - centre])).clip(min=0)
    axes.barh(range(len(names)), centre, color=colours, xerr=error, error_kw={"linewidth": 0.8, "capsize": 2})
    axes.set_yticks(range(len(names)), names)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def _reliability(figure: Any, bins: Reliability) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=OTHER, linewidth=0.8)
    half = 1.96 * np.sqrt(bins.observed * (1 - bins.observed) / bins.count)
    axes.errorbar(bins.predicted, bins.observed, yerr=half, fmt="o", markersize=4, color=MODEL, capsize=2)
    axes.set_xlabel("predicted P(resolved)")
    axes.set_ylabel("resolved")
    axes.set_title(f"ECE {bins.error:.3f}")
    axes.set_aspect("equal")


def _bands(figure: Any, found: Sequence[Band]) -> None:
    axes = figure.subplots()
    place = range(len(found))
    axes.barh(place, [band.error for band in found], color=MODEL)
    axes.plot([band.chance for band in found], place, "|", color="black", markersize=8)
    axes.set_yticks(place, [f"{band.kind}: {band.value}"[:60] for band in found])
    axes.invert_yaxis()
    axes.set_xlabel("expected calibration error (mark: by chance alone)")
