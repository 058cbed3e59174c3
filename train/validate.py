"""What validation measures, on the latest part of the log, with nothing that was not known yet.

Notable: early stopping watches a ranking metric, `val_rank`: the AUC of outcomes where the log has failures, the mean
reciprocal rank of who took the contact where it has none or where the memory is trained; their sum where there are
both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from train.encode import csa_vectors, encode
from train.objectives.base import SUCCESS_LEVEL
from train.objectives.memory import MemoryMixture
from train.prepare import TrainingSet, eligible_mask
from train.propensity import Propensities
from train.sampling import chances
from twotower.clock import DAY
from twotower.metrics import auc
from twotower.scoring.join import ContactVectors, log_sigmoid, sigmoid
from twotower.towers.two_tower import TwoTower

MOST_CONTACTS = 2000  # of the validation window, evenly spaced
MOST_ROWS = 20_000  # recent hand-overs the memory is validated on
MOST_CELLS = 1 << 24  # contacts × CSAs scored at once
CORRECTED = ("corrected_softmax", "sampled_softmax")  # objectives with log π₀ in their logits
Indices = npt.NDArray[np.int64]


def validation_metrics(
    model: TwoTower,
    data: TrainingSet,
    objective: str,
    memory: MemoryMixture | None,
    propensities: Propensities | None = None,
) -> dict[str, float]:
    """Metrics of the validation window, with `val_rank` among them; propensities as the objective was given them."""
    positions = data.validation()
    found: dict[str, float] = {}
    if data.has_failures and objective == "sigmoid":
        found |= outcome_metrics(model, data, positions[data.resolved[positions] >= 0])
    taken = positions[data.resolved[positions] != 0]
    taken = taken[np.linspace(0, len(taken) - 1, min(len(taken), MOST_CONTACTS)).astype(np.int64)]
    if memory is not None and len(taken):
        found["val_memory_mrr"] = memory_mrr(model, data, memory, taken)
    if objective != "sigmoid" and len(taken):
        found["val_profile_mrr"] = profile_mrr(model, data, taken, objective in CORRECTED, propensities)
    parts = [found[k] for k in ("val_auc", "val_memory_mrr", "val_profile_mrr") if k in found]
    return found | {"val_rank": float(sum(parts))}


def profile_logits(
    model: TwoTower, data: TrainingSet, positions: Indices, vectors: ContactVectors
) -> npt.NDArray[np.float32]:
    """Profile logit (B,) of each hand-over's own pair; vectors of the contacts in the same order."""
    snapshot = data.snapshot[data.contact[positions]]
    out = np.empty(len(positions), dtype=np.float32)
    for s in np.unique(snapshot):
        rows = np.flatnonzero(snapshot == s)
        csa = csa_vectors(model, data, int(s))[data.csa[positions[rows]]]
        out[rows] = (vectors.profile[rows] * csa).sum(axis=1) + vectors.level[rows]
    return out


def outcome_metrics(model: TwoTower, data: TrainingSet, positions: Indices) -> dict[str, float]:
    """AUC and log loss of the profile part on hand-overs with outcomes."""
    resolved = data.resolved[positions] == 1
    if not len(positions) or resolved.all() or not resolved.any():
        return {}
    logits = profile_logits(model, data, positions, encode(model, data, data.contact[positions]))
    p = sigmoid(logits).clip(1e-6, 1 - 1e-6)
    loss = -np.where(resolved, np.log(p), np.log1p(-p)).mean()
    return {"val_auc": float(auc(logits, resolved)), "val_log_loss": float(loss)}


def profile_mrr(
    model: TwoTower, data: TrainingSet, positions: Indices, corrected: bool, propensities: Propensities | None
) -> float:
    """Mean reciprocal rank of the taker by the profile part, with log σ and log π₀ where successes were modelled so."""
    contacts = data.contact[positions]
    vectors = encode(model, data, contacts)
    reciprocal = np.zeros(len(positions))
    most = max(1, MOST_CELLS // len(data.identity))
    for s in np.unique(data.snapshot[contacts]):
        there, csas = np.flatnonzero(data.snapshot[contacts] == s), csa_vectors(model, data, int(s))
        for rows in np.split(there, range(most, len(there), most)):
            scores = vectors.profile[rows] @ csas.T
            if corrected:
                # What was written down is of the taker alone, and would give them away.
                found = chances(data, contacts[rows], int(s), propensities, logged=False)
                level = vectors.level[rows, None] if data.eligible is None else np.float32(SUCCESS_LEVEL)
                scores = log_sigmoid(scores + level) + found.cells()[1]
            mask = eligible_mask(data, contacts[rows])
            if mask is not None:
                scores = np.where(mask, scores, -np.inf)
            own = scores[np.arange(len(rows)), data.csa[positions[rows]]]
            reciprocal[rows] = 1 / (1 + (scores > own[:, None]).sum(axis=1))
    return float(reciprocal.mean())


@torch.inference_mode()
def memory_mrr(model: TwoTower, data: TrainingSet, memory: MemoryMixture, positions: Indices) -> float:
    """Mean reciprocal rank of the taker by the learned mixture over the recent history, rolled forward."""
    contacts = data.contact[positions]
    arrived = data.arrived_at[contacts]
    rows = np.flatnonzero(data.resolved != 0)
    rows = rows[: np.searchsorted(data.known_at[rows], arrived.max())][-MOST_ROWS:]
    vectors, past = encode(model, data, contacts).memory, encode(model, data, data.contact[rows]).memory
    # Columns are of CSAs who took a row: nobody else has a share, so none is ahead of whoever has.
    found, column = np.unique(data.csa[rows], return_inverse=True)
    place = np.full(len(data.identity), len(found))
    place[found] = np.arange(len(found))
    total = 0.0
    for start in range(0, len(positions), 128):
        part = slice(start, start + 128)
        age = (arrived[part, None] - data.known_at[rows][None, :]) / DAY
        customer = data.customer[contacts[part]]
        same = (customer[:, None] == data.customer[data.contact[rows]][None, :]) & (customer[:, None] >= 0)
        cosine = torch.from_numpy(vectors[part] @ past.T)
        arguments = (cosine, torch.from_numpy(age.clip(0).astype(np.float32)), torch.from_numpy(same))
        log_kernel = memory.log_kernel(*(a.to(memory.same.device) for a in arguments)).cpu()
        weight = torch.where(torch.from_numpy(age > 0), log_kernel.exp(), torch.zeros(()))
        scores = torch.zeros(len(weight), len(found) + 1)
        scores.scatter_add_(1, torch.from_numpy(column).expand_as(weight), weight)
        own = scores.gather(1, torch.from_numpy(place[data.csa[positions[part]]])[:, None])
        total += float((1 / (1 + (scores > own).sum(dim=1).double())).sum())
    return total / len(positions)
