"""What is believed of every CSA's vector, and how an outcome changes it before any retraining.

Notable: training leaves a Gaussian belief about each CSA, a mean (the tower's vector v) and a factor of its covariance
Σ (`twotower/scoring/spread.py`). An outcome r of contact u with logit z = level + u·v moves both as Bayes' rule does
under a Gaussian approximation (assumed density filtering; Opper, "A Bayesian approach to on-line learning", 1998):

    v ← v + Σu (r − p) / (1 + w uᵀΣu),   Σ ← Σ − w Σu uᵀΣ / (1 + w uᵀΣu),   p = E σ(z),   w = p (1 − p),

with MacKay's (1992) approximation of E σ(z) under Σ. A CSA of whom much is known hardly moves, one who joined this
morning moves with their first contacts. Whoever matches a log and whoever serves live go through the same outcomes in
the order in which they became known, from the same vectors, and so come to the same beliefs.

An outcome makes components depend on each other that varied alone, so from their first outcome on a CSA has a square
root of Σ with a row for each of those too, and the update is the formula's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twotower.scoring.spread import Factors

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Roots = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Spread:
    """How far the vectors of J CSAs may be off, at one moment: `trained`, factors as training left them, and `roots`,
    objects (J,), of whom outcomes have taught something a square root (R, P) of Σ, RᵀR, else None; `taught`: whether
    there is any."""

    trained: Factors
    roots: Roots
    taught: bool = False

    @classmethod
    def of(cls, trained: Factors) -> Spread:
        """As training left it."""
        return cls(trained, np.full(len(trained), None, dtype=object))

    def deviations(self, profile: Floats, codes: Codes) -> Floats:
        """Posterior standard deviations (C,) of profile · vector for one contact (P,) and CSAs i8[C]."""
        if not self.taught:
            return self.trained.deviations(profile, codes)
        roots = self.roots[codes]
        found = np.empty(len(codes), np.float32)
        still = np.array([root is None for root in roots], dtype=np.bool_)
        if still.any():
            found[still] = self.trained.deviations(profile, codes[still])
        for i in np.flatnonzero(~still).tolist():
            along = roots[i] @ profile
            found[i] = math.sqrt(float(along @ along))
        return found

    @property
    def nbytes(self) -> int:
        """What it holds beside `trained`, in bytes; roots that other moments share are counted."""
        return int(self.roots.nbytes + sum(root.nbytes for root in self.roots if root is not None))


class Beliefs:
    """Beliefs about J CSAs: `vectors` (J, P) and factors `spread` (J) as training left them, and what outcomes
    have taught since.

    A CSA with outcomes takes (S − 1 + n) P + 2 P floats of 4 bytes, n being how many components of theirs vary alone:
    the constant in a bundle whose posterior was sampled (n = 1), all of them in one of members (n = P; 70 kB with
    eight members of 16).
    """

    def __init__(self, vectors: Floats, spread: Factors) -> None:
        self._vectors = vectors.copy()
        self._own: dict[int, Doubles] = {}
        nothing = Spread.of(spread)
        self._factors, self._roots = nothing.trained, nothing.roots
        self._taught = False

    def learn(self, csa: int, profile: Floats, level: float, resolved: bool) -> None:
        """Take in the outcome of a contact with profile (P,) and level, both as they enter the joint logit."""
        root = self._roots[csa]
        root = root_of(self._factors.of_one(csa)) if root is None else root
        own = self._own.get(csa, 0.0)
        u = profile.astype(np.float64)
        along = (root @ profile).astype(np.float64)
        pull = (along.astype(np.float32) @ root).astype(np.float64)
        variance = float(along @ along)
        mean = level + float((self._vectors[csa] + own) @ u)
        p = 1 / (1 + math.exp(-max(-30.0, min(30.0, mean / math.sqrt(1 + math.pi * variance / 8)))))
        weight = p * (1 - p)
        gain = 1 / (1 + weight * variance)
        self._own[csa] = own + pull * ((float(resolved) - p) * gain)
        if variance > 0:  # a square root of I − c aaᵀ is I − b aaᵀ
            shrink = (1 - math.sqrt(gain)) / variance
            # A new array: whoever reads the old one goes on reading what was believed then.
            self._taught = True
            self._roots[csa] = root - np.outer((shrink * along).astype(np.float32), pull.astype(np.float32))

    def vector(self, csa: int, vector: Floats) -> Floats:
        """The CSA's vector (P,), which may have moved with their numbers, and what outcomes have taught since."""
        own = self._own.get(csa)
        return vector if own is None else (vector + own).astype(np.float32)

    def all_vectors(self, vectors: Floats) -> Floats:
        """The same for everyone (J, P)."""
        out = vectors.copy()
        for csa in self._own:
            out[csa] = self.vector(csa, vectors[csa])
        return out

    def grow(self, csas: int) -> None:
        """Make room for more CSAs, of whom nothing is believed yet."""
        more = csas - len(self._vectors)
        if more <= 0:
            return
        self._vectors = np.concatenate([self._vectors, np.zeros((more, self._vectors.shape[1]), np.float32)])
        self._factors = self._factors.grown(more)
        self._roots = np.concatenate([self._roots, np.full(more, None, dtype=object)])

    def begin(self, csa: int, vector: Floats, factor: Factors) -> None:
        """What the tower says, vector (P,) and one factor, of a CSA about whom it said nothing or something else.
        What outcomes have taught stays."""
        self._vectors[csa] = vector
        if self._own.get(csa) is None:
            # As a root, because others may be reading the factors.
            self._roots[csa], self._taught = root_of(factor.of_one(0)), True

    def spread(self) -> Spread:
        """How far everyone's vector may be off now; it does not change with what is learnt later."""
        return Spread(self._factors, self._roots.copy(), self._taught)


def root_of(rows: Floats) -> Floats:
    """A square root (S − 1 + n, P) of the covariance of a factor (S, P), the n components that vary alone as rows."""
    alone = np.flatnonzero(rows[-1])
    root = np.zeros((len(rows) - 1 + len(alone), rows.shape[1]), np.float32)
    root[: len(rows) - 1] = rows[:-1]
    root[len(rows) - 1 + np.arange(len(alone)), alone] = rows[-1, alone]
    return root
