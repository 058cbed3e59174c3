"""What a file says of a centre: classes of contacts, groups of CSAs, a day's shifts.

Notable: pydantic reads it strictly, so a field that nobody knows is an error and not a silent default. Names and units
are a planner's (minutes, an hour, "08:00-16:30"); `centre_of` makes the simulator's arrays in seconds of it. CSAs of a
group differ as `spread` says, drawn once by `seed`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from evaluation.simulate.centre import HOUR, Burnout, Centre, Csat, Learning, Patience, Shifts
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]
Share = Annotated[float, Field(ge=0, le=1)]
Inner = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Whole = Annotated[int, Field(ge=1)]
Hours = Annotated[str, Field(pattern=r"^\d{1,2}:\d{2}-\d{1,2}:\d{2}$")]
MINUTE, DAY = 60.0, 24 * HOUR


class Strict(BaseModel):
    """A part of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PatienceSpec(Strict):
    """How long customers wait."""

    kind: Literal["never", "constant", "exponential", "lognormal", "quantiles"] = "exponential"
    mean_minutes: Positive = 5.0
    sigma: Positive = 1.0
    table_minutes: tuple[NotNegative, ...] = ()

    def patience(self) -> Patience:
        """In seconds."""
        table = tuple(minutes * MINUTE for minutes in self.table_minutes)
        return Patience(self.kind, self.mean_minutes * MINUTE, self.sigma, table)


class ClassSpec(Strict):
    """A class of contacts."""

    name: str
    an_hour: NotNegative | tuple[NotNegative, ...]
    """Contacts an hour, throughout or by interval of a day, which then repeats."""
    handle_minutes: Positive
    sigma: float = 0.8
    """Of the logarithm of handling times; 0: constant, negative: exponential."""
    resolved: Inner = 0.7
    patience: PatienceSpec | None = None
    repeats: Share = 0.0
    repeat_after_hours: NotNegative = 12.0
    transfers: Share = 0.0
    transfer_to: str | None = None
    hard: NotNegative = 0.0
    language: str = ""


class SkillSpec(Strict):
    """What a group does with a class; what is left out is as the class says."""

    handle_minutes: Positive | None = None
    resolved: Inner | None = None
    after_s: NotNegative = 0.0
    """Skills-based routing: from how many seconds of wait on, by steps of overflow."""


class GroupSpec(Strict):
    """CSAs who can do the same."""

    name: str
    csas: Annotated[int, Field(ge=0)]
    skills: dict[str, SkillSpec | None]
    shifts: tuple[Hours, ...] = ()
    """Of every day, like 08:00-16:30, one after another with a break between; none: always."""
    capacity: Whole = 1
    experience: NotNegative = 1000.0


class SpreadSpec(Strict):
    """How CSAs of a group differ, class by class: standard deviations of log-odds and of the logarithm of time."""

    resolved: NotNegative = 0.0
    handle: NotNegative = 0.0


class LearningSpec(Strict):
    """`centre.Learning`."""

    gain: NotNegative = 0.0
    slow: NotNegative = 0.0
    scale: Positive = 200.0


class BurnoutSpec(Strict):
    """`centre.Burnout`."""

    tau_minutes: NotNegative = 0.0
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.85
    harm: NotNegative = 0.0
    tired: NotNegative = 0.0


class CsatSpec(Strict):
    """`centre.Csat`."""

    resolved: Annotated[float, Field(ge=1, le=5)] = 4.5
    unresolved: Annotated[float, Field(ge=1, le=5)] = 3.1
    a_minute: NotNegative = 0.05


class CentreSpec(Strict):
    """A centre."""

    days: Whole = 1
    interval_minutes: Positive = 30.0
    classes: Annotated[tuple[ClassSpec, ...], Field(min_length=1)]
    groups: Annotated[tuple[GroupSpec, ...], Field(min_length=1)]
    load: Positive | None = None
    """Arrivals are scaled to so much work for the time on shift; 1 is as much as there is time."""
    spread: SpreadSpec = SpreadSpec()
    learning: LearningSpec = LearningSpec()
    burnout: BurnoutSpec = BurnoutSpec()
    csat: CsatSpec = CsatSpec()
    chats: NotNegative = 0.0
    seed: Annotated[int, Field(ge=0)] = 0


def centre_of(spec: CentreSpec) -> Centre:
    """The simulator's. Raises ConfigError for what does not fit together."""
    names = _apart([one.name for one in spec.classes], "centre.classes")
    _apart([one.name for one in spec.groups], "centre.groups")
    group = np.repeat(np.arange(len(spec.groups)), [one.csas for one in spec.groups])
    if not len(group):
        raise ConfigError("centre.groups: no CSA in any; give one of them csas: 1 or more")
    handle, logit = _abilities(spec, names, group)
    csas = tuple(f"{spec.groups[g].name} {i + 1}" for g in range(len(spec.groups)) for i in range(spec.groups[g].csas))
    classes, learning, burnout = spec.classes, spec.learning, spec.burnout
    centre = Centre(
        classes=names,
        csas=csas,
        rates=_rates(spec),
        handle_s=handle,
        success=1 / (1 + np.exp(-logit)),
        interval_s=spec.interval_minutes * MINUTE,
        sigma=np.array([one.sigma for one in classes]),
        patience=tuple(Patience() if one.patience is None else one.patience.patience() for one in classes),
        shifts=_shifts(spec, group),
        capacity=np.array([spec.groups[g].capacity for g in group], np.int64),
        chats=spec.chats,
        repeats=np.array([one.repeats for one in classes]),
        delay_s=np.array([one.repeat_after_hours * HOUR for one in classes]),
        transfers=np.array([one.transfers for one in classes]),
        transfer_to=_transfers(spec, names),
        hard=np.array([one.hard for one in classes]),
        experience=np.array([spec.groups[g].experience for g in group]),
        language=tuple(one.language for one in classes),
        learning=Learning(learning.gain, learning.slow, learning.scale),
        burnout=Burnout(burnout.tau_minutes * MINUTE, burnout.threshold, burnout.harm, burnout.tired),
        csat=Csat(spec.csat.resolved, spec.csat.unresolved, spec.csat.a_minute),
    )
    return centre if spec.load is None else centre.at_load(spec.load)


