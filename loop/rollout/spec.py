"""What a rollout is, as a file says it: how long a challenger answers unheard, how it is tried, what takes it back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from evaluation.experiment.plan import LOWER, Guardrail, MetricName, metrics_differ, washed_shorter
from loop.gate.rules import Margin, Strict

Inner = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Whole = Annotated[int, Field(ge=1)]
LEAST_WASH_OUT = 2.0
"""Minutes in which whoever serves has taken another bundle and what was asked before it is over."""


class Least(Strict):
    """A metric of the canary: how much worse is still not worse."""

    metric: MetricName
    margin: NotNegative
    """In the metric's units, or of the champion's mean where `relative`."""
    relative: bool = False
    better: Literal["higher", "lower"] | None = None
    """None: as is usual of the metric."""

    def guardrail(self, alpha: float) -> Guardrail:
        """As an experiment's plan has it. Raises ValueError for a direction in which nothing would be guarded."""
        better = self.better or ("lower" if self.metric in LOWER else "higher")
        return Guardrail(metric=self.metric, better=better, margin=self.margin, relative=self.relative, alpha=alpha)


class ShadowSpec(Strict):
    """The challenger answers unheard (`twotower serve --shadow`), and goes on when this was seen."""

    hours: NotNegative = 24.0
    contacts: Whole = 1000
    """That both bundles answered."""
    most_errors: Share = 0.01
    """Share of contacts that the challenger could not answer; shown to be more, it is taken back."""
    most_times: Positive | None = 3.0
    """The challenger's median time of a match in times of the champion's; more take it back. None: not asked."""
    least_agreement: Share = 0.0
    """Share of contacts of which both have the same first choice; shown to be less, it is taken back: it is not what
    anybody expects."""
    value: Margin | None = None
    """What its choices would have earned, P(resolved), by the log's propensities; None: not asked."""


class CanarySpec(Strict):
    """Blocks of time in which everybody is answered by one of the two, by lot."""

    block_hours: Positive = 1.0
    wash_out_minutes: NotNegative = 10.0
    """After a change of bundle, in which contacts do not count."""
    days: Whole = 14
    """At most; what is not shown by then is not shown."""
    share: Inner = 0.5
    """Of the challenger's blocks."""
    most_in_a_row: Whole | None = None
    tuned: Inner = 0.05
    """Share of the blocks at which bounds are tightest: early, as harm is what they are there for."""
    seed: Annotated[int, Field(ge=0)] = 0
    primary: Least = Least(metric="resolved", margin=0.03)
    """The challenger goes on only when it is shown not to be worse by more than this."""
    guardrails: tuple[Least, ...] = (
        Least(metric="abandoned", margin=0.02),
        Least(metric="wait_s", margin=0.25, relative=True),
        Least(metric="repeat", margin=0.03),
        Least(metric="csat", margin=0.15),
    )
    """Shown to be worse by more than this, it is taken back."""
    guardrails_must: Literal["not be broken", "be held"] = "not be broken"
    """For going on: that harm beyond the margin is not shown, or that it is ruled out."""
    alpha: Inner = 0.05
    """Chance that a challenger whose harm is just the margins is taken back for them, over all metrics and looks
    together; of one that does no harm it is far less."""
    contacts: Whole = 1000
    """Of each bundle that count, before it goes on."""
    blocks: Annotated[int, Field(ge=2)] = 6
    """Of each bundle, before it goes on."""
    judge_minutes: Positive = 15.0
    """Between looks, beside one at the end of each block, and of the shadow's hours."""
    mature_days: NotNegative = 0.0
    repeat_days: Positive = 7.0
    history_days: NotNegative = 28.0
    not_followed: Inner = 0.02
    """As in an experiment's plan."""

    @model_validator(mode="after")
    def _fits(self) -> CanarySpec:
        metrics_differ(self.primary.metric, self.guards(), ())
        self.primary.guardrail(self.alpha)
        washed_shorter(self.wash_out_minutes, self.block_hours)
        if self.wash_out_minutes < LEAST_WASH_OUT:
            raise ValueError(
                f"wash_out_minutes: {self.wash_out_minutes:g}; whoever serves takes some seconds to change: "
                f"{LEAST_WASH_OUT:g} or more expected"
            )
        if self.days * 24 < 4 * self.block_hours:
            raise ValueError(f"block_hours: {self.block_hours:g} gives less than four blocks in {self.days} days")
        return self

    @property
    def level(self) -> float:
        """Of each one-sided bound: α shared among all metrics."""
        return self.alpha / (1 + len(self.guardrails))

    def guards(self) -> tuple[Guardrail, ...]:
        """As an experiment's plan has them."""
        return tuple(one.guardrail(self.level) for one in self.guardrails)


class TechnicalSpec(Strict):
    """What needs no statistics: figures of the service's /metrics, where they are given."""

    pick_up_s: Positive = 120.0
    """After which the service must serve the bundle that it is to."""
    most_fallbacks: Share = 0.05
    """Share of the challenger's matches that it did not answer; more take it back."""
    matches: Whole = 200
    """Of the challenger, before that share is judged."""


class RolloutSpec(Strict):
    """The file of `twotower rollout`."""

    shadow: ShadowSpec | None = ShadowSpec()
    """None: begins with the canary."""
    canary: CanarySpec = CanarySpec()
    full_hours: NotNegative = 24.0
    """How long the new champion's technical figures are watched before the rollout is done."""
    technical: TechnicalSpec = TechnicalSpec()

    def plain(self) -> dict[str, Any]:
        """Plain values."""
        return self.model_dump(mode="json")
