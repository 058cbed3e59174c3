"""What can be had at once of resolution, waits, occupancy and fairness: policies over a grid of their options.

Notable: the points of a sweep are policies of one comparison, so all meet the same contacts with the same luck and are
told apart by pairs. A point is on the frontier where no other is at least as good in every objective and better in one,
by means (Pareto); of a point that is not, it is said whether one that is better in all is told apart from it. Which
point to run is a question of values and not of arithmetic: each stakeholder's rule, in the file, answers it for itself.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from evaluation.simulate.centre import HOUR
from evaluation.simulate.described import CentreSpec, Strict, centre_of
from evaluation.simulate.figures import NAMES
from evaluation.simulate.policy_specs import PolicySpec
from evaluation.simulate.replicate import LOCAL, Comparison, Trial, compare
from evaluation.simulate.scenario import RunSpec, as_mapping, beliefs_of
from twotower.engines import Engine
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]
MORE_IS_BETTER = ("resolved", "first_resolved", "csat", "level")
OBJECTIVES = ("resolved", "mean_wait_s", "busiest", "gini_hard", "gini_load", "gap_resolved")
LIMIT = re.compile(r"^\s*(<=|>=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*$")


class SweepSpec(Strict):
    """A policy, with all combinations of some of its options."""

    base: Annotated[dict[str, Any], BeforeValidator(as_mapping)]
    vary: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)


class ChoiceSpec(Strict):
    """A stakeholder's rule: the best of one figure, of the points within limits of others."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    maximise: str | None = None
    minimise: str | None = None
    subject_to: dict[str, str] = Field(default_factory=dict, alias="subject to")
    """Figure → "<= 60" or ">= 0.7"."""

    @model_validator(mode="after")
    def _one(self) -> ChoiceSpec:
        if (self.maximise is None) == (self.minimise is None):
            raise ValueError("maximise or minimise one figure")
        for name, text in ((self.figure, "<= 0"), *self.subject_to.items()):
            if name not in NAMES:
                close = difflib.get_close_matches(name, NAMES, 1)
                raise ValueError(f"no figure is called {name!r}" + (f"; did you mean {close[0]}?" if close else ""))
            if not LIMIT.match(text):
                raise ValueError(f"subject to {name}: {text!r}; a limit like '<= 60' or '>= 0.7' expected")
        return self

    @property
    def figure(self) -> str:
        """That is maximised or minimised."""
        return self.maximise or self.minimise or ""

    def limits(self) -> Iterator[tuple[str, float, float]]:
        """Figure, sign (1: at least, −1: at most) and bound."""
        for name, text in self.subject_to.items():
            if (found := LIMIT.match(text)) is not None:
                yield name, 1.0 if found[1] == ">=" else -1.0, float(found[2])


class FrontierSpec(RunSpec):
    """The file."""

    centre: CentreSpec
    sweeps: Annotated[tuple[SweepSpec, ...], Field(min_length=1)]
    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = OBJECTIVES
    rules: dict[str, ChoiceSpec] = Field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """What a rule takes: `point` −1 where it admits none, and `why` then."""

    stakeholder: str
    point: int
    alike: tuple[int, ...]
    """Other points that it admits and that are not told apart from it in its figure."""
    why: str = ""


@dataclass(frozen=True)
class Frontier:
    """Points (P,) and what is said of them."""

    spec: FrontierSpec
    trial: Trial
    found: Comparison
    objectives: tuple[str, ...]
    """Of the file's, those that there is something to say of."""
    on: npt.NDArray[np.bool_]
    """(P,) on the frontier."""
    beaten_by: npt.NDArray[np.int64]
    """(P,) a point that is as good in all objectives and, told apart, better in one; −1: none."""
    chosen: tuple[Chosen, ...]

    def means(self, figure: str) -> Doubles:
        """(P,)."""
        return np.array([self.found.of(one, figure).mean for one in self.found.names])


def points_of(spec: FrontierSpec) -> list[PolicySpec]:
    """Each combination of each sweep, with a name that tells its options. Raises ConfigError for what cannot be."""
    adapter: TypeAdapter[PolicySpec] = TypeAdapter(PolicySpec)
    found = []
    for i, sweep in enumerate(spec.sweeps):
        for values in product(*sweep.vary.values()):
            options = dict(zip(sweep.vary, values, strict=True))
            title = str(sweep.base.get("name") or sweep.base.get("policy"))
            told = ", ".join(f"{name} {_told(value)}" for name, value in options.items())
            try:
                given = sweep.base | options | ({"name": f"{title}, {told}"} if told else {})
                found.append(adapter.validate_python(given))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(str(part) for part in first["loc"][1:]) or "policy"
                raise ConfigError(f"sweeps.{i}: {where}: {first['msg']}; given was {first['input']!r}"[:300]) from None
    return found


