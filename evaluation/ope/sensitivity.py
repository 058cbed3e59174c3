"""How wrong estimated propensities may be before a conclusion falls: bounds under the marginal sensitivity model.

A queue may choose by what no table holds, u. The model says how much that can matter, by one number Λ ≥ 1: the odds of
the true π₀(a | x, u) and of the estimated π₀(a | x) differ by a factor between 1/Λ and Λ. Then a weight
w = π(a | x) / π₀(a | x, u) lies in

    π(a | x) · [1 + (1/π₀ − 1) / Λ,  1 + (1/π₀ − 1) · Λ]

and the largest and the smallest self-normalised estimate, Σ w r / Σ w over all such w, is a linear-fractional program
whose solution is a threshold: all rewards above it have their largest weights, all below their smallest (Zhao, Small
and Bhattacharya, proposition 2). They are sharp for that estimate. Λ = 1 is the estimate itself.

Notable: with r − q̂(x, a) in place of r, and the mean of q̂(x, π) added, the same program bounds a doubly robust
estimate: under the true weights Σ w q̂(x, a) / Σ w tends to the mean of q̂(x, π) whatever q̂ is, and what the model
explains cannot be confounded away, so these bounds are the narrower.

Sources: Tan, "A distributional approach for causal inference using propensity scores", JASA 101, 2006; Zhao, Small and
Bhattacharya, "Sensitivity analysis for inverse probability weighting estimators via the percentile bootstrap", JRSS B
81, 2019, whose percentile bootstrap of the bounds gives the intervals here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.ope.rounds import Floats, Ints, Rounds
from twotower.errors import ConfigError

Counts = npt.NDArray[np.uint16]
LAMBDAS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0)
MOST = 50.0
"""Λ up to which the flip is looked for."""


@dataclass(frozen=True)
class Bound:
    """What an estimate can be at one Λ, `low` … `high`, and the 95 % interval of that range, `outer_*`."""

    strength: float
    """Λ."""
    low: float
    high: float
    outer_low: float
    outer_high: float


@dataclass(frozen=True)
class Sensitivity:
    """Bounds of the difference between a policy and the log's own, by Λ; `flips` is the smallest Λ (to 1 %) at which
    the interval of the range holds 0, so that nothing is concluded any more: 1 where it did from the start, ∞ where it
    does not up to `MOST`."""

    bounds: tuple[Bound, ...]
    flips: float
    estimator: str = "dr"
    """Of which the bounds are: `dr`, or `snips`."""


def weight_box(rounds: Rounds, strength: float) -> tuple[Floats, Floats]:
    """Smallest and largest weights (n,) each at one Λ. Raises ConfigError for Λ < 1."""
    if not 1 <= strength < np.inf:
        raise ConfigError(f"sensitivity: Λ = {strength:g}; a finite number of 1 or more is expected")
    odds = 1 / rounds.propensity - 1
    return rounds.target * (1 + odds / strength), rounds.target * (1 + odds * strength)


def ratio_bounds(values: Floats, low: Floats, high: Floats, many: Floats | None = None) -> tuple[float, float]:
    """The least and the largest Σ m w v / Σ m w over weights low ≤ w ≤ high, each (n,); m = `many`, all 1 if None.

    n log n by sorting. NaN where all weights are 0.
    """
    order = np.argsort(values, kind="stable")
    count = np.ones(len(values)) if many is None else many[order]
    return _extremes(values[order], low[order] * count, high[order] * count)


def _extremes(v: Floats, low: Floats, high: Floats) -> tuple[float, float]:
    """Of sorted values: the k smallest have one weight and the others the other; the best k of all n + 1."""
    if not high.sum() > 0:
        return float("nan"), float("nan")
    cuts = []
    for first, rest in ((high, low), (low, high)):
        above = np.concatenate(([0.0], np.cumsum(first * v))) + _after(rest * v)
        below = np.concatenate(([0.0], np.cumsum(first))) + _after(rest)
        cuts.append(np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0))
    return float(np.nanmin(cuts[0])), float(np.nanmax(cuts[1]))


def _after(x: Floats) -> Floats:
    """(n + 1,) sums of what is from each place on."""
    return np.concatenate((np.cumsum(x[::-1])[::-1], [0.0]))


def sensitivity(
    rounds: Rounds,
    strengths: Sequence[float] = LAMBDAS,
    doubly: bool = True,
    confidence: float = 0.95,
    draws: int = 200,
    seed: int = 0,
) -> Sensitivity:
    """Bounds of V̂(π) − mean r by Λ, and where they first hold 0.

    doubly: of the doubly robust estimate where the rounds have q̂, else of SNIPS; draws: of the bootstrap over clusters.
    """
    curve = _Curve(rounds, doubly, confidence, draws, seed)
    bounds = tuple(curve.at(one) for one in strengths)
    return Sensitivity(bounds, curve.flip(), "dr" if curve.doubly else "snips")


class _Curve:
    """Bounds at any Λ, with the same draws at each, so that the range only grows with Λ."""

    def __init__(self, rounds: Rounds, doubly: bool, confidence: float, draws: int, seed: int) -> None:
        values, base = rounds.reward, -rounds.reward
        self.doubly = doubly and rounds.q_logged is not None and rounds.q_target is not None
        if self.doubly and rounds.q_logged is not None and rounds.q_target is not None:
            values, base = rounds.reward - rounds.q_logged, rounds.q_target - rounds.reward
        order = np.argsort(values, kind="stable")
        self._rounds, self._values, self._base = rounds.take(order), values[order], base[order]
        self._tail = (1 - confidence) / 2
        self._counts = _drawn(self._rounds, draws, seed)

    def at(self, strength: float) -> Bound:
        """The bound at one Λ."""
        low, high = weight_box(self._rounds, strength)
        kept = np.flatnonzero(high > 0)
        counts: list[Floats | Counts] = [np.ones(len(self._base)), *self._counts]
        each = [self._range(low, high, kept, count) for count in counts]
        here = np.array(each)
        outer_low, outer_high = np.nan, np.nan
        if len(here) > 1:
            outer_low, outer_high = (
                float(np.nanquantile(here[1:, 0], self._tail)), float(np.nanquantile(here[1:, 1], 1 - self._tail))
            )  # fmt: skip
        return Bound(strength, float(here[0, 0]), float(here[0, 1]), outer_low, outer_high)

    def _range(self, low: Floats, high: Floats, kept: Ints, count: Floats | Counts) -> tuple[float, float]:
        least, most = _extremes(self._values[kept], low[kept] * count[kept], high[kept] * count[kept])
        level = float((count * self._base).sum() / count.sum())
        return least + level, most + level

    def flip(self) -> float:
        """The smallest Λ whose interval holds 0, by bisection in log Λ."""
        if self._holds(1.0):
            return 1.0
        low, high = 1.0, MOST
        if not self._holds(high):
            return float("inf")
        while high / low > 1.01:
            middle = float(np.sqrt(low * high))
            low, high = (low, middle) if self._holds(middle) else (middle, high)
        return high

    def _holds(self, strength: float) -> bool:
        bound = self.at(strength)
        ends = (bound.outer_low, bound.outer_high) if len(self._counts) else (bound.low, bound.high)
        return not (ends[0] > 0 or ends[1] < 0)


def _drawn(rounds: Rounds, draws: int, seed: int) -> list[Counts]:
    """How often each round is in each draw of clusters, in two bytes each."""
    random = np.random.default_rng(seed)
    code = np.arange(len(rounds)) if rounds.cluster is None else np.unique(rounds.cluster, return_inverse=True)[1]
    code = code.reshape(-1)
    size = int(code.max()) + 1
    return [np.bincount(random.integers(0, size, size), minlength=size)[code].astype(np.uint16) for _ in range(draws)]
