"""Two Gaussian regressions whose variances are chosen by marginal likelihood: many weights, and effects of groups.

Notable: both are exact and closed but for one or two ratios of variances, which are searched on a grid of the marginal
likelihood (type II maximum likelihood; MacKay, "Bayesian interpolation", 1992; for effects of groups Patterson and
Thompson, 1971). An effect is its best linear unbiased prediction (Henderson, 1975), so it is shrunken by how little is
known of its group, and where groups do not differ the likelihood says so and every effect is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
PENALTIES = 10.0 ** np.arange(-1, 7.01, 0.25)  # noise variance over that of a weight
RATIOS = np.append(0.0, 10.0 ** np.arange(-4, 1.01, 0.25))  # variance of an effect, or a feature's weight, over noise
CHUNK = 8192


class Ridge:
    """Regressions on the same inputs x (n, W): y = x · w + b + ε, w ~ N(0, σ²/λ), no prior on b."""

    def __init__(self, x: Floats) -> None:
        self._x, self._mean = x, x.mean(axis=0, dtype=np.float64)
        gram = np.zeros((x.shape[1], x.shape[1]))
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK] - self._mean.astype(np.float32)
            gram += part.T @ part
        values, self._axes = np.linalg.eigh(gram)
        self._values = np.maximum(values, 0)

    def solve(self, y: Doubles) -> tuple[Doubles, float]:
        """Weights (W,) and b of values (n,); λ maximises −n/2 log(yᵀy − Σ g²/(d + λ)) + ½ Σ log λ/(d + λ), with d the
        inputs' squared singular values and g the moments along them."""
        y = y - (level := float(y.mean()))
        # Sums of products in single precision, of thousands of rows, lose digits that the differences above need.
        moment = np.zeros(len(self._mean))
        for start in range(0, len(y), CHUNK):
            part = slice(start, start + CHUNK)
            moment += (self._x[part] - self._mean.astype(np.float32)).T @ y[part]
        g, d, lam = self._axes.T @ moment, self._values, PENALTIES[:, None]
        left = np.maximum(float(y @ y) - (g**2 / (d + lam)).sum(axis=1), 1e-12 * max(float(y @ y), 1e-300))
        evidence = -len(y) / 2 * np.log(left) + 0.5 * np.log(lam / (d + lam)).sum(axis=1)
        weight: Doubles = self._axes @ (g / (d + PENALTIES[int(evidence.argmax())]))
        return weight, level - float(self._mean @ weight)


@dataclass(frozen=True)
class Cells:
    """Observations (n,) by groups that have features: `group` i8 (C,) and `features` f4 (C, G) of each cell, `cell` i8
    (n,) of each observation; `groups` J. The features of a group may differ from cell to cell."""

    group: Longs
    features: Floats
    cell: Longs
    groups: int

    def values(self, side: Doubles, effects: Doubles) -> Doubles:
        """features · side + effect of the group, (n,); side (G,), effects (J,)."""
        found: Doubles = (self.features @ side + effects[self.group])[self.cell]
        return found


class Mixed:
    """Regressions on the same cells: y = f·β + b_group + ε, β ~ N(0, kσ²), b ~ N(0, rσ²).

    With n_j, s_j and F_j the count, the sum of y and the sum of features of a group, ρ_j = r / (1 + r n_j),

        A = Σ ffᵀ − Σ ρ_j F_j F_jᵀ,   h = Σ f y − Σ ρ_j s_j F_j,   q = Σ y² − Σ ρ_j s_j²,
        β = (A + 1/k)⁻¹ h,   b_j = ρ_j (s_j − F_j·β),

    and r, k maximise −n/2 log(q − hᵀβ) − ½ Σ log(1 + r n_j) − ½ log det(1 + k A). A does not know y: its eigenvectors
    of every r, which take most of the time, are found once.
    """

    def __init__(self, cells: Cells) -> None:
        self._cells, (many, width) = cells, cells.features.shape
        self._count = np.bincount(cells.cell, minlength=many).astype(np.float64)
        self._n = self._by_group(self._count)
        self._sums, gram = np.zeros((cells.groups, width)), np.zeros((width, width))
        for part, f in self._chunks():
            weighed = f * self._count[part, None]
            np.add.at(self._sums, cells.group[part], weighed)
            gram += weighed.T @ f
        self._rho = [ratio / (1 + ratio * self._n) for ratio in RATIOS]
        self._bases = [np.linalg.eigh(gram - (self._sums * rho[:, None]).T @ self._sums) for rho in self._rho]

    def solve(self, y: Doubles) -> tuple[Doubles, Doubles]:
        """Weights (G,) of the features and effects (J,) of the groups of values (n,)."""
        total: Doubles = np.bincount(self._cells.cell, y, len(self._count)).astype(np.float64)
        moment = np.zeros(self._sums.shape[1])
        for part, f in self._chunks():
            moment += f.T @ total[part]
        s, square, best = self._by_group(total), float(y @ y), -np.inf
        found, k = (np.zeros(len(moment)), np.zeros(len(s))), RATIOS[:, None]
        for ratio, rho, (values, axes) in zip(RATIOS, self._rho, self._bases, strict=True):
            d, g = np.maximum(values, 0), axes.T @ (moment - self._sums.T @ (rho * s))
            left = square - float(rho @ s**2) - (k * g**2 / (1 + k * d)).sum(axis=1)
            evidence = -len(y) / 2 * np.log(np.maximum(left, 1e-12 * max(square, 1e-300)))
            evidence -= 0.5 * np.log1p(ratio * self._n).sum() + 0.5 * np.log1p(k * d).sum(axis=1)
            place = int(evidence.argmax())
            if evidence[place] > best:
                weight = axes @ (RATIOS[place] * g / (1 + RATIOS[place] * d))
                best, found = float(evidence[place]), (weight, rho * (s - self._sums @ weight))
        return found

    def _by_group(self, of_cells: Doubles) -> Doubles:
        return np.bincount(self._cells.group, of_cells, self._cells.groups).astype(np.float64)

    def _chunks(self) -> Iterator[tuple[slice, Doubles]]:
        for start in range(0, len(self._cells.features), CHUNK):
            part = slice(start, start + CHUNK)
            yield part, self._cells.features[part].astype(np.float64)
