"""Texts of like length are read together: every text once, little padding, the same vectors."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.train.cached import PAD, WIDTH, bert, words
from train.buckets import CELLS, cells_at_once, cut
from train.encode import text_vectors
from twotower.text.tokens import TokenArrays


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 200), st.sampled_from(["cpu", "cuda"]))
def test_every_text_with_words_is_in_one_bucket_that_holds_it(lengths, cells, kind):
    counts = np.array(lengths, np.int64)
    order, buckets = cut(counts, cells, torch.device(kind))
    assert sorted(order) == list(range(len(lengths)))
    placed = [i for first, last, _ in buckets for i in range(first, last)]
    assert placed == list(range(int((counts > 0).sum())))
    step = 8 if kind == "cuda" else 1
    for bucket in buckets:
        inside = counts[order[bucket.first : bucket.last]]
        assert inside.min() > 0
        assert 0 <= bucket.width - inside.max() < step
        assert bucket.width % step == 0
        assert bucket.cells <= cells or bucket.last - bucket.first == 1
    assert [b.width for b in buckets] == sorted((b.width for b in buckets), reverse=True)


def test_many_texts_leave_little_padding():
    lengths = np.random.default_rng(0).integers(1, 129, 4096)
    _, buckets = cut(lengths, cells_at_once(torch.device("cpu")), torch.device("cpu"))
    assert lengths.sum() / sum(bucket.cells for bucket in buckets) > 0.98
    assert lengths.mean() / 128 < 0.6


@pytest.mark.parametrize("held", [1, 7, 1000])
def test_text_vectors_are_those_of_each_text(held, monkeypatch):
    monkeypatch.setitem(CELLS, "cpu", 40)
    backbone, texts = bert(0.3), words(30)
    rows = [row[:length].numpy() for row, length in zip(texts.tokens, texts.lengths, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(texts.lengths)])
    data = SimpleNamespace(tokens=TokenArrays(np.concatenate(rows).astype(np.int32), offsets, PAD))
    model = nn.Module()
    model.contact_tower = nn.Module()
    model.contact_tower.backbone = backbone
    found = text_vectors(model, data, held)
    assert found.shape == (30, WIDTH)
    with torch.inference_mode():
        for row, vector in zip(rows, found, strict=True):
            expected = backbone.eval()(torch.from_numpy(row)[None]) if len(row) else torch.zeros(1, WIDTH)
            assert np.allclose(vector, expected[0].numpy(), atol=1e-5)
    assert not backbone.training
