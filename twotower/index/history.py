"""History vectors for search: likeness and freshness in one inner product.

Notable: what a remembered hand-over adds to a mass is e^(β cos − λ age), so hand-overs rank by cos − (λ / β) age. That
is an inner product too, [x, 1] · [x_i, −(λ / β) age_i], with ages as of the end of the data window: all ages grow
alike, so the order stays as time goes on. A rank without such parts asks with [x, 0]: likeness alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twotower.clock import SECOND
from twotower.index.vectors import widen, widened
from twotower.scoring.join import Join, Rank, RankWeights
from twotower.scoring.rows import HistoryRows

Floats = npt.NDArray[np.float32]
# Cosines differ by 2 at most: staler than this is beaten by anything fresh, and how much staler does not matter.
MOST_STALE = 2.0


def staleness_rate(join: Join) -> float:
    """λ / β in cosine per second: how much likeness a second of age costs, over the parts that weigh likeness and age.

    The weighted mean over the positive parts of `handled`; 0 where the join has none.
    """
    weights = join.ranks.get("handled")
    parts = [] if weights is None else _parts(weights)
    sharpness = sum(weight * beta for weight, beta, _ in parts)
    decay = sum(weight * np.log(2) / life for weight, _, life in parts)
    return float(decay / sharpness) if parts else 0.0


def history_vectors(rows: HistoryRows, moment: int, rate: float) -> Floats:
    """What the history index holds: (H, W) float32, the memory vectors and their staleness at a moment (µs).

    W is Q + 1 rounded up to a multiple of `LANES`, the rest being zeros. Staleness of what is known later is negative.
    """
    return stale_vectors(rows.vectors(), rows.known_at, moment, rate)


@dataclass(frozen=True)
class StaleVectors:
    """`history_vectors` of rows that are there anyway, made for those that are asked for: as many again need not lie in
    memory for a search that hardly ever looks at them."""

    rows: HistoryRows
    moment: int
    rate: float

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return len(self.rows), widened(self.rows.width + 1)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: npt.NDArray[np.int64], axis: int = 0) -> Floats:
        """Those of some rows (n, W)."""
        return stale_vectors(self.rows.vectors(rows), self.rows.known_at[rows], self.moment, self.rate)


def stale_vectors(memory: Floats, known_at: npt.NDArray[np.int64], moment: int, rate: float) -> Floats:
    """`history_vectors` of memory vectors (H, Q) and when they were known i8[H] µs."""
    stale = np.minimum(rate * (moment - known_at) / SECOND, MOST_STALE)
    return widen(np.column_stack([memory, -stale]))


def history_queries(memory: Floats, rank: Rank) -> Floats:
    """What it is searched with: (B, W) float32 from memory vectors (B, Q)."""
    return widen(np.column_stack([memory, np.full(len(memory), float(rank == "handled"))]))


def _parts(weights: RankWeights) -> list[tuple[float, float, float]]:
    """(weight, sharpness, half-life in s) of the masses that look at likeness and at age."""
    both = zip(weights.kernels, weights.kernel_weights, strict=True)
    return [
        (weight, kernel.sharpness, kernel.half_life_s)
        for kernel, weight in both
        if weight > 0 and kernel.sharpness > 0 and kernel.half_life_s is not None and kernel.scope == "csa"
    ]
