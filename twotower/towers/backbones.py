"""Text backbones behind one interface: tokens (B, L) in, text vectors (B, width) out.

Notable: `static` is one weighted bag of token embeddings, so a text costs microseconds on a CPU; while training the bag
is fused and never materialises (B, L, width), for export it is spelled out in plain operators, and a test holds the two
equal. `transformer` runs any sentence-transformers encoder with its own pooling. Both end on unit length. `forward` is
what a graph holds; `encode` is the same where the host knows how long each text is: it asks the device nothing, so a
training step never waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
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
PLAIN = ("bert", "roberta", "xlm-roberta")  # every layer lets every word attend to every other
SMOOTH = 1e-3  # a in SIF's a / (a + p(w)); Arora et al., 2017


@dataclass(frozen=True)
class Words:
    """Tokens of B texts on a device, and how many each has on the host.

    `tokens` (B, L) int64, right-padded; `lengths` (B,) at most L, no word stands behind them; None where the host does
    not know them: then every cell is looked at.
    """

    tokens: Tensor
    lengths: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(cls, tokens: Tensor | Words, pad_id: int) -> Words:
        """The words of padded tokens; their lengths are read where the tokens lie on the host."""
        if isinstance(tokens, Words):
            return tokens
        if tokens.device.type != "cpu":
            return cls(tokens)
        place = np.arange(1, tokens.shape[1] + 1)
        return cls(tokens, np.where((tokens != pad_id).numpy(), place, 0).max(axis=1, initial=0))

    def flat(self) -> tuple[Tensor, Tensor]:
        """Token ids (T,) of all texts one after another, and where each text starts (B,), both on the device."""
        count, width = self.tokens.shape
        device = self.tokens.device
        if self.lengths is None:
            return self.tokens.flatten(), torch.arange(count, device=device) * width
        lengths = sent(torch.from_numpy(self.lengths), device)
        starts, total = lengths.cumsum(0) - lengths, int(self.lengths.sum())
        shift = torch.arange(count, device=device) * width - starts
        # With its size given, the device is not asked for it.
        place = torch.repeat_interleave(shift, lengths, output_size=total) + torch.arange(total, device=device)
        return self.tokens.flatten().index_select(0, place), starts


class Backbone(nn.Module):
    """Interface: `width`, and `forward(tokens (B, L) int64) → (B, width)` unit vectors; padding is `pad_id`."""

    width: int
    pad_id: int

    def forward(self, tokens: Tensor) -> Tensor:
        """Text vectors (B, width) of right-padded token ids (B, L)."""
        raise NotImplementedError

    def encode(self, words: Words) -> Tensor:
        """The same (B, width) without a question to the device."""
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
        return self.encode(Words.of(tokens, self.pad_id)) if self.fused else unit(self._plain(tokens))

    def encode(self, words: Words) -> Tensor:
        """One fused sum over the words; what is padding among them weighs exactly nothing."""
        flat, starts = words.flat()
        weight = torch.exp(functional.embedding(flat, self.log_weight[:, None]).squeeze(-1)) * (flat != self.pad_id)
        return unit(functional.embedding_bag(flat, self.table, starts, per_sample_weights=weight, mode="sum"))

    def _plain(self, tokens: Tensor) -> Tensor:
        """The same in operators that ONNX has."""
        weight = torch.exp(functional.embedding(tokens, self.log_weight[:, None]))
        return (functional.embedding(tokens, self.table) * weight * (tokens != self.pad_id).unsqueeze(-1)).sum(dim=1)


class TransformerBackbone(Backbone):
    """A sentence-transformers encoder: transformer, then mean pooling over the words, then unit length."""

    def __init__(self, model: PreTrainedModel, width: int, pad_id: int) -> None:
        super().__init__()
        self.model, self.width, self.pad_id = model, width, pad_id
        pooler = getattr(model, "pooler", None)
        if pooler is not None:  # nobody reads it: it would wait for a gradient, and several processes with it
            pooler.requires_grad_(False)
        # A mask of two dimensions makes transformers ask the device whether anything is masked at all; one that is
        # ready is taken as it stands, which models with several kinds of attention would misread.
        plain = model.config.model_type in PLAIN and model.config._attn_implementation == "sdpa"
        self.ready_masks = plain and int(version("transformers").partition(".")[0]) >= 5

    def forward(self, tokens: Tensor) -> Tensor:
        mask = (tokens != self.pad_id).long()
        return self._pooled(tokens, mask, mask)

    def encode(self, words: Words) -> Tensor:
        """One pass over the texts, padded to the longest of them."""
        tokens = words.tokens
        if words.lengths is not None:
            tokens = tokens[:, : max(1, int(words.lengths.max(initial=0)))]
        mask = (tokens != self.pad_id).long()
        return self._pooled(tokens, mask, mask.bool()[:, None, None, :] if self.ready_masks else mask)

    def _pooled(self, tokens: Tensor, mask: Tensor, attention: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=tokens, attention_mask=attention).last_hidden_state
        return unit((hidden * mask.unsqueeze(-1)).sum(dim=1))


def sent(host: Tensor, device: torch.device) -> Tensor:
    """A host's tensor on a device; to a GPU it goes from pinned memory, or the host would wait for the copy."""
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)


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
    from twotower.towers.encoders import load_encoder, pools_by_mean, transformer_of

    loaded = load_encoder(encoder)
    if not pools_by_mean(loaded):
        raise ConfigError(f"encoder {encoder!r} does not pool by the mean, which this backbone needs")
    model = transformer_of(loaded)
    pad = loaded.tokenizer.pad_token_id
    return TransformerBackbone(model, int(model.config.hidden_size), int(pad if pad is not None else 0))
