"""The effect on one metric, with the errors that its design calls for.

Notable: which inference is primary follows from how arms were drawn, not from which is narrower:

- `switchback`: randomisation inference. Blocks are many, hang together in time, and their lots are known: p-value and
  interval by drawing schedules again need no model of that dependence (Bojinov, Simchi-Levi & Zhao 2023).
- `cluster`: t with CR2 and Bell and McCaffrey's degrees of freedom, clusters by what was drawn (Imbens & Kolesár 2016;
  Abadie et al. 2023). Sites are few: permutations of eight pairs know no p below 1/128 and give coarse intervals or
  none, so they stand beside it.
- `customer`: t with errors clustered by customer and by window of pools at once (Cameron, Gelbach & Miller 2011): a
  customer keeps an arm, CSAs do not, and both make contacts alike.

A switchback of too few lots to reject anything at its level falls back to CR2, and says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evaluation.experiment.cells import Cells, cells_of
from evaluation.experiment.outcomes import OF_CELLS, OF_HANDOVERS, Outcome, outcome_of, outcome_of_cells
from evaluation.experiment.plan import Plan
from evaluation.experiment.schedule import redraws
from evaluation.experiment.schedule import spans_of as planned_spans
from evaluation.experiment.spans import Arms, Spans
from evaluation.experiment.stats.linear import Fit, Told, fit
from evaluation.experiment.stats.permute import Redrawn, lots, redraw
from twotower.clock import format_time
from twotower.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

DRAWS = 2000
MOST_COUNTED = 24
"""Cells up to which it is counted how many of the drawn lots differ."""
RANDOMISED, CR2, TWO_WAY = "randomisation", "CR2 t", "two-way t"
METHODS = {
    RANDOMISED: "schedules drawn again, studentised; interval by inversion",
    CR2: "t with CR2 errors by what was drawn, degrees of freedom of Bell and McCaffrey",
    TWO_WAY: "t with errors clustered by customer and by window of pools",
}


@dataclass(frozen=True)
class Effect:
    """Treatment less control on one metric, in its units."""

    metric: str
    control: float
    treatment: float
    value: float
    se: float
    df: float
    low: float
    high: float
    p: float
    alpha: float
    contacts: int
    """Of metrics of cells, hours on shift."""
    clusters: int
    method: str
    explained: float = 0.0
    """Share of a contact's variance that the covariate explains."""
    adjusted: bool = False
    """Whether there was a covariate to adjust for."""

    @property
    def relative(self) -> float:
        """Of the control's mean."""
        return self.value / self.control if self.control else math.nan


@dataclass(frozen=True)
class Setting:
    """What all estimates of an experiment share."""

    plan: Plan
    spans: Spans
    cells: Cells
    frame: pd.DataFrame
    blocks: pd.DataFrame | None = None
    """Metrics of cells, `measured_blocks`."""
    draws: int = DRAWS

    @cached_property
    def lots(self) -> tuple[Arms, bool]:
        """Schedules drawn again (R, C), the first the one that was, and whether these are all. Raises DataError where
        the schedule is none that the plan draws, and its limit on runs must be kept."""
        cells, plan = self.cells, self.plan
        if plan.most_in_a_row is None:
            return lots(cells.arm, cells.cluster, cells.group, self.draws, plan.seed)
        # Of lots that may not run on for long not all exchanges are possible: the plan draws them itself.
        units = sorted(set(cells.unit.tolist()))
        planned = planned_spans(plan, units)
        rows = {key: row for row, key in enumerate(zip(planned.begins.tolist(), planned.unit.tolist(), strict=True))}
        mine = [rows.get(key, -1) for key in zip(cells.begins.tolist(), cells.unit.tolist(), strict=True)]
        if -1 in mine:
            when = format_time(int(cells.begins[mine.index(-1)]))
            raise DataError(f"schedule: the plan draws no span from {when} on; give the schedule of this plan")
        drawn = redraws(plan, units, self.draws)[:, mine]
        return np.concatenate([cells.arm[None, :], drawn]), False

    @cached_property
    def customers(self) -> Longs:
        """(N,) 0 … K − 1; a contact without a customer is one of its own."""
        import pandas as pd

        codes, names = pd.factorize(self.frame["customer_id"])
        nobody = codes < 0
        found = np.asarray(codes, np.int64)
        found[nobody] = len(names) + np.arange(int(nobody.sum()))
        return found

    def column(self, name: str) -> Doubles:
        """A column (N,) of numbers."""
        return self.frame[name].to_numpy(np.float64)

    def could(self, metric: str) -> Flags:
        """(N,) contacts that count and could have a value: nobody handled those who gave up, so that they are not
        resolved is no measurement."""
        counted = self.cells.counted
        return counted & (self.column("abandoned") != 1) if metric in OF_HANDOVERS else counted

    def known_in(self, metric: str, outcome: Outcome) -> tuple[int, int]:
        """Of control and treatment, cells in which a metric was measured."""
        n = outcome.n
        if metric not in OF_CELLS:
            n, _ = self.cells.sums(self.column(metric), self.could(metric))
        control, treatment = (int((n[self.cells.arm == a] > 0).sum()) for a in (0, 1))
        return control, treatment

    def outcome(self, metric: str, adjusted: bool = True) -> Outcome:
        """A metric by cell, adjusted for the covariate where that is asked for. Raises DataError where nobody measured
        it."""
        if metric not in OF_CELLS:
            return outcome_of(self.cells, metric, self.column(metric), self.column("covariate") if adjusted else None)
        if self.blocks is None or not (self.blocks["metric"] == metric).any():
            raise DataError(f"{metric}: nobody measured it; it needs tables (contacts, interactions, shifts)")
        return outcome_of_cells(self.cells, metric, self.blocks)


