"""Metrics that single contacts do not have: how busy CSAs were, and how evenly, in every cell of a schedule.

Notable: occupancy is time with a contact in hand over time on shift, both by overlap with the cell, the minutes of the
wash-out apart, so that they count or not as contacts of those minutes do. Where a CSA has several contacts at once, the
time counts once. Figures are sums over CSAs; no single CSA's leave this module.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.experiment.plan import Plan
from evaluation.experiment.spans import Spans, spans_of
from evaluation.experiment.units import CENTRE, units_of_csas
from twotower.clock import HOUR, NEVER, SECOND, parse_time
from twotower.errors import ConfigError, DataError
from twotower.progress import track
from twotower.tables.log import Log

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]


def measured_blocks(
    plan: Plan, schedule: pd.DataFrame, log: Log, folder: str | Path, until: int | None = None
) -> pd.DataFrame:
    """A row a cell and metric: unit, begins_at, metric, n and s (their ratio is the metric), early_n and early_s (the
    same of the wash-out's minutes).

    until: the moment up to which things are known, µs UTC; None: the plan's end. Raises DataError where nobody works in
    the plan's time.

    Of `occupancy` n is hours on shift, s hours in hand; of `gini_load` n is hours on shift, s the Gini coefficient of
    CSAs' occupancy times that.
    """
    spans = spans_of(plan, schedule)
    shifts, busy = _intervals(plan, log, folder)
    rows: list[tuple[str, int, str, float, float, float, float]] = []
    wash = int(plan.wash_out_minutes * 60 * SECOND)
    for unit, begins, ends, who in track(_cells(plan, spans, log), "occupancy by block", unit="block"):
        ends = ends if until is None else max(min(ends, until), begins)
        cut = min(begins + wash, ends)
        on = [_within(shifts, who, *part) for part in ((cut, ends), (begins, cut))]
        at_work = [_within(busy, who, *part) for part in ((cut, ends), (begins, cut))]
        work = [np.minimum(a, b) for a, b in zip(at_work, on, strict=True)]
        (n, early_n), (s, early_s) = ([float(each.sum()) for each in both] for both in (on, work))
        rows.append((unit, begins, "occupancy", n, s, early_n, early_s))
        rows.append((unit, begins, "gini_load", n, n * _gini(work[0], on[0]), 0.0, 0.0))
    names = ["unit", "begins_at", "metric", "n", "s", "early_n", "early_s"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(begins_at=pd.to_datetime(frame["begins_at"], unit="us", utc=True).dt.as_unit("us"))


def _cells(plan: Plan, spans: Spans, log: Log) -> list[tuple[str, int, int, Longs]]:
    """Unit, beginning, end and CSAs of every cell."""
    found: list[tuple[str, int, int, Longs]] = []
    everyone = np.arange(len(log.csas))
    if plan.design == "customer":
        place = {name: i for i, name in enumerate(log.csas.ids.to_pylist())}
        for begins in np.unique(spans.begins):
            inside = spans.begins == begins
            for arm, name in enumerate((plan.control.name, plan.treatment.name)):
                pool = [place[one] for one in spans.unit[inside & (spans.arm == arm)] if one in place]
                found.append((name, int(begins), int(spans.ends[inside][0]), np.array(pool, np.int64)))
        return found
    for i in range(len(spans)):
        begins, ends, unit = int(spans.begins[i]), int(spans.ends[i]), str(spans.unit[i])
        who = everyone if plan.unit == CENTRE else np.flatnonzero(units_of_csas(plan, log, begins) == unit)
        found.append((unit, begins, ends, who))
    return found


class Spent:
    """Time that each CSA has spent in some disjoint intervals until any moment."""

    def __init__(self, csa: Longs, starts: Longs, ends: Longs, many: int) -> None:
        self._knots: list[tuple[Longs, Longs] | None] = [None] * many
        order = np.lexsort((starts, csa))
        csa, starts, ends = csa[order], starts[order], ends[order]
        edges = np.searchsorted(csa, np.arange(many + 1))
        for j in np.flatnonzero(np.diff(edges)):
            begin, end = starts[edges[j] : edges[j + 1]], ends[edges[j] : edges[j + 1]]
            # What has gone on until now: an interval inside another adds nothing.
            until = np.maximum.accumulate(end)
            begin = np.maximum(begin, np.r_[begin[0], until[:-1]])
            length = np.maximum(until - begin, 0)
            total = np.cumsum(length)
            self._knots[j] = (
                np.stack([begin, begin + length], axis=1).ravel(),
                np.stack([total - length, total], axis=1).ravel(),
            )

    def until(self, who: Longs, moment: int) -> Doubles:
        """Hours (w,)."""
        found = np.zeros(len(who))
        for i, j in enumerate(who):
            knots = self._knots[j]
            if knots is not None:
                found[i] = np.interp(moment, knots[0], knots[1]) / HOUR
        return found


def _within(time: Spent, who: Longs, begins: int, ends: int) -> Doubles:
    return time.until(who, ends) - time.until(who, begins)


def _intervals(plan: Plan, log: Log, folder: str | Path) -> tuple[Spent, Spent]:
    """Shifts, and contacts in hand, in the plan's time."""
    from evaluation.simulate.replay_staff import shifts_of
    from evaluation.simulate.replay_window import window_of

    begins, ends, many = parse_time(plan.begins), parse_time(plan.ends), len(log.csas)
    try:
        shifts, _ = shifts_of(folder, window_of(log, begins, ends))
    except ConfigError as error:
        raise DataError(f"occupancy: {error}") from None
    moves = log.handovers
    last = int(moves.assigned_at.max(initial=begins))
    told = moves.assigned_at + np.nan_to_num(moves.handle_time_s).astype(np.int64) * SECOND
    until = np.where(moves.ended_at == NEVER, np.minimum(told, max(last, begins)), moves.ended_at)
    kept = (until > begins) & (moves.assigned_at < ends)
    starts, stops = (begins + (each * SECOND).astype(np.int64) for each in (shifts.starts, shifts.ends))
    on = Spent(shifts.csa.astype(np.int64), starts, stops, many)
    return on, Spent(moves.csa[kept].astype(np.int64), moves.assigned_at[kept], until[kept], many)


def _gini(work: Doubles, on: Doubles) -> float:
    """Of CSAs' occupancy, those on shift."""
    from evaluation.simulate.figures import gini

    there = on > 0
    found = gini(work[there] / on[there])
    return 0.0 if np.isnan(found) else found
