"""The same effect by other ways of inference, so that a reader sees what the answer hangs on.

Notable: none of these decides; which one does was fixed with the design (`effects.py`). Beside them stands what
contacts would say if each had been drawn by itself, which is what most tools compute and what makes noise look like an
effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.experiment.effects import CR2, METHODS, Effect, Means, Setting, effect, redrawn
from evaluation.experiment.outcomes import OF_CELLS, Outcome
from evaluation.experiment.stats.linear import Told, across_time, fit
from twotower.clock import DAY

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Other:
    """One way: its words, the effect, its interval at the primary's level, p."""

    way: str
    value: float
    se: float
    low: float
    high: float
    p: float


def sensitivity(setting: Setting, outcome: Outcome, primary: Effect) -> tuple[Other, ...]:
    """The primary first; then ways that differ in adjustment, then in errors."""
    alpha = primary.alpha
    found = [
        Other(f"primary: {METHODS[primary.method]}", primary.value, primary.se, primary.low, primary.high, primary.p)
    ]
    if outcome.metric not in OF_CELLS:
        raw = effect(setting, setting.outcome(outcome.metric, adjusted=False), alpha)
        found.append(Other("not adjusted for the covariate", raw.value, raw.se, raw.low, raw.high, raw.p))
    told = _interacted(setting, outcome)
    found += [] if told is None else [_other("regression with interactions, of cells (Lin 2013); CR2", told, alpha)]
    if primary.method != CR2:
        of_cells = Means(setting, outcome).fit
        found += [] if of_cells is None else [_other(METHODS[CR2], of_cells.one(1), alpha)]
    if setting.plan.design == "cluster":
        drawn = redrawn(setting, outcome)
        low, high = drawn.interval(alpha)
        found.append(Other("permutations of what was drawn", drawn.value, drawn.se, low, high, drawn.p_value()))
    if setting.plan.design == "switchback":
        found += _over_time(setting, outcome, alpha)
    if setting.plan.design != "cluster":
        found += _library(outcome, setting, alpha)
    if outcome.values is not None:
        found.append(
            _other("as if each contact had been drawn: too sure, not to be used", _naive(setting, outcome), alpha)
        )
    return tuple(found)


def _other(way: str, told: Told, alpha: float) -> Other:
    low, high = told.interval(alpha)
    return Other(way, told.value, told.se, low, high, told.p())


def _interacted(setting: Setting, outcome: Outcome) -> Told | None:
    """Means of cells on arm, covariate and their product, the covariate centred."""
    n, y, x = outcome.moments[:, 0], outcome.moments[:, 1], outcome.moments[:, 2]
    rows = np.flatnonzero(n > 0)
    if not outcome.theta or not len(rows):
        return None
    centred = x[rows] / n[rows] - x[rows].sum() / n[rows].sum()
    arm = setting.cells.arm[rows].astype(np.float64)
    columns = np.stack([np.ones(len(rows)), arm, centred, arm * centred], axis=1)
    cluster = np.unique(setting.cells.cluster[rows], return_inverse=True)[1].astype(np.int64)
    found = fit(columns, y[rows] / n[rows], n[rows], cluster)
    return None if found is None else found.one(1)


def _over_time(setting: Setting, outcome: Outcome, alpha: float) -> list[Other]:
    """Errors that neighbours in time, or the blocks of a day, share."""
    cells = setting.cells
    rows = np.flatnonzero(outcome.n > 0)
    rows = rows[np.argsort(cells.begins[rows], kind="stable")]
    if len(rows) < 8:
        return []
    x = np.stack([np.ones(len(rows)), cells.arm[rows].astype(np.float64)], axis=1)
    y, weight = outcome.s[rows] / outcome.n[rows], outcome.n[rows]
    found = [_other("consecutive blocks hang together (Newey and West)", across_time(x, y, weight, 1), alpha)]
    day = np.unique((cells.begins[rows] - cells.begins.min()) // DAY, return_inverse=True)[1].astype(np.int64)
    by_day = fit(x, y, weight, day)
    if by_day is not None and day.max() > 2:
        found.append(_other("blocks of a day hang together; CR2 by day", by_day.one(1), alpha))
    return found


def _library(outcome: Outcome, setting: Setting, alpha: float) -> list[Other]:
    """tea-tasting's ratio of means over cells, the covariate's sum among them."""
    import pandas as pd
    from tea_tasting.metrics import RatioOfMeans

    if outcome.metric in OF_CELLS:
        return []
    rows = outcome.moments[:, 0] > 0
    data = pd.DataFrame(outcome.moments[rows][:, [0, 0, 1, 2]], columns=["n", "m", "y", "x"])
    data["arm"] = setting.cells.arm[rows]
    if data.groupby("arm").size().min() < 3:
        return []
    covariates = ("x", "m") if outcome.theta else (None, None)
    metric = RatioOfMeans("y", "n", *covariates, confidence_level=1 - alpha, equal_var=False, use_t=True)
    found = metric.analyze(data, 0, 1, "arm")
    low, high = found.effect_size_ci_lower, found.effect_size_ci_upper
    se = abs(found.effect_size / found.statistic) if found.statistic else math.nan
    way = "cells as if drawn one by one, CUPED over cells (tea-tasting)"
    return [Other(way, float(found.effect_size), se, float(low), float(high), float(found.pvalue))]


def _naive(setting: Setting, outcome: Outcome) -> Told:
    """Welch over contacts."""
    cells, values = setting.cells, outcome.values
    rows = np.flatnonzero(cells.counted & ~np.isnan(values))  # type: ignore[arg-type]
    parts = [values[rows][cells.arm[cells.of[rows]] == a] for a in (0, 1)]  # type: ignore[index]
    se = math.sqrt(sum(float(part.var(ddof=1)) / len(part) for part in parts))
    return Told(float(parts[1].mean() - parts[0].mean()), se, float(len(rows) - 2))
