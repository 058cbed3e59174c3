"""How a match grows with the roster, as SVG text; the same bytes for the same rows.

python benchmarks/serving_plot.py docs/results/serving_growth.json --output docs/results/serving_growth.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from evaluation.report_plots import MISSED, MODEL, OTHER
from twotower.files import atomic_write

STEPS = (("words to candidates, by need", MODEL), ("vectors to candidates", "#2e8b57"), ("words to vectors", MISSED))
AIM_MS = 1.0


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Left: milliseconds of each step against the roster, the median solid, the 99 % dashed; right: recall of the exact
    best 50 and the memory of the process.

    rows: of the record of `serving.py`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "twotower", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _times(left, rows)
        _recall(right, [row for row in rows if row["step"] == STEPS[0][0]])
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _times(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    for step, colour in STEPS:
        mine = sorted((row["csas"], row["p50_ms"], row["p99_ms"]) for row in rows if row["step"] == step)
        sizes, median, late = zip(*mine, strict=True)
        axes.plot(sizes, median, "-", marker="o", markersize=3, color=colour, label=step)
        axes.plot(sizes, late, "--", marker="o", markersize=3, color=colour)
    axes.axhline(AIM_MS, color=OTHER, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("CSAs")
    axes.set_title("milliseconds, median and 99 % (dashed)")
    axes.legend(frameon=False, loc="upper left")


def _recall(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    found = sorted((row["csas"], row["recall_at_50"], row["resident_mb"]) for row in rows)
    sizes, recall, memory = zip(*found, strict=True)
    axes.plot(sizes, recall, "-", marker="o", markersize=3, color=MODEL)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("CSAs")
    axes.set_title("recall of the exact best 50; resident memory in MB (dashed)")
    beside = axes.twinx()
    beside.plot(sizes, memory, "--", marker="o", markersize=3, color=MISSED)
    beside.set_yscale("log")


def main() -> None:
    """Parse options, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("record", type=Path, help="JSON of `serving.py`")
    parser.add_argument("--output", type=Path, required=True, help="SVG to write")
    args = parser.parse_args()
    atomic_write(args.output, plot(json.loads(args.record.read_text(encoding="utf-8"))["rows"]))


if __name__ == "__main__":
    main()
