"""Who takes it: a mixture over recent hand-overs, each voting for the CSA who took it.

    P(a | x) = Σ_{i of a} K_i / Σ_i K_i,
    K_i = exp(β (cos(x, x_i) − 1) − λ age_i + γ [same customer]) + ρ exp(−μ age_i)

The normaliser runs over all visible rows, so a softmax over the roster costs one pass over the sample and no
score matrix. β, λ, γ, ρ, μ and the memory vectors are learned together; the join refits the weights of the sums
afterwards. Rows known at or after the contact's arrival are masked; a hand-over whose CSA has no visible row teaches
nothing and is left out. Relatives: matching networks (Vinyals et al., arXiv 1606.04080), neural kNN-LM (Khandelwal et
al., 1911.00172).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from train.batches import MemoryBatch
from train.objectives.base import mean_of, steady
from train.together import gathered
from twotower.towers.two_tower import TwoTower


class MemoryMixture(nn.Module):
    """The kernel's scalars and the loss.

    span_days: the log's length, which sets where the two decay rates start.
    """

    name = "memory"

    def __init__(self, span_days: float) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(8.0)))
        self.log_decay = nn.Parameter(torch.tensor(math.log(20 / max(span_days, 1.0))))
        self.log_drift = nn.Parameter(torch.tensor(math.log(60 / max(span_days, 1.0))))
        self.same = nn.Parameter(torch.tensor(1.0))
        self.log_floor = nn.Parameter(torch.tensor(-3.0))

    def log_kernel(self, cosine: Tensor, age: Tensor, same: Tensor) -> Tensor:
        """log K (B, H) of cosines, ages in days, and whether the customer is the same."""
        like = self.log_sharpness.exp() * (cosine - 1) - self.log_decay.exp() * age + self.same * same
        return torch.logaddexp(like, self.log_floor - self.log_drift.exp() * age)

    def forward(self, model: TwoTower, batch: MemoryBatch) -> Tensor:
        """Mean loss over the hand-overs whose CSA has a visible row."""
        vector = batch.contacts.outputs(model).memory
        rows = gathered(batch.rows.outputs(model).memory, batch.shares)
        log_kernel = self.log_kernel(vector @ rows.T, batch.age, batch.same)
        return mixture_loss(log_kernel, batch.visible, batch.csa[:, None] == batch.row_csa[None, :])


def mixture_loss(log_kernel: Tensor, visible: Tensor, own: Tensor) -> Tensor:
    """−mean log (Σ own K / Σ K) over rows (B, H) of log K, their visibility and whether they are the taker's."""
    own = own & visible
    teaches = own.any(dim=1)
    log_kernel = steady(log_kernel)
    if not log_kernel.shape[1]:  # the first contacts of a log have nothing behind them
        return mean_of((log_kernel * 0).sum(), teaches.sum())  # processes that train together count all the same
    silent = ~teaches[:, None]  # a sum over nothing has no gradient: they sum over everything, and do not count
    whole = log_kernel.masked_fill(~(visible | silent), -torch.inf).logsumexp(dim=1)
    losses = whole - log_kernel.masked_fill(~(own | silent), -torch.inf).logsumexp(dim=1)
    return mean_of((losses * teaches).sum(), teaches.sum())
