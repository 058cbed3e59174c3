"""In-batch softmax on assigned pairs: what every two-tower tutorial does, kept as the peer to beat.

    L = − mean log softmax_{j ∈ batch} [ u(x_i)·v(a_j) / τ ]_{i},   duplicates of the same CSA masked.

In a shop a click is a choice; in a contact centre the queue chose, so this learns the queue (van den Oord et al.,
arXiv 1807.03748, for the loss). Hand-overs without a resolution count like the others: that is the point. Where
processes train together, each contrasts its contacts with the CSAs of all, whose vectors carry gradients back.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from train.batches import ProfileBatch
from train.draws import Sampling
from train.objectives.base import by_rows, mean_of, rows_of, steady
from train.together import gathered, rank
from twotower.towers.two_tower import CsaOutput, TwoTower


class InBatchSoftmax:
    """Softmax over the CSAs of the batch; the length of the tower's vectors is the inverse temperature."""

    name: ClassVar[str] = "in_batch"
    sampling: ClassVar[Sampling] = "shuffled"
    needs_failures: ClassVar[bool] = False

    def __call__(self, model: TwoTower, batch: ProfileBatch) -> Tensor:
        """Mean loss over all hand-overs."""
        contacts = batch.contacts.outputs(model)
        csas = model.csa_tower.members(batch.features, batch.identity)
        csas = CsaOutput(*(gathered(part, batch.shares) for part in csas))
        csa, first = gathered(batch.csa, batch.shares), sum(batch.shares[: rank()])

        def total(rows: slice) -> Tensor:
            own = slice(first + rows.start, first + rows.stop)
            return in_batch_sum(model.cross_logits(rows_of(contacts, rows), csas), csa, own)

        size, members = contacts.members.shape[:2]
        count = torch.full((), size * members, device=csa.device)
        return mean_of(by_rows(total, size, members * len(csa), csa), count)


def in_batch_softmax(logits: Tensor, csa: Tensor) -> Tensor:
    """Mean loss of logits (B, M, B) whose columns are the CSAs (B,) of the same hand-overs."""
    count = torch.tensor(len(csa) * logits.shape[1], device=csa.device)
    return mean_of(in_batch_sum(logits, csa, slice(0, len(csa))), count)


def in_batch_sum(logits: Tensor, csa: Tensor, rows: slice) -> Tensor:
    """Sum of the losses of logits (b, M, B): the rows `rows` of the batch, whose columns are the CSAs (B,) of all
    processes."""
    column = torch.arange(len(csa), device=csa.device)
    own = column[rows]
    repeated = (csa[rows][:, None] == csa[None, :]) & (own[:, None] != column[None, :])
    masked = steady(logits).masked_fill(repeated[:, None, :], -torch.inf)
    return functional.cross_entropy(masked.transpose(0, 1).flatten(0, 1), own.repeat(logits.shape[1]), reduction="sum")
