"""The outcome heads inside the towers: what a contact brings to each target, and what a CSA adds.

Notable: heads are fitted after the towers (`train/outcomes.py`) and are buffers, so no optimiser moves them. A target
without a head has zeros everywhere and puts out 0. Weights are those of standardised targets, which are alike in size,
and the scale is applied behind them: a quantised matrix has one step for all its rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from twotower.scoring.outcomes import TARGETS


class OutcomeHeads(nn.Module):
    """Linear maps from inputs (B, width) to the T targets; `identities`: how many CSAs add a part of their own."""

    def __init__(self, width: int, identities: int = 0) -> None:
        super().__init__()
        self.weight: Tensor
        self.scale: Tensor
        self.bias: Tensor
        self.own: Tensor
        self.register_buffer("weight", torch.zeros(len(TARGETS), width))
        self.register_buffer("scale", torch.zeros(len(TARGETS)))
        self.register_buffer("bias", torch.zeros(len(TARGETS)))
        self.register_buffer("own", torch.zeros(identities + 1, len(TARGETS)))

    def put(self, target: int, weight: Tensor, scale: float, bias: float, own: Tensor | None = None) -> None:
        """Take a fitted head: weight (width,) and own (identities,) of the standardised target."""
        self.weight[target], self.scale[target], self.bias[target] = weight.to(self.weight), scale, bias
        if own is not None:
            self.own[1:, target] = own.to(self.own)

    def forward(self, inputs: Tensor, identity: Tensor | None = None) -> Tensor:
        """(B, T) of inputs (B, width); identity (B,) codes, 0 a stranger, who adds nothing of their own."""
        found = functional.linear(inputs, self.weight)
        if identity is not None:
            found = found + functional.embedding(identity, self.own)
        return found * self.scale + self.bias
