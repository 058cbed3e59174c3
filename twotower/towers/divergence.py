"""KL divergence of independent Gaussians from their priors, with its gradient in closed form.

Notable: the largest table of a model, the CSAs' identities, enters every step whole. Autograd would keep several copies
of it between forward and backward; here a part at a time is looked at, and only the gradients themselves are as large.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CELLS = 1 << 20  # looked at together


def kl_gaussian(mean: Tensor, log_std: Tensor, prior_std: float | Tensor) -> Tensor:
    """KL(N(mean, std²) ‖ N(0, prior_std²)) summed over all entries (scalar, nats).

    mean, log_std: of one shape (…, D); prior_std: of all entries, or of each of the last axis (D,).
    """
    width = mean.shape[-1:]
    prior = prior_std.expand(width) if isinstance(prior_std, Tensor) else mean.new_full(width, prior_std)
    total: Tensor = _Divergence.apply(mean, log_std, prior)  # type: ignore[no-untyped-call]
    return total


class _Divergence(torch.autograd.Function):
    """½ Σ (mean² + std²) / prior² − 1 − 2 log(std / prior)."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_std: Tensor, prior: Tensor) -> Tensor:
        ctx.save_for_backward(mean, log_std, prior)
        width = mean.shape[-1]
        rows = max(1, CELLS // max(width, 1))
        parts = (torch.split(one.reshape(-1, width), rows) for one in (mean, log_std))
        total = prior.new_zeros(())
        for m, s in zip(*parts, strict=True):
            ratio = (m * m + (2 * s).exp()) / (prior * prior)
            total = total + (0.5 * (ratio - 1) - s + prior.log()).sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        mean, log_std, prior = ctx.saved_tensors
        precision = gradient / (prior * prior)
        return mean * precision, (2 * log_std).exp_().mul_(precision).sub_(gradient), None
