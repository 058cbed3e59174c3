"""What is believed of every CSA's vector, and how an outcome changes it before any retraining.

Notable: training leaves a Gaussian belief about each CSA, a mean (the tower's vector v) and a factor of its covariance
Σ (`twotower/scoring/spread.py`). An outcome r of contact u with logit z = level + u·v moves both as Bayes' rule does
under a Gaussian approximation (assumed density filtering; Opper, "A Bayesian approach to on-line learning", 1998):

    v ← v + Σu (r − p) / (1 + w uᵀΣu),   Σ ← Σ − w Σu uᵀΣ / (1 + w uᵀΣu),   p = E σ(z),   w = p (1 − p),

with MacKay's (1992) approximation of E σ(z) under Σ. A CSA of whom much is known hardly moves, one who joined this
morning moves with their first contacts. Whoever matches a log and whoever serves live go through the same outcomes in
the order in which they became known, from the same vectors, and so come to the same beliefs.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Doubles = npt.NDArray[np.float64]


class Beliefs:
    """Beliefs about J CSAs: `vectors` (J, P) and factors `spread` (J, S, P) as training left them, neither changed, and
    what outcomes have taught since."""

    def __init__(self, vectors: Floats, spread: Halves) -> None:
        self._vectors, self._spread = vectors, spread
        self._learnt: dict[int, tuple[Doubles, Doubles]] = {}

    def learn(self, csa: int, profile: Floats, level: float, resolved: bool) -> None:
        """Take in the outcome of a contact with profile (P,) and level, both as they enter the joint logit."""
        own, factor = self._learnt.get(csa) or (np.zeros(len(profile)), self._spread[csa].astype(np.float64))
        u = profile.astype(np.float64)
        along, alone = factor[:-1] @ u, factor[-1] ** 2 * u
        pull = along @ factor[:-1] + alone
        variance = float(pull @ u)
        mean = level + float(self._vectors[csa] @ u + own @ u)
        p = 1 / (1 + math.exp(-max(-30.0, min(30.0, mean / math.sqrt(1 + math.pi * variance / 8)))))
        weight = p * (1 - p)
        gain = 1 / (1 + weight * variance)
        shrunk = factor.copy()
        length = float(along @ along)
        if length > 0:  # a square root of I − c aaᵀ is I − b aaᵀ
            left = max(0.0, 1 - weight * length / (1 + weight * length))
            shrunk[:-1] -= (1 - math.sqrt(left)) / length * np.outer(along, along @ factor[:-1])
        shrunk[-1] *= np.sqrt(np.maximum(1 - weight * gain * (factor[-1] * u) ** 2, 0))
        self._learnt[csa] = own + pull * ((float(resolved) - p) * gain), shrunk

    def vector(self, csa: int, vector: Floats) -> Floats:
        """The CSA's vector (P,), which may have moved with their numbers, and what outcomes have taught since."""
        learnt = self._learnt.get(csa)
        return vector if learnt is None else (vector + learnt[0]).astype(np.float32)

    def all_vectors(self, vectors: Floats) -> Floats:
        """The same for everyone (J, P)."""
        out = vectors.copy()
        for csa in self._learnt:
            out[csa] = self.vector(csa, vectors[csa])
        return out

    def factor(self, csa: int) -> Halves:
        """The factor (S, P) of a CSA's covariance."""
        learnt = self._learnt.get(csa)
        return self._spread[csa] if learnt is None else learnt[1].astype(np.float16)

    def all_factors(self) -> Halves:
        """The same of everyone (J, S, P)."""
        out = self._spread.copy()
        for csa in self._learnt:
            out[csa] = self.factor(csa)
        return out
