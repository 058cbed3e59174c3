"""The linear stand-in for the joint score, ready to find candidates with: one inner product per CSA.

Notable: the stand-in's vectors (`twotower/scoring/standin.py`) are centred, which changes no order, and kept in the
principal components that carry nearly all of their variance. It only nominates; the exact score decides. What it
flattens, a CSA with one sharp match among much other work, the search over single hand-overs finds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from twotower.index.build import build_half_index
from twotower.index.vectors import Mask, Rows, widen
from twotower.scoring.join import ContactVectors, RankWeights
from twotower.scoring.rows import HistoryRows
from twotower.scoring.standin import surrogate_queries as surrogate_queries
from twotower.scoring.standin import surrogate_vectors

Floats = npt.NDArray[np.float32]

# Share of the variance that is searched; the rest would double the scan and move hardly a nomination.
KEPT_VARIANCE = 0.995


class Surrogate:
    """The stand-in for one meaning of a rank as of a moment, ready to be searched.

    weights: of that meaning; profiles: CSA vectors (J, P); rows: the memory, sorted by CSA; moment: µs.
    """

    def __init__(self, weights: RankWeights, profiles: Floats, rows: HistoryRows, moment: int) -> None:
        vectors = surrogate_vectors(weights, profiles, rows, moment).astype(np.float64)
        centred = vectors - vectors.mean(axis=0)
        variance, basis = np.linalg.eigh(centred.T @ centred)
        carried = np.cumsum(variance[::-1]) / max(float(variance.sum()), 1e-12)
        kept = min(1 + int(np.searchsorted(carried, KEPT_VARIANCE)), len(carried))
        self._basis = basis[:, ::-1][:, :kept].astype(np.float32)
        self._index = build_half_index(widen(centred @ self._basis))

    def __len__(self) -> int:
        """How many CSAs it stands in for."""
        return len(self._index)

    def search(self, contact: ContactVectors, k: int, allowed: Mask | None = None) -> Rows:
        """Codes of the k best CSAs for each contact, (B, min(k, allowed)) int64, best first."""
        return self._index.search(widen(surrogate_queries(contact) @ self._basis), k, allowed)[0]
