"""What guardrails a history allows, and whether the experiment will be able to say that they hold.

Notable: a guardrail holds only where harm beyond its margin is ruled out, so one that the experiment is too short for
stays open however harmless the treatment is. Better to know before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.experiment import power
from evaluation.experiment.design_blocks import Blocks, blocks_of, parts_of
from evaluation.experiment.design_history import LEAST_KNOWN, History
from evaluation.experiment.design_options import Option
from evaluation.experiment.design_spec import GUARDRAILS, SECONDARY, Asked
from evaluation.experiment.outcomes import OF_CELLS
from evaluation.experiment.plan import Guardrail, MetricName

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
    asked: Asked, history: History, option: Option, days: float, begins: int, of: tuple[Guardrail, ...]
) -> tuple[Guarded, ...]:
    """Of a switchback by blocks; of other designs, and of metrics of blocks, nothing is known beforehand."""
    return tuple(_guarded(asked, history, option, days, begins, one) for one in of)


def _guarded(asked: Asked, history: History, option: Option, days: float, begins: int, of: Guardrail) -> Guarded:
    y = history.columns.get(of.metric)
    if y is None or np.isnan(y).all():
        return Guarded(of, float("nan"), float("nan"), float("nan"))
    mean, always = float(np.nanmean(y)), asked.stopping == "always_valid"
    if option.design != "switchback" or option.block_hours is None:
        return Guarded(of, mean, float("nan"), float("nan"))
    blocks: Blocks = blocks_of(history, y, option.block_hours)
    precision = power.of_blocks(blocks, parts_of(blocks), begins, days, option.wash_out_minutes)
    margin = of.margin * abs(mean) if of.relative else of.margin
    return Guarded(of, mean, precision.held(margin, of.alpha, always), _smallest(precision, of.alpha, always))


def _smallest(of: power.Precision, alpha: float, always: bool) -> float:
    """By bisection: `held` grows with the margin."""
    from scipy.optimize import brentq

    if of.held(1e3 * of.se, alpha, always) < LIKELY:
        return float("inf")
    return float(brentq(lambda margin: of.held(margin, alpha, always) - LIKELY, 0.0, 1e3 * of.se))
