"""The inner loops of the history engine, twice: for a compiler, and as numpy for who has none.

Notable: the router must not load numba, and this package never names it. Who trains or evaluates hands the compiler
in (`compiled(numba.njit)`), and gets the same loops as machine code; without one, `TWIN` does the same arithmetic in
the same order with numpy, so both give the same bits. Weights are computed outside of the loops, in one place, because
two libraries may differ in the last bit of an exponential. No loop may be reordered for speed (`fastmath`): the order
of additions is part of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twotower.clock import NULL_TIME

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]

# What is remembered of a pairing, in this order.
PAIR_SUMS = ("together", "good", "bad")


class Core(NamedTuple):
    """The loops, with the arguments of `_accumulate`, `_meet` and `_remember` below."""

    accumulate: Callable[..., None]
    meet: Callable[..., None]
    remember: Callable[..., None]


def _accumulate(table: Doubles, rows: Longs, weights: Doubles, values: Any) -> None:
    """table (R, H, W)[rows[i, g]] += weights (M, H)[i]·values (M, W)[i], in order; rows (M, G), −1 adds nowhere."""
    for i in range(rows.shape[0]):
        for g in range(rows.shape[1]):
            row = rows[i, g]
            if row >= 0:
                for h in range(weights.shape[1]):
                    weight = weights[i, h]
                    for k in range(values.shape[1]):
                        table[row, h, k] += weight * values[i, k]


def _meet(
    who: Longs, at: Longs, weights: Doubles, values: Doubles, count: Longs, last: Longs, style: Doubles,
    stops: Longs, asked: Longs, out_count: Longs, out_last: Longs, out_style: Doubles,
) -> None:  # fmt: skip
    """Contacts (N,) into what is kept of customers `who` (−1 nobody), and on the way out[q] = what is kept of asked[q]
    as it stands before contact stops[q].

    style (C, H, W) += weights (N, H)·values (N, W); stops (Q,) ascending; asked (Q,), −1 leaves out[q] alone.
    """
    done = 0
    for q in range(len(stops) + 1):
        until = stops[q] if q < len(stops) else len(who)
        while done < until:
            c, i = who[done], done
            done += 1
            if c >= 0:
                count[c] += 1
                last[c] = max(last[c], at[i])
                for h in range(weights.shape[1]):
                    for k in range(values.shape[1]):
                        style[c, h, k] += weights[i, h] * values[i, k]
        if q < len(stops) and asked[q] >= 0:
            out_count[q], out_last[q], out_style[q] = count[asked[q]], last[asked[q]], style[asked[q]]


def _remember(
    who: Longs, csa: Ints, known: Longs, resolved: npt.NDArray[np.int8], weights: Doubles,
    pair_csa: Ints, pair_last: Longs, pair_end: npt.NDArray[np.int8], pair_sums: Doubles,
    stops: Longs, asked: Longs, out_csa: Ints, out_last: Longs, out_end: npt.NDArray[np.int8], out_sums: Doubles,
) -> None:  # fmt: skip
    """Hand-overs (M,) into the bounded pair lists (C, P) of customers `who`, and lists read on the way as in `_meet`.

    A CSA who is not in a full list takes the place of the one met longest ago. pair_sums (C, P, 3): PAIR_SUMS.
    """
    done = 0
    for q in range(len(stops) + 1):
        until = stops[q] if q < len(stops) else len(who)
        while done < until:
            c, i = who[done], done
            done += 1
            if c < 0:
                continue
            place, oldest = -1, 0
            for p in range(pair_csa.shape[1]):
                if pair_csa[c, p] == csa[i]:
                    place = p
                if pair_last[c, p] < pair_last[c, oldest]:
                    oldest = p
            if place < 0:
                place = oldest
                pair_csa[c, place] = csa[i]
                pair_last[c, place] = NULL_TIME
                pair_sums[c, place] = 0.0
            pair_sums[c, place, 0] += weights[i, 0]
            if resolved[i] >= 0:
                pair_sums[c, place, 2 - resolved[i]] += weights[i, 0]
            if known[i] >= pair_last[c, place]:
                pair_last[c, place] = known[i]
                pair_end[c, place] = resolved[i]
        if q < len(stops) and asked[q] >= 0:
            out_csa[q], out_last[q] = pair_csa[asked[q]], pair_last[asked[q]]
            out_end[q], out_sums[q] = pair_end[asked[q]], pair_sums[asked[q]]


def _accumulate_numpy(table: Doubles, rows: Longs, weights: Doubles, values: Any) -> None:
    """`_accumulate` in numpy; one event, as the router has them, is added without the machinery for many."""
    if len(rows) == 1:
        added = weights[0][:, None] * values[0]
        for row in rows[0].tolist():
            if row >= 0:
                table[row] += added
        return
    event, group = np.nonzero(rows >= 0)
    # `add.at` adds one after another, in order: the same sums as the loop's, to the bit.
    np.add.at(table, rows[event, group], weights[event][:, :, None] * values[event][:, None, :])


# The customers' loops write what hardly repeats within a batch: uncompiled, they are the numpy form themselves.
TWIN = Core(_accumulate_numpy, _meet, _remember)


@lru_cache(maxsize=4)
def compiled(compiler: Callable[..., Any]) -> Core:
    """The loops as machine code. compiler: `numba.njit`; code is kept on disk beside this module or in its cache."""
    decorate = compiler(cache=True, nogil=True)
    return Core(*(decorate(loop) for loop in (_accumulate, _meet, _remember)))
