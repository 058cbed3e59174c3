"""The written plan of an experiment: what is asked, how arms are drawn, what decides, when one may look.

Notable: the plan is made before the first contact and read by the analysis, which can answer nothing else: metric,
margins, level, looks and the seed of the schedule stand here. A file is read strictly, so that a field nobody knows is
an error and no silent default.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from twotower.clock import HOUR, parse_time
from twotower.errors import ConfigError
from twotower.files import atomic_write

Design = Literal["switchback", "cluster", "customer"]
Unit = Literal["centre", "site", "team", "csa"]
MetricName = Literal[
    "resolved", "abandoned", "wait_s", "handle_minutes", "csat", "quality", "repeat", "transferred", "occupancy",
    "gini_load",
]  # fmt: skip
Inner = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
LOWER = ("abandoned", "wait_s", "handle_minutes", "repeat", "transferred", "occupancy", "gini_load")
"""Metrics that are better when lower."""
EITHER = ("handle_minutes", "occupancy")
"""Of these less than usual may be harm as well: rushed contacts, idle people."""


def _moment(given: Any) -> Any:
    """YAML reads moments that have no quotes."""
    return given.isoformat() if isinstance(given, date | datetime) else given


Moment = Annotated[str, BeforeValidator(_moment)]


class Strict(BaseModel):
    """A part of a plan."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Arm(Strict):
    """One of the two ways of assigning."""

    name: Text
    policies: Annotated[tuple[Text, ...], Field(min_length=1)]
    """What `interactions.policy` says of its hand-overs, whole or what it begins with; `bundle:` and a digest, or its
    beginning: the bundle that decided, as decisions.parquet says (`deciders.py`)."""


class Primary(Strict):
    """The one metric that decides."""

    metric: MetricName = "resolved"
    better: Literal["higher", "lower"] = "higher"
    smallest_effect: Positive
    """The least difference of arms worth having, in the metric's units: the design has `power` to find it."""
    alpha: Inner = 0.05
    power: Inner = 0.8


class Guardrail(Strict):
    """A metric that must not get worse by more than `margin` (non-inferiority), at the one-sided level `alpha`."""

    metric: MetricName
    better: Literal["higher", "lower"]
    margin: NotNegative
    """In the metric's units, or of the control's mean where `relative`."""
    relative: bool = False
    alpha: Inner = 0.05

    @model_validator(mode="after")
    def _guards_harm(self) -> Guardrail:
        usual = "lower" if self.metric in LOWER else "higher"
        if self.better != usual and self.metric not in EITHER:
            raise ValueError(
                f"better: {self.better}; {self.metric} is better when {usual}, so nothing would be guarded"
            )
        return self


class Stopping(Strict):
    """When one may look."""

    rule: Literal["fixed", "always_valid"] = "always_valid"
    """`fixed`: once, at the end. `always_valid`: at any time from `first_look` on, by a confidence sequence."""
    first_look: Moment | None = None
    """None: the end, or for `always_valid` any time."""
    tuned: Inner = 0.5
    """Of `always_valid`: share of the plan's blocks at which bounds are tightest. Nights are small, and who can stop
    early wants to; harm is to be seen earlier still."""


class Prices(Strict):
    """What outcomes are worth, in `currency`; with `sd` how unsure each is, so that the value has an interval."""

    currency: str = "EUR"
    csa_hour: NotNegative = 30.0
    repeat: NotNegative = 6.0
    """A contact that comes again, beside its handling."""
    abandoned: NotNegative = 8.0
    resolved: NotNegative = 0.0
    """Beyond what it saves in repeats."""
    sd: NotNegative = 0.2
    """Of each price, as a share of it."""


class Pause(Strict):
    """A stretch of time in which nothing is tried, half open: a holiday, a campaign. The control holds."""

    begins: Moment
    ends: Moment


