"""Gradient caching: the gradient of one batch, whatever is kept or read again, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.train.cached import (
    CPU,
    LONGEST,
    WIDTH,
    Device,
    Encode,
    assert_alike,
    bert,
    cached,
    contrast,
    gradients,
    learnt,
    one_by_one,
    words,
)
from train.buckets import CELLS as CELLS_OF_A_PASS
from train.buckets import cut
from train.cached_text import CachedText, Reading, bytes_of_cell, default_cells
from twotower.errors import ConfigError
from twotower.towers.backbones import Backbone, Words

CELLS = [LONGEST, 40, 90, 10_000]
"""A text or two at a time, some texts at a time, some graphs kept, all kept."""


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("cells", CELLS)
def test_loss_and_gradients_are_those_of_a_plain_loop(cells, dropout, bf16):
    """With the same masks, as the same buckets draw the same random numbers; and the numbers that come next agree."""
    backbone = bert(dropout)
    expected, after = learnt(backbone, one_by_one(backbone, cells), bf16), torch.rand(3)
    assert_alike(learnt(backbone, cached(backbone, cells), bf16), expected, 1e-5)
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize("cells", CELLS)
def test_loss_and_gradients_are_those_of_one_padded_pass(cells):
    backbone = bert()
    assert_alike(learnt(backbone, cached(backbone, cells)), learnt(backbone, backbone.encode), 1e-4)


def test_other_masks_would_have_been_seen():
    backbone = bert(0.3)
    with pytest.raises(AssertionError):
        assert_alike(learnt(backbone, one_by_one(backbone, 40)), learnt(backbone, one_by_one(backbone, 30)), 1e-2)


def test_a_cached_and_a_plain_pass_go_together_under_one_autocast():
    """Autocast keeps the weights it has cast: those of a pass without a graph must not cut the next one off."""
    backbone = bert()
    found = []
    for one in (cached(backbone, 1), backbone.encode):
        backbone.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = contrast(one(words(20)), backbone.encode(words(20, seed=1)))
        loss.backward()
        found.append((loss.detach(), gradients(backbone)))
    assert_alike(*found, tolerance=3e-2, rounding=1e-3)


def test_weights_in_half_precision_are_summed_in_single(monkeypatch):
    backbone, given = bert().bfloat16(), words(40)
    monkeypatch.setitem(CELLS_OF_A_PASS, "cpu", LONGEST)
    CachedText(LONGEST)(backbone, given).sum().backward()
    trained = [p for p in backbone.parameters() if p.requires_grad]
    order, buckets = cut(given.lengths, LONGEST, CPU)
    totals = [torch.zeros_like(p, dtype=torch.float32) for p in trained]
    for bucket in buckets[::-1]:
        vectors = backbone.encode(Words(given.tokens[order][bucket.first : bucket.last, : bucket.width]))
        for total, part in zip(totals, torch.autograd.grad(vectors.sum(), trained), strict=True):
            total.add_(part)
    assert all(torch.equal(p.grad, total.bfloat16()) for p, total in zip(trained, totals, strict=True))


def most_held(encode: Callable[[Backbone], Encode], count: int) -> int:
    """Most bytes held for the backward of a step."""
    backbone = bert(0.1)
    device = Device(backbone)
    with device.hooks():
        (encode(backbone)(words(count)) ** 2).sum().backward()
    return device.most


@pytest.mark.parametrize("cells", [120, 240])
def test_memory_does_not_grow_with_the_batch(cells):
    few, many = (most_held(lambda b: cached(b, cells), count) for count in (60, 600))
    tokens_and_vectors = 600 * (LONGEST * 8 + 2 * WIDTH * 4)
    assert many < 1.2 * few + tokens_and_vectors
    plain = [most_held(lambda b: one_by_one(b, cells), count) for count in (60, 600)]
    assert plain[1] > 6 * plain[0]
    assert many < plain[1] / 4


def test_memory_on_a_gpu_does_not_grow_with_the_batch():
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    device, peaks = torch.device("cuda"), []
    for count in (1_000, 16_000):
        backbone, given = bert(0.1).to(device), words(count)
        torch.cuda.reset_peak_memory_stats()
        (CachedText(2_000)(backbone, Words(given.tokens.to(device), given.lengths)) ** 2).sum().backward()
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < peaks[0] + 16_000 * (4 * LONGEST * 8 + 8 * WIDTH * 4)


@pytest.mark.parametrize("cells", CELLS)
def test_odd_batches(cells):
    backbone, text = bert(), CachedText(cells)
    nothing = Words(torch.zeros(4, 3, dtype=torch.int64), np.zeros(4, np.int64))
    for given in (words(1, empty=False), words(1), nothing):
        backbone.zero_grad()
        vectors = text(backbone, given)
        assert torch.allclose(vectors, backbone.encode(given), atol=1e-6)
        vectors.sum().backward()
        # Several processes wait for every parameter, whatever one of them has read.
        assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters() if p.requires_grad)
    assert text(backbone, words(0)).shape == (0, WIDTH)


def test_lengths_that_nobody_gave_are_found():
    backbone, given, text = bert(), words(20), CachedText(50)
    assert torch.equal(text(backbone, Words(given.tokens)), text(backbone, given))


def test_a_frozen_backbone_and_one_without_gradients_keep_nothing():
    backbone, given = bert(), words(20)
    with torch.no_grad():
        assert not CachedText(50)(backbone, given).requires_grad
    backbone.requires_grad_(False)
    assert not CachedText(50)(backbone, given).requires_grad
    reading = Reading(CachedText(10_000), backbone, given, [])
    assert torch.allclose(reading.forward(), backbone.encode(given), atol=1e-6)
    assert reading.units == []


def test_some_frozen_layers_get_no_gradient():
    backbone = bert()
    backbone.model.embeddings.requires_grad_(False)
    CachedText(50)(backbone, words(20)).sum().backward()
    assert all((p.grad is None) != p.requires_grad for p in backbone.parameters())


def test_a_step_between_forward_and_backward_is_refused():
    backbone = bert()
    vectors = CachedText(1)(backbone, words(5))
    with torch.no_grad():
        next(backbone.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        vectors.sum().backward()


def test_a_graph_can_be_used_twice():
    backbone = bert(0.2)
    vectors = CachedText(100)(backbone, words(20))
    found = []
    for _ in range(2):
        backbone.zero_grad()
        (vectors**2).sum().backward(retain_graph=True)
        found.append(gradients(backbone))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))


def test_a_fused_step_moves_the_text_as_a_plain_one_does():
    moved = []
    for fused in (True, False):
        backbone = bert()
        optimiser = torch.optim.AdamW([p for p in backbone.parameters() if p.requires_grad], lr=1e-2, fused=fused)
        learnt(backbone, cached(backbone, 90))
        optimiser.step()
        moved.append(list(backbone.parameters()))
    start = list(bert().parameters())
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*moved, strict=True))
    assert sum(not torch.equal(one, before) for one, before in zip(moved[0], start, strict=True)) > 20


class Asked(TorchDispatchMode):
    """Refuses what would make the host wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        boolean = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        assert not boolean, "boolean indexing"
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero"}, name
        return func(*args, **(kwargs or {}))


def test_a_step_asks_the_device_nothing():
    backbone, text = bert(0.2), CachedText(90)
    with Asked():
        text(backbone, words(20)).sum().backward()
    with pytest.raises(AssertionError, match="_local_scalar_dense"), Asked():
        backbone(words(20).tokens)


def test_the_estimate_is_what_autograd_holds():
    backbone = bert(0.1)
    device, tokens = Device(backbone), words(400, empty=False).tokens
    with device.hooks():
        vectors = backbone.encode(Words(tokens))
    assert vectors.requires_grad
    assert 0.5 * bytes_of_cell(backbone) < device.most / tokens.numel() < 1.2 * bytes_of_cell(backbone)


def test_the_limit_is_chosen_once_and_must_be_positive():
    backbone, text = bert(), CachedText()
    text(backbone, words(3))
    assert text.cells == default_cells(backbone, CPU) > 1000
    with pytest.raises(ConfigError, match="text_tokens 0: must be positive"):
        CachedText(0)
