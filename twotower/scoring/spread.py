"""How sure a logit is: the posterior deviation of pairs, from factors of the CSAs' covariances.

Notable: factors are kept as whole numbers of 16 bits with a scale a CSA: half floats take processors five times as long
to read, and whole numbers of the same size are finer where it matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
MOST = 32_767  # the largest whole number of 16 bits


@dataclass(frozen=True)
class Factors:
    """Factors of the covariances of J CSAs' vectors: `parts` i2 (J, S, P), to be multiplied by `scale` f4[J]."""

    parts: npt.NDArray[np.int16]
    scale: Floats

    @classmethod
    def of(cls, factors: npt.NDArray[np.floating]) -> Factors:
        """From the factors (J, S, P) themselves."""
        parts, scale = np.empty(factors.shape, np.int16), np.empty(len(factors), np.float32)
        for start in range(0, len(factors), 1024):
            some = factors[start : start + 1024].astype(np.float32)
            largest = np.abs(some).max(axis=(1, 2), initial=0)
            largest[largest == 0] = 1
            scale[start : start + 1024] = largest / MOST
            parts[start : start + 1024] = np.rint(some * (MOST / largest)[:, None, None])
        return cls(parts, scale)

    def __len__(self) -> int:
        return len(self.parts)

    def take(self, codes: npt.NDArray[np.int64]) -> Factors:
        """Those of some CSAs."""
        return Factors(self.parts[codes], self.scale[codes])

    def grown(self, more: int) -> Factors:
        """With so many more CSAs, of whom nothing is open."""
        parts = np.concatenate([self.parts, np.zeros((more, *self.parts.shape[1:]), np.int16)])
        return Factors(parts, np.concatenate([self.scale, np.zeros(more, np.float32)]))

    def put(self, codes: npt.NDArray[np.int64], others: Factors) -> Factors:
        """With those of some CSAs replaced."""
        parts, scale = self.parts.copy(), self.scale.copy()
        parts[codes], scale[codes] = others.parts, others.scale
        return Factors(parts, scale)

    def of_one(self, csa: int) -> Floats:
        """The factor (S, P) of one CSA."""
        found: Floats = self.parts[csa] * self.scale[csa]
        return found

    def values(self) -> Floats:
        """The factors (J, S, P)."""
        return self.parts * self.scale[:, None, None]

    def deviations(self, profile: Floats, codes: npt.NDArray[np.int64]) -> Floats:
        """Posterior standard deviations (C,) of profile · vector for one contact (P,) and CSAs i8[C]."""
        found: Floats = self.scale[codes] * deviations(profile, self.parts[codes])
        return found


def deviations(profile: Floats, factors: npt.NDArray[np.number]) -> Floats:
    """Posterior standard deviations (C,) of profile · vector, for one contact (P,) and C candidates.

    factors (C, S, P): S − 1 rows of which each is one direction of a vector's error, and a last row of deviations of
    single components (`towers/spread.py`).
    """
    rows = factors.astype(np.float32)
    count, size, width = rows.shape
    along = (rows.reshape(-1, width) @ profile).reshape(count, size)[:, :-1]
    alone = rows[:, -1] * profile
    found: Floats = np.sqrt((along * along).sum(axis=1) + (alone * alone).sum(axis=1))
    return found
