"""The memory: past hand-overs as vectors, bounded per CSA, visible only while they were known.

Notable: a row carries the half-open interval of moments for which it counts, `known_at < t <= until`. `until` is when
enough newer hand-overs of the same CSA were known to push it out. So one array serves training and
evaluation at any past moment and the router at the present one, and the bound never looks ahead. Vectors are kept as
8-bit codes with a scale a row, in training as in the router, so that both score the same numbers: a quarter of the
memory, at an error of about 0.001 in a cosine (docs/decisions/0041).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.clock import NEVER

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.int8]
MOST = 127  # the largest code
PART = 65_536  # rows that are quantised together, which bounds what is in memory beside them


def quantised(vectors: Floats) -> tuple[Bytes, Floats]:
    """Vectors (H, Q) as codes i1 (H, Q) and scales f4[H], codes × scale being the vectors to within scale / 2."""
    codes, scales = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), PART):
        some = vectors[start : start + PART]
        scale = np.abs(some).max(axis=1, initial=0) / np.float32(MOST)
        scales[start : start + PART] = scale
        codes[start : start + PART] = np.rint(some / np.where(scale > 0, scale, 1)[:, None])
    return codes, scales


@dataclass(frozen=True)
class HistoryRows:
    """Hand-overs as memory, sorted by (csa, known_at).

    `csa` i4[H]; `known_at`, `until` i8[H] µs; `code` i1[H, Q] and `scale` f4[H] the `quantised` vectors, of
    unit length before; `residual` f4[H] = resolved − expected (0
    where the outcome is null); `outcome` f4[H] how many known outcomes it stands for (0 or 1; a medoid of older
    hand-overs for more, with their mean residual); `weight` f4[H] how many that are not known to be unresolved;
    `customer` i4[H] (−1 unknown); `contact` i8[H], a reference for explanations, −1 where there is none.
    """

    csa: npt.NDArray[np.int32]
    known_at: npt.NDArray[np.int64]
    until: npt.NDArray[np.int64]
    code: Bytes
    scale: Floats
    residual: npt.NDArray[np.float32]
    outcome: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    customer: npt.NDArray[np.int32]
    contact: npt.NDArray[np.int64]

    @classmethod
    def of(cls, vector: Floats, **columns: npt.NDArray[Any]) -> HistoryRows:
        """Rows of vectors (H, Q) and the other columns."""
        code, scale = quantised(vector)
        return cls(code=code, scale=scale, **columns)

    def __len__(self) -> int:
        return len(self.csa)

    @property
    def width(self) -> int:
        """Q of the vectors."""
        return int(self.code.shape[1])

    def vectors(self, index: npt.NDArray[np.int64] | slice = slice(None)) -> Floats:
        """The vectors (n, Q) of some rows, by default of all."""
        return self.code[index] * self.scale[index][:, None]

    def products(self, index: npt.NDArray[np.int64], vector: Floats) -> Floats:
        """Inner products (n,) of some rows with a vector (Q,)."""
        # `take` copies rows twice as fast as an index does.
        found: Floats = np.take(self.code, index, axis=0).astype(np.float32) @ vector
        found *= np.take(self.scale, index)
        return found

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> HistoryRows:
        """The rows at `index`, in that order."""
        return HistoryRows(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def visible(self, moment: int) -> npt.NDArray[np.bool_]:
        """Mask (H,) of the rows that count at a moment."""
        return (self.known_at < moment) & (moment <= self.until)


def build_rows(
    csa: npt.NDArray[np.int32],
    known_at: npt.NDArray[np.int64],
    vector: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float32],
    resolved: npt.NDArray[np.int8],
    customer: npt.NDArray[np.int32],
    contact: npt.NDArray[np.int64],
    per_csa: int,
) -> HistoryRows:
    """Sort hand-overs by (csa, known_at, contact) and give each its interval under a bound of `per_csa` rows a CSA.

    All arrays have one entry a hand-over; hand-overs whose outcome never became known are left out.
    """
    keep = np.flatnonzero(known_at < NEVER)
    order = keep[np.lexsort((contact[keep], known_at[keep], csa[keep]))]
    has_outcome = resolved[order] >= 0
    return HistoryRows.of(
        csa=csa[order],
        known_at=known_at[order],
        until=expiry(csa[order], known_at[order], per_csa),
        vector=vector[order],
        residual=np.where(has_outcome, residual[order], 0).astype(np.float32),
        outcome=has_outcome.astype(np.float32),
        weight=(resolved[order] != 0).astype(np.float32),
        customer=customer[order],
        contact=contact[order],
    )


def expiry(csa: npt.NDArray[np.int32], known_at: npt.NDArray[np.int64], per_csa: int) -> npt.NDArray[np.int64]:
    """`until` i8[H] of rows sorted by (csa, known_at): when the `per_csa`-th newer row of the CSA was known."""
    until = np.full(len(csa), NEVER, dtype=np.int64)
    if len(csa) > per_csa:
        same = csa[:-per_csa] == csa[per_csa:]
        until[:-per_csa][same] = known_at[per_csa:][same]
    return until


def merge_rows(first: HistoryRows, second: HistoryRows, per_csa: int) -> HistoryRows:
    """One memory from two, intervals recomputed over both."""
    names = [n for n in HistoryRows.__dataclass_fields__ if n != "until"]
    both = {n: np.concatenate([getattr(first, n), getattr(second, n)]) for n in names}
    order = np.lexsort((both["contact"], both["known_at"], both["csa"]))
    both = {n: v[order] for n, v in both.items()}
    return HistoryRows(**both, until=expiry(both["csa"], both["known_at"], per_csa))
