"""What each remembered hand-over has to do with a kernel part of one pair's score.

Notable: a *residual* part is w Σ K_i o_i r_i / (Σ K_j o_j + κ), so a hand-over's share is its own term of the sum, with
the whole mass below it. A *mass* part is w log(ε + Σ w_i K_i): without a hand-over it is w log ε, and what it stands
above that is shared in proportion to the terms w_i K_i. In both the shares and the value without a hand-over sum to
the part. Source of the formulas: `twotower/scoring/kernels.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twotower.scoring.join import ContactVectors, RankWeights
from twotower.scoring.kernels import Kernel, empty_value, similarity_weight
from twotower.scoring.memory import Gathered, Memory
from twotower.scoring.rows import HistoryRows

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Remembered:
    """The n hand-overs that a scope's kernels read: `rows` of them, their `likeness` (cosine) f4 (n,) and `age_s` f4
    (n,), and their `shares` f8 (n, kernels) of each kernel's weighted part, beyond its value without a hand-over."""

    rows: HistoryRows
    likeness: npt.NDArray[np.float32]
    age_s: npt.NDArray[np.float32]
    shares: Doubles


def remembered(
    weights: RankWeights, scope: str, memory: Memory, contact: ContactVectors, code: int
) -> tuple[list[int], Remembered | None]:
    """Which of the kernels have a scope (`csa` or `pair`), and what they read for one contact and CSA; None where there
    is no memory of that scope."""
    places = [i for i, kernel in enumerate(weights.kernels) if kernel.scope == scope]
    rows = memory.rows if scope == "csa" else memory.pairs
    if not places or rows is None:
        return places, None
    vector, moment, who = contact.memory[0], int(contact.arrived_at[0]), np.array([code])
    if scope == "csa":
        found = memory.gather(vector, moment, who)
    else:
        found = memory.gather_pairs(int(contact.customer[0]), vector, moment, who)
    kernels = [weights.kernels[i] for i in places]
    scale = np.array([weights.kernel_weights[i] for i in places])
    taken = rows.take(found.index)
    return places, Remembered(taken, found.cosine, found.age_s, _shares(kernels, taken, found) * scale)


def _shares(kernels: Sequence[Kernel], rows: HistoryRows, found: Gathered) -> Doubles:
    """Shares (n, kernels) of the unweighted parts, beyond their values without a hand-over."""
    columns = [_share(kernel, rows, similarity_weight(kernel, found.cosine, found.age_s)) for kernel in kernels]
    return np.column_stack(columns)


def _share(kernel: Kernel, rows: HistoryRows, weight: npt.NDArray[np.float32]) -> Doubles:
    if kernel.statistic == "residual":
        mass = weight.astype(np.float64) * rows.outcome
        return np.asarray(mass * rows.residual / (mass.sum() + kernel.prior))
    mass = weight.astype(np.float64) * rows.weight
    whole = mass.sum()
    if whole <= 0:
        return np.zeros(len(mass))
    above = np.log(np.exp(empty_value(kernel)) + whole) - empty_value(kernel)
    return np.asarray(mass / whole * above)
