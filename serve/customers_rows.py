"""The latest hand-overs of each customer, as the join's pairing kernels read them.

Notable: what was loaded lies in flat arrays and is never moved; a customer who comes back gets a small copy of their
own, which is replaced as a whole. A file of millions of rows so opens without a Python object for each customer, and an
update costs what one customer has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.clock import NEVER
from twotower.errors import DataError
from twotower.scoring.join import sigmoid
from twotower.scoring.memory import PER_CUSTOMER, Memory, ranges
from twotower.scoring.rows import Bytes, HistoryRows, quantised

Codes = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Remembered:
    """H hand-overs: `csa` i4 (positions of the store), `known_at` i8 µs, `resolved` i1 (−1 null), `residual` f4
    (resolved − expected, 0 where null), `code` i1 (H, Q) and `scale` f4, the contact's vector as in `HistoryRows`."""

    csa: Codes
    known_at: Longs
    resolved: npt.NDArray[np.int8]
    residual: Floats
    code: Bytes
    scale: Floats

    def __len__(self) -> int:
        return len(self.csa)

    @classmethod
    def of(
        cls, csa: Codes, known_at: Longs, resolved: npt.NDArray[np.int8], level: Floats, vector: Floats
    ) -> Remembered:
        """With residuals against what was expected of the contacts, σ(level (H,)), before anybody took them."""
        residual = np.where(resolved >= 0, resolved - sigmoid(level), 0).astype(np.float32)
        return cls(csa.astype(np.int32), known_at, resolved, residual, *quantised(vector))

    @classmethod
    def none(cls, width: int) -> Remembered:
        """No hand-over, of vectors of a width."""
        empty = np.empty(0, np.float32)
        return cls(
            np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int8), empty,
            np.empty((0, width), np.int8), empty,
        )  # fmt: skip

    def take(self, rows: slice | npt.NDArray[np.signedinteger[Any]]) -> Remembered:
        """Some of them, in that order."""
        return Remembered(*(getattr(self, field.name)[rows] for field in fields(self)))

    def followed_by(self, *others: Remembered) -> Remembered:
        """These and then the others."""
        parts = (self, *others)
        return Remembered(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(self)))

    def history(self, csa_ids: Sequence[str], roster: Mapping[str, int]) -> HistoryRows:
        """As rows of a memory over a roster (id → code), without those whose CSA is not on it; a copy."""
        codes = np.array([roster.get(csa_ids[code], -1) for code in self.csa.tolist()], dtype=np.int32)
        kept = self.take(there := np.flatnonzero(codes >= 0))
        return HistoryRows(
            csa=codes[there],
            known_at=kept.known_at,
            until=np.full(len(kept), NEVER),
            code=kept.code,
            scale=kept.scale,
            residual=kept.residual,
            outcome=(kept.resolved >= 0).astype(np.float32),
            weight=(kept.resolved != 0).astype(np.float32),
            customer=np.zeros(len(kept), np.int32),
            contact=np.full(len(kept), -1, np.int64),
        )


class RowsByCustomer:
    """Hand-overs by customer, at most `PER_CUSTOMER` of each, in the order in which they became known.

    rows: those of customer 0, then of customer 1, …; counts (C,) how many each has. Raises DataError where these do
    not fit.
    """

    def __init__(self, rows: Remembered, counts: Longs) -> None:
        if counts.sum() != len(rows) or (counts < 0).any() or (counts > PER_CUSTOMER).any():
            raise DataError(f"{len(rows)} hand-overs where {counts.sum()} are expected")
        self._rows = rows
        self._starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        self._changed: dict[int, Remembered] = {}

    @property
    def width(self) -> int:
        """Q of the vectors."""
        return int(self._rows.code.shape[1])

    def of(self, customer: int) -> Remembered:
        """A customer's hand-overs; not to be written to."""
        if customer in self._changed:
            return self._changed[customer]
        if customer >= len(self._starts) - 1:
            return Remembered.none(self.width)
        return self._rows.take(slice(int(self._starts[customer]), int(self._starts[customer + 1])))

    def add(self, customer: int, row: Remembered) -> None:
        """One more hand-over of a customer, put where its time belongs; the oldest goes where there are too many."""
        have = self.of(customer)
        both = have.followed_by(row)
        if len(have) and row.known_at[0] < have.known_at[-1]:
            both = both.take(np.argsort(both.known_at, kind="stable"))
        self._changed[customer] = both.take(slice(-PER_CUSTOMER, None))

    def forget(self, customer: int) -> None:
        """Leave nothing of a customer, here and in the arrays that were loaded."""
        if customer < len(self._starts) - 1:
            mine = slice(int(self._starts[customer]), int(self._starts[customer + 1]))
            for field in fields(Remembered):
                getattr(self._rows, field.name)[mine] = 0
        self._changed[customer] = Remembered.none(self.width)

    def copy(self) -> RowsByCustomer:
        """The same, which goes its own way; what was loaded is shared, and `forget` of either reaches both."""
        twin = copy(self)
        twin._changed = dict(self._changed)
        return twin

    def counts(self) -> Longs:
        """How many each customer has."""
        have = np.diff(self._starts)
        counts = np.zeros(max([len(have), *(customer + 1 for customer in self._changed)]), np.int64)
        counts[: len(have)] = have
        counts[list(self._changed)] = [len(rows) for rows in self._changed.values()]
        return counts

    def gathered(self, customers: Longs) -> tuple[Remembered, Longs]:
        """The hand-overs of customers, one after another, and how many each has."""
        changed = np.isin(customers, np.fromiter(self._changed, np.int64, len(self._changed)))
        kept = np.flatnonzero(~changed & (customers < len(self._starts) - 1))
        index, place = ranges(self._starts[customers[kept]], self._starts[customers[kept] + 1])
        other = [(position, self._changed[int(customers[position])]) for position in np.flatnonzero(changed)]
        rows = self._rows.take(index).followed_by(*(part for _, part in other))
        owner = np.concatenate([kept[place], *(np.full(len(part), position) for position, part in other)])
        order = np.argsort(owner, kind="stable")
        return rows.take(order), np.bincount(owner, minlength=len(customers)).astype(np.int64)


class MemoryOfOne(Memory):
    """A memory beside the hand-overs of one customer, whose code is 0.

    memory: not changed; pairs: in the order in which they became known.
    """

    def __init__(self, memory: Memory, pairs: HistoryRows) -> None:
        vars(self).update(vars(memory))
        self.pairs = pairs
        self._pair_starts = np.array([0, len(pairs)])
