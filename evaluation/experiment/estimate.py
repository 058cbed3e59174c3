"""The lean way through: the primary effect, its interval, p, and when monitoring would have stopped.

Notable: this is what thousands of simulated experiments run, and what `analyse` runs first; there is no second
implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.experiment.effects import Effect, Setting, effect, setting_of
from evaluation.experiment.monitor import Path, path
from evaluation.experiment.outcomes import Outcome
from evaluation.experiment.plan import Plan
from evaluation.experiment.spans import spans_of

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 1000


@dataclass(frozen=True)
class Estimate:
    """The primary metric's effect."""

    effect: Effect
    """By the design's inference, for one look."""
    monitored: Path
    """At every moment, for any number of looks."""
    rule: str
    """Of the plan: which of the two decides."""
    lift: Path | None = None
    """The relative difference at every moment; None: nobody asked."""

    @property
    def low(self) -> float:
        """Of the interval that decides."""
        return self._ends[0]

    @property
    def high(self) -> float:
        """Of the interval that decides."""
        return self._ends[1]

    @property
    def _ends(self) -> tuple[float, float]:
        if self.rule == "fixed":
            return self.effect.low, self.effect.high
        if not len(self.monitored.low):
            return float("-inf"), float("inf")
        return float(self.monitored.low[-1]), float(self.monitored.high[-1])

    @property
    def crossed_at(self) -> int | None:
        """When the confidence sequence first left out 0, µs UTC."""
        return self.monitored.crossed_at


def estimate(
    plan: Plan, schedule: pd.DataFrame, frame: pd.DataFrame, blocks: pd.DataFrame | None = None, draws: int = DRAWS
) -> Estimate:
    """Nothing is checked beyond what cannot be computed; `analyse` refuses what must not be.

    schedule, frame: columns of `frame.SCHEDULE` and `frame.FRAME`; blocks: of metrics that contacts do not have; draws:
    schedules that are drawn again. Raises DataError where frame and schedule contradict each other.
    """
    setting = setting_of(plan, spans_of(plan, schedule), frame, blocks, draws)
    return estimate_in(setting, setting.outcome(plan.primary.metric))


def estimate_in(setting: Setting, outcome: Outcome) -> Estimate:
    """The same, of what has been prepared."""
    alpha = setting.plan.primary.alpha
    return Estimate(effect(setting, outcome, alpha), path(setting, outcome, alpha), setting.plan.stopping.rule)
