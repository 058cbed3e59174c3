"""From tables to an analysis, with every check: what `twotower experiment analyse` does, and whoever reads out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.experiment.analyse import Analysis, analyse
from evaluation.experiment.drawn import of_draw
from evaluation.experiment.measured import read
from evaluation.experiment.plan import Plan

if TYPE_CHECKING:
    import pandas as pd


def read_out(plan: Plan, schedule: pd.DataFrame, folder: str | Path, at: int | None = None) -> Analysis:
    """Of a data set's folder, as known at a look (µs UTC; None: all there is).

    Raises DataError for tables or a schedule that cannot be read; what must not be answered is refused in the analysis.
    """
    drawn = of_draw(plan, schedule)
    data, blocks = read(plan, schedule, folder, at)
    return analyse(plan, schedule, data.frame, blocks, at, data.data_end, data.notes, first=(drawn,))
