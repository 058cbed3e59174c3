"""Lists of different lengths in two flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Ragged:
    """N lists of codes; list i is `values[offsets[i]:offsets[i + 1]]`, unless `all_[i]`: then it is everything.

    An empty list (nothing) and a list that was not given (everything, `all_`) are different things.
    """

    offsets: npt.NDArray[np.int64]
    """(N + 1,)"""
    values: npt.NDArray[np.int32]
    """(offsets[-1],)"""
    all_: npt.NDArray[np.bool_]
    """(N,)"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, i: int) -> npt.NDArray[np.int32] | None:
        """List i; None where it is everything."""
        return None if self.all_[i] else self.values[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) entries per list; 0 where the list is everything."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """(len(values),) the list each value stands in."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def take(self, rows: npt.NDArray[np.integer]) -> Ragged:
        """The lists at `rows` (or where a boolean mask holds), in that order."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        lengths = self.lengths[chosen]
        offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        # Position of each new value: its place in the new array, moved by how far its list moved.
        moved = np.repeat(self.offsets[:-1][chosen] - offsets[:-1], lengths)
        return Ragged(offsets, self.values[np.arange(offsets[-1]) + moved], self.all_[chosen])

    def distinct(self) -> Ragged:
        """Every value once a list, where it stands first."""
        rows = self.rows
        key = rows * (int(self.values.max(initial=0)) + 1) + self.values
        first = np.unique(key, return_index=True)[1]
        if len(first) == len(key):
            return self
        kept = np.sort(first)
        lengths = np.bincount(rows[kept], minlength=len(self))
        return Ragged(np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))), self.values[kept], self.all_)

    def keep(self, codes: npt.NDArray[np.int32]) -> Ragged:
        """Every value v becomes `codes[v]` and is left out where that is −1."""
        renamed = codes[self.values]
        kept = renamed >= 0
        lengths = np.bincount(self.rows[kept], minlength=len(self))
        return Ragged(np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))), renamed[kept], self.all_)

    def mask(self, rows: npt.NDArray[np.integer], width: int) -> npt.NDArray[np.bool_]:
        """(len(rows), width) whether code j is in list rows[i]."""
        chosen = self.take(rows)
        dense = np.zeros((len(chosen), width), dtype=np.bool_)
        dense[chosen.rows, chosen.values] = True
        dense[chosen.all_] = True
        return dense
