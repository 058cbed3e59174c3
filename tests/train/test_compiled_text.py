"""The compiled text backbone: the same step from few graphs, and nothing of it in what is saved."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from tests.train.cached import assert_alike, bert, learnt, one_by_one, words
from train.cached_text import CachedText, drops


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Skips where nothing can be compiled; what is compiled is not kept."""
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("no C++ compiler here")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def test_compiled_vectors_are_the_plain_ones(compiler):
    """One program for all widths and sizes of buckets; nothing of it in what is saved."""
    backbone = bert(layers=1)
    names, text = list(backbone.state_dict()), CachedText(60, compiled=True)
    for count in (20, 31):
        with torch.no_grad():
            found, expected = text(backbone, words(count)), one_by_one(backbone, 60)(words(count))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] <= 2
    assert list(backbone.state_dict()) == names


def test_a_traced_step_is_the_plain_one(monkeypatch):
    """Few graphs, though buckets come in all sizes, with gradients and without."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    backbone = bert(layers=1)
    text = CachedText(60, compiled=True)
    for count in (20, 31):
        found = learnt(backbone, lambda given: text(backbone, given), count=count)
        assert_alike(found, learnt(backbone, one_by_one(backbone, 60), count=count), 1e-4)
    assert counters["stats"]["unique_graphs"] <= 4
    torch._dynamo.reset()


def test_what_drops_is_not_compiled(monkeypatch):
    """Two graphs of one function need not draw the same masks, and the backward has to."""
    asked = []
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic: lambda *given: (asked.append(1), function(*given))[1]
    )
    for dropout, train in ((0.2, True), (0.2, False), (0.0, True)):
        backbone = bert(dropout).train(train)
        CachedText(60, compiled=True)(backbone, words(5, empty=False))
        assert drops(backbone) == (not asked)
        asked.clear()
