"""The ceiling: how well could anyone do who has to learn the CSAs from these hand-overs?

It is given what no model has: the true needs, difficulties and upset of all contacts, the true coefficients (α, tenure,
fluency, intercept) and, for each CSA, the true Gaussian prior of the unknowns u_a = (θ_a, q_a, h_a), whose mean is that
of the CSA's team and site. It learns u_a from that CSA's hand-overs whose outcome was known strictly before T, by
maximum a posteriori:

    û_a = argmax Σ_i [ y_i·z_i − log(1 + e^{z_i}) ] − ½ Σ_k (u_k − m_ak)² / s_k²
    z_i = ⟨design(x_i), u⟩ + offset(x_i, a)                                                  (generate/latents.py)

a strictly concave problem per CSA, solved by Newton's method with halved steps. A CSA without hand-overs stays at the
prior mean. It is optimistic, since it need not learn the needs; results are stated as a share of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evaluation.generate.latents import Latents, sigmoid
from evaluation.truth import Captured, Truth, positions
from twotower.clock import NEVER, from_arrow
from twotower.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

STEPS = 50
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Evidence:
    """Hand-overs with an outcome known before a moment, sorted by CSA."""

    contact: Ints
    csa: Ints
    resolved: Floats
    """1 or 0."""


@dataclass(frozen=True)
class Ceiling:
    """What the ceiling learnt and what it is worth."""

    unknowns: Floats
    """(J, D + 2) the estimates."""
    p_resolved: Floats
    """(pairs,) estimated probabilities in the order of the truth's pairs."""
    handovers: int
    """Hand-overs it learnt from."""
    captured: Captured


def ceiling(folder: str | Path, until: int | None = None) -> Ceiling:
    """The ceiling of a generated centre.

    Args:
        folder: a centre made by `twotower generate`.
        until: µs UTC; outcomes known at this moment or later are not used. None: the arrival of the first test contact.

    Raises:
        DataError: a file is missing, damaged, or not of a generated centre.
    """
    truth = Truth.load(folder)
    latents = truth.latents
    until = int(latents.arrived_at[latents.test_begins[0]]) if until is None else until
    evidence = read_evidence(Path(folder), latents, until)
    unknowns = estimate(latents, evidence)
    contact = truth.contact[truth.rows]
    logit = latents.logit(contact, truth.csa, unknowns)
    return Ceiling(unknowns, sigmoid(logit), len(evidence.contact), truth.captured_by_pairs(logit))


def read_evidence(folder: Path, latents: Latents, until: int) -> Evidence:
    """Hand-overs whose outcome was known strictly before `until`; where `known_at` is null, `ended_at` counts."""
    path = folder / "interactions.parquet"
    try:
        table = pq.read_table(path, columns=["contact_id", "csa_id", "ended_at", "known_at", "resolved"])
    except FileNotFoundError:
        raise DataError(f"{path}: not found; generate the centre again") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); generate the centre again") from None
    known_at = from_arrow(pc.coalesce(table["known_at"], table["ended_at"]), NEVER)
    table = table.filter(pc.and_(pa.array(known_at < until), pc.is_valid(table["resolved"])))
    contact = positions(table["contact_id"], latents.contact_id, f"{path}: contact_id")
    csa = positions(table["csa_id"], latents.csa_id, f"{path}: csa_id")
    resolved = table["resolved"].to_numpy().astype(np.float64)
    order = np.lexsort((contact, csa))
    return Evidence(contact[order], csa[order], resolved[order])


def estimate(latents: Latents, evidence: Evidence) -> Floats:
    """(J, D + 2) maximum a posteriori estimates of (θ, q, h) for every CSA."""
    mean = latents.prior_mean.astype(np.float64)
    precision = 1 / latents.prior_sd.astype(np.float64) ** 2
    unknowns = mean.copy()
    bounds = np.searchsorted(evidence.csa, np.arange(len(mean) + 1))
    for csa in np.flatnonzero(np.diff(bounds)):
        rows = slice(bounds[csa], bounds[csa + 1])
        contact = evidence.contact[rows]
        offset = latents.offset(contact, np.full(len(contact), csa))
        unknowns[csa] = newton(latents.design(contact), offset, evidence.resolved[rows], mean[csa], precision)
    return unknowns


def newton(design: Floats, offset: Floats, resolved: Floats, mean: Floats, precision: Floats) -> Floats:
    """(K,) MAP of a logistic regression with a Gaussian prior.

    Args:
        design: (n, K) what the unknowns are multiplied with.
        offset: (n,) the known part of the logits.
        resolved: (n,) outcomes, 1 or 0.
        mean: (K,) prior mean.
        precision: (K,) one over the prior variance.
    """

    def loss(unknown: Floats) -> float:
        logit = design @ unknown + offset
        return float(np.logaddexp(0, logit).sum() - resolved @ logit + 0.5 * precision @ (unknown - mean) ** 2)

    unknown, current = mean.copy(), loss(mean)
    for _ in range(STEPS):
        p = sigmoid(design @ unknown + offset)
        gradient = design.T @ (p - resolved) + precision * (unknown - mean)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(precision)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (proposed := loss(unknown - size * step)) > current and size > 1e-6:
            size /= 2
        unknown, current = unknown - size * step, min(proposed, current)
        if gradient @ step < TOLERANCE:
            break
    return unknown
