"""Whether a log can tell what a policy is worth: weights, effective sample size, support, and when to refuse.

Notable: a weighted mean is a number for any log, also for one that holds nothing of what the policy would do. So every
answer has to pass stated gates first, and what fails is refused with the figure that failed and no estimate. The
sharpest of them is free: where propensities are right and the policy goes nowhere that the log does not, the mean of
the weights is 1 but for chance. Wrong propensities, a choice that was not as random as is claimed, and missing support
all move it.

    ESS = (Σ w)² / Σ w²     (Kong, "A note on importance sampling using standardized weights", 1992)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.ope.estimators import Terms
from evaluation.ope.intervals import Clusters, influence, standard_error
from evaluation.ope.rounds import Floats, Ints, Pairs
from twotower.errors import ConfigError

Z = 3.29
"""Deviations beyond which what should be alike counts as told apart: 0.1 % by chance."""

EXPECTED = 10.0
"""Choices at equal chances whose absence is no chance any more (e^−10)."""


@dataclass(frozen=True)
class Gates:
    """What a log must show before a number is given. Raises ConfigError for a bound that cannot be."""

    least_rounds: int = 100
    """Rounds with a known reward. Fewer do not carry a normal approximation of anything."""
    least_effective: float = 100.0
    """Effective sample size of the weights: as many rounds decided by the policy itself would tell as much. At 100 the
    95 % interval of a share is ±0.1 wide."""
    least_clusters: float = 30.0
    """Effective number of clusters, by their sums of weights. Standard errors over fewer are too small (Cameron and
    Miller, "A practitioner's guide to cluster-robust inference", 2015)."""
    most_weight: float = 0.05
    """The largest share of all weight that one cluster may have: an answer that hangs on one customer is none."""
    mean_weight: float = 0.05
    """How far the mean weight may be from 1, beyond what chance explains (`Z` standard errors)."""
    most_unsupported: float = 0.02
    """Share of the policy's choices that the log never makes (π₀ below `least_propensity`). An answer can be wrong by
    as much times the range of the rewards, which the report says."""
    least_propensity: float = 1e-4
    """What is chosen less often than once in ten thousand times is not in a log of usual size."""
    most_outside: float = 0.01
    """Share of rounds whose CSA was not among those eligible, and which are left out."""
    most_miscalibrated: float = 0.15
    """Estimated propensities: mean difference of chances from frequencies over ten bands, as a share of the mean."""
    most_imbalance: float = 0.1
    """Estimated propensities: the standardised difference of a property of contacts, or of their CSAs, between the
    weighted log and what the policy would see, beyond chance (`Z` standard errors). 0.1: Austin, 2009."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < np.inf:
                raise ConfigError(f"gates.{name}: {value}; a number of 0 or more is expected")


@dataclass(frozen=True)
class Overlap:
    """What the weights of one policy are like."""

    rounds: int
    clusters: int
    agreeing: float
    """Share of rounds in which the policy could have chosen as was chosen."""
    effective: float
    """(Σ w)² / Σ w²."""
    effective_clusters: float
    """The same over clusters' sums of weights."""
    mean: float
    """Of the weights; 1 is expected."""
    mean_error: float
    """Standard error of it."""
    largest: float
    """Of the weights."""
    share: float
    """Of all weight that the heaviest cluster has."""
    quantiles: tuple[float, ...]
    """Of the weights above 0: 1, 25, 50, 75, 99 %."""
    unsupported: float
    """Share of the policy's choices that the log never makes; NaN where that is not known."""


QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


def overlap(weight: Floats, cluster: Ints | None = None, unsupported: float = float("nan")) -> Overlap:
    """Of weights (n,), n ≥ 1."""
    clusters = Clusters(len(weight), cluster)
    each = clusters.sums(weight)
    total = float(weight.sum())
    ones = Terms(weight, np.ones(len(weight)))
    some = weight[weight > 0]
    return Overlap(
        rounds=len(weight),
        clusters=clusters.count,
        agreeing=float((weight > 0).mean()),
        effective=_effective(weight),
        effective_clusters=_effective(each),
        mean=float(weight.mean()),
        mean_error=standard_error(influence(ones), clusters),
        largest=float(weight.max()),
        share=float(each.max()) / total if total else float("nan"),
        quantiles=tuple(float(q) for q in np.quantile(some, QUANTILES)) if len(some) else (float("nan"),) * 5,
        unsupported=unsupported,
    )


def refusals(found: Overlap, gates: Gates) -> list[str]:
    """Why the log cannot tell, one line each; none: it can."""
    why = []
    if found.rounds < gates.least_rounds:
        why.append(
            f"{found.rounds} rounds with a known reward, {gates.least_rounds} are needed: choose a longer window"
        )
    if found.unsupported > gates.most_unsupported:
        why.append(
            f"no support: {found.unsupported:.1%} of what the policy would choose is never chosen in the log "
            f"({gates.most_unsupported:.1%} at most): let the router explore (docs/exploration.md), or judge a policy "
            "nearer to the log's"
        )
    if not found.effective >= gates.least_effective:
        why.append(
            f"too little overlap: {found.rounds:,} rounds tell as much as {found.effective:.0f} of the policy's own "
            f"(effective sample size; {gates.least_effective:.0f} are needed): choose a longer window, or a policy "
            "nearer to the log's"
        )
    if not found.effective_clusters >= gates.least_clusters:
        why.append(
            f"{found.clusters:,} clusters weigh as {found.effective_clusters:.0f} alike ones "
            f"({gates.least_clusters:.0f} are needed): choose a longer window, or another --cluster"
        )
    if found.share > gates.most_weight:
        why.append(f"one cluster has {found.share:.1%} of all weight ({gates.most_weight:.1%} at most)")
    off = abs(found.mean - 1)
    if off - Z * found.mean_error > gates.mean_weight and found.rounds >= gates.least_rounds:
        why.append(
            f"the mean weight is {found.mean:.3f} ± {found.mean_error:.3f} where 1 is expected: propensities are "
            "wrong, or the policy chooses whom the log never does"
        )
    return why


def unsupported_mass(pairs: Pairs, target: Floats, propensity: Floats, least: float) -> float:
    """Mean over rounds of Σ_a π(a | x) 1{π₀(a | x) < least}, both (P,); exact where π₀ is known of all."""
    return float(np.where(propensity < least, target, 0.0).sum() / len(pairs))


def never_chosen_mass(pairs: Pairs, target: Floats, propensity: Floats) -> float:
    """The least that is unsupported where π₀ is known of the chosen alone, (n,): the policy's choice of CSAs whom the
    log never chose, though at equal chances it would have `EXPECTED` times, and of anybody else where the choice was
    certain (π₀ = 1)."""
    ever = np.bincount(pairs.csa, (1 / pairs.lengths)[pairs.row]) < EXPECTED
    ever[pairs.csa[pairs.own]] = True
    certain = propensity >= 1
    own = np.zeros(len(pairs.csa), np.bool_)
    own[pairs.own] = True
    missing = ~ever[pairs.csa] | (certain[pairs.row] & ~own)
    return float(target[missing].sum() / len(pairs))


def _effective(weight: Floats) -> float:
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0
