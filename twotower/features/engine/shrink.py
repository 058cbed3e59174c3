"""Empirical Bayes: how far a CSA's own numbers are trusted, estimated from how much CSAs differ beyond chance.

Notable: prior strengths are estimated by moments, in closed form, so they are recomputed at every snapshot. Chance is
measured by the effective sample size n = (Σ w)² / Σ w², since decayed hand-overs average out less noise than their
number says; the *pull* is weighed by Σ w <= n instead, so evidence that grows old lets a CSA drift back to the group
(the power prior of Ibrahim and Chen, Statistical Science 15:46–60, 2000). Where units differ by no more than chance
would make them, the strength is `MOST`: everyone reads as their group.

Sources: rates are beta-binomial, Kleinman, "Proportions with extraneous variance: single and independent samples",
JASA 68:46–54 (1973), weighted moments with the weights n; means are normal-normal, DerSimonian and Laird,
"Meta-analysis in clinical trials", Controlled Clinical Trials 7:177–188 (1986).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

# Bounds of a prior's strength, in hand-overs.
LEAST, MOST = 1.0, 1e4


def effective(weight: Doubles, squares: Doubles) -> Doubles:
    """Kish's effective sample size (Σ w)² / Σ w², 0 where nothing was seen."""
    return np.divide(weight * weight, squares, out=np.zeros_like(weight), where=squares > 0)


def shrunk(total: Doubles, weight: Doubles, prior: Doubles | float, strength: float) -> Doubles:
    """Posterior mean (Σ w x + κ m) / (Σ w + κ) of a rate or a mean with prior m worth κ hand-overs."""
    return np.asarray((total + strength * prior) / (weight + strength))


def rate_strength(successes: Doubles, trials: Doubles, size: Doubles, prior: Doubles | None = None) -> float:
    """Strength M = α + β of the beta prior behind the rates of units, from their spread.

    successes, trials: decayed sums (k,); size: effective n (k,); prior: a mean m (k,) for each unit, known from
    elsewhere; None where the units share one mean, which is then estimated too.

    With p = successes / trials, E n (p − m)² = m (1 − m) [1 + γ (n − 1)], γ = 1 / (M + 1). For known m,
    γ = (Σ n (p − m)² − Σ m (1 − m)) / Σ m (1 − m)(n − 1); for a shared mean p̄ = Σ n p / N,
    γ = (S − p̄ (1 − p̄)(k − 1)) / (p̄ (1 − p̄)(N − Σ n² / N − (k − 1))), S = Σ n (p − p̄)² (Kleinman, 1973).
    """
    n, successes, trials, prior = _seen(trials > 0, size, successes, trials, prior)
    p = successes / trials
    if prior is None:
        if len(n) < 2:
            return MOST
        mean = float((n * p).sum() / n.sum())
        chance = mean * (1 - mean)
        above = float((n * (p - mean) ** 2).sum()) - chance * (len(n) - 1)
        scale = chance * float(n.sum() - (n * n).sum() / n.sum() - (len(n) - 1))
    else:
        chances = prior * (1 - prior)
        above = float((n * (p - prior) ** 2).sum() - chances.sum())
        scale = float((chances * (n - 1)).sum())
    if scale <= 0 or above <= 0:
        return MOST
    return float(np.clip(scale / above - 1, LEAST, MOST))


def mean_strength(
    total: Doubles, squared: Doubles, weight: Doubles, weight_squares: Doubles, prior: Doubles | None = None
) -> float:
    """Strength κ = σ² / τ² of the normal prior behind the means of units, from their spread.

    total Σ w x, squared Σ w x², weight Σ w, weight_squares Σ w² (k,); prior as in `rate_strength`. σ² within units is
    pooled, Σ (Σ w x² − (Σ w x)² / Σ w) / Σ (Σ w − Σ w² / Σ w); τ² between them is DerSimonian and Laird's estimate:
    (Σ n (x̄ − m)² − σ² k) / Σ n for known m, (Σ n (x̄ − x̄̄)² − σ² (k − 1)) / (N − Σ n² / N) for a shared mean.
    """
    w, w2, x, squared, prior = _seen(weight > 0, weight, weight_squares, total, squared, prior)
    freedom = float((w - w2 / w).sum()) if len(w) else 0.0
    if len(w) < 2 or freedom <= 1e-9:
        return MOST
    within = max(0.0, float((squared - x * x / w).sum())) / freedom
    n, mean = effective(w, w2), x / w
    if prior is None:
        centre = float((n * mean).sum() / n.sum())
        above = float((n * (mean - centre) ** 2).sum()) - within * (len(n) - 1)
        scale = float(n.sum() - (n * n).sum() / n.sum())
    else:
        above = float((n * (mean - prior) ** 2).sum()) - within * len(n)
        scale = float(n.sum())
    if above <= 0 or scale <= 0:
        return MOST
    return float(np.clip(within * scale / above, LEAST, MOST))


def _seen(seen: npt.NDArray[np.bool_], *columns: Doubles | None) -> tuple[Any, ...]:
    """The rows of columns that were seen; no copy is made where all were, which is common and where time goes."""
    if seen.all():
        return columns
    return tuple(None if column is None else column[seen] for column in columns)
