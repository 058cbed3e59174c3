"""What a file says of a staffing question: a centre, targets, policies, costs, bounds, shifts that are permitted.

Notable: `centre.groups[].csas` is how many of a group can work at once at the most, unless `bounds` says otherwise;
who of them works when is what is searched for. The centre is built once with everybody in it, and candidates differ in
shifts alone, so a CSA has the same abilities in every candidate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from evaluation.simulate.centre import HOUR, Centre
from evaluation.simulate.described import (
    DAY,
    CentreSpec,
    Hours,
    Inner,
    NotNegative,
    Positive,
    Share,
    Strict,
    Whole,
    centre_of,
)
from evaluation.simulate.policies import Rule
from evaluation.simulate.policy_specs import PolicySpec
from evaluation.simulate.scenario import as_mapping, beliefs_of
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]


class Service(Strict):
    """Targets of service; what is left out is no target."""

    service_level: Inner | None = None
    """At least this share is taken up within `target_s`."""
    abandoned: Share | None = None
    """At most."""
    mean_wait_s: Positive | None = None
    """At most."""


class Load(Strict):
    """Targets of load."""

    occupancy: Inner | None = None
    """At most this share of time on shift is work."""


class Goals(Load, Service):
    """Targets of service and of load."""


class TargetsSpec(Strict):
    """What must hold."""

    target_s: NotNegative = 20.0
    interval: Goals = Goals()
    """In each interval of a day, over all contacts that arrive in it and all who work in it."""
    day: Goals = Goals()
    """Over a whole day."""
    each_class: Service = Service()
    """Of each class over a whole day."""
    each_group: Load = Load()
    """Of each group over a whole day."""


class BoundsSpec(Strict):
    """How many of a group work at once."""

    least: Annotated[int, Field(ge=0)] = 0
    """While contacts arrive that the group can take."""
    most: Annotated[int, Field(ge=0)] | None = None
    """Default: the group's `csas`."""


