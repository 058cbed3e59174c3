"""Randomisation inference: what the lots could have been, and what the same outcomes would have said then.

Notable: nothing is assumed of how blocks hang together in time; the lots alone are random, and they are known (Bojinov,
Simchi-Levi & Zhao 2023, "Design and analysis of switchback experiments", Management Science 69). The statistic is
studentised, so that the test is exact where the effect is the same in every block and right in large samples where only
its mean is meant (Wu & Ding 2021, "Randomization tests for weak null hypotheses", JASA 116). Under a constant effect τ
a contact of the treatment would have had y − τ; both the estimate and its variance are then polynomials in τ whose
coefficients each draw needs only once, so an interval by inversion costs little more than one test.

Contacts of a wash-out count or not by which arm came before, so their sums stand apart and follow every draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Arms = npt.NDArray[np.int8]

CONTROL = 0
ALWAYS = -2
"""What `Sums.before` says of a cell whose first minutes never count."""
ENUMERATED = 4096
"""Lots that are no more than so many are all tried."""
STEPS = 60
SAME = 1e-9


@dataclass(frozen=True)
class Sums:
    """Of C cells: contacts and the sum of their metric, those of the first minutes apart."""

    n: Doubles
    """(C,) contacts that always count."""
    s: Doubles
    early_n: Doubles
    """(C,) contacts that count where the arm did not change."""
    early_s: Doubles
    before: Longs
    """(C,) the cell before in the same unit; −1: the control was before; −2: its first minutes never count."""
    cluster: Longs
    """(C,) cells of one number were drawn together."""

    def counted(self, arms: Arms) -> Doubles:
        """(R, C), 1.0 where the first minutes count under arms (R, C)."""
        earlier = np.where(self.before >= 0, arms[:, self.before], CONTROL)
        return np.where(self.before == ALWAYS, False, arms == earlier).astype(np.float64)


def lots(arms: Arms, cluster: Longs, group: Longs, draws: int, seed: int) -> tuple[Arms, bool]:
    """Draws (R, C) of the arms (C,), the first of them the one that was, and whether they are all that there are.

    Two cells of a cluster have different arms and may be exchanged; cells that are alone are permuted within their
    group, which is right whether their arms were drawn one by one or so many of each.
    """
    count = np.bincount(cluster)
    pairs = np.flatnonzero(count == 2)
    which = np.full(len(count), -1)
    which[pairs] = np.arange(len(pairs))
    place, alone = which[cluster], np.flatnonzero(count[cluster] == 1)
    free = [rows for g in np.unique(group[alone]) if np.ptp(arms[rows := alone[group[alone] == g]]) > 0]
    if not free and 2 ** len(pairs) <= max(ENUMERATED, 1):
        flips = (np.arange(2 ** len(pairs))[:, None] >> np.arange(len(pairs))) & 1
        return _flipped(arms, place, flips.astype(np.int8)), True
    rng = np.random.default_rng((seed, 9))
    flips = rng.integers(0, 2, (draws + 1, len(pairs)), dtype=np.int8)
    flips[0] = 0
    drawn = _flipped(arms, place, flips)
    for rows in free:
        drawn[1:, rows] = rng.permuted(drawn[1:, rows], axis=1)
    return drawn, False


def _flipped(arms: Arms, place: Longs, flips: Arms) -> Arms:
    """Arms (R, C) with those of pair `place` (C,) exchanged where flips (R, P) is 1."""
    if flips.shape[1] == 0:
        return np.repeat(arms[None, :], len(flips), axis=0)
    flipped = np.where(place >= 0, flips[:, place], 0)
    return np.asarray(arms ^ flipped, np.int8)


@dataclass(frozen=True)
class Redrawn:
    """Every draw's estimate a − τ b and variance p − 2 τ q + τ² r, of y − τ · treated; the first is the one that
    was."""

    a: Doubles
    b: Doubles
    p: Doubles
    q: Doubles
    r: Doubles
    whole: bool
    """These are all draws that there are."""

    @property
    def value(self) -> float:
        return float(self.a[0])

    @property
    def se(self) -> float:
        return math.sqrt(self.p[0])

    def p_value(self, effect: float = 0.0) -> float:
        """Two-sided, of the hypothesis that the treatment adds `effect` to every contact."""
        variance = np.maximum(self.p - 2 * effect * self.q + effect**2 * self.r, 0.0)
        distance = np.abs(self.a - effect * self.b)
        # Compared without division: a draw whose clusters all agree has no variance, and is as far as can be.
        far = distance**2 * variance[0] >= distance[0] ** 2 * variance * (1 - SAME) - SAME**2
        count, drawn = int(far[1:].sum()), len(far)
        return (count + 1) / drawn

    def interval(self, alpha: float) -> tuple[float, float]:
        """Effects that the test does not reject at level α; infinite where the lots are too few to reject any."""
        return self._end(alpha, -1.0), self._end(alpha, 1.0)

    def _end(self, alpha: float, side: float) -> float:
        step = self.se if self.se > 0 else max(abs(self.value), 1.0) * 1e-6
        inside, reach = 0.0, 2.0
        while self.p_value(self.value + side * reach * step) > alpha:
            inside, reach = reach, 2 * reach
            if reach > 1e6:
                return side * math.inf
        for _ in range(STEPS):
            middle = (inside + reach) / 2
            if self.p_value(self.value + side * middle * step) > alpha:
                inside = middle
            else:
                reach = middle
        return self.value + side * inside * step


def redraw(sums: Sums, arms: Arms, whole: bool) -> Redrawn:
    """What each of the draws (R, C) would have said, the first being the one that was.

    The estimate is the difference of the arms' means over contacts; its variance Σ_g (Σ_{i in g} ± (s_i − m n_i) / N)²,
    with m and N the mean and the contacts of the cell's arm: each lot decides a cluster whole. Draws with less than two
    cells of contacts in an arm could not have been analysed and do not count.
    """
    counted = sums.counted(arms)
    n = sums.n + counted * sums.early_n
    s = sums.s + counted * sums.early_s
    treated = (arms == 1).astype(np.float64)
    kept = (((n > 0) * treated).sum(axis=1) > 1) & (((n > 0) * (1 - treated)).sum(axis=1) > 1)
    n, s, treated = n[kept], s[kept], treated[kept]
    own = n * (arms[0] == 1)
    a, of_s = _differences(s, n, treated, sums.cluster)
    b, of_own = _differences(own, n, treated, sums.cluster)
    p, q, r = (of_s**2).sum(axis=1), (of_s * of_own).sum(axis=1), (of_own**2).sum(axis=1)
    return Redrawn(a, b, p, q, r, whole)


def _differences(z: Doubles, n: Doubles, treated: Doubles, cluster: Longs) -> tuple[Doubles, Doubles]:
    """Differences (R,) of the arms' means Σz / Σn, and the clusters' parts (R, G) in their error."""
    value, part = np.zeros(len(z)), np.zeros_like(z)
    for weight, sign in ((treated, 1.0), (1 - treated, -1.0)):
        count = (n * weight).sum(axis=1)
        mean = (z * weight).sum(axis=1) / count
        value += sign * mean
        part += sign * weight * (z - mean[:, None] * n) / count[:, None]
    order = np.argsort(cluster, kind="stable")
    starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    return value, np.add.reduceat(part[:, order], starts, axis=1)
