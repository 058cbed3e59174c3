"""A linear stand-in for the joint score: one vector per CSA and one per contact, whose product ranks nearly alike.

Notable: the join is nonlinear in the contact's memory vector x, but each of its parts has a good linear bound or
tangent, and those add up to one vector per CSA. With weights w_i = weight_i · 2^(−age_i / h) at a fixed moment,
W = Σ w_i and m = Σ w_i x_i / W,

    log(ε + Σ w_i e^{β (x·x_i − 1)})  ≈  log(ε + W) + W / (ε + W) · β (x·m − 1)          (Jensen's inequality)
    Σ K_i r_i / (Σ K_i + κ)           ≈  e^{−β/2} Σ r_i (1 + β (x·x_i − ½)) / (e^{−β/2} n + κ)   (tangent at x·x_i = ½)

so that score(x, a) ≈ [profile(x), x, 1] · u_a. The router nominates by it (`serve/surrogate.py`); who has no more than
a matrix product ranks by it (`export/reduced.py`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from twotower.clock import SECOND
from twotower.scoring.join import ContactVectors, RankWeights
from twotower.scoring.kernels import FLOOR, Kernel
from twotower.scoring.rows import HistoryRows

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def surrogate_vectors(weights: RankWeights, profiles: Floats, rows: HistoryRows, moment: int) -> Floats:
    """Vectors u (J, P + Q + 1) for one meaning of a rank as of a moment; profiles (J, P), rows sorted by CSA."""
    slope = np.zeros((len(profiles), rows.vector.shape[1]))
    level = np.zeros(len(profiles))
    visible = rows.take(rows.visible(moment))
    for kernel, weight in zip(weights.kernels, weights.kernel_weights, strict=True):
        if kernel.scope == "csa" and weight != 0:
            slope_k, level_k = _linear(kernel, visible, len(profiles), moment)
            slope += weight * slope_k
            level += weight * level_k
    return np.column_stack([weights.profile * profiles, slope, level]).astype(np.float32)


def surrogate_queries(contact: ContactVectors) -> Floats:
    """The vectors (B, P + Q + 1) of contacts whose products with u stand in for their scores."""
    return np.column_stack([contact.profile, contact.memory, np.ones(len(contact), dtype=np.float32)])


def _linear(kernel: Kernel, rows: HistoryRows, csas: int, moment: int) -> tuple[Doubles, Doubles]:
    """Slope (J, Q) and level (J,) of one kernel part."""
    age_s = (moment - rows.known_at) / SECOND
    decay: Doubles = np.ones(len(rows)) if kernel.half_life_s is None else np.exp2(-age_s / kernel.half_life_s)
    beta = kernel.sharpness
    if kernel.statistic == "mass":
        weight = decay * rows.weight.astype(np.float64)
        mass = np.bincount(rows.csa, weight, csas)
        share = beta / (FLOOR + mass)
        return share[:, None] * _sums(rows, weight, csas), np.log(FLOOR + mass) - share * mass
    fade = np.exp(-beta / 2)
    evidence = fade * np.bincount(rows.csa, decay * rows.outcome, csas) + kernel.prior
    residual = decay * rows.residual.astype(np.float64) * rows.outcome
    total = np.bincount(rows.csa, residual, csas)
    share = fade / evidence
    return (beta * share)[:, None] * _sums(rows, residual, csas), share * total * (1 - beta / 2)


def _sums(rows: HistoryRows, weight: Doubles, csas: int) -> Doubles:
    """Σ weight_i x_i over each CSA's rows, (J, Q)."""
    starts = np.searchsorted(rows.csa, np.arange(csas + 1))
    out = np.zeros((csas, rows.vector.shape[1]))
    filled = np.flatnonzero(np.diff(starts))
    if len(filled):
        out[filled] = np.add.reduceat(rows.vector * weight[:, None], starts[filled], axis=0)
    return out