def setting_of(
    plan: Plan, spans: Spans, frame: pd.DataFrame, blocks: pd.DataFrame | None = None, draws: int = DRAWS
) -> Setting:
    """Raises DataError where frame and schedule contradict each other."""
    return Setting(plan, spans, cells_of(plan, spans, frame), frame, blocks, draws)


class Means:
    """Both arms' means, and errors of their linear combinations, by the t-inference of the design."""

    def __init__(
        self, setting: Setting, outcome: Outcome, kept: npt.NDArray[np.bool_] | None = None, washed: bool = False
    ) -> None:
        """kept (N,): of some contacts alone; washed: those of a wash-out may be among them."""
        cells = self.cells = setting.cells
        self._setting = setting
        self._rows = cells.counted if kept is None else kept & (cells.of >= 0 if washed else cells.counted)
        self.values = outcome.values
        if kept is None:
            self.n, self.s = outcome.n, outcome.s
        elif outcome.values is None:
            raise DataError(f"{outcome.metric}: single contacts do not have it")
        else:
            self.n, self.s = cells.sums(outcome.values, self._rows)
        self.arm = cells.arm

    @cached_property
    def there(self) -> bool:
        """Whether both arms have two cells at least."""
        return all(int(((self.n > 0) & (self.arm == a)).sum()) > 1 for a in (0, 1))

    def apart(self, rest: Means) -> Told:
        """The effect here less that on `rest`, other contacts of the same cells; errors by what was drawn."""
        value, part = 0.0, np.zeros(len(self.arm))
        for means, sign in ((self, 1.0), (rest, -1.0)):
            for a, side in ((1, sign), (0, -sign)):
                n, s = np.where(means.arm == a, means.n, 0.0), np.where(means.arm == a, means.s, 0.0)
                mean = s.sum() / n.sum()
                value += side * mean
                part += side * (s - mean * n) / n.sum()
        codes = np.unique(self.cells.cluster[(self.n > 0) | (rest.n > 0)])
        sums = np.bincount(self.cells.cluster, part)[codes]
        variance = float((sums**2).sum()) * len(codes) / max(len(codes) - 1, 1)
        df = 0.0 if self.fit is None else min(self.fit.one(1).df, float(len(codes) - 1))
        return Told(float(value), math.sqrt(variance) * self.more, df)

    @cached_property
    def more(self) -> float:
        """By how much errors grow where customers come again: of the design `customer`, both clusterings beside that of
        windows alone; 1 of others."""
        if self._setting.plan.design != "customer" or self.values is None or self.fit is None:
            return 1.0
        alone = self.fit.one(1).se
        return max(1.0, self.difference().se / alone) if alone > 0 else 1.0

    @cached_property
    def fit(self) -> Fit | None:
        """Means of cells on a constant and the arm, weighted by contacts."""
        rows = np.flatnonzero(self.n > 0)
        x = np.stack([np.ones(len(rows)), self.arm[rows].astype(np.float64)], axis=1)
        cluster = np.unique(self.cells.cluster[rows], return_inverse=True)[1].astype(np.int64)
        return fit(x, self.s[rows] / self.n[rows], self.n[rows], cluster) if self.there else None

    def of(self, control: float, treatment: float) -> Told:
        """control · m₀ + treatment · m₁."""
        if not self.there:
            return Told(math.nan, math.nan, 0.0)
        if self._setting.plan.design == "customer" and self.values is not None:
            return self._two_way(control, treatment)
        if self.fit is None:
            return Told(math.nan, math.nan, 0.0)
        return self.fit.of(np.array([control + treatment, treatment]))

    def difference(self) -> Told:
        """m₁ − m₀."""
        return self.of(-1.0, 1.0)

    def _two_way(self, control: float, treatment: float) -> Told:
        """V by customers + V by windows − V by both, not less than either; the smaller number of clusters − 1."""
        cells, values = self.cells, self.values
        rows = np.flatnonzero(self._rows & ~np.isnan(values))  # type: ignore[arg-type]
        arm = self.arm[cells.of[rows]].astype(np.int64)
        total = np.bincount(arm, values[rows], 2)  # type: ignore[index]
        count = np.bincount(arm, minlength=2)
        mean = total / count
        part = np.array([control, treatment])[arm] * (values[rows] - mean[arm]) / count[arm]  # type: ignore[index]
        who, when = self._setting.customers[rows], cells.cluster[cells.of[rows]]
        both = np.unique(who * (int(when.max()) + 1) + when, return_inverse=True)[1]
        by_who, by_when, by_both = (_clustered(part, codes) for codes in (who, when, both))
        variance = max(by_who[0] + by_when[0] - by_both[0], by_who[0], by_when[0])
        value = float(control * mean[0] + treatment * mean[1])
        return Told(value, math.sqrt(variance), float(min(by_who[1], by_when[1]) - 1))


