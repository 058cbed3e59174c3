"""What guardrails a history allows, and whether the experiment will be able to say that they hold.

Notable: a guardrail holds only where harm beyond its margin is ruled out, so one that the experiment is too short for
stays open however harmless the treatment is. Better to know before: margins that nobody gave are as wide as they must
be to hold, and of those that were given it is said. Occupancy and its spread over people are measured in blocks of the
last weeks, as the analysis measures them in blocks of the experiment.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
from evaluation.experiment.words import TITLES, change
from twotower.clock import HOUR, format_time, parse_time
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Log

if TYPE_CHECKING:
    import pandas as pd

CELL_WEEKS = 8
"""Of the history, whose blocks are measured."""
LIKELY = 0.8
"""Chance below which one is told that a guardrail will probably stay open."""
WIDEST = 1e6
MOST_TIMES = 9.0
"""Margins in the metric's units, and relative ones, beyond which none is looked for; of a metric that is better when
higher, all of it."""


@dataclass(frozen=True)
class Guarded:
    """A guardrail before the experiment."""

    of: Guardrail
    level: float
    """Of the metric now; NaN: not known."""
    held: float
    """Chance that it is shown to hold if nothing changes; NaN: not known."""
    smallest: float
    """The smallest margin, in the metric's units, that would be held with LIKELY; NaN: not known, infinite: none."""
    chance: Callable[[float], float] = field(default=lambda margin: math.nan, repr=False, compare=False)
    """Of a margin in the metric's units, that it is held if nothing changes."""
    default: tuple[float, float] | None = None
    """Of a margin that was widened: what it was by default, and the chance that it would have been held."""

    @property
    def unlikely(self) -> bool:
        """Whether it will probably stay open."""
        return self.held < LIKELY


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
        chance = _chance(asked, blocks, option, days, begins, one, level)
        margin = one.margin * abs(level) if one.relative else one.margin
        found.append(Guarded(one, level, chance(margin), _smallest(chance, one, level), chance))
    return tuple(found)


def widened(asked: Asked, of: tuple[Guarded, ...]) -> tuple[Guarded, ...]:
    """Default margins as wide as they must be to be held with LIKELY, never narrower; those that were given stay."""
    return of if asked.guardrails != "auto" else tuple(_wider(one) for one in of)


def _wider(one: Guarded) -> Guarded:
    if not (one.unlikely and math.isfinite(one.smallest)):
        return one
    unit = abs(one.level) if one.of.relative else 1.0
    # Hundredths of a relative margin or a rating, a tenth of a point of shares: what people read, and no finer.
    step = 0.01 if one.of.relative or one.of.metric == "csat" else 0.001
    margin = round(math.ceil(one.smallest / unit / step - 1e-9) * step, 6)
    of = one.of.model_copy(update={"margin": margin})
    return replace(one, of=of, held=one.chance(margin * unit), default=(one.of.margin, one.held))


def _chance(
    asked: Asked, blocks: Blocks, option: Option, days: float, begins: int, of: Guardrail, level: float
) -> Callable[[float], float]:
    parts, always = parts_of(blocks), asked.stopping == "always_valid"
    sign = 1.0 if of.better == "lower" else -1.0

    def held(margin: float) -> float:
        more = sign * margin / abs(level) if of.relative and level else 0.0
        precision = power.of_blocks(
            blocks, parts, begins, days, option.wash_out_minutes, pauses=asked.pauses, more=more
        )  # fmt: skip
        return precision.held(margin, of.alpha, always)

    return held


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


def _smallest(chance: Callable[[float], float], of: Guardrail, level: float) -> float:
    """By bisection: it is held the likelier, the wider the margin."""
    from scipy.optimize import brentq

    most = (MOST_TIMES if of.better == "lower" else 1.0) * abs(level) if of.relative else 1.0
    while not of.relative and chance(most) < LIKELY and most < WIDEST:
        most *= 10
    if not chance(most) >= LIKELY:
        return float("inf")
    return float(brentq(lambda margin: chance(margin) - LIKELY, 0.0, most, xtol=1e-6 * most))


def said(of: tuple[Guarded, ...]) -> list[str]:
    """What a reader must know of the margins before they rely on the plan, a line each."""
    lines, wider, unlikely = [], [one for one in of if one.default], [one for one in of if one.unlikely]
    if wider:
        each = ", ".join(
            f"{TITLES[one.of.metric]} to {margin_said(one)} (by default {margin_said(one, one.default[0])}, which "
            f"would be held in {one.default[1]:.0%})"
            for one in wider
            if one.default
        )
        lines.append(
            f"margins that were widened, so that {LIKELY:.0%} of experiments that change nothing hold them: {each}; "
            "where that is more harm than you can bear, plan more days, or give guardrails"
        )
    if unlikely:
        each = ", ".join(f"{TITLES[one.of.metric]} {one.held:.0%}" for one in unlikely)
        wide = ", ".join(f"{TITLES[one.of.metric]} {margin_said(one, _relative(one))}" for one in unlikely)
        lines.append(
            f"with these margins it will probably end 'not held', even if nothing changes: held {each}; margins of "
            f"{wide} would hold with {LIKELY:.0%}"
        )
    known = [one.held for one in of if not math.isnan(one.held)]
    if len(known) > 1:
        lines.append(
            f"to ship, all guardrails must be held: if nothing changes, {math.prod(known):.0%} of the time were they "
            f"independent, at most {min(known):.0%}"
        )
    return lines


def margin_said(one: Guarded, margin: float | None = None) -> str:
    """`12% of it`, `1.40 points`; margin: default, the guardrail's own."""
    margin = one.of.margin if margin is None else margin
    if math.isinf(margin):
        return "none"
    return f"{margin:.0%} of it" if one.of.relative else change(one.of.metric, margin).lstrip("+")


def _relative(one: Guarded) -> float:
    """The smallest margin as the guardrail gives its own."""
    return one.smallest / abs(one.level) if one.of.relative else one.smallest
