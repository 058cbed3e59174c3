"""The memory of one contact's candidates: which rows count now, and their sums by CSA.

Notable: a contact's rows are gathered before anything is computed on them, so its numbers come from the rows
known before it arrived and from nothing else. Rows that become known later do not merely weigh zero, they do not
take part in the arithmetic, and removing them from the tables changes no bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twotower.clock import NEVER, NULL_TIME, SECOND
from twotower.scoring.kernels import Floats, Kernel, empty_value, finish, segment_sums, similarity_weight
from twotower.scoring.rows import HistoryRows

Runs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
PER_CUSTOMER = 64  # hand-overs remembered of one customer; more are older than any half-life that measured well


def ranges(begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    """Positions of runs [begin, end) one after another and, for each position, the index of the run it belongs to."""
    lengths = end - begin
    owner = np.repeat(np.arange(len(lengths)), lengths)
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(begin - (ends - lengths), lengths), owner


@dataclass(frozen=True)
class Gathered:
    """Visible rows of one contact: their positions, the candidate that owns each, cosine f4[n] and age f4[n] in s."""

    index: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]
    cosine: Floats
    age_s: Floats


class Memory:
    """Rows by CSA and, where the caller may know customers, rows by customer.

    rows: sorted by (csa, known_at). pairs: the unbounded hand-overs of returning customers in any order, or None.
    roster: number of CSAs, codes 0 … roster − 1. runs: where the rows of each CSA begin and end (J,), if they do not
    simply follow each other; rows outside of the runs are not read. most: how many rows of a run count at a moment, the
    latest that were known; None: all that say so themselves (`until`).
    """

    def __init__(
        self,
        rows: HistoryRows,
        roster: int,
        pairs: HistoryRows | None = None,
        runs: Runs | None = None,
        most: int | None = None,
    ) -> None:
        self.rows = rows
        self.roster = roster
        self._whole, self._most = runs is None, most
        if runs is None:
            starts = np.searchsorted(rows.csa, np.arange(roster + 1)).astype(np.int64)
            runs = starts[:-1], starts[1:]
            # At a moment between these two every row is seen.
            self._newest, self._oldest = int(rows.known_at.max(initial=NULL_TIME)), int(rows.until.min(initial=NEVER))
        else:
            self._newest, self._oldest = NEVER, NULL_TIME
        self.begin, self.end = runs
        self.pairs: HistoryRows | None = None
        if pairs is not None:
            known = np.flatnonzero(pairs.customer >= 0)
            order = known[np.lexsort((pairs.contact[known], pairs.known_at[known], pairs.customer[known]))]
            self.pairs = pairs.take(order)
            customers = int(self.pairs.customer.max(initial=-1)) + 1
            self._pair_starts = np.searchsorted(self.pairs.customer, np.arange(customers + 1)).astype(np.int64)

    def gather(self, vector: Floats, moment: int, candidates: npt.NDArray[np.int64]) -> Gathered:
        """Rows of the candidates that are visible at a moment, for a contact vector (Q,)."""
        everyone = len(candidates) == self.roster and np.array_equal(candidates, np.arange(self.roster))
        if everyone and self._whole:
            index, owner = np.arange(len(self.rows)), self.rows.csa.astype(np.int64)
        else:
            index, owner = ranges(self.begin[candidates], self.end[candidates])
        if not self._newest < moment <= self._oldest:
            seen = (self.rows.known_at[index] < moment) & (moment <= self.rows.until[index])
            index, owner = index[seen], owner[seen]
        if self._most is not None:
            index, owner = _latest(index, owner, len(candidates), self._most)
        return self._measure(self.rows, index, owner, vector, moment)

    def gather_pairs(self, customer: int, vector: Floats, moment: int, candidates: npt.NDArray[np.int64]) -> Gathered:
        """The customer's own visible hand-overs with the candidates; empty for an unknown customer (−1)."""
        none = np.zeros(0, np.int64)
        if self.pairs is None or not 0 <= customer < len(self._pair_starts) - 1:
            return Gathered(none, none, np.zeros(0, np.float32), np.zeros(0, np.float32))
        index = np.arange(self._pair_starts[customer], self._pair_starts[customer + 1])
        index = index[self.pairs.known_at[index] < moment][-PER_CUSTOMER:]
        place = np.full(self.roster, -1, dtype=np.int64)
        place[candidates] = np.arange(len(candidates))
        owner = place[self.pairs.csa[index]]
        index, owner = index[owner >= 0], owner[owner >= 0]
        order = np.argsort(owner, kind="stable")
        return self._measure(self.pairs, index[order], owner[order], vector, moment)

    @staticmethod
    def _measure(
        rows: HistoryRows, index: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], vector: Floats, moment: int
    ) -> Gathered:
        cosine = rows.products(index, vector)
        age_s = ((moment - np.take(rows.known_at, index)) / SECOND).astype(np.float32)
        return Gathered(index, owner, cosine, age_s)

    def parts(
        self,
        kernels: Sequence[Kernel],
        vector: Floats,
        customer: int,
        moment: int,
        candidates: npt.NDArray[np.int64],
    ) -> Floats:
        """Values (C, len(kernels)) float32 of the kernels for one contact and C candidate CSAs.

        vector (Q,) unit length; customer as in `pairs` (−1 unknown); moment µs; candidates i8[C], distinct codes.
        """
        out = np.empty((len(candidates), len(kernels)), dtype=np.float32)
        own = self.gather(vector, moment, candidates) if any(k.scope == "csa" for k in kernels) else None
        pair = (
            self.gather_pairs(customer, vector, moment, candidates) if any(k.scope == "pair" for k in kernels) else None
        )
        for scope, rows, found in (("csa", self.rows, own), ("pair", self.pairs, pair)):
            columns = [i for i, k in enumerate(kernels) if k.scope == scope]
            if found is None or rows is None or not len(found.index):
                for i in columns:
                    out[:, i] = empty_value(kernels[i])
                continue
            starts = np.searchsorted(found.owner, np.arange(len(candidates) + 1)).astype(np.int64)
            for statistic in ("mass", "residual"):
                some = [i for i in columns if kernels[i].statistic == statistic]
                if some:
                    out[:, some] = _parts([kernels[i] for i in some], rows, found, starts).T
        return out


def _latest(
    index: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], owners: int, most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The last `most` entries of each owner; entries of an owner stand together, in ascending order of owners."""
    counts = np.bincount(owner, minlength=owners)
    if counts.max(initial=0) <= most:
        return index, owner
    kept = np.cumsum(counts)[owner] - np.arange(len(owner)) <= most
    return index[kept], owner[kept]


def _parts(kernels: Sequence[Kernel], rows: HistoryRows, found: Gathered, starts: npt.NDArray[np.int64]) -> Floats:
    """Values (K, C) of kernels of one statistic."""
    weight = np.stack([similarity_weight(kernel, found.cosine, found.age_s) for kernel in kernels])
    if kernels[0].statistic == "mass":
        weight *= np.take(rows.weight, found.index)
        mass = residual = segment_sums(weight, starts)
    else:
        weight *= np.take(rows.outcome, found.index)
        mass = segment_sums(weight, starts)
        weight *= np.take(rows.residual, found.index)
        residual = segment_sums(weight, starts)
    return np.stack([finish(kernel, m, r) for kernel, m, r in zip(kernels, mass, residual, strict=True)])
