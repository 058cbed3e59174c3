"""Processes that train together: tensors of all of them, with gradients.

Notable: rows keep the order of the processes, so every process sees the same columns; the gradient of what a process
gave is the sum of what all of them learnt of it, as if one process had had all rows. How many rows each has is known
beforehand, so nobody asks the device.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed


def together() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return distributed.get_rank() if together() > 1 else 0


def launched() -> tuple[int, int]:
    """Rank and number of the processes that were started together; before they have met, torchrun tells them.

    Where Lightning starts the others itself, they begin when the first one has read its data: that one is alone.
    """
    if together() == 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return rank(), together()


def seed_of(shared: int, part: int) -> int:
    """Seed of what one of several processes, or of batches that are summed, draws for itself; of the first (0) the
    shared seed itself.

    The others' are hashes: a CPU's generator reads the low 32 bits of a seed, so an offset above these is no other
    seed, and one inside them meets another step's.
    """
    return shared if not part else int(np.random.SeedSequence([shared, part]).generate_state(1, np.uint64)[0])


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, shares: tuple[int, ...]) -> Tensor:
        ctx.shares, most = shares, max(shares)
        padded = own.new_zeros(most, *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in shares]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, shares, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        whole = grads[0].contiguous().clone()  # autograd may still hold what it gave
        distributed.all_reduce(whole)
        start = sum(ctx.shares[: rank()])
        return whole[start : start + ctx.shares[rank()]], None


def gathered(own: Tensor, shares: tuple[int, ...]) -> Tensor:
    """Rows (Σ shares, …) of all processes, in their order, from the rows (shares[rank], …) of each.

    A process alone, for which `shares` is empty or has one number, gets its own. Every process must call it, and must
    take the gradient of what it got.
    """
    if len(shares) < 2 or together() == 1:
        return own
    rows: Tensor = _Gathered.apply(own, shares)  # type: ignore[no-untyped-call]
    return rows
