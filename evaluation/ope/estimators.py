"""Off-policy estimators: what a policy would have earned, from rounds that another one decided. One class each.

Notable: every estimate here is a ratio of two sums over rounds, Σ a_i / Σ b_i, and an estimator is what gives a and b.
So one piece of code (intervals.py) has the standard error, clustered or not, the bootstrap and the paired difference of
all of them. Notation, a round i: r reward, w = π(a | x) / π₀(a | x), q̂(x, a) of a model that did not see the round,
q̂(x, π) = Σ_a π(a | x) q̂(x, a).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evaluation.ope.rounds import Floats, Rounds
from twotower.errors import ConfigError, DataError


@dataclass(frozen=True)
class Terms:
    """(n,) each; the estimate is their sums' ratio."""

    numerator: Floats
    denominator: Floats

    @property
    def value(self) -> float:
        """Σ numerator / Σ denominator; NaN where the latter is 0."""
        below = float(self.denominator.sum())
        return float(self.numerator.sum()) / below if below else float("nan")


class Estimator(Protocol):
    """What makes terms of rounds."""

    @property
    def name(self) -> str:
        """How tables call it."""

    def terms(self, rounds: Rounds) -> Terms:
        """Raises DataError where the rounds lack what the estimator needs."""


@dataclass(frozen=True)
class IPS:
    """Inverse propensity score: V̂ = 1/n Σ w_i r_i.

    Unbiased where π₀ is right and positive wherever π is; its variance grows with Σ w². Horvitz and Thompson, "A
    generalization of sampling without replacement from a finite universe", JASA 47, 1952.
    """

    name: str = "IPS"

    def terms(self, rounds: Rounds) -> Terms:
        """a = w r, b = 1."""
        return Terms(rounds.weight * rounds.reward, np.ones(len(rounds)))


@dataclass(frozen=True)
class SNIPS:
    """Self-normalised IPS: V̂ = Σ w_i r_i / Σ w_i.

    Consistent, never outside the range of the rewards, and where rewards are shifted it is shifted alike. Swaminathan
    and Joachims, "The self-normalized estimator for counterfactual learning", NIPS 2015; Hájek's ratio of 1971.
    """

    name: str = "SNIPS"

    def terms(self, rounds: Rounds) -> Terms:
        """a = w r, b = w."""
        return Terms(rounds.weight * rounds.reward, rounds.weight)


@dataclass(frozen=True)
class DM:
    """Direct method: V̂ = 1/n Σ q̂(x_i, π).

    No weights, so little variance; as wrong as the model is, which no interval here knows. Beygelzimer and Langford,
    "The offset tree for learning with partial labels", KDD 2009.
    """

    name: str = "DM"

    def terms(self, rounds: Rounds) -> Terms:
        """a = q̂(x, π), b = 1."""
        return Terms(_q(rounds, self.name)[1], np.ones(len(rounds)))


@dataclass(frozen=True)
class DR:
    """Doubly robust: V̂ = 1/n Σ [q̂(x_i, π) + w_i (r_i − q̂(x_i, a_i))].

    Unbiased where π₀ is right, whatever q̂ is; consistent where q̂ is. With q̂ of other folds, as here, no property of the
    model is needed for the interval beyond a rate (cross-fitting). Dudík, Langford and Li, "Doubly robust policy
    evaluation and learning", ICML 2011; Robins, Rotnitzky and Zhao, JASA 1994; Chernozhukov et al., "Double/debiased
    machine learning for treatment and structural parameters", The Econometrics Journal 21, 2018.
    """

    name: str = "DR"

    def terms(self, rounds: Rounds) -> Terms:
        """a = q̂(x, π) + w (r − q̂(x, a)), b = 1."""
        logged, target = _q(rounds, self.name)
        return Terms(target + rounds.weight * (rounds.reward - logged), np.ones(len(rounds)))


