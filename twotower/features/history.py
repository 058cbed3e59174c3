"""The history engine: what each CSA's past looks like as of a moment, from hand-overs known strictly before it.

Notable: state is a handful of sums per CSA under exponential decay with one half-life, so advancing to a later moment
multiplies and adds, and saving the state resumes it exactly. Text enters through the *frozen* base embedding, which no
training changes, so the state never has to be recomputed. Features are read at snapshots of a stated granularity:
a contact sees the last snapshot at or before its arrival, in training and in the router alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from twotower.clock import DAY
from twotower.errors import BundleError
from twotower.files import atomic_file

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# Decayed sums kept per CSA, in this order.
SUMS = ("handled", "outcomes", "resolved", "timed", "log_seconds")
HISTORY_NUMBERS = ("history_handled", "history_outcomes", "history_rate", "history_log_time", "history_idle")
PRIOR = 10.0  # pseudo-hand-overs of the centre's average behind every shrunken rate


@dataclass(frozen=True)
class KnownHandovers:
    """Hand-overs sorted by `known_at` i8[M] µs: `csa` i4[M], `resolved` i1[M] (−1 null), `handle_time_s` f4[M] (NaN
    null), `base` f4[M, K] the base embedding of the contact."""

    csa: npt.NDArray[np.int32]
    known_at: npt.NDArray[np.int64]
    resolved: npt.NDArray[np.int8]
    handle_time_s: Floats
    base: Floats


class HistoryEngine:
    """Decayed sums for J CSAs, as of `moment` (µs).

    csas: J; width: K of the base embedding; half_life_s: of every sum, in seconds.
    """

    def __init__(self, csas: int, width: int, half_life_s: float, moment: int) -> None:
        self.half_life_s = half_life_s
        self.moment = moment
        self.sums: Doubles = np.zeros((csas, len(SUMS)))
        self.good: Doubles = np.zeros((csas, width))  # Σ over resolved hand-overs of the base embedding
        self.bad: Doubles = np.zeros((csas, width))  # the same over unresolved ones
        self.last: npt.NDArray[np.int64] = np.full(csas, np.iinfo(np.int64).min)

    def advance(self, handovers: KnownHandovers, moment: int) -> None:
        """Bring the state to `moment`, adding the hand-overs with `self.moment <= known_at < moment`.

        handovers may cover more; sorted by known_at.
        """
        start, end = np.searchsorted(handovers.known_at, [self.moment, moment])
        fade = self._decay(moment - self.moment)
        for state in (self.sums, self.good, self.bad):
            state *= fade
        part = slice(int(start), int(end))
        csa, known = handovers.csa[part], handovers.known_at[part]
        weight = self._decay(moment - known)
        resolved, seconds = handovers.resolved[part], handovers.handle_time_s[part]
        timed = ~np.isnan(seconds)
        values = np.column_stack(
            [
                np.ones(len(csa)),
                resolved >= 0,
                resolved == 1,
                timed,
                np.where(timed, np.log1p(np.where(timed, seconds, 0)), 0),
            ]
        )
        np.add.at(self.sums, csa, values * weight[:, None])
        for state, wanted in ((self.good, resolved != 0), (self.bad, resolved == 0)):
            rows = np.flatnonzero(wanted)
            np.add.at(state, csa[rows], handovers.base[part][rows] * weight[rows, None])
        np.maximum.at(self.last, csa, known)
        self.moment = moment

    def _decay(self, age: int | npt.NDArray[np.int64]) -> Doubles:
        return np.exp2(-np.asarray(age, dtype=np.float64) / (self.half_life_s * 1e6))

    def features(self) -> Floats:
        """Features (J, 5 + 2 K) float32 as of `moment`, in the order of `history_names`."""
        sums = self.sums
        totals = sums.sum(axis=0)
        centre_rate = (totals[2] + 1) / (totals[1] + 2)
        centre_time = totals[4] / max(totals[3], 1e-9)
        rate = (sums[:, 2] + PRIOR * centre_rate) / (sums[:, 1] + PRIOR)
        seconds = (sums[:, 4] + PRIOR * centre_time) / (sums[:, 3] + PRIOR)
        days = np.where(self.last > 0, (self.moment - self.last.clip(0)) / DAY, 3650.0)
        numbers = np.column_stack(
            [np.log1p(sums[:, 0]), np.log1p(sums[:, 1]), rate - centre_rate, seconds - centre_time, np.log1p(days)]
        )
        shrunk = sums[:, :1] + PRIOR
        return np.column_stack([numbers, self.good / shrunk, self.bad / shrunk]).astype(np.float32)

    def save(self, path: Path | str) -> None:
        """Write the resumable state (`features.state`, an uncompressed npz without pickled objects)."""
        header = np.array([self.half_life_s, 0.0])
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                header=header,
                moment=np.array(self.moment),
                sums=self.sums,
                good=self.good,
                bad=self.bad,
                last=self.last,
            )

    @classmethod
    def load(cls, path: Path | str) -> HistoryEngine:
        """Resume what `save` wrote. Raises BundleError where the file is not such a state."""
        try:
            with np.load(path, allow_pickle=False) as data:
                csas, base_dim = data["good"].shape
                engine = cls(csas, base_dim, float(data["header"][0]), int(data["moment"]))
                engine.sums, engine.good, engine.bad, engine.last = (data[k] for k in ("sums", "good", "bad", "last"))
        except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
            raise BundleError(f"{path}: not a saved history state ({error})") from None
        return engine

    def resized(self, positions: npt.NDArray[np.int64], csas: int) -> HistoryEngine:
        """The same state for another roster: CSA i of this one stands at `positions[i]` of `csas`; others are empty."""
        engine = HistoryEngine(csas, self.good.shape[1], self.half_life_s, self.moment)
        for name in ("sums", "good", "bad", "last"):
            getattr(engine, name)[positions] = getattr(self, name)
        return engine


def history_names(width: int) -> list[str]:
    """Names of the columns of `HistoryEngine.features`."""
    return [*HISTORY_NUMBERS, *(f"good_{i}" for i in range(width)), *(f"bad_{i}" for i in range(width))]


def snapshot_times(first: int, last: int, granularity: int) -> npt.NDArray[np.int64]:
    """Moments i8[S] of the snapshots that contacts arriving in [first, last] read: multiples of the granularity."""
    return np.arange(first // granularity, last // granularity + 1, dtype=np.int64) * granularity
