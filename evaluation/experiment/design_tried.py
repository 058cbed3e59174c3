"""The options of a design tried on the history's own contacts, beside what the formula says of them.

Notable: each is tried after the days that it needs by formula, so that the same power is expected of all and whoever is
promised too much stands out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.experiment import power_resampled
from evaluation.experiment.design_blocks import blocks_of
from evaluation.experiment.design_history import NO_UNIT, History
from evaluation.experiment.design_options import Option, left
from evaluation.experiment.design_spec import Asked
from evaluation.experiment.plan import Plan
from evaluation.experiment.power_resampled import Tried
from twotower.clock import DAY, format_time, parse_time

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """One option, tried."""

    days: float
    """That it needs by formula, or the most there may be."""
    tried: Tried


def enough(asked: Asked, of: Tried) -> bool:
    """Whether the effect may well be found as often as is asked for, as far as so many tries can tell."""
    return of.found + of.half >= asked.power


def tried(asked: Asked, history: History, option: Option, plan: Plan, days: float) -> Tried:
    """One look at the end, on the history's own contacts, of a plan of so many days, without its pauses."""
    begins = parse_time(plan.begins)
    of = plan.model_copy(update={"ends": format_time(begins + round(days * DAY))})
    y = history.metric(asked.metric)
    if option.design == "switchback":
        blocks = blocks_of(history, y, option.block_hours or 24.0, option.wash_out_minutes)
        return power_resampled.switchback(blocks, of, asked.effect, 1 - option.missed)
    known = ~np.isnan(y)
    if option.design == "cluster":
        units = history.units[option.unit]
        daily = _daily(history, y, units.code, units.names, option)
        return power_resampled.clusters(daily, of, option.units, asked.effect)
    rows = known & (history.csa >= 0) & (history.customer >= 0)
    since = (history.arrived[rows] - history.begins) / DAY
    met = power_resampled.Met(since, y[rows], history.customer[rows], history.csa[rows], history.days)
    return power_resampled.customers(met, of, left(asked, begins, days, option.block_hours), asked.effect)


def _daily(
    history: History, y: Doubles, code: npt.NDArray[np.int64], names: tuple[str, ...], option: Option
) -> tuple[Doubles, Doubles]:
    """Contacts and sums (D, C) by day and unit, columns in alphabetical order."""
    columns = sorted(option.units)
    place = np.array([columns.index(name) if name in columns else -1 for name in names] + [-1])
    column = place[np.where(code == NO_UNIT, len(names), code)]
    rows = ~np.isnan(y) & (column >= 0)
    at = (history.arrived[rows] - history.begins) // DAY * len(columns) + column[rows]
    shape = (history.days, len(columns))
    n = np.bincount(at, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    s: Doubles = np.bincount(at, y[rows], shape[0] * shape[1]).reshape(shape).astype(np.float64)
    return n, s
