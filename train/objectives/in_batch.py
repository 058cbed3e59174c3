"""In-batch softmax on assigned pairs: what every two-tower tutorial does, kept as the peer to beat.

    L = − mean log softmax_{j ∈ batch} [ u(x_i)·v(a_j) / τ ]_{i},   duplicates of the same CSA masked.

In a shop a click is a choice; in a contact centre the queue chose, so this learns the queue (van den Oord et al.,
arXiv 1807.03748, for the loss). Hand-overs without a resolution count like the others: that is the point.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from train.batches import ProfileBatch
from twotower.towers.two_tower import TwoTower


class InBatchSoftmax:
    """Softmax over the CSAs of the batch; the length of the tower's vectors is the inverse temperature."""

    name: ClassVar[str] = "in_batch"
    sampling: ClassVar[Literal["shuffled", "by_snapshot"]] = "shuffled"
    needs_failures: ClassVar[bool] = False

    def __call__(self, model: TwoTower, batch: ProfileBatch) -> Tensor:
        """Mean loss over all hand-overs."""
        contacts = batch.contacts.outputs(model)
        logits = model.cross_logits(contacts, model.csa_tower.members(batch.features, batch.identity))
        return in_batch_softmax(logits, batch.csa)


def in_batch_softmax(logits: Tensor, csa: Tensor) -> Tensor:
    """Mean loss of logits (B, M, B) whose columns are the CSAs (B,) of the same hand-overs."""
    own = torch.eye(len(csa), dtype=torch.bool, device=csa.device)
    repeated = (csa[:, None] == csa[None, :]) & ~own
    masked = logits.masked_fill(repeated[:, None, :], -torch.inf)
    target = torch.arange(len(csa), device=csa.device)
    return functional.cross_entropy(masked.transpose(0, 1).flatten(0, 1), target.repeat(logits.shape[1]))
