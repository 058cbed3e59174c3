"""Policies as a file names them, each with its own options."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from evaluation.simulate import policies
from evaluation.simulate.described import MINUTE, NotNegative, Whole
from evaluation.simulate.policies import Rule
from evaluation.simulate.policy_base import Beliefs, Named, replayed
from evaluation.simulate.sets_spec import OracleSpec, SetsSpec
from twotower.errors import ConfigError


class FifoSpec(Named):
    """Longest wait, longest idle."""

    policy: Literal["fifo"]

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator."""
        return policies.fifo(self.called("FIFO, longest idle"))


class RandomSpec(Named):
    """Anybody who can."""

    policy: Literal["random"]

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator."""
        return policies.random(self.called("random"))


class SkillsSpec(Named):
    """Skills with steps of overflow, as the groups' `after_s` say."""

    policy: Literal["skills"]

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator."""
        return policies.skills(*of.overflow, self.called("skills with overflow"))


class PMuSpec(Named):
    """pμ."""

    policy: Literal["p_mu"]

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator."""
        return policies.p_mu(of.centre, of.success, self.called("pμ"))


class CMuSpec(Named):
    """cμ; cost: of a second's wait, by class, 1 where a class is not named."""

    policy: Literal["c_mu"]
    cost: dict[str, NotNegative] = Field(default_factory=dict)

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator. Raises ConfigError for a class that is not there."""
        names = of.centre.classes
        if unknown := [name for name in self.cost if name not in names]:
            raise ConfigError(f"policies c_mu: cost: no class is called {unknown[0]!r}")
        cost = np.array([self.cost.get(name, 1.0) for name in names])
        return policies.c_mu(of.centre, cost, self.called("cμ"))


class GreedySpec(Named):
    """The best pair of each event; a minute's wait is worth `age_per_minute` resolutions."""

    policy: Literal["greedy"]
    age_per_minute: NotNegative = 0.0
    scanned: Whole = 16

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator."""
        age = self.age_per_minute / MINUTE
        return policies.greedy(of.success, age, scanned=self.scanned, name=self.called("greedy match"))


class _OfBundle(Named):
    bundle: str
    """Folder, relative to the working directory."""
    age_per_minute: NotNegative = 0.0
    """Resolutions that a minute's wait is worth."""
    scanned: Whole = 16
    """Waiting contacts of a class that are looked at."""


class BundleSpec(_OfBundle):
    """A bundle's matcher, asked at every decision; of a centre of tables."""

    policy: Literal["bundle"]
    learns: bool = False
    """Whether it is told of hand-overs as they begin and end."""

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator. Raises ConfigError and BundleError for a bundle that does not fit."""
        from evaluation.simulate.replay_bundle import bundle_rule

        age = self.age_per_minute / MINUTE
        name = self.called("bundle that learns" if self.learns else "bundle")
        return bundle_rule(replayed(of, name), self.bundle, age, self.scanned, self.learns, name)


class BundleScoresSpec(_OfBundle):
    """The same, with all its values computed beforehand."""

    policy: Literal["bundle_scores"]

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator. Raises ConfigError and BundleError for a bundle that does not fit."""
        from evaluation.simulate.replay_bundle import scores_rule

        name = self.called("bundle's scores")
        pairs = of.pair_values(self.bundle, name)
        return scores_rule(replayed(of, name), pairs, self.age_per_minute / MINUTE, self.scanned, name)


PolicySpec = Annotated[
    FifoSpec
    | RandomSpec
    | SkillsSpec
    | PMuSpec
    | CMuSpec
    | GreedySpec
    | SetsSpec
    | OracleSpec
    | BundleSpec
    | BundleScoresSpec,
    Field(discriminator="policy"),
]
