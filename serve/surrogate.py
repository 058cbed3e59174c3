"""The linear stand-in for the joint score, ready to find candidates with: one inner product per CSA.

Notable: the stand-in's vectors (`twotower/scoring/standin.py`) are centred, which changes no order, and kept in the
principal components that carry nearly all of their variance. It only nominates; the exact score decides. What it
flattens, a CSA with one sharp match among much other work, the search over single hand-overs finds.
"""

from __future__ import annotations

import numpy as np

from twotower.index.build import build_half_index
from twotower.index.standins import StandIn
from twotower.index.vectors import Mask, Rows, widen
from twotower.scoring.join import ContactVectors
from twotower.scoring.standin import surrogate_queries


class Surrogate:
    """The stand-in for one meaning of a rank as of a moment, ready to be searched."""

    def __init__(self, standin: StandIn) -> None:
        self._basis = standin.basis
        self._index = build_half_index(widen(standin.vectors.astype(np.float32)))

    def __len__(self) -> int:
        """How many CSAs it stands in for."""
        return len(self._index)

    @property
    def components(self) -> int:
        """How many numbers a search of everyone reads."""
        return len(self) * self._index.vectors.shape[1]

    def search(self, contact: ContactVectors, k: int, allowed: Mask | None = None) -> Rows:
        """Codes of the k best CSAs for each contact, (B, min(k, allowed)) int64, best first."""
        return self._index.search(widen(surrogate_queries(contact) @ self._basis), k, allowed)[0]
