"""Marginal weights for MIPS: CSAs stand for the group of CSAs that are like them, and weights are of groups.

    w(x, g) = Σ_{a in g} π(a | x) / Σ_{a in g} π₀(a | x)

Notable: the embedding of a CSA is the group that k-means puts their vector in, so weights are exact sums over who
could have been chosen and no density is estimated. How many groups is the trade of bias for variance: with as many as
CSAs it is IPS, with one it is the mean of the log. It is chosen by SLOPE, from fine to coarse: the finest has no bias,
so the coarsest estimate θ_i is taken that is not further from any finer one, θ_j, than c_i + (√6 − 1) c_j, where c are
half widths of their 95 % intervals. Su, Srinath and Krishnamurthy, "Adaptive estimator selection for off-policy
evaluation", ICML 2020; the constant is that of Tucker and Lee, "Improved estimator selection for off-policy
evaluation", 2021; Saito and Joachims, "Off-policy evaluation for large action spaces via embeddings", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.ope.estimators import Terms
from evaluation.ope.intervals import Clusters, influence, standard_error
from evaluation.ope.rounds import Floats, Ints, Pairs
from twotower.errors import DataError

LEAST_GROUPS, MOST_GROUPS = 4, 512
SLOPE = float(np.sqrt(6) - 1)


@dataclass(frozen=True)
class Marginal:
    """`weight` (n,) of the groups that were chosen; how many groups there are of how many CSAs; the policy's mass on
    groups of whom the log never chooses one."""

    weight: Floats
    groups: int
    csas: int
    unsupported: float


def marginal_weights(pairs: Pairs, target: Floats, propensity: Floats, group: Ints) -> Floats:
    """w(x, g) (n,) of the group of who was chosen.

    target, propensity: π and π₀ (P,) of everybody who could have been; group: (J,) of each CSA. Raises DataError where
    the chosen had no chance.
    """
    same = group[pairs.csa] == group[pairs.csa[pairs.own]][pairs.row]
    above, below = (pairs.total(np.where(same, p, 0.0)) for p in (target, propensity))
    if not (below > 0).all():
        row = int(np.argmin(below > 0))
        raise DataError(
            f"round {row}: who was chosen, and everybody like them, has propensity 0; a positive one expected"
        )
    return np.asarray(above / below)


def groupings(vectors: npt.NDArray[np.floating], seed: int = 0) -> list[Ints]:
    """Groups (J,) of CSAs by their vectors (J, d), each their own first, then from `MOST_GROUPS` or half as many as
    there are CSAs down to `LEAST_GROUPS`, half as many each time."""
    from sklearn.cluster import KMeans

    size = len(vectors)
    found, many = [np.arange(size, dtype=np.int64)], min(size // 2, MOST_GROUPS)
    centred = np.asarray(vectors, np.float64) - vectors.mean(axis=0)
    while many >= LEAST_GROUPS:
        found.append(KMeans(many, n_init=1, random_state=seed).fit(centred).labels_.astype(np.int64))
        many //= 2
    return found


def chosen_marginal(
    pairs: Pairs,
    target: Floats,
    propensity: Floats,
    groups: Sequence[Ints],
    reward: Floats,
    cluster: Ints | None,
    least: float,
) -> Marginal:
    """The grouping that SLOPE takes for one reward (n,), NaN where it is not known.

    groups: from fine to coarse (`groupings`); least: π₀ below it counts as no support.
    """
    known = np.flatnonzero(np.isfinite(reward))
    clusters = Clusters(len(known), None if cluster is None else cluster[known])
    weights: list[Floats] = []
    seen: list[tuple[float, float]] = []
    for group in groups:
        weight = marginal_weights(pairs, target, propensity, group)
        terms = Terms(weight[known] * reward[known], np.ones(len(known)))
        width = 1.96 * standard_error(influence(terms), clusters)
        if any(abs(terms.value - value) > width + SLOPE * finer for value, finer in seen):
            break
        weights.append(weight)
        seen.append((terms.value, width))
    best = len(weights) - 1
    group = groups[best]
    return Marginal(
        weights[best], int(group.max()) + 1, len(group), _unsupported(pairs, target, propensity, group, least)
    )


def _unsupported(pairs: Pairs, target: Floats, propensity: Floats, group: Ints, least: float) -> float:
    """The policy's mass on groups whom the log chooses with less than `least`."""
    key = pairs.row * (int(group.max()) + 1) + group[pairs.csa]
    place = np.unique(key, return_inverse=True)[1].reshape(-1)
    mass, chance = np.bincount(place, target), np.bincount(place, propensity)
    return float(mass[chance < least].sum() / len(pairs))