def overflow_of(spec: CentreSpec) -> tuple[npt.NDArray[np.int8], tuple[float, ...]]:
    """Steps of skills-based routing: level (K, J), negative: never, and after how many seconds each is open."""
    names = [one.name for one in spec.classes]
    steps = sorted({0.0} | {s.after_s for one in spec.groups for s in one.skills.values() if s is not None})
    group = np.repeat(np.arange(len(spec.groups)), [one.csas for one in spec.groups])
    level = np.full((len(names), len(group)), -1, np.int8)
    for g, one in enumerate(spec.groups):
        for name, skill in one.skills.items():
            level[names.index(name), group == g] = steps.index(0.0 if skill is None else skill.after_s)
    return level, tuple(steps)


def _apart(names: list[str], where: str) -> tuple[str, ...]:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{where}: two are called {repeated[0]!r}; name them apart")
    return tuple(names)


def _rates(spec: CentreSpec) -> Doubles:
    per_day = DAY / (spec.interval_minutes * MINUTE)
    if per_day != round(per_day):
        raise ConfigError(f"centre.interval_minutes: {spec.interval_minutes:g}; a part of a day expected, such as 30")
    rows = []
    for one in spec.classes:
        given = (one.an_hour,) * int(per_day) if isinstance(one.an_hour, float | int) else one.an_hour
        if len(given) != per_day:
            raise ConfigError(
                f"centre.classes {one.name!r}: an_hour of {len(given)} intervals; {per_day:g} in a day expected"
            )
        rows.append(np.tile(given, spec.days))
    return np.array(rows, np.float64)


def _abilities(spec: CentreSpec, names: tuple[str, ...], group: npt.NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Mean seconds (K, J), 0 where a CSA cannot, and log-odds of resolving."""
    handle = np.zeros((len(names), len(group)))
    logit = np.zeros_like(handle)
    for g, one in enumerate(spec.groups):
        for name, skill in one.skills.items():
            if name not in names:
                known = ", ".join(names)
                raise ConfigError(f"centre.groups {one.name!r}: skills: no class is called {name!r}; there are {known}")
            k, of = names.index(name), skill or SkillSpec()
            p = spec.classes[k].resolved if of.resolved is None else of.resolved
            handle[k, group == g] = MINUTE * (of.handle_minutes or spec.classes[k].handle_minutes)
            logit[k, group == g] = np.log(p / (1 - p))
    random = np.random.default_rng((spec.seed, 77))
    longer = random.normal(0, 1, handle.shape) * spec.spread.handle
    better = random.normal(0, 1, handle.shape) * spec.spread.resolved
    # So that the spread changes no mean.
    return handle * np.exp(longer - spec.spread.handle**2 / 2), logit + better


def _transfers(spec: CentreSpec, names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    to = []
    for k, one in enumerate(spec.classes):
        if one.transfer_to is not None and one.transfer_to not in names:
            raise ConfigError(f"centre.classes {one.name!r}: transfer_to: no class is called {one.transfer_to!r}")
        to.append(k if one.transfer_to is None else names.index(one.transfer_to))
    return np.array(to, np.int64)


def _shifts(spec: CentreSpec, group: npt.NDArray[np.int64]) -> Shifts | None:
    """None where everyone works throughout."""
    if not any(one.shifts for one in spec.groups):
        return None
    found: list[tuple[int, float, float]] = []
    for csa, g in enumerate(group.tolist()):
        spans = [span(text, f"centre.groups {spec.groups[g].name!r}: shifts") for text in spec.groups[g].shifts]
        if not spans:
            found.append((csa, 0.0, spec.days * DAY))
        found += [(csa, day * DAY + begin, day * DAY + end) for day in range(spec.days) for begin, end in spans]
    rows = np.array(found)
    return Shifts(rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 2])


def span(text: str, where: str) -> tuple[float, float]:
    """Seconds of a day at which hours like 08:00-16:30 begin and end, the end on the next day where it is earlier.
    Raises ConfigError."""
    begin, end = (HOUR * int(one.split(":")[0]) + MINUTE * int(one.split(":")[1]) for one in text.split("-"))
    end += DAY if end <= begin else 0.0
    if begin >= DAY or end > 2 * DAY:
        raise ConfigError(f"{where}: {text!r}; hours of a day like 08:00-16:30 expected")
    return begin, end
