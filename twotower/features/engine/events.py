"""What the history engine is fed: three streams, each in the order in which the centre came to know it.

Notable: a fact enters at the moment at which it was *known*, and facts of one hand-over are known at different moments:
its assignment when it was assigned, its end when it ended, its outcome at `known_at`, its contact on arrival. So load,
outcomes and customers' contacts are streams of their own, each sorted by its own time, and one rule, strictly before,
serves them all. Among facts known in one microsecond the order is fixed by what they say, not by where they stood in a
file, since sums of doubles depend on it in the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from twotower.clock import NEVER, NULL_TIME
from twotower.errors import DataError

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.int8]
Stream = TypeVar("Stream", "KnownHandovers", "Work", "Arrivals")


@dataclass(frozen=True)
class KnownHandovers:
    """M hand-overs whose outcome became known, sorted by `known_at` i8[M] µs.

    `csa` i4; `resolved` i1 (−1 null); `handle_time_s` f4 (NaN null); `base` f4[M, K] the frozen base embedding of the
    contact. May be None, for nothing known: `customer` i4 (−1 null); `transferred` i1 (−1 null); `csat` f4 (NaN null);
    `expected` f4, the probability of `resolved` that was expected before the hand-over was assigned (NaN unknown);
    `upset` bool, whether the contact was upset; `codes` i4[M, F], one code for each family of groups (−1 unknown).
    Raises DataError where columns differ in length or times are not sorted, or lie outside time.
    """

    csa: Ints
    known_at: Longs
    resolved: Flags
    handle_time_s: Floats
    base: Floats
    customer: Ints | None = None
    transferred: Flags | None = None
    csat: Floats | None = None
    expected: Floats | None = None
    upset: npt.NDArray[np.bool_] | None = None
    codes: Ints | None = None

    def __post_init__(self) -> None:
        _check_order("hand-overs", self, self.known_at)

    def __len__(self) -> int:
        return len(self.known_at)


@dataclass(frozen=True)
class Work:
    """Hand-overs beginning and ending, sorted by `at` i8[E] µs: `csa` i4; `change` i1, 1 assigned and −1 ended."""

    csa: Ints
    at: Longs
    change: Flags

    def __post_init__(self) -> None:
        _check_order("work", self, self.at)

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def of(cls, csa: Ints, assigned_at: Longs, ended_at: Longs) -> Work:
        """From hand-overs (M,) with their times, `clock.NEVER` where a hand-over has not ended."""
        ended = ended_at < NEVER
        who = np.concatenate([csa, csa[ended]]).astype(np.int32)
        at = np.concatenate([assigned_at, ended_at[ended]])
        change = np.repeat(np.array([1, -1], np.int8), [len(csa), int(ended.sum())])
        order = np.argsort(at, kind="stable")  # of what ties, a CSA's load is the same in any order
        return cls(who[order], at[order], change[order])


@dataclass(frozen=True)
class Arrivals:
    """Contacts of customers, sorted by `arrived_at` i8[N] µs: `customer` i4 (−1 null, counts for nobody); `signals`
    f4[N, S] of style, a row all NaN where the contact shows none, or None."""

    customer: Ints
    arrived_at: Longs
    signals: Floats | None = None

    def __post_init__(self) -> None:
        _check_order("arrivals", self, self.arrived_at)

    def __len__(self) -> int:
        return len(self.arrived_at)


def take(stream: Stream, rows: slice | npt.NDArray[Any]) -> Stream:
    """Some rows of a stream, which must still be in order."""
    columns: dict[str, Any] = {field.name: getattr(stream, field.name) for field in fields(stream)}
    kept: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns.items()}
    return type(stream)(**kept)


def between(stream: Stream, times: Longs, start: int, end: int) -> Stream:
    """The rows with start <= time < end."""
    first, last = np.searchsorted(times, [start, end])
    return take(stream, slice(int(first), int(last)))


def in_order(**columns: Any) -> KnownHandovers:
    """Hand-overs of any order as a stream, those never known left out; ties are put in an order of their content.

    columns: as of `KnownHandovers`. Two tables with the same rows give the same stream, to the bit.
    """
    present = {name: np.asarray(column) for name, column in columns.items() if column is not None}
    known = np.flatnonzero(present["known_at"] < NEVER)
    present = {name: column[known] for name, column in present.items()}
    names = [field.name for field in fields(KnownHandovers) if field.name in present]
    flat = [present[name] for name in names if present[name].ndim == 1]
    wide = [present[name][:, i] for name in names if present[name].ndim == 2 for i in range(present[name].shape[1])]
    order = np.argsort(present["known_at"], kind="stable")
    # Only rows that agree in their time are compared by more, and only those that agree in that by their embeddings.
    for agreed, further in (([present["known_at"]], flat), (flat, wide)):
        ties = _tied(agreed, order)
        if len(ties):
            run = np.cumsum(~_same(agreed, order[ties], order[ties - 1]))
            order[ties] = order[ties][np.lexsort((*(column[order[ties]] for column in further), run))]
    return KnownHandovers(**{name: column[order] for name, column in present.items()})


def _tied(columns: list[Any], order: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Positions in the order whose row equals the one before or after it in all columns."""
    if len(order) < 2:
        return np.empty(0, np.int64)
    same = _same(columns, order[1:], order[:-1])
    return np.flatnonzero(np.append(same, False) | np.append(False, same))


def _same(columns: list[Any], left: npt.NDArray[Any], right: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    same = np.ones(len(left), dtype=np.bool_)
    for column in columns:
        a, b = column[left], column[right]
        same &= (a == b) | ((a != a) & (b != b))  # NaN is one value here
    return same


def _check_order(name: str, stream: Any, times: Longs) -> None:
    for field in fields(stream):
        column = getattr(stream, field.name)
        if column is not None and len(column) != len(times):
            raise DataError(f"{name}: {field.name} has {len(column)} rows, {len(times)} are expected")
    if len(times) and (times[0] == NULL_TIME or times[-1] == NEVER):
        raise DataError(f"{name}: a time is null; rows that are not known yet must be left out")
    if len(times) > 1 and (wrong := np.flatnonzero(times[1:] < times[:-1])).size:
        raise DataError(f"{name}: row {wrong[0] + 1} is earlier than the row before it; sort them by time")


def check_codes(name: str, codes: npt.NDArray[Any], count: int, least: int) -> None:
    """Raises DataError where an integer code lies outside [least, count)."""
    if len(codes) == 1 and least <= codes[0] < count:
        return  # one hand-over in the router: three comparisons less
    if len(codes) and (codes.min() < least or codes.max() >= count):
        row = int(np.flatnonzero((codes < least) | (codes >= count))[0])
        raise DataError(f"{name}: {codes[row]} in row {row}; {least} to {count - 1} are expected")
