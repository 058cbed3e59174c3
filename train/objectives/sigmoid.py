"""Sigmoid contrast of resolved against unresolved hand-overs: the full likelihood of the logit of success.

With z_m(x, a) = u_m(x)·v_m(a) + b_m(a) + level(x) for member m and r ∈ {0, 1} the outcome,

    L = mean over hand-overs and members of  softplus(z) − r z  =  −log [σ(z)^r (1 − σ(z))^(1−r)].

Who was assigned does not enter, so the queue's habits do not either (outcomes are assumed independent of the assignment
given contact and CSA). Form: the pairwise sigmoid loss of SigLIP (Zhai et al., arXiv 2303.15343) with observed labels
in the place of the batch's off-diagonal pairs. Use where the log has failures.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from train.batches import ProfileBatch
from train.draws import Sampling
from train.objectives.base import mean_of, steady
from twotower.towers.two_tower import TwoTower


class SigmoidContrast:
    """Binary cross-entropy of member logits; hand-overs without an outcome do not count."""

    name: ClassVar[str] = "sigmoid"
    sampling: ClassVar[Sampling] = "shuffled"
    needs_failures: ClassVar[bool] = True

    def __call__(self, model: TwoTower, batch: ProfileBatch) -> Tensor:
        """Mean loss; 0 with a gradient of 0 where no hand-over of the batch has an outcome."""
        contacts = batch.contacts.outputs(model)
        logits = model.pair_logits(contacts, model.csa_tower.members(batch.features, batch.identity))
        logits = logits + contacts.level[:, None]
        return sigmoid_contrast(logits, batch.resolved)


def sigmoid_contrast(logits: Tensor, resolved: Tensor) -> Tensor:
    """Mean loss of logits (B, M) against outcomes (B,), NaN where unknown."""
    known = ~torch.isnan(resolved)
    target = torch.where(known, resolved, torch.zeros_like(resolved))[:, None].expand_as(logits)
    logits = steady(logits)
    loss = functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return mean_of((loss * known[:, None]).sum(), known.sum() * logits.shape[1])
