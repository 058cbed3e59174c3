"""Ranking metrics, outcome metrics and their intervals, in numpy.

Notable: ties are never broken in anybody's favour. A positive that ties with others gets the rank it would have on
average over random orders of the tie, so a scorer that says the same of everybody scores like chance. Intervals are
percentile bootstraps over contacts; every metric of one table is resampled with the same draws, so differences
between rankers are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.errors import ConfigError, DataError

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer[Any]]

CUT = 10
HITS = (1, 3, 5, 10)
CELLS = 1 << 23  # comparisons held at once


@dataclass(frozen=True)
class RankedBlock:
    """How the positives of B contacts were ranked.

    `first` f8[B]: expected rank (from 1) of the best positive, inf where no positive is a candidate. `ndcg` f8[B]: nDCG
    at `CUT`, NaN where the contact has no positive.
    """

    first: npt.NDArray[np.float64]
    ndcg: npt.NDArray[np.float64]


def rank_positives(scores: Floats, positives: Bools, candidates: Bools | None = None, cut: int = CUT) -> RankedBlock:
    """Rank each contact's positives among its candidates.

    With g candidates above the best positive, m positives and n other candidates tied at its score, its expected rank
    over random orders of the tie is 1 + g + n / (m + 1); that is 1 + g + n / 2 for a single positive. nDCG has gain 1
    per positive and discount 1 / log2(1 + rank), averaged over the places of a tie (McSherry & Najork 2008); its ideal
    counts every positive, candidate or not.

    Args:
        scores: (B, J), higher is better; -inf is below everything: a positive there is not found.
        positives: (B, J).
        candidates: (B, J), all if None. Who is no candidate takes no place.
        cut: the k of nDCG@k.

    Raises:
        DataError: shapes differ, or a score is NaN.
    """
    if scores.shape != positives.shape or (candidates is not None and candidates.shape != scores.shape):
        raise DataError(f"scores have shape {scores.shape} but positives {positives.shape}; give one mask per score")
    if np.isnan(scores).any():
        raise DataError(f"row {int(np.argwhere(np.isnan(scores))[0][0])} of the scores holds a NaN; scores are numbers")
    if candidates is not None:
        scores = np.where(candidates, scores, -np.inf)
    row, column = np.nonzero(positives)
    own = scores[row, column].astype(np.float64)
    above, tied, tied_positives = _places(scores, positives, row, own)
    found = own > -np.inf
    expected = np.where(found, 1 + above + (tied - tied_positives) / (tied_positives + 1), np.inf)
    first = np.full(len(scores), np.inf)
    # Tied best positives share one expectation, so the minimum over positives is the best one's.
    np.minimum.at(first, row, expected)
    return RankedBlock(first, _ndcg(row, found, above, tied, positives.sum(axis=1), cut))


def _places(scores: Floats, positives: Bools, row: Ints, own: Floats) -> tuple[Floats, Floats, Floats]:
    """For each positive: candidates above it, candidates at its score (itself included), positives among those."""
    above, tied, tied_positives = (np.zeros(len(row)) for _ in range(3))
    step = max(1, CELLS // max(1, scores.shape[1]))
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        others = scores[row[part]]
        equal = others == own[part, None]
        above[part] = (others > own[part, None]).sum(axis=1)
        tied[part] = equal.sum(axis=1)
        tied_positives[part] = (equal & positives[row[part]]).sum(axis=1)
    return above, tied, tied_positives


def _ndcg(row: Ints, found: Bools, above: Floats, tied: Floats, counts: Ints, cut: int) -> npt.NDArray[np.float64]:
    gained = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, cut + 2)))])
    high = np.minimum(above + tied, cut).astype(int)
    low = np.minimum(above, cut).astype(int)
    discount = np.where(found, (gained[high] - gained[low]) / np.maximum(tied, 1), 0.0)
    total = np.bincount(row, weights=discount, minlength=len(counts))
    ideal = gained[np.minimum(counts, cut)]
    out = np.full(len(counts), np.nan)
    np.divide(total, ideal, out=out, where=ideal > 0)
    return out


def hit(first: Floats, k: int) -> npt.NDArray[np.float64]:
    """1 where the best positive's expected rank is at most k; shape of `first`."""
    return (first <= k).astype(np.float64)


def reciprocal(first: Floats, cut: int | None = CUT) -> npt.NDArray[np.float64]:
    """1 / rank of the best positive, 0 beyond rank `cut` (None: not cut); shape of `first`. Its mean is MRR@cut."""
    values = 1.0 / first.astype(np.float64)
    return values if cut is None else np.where(first <= cut, values, 0.0)


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; `low` and `high` are NaN where there was too little to resample."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


