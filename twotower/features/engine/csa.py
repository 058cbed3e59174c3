"""The history of every CSA as of a moment: decayed sums, groups, embeddings and load, from what was known before it.

Notable: state is what the hand-overs so far add up to, one row a CSA and one row a CSA and group that was ever seen, so
a hand-over that becomes known touches a handful of rows, and nothing else moves when time passes (`engine/decay.py`).
Training, rolling forward and the router use this one class; they differ in the loops that they hand in
(`engine/core.py`), which give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.clock import NEVER, NULL_TIME
from twotower.errors import DataError
from twotower.features.engine.core import TWIN, Core
from twotower.features.engine.decay import Decay, faded, may_be_old, moved
from twotower.features.engine.events import KnownHandovers, Work, between, take
from twotower.features.engine.readout import CsaReading, GroupReading
from twotower.features.engine.settings import CsaSettings
from twotower.features.engine.values import (
    COUNTED,
    GROUP_POWERS,
    GROUP_SUMS,
    SQUARED,
    SUMS,
    check_handovers,
    check_work,
    csa_values,
    group_values,
)

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]


class CsaHistory:
    """State for J CSAs as of `moment` (µs).

    csas: J; moment: hand-overs known before it are not looked for; core: the loops, `compiled(numba.njit)` or the twin.
    """

    def __init__(self, settings: CsaSettings, csas: int, moment: int = NULL_TIME, core: Core = TWIN) -> None:
        self.settings, self.csas, self.moment, self.core = settings, csas, moment, core
        half_lives, loads = len(settings.half_lives_us), len(settings.activity_us)
        self.decay, self.load_decay = Decay(settings.half_lives_us, moment), Decay(settings.activity_us, moment)
        self.counts: Doubles = np.zeros((csas, 1, len(COUNTED)))  # whole numbers, exact below 2^53
        self.sums: Doubles = np.zeros((csas, half_lives, len(SUMS)))
        self.squares: Doubles = np.zeros((csas, half_lives, len(SQUARED)))  # of weights
        # Row 2·csa: what was not known to have failed; row 2·csa + 1: what failed.
        self.embeddings: Doubles = np.zeros((2 * csas, half_lives, settings.width))
        self.load: Doubles = np.zeros((csas, loads, 1))
        self.work: Doubles = np.zeros((csas, 1, 2))  # assigned, ended
        self.first: Longs = np.full(csas, NEVER)
        self.last: Longs = np.full(csas, NULL_TIME)
        # A cell is csa·T + offset of the family + code; it gets a row of `groups` when it is first seen.
        self.row_of: npt.NDArray[np.int32] = np.full(csas * int(settings.offsets[-1]), -1, np.int32)
        self.groups: Doubles = np.zeros((0, 1, len(GROUP_SUMS)))
        self.rows = 0  # of `groups` in use

    def advance(self, handovers: KnownHandovers, moment: int, work: Work | None = None) -> None:
        """Bring the state to `moment`, adding what was known in [self.moment, moment). The streams may cover more.

        Raises ValueError where `moment` is earlier than the state, DataError for values that cannot be.
        """
        if moment < self.moment:
            raise ValueError(f"the history stands at {self.moment} and cannot go back to {moment}")
        self._add(between(handovers, handovers.known_at, self.moment, moment))
        if work is not None:
            self._add_work(between(work, work.at, self.moment, moment))
        self.moment = moment

    def update(self, handovers: KnownHandovers) -> None:
        """Add what has just become known, usually one hand-over; the state then stands just after it.

        One that comes late, known before `moment`, counts from now on with its own age.
        """
        self._add(handovers)
        if len(handovers):
            self.moment = max(self.moment, int(handovers.known_at[-1]) + 1)

    def update_work(self, work: Work) -> None:
        """Add hand-overs that have just begun or ended; the state then stands just after them."""
        self._add_work(work)
        if len(work):
            self.moment = max(self.moment, int(work.at[-1]) + 1)

    def stand_at(self, moment: int) -> None:
        """Nothing more became known before a moment; one before the state's own changes nothing."""
        self.moment = max(self.moment, moment)

    def read(self, moment: int | None = None, families: Sequence[str] = (), csas: Longs | None = None) -> CsaReading:
        """What is known as of `moment` (the state's own where None; never an earlier one), decayed to it.

        families: which groups are read too; csas: whom, distinct codes, in whose order the reading then stands; None:
        all. Arrays are copies. Raises ValueError for an earlier moment.
        """
        at = self.moment if moment is None else moment
        if at < self.moment:
            raise ValueError(f"the history stands at {self.moment} and does not know what it was at {at}")
        who: Longs | slice = slice(None) if csas is None else csas
        both = who if csas is None else (2 * csas[:, None] + np.arange(2)).ravel()
        fade, first = self.decay.fade(at), self.first[who]
        old = may_be_old(int(first.min(initial=NEVER)), at, self.settings.half_lives_us)
        return CsaReading(
            moment=at,
            counts=self.counts[who, 0].astype(np.int64),
            sums=faded(self.sums[who], fade, None, old),
            squares=faded(self.squares[who], fade, [2] * len(SQUARED), old),
            embeddings=faded(self.embeddings[both], fade, None, old).reshape(
                len(first), 2, len(old), self.settings.width
            ),
            load=faded(self.load[who], self.load_decay.fade(at))[:, :, 0],
            work=self.work[who, 0].astype(np.int64),
            first=first.copy(),
            last=self.last[who].copy(),
            groups={name: self._read_family(name, fade, old, who) for name in families},
        )

    def grow(self, csas: int) -> None:
        """Make room for more CSAs, of whom nothing is known."""
        more = csas - self.csas
        if more <= 0:
            return
        for name, empty in {**dict.fromkeys(PER_CSA, 0), "embeddings": 0, "first": NEVER, "last": NULL_TIME}.items():
            array = getattr(self, name)
            rows = 2 * more if name == "embeddings" else more
            setattr(self, name, np.concatenate([array, np.full((rows, *array.shape[1:]), empty, array.dtype)]))
        cells = np.full(more * int(self.settings.offsets[-1]), -1, np.int32)
        self.row_of, self.csas = np.concatenate([self.row_of, cells]), csas

    def handled(self) -> Floats:
        """Hand-overs (J,) under the longest half-life as of `moment`."""
        longest = int(np.argmax(self.settings.half_lives_us))
        fade = self.decay.fade(self.moment)[..., longest : longest + 1]
        return faded(self.sums[:, longest : longest + 1, :1], fade)[:, 0, 0].astype(np.float32)

    def _add(self, handovers: KnownHandovers) -> None:
        check_handovers(handovers, self.csas, self.settings)
        for part, weights in self.decay.pieces(handovers.known_at, self._rescale):
            if part.start < part.stop:
                whole = part.stop - part.start == len(handovers)
                self._add_piece(handovers if whole else take(handovers, part), weights)

    def _add_piece(self, piece: KnownHandovers, weights: Doubles) -> None:
        add, values = self.core.accumulate, csa_values(piece)
        who = piece.csa.astype(np.int64)
        rows = who[:, None]
        add(self.counts, rows, np.ones((len(piece), 1)), values[:, COUNTED])
        add(self.sums, rows, weights, values)
        add(self.squares, rows, weights * weights, values[:, SQUARED])
        if self.settings.width:
            add(self.embeddings, 2 * rows + (piece.resolved == 0)[:, None], weights, piece.base)
        np.minimum.at(self.first, who, piece.known_at)
        np.maximum.at(self.last, who, piece.known_at)
        if piece.codes is not None and self.settings.families:
            column = self.settings.group_half_life
            own = np.ascontiguousarray(weights[:, column : column + 1])
            cells = self._group_rows(who, piece.codes)  # first: it may replace `groups` by a larger table
            add(self.groups, cells, own, group_values(values, own))

    def _group_rows(self, who: Longs, codes: npt.NDArray[Any]) -> Longs:
        """Rows of `groups` (M, F) of CSAs and their codes (M, F), −1 where a code is; new cells get one."""
        offsets = self.settings.offsets
        known = codes >= 0
        cells = np.where(known, who[:, None] * offsets[-1] + offsets[:-1] + codes, 0)
        rows = np.where(known, np.take(self.row_of, cells), -1)
        fresh = (rows < 0) & known
        if fresh.any():
            new = np.unique(cells[fresh])
            needed = self.rows + len(new)
            if needed > len(self.groups):
                grown = np.zeros((max(needed, len(self.groups) * 3 // 2, 64), 1, len(GROUP_SUMS)))
                grown[: self.rows] = self.groups[: self.rows]
                self.groups = grown
            self.row_of[new] = np.arange(self.rows, needed)
            self.rows = needed
            rows[fresh] = self.row_of[cells[fresh]]
        return rows.astype(np.int64)

    def _add_work(self, work: Work) -> None:
        check_work(work, self.csas)
        for part, weights in self.load_decay.pieces(work.at, lambda shift: moved(self.load, shift)):
            if part.start < part.stop:
                rows = work.csa[part].astype(np.int64)[:, None]
                kinds = np.column_stack([work.change[part] > 0, work.change[part] < 0]).astype(np.float64)
                self.core.accumulate(self.load, rows, weights, kinds[:, :1])
                self.core.accumulate(self.work, rows, np.ones((len(rows), 1)), kinds)

    def _rescale(self, shift: Longs) -> None:
        moved(self.sums, shift)
        moved(self.squares, shift, [2] * len(SQUARED))
        moved(self.embeddings, shift)
        column = self.settings.group_half_life
        moved(self.groups, shift[column : column + 1], GROUP_POWERS)

    def _read_family(self, name: str, fade: Doubles, old: list[bool], who: Longs | slice) -> GroupReading:
        family, column = self.settings.family(name), self.settings.group_half_life
        offsets = self.settings.offsets
        # In the order of cells, not of rows: sums over groups must not tell in which order these were first seen.
        of_family = self.row_of.reshape(self.csas, -1)[who, offsets[family] : offsets[family + 1]]
        seen = of_family >= 0
        cells = np.flatnonzero(seen)
        csa, rows = np.repeat(np.arange(len(seen)), np.count_nonzero(seen, axis=1)), np.take(of_family, cells)
        sums = np.empty((len(GROUP_SUMS), len(rows)))
        for start in range(0, len(rows), BLOCK):
            # `take` gathers rows twice as fast as an index does.
            sums[:, start : start + BLOCK] = np.take(self.groups[:, 0], rows[start : start + BLOCK], axis=0).T
        own, view = slice(column, column + 1), sums.T[:, None]
        faded(view, fade[own], GROUP_POWERS, old[own], out=view)
        return GroupReading(csa, cells - csa * seen.shape[1], sums.T, seen.shape[1])

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that `restored` needs, as arrays without objects; the same history gives the same arrays."""
        self._rescale(self.decay.move_to(self.moment))
        moved(self.load, self.load_decay.move_to(self.moment))
        cells = np.flatnonzero(self.row_of >= 0)
        return {
            "moment": np.array(self.moment),
            "origin": self.decay.origin,
            "load_origin": self.load_decay.origin,
            **{name: getattr(self, name) for name in PER_CSA},
            "embeddings": self.embeddings.reshape(self.csas, 2, -1),
            "cells": cells,
            "groups": self.groups[self.row_of[cells], 0],
        }

    @classmethod
    def restored(cls, settings: CsaSettings, state: dict[str, npt.NDArray[Any]], core: Core = TWIN) -> CsaHistory:
        """The inverse of `state`. Raises KeyError or DataError where the arrays are not such a state."""
        history = cls(settings, len(state["last"]), int(state["moment"]), core)
        history.decay.origin = state["origin"].astype(np.int64)
        history.load_decay.origin = state["load_origin"].astype(np.int64)
        for name in PER_CSA:
            _put(history, name, state[name])
        _put(history, "embeddings", state["embeddings"].reshape(history.embeddings.shape))
        cells = state["cells"]
        history.rows, history.groups = len(cells), state["groups"].reshape(len(cells), 1, len(GROUP_SUMS)).copy()
        history.row_of[cells] = np.arange(len(cells))
        return history


BLOCK = 4096  # rows of `groups` that are turned at once, within a processor's cache
PER_CSA = ("counts", "sums", "squares", "load", "work", "first", "last")


def _put(history: CsaHistory, name: str, array: npt.NDArray[Any]) -> None:
    mine = getattr(history, name)
    if array.shape != mine.shape or array.dtype != mine.dtype:
        raise DataError(f"{name}: {array.dtype}{array.shape} where {mine.dtype}{mine.shape} is expected")
    mine[...] = array
