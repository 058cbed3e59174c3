"""Contacts by what was drawn: a cell is a span of the schedule, or of the design `customer` a window of one arm's pool.

Notable: whatever is estimated is made of sums over cells, because the arm was drawn for a cell and not for a contact.
Spans without a contact are cells as well, so that lots can be drawn again as they were. A cluster is what one lot
decided: a pair of cells, or a cell alone; of `customer`, both pools of a window, which were drawn from the same CSAs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evaluation.experiment.frame import CONTROL, OUT, TREATMENT
from evaluation.experiment.plan import Plan
from evaluation.experiment.spans import ALONE, Arms, Longs, Spans, micros
from evaluation.experiment.stats.permute import ALWAYS, Sums
from twotower.clock import DAY, SECOND
from twotower.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """C cells in order of beginning, and which of them each of N contacts belongs to."""

    unit: npt.NDArray[np.object_]
    """(C,)"""
    arm: Arms
    begins: Longs
    """(C,) µs UTC"""
    ends: Longs
    cluster: Longs
    """(C,) 0 … G − 1, what one lot decided."""
    group: Longs
    """(C,) cells that are alone are exchanged with others of their group."""
    before: Longs
    """(C,) the cell before in the same unit; −1: none just before, so it was the control's time; −2: everything changes
    whenever such a cell begins (clusters, pools)."""
    of: Longs
    """(N,) −1: outside of the schedule"""
    early: Flags
    """(N,) arrived so soon after its cell began that it counts only where the arm did not change"""
    washed: Flags
    """(N,) does not count"""
    arrived: Longs
    """(N,) µs UTC"""

    def __len__(self) -> int:
        return len(self.arm)

    @property
    def counted(self) -> Flags:
        """(N,)"""
        return (self.of >= 0) & ~self.washed

    @property
    def until(self) -> int:
        """The end of the last cell or, of one that goes on, the last contact; µs UTC."""
        inside = self.arrived[self.of >= 0]
        return min(int(self.ends.max()), int(inside.max(initial=self.begins.max())) + DAY)

    @property
    def time(self) -> int:
        """How long there was an experiment, until `until`: without pauses and whatever else lies between spans; µs."""
        order = np.argsort(self.begins, kind="stable")
        begins, ends = self.begins[order], np.minimum(self.ends[order], self.until)
        covered = np.maximum.accumulate(np.r_[begins[0], ends[:-1]])
        return int(np.maximum(ends - np.maximum(begins, covered), 0).sum())

    def sums(self, values: Doubles, kept: Flags | None = None) -> tuple[Doubles, Doubles]:
        """Contacts (C,) whose value (N,) is known, and the sum of these values; kept: only of these, whether they count
        or not; default: of those that count."""
        known = np.flatnonzero((self.counted if kept is None else kept & (self.of >= 0)) & ~np.isnan(values))
        return self.total(known), self.total(known, values[known])

    def total(self, rows: Longs, values: Doubles | None = None) -> Doubles:
        """(C,) how many of some contacts, or the sum of their values."""
        return np.bincount(self.of[rows], weights=values, minlength=len(self)).astype(np.float64)

    def for_lots(self, values: Doubles) -> Sums:
        """What randomisation inference needs of a metric (N,)."""
        free = self.early & (self.before[self.of] != ALWAYS)
        late = self.sums(values, self.counted & ~free)
        early = self.sums(values, free)
        return Sums(late[0], late[1], early[0], early[1], self.before, self.cluster)


def cells_of(plan: Plan, spans: Spans, frame: pd.DataFrame) -> Cells:
    """Raises DataError where frame and schedule contradict each other."""
    arrived = micros(frame["arrived_at"])
    arm = frame["arm"].to_numpy(np.int8)
    washed = frame["washed"].to_numpy(np.bool_)
    if plan.design == "customer":
        return _of_customers(plan, spans, arrived, arm, washed)
    of = np.where(arm == OUT, -1, spans.at(frame["unit"].to_numpy(object), arrived))
    wrong = np.flatnonzero((arm != OUT) & (arm != np.where(of >= 0, spans.arm[of], OUT)))
    if len(wrong):
        row = int(wrong[0])
        said = "no span" if of[row] < 0 else f"arm {spans.arm[of[row]]}"
        raise DataError(
            f"frame, row {row}, column arm: {arm[row]}, where the schedule has {said}; make the frame again"
        )
    cluster = _clusters(spans.pair)
    group = np.unique(spans.unit.astype(str), return_inverse=True)[1].astype(np.int64)
    before = spans.before()
    before = np.where((before >= 0) & (spans.ends[before] == spans.begins), before, -1)
    if plan.design == "cluster":
        group, before = np.zeros_like(group), np.full_like(before, ALWAYS)
    early = (of >= 0) & (arrived - spans.begins[of] < plan.wash_out_minutes * 60 * SECOND)
    return Cells(spans.unit, spans.arm, spans.begins, spans.ends, cluster, group, before, of, early, washed, arrived)


def _of_customers(plan: Plan, spans: Spans, arrived: Longs, arm: Arms, washed: Flags) -> Cells:
    """Both arms' pools of each window."""
    begins, first = np.unique(spans.begins, return_index=True)
    ends = spans.ends[first]
    window = np.searchsorted(begins, arrived, side="right") - 1
    inside = (window >= 0) & (arrived < ends[np.maximum(window, 0)]) & (arm != OUT)
    of = np.where(inside, 2 * window + (arm == TREATMENT), -1)
    numbers = np.repeat(np.arange(len(begins)), 2)
    names = np.array([plan.control.name, plan.treatment.name], object)
    arms = np.tile(np.array([CONTROL, TREATMENT], np.int8), len(begins))
    always = np.full(len(numbers), ALWAYS, np.int64)
    return Cells(
        np.tile(names, len(begins)), arms, begins[numbers], ends[numbers], numbers, np.zeros_like(numbers), always, of,
        np.zeros(len(arrived), np.bool_), washed, arrived,
    )  # fmt: skip


def _clusters(pair: Longs) -> Longs:
    """Numbers 0 … G − 1, in order of the first of each: those of a pair share one."""
    key = np.where(pair == ALONE, -2 - np.arange(len(pair)), pair)
    first, inverse = np.unique(key, return_index=True, return_inverse=True)[1:]
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
