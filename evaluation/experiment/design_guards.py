"""What guardrails a history allows, and whether the experiment will be able to say that they hold.

Notable: a guardrail holds only where harm beyond its margin is ruled out, so one that the experiment is too short for
stays open however harmless the treatment is. Better to know before. Occupancy and its spread over people are measured
in blocks of the last weeks, as the analysis measures them in blocks of the experiment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evaluation.experiment import power
from evaluation.experiment.design_blocks import Blocks, blocks_of, parts_of
from evaluation.experiment.design_history import LEAST_KNOWN, History
from evaluation.experiment.design_options import Option
from evaluation.experiment.design_spec import GUARDRAILS, SECONDARY, Asked
from evaluation.experiment.outcomes import OF_CELLS
from evaluation.experiment.plan import Guardrail, MetricName, Plan
from evaluation.experiment.schedule import MONDAY, WEEK, draw
from evaluation.experiment.spans import micros
from twotower.clock import HOUR, format_time, parse_time
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Log

if TYPE_CHECKING:
    import pandas as pd

CELL_WEEKS = 8
"""Of the history, whose blocks are measured."""
LIKELY = 0.8
"""Chance below which one is told that a guardrail will probably stay open."""


@dataclass(frozen=True)
class Guarded:
    """A guardrail before the experiment."""

    of: Guardrail
    level: float
    """Of the metric now; NaN: not known."""
    held: float
    """Chance that it is shown to hold if nothing changes; NaN: not known."""
    smallest: float
    """The smallest margin, in the metric's units, that would be held with LIKELY; NaN: not known."""


def guardrails(asked: Asked, history: History, folder: str | Path) -> tuple[Guardrail, ...]:
    """Those asked for; by default those whose metric the history has."""
    if asked.guardrails != "auto":
        return asked.guardrails
    shifts = (Path(folder) / "shifts.parquet").is_file()
    return tuple(
        one
        for one in GUARDRAILS
        if one.metric != asked.metric and (shifts if one.metric in OF_CELLS else measured(history, one.metric))
    )


def secondary(asked: Asked, history: History, guarded: tuple[Guardrail, ...]) -> tuple[MetricName, ...]:
    """The same of metrics that decide nothing."""
    if asked.secondary != "auto":
        return asked.secondary
    taken = {asked.metric, *(one.metric for one in guarded)}
    return tuple(name for name in SECONDARY if name not in taken and measured(history, name))  # type: ignore[misc]


def measured(history: History, metric: str) -> bool:
    """Whether the history has it of enough contacts; ratings are given by few."""
    y = history.columns.get(metric)
    least = LEAST_KNOWN if metric not in ("csat", "quality") else 0.02
    return y is not None and float((~np.isnan(y)).mean()) >= least


def guarded(
    asked: Asked, history: History, option: Option, days: float, begins: int, of: tuple[Guardrail, ...],
    folder: str | Path,
) -> tuple[Guarded, ...]:  # fmt: skip
    """Of a switchback, by blocks; of other designs nothing is known beforehand."""
    hours = option.block_hours if option.design == "switchback" else None
    cells, until = None, None if asked.until is None else parse_time(asked.until, "until")
    if hours is not None and any(one.metric in OF_CELLS for one in of):
        cells = _cells(history, hours, folder, until)
    found = []
    for one in of:
        blocks, level = _blocks(history, one, hours, cells)
        if blocks is None:
            found.append(Guarded(one, level, math.nan, math.nan))
            continue
        precision = power.of_blocks(
            blocks, parts_of(blocks), begins, days, option.wash_out_minutes, pauses=asked.pauses
        )
        margin, always = one.margin * abs(level) if one.relative else one.margin, asked.stopping == "always_valid"
        held = precision.held(margin, one.alpha, always)
        found.append(Guarded(one, level, held, _smallest(precision, one.alpha, always)))
    return tuple(found)


def _blocks(
    history: History, of: Guardrail, hours: float | None, cells: pd.DataFrame | None
) -> tuple[Blocks | None, float]:
    """A metric in blocks, None where they are not known, and its mean."""
    if of.metric in OF_CELLS:
        if cells is None or hours is None:
            return None, math.nan
        rows = cells[cells["metric"] == of.metric]
        total = float(rows["n"].sum())
        return (_of_cells(history, rows, hours), float(rows["s"].sum()) / total) if total > 0 else (None, math.nan)
    y = history.columns.get(of.metric)
    if y is None or np.isnan(y).all():
        return None, math.nan
    return None if hours is None else blocks_of(history, y, hours), float(np.nanmean(y))


def _cells(history: History, hours: float, folder: str | Path, until: int | None) -> pd.DataFrame | None:
    """Occupancy and its spread in blocks of the last weeks, None where shifts do not say them."""
    from evaluation.experiment.measured_blocks import measured_blocks

    begins = max(history.begins, history.ends - CELL_WEEKS * WEEK)
    plan = Plan.model_validate(
        {"name": "history", "hypothesis": "", "design": "switchback", "unit": "centre", "begins": format_time(begins),
         "ends": format_time(history.ends), "control": {"name": "a", "policies": ["a"]},
         "treatment": {"name": "b", "policies": ["b"]}, "block_hours": hours, "primary": {"smallest_effect": 1.0}}
    )  # fmt: skip
    try:
        return measured_blocks(plan, draw(plan, ("centre",)), Log.load(folder, until), folder)
    except (ConfigError, DataError):
        return None


def _of_cells(history: History, rows: pd.DataFrame, hours: float) -> Blocks:
    """Sums of cells as blocks: what a block's mean is beyond its slot is all that it varies by."""
    first = history.begins - (history.begins - MONDAY) % WEEK
    step = round(hours * HOUR)
    slots, weeks = WEEK // step, -(-(history.ends - first) // WEEK)
    place = (micros(rows["begins_at"], "blocks") - first) // step
    n, s = (rows[name].to_numpy(np.float64) + rows[f"early_{name}"].to_numpy(np.float64) for name in ("n", "s"))

    def laid(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(place, values, weeks * slots).reshape(weeks, slots).astype(np.float64)

    squares = laid(s**2 / np.maximum(n, 1e-12))
    none = np.zeros((weeks, slots))
    return Blocks(hours, first, laid(n), laid(s), squares, none, none, laid(np.ones(len(n))) > 0)


def _smallest(of: power.Precision, alpha: float, always: bool) -> float:
    """By bisection: `held` grows with the margin."""
    from scipy.optimize import brentq

    if of.held(1e3 * of.se, alpha, always) < LIKELY:
        return float("inf")
    return float(brentq(lambda margin: of.held(margin, alpha, always) - LIKELY, 0.0, 1e3 * of.se))
