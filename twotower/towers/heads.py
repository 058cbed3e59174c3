"""What the contact tower tells of a contact before anything is matched: its intent, and how hard such contacts are.

Notable: the heads are linear, fitted on history before the towers (`train/heads.py`) and frozen, so what a contact told
in training it tells in the router. A label that is given counts; where it is null, the intent head's probabilities
stand in for its indicator, so an uncertain guess weighs less than a label.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from twotower.features.complexity import COMPLEXITY


class Said(NamedTuple):
    """`known` (B, S) category indicators, the intent's soft where it is not given; `intent` (B,) int64 the most
    probable code and `intent_p` (B,) its probability; `complexity` (B, T) by `features.complexity.COMPLEXITY`."""

    known: Tensor
    intent: Tensor
    intent_p: Tensor
    complexity: Tensor


class Heads(nn.Module):
    """Heads on a frozen text vector of `width` and on category codes.

    sizes: codes of each category, unknown included; intent: which of them is the intent; gain: of an indicator.
    """

    def __init__(self, width: int, sizes: list[int], intent: int, gain: float) -> None:
        super().__init__()
        self.sizes, self.intent, self.width = sizes, intent, width
        for i, size in enumerate(sizes):
            indicator = torch.eye(size) * gain
            indicator[0] = 0  # unknown says nothing
            self.register_buffer(f"indicator_{i}", indicator, persistent=False)
        self.intent_weight: Tensor
        self.intent_bias: Tensor
        self.weight: Tensor
        self.bias: Tensor
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("intent_weight", torch.zeros(sizes[intent], width))
        # Until it is fitted, the head says "unknown".
        self.register_buffer("intent_bias", torch.full((sizes[intent],), -1e9).index_fill(0, torch.tensor([0]), 0.0))
        self.register_buffer("weight", torch.zeros(len(COMPLEXITY), width + sum(sizes)))
        self.register_buffer("bias", torch.zeros(len(COMPLEXITY)))
        self.register_buffer("low", torch.tensor([one.low for one in COMPLEXITY]), persistent=False)
        self.register_buffer("high", torch.tensor([one.high for one in COMPLEXITY]), persistent=False)

    def set_intent(self, weight: Tensor, bias: Tensor) -> None:
        """Take a fitted intent head: weight (codes, width) on text · √width, bias (codes,)."""
        self.intent_weight.copy_(weight)
        self.intent_bias.copy_(bias)

    def set_complexity(self, weight: Tensor, bias: Tensor) -> None:
        """Take fitted complexity heads: weight (T, width + S) on `inputs`, bias (T,)."""
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    def indicators(self, read: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """Category indicators (B, S), and the intent head's probabilities (B, codes)."""
        probability = functional.linear(read * self.width**0.5, self.intent_weight, self.intent_bias).softmax(dim=-1)
        known = []
        for i in range(len(self.sizes)):
            indicator = self.get_buffer(f"indicator_{i}")
            given = functional.embedding(categories[:, i], indicator)
            if i == self.intent:
                given = torch.where((categories[:, i] == 0).unsqueeze(-1), probability @ indicator, given)
            known.append(given)
        return torch.cat(known, dim=-1), probability

    def inputs(self, read: Tensor, categories: Tensor) -> Tensor:
        """What the complexity heads read, (B, width + S): text of unit spread, then indicators."""
        return torch.cat([read * self.width**0.5, self.indicators(read, categories)[0]], dim=-1)

    def forward(self, read: Tensor, categories: Tensor) -> Said:
        """What is told of contacts with frozen text vectors (B, width), further columns aside, and codes (B, C)."""
        read = read[:, : self.width]
        known, probability = self.indicators(read, categories)
        inputs = torch.cat([read * self.width**0.5, known], dim=-1)
        complexity = functional.linear(inputs, self.weight, self.bias)
        p, intent = probability.max(dim=-1)
        return Said(known, intent, p, torch.minimum(torch.maximum(complexity, self.low), self.high))
