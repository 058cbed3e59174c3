"""Text backbones: the fused bag and the plain operators are one function."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twotower.errors import ConfigError
from twotower.towers.backbones import SILENT, SMOOTH, StaticBackbone, sif_log_weights, unit
from twotower.towers.config import TowerConfig

WORDS, WIDTH, PAD = 30, 6, 0
Rows = st.lists(st.lists(st.integers(1, WORDS - 1), max_size=7), min_size=1, max_size=5)


def backbone(fused: bool = True) -> StaticBackbone:
    rng = torch.Generator().manual_seed(0)
    made = StaticBackbone(torch.randn(WORDS, WIDTH, generator=rng), torch.randn(WORDS, generator=rng), PAD)
    made.fused = fused
    return made


def padded(rows: list[list[int]]) -> torch.Tensor:
    width = max(1, *map(len, rows)) if len(rows) > 1 else max(1, len(rows[0]))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


@given(Rows)
def test_the_fused_bag_equals_the_plain_operators(rows):
    tokens = padded(rows)
    assert torch.allclose(backbone(True)(tokens), backbone(False)(tokens), atol=1e-5)


@given(Rows)
def test_both_have_the_same_gradients(rows):
    tokens = padded(rows)
    target = torch.randn(len(rows), WIDTH, generator=torch.Generator().manual_seed(1))
    gradients = []
    for fused in (True, False):
        model = backbone(fused)
        (model(tokens) * target).sum().backward()
        gradients.append([p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


@given(Rows)
def test_a_text_is_the_weighted_sum_of_its_words_at_unit_length(rows):
    model = backbone()
    found = model(padded(rows)).detach()
    for row, vector in zip(rows, found, strict=True):
        total = sum((model.table[w] * model.log_weight[w].exp() for w in row), torch.zeros(WIDTH)).detach()
        expected = total / total.norm() if row else torch.zeros(WIDTH)
        assert torch.allclose(vector, expected, atol=1e-5)


def test_a_text_without_words_is_nothing_and_not_nan():
    for fused in (True, False):
        model = backbone(fused)
        out = model(torch.full((2, 3), PAD))
        assert (out == 0).all()
        out.sum().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_unit_length_of_large_and_small_vectors():
    vectors = unit(torch.tensor([[3.0, 4.0], [3e-3, 4e-3], [0.0, 0.0], [3e9, 4e9]]))
    assert torch.allclose(vectors, torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0], [0.6, 0.8]]), atol=1e-4)


def test_rare_words_weigh_more_and_marks_nothing():
    weights = sif_log_weights(np.array([5, 5, 5, 6, 0, 0], np.int32), vocabulary=8, silent=[0])
    assert weights[5] == pytest.approx(math.log(SMOOTH / (SMOOTH + 3 / 4)), rel=1e-5)
    assert weights[6] == pytest.approx(math.log(SMOOTH / (SMOOTH + 1 / 4)), rel=1e-5)
    assert weights[7] == pytest.approx(0)
    assert weights[0] == SILENT
    assert sif_log_weights(np.zeros(0, np.int32), 3, [0]).tolist() == [SILENT, 0, 0]


@pytest.mark.parametrize(
    "bad",
    [
        {"backbone": "lstm"},
        {"base_dim": 0},
        {"memory_dim": 0},
        {"members": 0},
        {"profile_dim": -1},
        {"identity_dropout": 1.0},
        {"category_dropout": -0.1},
    ],
)
def test_sizes_that_cannot_be_are_refused_in_one_line(bad):
    with pytest.raises(ConfigError) as error:
        TowerConfig(**bad)
    assert "\n" not in str(error.value)
