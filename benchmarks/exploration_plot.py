"""Regret of exploring policies by day as SVG text, the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any

import numpy as np

from evaluation.report_plots import MISSED, MODEL, OTHER

COLOURS = (OTHER, MODEL, "#2e8b57", MISSED, "#7d3c98", "#b9770e")


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Resolutions lost by day, and lost so far beyond greedy with the 95 % interval over worlds.

    rows: `daily` lists of equal length by `policy` and `seed`, greedy among them.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "twotower", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw(left, right, rows)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _draw(left: Any, right: Any, rows: Sequence[dict[str, Any]]) -> None:
    from scipy.stats import t

    seeds = sorted({row["seed"] for row in rows})
    daily = {(row["policy"], row["seed"]): np.array(row["daily"]) for row in rows}
    for name, colour in zip(dict.fromkeys(row["policy"] for row in rows), COLOURS, strict=False):
        mine = np.array([daily[name, seed] for seed in seeds])
        day = np.arange(1, mine.shape[1] + 1)
        left.plot(day, mine.mean(axis=0), color=colour, linewidth=1.2, label=name)
        if name == "greedy":
            right.axhline(0, color=colour, linewidth=1.2)
            continue
        beyond = np.cumsum(mine - np.array([daily["greedy", seed] for seed in seeds]), axis=1)
        centre = beyond.mean(axis=0)
        right.plot(day, centre, color=colour, linewidth=1.2)
        if len(seeds) > 1:
            half = t.ppf(0.975, len(seeds) - 1) * beyond.std(axis=0, ddof=1) / np.sqrt(len(seeds))
            right.fill_between(day, centre - half, centre + half, color=colour, alpha=0.15, linewidth=0)
    left.set_ylim(bottom=0)
    left.set_title("resolutions lost a day against the oracle")
    right.set_title("lost so far, beyond greedy (95 % over worlds)")
    for axes in (left, right):
        axes.set_xlabel("day")
    left.legend(frameon=False)
