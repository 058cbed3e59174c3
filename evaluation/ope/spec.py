"""What is asked, as a file or the command line says it: policies, metrics, estimator, thresholds.

Notable: the file is read strictly; a threshold that is misspelt would be none. Every default stands here once, and
`configs/ope.yaml` shows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from evaluation.ope import estimators
from evaluation.ope.folds import By
from evaluation.ope.logged import METRICS, Cluster, Source
from evaluation.ope.overlap import Gates
from evaluation.ope.sensitivity import LAMBDAS
from evaluation.ope.targets import BundleTarget, How, Scores, Target, Uniform
from serve.explore_options import read_exploration
from twotower.errors import ConfigError
from twotower.scoring.join import Rank
from twotower.scoring.utility import read_utility
from twotower.tables.log import Log

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(ge=1)]
PLAIN = ("uniform", "scores")
"""Policies without a bundle."""


class Strict(BaseModel):
    """A part of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


GateSpec: Any = create_model(
    "GateSpec",
    __base__=Strict,
    **{name: (type(value), Field(default=value, ge=0)) for name, value in vars(Gates()).items()},  # type: ignore[call-overload]
)
"""The fields of `overlap.Gates`."""


def _as_mapping(given: Any) -> Any:
    """A policy that is given by its name or folder alone."""
    if not isinstance(given, str):
        return given
    return {"policy": given} if given in PLAIN else {"bundle": given}


class PolicySpec(Strict):
    """A policy to be judged."""

    policy: Literal["bundle", "uniform", "scores"] = "bundle"
    bundle: str | None = None
    """Folder, relative to the working directory."""
    name: str | None = None
    temperature: Positive | None = None
    explore: str | None = None
    """File of exploration options (docs/exploration.md)."""
    rank: Rank | None = None
    utility: str | None = None
    """`resolved=1,csat=0.1`, or a file (docs/utility.md)."""

    @model_validator(mode="after")
    def _fits(self) -> PolicySpec:
        if (self.policy == "bundle") != (self.bundle is not None):
            raise ValueError("bundle: a folder is expected of the policy `bundle`, and of no other")
        if self.policy != "bundle" and (self.temperature or self.explore or self.rank or self.utility):
            raise ValueError(f"{self.policy}: temperature, explore, rank and utility are of bundles")
        return self

    @property
    def label(self) -> str:
        """How tables call it: its name, else the folder's or the policy's."""
        return self.name or (self.policy if self.bundle is None else Path(self.bundle).resolve().name)

    def target(self, log: Log, name: str, digest: str | None) -> Target:
        """The policy beside a log. Raises ConfigError for options or a folder that cannot be, BundleError for a bundle
        that cannot be trusted."""
        if self.bundle is None:
            return Uniform(name) if self.policy == "uniform" else Scores(name)
        if not Path(self.bundle).exists():
            raise ConfigError(
                f"policy {self.bundle!r}: is not known; give a bundle's folder, or one of {', '.join(PLAIN)}"
            )
        how = How(
            self.temperature,
            None if self.explore is None else read_exploration(self.explore),
            self.rank,
            None if self.utility is None else read_utility(self.utility),
        )
        return BundleTarget.load(self.bundle, log, how, name, digest)


Policy = Annotated[PolicySpec, BeforeValidator(_as_mapping)]


class OpeSpec(Strict):
    """The file."""

    policies: Annotated[tuple[Policy, ...], Field(min_length=1)]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("resolved",)
    estimator: str = "dr"
    """By which it is answered; the others stand beside it."""
    cluster: Cluster = "customer"
    """What is drawn together, in standard errors and in the bootstrap."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    draws: Annotated[int, Field(ge=0)] = 1000
    """Of the bootstrap."""
    propensities: Source = "auto"
    logged: tuple[str, ...] = ()
    """Of `interactions.policy`, whose choices count; none: all."""
    folds: Annotated[int, Field(ge=2)] = 5
    folds_by: By = "customer"
    history_days: NotNegative = 56.0
    """Before the window, whose choices estimated propensities are fitted to as well."""
    strengths: Annotated[tuple[Annotated[float, Field(ge=1)], ...], Field(min_length=1)] = LAMBDAS
    """Λ of the sensitivity curve."""
    sensitivity_draws: Annotated[int, Field(ge=0)] = 200
    seed: Annotated[int, Field(ge=0)] = 0
    gates: GateSpec = GateSpec()

    @model_validator(mode="after")
    def _known(self) -> OpeSpec:
        known(self.metrics, self.estimator)
        return self

    @property
    def thresholds(self) -> Gates:
        """The gates."""
        return Gates(**self.gates.model_dump())


def known(metrics: tuple[str, ...], estimator: str) -> None:
    """Raises ConfigError for a metric or an estimator that there is not."""
    for name in metrics:
        if name not in METRICS:
            raise ConfigError(f"metric {name!r}: is not known; there are {', '.join(METRICS)}")
    if estimator not in estimators.NAMES:
        raise ConfigError(f"estimator {estimator!r}: is not known; there are {', '.join(estimators.NAMES)}")
