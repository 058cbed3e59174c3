"""A small encoder, texts for it, and a device of few bytes, for the tests of gradient caching."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from train.buckets import cut
from train.cached_text import CachedText
from twotower.towers.backbones import Backbone, TransformerBackbone, Words

WORDS, WIDTH, PAD, LONGEST = 60, 16, 0, 12
CPU = torch.device("cpu")
SIZES = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 24}
Encode = Callable[[Words], Tensor]
Learnt = tuple[Tensor, list[Tensor]]


def bert(dropout: float = 0.0, layers: int = 2) -> TransformerBackbone:
    """A small encoder in training mode."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS, max_position_embeddings=16, num_hidden_layers=layers, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout, initializer_range=0.2, **SIZES,
    )  # fmt: skip
    return TransformerBackbone(BertModel(config), WIDTH, PAD).train()


def words(count: int, seed: int = 0, empty: bool = True) -> Words:
    """Texts of 1 to LONGEST tokens, every seventh without any."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, LONGEST + 1, count)
    if empty:
        lengths[::7] = 0
    tokens = rng.integers(1, WORDS, (count, LONGEST))
    tokens[np.arange(LONGEST) >= lengths[:, None]] = PAD
    return Words(torch.from_numpy(tokens), lengths.astype(np.int64))


def one_by_one(backbone: Backbone, cells: int) -> Encode:
    """The plain loop over the same buckets, every graph kept by autograd."""

    def encode(given: Words) -> Tensor:
        assert given.lengths is not None
        order, buckets = cut(given.lengths, cells, CPU)
        tokens = given.tokens[order]
        parts = [backbone.encode(Words(tokens[b.first : b.last, : b.width])) for b in buckets]
        parts.append(torch.zeros(len(order) - sum(map(len, parts)), backbone.width))
        return torch.cat(parts)[np.argsort(order, kind="stable")]

    return encode


def cached(backbone: Backbone, cells: int) -> Encode:
    """Through the cache, of so many token cells."""
    text = CachedText(cells)
    return lambda given: text(backbone, given)


def contrast(one: Tensor, other: Tensor) -> Tensor:
    """A loss that every text has a part in."""
    return torch.nn.functional.cross_entropy(one @ other.T / 0.1, torch.arange(len(one)))


def gradients(backbone: Backbone) -> list[Tensor]:
    """Of all parameters that have one."""
    return [p.grad.clone() for p in backbone.parameters() if p.grad is not None]


def learnt(backbone: Backbone, encode: Encode, bf16: bool = False, count: int = 20) -> Learnt:
    """Loss of a step that encodes twice, and all gradients.

    Weights are cast anew for every pass: one cast for all would sum their gradients in bfloat16.
    """
    torch.manual_seed(7)
    backbone.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
        loss = contrast(encode(words(count)), encode(words(count, seed=1)))
    loss.backward()
    return loss.detach(), gradients(backbone)


def assert_alike(ours: Learnt, theirs: Learnt, tolerance: float, rounding: float = 1e-6) -> None:
    """Loss and gradients, these relative to the largest of each parameter, beside the rounding of sums."""
    torch.testing.assert_close(ours[0], theirs[0], rtol=tolerance, atol=tolerance)
    assert len(ours[1]) == len(theirs[1]) > 20
    for mine, its in zip(ours[1], theirs[1], strict=True):
        # A key's bias is no matter to a softmax: its gradient is rounding.
        assert (mine - its).abs().max() <= tolerance * its.abs().max() + rounding


class Device:
    """Bytes that autograd holds on a device for its backward: `now` and at `most`; more than `room` are refused."""

    def __init__(self, backbone: Backbone, room: float = float("inf")) -> None:
        self.now, self.most, self.room, self.refused = 0, 0, room, 0
        self.held = {p.untyped_storage().data_ptr() for p in backbone.parameters()}

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        """While these are set, graphs are counted, but for those that are kept on the host."""
        return torch.autograd.graph.saved_tensors_hooks(self._hold, lambda boxed: boxed[0])

    def _hold(self, tensor: Tensor) -> tuple[Tensor]:
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place not in self.held:
            if self.now + size > self.room:
                self.refused += 1
                raise torch.OutOfMemoryError("no room")
            self.held.add(place)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._release, place, size)
        return (tensor.detach(),)  # with its graph it would hold itself

    def _release(self, place: int, size: int) -> None:
        self.held.discard(place)
        self.now -= size