class Plan(Strict):
    """plan.yaml. `begins` … `ends` is half open."""

    name: str
    hypothesis: str
    design: Design
    unit: Unit
    """What has an arm at a time: the whole centre, a site, a team; of `customer`, the CSAs of each arm's pool."""
    begins: Moment
    ends: Moment
    control: Arm
    treatment: Arm
    share: Inner = 0.5
    """Of the treatment: blocks, clusters, or customers and capacity."""
    block_hours: Positive | None = None
    """Switchback: how long an arm lasts. Customer: how often pools are drawn anew. Cluster: None, all the time."""
    wash_out_minutes: NotNegative = 0.0
    """Contacts that arrive so soon after a change of arm do not count."""
    balance: Literal["none", "pairs"] = "pairs"
    """`pairs`: blocks (clusters) that are alike, by slot of the week (by their past), get different arms."""
    most_in_a_row: Annotated[int, Field(ge=1)] | None = None
    """Switchback: blocks of the same arm that may follow on each other; None: any number."""
    pauses: tuple[Pause, ...] = ()
    """Blocks that meet one are left out."""
    seed: Annotated[int, Field(ge=0)] = 0
    salt: Annotated[int, Field(ge=0)] = 0
    """Customer: of the hash beside the seed, chosen so that the arms' customers called alike often in the past."""
    primary: Primary
    guardrails: tuple[Guardrail, ...] = ()
    secondary: tuple[MetricName, ...] = ()
    """Reported with a false-discovery rate of `fdr`; they decide nothing."""
    fdr: Inner = 0.1
    history_days: NotNegative = 28.0
    """Before `begins`, from which covariates (CUPED) are taken."""
    repeat_days: Positive = 7.0
    """A contact whose customer is back so soon is repeated, resolved or not: what is counted must not depend on the
    arm."""
    mature_days: NotNegative = 0.0
    """After a contact until its outcome counts as known."""
    not_followed: Inner = 0.02
    """Share of hand-overs, of all and surely of any block, by the other arm's policy above which there is no answer."""
    stopping: Stopping = Stopping()
    prices: Prices = Prices()
    expected: dict[str, float] = {}
    """What the design was computed from, for the reader: contacts, sd, ICC, effect found with `power`, …"""

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        begins, ends = parse_time(self.begins, "begins"), parse_time(self.ends, "ends")
        if begins >= ends:
            raise ValueError(f"begins {self.begins} is not before ends {self.ends}")
        if (self.block_hours is None) != (self.design == "cluster"):
            raise ValueError(f"block_hours: {'none' if self.design == 'cluster' else 'one'} expected of {self.design}")
        if (self.unit == "csa") != (self.design == "customer"):
            raise ValueError(f"unit: {self.unit} does not go with the design {self.design}")
        if self.design == "cluster" and self.unit == "centre":
            raise ValueError("unit: centre is a single cluster; site or team expected")
        if self.balance == "pairs" and self.share != 0.5:
            raise ValueError(f"share: {self.share:g}; balance: pairs gives each arm one of a pair, so 0.5 expected")
        if self.most_in_a_row is not None and self.design != "switchback":
            raise ValueError(f"most_in_a_row: of a switchback; the design is {self.design}")
        for pause in self.pauses:
            if parse_time(pause.begins, "pauses") >= parse_time(pause.ends, "pauses"):
                raise ValueError(f"pauses: {pause.begins} is not before {pause.ends}")
        arms_differ(self.control, self.treatment)
        metrics_differ(self.primary.metric, self.guardrails, self.secondary)
        hours = (ends - begins) / HOUR if self.block_hours is None else self.block_hours
        washed_shorter(self.wash_out_minutes, hours)
        return self


def arms_differ(control: Arm, treatment: Arm) -> None:
    """Raises ValueError for arms that cannot be told apart."""
    if control.name == treatment.name:
        raise ValueError(f"control.name and treatment.name: both are {control.name!r}; two names expected")
    if both := sorted(set(control.policies) & set(treatment.policies)):
        raise ValueError(f"control.policies and treatment.policies: the same policy is in both, {both[0]!r}")


def metrics_differ(primary: str, guardrails: Sequence[Guardrail], others: Sequence[str]) -> None:
    """Raises ValueError for a metric that is asked of twice: the primary is no guardrail of itself, and a secondary
    metric is counted once where false discoveries are."""
    names = [one.metric for one in guardrails]
    for field, asked in (("guardrails", names), ("secondary", list(others))):
        if primary in asked:
            raise ValueError(f"{field}: {primary} is the primary metric, which decides already")
        if twice := [name for i, name in enumerate(asked) if name in asked[:i]]:
            raise ValueError(f"{field}: {twice[0]} is there twice; once expected")


def washed_shorter(minutes: float, hours: float) -> None:
    """Raises ValueError for a wash-out that leaves nothing of a block."""
    if minutes >= 60 * hours:
        raise ValueError(
            f"wash_out_minutes: {minutes:g} leaves nothing of a block of {60 * hours:g} minutes; less expected"
        )


def read_plan(path: str | Path) -> Plan:
    """From plan.yaml. Raises ConfigError: which file and field, what was expected."""
    from evaluation.simulate.scenario import read

    return read(path, Plan)


def write_plan(plan: Plan, path: str | Path) -> None:
    """As YAML, whole or not at all."""
    text = yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    try:
        atomic_write(Path(path), text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from None