class StaffingSpec(Strict):
    """The file."""

    name: str = "a centre"
    centre: CentreSpec
    targets: TargetsSpec
    policies: Annotated[
        tuple[Annotated[PolicySpec, BeforeValidator(as_mapping)], ...], Field(min_length=1, validate_default=True)
    ] = ("fifo",)  # type: ignore[assignment]
    belief_error: NotNegative = 0.0
    cost_per_hour: Positive | dict[str, Positive] = 1.0
    """Of a CSA on shift; by group, 1 where a group is not named."""
    bounds: dict[str, BoundsSpec] = Field(default_factory=dict)
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """With which each target must be shown to hold."""
    first_replications: Annotated[int, Field(ge=4)] = 16
    """Of a candidate's first look; as many again, doubled, until it is decided …"""
    replications: Annotated[int, Field(ge=4)] = 128
    """… or these are run."""
    searches: Whole = 1
    """Independent searches, with contacts of their own; two or more give savings an interval."""
    least_contacts: NotNegative = 1.0
    """Targets by interval are not asked of intervals with fewer contacts on average."""
    warm_up_hours: NotNegative = 0.0
    shifts: dict[str, Annotated[tuple[Hours, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Permitted shifts by name, each as its stretches of work; none: requirements alone are found."""
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class Problem:
    """A staffing question as arrays. G groups, T intervals of a day, K classes, J CSAs."""

    name: str
    centre: Centre
    """With J = Σ most CSAs."""
    group: Longs
    """(J,)."""
    groups: tuple[str, ...]
    rules: tuple[Rule, ...]
    least: Longs
    """(G, T)."""
    most: Longs
    """(G, T); 0 where nothing arrives that the group can take."""
    cost: Doubles
    """(G,) of an hour."""
    arrivals: Doubles
    """(K, T) contacts expected in an interval of a day."""
    can: npt.NDArray[np.bool_]
    """(K, G)."""
    handle_s: Doubles
    """(K, G) on average; 0 where a group cannot."""
    days: int

    @property
    def hours(self) -> float:
        """Of an interval."""
        return self.centre.interval_s / HOUR


def problem_of(spec: StaffingSpec) -> Problem:
    """Raises ConfigError for what does not fit together and for classes that nobody can take."""
    groups = tuple(one.name for one in spec.centre.groups)
    for where, given in (("bounds", spec.bounds), ("cost_per_hour", spec.cost_per_hour)):
        if isinstance(given, dict) and (unknown := [name for name in given if name not in groups]):
            raise ConfigError(f"{where}: no group is called {unknown[0]!r}; there are {', '.join(groups)}")
    rates = centre_of(spec.centre).rates if spec.centre.load is not None else None
    bounds = [spec.bounds.get(one.name, BoundsSpec()) for one in spec.centre.groups]
    most = np.array(
        [g.csas if b.most is None else b.most for g, b in zip(spec.centre.groups, bounds, strict=True)], np.int64
    )
    for name, bound, top in zip(groups, bounds, most, strict=True):
        if bound.least > top:
            raise ConfigError(f"bounds {name!r}: least {bound.least} is above the most, {top}")
    wide = with_csas(spec.centre, most, rates)
    centre = centre_of(wide)
    centre = centre if rates is None else replace(centre, rates=rates)
    group = np.repeat(np.arange(len(groups)), most)
    per_day = round(DAY / centre.interval_s)
    arrivals = centre.rates[:, :per_day] * centre.interval_s / HOUR
    can = np.array([[name in one.skills for one in spec.centre.groups] for name in centre.classes])
    _check_skills(centre, arrivals, can & (most > 0))
    # A group works only while something arrives that it can take, or is handed on to what it can take.
    open_ = (can.T.astype(np.int64) @ (_reached(centre, arrivals) > 0)) > 0
    least = np.array([bound.least for bound in bounds])
    cost = np.array(
        [spec.cost_per_hour.get(name, 1.0) if isinstance(spec.cost_per_hour, dict) else spec.cost_per_hour
         for name in groups]
    )  # fmt: skip
    handle = np.array([
        [centre.handle_s[k, group == g].mean() if most[g] and can[k, g] else 0.0 for g in range(len(groups))]
        for k in range(len(centre.classes))
    ])  # fmt: skip
    return Problem(
        spec.name, centre, group, groups, rules_of(spec, wide, centre), np.where(open_, least[:, None], 0),
        np.where(open_, most[:, None], 0), cost, arrivals, can & (most > 0), handle, spec.centre.days,
    )  # fmt: skip


def with_csas(spec: CentreSpec, csas: Longs, rates: Doubles | None) -> CentreSpec:
    """With so many CSAs (G,) of each group, always there; `load`, which is in the rates then, is left out."""
    groups = tuple(
        one.model_copy(update={"csas": int(many), "shifts": ()}) for one, many in zip(spec.groups, csas, strict=True)
    )
    return spec.model_copy(update={"groups": groups} | ({} if rates is None else {"load": None}))


def rules_of(spec: StaffingSpec, wide: CentreSpec, centre: Centre) -> tuple[Rule, ...]:
    """The policies for a centre. Raises ConfigError where two have one name."""
    beliefs = beliefs_of(wide, centre, spec.belief_error, spec.seed)
    rules = tuple(one.rule(beliefs) for one in spec.policies)
    names = [rule.name for rule in rules]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"policies: two are called {repeated[0]!r}; name them apart")
    return rules


def _reached(centre: Centre, arrivals: Doubles) -> Doubles:
    """(K, T) contacts that arrive or are handed on."""
    found = arrivals.copy()
    if centre.transfers is not None and centre.transfer_to is not None:
        for k in np.flatnonzero(centre.transfers > 0):
            found[centre.transfer_to[k]] += centre.transfers[k] * arrivals[k]
    return found


def _check_skills(centre: Centre, arrivals: Doubles, can: npt.NDArray[np.bool_]) -> None:
    lost = (arrivals.sum(axis=1) > 0) & ~can.any(axis=1)
    if lost.any():
        name = centre.classes[int(np.flatnonzero(lost)[0])]
        raise ConfigError(f"centre.classes {name!r}: contacts arrive, and no group that may be staffed has this skill")
