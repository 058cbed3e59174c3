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
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from twotower.clock import SECOND
from twotower.scoring.join import ContactVectors, Join, RankWeights
from twotower.scoring.kernels import Kernel, empty_value, finish, similarity_weight
from twotower.scoring.rows import HistoryRows

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

LEAST_SAMPLE, MOST_SAMPLE = 512, 1536
PAIRS = 3 << 30  # of sampled contacts and remembered hand-overs: about 3 s of arithmetic for each sharp kernel
CELLS = 1 << 18  # looked at together: what a core's own cache holds
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
    for csas, some, starts in _blocks(visible, len(profiles), max(1, len(sample))):
        fitted[csas, width] += _values(flat, visible, some, starts, np.zeros((1, width), np.float32), moment)[:, 0]
        if solve is not None and sharp:
            fitted[csas] += _values(sharp, visible, some, starts, sample, moment) @ solve.T
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


def _blocks(rows: HistoryRows, csas: int, sample: int) -> Iterator[tuple[slice, slice, npt.NDArray[np.int64]]]:
    """CSAs a part at a time: them, their rows, and where the rows of each begin among these (c + 1,)."""
    starts = np.searchsorted(rows.csa, np.arange(csas + 1)).astype(np.int64)
    most, first = max(1, CELLS // sample), 0
    while first < csas:
        last = int(np.searchsorted(starts, starts[first] + most, side="right")) - 1
        last = min(csas, max(last, first + 1))
        yield slice(first, last), slice(starts[first], starts[last]), starts[first : last + 1] - starts[first]
        first = last


def _values(
    kernels: list[tuple[Kernel, float]], rows: HistoryRows, some: slice, starts: npt.NDArray[np.int64],
    sample: Floats, moment: int,
) -> Doubles:  # fmt: skip
    """Σ_k w_k part_k (c, M) of the CSAs of some rows and contacts with memory vectors (M, Q)."""
    total = np.zeros((len(starts) - 1, len(sample)))
    cosine = rows.vectors(some) @ sample.T
    age_s = ((moment - rows.known_at[some]) / SECOND).astype(np.float32)[:, None]
    for kernel, weight in kernels:
        counted = similarity_weight(kernel, cosine, age_s)
        shares = rows.weight[some] if kernel.statistic == "mass" else rows.outcome[some]
        mass, residual = _sums(np.stack([shares, shares * rows.residual[some]]), counted, starts)
        total += weight * finish(kernel, mass, residual)
    return total


def _sums(shares: Floats, counted: Floats, starts: npt.NDArray[np.int64]) -> Floats:
    """Weighted sums (2, c, M) over runs of rows, of shares (2, r) and what is counted (r, M): a small product for each
    run, several times sooner than sums along it."""
    out = np.empty((len(starts) - 1, 2, counted.shape[1]), np.float32)
    for place, (begin, end) in enumerate(pairwise(starts.tolist())):
        np.matmul(shares[:, begin:end], counted[begin:end], out=out[place])
    return out.transpose(1, 0, 2)


def csa_vectors(join: Join, profiles: Floats, rows: HistoryRows, kind: str, moment: int) -> Floats:
    """What meets `query`, (J, P + Q + 1), for the default rank as of a moment; kind: of `KINDS`."""
    weights = join.ranks[join.default]
    if kind == "profile":
        weights = RankWeights((), weights.profile)
    return surrogate_vectors(weights, profiles, rows, moment)
