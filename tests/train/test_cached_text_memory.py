"""Running out of memory while reading texts: the same gradient with less, remembered; one line where nothing helps."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.train.cached import LONGEST, Device, Encode, Learnt, assert_alike, bert, cached, learnt, one_by_one, words
from train.buckets import CELLS
from train.cached_text import CachedText
from twotower.errors import ConfigError
from twotower.towers.backbones import Backbone, TransformerBackbone, Words

ALL = 10_000
DROPOUT = [0.0, 0.3]


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch):
    """Nothing here holds itself, and looking through all of transformers takes seconds."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def room_for(cells: int, dropout: float) -> int:
    """Bytes that a graph of so many token cells takes, and what else a step holds."""
    backbone = bert(dropout)
    device = Device(backbone)
    with device.hooks():
        vectors = backbone.encode(words(cells // LONGEST, empty=False))
    return device.most + vectors.numel() * 40


def assert_slope(backbone: Backbone, again: Callable[[], Learnt], gradients: list[Tensor]) -> None:
    """The gradient is that of the loss: along it, the loss changes by as much as its length says."""
    trained = [p for p in backbone.parameters() if p.requires_grad]
    length = torch.cat([g.flatten() for g in gradients]).norm()
    losses = []
    for size in (1e-3, -1e-3):
        with torch.no_grad():
            for p, g in zip(trained, gradients, strict=True):
                p.add_(size * g / length)
        losses.append(again()[0])
        with torch.no_grad():
            for p, g in zip(trained, gradients, strict=True):
                p.sub_(size * g / length)
    assert (losses[0] - losses[1]) / 2e-3 == pytest.approx(float(length), rel=2e-2)


@pytest.mark.parametrize("dropout", DROPOUT)
def test_graphs_that_do_not_fit_are_given_up(dropout, caplog):
    backbone = bert(dropout)

    def step() -> tuple[Learnt, Device, CachedText]:
        device, text = Device(backbone, room_for(100, dropout)), CachedText(ALL)
        with device.hooks():
            return learnt(backbone, lambda given: text(backbone, given)), device, text

    found, device, text = step()
    if not dropout:
        assert_alike(found, learnt(backbone, backbone.encode), 1e-4)
    assert_slope(backbone, lambda: step()[0], found[1])
    assert device.refused > 0
    assert device.most <= device.room
    assert text.cells is not None
    assert text.cells < 150
    assert f"going on with {text.cells} token cells" in caplog.messages[-1]


def test_what_was_kept_before_makes_room(monkeypatch):
    """Graphs are kept until one does not fit; then none is, and the rest is read."""
    monkeypatch.setitem(CELLS, "cpu", 40)
    backbone, text = bert(), CachedText(ALL)
    expected = learnt(backbone, backbone.encode)
    device = Device(backbone, room_for(100, 0.0))
    kept = []

    def encode(given: Words) -> Tensor:
        vectors = text(backbone, given)
        kept.append(sum(unit.kept is not None for unit in vectors.grad_fn.reading.units))
        return vectors

    with device.hooks():
        assert_alike(learnt(backbone, encode), expected, 1e-4)
    assert device.refused == 1
    assert kept[0] == 0 < kept[1]


class Scarce(torch.autograd.Function):
    """Leaves little room once the backward begins, when the graphs that the forward kept are gone."""

    @staticmethod
    def forward(ctx, vectors: Tensor, device: Device, room: int) -> Tensor:
        ctx.device, ctx.room, ctx.reading = device, room, vectors.grad_fn.reading
        return vectors.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.reading._give_up_graphs()
        ctx.device.room = ctx.room
        return gradient, None, None


@pytest.mark.parametrize("dropout", DROPOUT)
@pytest.mark.parametrize("cells", [90, ALL])
def test_a_backward_that_does_not_fit_takes_less(cells, dropout, caplog):
    """With dropout the buckets are read whole again, but on the host: other masks would be another gradient."""
    backbone, text = bert(dropout), CachedText(cells)
    expected = learnt(backbone, one_by_one(backbone, cells))
    device, room = Device(backbone), room_for(48, dropout)
    with device.hooks():
        found = learnt(backbone, lambda given: Scarce.apply(text(backbone, given), device, room))
    assert_alike(found, expected, 1e-5)
    assert device.refused > 0
    assert 0 < int(text.cells or 0) < cells
    assert caplog.messages


class Narrow(TransformerBackbone):
    """Reads at most `most` token cells at once, with a graph or without."""

    most = ALL
    calls = 0

    def encode(self, words: Words) -> Tensor:
        self.calls += 1
        if words.tokens.numel() > self.most:
            raise torch.OutOfMemoryError("no room")
        return super().encode(words)


def narrow(most: int, dropout: float = 0.0) -> Narrow:
    whole = bert(dropout)
    made = Narrow(whole.model, whole.width, whole.pad_id).train()
    made.most = most
    return made


@pytest.mark.parametrize("dropout", DROPOUT)
def test_a_forward_that_does_not_fit_is_read_in_halves(dropout):
    """The halves draw masks of their own, and the backward draws these again."""
    backbone = narrow(70, dropout)

    def fresh() -> Encode:
        return cached(backbone, ALL)

    loss, gradients = learnt(backbone, fresh())
    assert_slope(backbone, lambda: learnt(backbone, fresh()), gradients)
    if not dropout:
        backbone.most = ALL
        assert_alike((loss, gradients), learnt(backbone, backbone.encode), 1e-4)


def test_what_was_learnt_of_the_memory_is_remembered(caplog):
    backbone, text = narrow(70), CachedText(ALL)
    calls = []
    for _ in range(2):
        backbone.calls = 0
        learnt(backbone, lambda given: text(backbone, given))
        calls.append(backbone.calls)
    assert 35 <= int(text.cells or 0) <= 70
    assert len(caplog.messages) == 2  # of all texts, of half of them; nothing in the second step
    assert calls[1] < calls[0]


@pytest.mark.parametrize("graph", [True, False])
def test_one_text_too_many_names_the_options(graph):
    backbone, text = narrow(LONGEST - 1), CachedText(ALL)
    with torch.set_grad_enabled(graph), pytest.raises(ConfigError, match=r"max_tokens.*data\.batch_size") as error:
        text(backbone, words(20))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dropout", DROPOUT)
def test_a_backward_that_fits_nowhere_names_the_options(dropout):
    backbone = narrow(ALL, dropout)
    vectors = CachedText(1)(backbone, words(20))
    backbone.most = 1
    with pytest.raises(ConfigError, match=r"out of memory while reading .* lower data\.towers\.max_tokens"):
        vectors.sum().backward()


def test_warnings_are_one_line_for_each_new_limit(caplog):
    text = CachedText(1000)
    with caplog.at_level(logging.WARNING):
        for cells in (600, 10_000, 600, 500):
            text.halve(cells)
    assert text.cells == 250
    assert [line.partition("with ")[2] for line in caplog.messages] == [
        "300 token cells at once",
        "250 token cells at once",
    ]