def _told(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def frontier(spec: FrontierSpec, engine: Engine = LOCAL) -> Frontier:
    """Run all points. Raises ConfigError for what does not fit; rules that admit no point are in the answer."""
    if unknown := [name for name in spec.objectives if name not in NAMES]:
        raise ConfigError(f"objectives: no figure is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    centre = centre_of(spec.centre)
    beliefs = beliefs_of(spec.centre, centre, spec.belief_error, spec.seed)
    rules = tuple(one.rule(beliefs) for one in points_of(spec))
    trial = Trial(centre, rules, spec.seed, spec.warm_up_hours * HOUR, spec.target_s)
    found = compare(trial, spec.replications, engine)
    objectives = tuple(name for name in spec.objectives if not np.isnan(found.of(found.names[0], name).mean))
    if not objectives:
        raise ConfigError(f"objectives: nothing to measure of {', '.join(spec.objectives)}")
    worth = np.array([[_worth(found, one, name) for name in objectives] for one in found.names])
    better = dominates(worth)
    told = np.array([_told_apart(found, objectives, better, p) for p in range(len(worth))], np.int64)
    chosen = tuple(choose(name, rule, found) for name, rule in spec.rules.items())
    on = np.asarray(~better.any(axis=0), np.bool_)
    return Frontier(spec, trial, found, objectives, on, told, chosen)


def _worth(found: Comparison, policy: str, figure: str) -> float:
    return found.of(policy, figure).mean * (1.0 if figure in MORE_IS_BETTER else -1.0)


def dominates(worth: Doubles) -> npt.NDArray[np.bool_]:
    """(P, P) whether p is at least as good as q in every column of `worth` (P, O), more being better, and better in
    one. NaN is as good as nothing else."""
    filled = np.where(np.isnan(worth), -np.inf, worth)
    no_worse = np.all(filled[:, None] >= filled[None], axis=2)
    found: npt.NDArray[np.bool_] = no_worse & np.any(filled[:, None] > filled[None], axis=2)
    return found


def _told_apart(found: Comparison, objectives: tuple[str, ...], better: npt.NDArray[np.bool_], point: int) -> int:
    """A point that dominates this one and is told apart from it in an objective; −1: none."""
    for other in np.flatnonzero(better[:, point]):
        for name in objectives:
            difference = found.less(found.names[other], found.names[point], name)
            if abs(difference.mean) > difference.half:
                return int(other)
    return -1


def choose(stakeholder: str, rule: ChoiceSpec, found: Comparison) -> Chosen:
    """The best of a rule's figure among the points that keep its limits, by means; the first of equals."""
    names = found.names
    keeps = np.ones(len(names), np.bool_)
    for figure, sign, bound in rule.limits():
        values = np.array([found.of(one, figure).mean for one in names])
        keeps &= sign * values >= sign * bound
    if not keeps.any():
        return Chosen(stakeholder, -1, (), _nearest(stakeholder, rule, found))
    sign = 1.0 if rule.maximise is not None else -1.0
    worth = np.array([sign * found.of(one, rule.figure).mean for one in names])
    worth = np.where(keeps & ~np.isnan(worth), worth, -np.inf)
    if not np.isfinite(worth).any():
        return Chosen(stakeholder, -1, (), f"rules {stakeholder!r}: there is nothing to measure of {rule.figure}")
    best = int(np.argmax(worth))
    alike = []
    for p in np.flatnonzero(np.isfinite(worth)):
        difference = found.less(names[p], names[best], rule.figure)
        if p != best and not abs(difference.mean) > difference.half:
            alike.append(int(p))
    return Chosen(stakeholder, best, tuple(alike))


def _nearest(stakeholder: str, rule: ChoiceSpec, found: Comparison) -> str:
    """Which point comes nearest to a rule's limits, by the worst of them as a share of its bound, and what it lacks."""
    limits = list(rule.limits())
    lacks = np.array(
        [[max(0.0, sign * (bound - found.of(one, figure).mean)) / max(abs(bound), 1e-9)
          for figure, sign, bound in limits] for one in found.names]
    )  # fmt: skip
    lacks = np.where(np.isnan(lacks), np.inf, lacks)
    point = int(np.argmin(lacks.max(axis=1)))
    figure, sign, bound = limits[int(np.argmax(lacks[point]))]
    mean = found.of(found.names[point], figure).mean
    return (
        f"rules {stakeholder!r}: no point keeps all limits; the nearest is {found.names[point]}, whose {figure} of "
        f"{mean:.4g} is {abs(mean - bound):.3g} {'below' if sign > 0 else 'above'} the limit of {bound:g}"
    )
