"""A linear stand-in for the joint score: one vector per CSA and one per contact, whose product ranks nearly alike.

Notable: the join is nonlinear in the contact's memory vector x, but contacts lie close together, and over them each
CSA's memory is nearly a linear function. It is fitted by ridge regression to the exact parts at remembered hand-overs
drawn from everyone, which stand for the contacts to come:

    (slope_a, level_a) = argmin Σ_m (f_a(x_m) − slope_a · x_m − level_a)² + λ |slope_a|²,     f_a = Σ_k w_k part_k(·, a)

so that score(x, a) ≈ [profile(x), x, 1] · u_a. Parts that do not look at x (β = 0) are levels and exact. What tangents
and Jensen's bound nominate instead, without a sample, says docs/decisions/0039. The router nominates by it
(`serve/surrogate.py`); who has no more than a matrix product ranks by it (`export/reduced.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from twotower.clock import SECOND
from twotower.scoring.join import ContactVectors, Join, RankWeights
from twotower.scoring.kernels import Kernel, empty_value, finish, similarity_weight
from twotower.scoring.rows import HistoryRows

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Runs = tuple[Longs, npt.NDArray[np.bool_]]

LEAST_SAMPLE, MOST_SAMPLE = 512, 1536
PAIRS = 3 << 29  # of sampled contacts and remembered hand-overs: about 1.5 s of arithmetic for each sharp kernel
CELLS = 1 << 20  # looked at together: more would leave the caches, fewer wait for the interpreter more often
MOST_TOGETHER = 4096  # CSAs
RIDGE = 1e-3  # λ as a share of the sample
KINDS = ("profile", "history")  # what a bundle's `vectors.npy` may hold


def surrogate_vectors(weights: RankWeights, profiles: Floats, rows: HistoryRows, moment: int) -> Floats:
    """Vectors u (J, P + Q + 1) for one meaning of a rank as of a moment; profiles (J, P), rows sorted by CSA."""
    width = rows.width
    fitted = np.zeros((len(profiles), width + 1))
    visible = rows.take(rows.visible(moment))
    flat = [(k, w) for k, w in _weighed(weights) if k.sharpness == 0]
    sharp = [(k, w) for k, w in _weighed(weights) if k.sharpness > 0]
    sample = _sample(visible)
    design = np.column_stack([sample, np.ones(len(sample))]).astype(np.float64)
    penalty = np.diag([*np.full(width, RIDGE * len(sample)), 0.0])
    solve = np.linalg.pinv(design.T @ design + penalty) @ design.T if len(sample) else None
    for csas, runs in _blocks(visible, len(profiles), max(1, len(sample))):
        fitted[csas, width] += _values(flat, visible, runs, np.zeros((1, width), np.float32), moment)[:, 0]
        if solve is not None and sharp:
            fitted[csas] += _values(sharp, visible, runs, sample, moment) @ solve.T
        else:
            fitted[csas, width] += sum(w * empty_value(k) for k, w in sharp)
    return np.column_stack([weights.profile * profiles, fitted]).astype(np.float32)


def surrogate_queries(contact: ContactVectors) -> Floats:
    """The vectors (B, P + Q + 1) of contacts whose products with u stand in for their scores."""
    return np.column_stack([contact.profile, contact.memory, np.ones(len(contact), dtype=np.float32)])


def _weighed(weights: RankWeights) -> Iterator[tuple[Kernel, float]]:
    """Kernels over a CSA's rows that have a weight."""
    for kernel, weight in zip(weights.kernels, weights.kernel_weights, strict=True):
        if kernel.scope == "csa" and weight != 0:
            yield kernel, weight


def _sample(rows: HistoryRows) -> Floats:
    """Memory vectors (M, Q) of some of the rows, the same for the same rows."""
    most = min(MOST_SAMPLE, max(LEAST_SAMPLE, PAIRS // max(1, len(rows))))
    if len(rows) <= most:
        return rows.vectors()
    return rows.vectors(np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False)))


def _blocks(rows: HistoryRows, csas: int, sample: int) -> Iterator[tuple[Longs, Runs]]:
    """CSAs of like many rows at a time: their codes (c,), and where their rows are (c, L) with which of these count."""
    starts = np.searchsorted(rows.csa, np.arange(csas + 1)).astype(np.int64)
    lengths = np.diff(starts)
    order, first = np.argsort(lengths, kind="stable"), 0
    while first < csas:
        many = MOST_TOGETHER
        while many > (fits := max(1, CELLS // (sample * max(1, int(lengths[order[first:][:many]].max()))))):
            many = fits
        some = order[first : first + many]
        place = np.arange(int(lengths[some].max()))
        inside = place < lengths[some, None]
        yield some, (np.where(inside, starts[some, None] + place, 0), inside)
        first += many


def _values(kernels: list[tuple[Kernel, float]], rows: HistoryRows, runs: Runs, sample: Floats, moment: int) -> Doubles:
    """Σ_k w_k part_k (c, M) of CSAs, by their rows, and contacts with memory vectors (M, Q)."""
    index, inside = runs
    total = np.zeros((len(index), len(sample)))
    cosine = (rows.vectors(index.ravel()) @ sample.T).reshape(*index.shape, len(sample))
    age_s = ((moment - rows.known_at[index]) / SECOND).astype(np.float32)[:, :, None]
    for kernel, weight in kernels:
        counted = similarity_weight(kernel, cosine, age_s)
        shares = inside * (rows.weight if kernel.statistic == "mass" else rows.outcome)[index]
        # Sums along runs would take longer than the exponentials that they sum.
        sums = np.stack([shares, shares * rows.residual[index]], axis=1) @ counted
        total += weight * finish(kernel, sums[:, 0], sums[:, 1])
    return total


def csa_vectors(join: Join, profiles: Floats, rows: HistoryRows, kind: str, moment: int) -> Floats:
    """What meets `query`, (J, P + Q + 1), for the default rank as of a moment; kind: of `KINDS`."""
    weights = join.ranks[join.default]
    if kind == "profile":
        weights = RankWeights((), weights.profile)
    return surrogate_vectors(weights, profiles, rows, moment)