def _clustered(part: Doubles, codes: Any) -> tuple[float, int]:
    """Σ over clusters of squared sums × G / (G − 1), and G."""
    count = np.bincount(codes)
    sums = np.bincount(codes, part)[count > 0]
    return float((sums**2).sum()) * len(sums) / max(len(sums) - 1, 1), len(sums)


def method_of(setting: Setting) -> str:
    """The primary inference."""
    if setting.plan.design == "customer":
        return TWO_WAY
    if setting.plan.design == "switchback" and smallest_p(setting) <= setting.plan.primary.alpha / 2:
        return RANDOMISED
    return CR2


def smallest_p(setting: Setting) -> float:
    """Below which no test by lots can come: two of the lots, each the other's mirror, are the farthest."""
    arms, whole = setting.lots
    few = arms.shape[1] <= MOST_COUNTED and not whole
    return max(2 / len(np.unique(arms, axis=0)) if whole or few else 0.0, 1 / len(arms))


def more_by_customers(setting: Setting, outcome: Outcome) -> float:
    """`Means.more` of all contacts that count."""
    return Means(setting, outcome).more


def redrawn(setting: Setting, outcome: Outcome) -> Redrawn:
    """What schedules drawn again say of a metric."""
    arms, whole = setting.lots
    return redraw(outcome.sums, arms, whole)


def effect(setting: Setting, outcome: Outcome, alpha: float) -> Effect:
    """By the design's primary inference; NaN where an arm has no two cells."""
    means, (control, treatment) = Means(setting, outcome), outcome.means(setting.cells.arm)
    told = means.difference()
    method = method_of(setting)
    if math.isnan(told.value):
        low, high, p = -math.inf, math.inf, 1.0
    elif method == RANDOMISED:
        drawn = redrawn(setting, outcome)
        (low, high), p = drawn.interval(alpha), drawn.p_value()
    else:
        (low, high), p = told.interval(alpha), told.p()
    clusters = len(np.unique(setting.cells.cluster[outcome.n > 0]))
    return Effect(
        outcome.metric, control, treatment, told.value, told.se, told.df, low, high, p, alpha,
        int(outcome.sums.n.sum() if outcome.values is None else outcome.n.sum()), clusters, method, outcome.explained,
        outcome.theta != 0,
    )  # fmt: skip
