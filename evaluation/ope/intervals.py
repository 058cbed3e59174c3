"""Intervals of estimates and of their differences: by asymptotics and by the bootstrap, both over clusters.

    V̂ = Σ a_i / Σ b_i,   ψ_i = (a_i − V̂ b_i) / mean(b),   se² = C/(C − 1) Σ_c (Σ_{i in c} ψ_i)² / n²

Notable: ψ is the influence function of a ratio of means (the delta method), so a difference of two estimates over the
same rounds has the influence ψ − ψ′ and is paired at no cost. Clusters are what is drawn together: the contacts of one
customer are told apart from those of another, not from each other. The interval is V̂ ± t(C − 1) · se. The bootstrap
draws clusters with replacement, the same draws for every estimate of a table (`twotower.metrics.Bootstrap`, Efron and
Tibshirani 1993), and is a check of the other: the two differ where few weights decide.
Liang and Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 73, 1986, for clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.ope.estimators import Terms
from evaluation.ope.rounds import Floats, Ints
from twotower.metrics import Bootstrap, Interval


@dataclass(frozen=True)
class Estimate:
    """An estimate, its standard error, and both intervals; NaN where there are fewer than two clusters."""

    value: float
    error: float
    asymptotic: Interval
    bootstrap: Interval

    @property
    def low(self) -> float:
        """Of the asymptotic interval, by which estimates are judged."""
        return self.asymptotic.low

    @property
    def high(self) -> float:
        """Likewise."""
        return self.asymptotic.high


class Clusters:
    """n rounds in C clusters. `cluster` (n,) any integers; None: each round its own."""

    def __init__(self, size: int, cluster: Ints | None) -> None:
        self.size = size
        code = None if cluster is None else np.unique(cluster, return_inverse=True)[1].reshape(-1)
        self.count = size if code is None else int(code.max(initial=-1)) + 1
        self._code = code if self.count < size else None

    def sums(self, values: Floats) -> Floats:
        """(C,) of values (n,)."""
        if self._code is None:
            return values
        return np.bincount(self._code, values, self.count).astype(np.float64)


def influence(terms: Terms) -> Floats:
    """ψ (n,) of an estimate; 0 where the denominators sum to 0."""
    mean = float(terms.denominator.mean())
    if not mean:
        return np.zeros(len(terms.numerator))
    return np.asarray((terms.numerator - terms.value * terms.denominator) / mean)


def standard_error(psi: Floats, clusters: Clusters) -> float:
    """Of the estimate whose influence ψ (n,) is; NaN for fewer than two clusters."""
    if clusters.count < 2:
        return float("nan")
    each = clusters.sums(psi)
    return float(np.sqrt(clusters.count / (clusters.count - 1) * (each**2).sum()) / clusters.size)


def asymptotic(value: float, error: float, clusters: Clusters, confidence: float = 0.95) -> Interval:
    """value ± t · error with C − 1 degrees of freedom."""
    from scipy.stats import t

    if clusters.count < 2:
        return Interval(value, float("nan"), float("nan"))
    half = float(t.ppf(0.5 + confidence / 2, clusters.count - 1)) * error
    return Interval(value, value - half, value + half)


def estimates(
    terms: Sequence[Terms],
    differences: Sequence[tuple[int, int]],
    cluster: Ints | None = None,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[list[Estimate], list[Estimate]]:
    """Estimates of all terms over the same rounds, and differences (i, j), the i-th less the j-th, paired.

    cluster: (n,) what is drawn together; draws: of the bootstrap, 0 for none (NaN).
    """
    clusters = Clusters(len(terms[0].numerator), cluster)
    psi = [influence(one) for one in terms]
    values = [one.value for one in terms]
    values += [values[i] - values[j] for i, j in differences]
    psi += [psi[i] - psi[j] for i, j in differences]
    sampled = _bootstrapped(terms, differences, clusters, confidence, draws, seed)
    done = []
    for value, one, boot in zip(values, psi, sampled, strict=True):
        error = standard_error(one, clusters)
        done.append(Estimate(value, error, asymptotic(value, error, clusters, confidence), boot))
    return done[: len(terms)], done[len(terms) :]


def _bootstrapped(
    terms: Sequence[Terms],
    differences: Sequence[tuple[int, int]],
    clusters: Clusters,
    confidence: float,
    draws: int,
    seed: int,
) -> list[Interval]:
    """Percentile intervals of the estimates and then of the differences."""
    if not draws:
        return [Interval(float("nan"), float("nan"), float("nan"))] * (len(terms) + len(differences))
    above = np.stack([clusters.sums(one.numerator) for one in terms], axis=1)
    below = np.stack([clusters.sums(one.denominator) for one in terms], axis=1)

    def statistic(weights: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        over = weights @ below
        found = np.full(over.shape, np.nan)
        np.divide(weights @ above, over, out=found, where=over != 0)
        less = [found[:, i] - found[:, j] for i, j in differences]
        return np.column_stack([found, *less]) if less else found

    return Bootstrap(clusters.count, seed, draws, confidence).statistic(statistic)
