"""Remembered hand-overs of a roster that grow while they are read.

Notable: rows lie in arrays with room behind every CSA's run. A new hand-over is written where no reader looks: behind
its CSA's run, or, where no place is left there, the run is written once more at the end, with places to spare. Readers
hold the runs of the moment at which they began (`memory()`), so they need no lock, and nothing that they may read is
ever overwritten. Some more rows than count are kept of each CSA, for contacts that came before the newest. Where the
arrays are full, all that is remembered moves to larger ones, which takes as long as copying it; `settle` does that
ahead of time. One writer: calls that change something must not overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.clock import NEVER
from twotower.scoring.memory import Memory, ranges
from twotower.scoring.rows import HistoryRows, quantised

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

SPARE = 8  # places behind a run, or a quarter of its length where that is more
LEAST_ROOM = 4096  # rows behind all runs; a quarter of what is remembered where that is more
TRAIL = 64  # rows of a CSA that are kept though newer ones took their place, for contacts that came before these
MOST_FRESH = 16_384  # vectors that are scanned beside an index: about half a millisecond


class LiveRows:
    """The bounded memory of J CSAs.

    rows: sorted by (csa, known_at), not changed; csas: J; per_csa: how many hand-overs of a CSA count, the latest.
    """

    def __init__(self, rows: HistoryRows, csas: int, per_csa: int) -> None:
        self._per_csa, self._used = per_csa, 0
        starts = np.searchsorted(rows.csa, np.arange(csas + 1)).astype(np.int64)
        self._begin, self._end = starts[:-1].copy(), starts[1:].copy()
        self._rows, self._limit = rows, self._end.copy()
        self.settle()

    def add(self, csa: int, known_at: int, vector: Floats, residual: float, outcome: bool, weight: float) -> None:
        """Remember a hand-over, whose fields are those of `HistoryRows`. One that comes late stands among its like."""
        begin, end = int(self._begin[csa]), int(self._end[csa])
        place = begin + int(np.searchsorted(self._rows.known_at[begin:end], known_at, side="right"))
        if place < end or end == self._limit[csa]:
            begin, end, place = self._moved(csa, begin, end, place)
        rows = self._rows
        rows.csa[place], rows.known_at[place], rows.until[place] = csa, known_at, NEVER
        (rows.code[place],), (rows.scale[place],) = quantised(vector[None])
        rows.residual[place], rows.outcome[place], rows.weight[place] = residual, outcome, weight
        rows.customer[place], rows.contact[place] = -1, -1
        self._end[csa] = end + 1
        self._begin[csa] = max(begin, end + 1 - self._per_csa - TRAIL)

    def grow(self, csas: int) -> None:
        """Make room for more CSAs, of whom nothing is remembered."""
        more = csas - len(self._begin)
        if more > 0:
            nowhere = np.full(more, self._used, np.int64)
            self._begin, self._end, self._limit = (
                np.concatenate([part, nowhere]) for part in (self._begin, self._end, self._limit)
            )

    def memory(self) -> Memory:
        """What is remembered now; it does not change with what is added later."""
        runs = self._begin.copy(), self._end.copy()
        return Memory(self._rows, len(self._begin), runs=runs, most=self._per_csa)

    def rows(self) -> HistoryRows:
        """A copy of what counts now, sorted by (csa, known_at)."""
        return self._rows.take(ranges(np.maximum(self._begin, self._end - self._per_csa), self._end)[0])

    def settle(self) -> None:
        """Move everything to new arrays, with room behind each run and behind all."""
        lengths = self._end - self._begin
        limits = np.cumsum(lengths + _spare(lengths))
        begin = np.concatenate([[0], limits[:-1]]).astype(np.int64) if len(limits) else limits
        used = int(limits[-1]) if len(limits) else 0
        size = used + max(LEAST_ROOM, used // 4, 2 * (self._per_csa + TRAIL + SPARE))
        old, _ = ranges(self._begin, self._end)
        new, _ = ranges(begin, begin + lengths)
        columns = {}
        for name in HistoryRows.__dataclass_fields__:
            column = getattr(self._rows, name)
            columns[name] = np.empty((size, *column.shape[1:]), column.dtype)
            columns[name][new] = column[old]
        self._rows, self._used = HistoryRows(**columns), used
        self._begin, self._end, self._limit = begin, begin + lengths, limits

    def _moved(self, csa: int, begin: int, end: int, place: int) -> tuple[int, int, int]:
        """The run of a CSA copied to where there is room, with a gap at `place`: its begin, its end and that place.

        The end does not count the gap, so that it is where the end of a run without a gap would be.
        """
        length, gap = end - begin, place - begin
        needed = length + 1 + int(_spare(np.array(length)))
        if self._used + needed > len(self._rows):
            self.settle()
            begin, end = int(self._begin[csa]), int(self._end[csa])
            place = begin + gap
            if place == end:
                return begin, end, place
        start = self._used
        for name in HistoryRows.__dataclass_fields__:
            column = getattr(self._rows, name)
            column[start : start + gap] = column[begin:place]
            column[start + gap + 1 : start + length + 1] = column[place:end]
        self._limit[csa] = self._used = start + needed
        return start, start + length, start + gap


def _spare(lengths: Positions) -> Positions:
    """Places behind runs of these lengths."""
    return np.maximum(SPARE, lengths // 4)


class Fresh:
    """What has come since an index was built, in the order in which it came: vectors to be searched beside it.

    The older half of more than `MOST_FRESH` is forgotten: what they stand for is remembered, but no longer nominates.
    """

    def __init__(self, width: int) -> None:
        self._vectors, self._csa = np.empty((256, width), np.float32), np.empty(256, np.int64)
        self._count = self.told = 0
        """How many there are, and how many there ever were."""

    @property
    def width(self) -> int:
        """W."""
        return self._vectors.shape[1]

    def since(self, told: int) -> Fresh:
        """Those that came after the first `told`, as far as they are not forgotten."""
        later, made = min(self.told - told, self._count), Fresh(self.width)
        kept = slice(self._count - later, self._count)
        made._vectors, made._csa = _roomy(self._vectors[kept], 256), _roomy(self._csa[kept], 256)
        made._count = made.told = later
        return made

    def add(self, csa: int, vector: Floats) -> None:
        """One more vector (W,) of a CSA."""
        if self._count == MOST_FRESH:
            kept = self._vectors[MOST_FRESH // 2 :], self._csa[MOST_FRESH // 2 :]
            (self._vectors, self._csa), self._count = (_roomy(part, MOST_FRESH // 2) for part in kept), len(kept[1])
        elif self._count == len(self._csa):
            self._vectors, self._csa = _roomy(self._vectors, self._count), _roomy(self._csa, self._count)
        self._vectors[self._count], self._csa[self._count] = vector, csa
        self._count += 1
        self.told += 1

    def view(self) -> tuple[Floats, Positions]:
        """Vectors (F, W) and their CSAs (F,) so far."""
        return self._vectors[: self._count], self._csa[: self._count]


class LiveVectors:
    """Profile vectors of J CSAs and what they add to outcomes, of which one CSA's at a time are replaced."""

    def __init__(self, vectors: Floats, own: Floats) -> None:
        self._fill(vectors, own)

    def put(self, csa: int, vector: Floats, own: Floats) -> None:
        """Replace a vector (P,) and what is added (T,) for those who look from now on."""
        if self._used == len(self._vectors):
            self._fill(self._vectors[self._place], self._own[self._place])
        self._vectors[self._used], self._own[self._used] = vector, own
        self._place[csa] = self._used
        self._used += 1

    def view(self) -> tuple[Floats, Floats, Positions]:
        """Arrays (V, P) and (V, T), and at which of their rows each CSA stands (J,)."""
        return self._vectors, self._own, self._place.copy()

    def grow(self, csas: int) -> None:
        """Make room for more CSAs, whose vectors are zeros until they are put."""
        more = csas - len(self._place)
        if more > 0:
            zeros = (np.zeros((more, part.shape[1]), np.float32) for part in (self._vectors, self._own))
            self._fill(
                *(np.concatenate([p[self._place], z]) for p, z in zip((self._vectors, self._own), zeros, strict=True))
            )

    def _fill(self, vectors: Floats, own: Floats) -> None:
        room = max(256, len(vectors) // 4)
        self._vectors, self._own = (_roomy(part, room) for part in (vectors, own))
        self._place, self._used = np.arange(len(vectors)), len(vectors)


def _roomy(column: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    """A copy with room for more rows behind it."""
    found = np.empty((len(column) + room, *column.shape[1:]), column.dtype)
    found[: len(column)] = column
    return found
