"""64-bit hashes of ids, so that ten million of them are compared in 80 MB.

A text of bytes b_1 … b_n hashes to `n·w_0 + Σ b_i·w_i mod 2⁶⁴` with fixed random odd w_i (multilinear hashing, Carter
and Wegman 1979). Two different texts collide with probability below 2⁻⁵⁵ over the choice of w: equal hashes are
suspects, which `Keys.duplicates` settles by comparing the ids themselves; different hashes mean different ids for
certain. An unknown id passes for a known one with that probability a known id: 10⁻⁹ among ten million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]

CONFIRMED = 200_000
"""Suspect rows that are compared exactly; where there are more, their number comes from the hashes."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


def hash_texts(texts: pa.Array) -> Hashes:
    """(N,) hashes of an Arrow text array; nulls hash like the empty text."""
    wide = pc.fill_null(pc.cast(texts, pa.large_string()), "")
    _, offset_bytes, data = wide.buffers()
    offsets = np.frombuffer(offset_bytes, dtype=np.int64)[wide.offset : wide.offset + len(wide) + 1]
    lengths = np.diff(offsets)
    begin, end = (int(offsets[0]), int(offsets[-1])) if len(wide) else (0, 0)
    if begin == end:
        return np.zeros(len(wide), dtype=np.uint64)
    content = np.frombuffer(data, dtype=np.uint8)[begin:end]
    weights = _weights(int(lengths.max()) + 1)
    place = np.arange(1, end - begin + 1) - np.repeat(offsets[:-1] - begin, lengths)
    running = np.concatenate((np.zeros(1, np.uint64), np.cumsum(content * weights[place], dtype=np.uint64)))
    sums = running[offsets[1:] - begin] - running[offsets[:-1] - begin]
    hashes: Hashes = sums + lengths.astype(np.uint64) * weights[0]
    return hashes


def hash_columns(columns: Iterable[pa.Array]) -> Hashes:
    """(N,) hashes of the tuples that the columns form; texts, or times as their microseconds."""
    total: Hashes | None = None
    for column in columns:
        if pa.types.is_timestamp(column.type):
            part = pc.fill_null(pc.cast(column, pa.int64()), np.iinfo(np.int64).min).to_numpy().view(np.uint64) * _MIX
        else:
            part = hash_texts(column)
        total = part if total is None else total * _MIX + part
    if total is None:
        raise ValueError("at least one column is needed")
    return total


class Keys:
    """The hashes of a table's keys, row by row as they come."""

    def __init__(self) -> None:
        self._parts: list[Hashes] = []
        self._sorted: Hashes | None = None

    def add(self, hashes: Hashes) -> None:
        """The next rows' hashes."""
        self._parts.append(hashes)
        self._sorted = None

    @property
    def sorted(self) -> Hashes:
        """(N,) every hash, ascending."""
        if self._sorted is None:
            self._sorted = np.concatenate([np.zeros(0, dtype=np.uint64), *self._parts])
            self._sorted.sort()
            self._parts = [self._sorted]
        return self._sorted

    def __contains__(self, hashes: Hashes) -> bool:
        return bool(self.known(hashes).all())

    def known(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """(n,) whether each hash is among the keys."""
        return is_in(hashes, self.sorted)

    def distinct(self) -> int:
        """How many different keys there are."""
        keys = self.sorted
        return int((keys[1:] != keys[:-1]).sum()) + 1 if len(keys) else 0

    def duplicates(self, again: Callable[[], Iterable[tuple[int, list[pa.Array]]]], shown: int) -> Duplicates:
        """The rows whose key stands in an earlier row.

        Args:
            again: reads the table once more: (first row, key columns) of each batch.
            shown: how many rows to return.
        """
        keys = self.sorted
        repeats = int((keys[1:] == keys[:-1]).sum())
        suspects = np.unique(keys[1:][keys[1:] == keys[:-1]])
        result = Duplicates()
        if not repeats:
            return result
        first_seen: dict[tuple[Any, ...], int] = {}
        compared = 0
        for start, columns in again():
            rows = np.flatnonzero(is_in(hash_columns(columns), suspects))[: CONFIRMED - compared]
            compared += len(rows)
            chosen = [column.take(pa.array(rows)).to_pylist() for column in columns]
            for row, key in zip(rows + start, zip(*chosen, strict=True), strict=True):
                first = first_seen.setdefault(key, int(row))
                if first != row:
                    result.add(int(row), first, key, shown)
            if compared == CONFIRMED:
                result.count = repeats
                break
        return result


class Duplicates:
    """Rows that repeat a key: the first few of them, and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self.rows: list[tuple[int, int, tuple[Any, ...]]] = []
        """(row, first row with the same key, the key)"""

    def add(self, row: int, first: int, key: tuple[Any, ...], shown: int) -> None:
        """One more."""
        self.count += 1
        if len(self.rows) < shown:
            self.rows.append((row, first, key))


def is_in(hashes: Hashes, ascending: Hashes) -> npt.NDArray[np.bool_]:
    """(n,) whether each hash stands in a sorted array."""
    if len(ascending) == 0:
        return np.zeros(len(hashes), dtype=np.bool_)
    # Sorted queries walk through memory instead of jumping.
    order = np.argsort(hashes)
    place = np.minimum(np.searchsorted(ascending, hashes[order]), len(ascending) - 1)
    found = np.empty(len(hashes), dtype=np.bool_)
    found[order] = ascending[place] == hashes[order]
    return found


def _weights(count: int) -> Hashes:
    drawn = np.random.Generator(np.random.PCG64(0x7077)).integers(0, 2**64, size=count, dtype=np.uint64)
    return drawn | np.uint64(1)
