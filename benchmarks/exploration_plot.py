"""What exploring costs by day, and what it is worth afterwards, as SVG text; the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.report_plots import MISSED, MODEL, OTHER

COLOURS = (MODEL, "#2e8b57", MISSED, "#7d3c98", "#b9770e")
Floats = npt.NDArray[np.float64]


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Left: resolutions lost so far beyond greedy; right: beyond greedy afterwards; both with intervals over worlds.

    rows: of all policies in every world, greedy among them, with `daily` lists of equal length.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "twotower", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw(left, right, rows)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def beyond(values: Floats) -> tuple[Floats, Floats]:
    """Mean over worlds (rows) and half the width of its 95 % interval (Student's t; 0 for a single world)."""
    from scipy.stats import t

    worlds = len(values)
    if worlds < 2:
        return values.mean(axis=0), np.zeros(values.shape[1])
    return values.mean(axis=0), t.ppf(0.975, worlds - 1) * values.std(axis=0, ddof=1) / np.sqrt(worlds)


def _draw(left: Any, right: Any, rows: Sequence[dict[str, Any]]) -> None:
    greedy = {row["seed"]: row for row in rows if row["policy"] == "greedy"}
    names = [name for name in dict.fromkeys(row["policy"] for row in rows) if name != "greedy"]
    for place, name in enumerate(names):
        colour = COLOURS[place % len(COLOURS)]
        mine = [row for row in rows if row["policy"] == name]
        lost = np.array([np.cumsum(np.subtract(row["daily"], greedy[row["seed"]]["daily"])) for row in mine])
        later = np.array([[1000 * (row["afterwards"] - greedy[row["seed"]]["afterwards"])] for row in mine])
        (centre, half), ([value], [error]) = beyond(lost), beyond(later)
        day = np.arange(1, len(centre) + 1)
        left.plot(day, centre, color=colour, linewidth=1.2, label=name)
        left.fill_between(day, centre - half, centre + half, color=colour, alpha=0.15, linewidth=0)
        right.errorbar(value, place, xerr=error, fmt="o", markersize=4, color=colour, capsize=2)
    left.axhline(0, color=OTHER, linewidth=0.8)
    right.axvline(0, color=OTHER, linewidth=0.8)
    left.set_title("resolutions lost so far, beyond greedy")
    left.set_xlabel("day")
    left.legend(frameon=False, loc="upper left")
    right.set_title("lost afterwards with what was learnt, beyond greedy")
    right.margins(y=0.2)
    right.set_xlabel("resolutions in a thousand contacts")
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
