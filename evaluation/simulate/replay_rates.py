"""What was known of CSAs before a window: shares of hand-overs that were resolved, shrunken, by class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluation.simulate.replay_window import Window

Doubles = npt.NDArray[np.float64]
OF_CLASS, OF_CSA, OF_PAIR = 20.0, 20.0, 20.0
"""Hand-overs that it takes to believe a class, a CSA, and a pair half."""
LEAST = 0.01


def rates_before(window: Window) -> Doubles:
    """(K, J) for all CSAs of the log, of outcomes known strictly before the window; 0.5 where there are none.

    Share of all → of the class → + what the CSA is better by → + what the pair is better by, each by its own evidence.
    """
    moves, k, j = window.log.handovers, len(window.classes), len(window.log.csas)
    told = np.flatnonzero((moves.resolved >= 0) & (moves.known_at < window.begin))
    if not len(told):
        return np.full((k, j), 0.5)
    good, csa = (moves.resolved[told] == 1).astype(np.float64), moves.csa[told].astype(np.int64)
    kind = window.kind[moves.contact[told]]
    inside = kind >= 0
    mean = np.full(len(told), good.mean())
    of_kind = _off(good[inside] - mean[inside], kind[inside], k, OF_CLASS)
    mean[inside] += of_kind[kind[inside]]
    of_csa = _off(good - mean, csa, j, OF_CSA)
    mean += of_csa[csa]
    pair = (kind * j + csa)[inside]
    of_pair = _off((good - mean)[inside], pair, k * j, OF_PAIR).reshape(k, j)
    return np.clip(good.mean() + of_kind[:, None] + of_csa[None, :] + of_pair, LEAST, 1 - LEAST)


def _off(residual: Doubles, group: npt.NDArray[np.int64], size: int, worth: float) -> Doubles:
    """(size,) by how much groups lie above 0."""
    return np.asarray(np.bincount(group, residual, size) / (np.bincount(group, minlength=size) + worth))
