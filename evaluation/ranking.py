"""What a ranker is and what it is judged on: which contacts are the test, who handled them, who else could have.

Notable: a ranker is anything that scores blocks of contacts against the whole roster, so the model, its peers and every
baseline go through the same code, over the same candidates, and memory is bounded by the block. Which CSA *handled* a
contact may lie in the future of its arrival; what a ranker may use is the ranker's promise and its tests' business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from twotower.clock import NEVER, NULL_TIME, format_time
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Log
from twotower.tables.ragged import Ragged

Positions = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

BLOCK_CELLS = 1 << 21  # contacts × CSAs scored at once
MOST_ROWS = 512


class Ranker(Protocol):
    """Scores contacts against the roster, higher is better, using what was known strictly before each arrived."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def scores(self, log: Log, positions: Positions) -> Scores:
        """Float32 (B, J): columns follow `log.csas.ids`; -inf puts a CSA below everybody. Positions ascend."""
        ...


@dataclass(frozen=True)
class Split:
    """Positions in `log.contacts` of the test and of the tenth of contacts just before it."""

    validation: Positions
    test: Positions

    @property
    def start(self) -> int:
        """Position of the first test contact."""
        return int(self.test[0])


def split_log(log: Log, start: int | None = None) -> Split:
    """Split a log in time.

    Args:
        log: a whole log.
        start: µs UTC; contacts with `arrived_at >= start` are the test. None: the last tenth of contacts.

    Raises:
        ConfigError: no contact arrived at `start` or later, or none before.
    """
    n = len(log.contacts)
    tenth = max(1, n // 10)
    if start is None:
        first = n - tenth
    else:
        first = int(np.searchsorted(log.contacts.arrived_at, start))
        if first == n:
            last = format_time(int(log.contacts.arrived_at[-1]))
            raise ConfigError(f"--from {format_time(start)}: no contact arrived then or later; the last came at {last}")
    if first == 0:
        raise ConfigError("--from: no contact arrived before the test, so there is no history; choose a later time")
    return Split(np.arange(max(0, first - tenth), first), np.arange(first, n))


def positive_csas(log: Log) -> Ragged:
    """Who handled each contact: CSA codes per contact, ascending and distinct; a hand-over that was not resolved is
    no positive, an unknown outcome is."""
    return _csas_of(log, log.handovers.resolved != 0)


def tried_csas(log: Log) -> Ragged:
    """Whose hand-over of each contact had an outcome, good or bad: CSA codes per contact, ascending and distinct."""
    return _csas_of(log, log.handovers.resolved >= 0)


def _csas_of(log: Log, chosen: npt.NDArray[np.bool_]) -> Ragged:
    j = len(log.csas)
    pairs = np.unique(log.handovers.contact[chosen].astype(np.int64) * j + log.handovers.csa[chosen])
    counts = np.bincount(pairs // j, minlength=len(log.contacts))
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Ragged(offsets, (pairs % j).astype(np.int32), np.zeros(len(log.contacts), dtype=np.bool_))


def candidate_mask(log: Log, positions: Positions) -> npt.NDArray[np.bool_] | None:
    """Bool (B, J) of who could have taken each contact: its eligible list, or whoever worked when it arrived.

    None where that is everybody for all of them.
    """
    eligible, csas = log.contacts.eligible, log.csas
    dated = bool(
        (csas.hired_at > NULL_TIME).any() or (csas.left_at < NEVER).any() or (csas.valid_from > NULL_TIME).any()
    )
    open_ = np.ones(len(positions), dtype=np.bool_) if eligible is None else eligible.all_[positions]
    if not dated and bool(open_.all()):
        return None
    if eligible is None:
        mask = np.ones((len(positions), len(csas)), dtype=np.bool_)
    else:
        mask = eligible.mask(positions, len(csas))
    for row in np.flatnonzero(open_) if dated else ():
        mask[row] = csas.active_at(int(log.contacts.arrived_at[positions[row]]))
    return mask


def blocks(positions: Positions, width: int) -> Iterator[Positions]:
    """Runs of positions whose scores against `width` CSAs stay within `BLOCK_CELLS`."""
    step = int(np.clip(BLOCK_CELLS // max(1, width), 1, MOST_ROWS))
    for start in range(0, len(positions), step):
        yield positions[start : start + step]


def checked(ranker: Ranker, log: Log, block: Positions) -> Scores:
    """The ranker's scores of a block.

    Raises:
        DataError: they are not one number per contact and CSA.
    """
    scores = ranker.scores(log, block)
    if scores.shape != (len(block), len(log.csas)):
        raise DataError(f"{ranker.name}: scores of shape {scores.shape}, not {(len(block), len(log.csas))}")
    if np.isnan(scores).any():
        where = log.contacts.ids[int(block[np.argwhere(np.isnan(scores))[0][0]])]
        raise DataError(f"{ranker.name}: a score of contact {where} is not a number")
    return scores


def choose(scores: Scores, candidates: Any, generator: np.random.Generator) -> npt.NDArray[np.int32]:
    """The best candidate of each row, by lot among those who tie; i4 (B,)."""
    allowed = scores if candidates is None else np.where(candidates, scores, -np.inf)
    best = allowed == allowed.max(axis=1, keepdims=True)
    best = best if candidates is None else best & candidates
    lot = np.where(best, generator.random(scores.shape, dtype=np.float32), np.float32(-1))
    choice: npt.NDArray[np.int32] = lot.argmax(axis=1).astype(np.int32)
    return choice
