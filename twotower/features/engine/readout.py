"""What an engine says of every CSA at a moment, before anything is made of it, and the rates and means of units.

Notable: features are made of readings in `engine/record.py`; what a CSA is like for a group, such as an intent, in
`engine/groups.py`. What a number is shrunk towards, and how strongly, is estimated from all CSAs; it is kept apart from
the readings (`Priors`), so that one CSA whose hand-over has just ended can be read alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from twotower.features.engine.shrink import mean_strength, rate_strength

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Estimate = TypeVar("Estimate")


class Priors:
    """What was estimated from all CSAs at a moment: centres and strengths.

    Empty to begin with; an estimate is made from the reading that first asks for it. So features of one CSA, computed
    with the priors of an earlier reading of all, are those that all would have given them, to the bit.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def of(self, key: Hashable, estimate: Callable[[], Estimate]) -> Estimate:
        """The estimate that is known by a key, made now if it is not there."""
        if key not in self._kept:
            self._kept[key] = estimate()
        kept: Estimate = self._kept[key]
        return kept


@dataclass(frozen=True)
class GroupReading:
    """Decayed sums of the n cells of a family that were ever seen, sorted: `csa`, `code` i8[n], `sums` f8[n, 8] by
    `GROUP_SUMS`, which lie column by column, as they are worked on; `codes` how many codes the family has."""

    csa: Longs
    code: Longs
    sums: Doubles
    codes: int


@dataclass(frozen=True)
class CsaReading:
    """Everything about J CSAs as of `moment` (µs), for H half-lives.

    `counts` i8[J, 7] by `COUNTS`, not decayed; `sums` f8[J, H, 16] by `SUMS`, `squares` f8[J, H, 6] of weights by
    `SQUARES`; `embeddings` f8[J, 2, H, K] sums over what was not known to fail, and over what failed; `load` f8[J, A]
    hand-overs assigned, decayed; `work` i8[J, 2] assigned and ended; `first`, `last` i8[J] µs, `NEVER` and `NULL_TIME`
    for a CSA without a past; `groups` the families that were asked for.
    """

    moment: int
    counts: Longs
    sums: Doubles
    squares: Doubles
    embeddings: Doubles
    load: Doubles
    work: Longs
    first: Longs
    last: Longs
    groups: dict[str, GroupReading] = field(default_factory=dict)

    @property
    def open(self) -> Longs:
        """Hand-overs (J,) assigned and not ended; 0 where more ended than were told to begin."""
        return np.asarray((self.work[:, 0] - self.work[:, 1]).clip(0))


def centre_rate(successes: Doubles, trials: Doubles) -> float:
    """The rate of all together, by Laplace's rule so that it is never 0 or 1."""
    return float((successes.sum() + 1) / (trials.sum() + 2))


def centre_mean(total: Doubles, weight: Doubles) -> float:
    """The mean of all together, 0 where nothing was seen."""
    return float(total.sum() / weight.sum()) if weight.sum() > 0 else 0.0


def rate_prior(successes: Doubles, trials: Doubles, size: Doubles) -> tuple[float, float]:
    """The centre and the strength that rates of units are shrunk by."""
    return centre_rate(successes, trials), rate_strength(successes, trials, size)


def mean_prior(total: Doubles, squared: Doubles, weight: Doubles, squares: Doubles) -> tuple[float, float]:
    """The centre and the strength that means of units are shrunk by."""
    return centre_mean(total, weight), mean_strength(total, squared, weight, squares)
