"""Corrected softmax over the eligible roster: the logit of success from successes alone.

Given that x was resolved, P(a | x, resolved) ∝ P(resolved | x, a) · π₀(a | x) = σ(z(x, a)) · π₀(a | x), so

    L = − mean log softmax_{a ∈ eligible(x)} [ log σ(z(x, a)) + log π₀(a | x) ]_{the CSA who resolved it}.

With π₀ in the logits the model need not explain why the queue chose; what is left is success, up to a constant per
contact (σ ≈ exp for small z, and the level cancels where σ is far from saturation). π₀ is estimated by each CSA's
decayed share of recent hand-overs; within the eligible set its normaliser cancels. Compare logQ correction (Yi et al.,
RecSys 2019). Use where the log holds successes only.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from train.batches import ProfileBatch
from twotower.towers.two_tower import TwoTower


class CorrectedSoftmax:
    """Softmax of log σ(z) + log π₀ over the eligible roster, on resolved hand-overs."""

    name: ClassVar[str] = "corrected_softmax"
    sampling: ClassVar[Literal["shuffled", "by_snapshot"]] = "by_snapshot"
    needs_failures: ClassVar[bool] = False

    def __call__(self, model: TwoTower, batch: ProfileBatch) -> Tensor:
        """Mean loss over the hand-overs not known to be unresolved."""
        roster = batch.whole_roster()
        contacts = batch.contacts.outputs(model)
        logits = model.cross_logits(contacts, model.csa_tower.members(roster.features, roster.identity))
        logits = logits + contacts.level[:, None, None]
        return corrected_softmax(logits, roster.log_exposure, roster.mask, batch.csa, batch.resolved != 0)


def corrected_softmax(logits: Tensor, log_exposure: Tensor, mask: Tensor, csa: Tensor, counts: Tensor) -> Tensor:
    """Mean loss of logits (B, M, J): log π₀ (J,), eligibility (B, J), who resolved it (B,), which rows count (B,)."""
    scores = functional.logsigmoid(logits) + log_exposure
    scores = scores.masked_fill(~mask[:, None, :], -torch.inf)
    log_p = scores.gather(2, csa[:, None, None].expand(-1, scores.shape[1], 1)).squeeze(-1) - scores.logsumexp(dim=-1)
    return -(log_p * counts[:, None]).sum() / (counts.sum() * logits.shape[1]).clamp_min(1)