class Bootstrap:
    """Percentile bootstrap over n units (contacts), the same draws for whatever it is asked.

    Efron & Tibshirani 1993, chapter 13. Units are resampled with replacement; `draws` times, from `seed`.
    """

    def __init__(self, n: int, seed: int = 0, draws: int = 1000, confidence: float = 0.95) -> None:
        if n < 0 or draws < 1 or not 0 < confidence < 1:
            raise ConfigError(f"bootstrap over n={n}, draws={draws}, confidence={confidence}: not possible")
        self.n, self.seed, self.draws, self.confidence = n, seed, draws, confidence

    def _blocks(self) -> Iterator[Floats]:
        """How often each draw holds each unit, some draws at a time."""
        generator = np.random.default_rng(self.seed)
        step = max(1, CELLS // max(1, self.n))
        for start in range(0, self.draws, step):
            count = min(step, self.draws - start)
            drawn = generator.integers(0, max(1, self.n), size=(count, self.n))
            flat = drawn + (np.arange(count) * self.n)[:, None]
            yield np.bincount(flat.ravel(), minlength=count * self.n).reshape(count, self.n).astype(np.float64)

    def mean(self, values: Floats) -> Interval:
        """The mean of one number per unit, with its interval."""
        return self.means(values[:, None])[0]

    def means(self, columns: Floats) -> list[Interval]:
        """The mean of each column of (n, m), with its interval; NaN marks a unit that says nothing in that column."""
        known = ~np.isnan(columns)
        filled = np.where(known, columns, 0.0)

        def ratio(weights: Floats) -> Floats:
            size = weights @ known.astype(np.float64)
            out = np.full(size.shape, np.nan)
            np.divide(weights @ filled, size, out=out, where=size > 0)
            return out

        return self.statistic(ratio)

    def statistic(self, function: Callable[[Floats], Floats]) -> list[Interval]:
        """Intervals of m statistics that `function` computes from unit weights: (draws, n) → (draws, m)."""
        values = function(np.ones((1, self.n)))[0]
        if self.n < 2:
            return [Interval(float(value), float("nan"), float("nan")) for value in values]
        sampled = np.concatenate([function(block) for block in self._blocks()], axis=0)
        tail = (1 - self.confidence) / 2
        out = []
        for value, column in zip(values, sampled.T, strict=True):
            kept = column[~np.isnan(column)]
            low, high = np.quantile(kept, [tail, 1 - tail]) if len(kept) else (np.nan, np.nan)
            out.append(Interval(float(value), float(low), float(high)))
        return out

    def difference(self, left: Floats, right: Floats) -> Interval:
        """Mean of `left − right`, paired by unit, with its interval."""
        return self.mean(left - right)


def auc(scores: Floats, outcomes: Bools, weights: Floats | None = None) -> float:
    """Area under the ROC curve: P(a success scores above a failure), ties count half (Mann & Whitney 1947).

    Args:
        scores: (n,), higher means success is likelier.
        outcomes: (n,) bool.
        weights: (n,) >= 0, all 1 if None.

    Returns:
        NaN where successes or failures are missing.
    """
    level = np.unique(scores, return_inverse=True)[1]
    weight = np.ones(len(scores)) if weights is None else weights
    return float(auc_of_levels(level.reshape(-1), outcomes, weight[None])[0])


def auc_of_levels(level: Ints, outcomes: Bools, weights: Floats) -> npt.NDArray[np.float64]:
    """`auc` of scores given as dense ranks `level` (n,), for each row of `weights` (draws, n); returns (draws,)."""
    size = int(level.max()) + 1 if len(level) else 0
    out = np.full(len(weights), np.nan)
    for draw, weight in enumerate(weights):
        good = np.bincount(level[outcomes], weights=weight[outcomes], minlength=size)
        bad = np.bincount(level[~outcomes], weights=weight[~outcomes], minlength=size)
        pairs = good.sum() * bad.sum()
        if pairs > 0:
            out[draw] = (good * (np.cumsum(bad) - bad / 2)).sum() / pairs
    return out


def log_losses(probabilities: Floats, outcomes: Bools) -> npt.NDArray[np.float64]:
    """−log of the probability given to what happened, in nats, per hand-over; probabilities are clipped at 1e-7."""
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.where(outcomes, -np.log(p), -np.log1p(-p))


@dataclass(frozen=True)
class Reliability:
    """Calibration in bins of nearly equal count: `count` i8[K], mean `predicted` f8[K], mean `observed` f8[K]."""

    count: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: Σ count/n · |predicted − observed| (Naeini et al. 2015, equal-count bins)."""
        if not self.count.sum():
            return float("nan")
        return float((self.count * np.abs(self.predicted - self.observed)).sum() / self.count.sum())


def reliability(probabilities: Floats, outcomes: Bools | Floats, bins: int = 10) -> Reliability:
    """Reliability bins of P(resolved); equal probabilities never fall into different bins, so there may be fewer.

    outcomes (n,): what happened, or true probabilities where these are known.
    """
    if bins < 1:
        raise ConfigError(f"bins={bins}: at least one bin is needed")
    if not len(probabilities):
        return Reliability(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    p = probabilities.astype(np.float64)
    # Edges are probabilities that occur, so that rounding cannot split a tie.
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins, method="higher"))
    which = np.unique(np.searchsorted(edges, p, side="right"), return_inverse=True)[1].reshape(-1)
    count = np.bincount(which)
    return Reliability(count, np.bincount(which, p) / count, np.bincount(which, outcomes) / count)
