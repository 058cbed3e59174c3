"""A simulation as a file says it: a centre, policies, how often. Read strictly, with one line for what is wrong.

Notable: what a policy believes of a pair is the truth with an error of its own (`belief_error`), so that a comparison
does not flatter those who are told everything; `oracle` alone knows the truth.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationError

from evaluation.simulate.centre import HOUR, Centre
from evaluation.simulate.described import CentreSpec, NotNegative, Strict, Whole, centre_of, overflow_of
from evaluation.simulate.policy_base import Beliefs
from evaluation.simulate.policy_specs import PolicySpec
from evaluation.simulate.replay import Replay, ReplaySpec, replay
from evaluation.simulate.replicate import Trial
from twotower.errors import ConfigError

Spec = TypeVar("Spec", bound=BaseModel)
DESCRIBED, TABLES = "described", "of tables"


def as_mapping(given: Any) -> Any:
    """A policy that is given by its name alone."""
    return {"policy": given} if isinstance(given, str) else given


def _kind_of_centre(given: Any) -> str:
    return TABLES if isinstance(given, ReplaySpec) or (isinstance(given, Mapping) and "tables" in given) else DESCRIBED


class RunSpec(Strict):
    """What a file says of any run."""

    name: str = "a centre"
    belief_error: NotNegative = 0.0
    """Standard deviation of what policies believe of a pair's log-odds, about the truth."""
    replications: Whole = 20
    warm_up_hours: NotNegative = 0.0
    target_s: NotNegative = 20.0
    seed: Annotated[int, Field(ge=0)] = 0


class ScenarioSpec(RunSpec):
    """The file."""

    centre: Annotated[
        Annotated[CentreSpec, Tag(DESCRIBED)] | Annotated[ReplaySpec, Tag(TABLES)], Discriminator(_kind_of_centre)
    ]
    policies: Annotated[
        tuple[Annotated[PolicySpec, BeforeValidator(as_mapping)], ...], Field(min_length=1, validate_default=True)
    ] = ("fifo",)  # type: ignore[assignment]


@dataclass(frozen=True)
class Scenario:
    """What is to be run, and the words for it."""

    name: str
    trial: Trial
    replications: int


def read(path: str | Path, kind: type[Spec], instead: Mapping[str, Any] | None = None) -> Spec:
    """A file's specification, with some fields of its own replaced. Raises ConfigError: which file, field, what was
    expected."""
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    try:
        return kind.model_validate(found | dict(instead) if instead and isinstance(found, dict) else found)
    except ValidationError as error:
        raise ConfigError(f"{path}: {said(error, kind)}") from None


def scenario_of(spec: ScenarioSpec) -> Scenario:
    """Raises ConfigError for what does not fit together."""
    if isinstance(spec.centre, ReplaySpec):
        return _replayed(spec, replay(spec.centre))
    centre = centre_of(spec.centre)
    beliefs = beliefs_of(spec.centre, centre, spec.belief_error, spec.seed)
    rules = tuple(one.rule(beliefs) for one in spec.policies)
    trial = Trial(centre, rules, spec.seed, spec.warm_up_hours * HOUR, spec.target_s)
    return Scenario(spec.name, trial, spec.replications)


def beliefs_of(spec: CentreSpec, centre: Centre, error: float, seed: int) -> Beliefs:
    """What policies are made of, for a described centre."""
    return Beliefs(centre, believed(centre, error, seed), overflow_of(spec))


def _replayed(spec: ScenarioSpec, of: Replay) -> Scenario:
    """Policies by class believe what was known before the window, with the error that is asked for."""
    level = np.where(of.centre.can, 0, -1).astype(np.int8)
    known = believed(replace(of.centre, success=of.known), spec.belief_error, spec.seed)
    beliefs = Beliefs(of.centre, known, (level, (0.0,)), of)
    rules = tuple(one.rule(beliefs) for one in spec.policies)
    trial = Trial(
        of.centre, rules, spec.seed, spec.warm_up_hours * HOUR, spec.target_s, of.demand, of.truth, of.notes
    )  # fmt: skip
    return Scenario(spec.name, trial, spec.replications)


def believed(centre: Centre, error: float, seed: int) -> npt.NDArray[np.float64]:
    """Probabilities (K, J) of success with an error in their log-odds."""
    p = np.clip(centre.success, 1e-9, 1 - 1e-9)
    random = np.random.default_rng((seed, 78))
    logit = np.log(p / (1 - p)) + error * random.normal(0, 1, p.shape)
    return np.asarray(1 / (1 + np.exp(-logit)))


def said(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first thing that is wrong, in one line; how many more there are."""
    all_of, first = error.errors(include_url=False), error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part not in (DESCRIBED, TABLES)) or "the file"
    if first["type"] == "extra_forbidden":
        known = _fields(kind)
        close = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
        told = "no such field" + (f"; did you mean {close[0]}?" if close else "")
    else:
        told = f"{first['msg']}; given was {str(first['input'])[:60]!r}"
    more = f" ({len(all_of) - 1} more)" if len(all_of) > 1 else ""
    return f"{where}: {told}{more}"


def _fields(kind: type[BaseModel]) -> list[str]:
    """Names of all fields of a file's parts."""
    found: dict[str, None] = {}
    for name, part in kind.model_json_schema().items():
        for one in part.values() if name == "$defs" else [{"properties": part}] if name == "properties" else []:
            found |= dict.fromkeys(one.get("properties", {}))
    return list(found)
