"""Texts whose lengths the host knows: the vectors of padded tokens, to the bit, and no question to a device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.twotower.towers.conftest import PAD, WORDS, random_model
from twotower.towers.backbones import Backbone, StaticBackbone, TransformerBackbone, Words, unit

WIDTH = 6
Rows = st.lists(st.lists(st.integers(1, WORDS - 1), max_size=7), min_size=1, max_size=5)
# A text can hold the padding token itself: "[PAD]" is what somebody wrote.
Odd = st.lists(st.lists(st.integers(0, WORDS - 1), max_size=7), min_size=1, max_size=5)


def padded(rows: list[list[int]], more: int = 0) -> Tensor:
    width = max(1, *map(len, rows), 1) + more
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def lengths(rows: list[list[int]]) -> np.ndarray:
    return np.array([len(row) for row in rows], np.int64)


def static() -> StaticBackbone:
    rng = torch.Generator().manual_seed(0)
    return StaticBackbone(torch.randn(WORDS, WIDTH, generator=rng), torch.randn(WORDS, generator=rng), PAD)


def masked(backbone: StaticBackbone, tokens: Tensor) -> Tensor:
    """The bag with padding picked out by a mask, which a device has to be asked for."""
    words = tokens != PAD
    flat, count = tokens[words], words.sum(dim=1)
    weight = torch.exp(functional.embedding(flat, backbone.log_weight[:, None]).squeeze(-1))
    starts = count.cumsum(0) - count
    return unit(functional.embedding_bag(flat, backbone.table, starts, per_sample_weights=weight, mode="sum"))


def learnt(backbone: Backbone, encode: Callable[[], Tensor]) -> list[Tensor]:
    """Vectors and gradients."""
    backbone.zero_grad()
    vectors = encode()
    (vectors * torch.arange(float(vectors.numel())).view_as(vectors).sin()).sum().backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in backbone.parameters()]
    return [vectors.detach(), *(g.clone() for g in gradients)]


@given(Rows)
def test_the_static_bag_is_the_same_to_the_bit(rows):
    backbone, tokens = static(), padded(rows, more=2)
    expected = learnt(backbone, lambda: masked(backbone, tokens))
    known, found = Words(tokens, lengths(rows)), Words.of(tokens, PAD)
    for encode in (lambda: backbone.encode(known), lambda: backbone.encode(found), lambda: backbone(tokens)):
        for ours, theirs in zip(learnt(backbone, encode), expected, strict=True):
            assert torch.equal(ours, theirs)


@given(Odd)
def test_padding_among_the_words_weighs_nothing(rows):
    """Where lengths are not known every cell is looked at, padding too; digits of exp depend on where a cell stands."""
    backbone, tokens = static(), padded(rows, more=2)
    expected = learnt(backbone, lambda: masked(backbone, tokens))
    for words in (Words(tokens, lengths(rows)), Words(tokens)):
        for ours, theirs in zip(learnt(backbone, lambda words=words: backbone.encode(words)), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@given(Odd)
def test_lengths_are_found_where_tokens_lie_on_the_host(rows):
    words = Words.of(padded(rows, more=1), PAD)
    assert words.lengths is not None
    expected = [max((i + 1 for i, token in enumerate(row) if token != PAD), default=0) for row in rows]
    assert words.lengths.tolist() == expected
    assert Words.of(words, PAD) is words


def test_a_device_that_cannot_be_asked_is_not():
    """Tensors without content answer nothing: whoever asks them fails."""
    rows = [[3, 4, 5], [], [6]]
    backbone = static().to("meta")
    words = Words(padded(rows).to("meta"), lengths(rows))
    assert backbone.encode(words).shape == (3, WIDTH)
    assert backbone.encode(Words(words.tokens)).shape == (3, WIDTH)
    assert Words.of(words.tokens, PAD).lengths is None
    with pytest.raises((NotImplementedError, RuntimeError)):
        masked(backbone, words.tokens)
    text = transformer("bert").to("meta")
    assert text.encode(words).shape == (3, text.width)


def transformer(kind: str) -> TransformerBackbone:
    """A small encoder of a kind."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=WORDS, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=24, pad_token_id=PAD, initializer_range=0.5,
    )  # fmt: skip
    return TransformerBackbone(AutoModel.from_config(config), 8, PAD).eval()


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_a_transformer_encodes_what_it_reads_from_padded_tokens(kind):
    """Of those whose attention is plain the mask is ready made; others are given the one they know."""
    backbone = transformer(kind)
    assert backbone.ready_masks == (kind != "electra")
    rows = [[3, 4, 5, 6, 7], [8, 9], [10], [11, 12, 13], [7, 0, 9]]
    tokens = padded(rows, more=3)
    expected = learnt(backbone, lambda: backbone(tokens))
    for words in (Words(tokens, lengths(rows)), Words(tokens)):
        for ours, theirs in zip(learnt(backbone, lambda words=words: backbone.encode(words)), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    alone = torch.cat([backbone.encode(Words(padded([row]), lengths([row]))) for row in rows])
    torch.testing.assert_close(alone, expected[0], rtol=1e-4, atol=1e-5)


def test_texts_without_words_are_zero_and_finite():
    backbone = transformer("bert")
    vectors, *gradients = learnt(backbone, lambda: backbone.encode(Words(padded([[], [3, 4], []]))))
    assert vectors[[0, 2]].abs().max() < 1e-5
    assert all(g.isfinite().all() for g in gradients)
    assert backbone.encode(Words(padded([[], []]), np.zeros(2, np.int64))).abs().max() < 1e-5


def test_a_pooler_nobody_reads_is_not_trained():
    backbone = transformer("bert")
    backbone.encode(Words(padded([[3, 4]]))).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in backbone.parameters())
    assert not any(p.requires_grad for p in backbone.model.pooler.parameters())


def test_the_contact_tower_takes_words_where_it_takes_tokens(contacts):
    model = random_model()
    tokens, categories, numbers = contacts
    words = Words.of(tokens, PAD)
    for ours, theirs in zip(
        model.contact_tower.outputs(words, categories, numbers),
        model.contact_tower.outputs(tokens, categories, numbers), strict=True,
    ):  # fmt: skip
        assert torch.equal(ours, theirs)
    asked = []
    model.contact_tower.encoding = lambda backbone, given: (asked.append(given), backbone.encode(given))[1]
    model.contact_tower.outputs(words, categories, numbers)
    assert asked == [words]
