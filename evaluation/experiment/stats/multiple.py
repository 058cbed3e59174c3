"""Many numbers at once: false discoveries, estimates pulled together, errors of whatever is made of sums.

Notable: three small tools that every secondary question needs. Benjamini & Hochberg (1995) where tests lean the same
way, Benjamini & Yekutieli (2001) where nothing is known of how they hang together (both statsmodels'). Effects by band
are shrunk to their common mean by how much they differ beyond chance (empirical Bayes, Morris 1983; between-band
variance by Paule & Mandel 1982), because the largest of many effects is mostly the luckiest. The jackknife leaves out
one cluster after another and needs no derivative of what is asked for (Efron & Stein 1981: biased upwards, if at all).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.experiment.stats.linear import Told

Doubles = npt.NDArray[np.float64]


def discoveries(p: Sequence[float], dependent: bool = False) -> Doubles:
    """Adjusted p-values: those at most q are rejected at a false-discovery rate of q. dependent: in any way (BY)."""
    from statsmodels.stats.multitest import multipletests

    if not len(p):
        return np.zeros(0)
    return np.asarray(multipletests(list(p), method="fdr_by" if dependent else "fdr_bh")[1], np.float64)


@dataclass(frozen=True)
class Shrunk:
    """Effects of k bands, pulled to their common mean."""

    mean: float
    between: float
    """Standard deviation of the true effects about it; 0: no more than chance."""
    value: Doubles
    """(k,)"""
    se: Doubles
    """(k,) of the true effect given all."""


def shrunk(value: Doubles, se: Doubles) -> Shrunk:
    """Empirical Bayes of effects (k,) with standard errors (k,) > 0 (Morris 1983, JASA 78, section 4).

    The share pulled away is (k − 3) / (k − 1) · se² / (se² + between²): three bands or less cannot tell how much bands
    differ, and stay what they are. The errors know that it is estimated.
    """
    k, variance = len(value), _paule_mandel(value, se)
    weight = 1 / (se**2 + variance)
    mean = float((weight * value).sum() / weight.sum())
    pulled = max((k - 3) / max(k - 1, 1), 0.0) * se**2 * weight
    spread = se**2 * (1 - (k - 1) / k * pulled)
    if k > 3:
        spread = spread + 2 / (k - 3) * pulled**2 * (value - mean) ** 2
    return Shrunk(mean, float(np.sqrt(variance)), (1 - pulled) * value + pulled * mean, np.sqrt(spread))


def _paule_mandel(value: Doubles, se: Doubles) -> float:
    """The variance at which Σ (value − mean)² / (se² + variance) is what chance expects, k − 1; 0 if it is less at
    0."""

    def beyond(variance: float) -> float:
        weight = 1 / (se**2 + variance)
        mean = (weight * value).sum() / weight.sum()
        return float((weight * (value - mean) ** 2).sum() - (len(value) - 1))

    if len(value) < 2 or beyond(0.0) <= 0:
        return 0.0
    from scipy.optimize import brentq

    high = float(np.var(value)) + float((se**2).max())
    while beyond(high) > 0:
        high *= 2
    return float(brentq(beyond, 0.0, high, xtol=1e-14))


@dataclass(frozen=True)
class Jackknifed:
    """M figures with their covariance."""

    value: Doubles
    """(M,)"""
    covariance: Doubles
    """(M, M)"""
    df: float

    def wider(self, times: float) -> Jackknifed:
        """With errors so many times as large."""
        return Jackknifed(self.value, self.covariance * times**2, self.df)

    def told(self, place: int) -> Told:
        """One of them."""
        return Told(float(self.value[place]), float(np.sqrt(self.covariance[place, place])), self.df)


def jackknife(
    sums: Doubles, arm: npt.NDArray[Any], cluster: npt.NDArray[np.int64], figures: Callable[[Doubles, Doubles], Doubles]
) -> Jackknifed:
    """Figures of both arms' sums, each cluster left out once: (G − 1)/G Σ (θ₋g − θ̄)².

    sums (C, K) of cells; figures: of the control's (…, K) and the treatment's, (…, M). Clusters without sums do not
    count.
    """
    codes = np.unique(cluster, return_inverse=True)[1]
    of_arm = np.zeros((2, int(codes.max()) + 1, sums.shape[1]))
    for a in (0, 1):
        np.add.at(of_arm[a], codes[arm == a], sums[arm == a])
    there = (of_arm != 0).any(axis=(0, 2))
    of_arm = of_arm[:, there]
    total, clusters = of_arm.sum(axis=1), int(there.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        value = figures(total[0], total[1])
        without = figures(total[0] - of_arm[0], total[1] - of_arm[1])
    off = without - without.mean(axis=0)
    return Jackknifed(value, (clusters - 1) / clusters * off.T @ off, float(clusters - 1))
