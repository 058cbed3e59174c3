"""Contacts a second against batch and roster as SVG text; the same bytes for the same rows.

python benchmarks/train_throughput_plot.py docs/results/train_*.json --output docs/results/train_throughput.svg
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

COLOURS = {"static": MODEL, "transformer": MISSED}


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Left: contacts a second against the batch, ours solid, the peer's dashed; right: against the roster, with
    the memory that training takes beside the log.

    rows: of the record; those of parts `batches …` and `rosters …` are drawn.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "twotower", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _batches(left, [row for row in rows if row["part"].startswith("batches ") and "batch" in row])
        _rosters(right, [row for row in rows if row["part"].startswith("rosters ") and "csas" in row])
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _batches(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = [row for row in rows if row["part"] == part]
        for side, line in (("ours", "-"), ("peer", "--")):
            points = [(row["batch"], row[side]["contacts_per_s"]) for row in mine if row[side] is not None]
            if points:
                colour = COLOURS.get(mine[0]["tower"], OTHER)
                label = f"{mine[0]['tower']}, {mine[0]['device']}, {side}"
                axes.plot(*zip(*points, strict=True), line, marker="o", markersize=3, color=colour, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("contacts in a step")
    axes.set_title("contacts a second")
    if rows:
        axes.legend(frameon=False)


def _rosters(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    memory = axes.twinx()
    for device, line in (("cpu", "-"), ("cuda", "--")):
        mine = [row for row in rows if row["device"] == device]
        if mine:
            csas = [row["csas"] for row in mine]
            speed = [row["contacts_per_s"] for row in mine]
            axes.plot(csas, speed, line, marker="o", markersize=3, color=MODEL, label=device)
            memory.plot(
                csas,
                [(row["peak_bytes"] - row["before_bytes"]) / 1e6 for row in mine],
                line,
                color=OTHER,
                linewidth=0.9,
            )
    axes.set_xscale("log")
    axes.set_xlabel("CSAs in the roster")
    axes.set_title("contacts a second, static; grey: memory beside the log, MB")
    if rows:
        axes.legend(frameon=False)


def main() -> None:
    """Draw what several runs of `train_throughput.py` wrote."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("records", type=Path, nargs="+", help="JSON files of --output")
    parser.add_argument("--output", type=Path, required=True, help="SVG file to write")
    args = parser.parse_args()
    atomic_write(args.output, plot([row for path in args.records for row in json.loads(path.read_text())["rows"]]))


if __name__ == "__main__":
    main()
