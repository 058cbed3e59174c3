"""Replications of a centre under several policies, and what can be said of their differences.

Notable: replication r of every policy meets the same contacts with the same luck (`draws.py`), so policies are
compared by the differences of pairs, whose intervals are far narrower than those of the policies themselves. Tasks are
replications: they run here, in processes of this machine, or on Ray, by the same function with the same results.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre
from evaluation.simulate.demand import Demand, at, poisson
from evaluation.simulate.details import Details, details
from evaluation.simulate.figures import NAMES, TARGET_S, figures
from evaluation.simulate.policies import Rule
from evaluation.simulate.run import Truth, simulate
from twotower.engines import Engine
from twotower.errors import ConfigError
from twotower.progress import track

Doubles = npt.NDArray[np.float64]
LOCAL = Engine()


@dataclass(frozen=True)
class Trial:
    """What is run. demand: the same first contacts in every replication, whose luck alone differs then."""

    centre: Centre
    rules: tuple[Rule, ...]
    seed: int = 0
    warm_up_s: float = 0.0
    target_s: float = TARGET_S
    demand: Demand | None = None
    truth: Truth | None = None
    notes: tuple[str, ...] = ()
    """What is to be said of it wherever its figures stand."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ConfigError("simulate: no policy")
        names = [rule.name for rule in self.rules]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"simulate: two policies are called {repeated[0]!r}; name them apart")
        if not 0 <= self.warm_up_s < self.centre.horizon_s:
            raise ConfigError(
                f"simulate: a warm-up of {self.warm_up_s:g} s; 0 to less than the horizon of "
                f"{self.centre.horizon_s:g} s expected"
            )


@dataclass(frozen=True)
class Estimate:
    """A mean over replications and half of its interval (Student's t), 95 % unless asked otherwise; NaN of one
    replication."""

    mean: float
    half: float


@dataclass(frozen=True)
class Comparison:
    """Figures (policies, replications, NAMES)."""

    names: tuple[str, ...]
    values: Doubles
    details: tuple[Details, ...]
    """(policies,) summed over replications."""

    def of(self, policy: str, figure: str) -> Estimate:
        """A policy's figure."""
        return estimate(self._values(policy, figure))

    def less(self, policy: str, other: str, figure: str, confidence: float = 0.95) -> Estimate:
        """How much more a policy has of a figure than another, replication by replication."""
        return estimate(self._values(policy, figure) - self._values(other, figure), confidence)

    def _values(self, policy: str, figure: str) -> Doubles:
        found: Doubles = self.values[self.names.index(policy), :, NAMES.index(figure)]
        return found


def estimate(values: Doubles, confidence: float = 0.95) -> Estimate:
    """Of independent values; those that are NaN are left out. confidence: of the interval, two-sided."""
    from scipy.stats import t

    known = values[~np.isnan(values)]
    if not len(known):
        return Estimate(float("nan"), float("nan"))
    if len(known) < 2:
        return Estimate(float(known.mean()), float("nan"))
    half = float(t.ppf((1 + confidence) / 2, len(known) - 1)) * float(known.std(ddof=1)) / np.sqrt(len(known))
    return Estimate(float(known.mean()), float(half))


def replication(trial: Trial, number: int) -> tuple[Doubles, tuple[Details, ...]]:
    """Figures (policies, NAMES) and details of one replication."""
    rows, more, demand = [], [], _demand(trial, number)
    for rule in trial.rules:
        records = simulate(trial.centre, rule, trial.seed, number, demand, trial.truth)
        row = figures(trial.centre, records, trial.warm_up_s, trial.target_s).as_row()
        rows.append([row[name] for name in NAMES])
        more.append(details(trial.centre, records, trial.warm_up_s))
    return np.array(rows), tuple(more)


def _demand(trial: Trial, number: int) -> Demand:
    """The contacts that all policies meet."""
    if trial.demand is None:
        return poisson(trial.centre, trial.seed, number)
    given = trial.demand
    fresh = at(trial.centre, given.arrival, given.kind, trial.seed, number)
    return Demand(given.arrival, given.kind, given.patience, fresh.key, given.logit, given.row)


def compare(trial: Trial, replications: int, engine: Engine = LOCAL) -> Comparison:
    """Run replications 0, 1, …, each a task of the engine.

    Raises ConfigError for numbers that cannot be, and what the engine raises.
    """
    if replications < 1:
        raise ConfigError(f"simulate: {replications} replications; 1 or more expected")
    work = partial(replication, trial)
    found = list(track(engine.map(work, range(replications)), "replications", replications))
    values, more = zip(*found, strict=True)
    summed = tuple(reduce(add, of) for of in zip(*more, strict=True))
    return Comparison(tuple(rule.name for rule in trial.rules), np.stack(values, axis=1), summed)
