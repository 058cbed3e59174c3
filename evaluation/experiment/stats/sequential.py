"""Boundaries that hold at all times at once, so that one may look whenever one likes.

Notable: one formula serves three namesakes. The two-sided normal mixture of Robbins (1970), as Howard, Ramdas,
McAuliffe & Sekhon (2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49)
write it, bounds a sum S of variance v for all v at once:

    |S| < sqrt((v + ρ) · log((v + ρ) / (ρ α²)))        with probability 1 − α,

the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2021, arXiv 2103.06476, theorem
2.2) is that bound divided by v with ρ = 1 / ρ'², and the tuning parameter N* of sequential two-sample tests is the v at
which ρ makes it tightest. Blocks and clusters are few and their variance is estimated, so what monitors experiments is
the mixture of t-statistics instead (Lai 1976; Lindon, Ham, Tingley & Bojinov 2022, arXiv 2210.08589): the same bound as
its degrees of freedom grow, wider where they are few, infinite where nothing can be said yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def best_rho(v: float, alpha: float, exact: bool = True) -> float:
    """The ρ that makes the two-sided normal mixture tightest at variance v.

    exact: by Lambert's W, ρ = v / (−W₋₁(−α² / e) − 1) (Howard et al. 2021, proposition 3); otherwise the usual
    approximation v / (2 log(1/α) + log(1 + 2 log(1/α))), which is that of confseq and of GrowthBook.
    """
    if not exact:
        return v / (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha)))
    from scipy.special import lambertw

    return float(v / (-lambertw(-(alpha**2) / math.e, -1).real - 1))


def normal_mixture(v: Any, rho: float, alpha: float) -> Any:
    """Bound on |S| at intrinsic variance v (any shape), two-sided, for all v at once."""
    return np.sqrt((v + rho) * np.log((v + rho) / (rho * alpha**2)))


def times_standard_error(n: Any, rho: float, alpha: float) -> Any:
    """By how many standard errors of a mean of n a confidence sequence reaches, of known variance: the bound at v = n,
    over √n. Inf at n = 0."""
    n = np.asarray(n, np.float64)
    with np.errstate(divide="ignore"):
        return np.where(n > 0, normal_mixture(n, rho, alpha) / np.sqrt(n), np.inf)


def times_standard_error_t(n: Any, df: Any, rho: float, alpha: float) -> Any:
    """The same where the variance is estimated with df degrees of freedom.

    The e-value of a t-statistic whose effect, in standard deviations, has the prior N(0, 1/ρ), with r = ρ / (ρ + n), is
    √r · ((1 + t²/df) / (1 + r t²/df))^((df + 1) / 2); it reaches 1/α at t² = df (g − 1) / (1 − g r), g = (r α²)^(−1/(df
    + 1)). Inf where g r ≥ 1: no t, however large, would be evidence enough.
    """
    n, df = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(df, np.float64))
    known = (n > 0) & (df > 0)
    n, df = np.where(known, n, 1.0), np.where(known, df, 1.0)
    r = rho / (rho + n)
    g = (r * alpha**2) ** (-1 / (df + 1))
    left = 1 - g * r
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(known & (left > 0), np.sqrt(df * (g - 1) / left), np.inf)


@dataclass(frozen=True)
class Sample:
    """What a two-sample comparison needs of one arm."""

    total: float
    squares: float
    """Sum of squares."""
    n: int

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def variance(self) -> float:
        """Of one observation, unbiased."""
        return (self.squares - self.total**2 / self.n) / (self.n - 1)


@dataclass(frozen=True)
class Lift:
    """A relative difference of means with a confidence sequence."""

    value: float
    se: float
    low: float
    high: float


def relative_lift(control: Sample, treatment: Sample, alpha: float = 0.05, tuning: float = 5000.0) -> Lift:
    """(treatment − control) / control, valid at all times, of independent observations.

    The variance is the delta method's, s₁² / (m₀² n₁) + s₀² m₁² / (m₀⁴ n₀); the boundary is that of n₀ + n₁
    observations, tightest at `tuning` of them (Waudby-Smith et al. 2021; GrowthBook's sequential two-sample test).
    """
    m0, m1, n = control.mean, treatment.mean, control.n + treatment.n
    variance = treatment.variance / (m0**2 * treatment.n) + control.variance * m1**2 / (m0**4 * control.n)
    half = math.sqrt(variance) * float(times_standard_error(n, best_rho(tuning, alpha, exact=False), alpha))
    return Lift(m1 / m0 - 1, math.sqrt(variance), m1 / m0 - 1 - half, m1 / m0 - 1 + half)


def sample_size(control: float, treatment: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Observations per arm with which two proportions are told apart by a two-sided z-test, variances not pooled:
    (z₁₋α/₂ + z_power)² · (p₀ q₀ + p₁ q₁) / (p₁ − p₀)² (Fleiss, Levin & Paik 2003, chapter 4)."""
    from scipy.stats import norm

    z = norm.ppf(1 - alpha / 2) + norm.ppf(power)
    spread = control * (1 - control) + treatment * (1 - treatment)
    return math.ceil(float(z**2 * spread / (treatment - control) ** 2))
