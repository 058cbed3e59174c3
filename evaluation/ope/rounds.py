"""A log of decisions as arrays: what was chosen, with which probability, what came of it, what another policy would do.

Notable: no table, bundle or model is known here. A round is one decision: of a contact x somebody, a, was chosen with
probability π₀(a | x), and the reward r came; the policy that is judged would have chosen a with π(a | x). Everything an
estimator needs are numbers of that kind, one a round, so estimators are tested by enumeration, without a log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from twotower.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rounds:
    """n rounds, arrays (n,). Raises DataError, which names the first round that cannot be."""

    reward: Floats
    propensity: Floats
    """π₀(a | x) of who was chosen, in (0, 1]."""
    target: Floats
    """π(a | x) of the policy that is judged, for who was chosen, in [0, 1]."""
    q_logged: Floats | None = None
    """q̂(x, a), what a model that did not see this round expects of it."""
    q_target: Floats | None = None
    """Σ_a π(a | x) q̂(x, a), what it expects under the policy that is judged."""
    marginal: Floats | None = None
    """w(x, e) = π(e | x) / π₀(e | x) of the embedding e of who was chosen (marginal.py)."""
    cluster: Ints | None = None
    """What is drawn together, such as the customer; None: every round is drawn alone."""

    def __post_init__(self) -> None:
        size = len(self.reward)
        if not size:
            raise DataError("rounds: there are none; choose a longer window")
        for name, low, high, expected in (
            ("reward", -np.inf, np.inf, "a finite number"),
            ("propensity", 0.0, 1.0, "a probability in (0, 1]"),
            ("target", 0.0, 1.0, "a probability in [0, 1]"),
            ("q_logged", -np.inf, np.inf, "a finite number"),
            ("q_target", -np.inf, np.inf, "a finite number"),
            ("marginal", 0.0, np.inf, "a weight of 0 or more"),
        ):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != size:
                raise DataError(f"rounds: {name} has {len(values)} values, reward {size}; give one of each a round")
            good = np.isfinite(values) & (values >= low) & (values <= high + 1e-9)
            good &= (values > 0) if name == "propensity" else True
            if not good.all():
                row = int(np.argmin(good))
                raise DataError(f"rounds, round {row}: {name} {values[row]:g}; {expected} was expected")
        if self.cluster is not None and len(self.cluster) != size:
            raise DataError(f"rounds: cluster has {len(self.cluster)} values, reward {size}; give one of each a round")

    def __len__(self) -> int:
        return len(self.reward)

    @cached_property
    def weight(self) -> Floats:
        """(n,) w = π(a | x) / π₀(a | x); its expectation is 1 where π goes nowhere that π₀ does not."""
        return np.asarray(self.target / self.propensity)

    def take(self, rows: Ints | Flags) -> Rounds:
        """Those at `rows`, or where a mask holds."""
        arrays = {name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        arrays.pop("weight", None)
        return replace(self, **arrays)


@dataclass(frozen=True)
class Pairs:
    """Who could have been chosen: n lists of CSA codes, each with the one who was, in flat arrays (P,)."""

    offsets: Ints
    """(n + 1,) list i is `csa[offsets[i]:offsets[i + 1]]`; none is empty."""
    csa: Ints
    """(P,) codes, distinct within a list."""
    own: Ints
    """(n,) positions in `csa` of who was chosen."""

    def __len__(self) -> int:
        return len(self.own)

    @cached_property
    def lengths(self) -> Ints:
        """(n,) how many could have been chosen."""
        return np.diff(self.offsets)

    @cached_property
    def row(self) -> Ints:
        """(P,) which list each stands in."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def total(self, values: Floats) -> Floats:
        """(n,) sums of values (P,) over each list."""
        return np.asarray(np.add.reduceat(values, self.offsets[:-1]), np.float64)

    def largest(self, values: Floats) -> Floats:
        """(n,) the largest of values (P,) in each list."""
        return np.asarray(np.maximum.reduceat(values, self.offsets[:-1]), np.float64)

    def softmax(self, score: Floats) -> Floats:
        """(P,) softmax of scores (P,) over each list."""
        p = np.exp(score - self.largest(score)[self.row])
        return np.asarray(p / self.total(p)[self.row])

    def greedy(self, score: Floats) -> Floats:
        """(P,) 1 for the first of the largest scores (P,) of each list, else 0."""
        at = np.flatnonzero(score == self.largest(score)[self.row])
        first = at[np.append(True, np.diff(self.row[at]) > 0)]
        found = np.zeros(len(self.csa))
        found[first] = 1.0
        return found

    def take(self, rows: Ints) -> tuple[Pairs, Ints]:
        """The lists at `rows`, and where their pairs stood, (p,)."""
        lengths = self.lengths[rows]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        own = self.own[rows] - self.offsets[:-1][rows] + offsets[:-1]
        return Pairs(offsets, self.csa[at], own), at
