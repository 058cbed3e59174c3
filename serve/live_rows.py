"""Remembered hand-overs of a roster that grow while they are read.

Notable: rows lie in arrays with room at their end, and every CSA has a run of them. A new hand-over is written where no
reader looks: behind its CSA's run, or, where no place is left there, the run is written once more into the room, with
places to spare. Readers hold the runs of the moment at which they began (`memory()`), so they need no lock, and nothing
that they may read is ever overwritten. Where the room is used up, all that is remembered moves to larger arrays, and
readers keep the old ones for as long as they need them. One writer: calls that change something must not overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.clock import NEVER
from twotower.scoring.memory import Memory, ranges
from twotower.scoring.rows import HistoryRows

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

SPARE = 16  # places behind a run that was moved
LEAST_ROOM = 4096  # rows; a quarter of what is remembered where that is more


class LiveRows:
    """The bounded memory of J CSAs.

    rows: sorted by (csa, known_at), not changed; csas: J; per_csa: how many hand-overs of a CSA count, the latest.
    """

    def __init__(self, rows: HistoryRows, csas: int, per_csa: int) -> None:
        self._csas, self._per_csa, self._used = csas, per_csa, 0
        self._fill(rows)

    def add(self, csa: int, known_at: int, vector: Floats, residual: float, outcome: bool, weight: float) -> None:
        """Remember a hand-over, whose fields are those of `HistoryRows`. One that comes late stands among its like."""
        begin, end = int(self._begin[csa]), int(self._end[csa])
        place = begin + int(np.searchsorted(self._rows.known_at[begin:end], known_at, side="right"))
        if place < end or end == self._limit[csa]:
            begin, end, place = self._moved(csa, begin, end, place)
        rows = self._rows
        rows.csa[place], rows.known_at[place], rows.until[place], rows.vector[place] = csa, known_at, NEVER, vector
        rows.residual[place], rows.outcome[place], rows.weight[place] = residual, outcome, weight
        rows.customer[place], rows.contact[place] = -1, -1
        self._end[csa] = end + 1
        self._begin[csa] = max(begin, end + 1 - self._per_csa)

    def memory(self) -> Memory:
        """What is remembered now; it does not change with what is added later."""
        return Memory(self._rows, self._csas, runs=(self._begin.copy(), self._end.copy()))

    def rows(self) -> HistoryRows:
        """A copy of what is remembered, sorted by (csa, known_at)."""
        return self._rows.take(ranges(self._begin, self._end)[0])

    def _moved(self, csa: int, begin: int, end: int, place: int) -> tuple[int, int, int]:
        """The run of a CSA copied to where there is room, with a gap at `place`: its begin, its end and that place.

        The end does not count the gap, so that it is where the end of a run without a gap would be.
        """
        length = end - begin
        if self._used + length + 1 + SPARE > len(self._rows):
            offset = place - begin
            self._fill(self.rows())
            begin, end = int(self._begin[csa]), int(self._end[csa])
            place = begin + offset
        start, gap = self._used, place - begin
        for name in HistoryRows.__dataclass_fields__:
            column = getattr(self._rows, name)
            column[start : start + gap] = column[begin:place]
            column[start + gap + 1 : start + length + 1] = column[place:end]
        self._limit[csa] = self._used = start + length + 1 + SPARE
        return start, start + length, start + gap

    def _fill(self, rows: HistoryRows) -> None:
        """Rows sorted by CSA into new arrays with room for more."""
        room = max(LEAST_ROOM, len(rows) // 4, 2 * (self._per_csa + SPARE))
        self._rows = HistoryRows(**{name: _roomy(getattr(rows, name), room) for name in rows.__dataclass_fields__})
        starts = np.searchsorted(rows.csa, np.arange(self._csas + 1)).astype(np.int64)
        self._begin, self._end, self._limit = starts[:-1].copy(), starts[1:].copy(), starts[1:].copy()
        self._used = len(rows)


class Fresh:
    """What has come since an index was built, in the order in which it came: vectors to be searched beside it."""

    def __init__(self, width: int) -> None:
        self._vectors, self._csa = np.empty((256, width), np.float32), np.empty(256, np.int64)
        self._count = 0

    def add(self, csa: int, vector: Floats) -> None:
        """One more vector (W,) of a CSA."""
        if self._count == len(self._csa):
            self._vectors, self._csa = _roomy(self._vectors, self._count), _roomy(self._csa, self._count)
        self._vectors[self._count], self._csa[self._count] = vector, csa
        self._count += 1

    def view(self) -> tuple[Floats, Positions]:
        """Vectors (F, W) and their CSAs (F,) so far."""
        return self._vectors[: self._count], self._csa[: self._count]


class LiveVectors:
    """Profile vectors of J CSAs, of which one at a time is replaced."""

    def __init__(self, vectors: Floats) -> None:
        self._used = 0
        self._fill(vectors)

    def put(self, csa: int, vector: Floats) -> None:
        """Replace a vector (P,) for those who look from now on."""
        if self._used == len(self._vectors):
            self._fill(self._vectors[self._place])
        self._vectors[self._used], self._place[csa] = vector, self._used
        self._used += 1

    def view(self) -> tuple[Floats, Positions]:
        """An array (V, P), and at which of its rows each CSA's vector stands (J,)."""
        return self._vectors, self._place.copy()

    def _fill(self, vectors: Floats) -> None:
        self._vectors = _roomy(vectors, max(256, len(vectors) // 4))
        self._place, self._used = np.arange(len(vectors)), len(vectors)


def _roomy(column: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    """A copy with room for more rows behind it."""
    found = np.empty((len(column) + room, *column.shape[1:]), column.dtype)
    found[: len(column)] = column
    return found