@dataclass(frozen=True)
class SwitchDR:
    """Switch-DR: V̂ = 1/n Σ [q̂(x_i, π) + w_i 1{w_i ≤ τ} (r_i − q̂(x_i, a_i))].

    Where a weight is above τ the model alone is believed: bias E_π[(q̂ − q) 1{w > τ}] for variance. τ = 0 is DM, τ = ∞
    is DR. Wang, Agarwal and Dudík, "Optimal and adaptive off-policy evaluation in contextual bandits", ICML 2017.
    """

    threshold: float
    name: str = "Switch-DR"

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise ConfigError(f"Switch-DR: threshold {self.threshold}; a weight of 0 or more is expected")

    def terms(self, rounds: Rounds) -> Terms:
        """a = q̂(x, π) + w 1{w ≤ τ} (r − q̂(x, a)), b = 1."""
        logged, target = _q(rounds, self.name)
        kept = np.where(rounds.weight <= self.threshold, rounds.weight, 0.0)
        return Terms(target + kept * (rounds.reward - logged), np.ones(len(rounds)))

    @classmethod
    def tuned(cls, rounds: Rounds, reach: float, steps: int = 20) -> SwitchDR:
        """τ of the least estimated mean squared error, as the paper chooses it: variance of the mean, and the square
        of the most that the bias can be, `reach` · E_π[1{w > τ}], where E_π is estimated as 1/n Σ w 1{w > τ}.

        reach: how far q̂ can be from q at most, such as the range of the rewards. Tried are `steps` quantiles of the
        weights above 0, and ∞.
        """
        weight = rounds.weight
        some = weight[weight > 0]
        tried = np.unique(np.quantile(some, np.linspace(0, 1, steps))) if len(some) else np.zeros(0)
        best, least = np.inf, np.inf
        for threshold in [*tried.tolist(), np.inf]:
            terms = cls(threshold).terms(rounds).numerator
            beyond = reach * float(np.where(weight > threshold, weight, 0.0).mean())
            error = float(terms.var()) / len(rounds) + beyond**2
            if error < least - 1e-15:
                best, least = threshold, error
        return cls(best)


@dataclass(frozen=True)
class MIPS:
    """Marginalised IPS: V̂ = 1/n Σ w(x_i, e_i) r_i, w(x, e) = π(e | x) / π₀(e | x) of the embedding e of who was chosen.

    For many actions: weights are as large as an embedding is rare, not as a CSA is. Unbiased where π₀(e | x) > 0
    wherever π(e | x) is, and a CSA matters through e alone; what is left beyond e is bias. Saito and Joachims,
    "Off-policy evaluation for large action spaces via embeddings", ICML 2022, arXiv 2202.06317.
    """

    name: str = "MIPS"

    def terms(self, rounds: Rounds) -> Terms:
        """a = w(x, e) r, b = 1."""
        if rounds.marginal is None:
            raise DataError("MIPS: rounds without marginal weights; give `marginal` (evaluation/ope/marginal.py)")
        return Terms(rounds.marginal * rounds.reward, np.ones(len(rounds)))


@dataclass(frozen=True)
class Mean:
    """The mean of the rewards as they were: what the log's own policy earned, V̂ = 1/n Σ r_i."""

    name: str = "logged"

    def terms(self, rounds: Rounds) -> Terms:
        """a = r, b = 1."""
        return Terms(rounds.reward, np.ones(len(rounds)))


NAMES = ("ips", "snips", "dm", "dr", "switch-dr", "mips")
"""What `--estimator` takes."""
TITLES = {"ips": "IPS", "snips": "SNIPS", "dm": "DM", "dr": "DR", "switch-dr": "Switch-DR", "mips": "MIPS"}


def estimators(rounds: Rounds, reach: float) -> dict[str, Estimator]:
    """All that the rounds have what is needed for, by the name of `--estimator`; Switch-DR with its τ chosen."""
    found: dict[str, Estimator] = {"ips": IPS(), "snips": SNIPS()}
    if rounds.q_logged is not None and rounds.q_target is not None:
        found |= {"dm": DM(), "dr": DR(), "switch-dr": SwitchDR.tuned(rounds, reach)}
    if rounds.marginal is not None:
        found["mips"] = MIPS()
    return found


def _q(rounds: Rounds, name: str) -> tuple[Floats, Floats]:
    if rounds.q_logged is None or rounds.q_target is None:
        raise DataError(f"{name}: rounds without a model's expectations; give q_logged and q_target")
    return rounds.q_logged, rounds.q_target
