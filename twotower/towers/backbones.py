"""Text backbones behind one interface: tokens (B, L) in, text vectors (B, width) out.

Notable: `static` is one weighted bag of token embeddings, so a text costs microseconds on a CPU; while training the bag
is fused and never materialises (B, L, width), for export it is spelled out in plain operators, and a test holds the two
equal. `transformer` runs any sentence-transformers encoder with its own pooling. Both end on unit length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from twotower.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SILENT = -12.0  # log-weight of tokens that carry no words
SMOOTH = 1e-3  # a in SIF's a / (a + p(w)); Arora et al., 2017


class Backbone(nn.Module):
    """Interface: `width`, and `forward(tokens (B, L) int64) → (B, width)` unit vectors; padding is `pad_id`."""

    width: int
    pad_id: int

    def forward(self, tokens: Tensor) -> Tensor:
        """Text vectors (B, width) of right-padded token ids (B, L)."""
        raise NotImplementedError


class StaticBackbone(Backbone):
    """Weighted mean of token embeddings.

    table (V, width): initial embeddings; log_weight (V,): initial log-weights.
    """

    def __init__(self, table: Tensor, log_weight: Tensor, pad_id: int) -> None:
        super().__init__()
        self.width, self.pad_id = table.shape[1], pad_id
        self.table = nn.Parameter(table.clone())
        self.log_weight = nn.Parameter(log_weight.clone())
        self.fused = True

    def forward(self, tokens: Tensor) -> Tensor:
        return unit(self._bag(tokens) if self.fused else self._plain(tokens))

    def _bag(self, tokens: Tensor) -> Tensor:
        """One fused sum over the words; padding is left out rather than weighed by zero."""
        words = tokens != self.pad_id
        flat, lengths = tokens[words], words.sum(dim=1)
        weight = torch.exp(functional.embedding(flat, self.log_weight[:, None]).squeeze(-1))
        return functional.embedding_bag(
            flat, self.table, lengths.cumsum(0) - lengths, per_sample_weights=weight, mode="sum"
        )

    def _plain(self, tokens: Tensor) -> Tensor:
        """The same in operators that ONNX has."""
        weight = torch.exp(functional.embedding(tokens, self.log_weight[:, None]))
        return (functional.embedding(tokens, self.table) * weight * (tokens != self.pad_id).unsqueeze(-1)).sum(dim=1)


class TransformerBackbone(Backbone):
    """A sentence-transformers encoder: transformer, then mean pooling over the words, then unit length."""

    def __init__(self, model: PreTrainedModel, width: int, pad_id: int) -> None:
        super().__init__()
        self.model, self.width, self.pad_id = model, width, pad_id

    def forward(self, tokens: Tensor) -> Tensor:
        mask = (tokens != self.pad_id).long()
        hidden = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
        return unit((hidden * mask.unsqueeze(-1)).sum(dim=1))


def unit(vectors: Tensor) -> Tensor:
    """Rows scaled to length 1; a zero row stays zero. Safe under autograd and in ONNX."""
    return vectors * torch.rsqrt((vectors * vectors).sum(dim=-1, keepdim=True) + 1e-12)


def sif_log_weights(ids: npt.NDArray[np.int32], vocabulary: int, silent: list[int]) -> npt.NDArray[np.float32]:
    """Smooth inverse frequency log(a / (a + p(w))) (V,) of a corpus' token ids (T,); `silent` ids weigh nothing.

    Source: Arora, Liang and Ma, "A simple but tough-to-beat baseline for sentence embeddings", 2017.
    """
    counts = np.bincount(ids, minlength=vocabulary)[:vocabulary].astype(np.float64)
    counts[silent] = 0
    share = counts / max(counts.sum(), 1)
    weights: npt.NDArray[np.float64] = np.log(SMOOTH / (SMOOTH + share))
    weights[silent] = SILENT
    return weights.astype(np.float32)


def load_transformer(encoder: str) -> TransformerBackbone:
    """The transformer backbone of a named encoder. Raises ConfigError where its pooling is not the mean."""
    from twotower.towers.encoders import load_encoder, transformer_of

    loaded = load_encoder(encoder)
    pooling = loaded[1] if len(loaded) > 1 else None
    mode = getattr(pooling, "pooling_mode", None)
    if isinstance(mode, tuple | list):
        mode = mode[0] if len(mode) == 1 else mode
    if mode not in (None, "mean") or (mode is None and not getattr(pooling, "pooling_mode_mean_tokens", True)):
        raise ConfigError(f"encoder {encoder!r} does not pool by the mean, which this backbone needs")
    model = transformer_of(loaded)
    pad = loaded.tokenizer.pad_token_id
    return TransformerBackbone(model, int(model.config.hidden_size), int(pad if pad is not None else 0))
