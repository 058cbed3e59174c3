"""What the clauses of a text are about: topics that were found in a log, told from tokens inside the graph.

Notable: a text is cut at its punctuation, each clause is classified by a linear softmax on its bag of tokens, and a
topic is as present as its surest clause. A mean over all words cannot do this: there every remark dilutes every other,
while the surest clause does not care how much else was said. How topics are found is in `train/topics.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_CLAUSES = 64  # of a text; later ones are not read


class Topics(nn.Module):
    """Presence of `count` topics.

    vocabulary: V token ids. `weight` (V, T) and `bias` (T,) are the classifier's; `breaks` (V,) is 1 for tokens that
    end a clause; presence leaves as (presence − centre) · scale. Until it is fitted, everything is 0.
    """

    def __init__(self, vocabulary: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.weight: Tensor
        self.bias: Tensor
        self.breaks: Tensor
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("weight", torch.zeros(vocabulary, count))
        self.register_buffer("bias", torch.zeros(count))
        self.register_buffer("breaks", torch.zeros(vocabulary))
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("scale", torch.zeros(count))

    def presence(self, tokens: Tensor) -> Tensor:
        """(B, T) largest probability of each topic over the clauses of tokens (B, L)."""
        ends = functional.embedding(tokens, self.breaks[:, None]).squeeze(-1)
        clause = ends.cumsum(dim=1)  # punctuation itself opens the next clause and weighs nothing
        inside = (clause.unsqueeze(1) == torch.arange(MOST_CLAUSES, device=tokens.device)[:, None]).float()
        logits = inside @ functional.embedding(tokens, self.weight)
        said = (logits.abs().sum(dim=-1, keepdim=True) > 0).float()  # a clause without a known word says nothing
        return ((logits + self.bias).softmax(dim=-1) * said).amax(dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) standardised presence."""
        return (self.presence(tokens) - self.centre) * self.scale
