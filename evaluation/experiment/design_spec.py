"""What is asked of a design: a file's fields, and the options that replace them.

Notable: read strictly, as the plan is. Whatever is `auto` is computed from the history, and the report says how.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from evaluation.experiment.plan import (
    LOWER,
    Arm,
    Guardrail,
    Inner,
    MetricName,
    Moment,
    NotNegative,
    Pause,
    Positive,
    Prices,
    Strict,
    arms_differ,
    metrics_differ,
)

Auto = Literal["auto"]
LEAST_DAYS = 14.0
"""Of `days: auto`: every slot of the week has its partner."""
RANGE = {"resolved": (0.0, 1.0), "abandoned": (0.0, 1.0), "repeat": (0.0, 1.0), "transferred": (0.0, 1.0),
         "quality": (0.0, 1.0), "csat": (1.0, 5.0), "wait_s": (0.0, float("inf")),
         "handle_minutes": (0.0, float("inf"))}  # fmt: skip
GUARDRAILS = (
    Guardrail(metric="wait_s", better="lower", margin=0.1, relative=True),
    Guardrail(metric="abandoned", better="lower", margin=0.01),
    Guardrail(metric="csat", better="higher", margin=0.05),
    Guardrail(metric="occupancy", better="lower", margin=0.03),
    Guardrail(metric="gini_load", better="lower", margin=0.03),
)
"""Asked where the history has them and nobody says which: customers' waits, and people's load and its fairness."""
SECONDARY = ("resolved", "repeat", "handle_minutes", "csat", "transferred")


class Shown(Strict):
    """Of the simulated centre that is like this one, which shows what sharing CSAs does to an A/B test."""

    loads: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.8, 0.95, 1.1)
    replications: Annotated[int, Field(ge=2)] = 12
    days: Annotated[int, Field(ge=1)] = 3
    belief_error: NotNegative = 0.4
    """Standard deviation of what the matcher believes of a pair's log-odds, about the truth."""


class Replayed(Strict):
    """The last days of the tables, played again under two policies."""

    days: Annotated[int, Field(ge=2)] = 7
    replications: Annotated[int, Field(ge=2)] = 10
    outcomes: Literal["cross_fitted", "truth"] = "cross_fitted"
    """`truth`: of a generated centre, by its truth.npz."""
    bundle: str | None = None
    """Folder of the bundle that is the treatment; None: the best pair by what was known of classes and CSAs."""
    age_per_minute: NotNegative = 0.012
    """Resolutions that a minute's wait is worth to the treatment."""
    patience_minutes: Positive | None = None
    """Mean of every contact's, exponential; None: as the log tells."""


class Asked(Strict):
    """The file of `experiment design`."""

    name: str = "experiment"
    hypothesis: str | None = None
    """In words; None: made of the arms and the metric."""
    control: Arm = Arm(name="control", policies=("queue",))
    treatment: Arm = Arm(name="treatment", policies=("matcher",))
    design: Literal["auto", "switchback", "cluster", "customer"] = "auto"
    unit: Literal["auto", "site", "team"] = "auto"
    """Of clusters; auto: the one that finds the effect sooner."""
    metric: MetricName = "resolved"
    better: Literal["higher", "lower"] | None = None
    """None: as the metric is."""
    effect: Positive
    """The least difference worth having, in the metric's units."""
    alpha: Inner = 0.05
    power: Inner = 0.8
    until: Moment | None = None
    """What was known then is all that there is; None: everything in the tables."""
    begins: Moment | None = None
    """None: the first Monday a day after the data end, at midnight UTC."""
    days: Positive | Auto = "auto"
    most_days: Positive = 84.0
    """Of `days: auto`."""
    block_hours: Positive | Auto = "auto"
    wash_out_minutes: NotNegative | Auto = "auto"
    carry_over: Inner = 0.05
    """Share of the effect that may be missed because an arm reaches into the next block."""
    most_in_a_row: Annotated[int, Field(ge=1)] | None = None
    pauses: tuple[Pause, ...] = ()
    seed: Annotated[int, Field(ge=0)] = 0
    guardrails: tuple[Guardrail, ...] | Auto = "auto"
    secondary: tuple[MetricName, ...] | Auto = "auto"
    fdr: Inner = 0.1
    history_days: NotNegative = 28.0
    repeat_days: Positive = 7.0
    mature_days: NotNegative = 0.0
    stopping: Literal["fixed", "always_valid"] = "fixed"
    first_look: Moment | None = None
    """Of `always_valid`: nobody looks before; None: any time."""
    prices: Prices = Prices()
    show: Shown | None = Shown()
    """None: no simulated centre in the report."""
    replay: Replayed | None = None

    @model_validator(mode="before")
    @classmethod
    def _days(cls, given: Any) -> Any:
        """A duration of nothing or less gets a line of its own."""
        if isinstance(given, dict):
            for name in ("days", "most_days", "block_hours"):
                value = given.get(name)
                if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                    raise ValueError(f"{name}: {value:g}; more than 0 expected")
        return given

    @model_validator(mode="after")
    def _as_the_plan(self) -> Asked:
        """What no plan may say is an error before anything is computed."""
        arms_differ(self.control, self.treatment)
        rails = () if self.guardrails == "auto" else self.guardrails
        metrics_differ(self.metric, rails, () if self.secondary == "auto" else self.secondary)
        return self

    @model_validator(mode="after")
    def _looks(self) -> Asked:
        if self.first_look is not None and self.stopping == "fixed":
            raise ValueError("first_look: with stopping: fixed one looks once, at the end; it goes with always_valid")
        return self

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Of the metric that decides."""
        return self.better or ("lower" if self.metric in LOWER else "higher")


METRICS: tuple[str, ...] = get_args(MetricName)
