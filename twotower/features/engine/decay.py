"""Exponential decay in a form in which adding is all that an event costs, and nothing depends on when it was added.

Notable: *forward decay*. A sum as of m is Σ 2^(−(m − t)/h)·x, and 2^(−(m − t)/h) = 2^(t/h) / 2^(m/h): every event is
stored with the weight 2^(t/h) of its own time and the division happens on reading, so an event touches the row it adds
to and no other row ever fades. Weights would overflow, so they are counted from a movable *origin*, a whole number of
half-lives. Times and half-lives are whole microseconds: t = q·h + r splits without rounding, 2^(t/h) = 2^q·2^(r/h), and
moving the origin changes the power of two alone, which is exact. Hence the same events in the same order give the same
bits, wherever the origin stood, however the events were grouped and in whichever process they were added. Sums of
squared weights move by twice the power.

Source: Cormode, Shkapenyuk, Srivastava and Xu, "Forward decay: a practical time decay model for streaming systems"
(ICDE 2009), exponential case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

# Half-lives that weights may grow over before the origin moves: squares then stay below 2^512, and sums of 10^9 of
# them far below the largest double.
REACH = 256
CHUNK = 1 << 15  # events whose weights are held at once
# Below this a decayed sum reads as nothing: where weights or their squares are so small that doubles lose bits, the
# result would tell where the origin stood.
NOTHING = 2.0**-400


class Decay:
    """Weights of H half-lives (whole µs), counted from an origin (H,) in half-lives.

    moment: where the origin begins; any value will do, the first event moves it.
    """

    def __init__(self, half_lives_us: Sequence[int], moment: int) -> None:
        self.half_lives: Longs = np.array(half_lives_us, dtype=np.int64)
        self.origin: Longs = moment // self.half_lives

    def pieces(self, times: Longs, rescale: Callable[[Longs], None]) -> Iterator[tuple[slice, Doubles]]:
        """Runs of `times` i8[M] in their order with the weights (run, H) of each; one empty run where M is 0.

        Before a run that lies beyond the origin's reach, the origin is moved there, and `rescale` is called with the
        whole half-lives (H,) it moved by: what is stored under a weight must then be multiplied by 2^−shift.
        """
        start = 0
        while True:
            chunk = times[start : start + CHUNK]
            whole = chunk[:, None] // self.half_lives
            exponent = whole - self.origin
            beyond = exponent > REACH
            if beyond.any():
                first = int(np.argmax(beyond.any(axis=1)))
                if first == 0:
                    shift = np.where(beyond[0], exponent[0], 0)
                    self.origin = self.origin + shift
                    rescale(shift)
                    continue
                chunk, whole, exponent = chunk[:first], whole[:first], exponent[:first]
            rest = (chunk[:, None] - whole * self.half_lives) / self.half_lives
            yield slice(start, start + len(chunk)), np.ldexp(np.exp2(rest), exponent)
            start += len(chunk)
            if start >= len(times):
                return

    def move_to(self, moment: int) -> Longs:
        """Move the origin to a moment, and return the whole half-lives (H,) it moved by, as `rescale` is told them."""
        origin = moment // self.half_lives
        shift, self.origin = origin - self.origin, origin
        return np.asarray(shift)

    def fade(self, moments: int | Longs) -> Doubles:
        """What stored sums are multiplied by to be read as of a moment: (H,), or (Q, H) for moments i8[Q]."""
        at = np.asarray(moments, dtype=np.int64)[..., None]
        whole = at // self.half_lives
        rest = (at - whole * self.half_lives) / self.half_lives
        return np.asarray(np.ldexp(np.exp2(-rest), self.origin - whole))


def moved(table: Doubles, shift: Longs, powers: Sequence[int] | None = None) -> None:
    """Multiply a table (R, H, W) in place by 2^(−shift·power): shift i8[H]; powers (W,) 1 or 2, 1 for all if None."""
    power = np.ones(table.shape[2], np.int64) if powers is None else np.array(powers, dtype=np.int64)
    np.ldexp(table, -(shift[:, None] * power), out=table)


def faded(
    table: Doubles,
    fade: Doubles,
    powers: Sequence[int] | None = None,
    old: Sequence[bool] | None = None,
    out: Doubles | None = None,
) -> Doubles:
    """A table (R, H, W) as of the moment that `fade` (H,) or (R, H) stands for, as a copy or in `out`.

    old: for which half-lives (H,) there may be sums so faded that they read as nothing; None: for all (`may_be_old`).
    """
    factor = fade[..., None]
    if powers is not None:
        factor = np.where(np.array(powers) == 2, factor * factor, factor)
    found = np.asarray(np.multiply(table, factor, out=out))
    for h in range(found.shape[1]):
        if old is None or old[h]:
            part = found[:, h]
            part[np.abs(part) < NOTHING] = 0
    return found


def may_be_old(first: int, moment: int, half_lives_us: Sequence[int]) -> list[bool]:
    """Whether anything that became known at `first` or later can have faded to nothing by `moment`, by half-life (H,).

    Squares of single precision are 2^−298 at least, and 100 half-lives make that 2^−398, not below `NOTHING`; what is
    summed with squared weights are ones.
    """
    return [moment - first > 100 * half_life for half_life in half_lives_us]
