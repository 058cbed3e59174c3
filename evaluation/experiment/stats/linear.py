"""Weighted least squares with errors that hold for few clusters, and across time.

Notable: with a dozen blocks or sites the usual sandwich is too small and the normal distribution too thin. CR2 (Bell &
McCaffrey 2002) makes it unbiased where errors are alike, and Satterthwaite's degrees of freedom of the same paper say
which t-distribution to read; Imbens & Kolesár (2016, "Robust standard errors in small samples", Review of Economics and
Statistics 98) recommend both together. Clusters are what was drawn at once (Abadie, Athey, Imbens & Wooldridge 2023,
"When should you adjust standard errors for clustering?"): a block, or a pair of them where one lot decides both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Told:
    """A linear combination of coefficients: value, standard error, degrees of freedom."""

    value: float
    se: float
    df: float

    def interval(self, alpha: float) -> tuple[float, float]:
        """Of level 1 − α."""
        from scipy.special import stdtrit

        if not (self.df > 0 and math.isfinite(self.se)):
            return -math.inf, math.inf
        half = float(stdtrit(self.df, 1 - alpha / 2)) * self.se
        return self.value - half, self.value + half

    def p(self, of: float = 0.0) -> float:
        """Two-sided, of the hypothesis that it is `of`; 1 where there is no error to compare with."""
        from scipy.special import stdtr

        if not (self.df > 0 and math.isfinite(self.se) and self.se > 0):
            return 1.0
        return float(2 * stdtr(self.df, -abs(self.value - of) / self.se))

    def below(self, of: float = 0.0) -> float:
        """One-sided p of the hypothesis that it is `of` or more; small: it is below."""
        from scipy.special import stdtr

        if not (self.df > 0 and math.isfinite(self.se) and self.se > 0):
            return 1.0
        return float(stdtr(self.df, (self.value - of) / self.se))


@dataclass(frozen=True)
class Fit:
    """Least squares of n rows and p columns, with what CR2 needs; clusters 0 … G − 1."""

    coefficients: Doubles
    """(p,)"""
    inverse: Doubles
    """(p, p), of X'WX."""
    scores: Doubles
    """(G, p), Σ over a cluster of adjusted residual times row."""
    adjusted: tuple[tuple[Doubles, Doubles, Longs], ...]
    """By size of cluster: X (g, size, p), adjustment (g, size, size), numbers of the clusters (g,)."""

    def of(self, contrast: Doubles) -> Told:
        """contrast (p,). The variance is Σ_g (c' M s_g)²; degrees of freedom (Σλ)² / Σλ² of G'G, Imbens & Kolesár
        (10)."""
        direction = self.inverse @ contrast
        variance = float(((self.scores @ direction) ** 2).sum())
        clusters, p = self.scores.shape
        moved, own = np.zeros((clusters, p)), np.zeros(clusters)
        for x, adjustment, which in self.adjusted:
            z = np.einsum("gij,gj->gi", adjustment, x @ direction)
            own[which] = (z**2).sum(axis=1)
            moved[which] = np.einsum("gip,gi->gp", x, z)
        inner = np.diag(own) - moved @ self.inverse @ moved.T
        df = float(np.trace(inner) ** 2 / max((inner**2).sum(), 1e-300))
        return Told(float(self.coefficients @ contrast), math.sqrt(variance), df)

    def one(self, place: int) -> Told:
        """One coefficient."""
        return self.of(np.eye(len(self.coefficients))[place])


def fit(x: Doubles, y: Doubles, weight: Doubles, cluster: Longs) -> Fit | None:
    """Least squares of y (n,) on x (n, p) with weights (n,) and clusters (n,) 0 … G − 1; None where x is not of full
    rank or there are no more clusters than columns ask for.

    The working model is that of contacts with alike, independent errors: the variance of a row is 1 / weight.
    """
    root = np.sqrt(weight)
    a, b = x * root[:, None], y * root
    if len(y) <= x.shape[1] or np.linalg.matrix_rank(a) < x.shape[1] or cluster.max() < 1:
        return None
    inverse = np.linalg.inv(a.T @ a)
    coefficients: Doubles = np.asarray(inverse @ (a.T @ b), np.float64)
    residual = b - a @ coefficients
    order = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    ends = np.cumsum(sizes)
    scores, adjusted = np.zeros((len(sizes), x.shape[1])), []
    for size in np.unique(sizes[sizes > 0]):
        which = np.flatnonzero(sizes == size)
        rows = order[(ends[which] - size)[:, None] + np.arange(size)]
        part = a[rows]
        values, vectors = np.linalg.eigh(np.eye(size) - part @ inverse @ part.transpose(0, 2, 1))
        # A row that the others do not determine has no residual, and none can be made of it.
        power = np.where(values > 1e-8, 1 / np.sqrt(np.maximum(values, 1e-8)), 0.0)
        adjustment = (vectors * power[:, None, :]) @ vectors.transpose(0, 2, 1)
        scores[which] = np.einsum("gip,gij,gj->gp", part, adjustment, residual[rows])
        adjusted.append((part, adjustment, which))
    return Fit(coefficients, np.asarray(inverse, np.float64), scores, tuple(adjusted))


def lags_of(n: int) -> int:
    """How many neighbours in time count: ⌊4 (n / 100)^(2/9)⌋, at least one (Newey & West 1994)."""
    return max(1, int(4 * (n / 100) ** (2 / 9)))


def across_time(x: Doubles, y: Doubles, weight: Doubles, place: int, lags: int | None = None) -> Told:
    """One coefficient of least squares whose rows lie in order of time, with Newey and West's errors.

    lags: neighbours that count; None: `lags_of`. t with n − p degrees of freedom (statsmodels' small-sample
    correction).
    """
    from statsmodels.regression.linear_model import WLS

    found = WLS(y, x, weights=weight).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags or lags_of(len(y)), "use_correction": True}, use_t=True
    )
    return Told(float(found.params[place]), float(found.bse[place]), float(len(y) - x.shape[1]))
