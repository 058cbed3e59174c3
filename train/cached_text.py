"""Text vectors of as many contacts as a step likes, in the memory of a few: gradient caching.

Notable: the whole text backbone is one `torch.autograd.Function`. Its forward reads the texts in buckets of like length
and keeps the graphs of only so many; its backward reads the others again, bucket by bucket, with the random numbers and
the autocast of the first time, and hands the summed gradients to autograd as those of the parameters. So what stands
above (towers, objectives, DDP) sees one batch, and DDP's hooks fire once for each parameter. Running out of memory is
found and dealt with inside a bucket, where no collective runs: the step is the one that would have been taken, and
where several processes train, the others wait a little longer.

    out of memory in            then
    forward                   the graphs kept so far are given up, the bucket is read in halves, without a graph
    backward                  the bucket is read in halves: the same vectors, so the same gradient
    backward, with dropout    halves would draw other masks than the forward did: the bucket is read whole, with its
                              activations in the host's memory

Each time the limit becomes half of what did not fit, for the rest of the run.

Source: Gao, Zhang, Han and Callan, "Scaling deep contrastive learning batch size under memory limited setup", 2021.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from train.buckets import Bucket, cells_at_once, cut
from twotower.errors import ConfigError
from twotower.towers.backbones import Backbone, Words, sent

log = logging.getLogger(__name__)
CPU_CELLS = 16_384
"""Token cells whose graphs are kept on a CPU: about 2.5 GB with MiniLM. The same on every machine, as the last digits
of a sum depend on how it is cut."""
SHARE = 1 / 6
"""Of a GPU's free memory that one call may keep: a step has up to three of them."""


class CachedText:
    """Encodes texts bucket by bucket; installed as `ContactTower.encoding`.

    cells: token cells, padding included, whose graphs are kept, and which are read again at once; None: by the device.
    compiled: through torch.compile, where nothing random is drawn (two graphs need not draw alike).
    """

    def __init__(self, cells: int | None = None, compiled: bool = False) -> None:
        if cells is not None and cells <= 0:
            raise ConfigError(f"model.text_tokens {cells}: must be positive")
        self.cells = cells
        self._compiled: Callable[[Backbone, Tensor], Tensor] | None = None
        if compiled:
            self._compiled = torch.compile(encode, dynamic=True)

    def __call__(self, backbone: Backbone, words: Words) -> Tensor:
        """Text vectors (B, width). Raises ConfigError where not even one text fits into memory."""
        if self.cells is None:
            self.cells = default_cells(backbone, words.tokens.device)
        trained = [p for p in backbone.parameters() if p.requires_grad] if torch.is_grad_enabled() else []
        reading = Reading(self, backbone, words, trained)
        if not trained:
            return reading.forward()
        vectors: Tensor = _Cached.apply(reading, *trained)  # type: ignore[no-untyped-call]
        return vectors

    def read(self, backbone: Backbone, tokens: Tensor) -> Tensor:
        """Text vectors (b, width) of one bucket (b, L)."""
        if self._compiled is None or drops(backbone):
            return encode(backbone, tokens)
        return self._compiled(backbone, tokens)

    def halve(self, cells: int) -> None:
        """Go on with half of the token cells that did not fit."""
        less = max(1, cells // 2)
        if self.cells is not None and self.cells <= less:
            return
        self.cells = less
        gc.collect()  # of what failed, as far as the exception held it
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("out of memory while reading texts: going on with %s token cells at once", f"{self.cells:,}")


def encode(backbone: Backbone, tokens: Tensor) -> Tensor:
    """Text vectors (b, width) of padded tokens (b, L)."""
    return backbone.encode(Words(tokens))


def drops(backbone: Backbone) -> bool:
    """Whether some dropout is active."""
    return any(isinstance(m, nn.Dropout) and m.training and m.p > 0 for m in backbone.modules())


def default_cells(backbone: Backbone, device: torch.device) -> int:
    """Token cells to hold at once: on a GPU by its free memory and the size of the encoder."""
    if device.type != "cuda":
        return CPU_CELLS
    free = torch.cuda.mem_get_info(device)[0]
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1, int(SHARE * free / bytes_of_cell(backbone)))


def bytes_of_cell(backbone: Backbone) -> int:
    """Bytes of activations that the graph of one token cell holds: of an encoder with dropout in float32, the most."""
    config = getattr(getattr(backbone, "model", None), "config", None)
    layers, hidden = (int(getattr(config, name, 1)) for name in ("num_hidden_layers", "hidden_size"))
    return 4 * layers * (17 * hidden + 2 * int(getattr(config, "intermediate_size", 4 * hidden)))


class Random(NamedTuple):
    """State of the random numbers of the host and of a device."""

    host: Tensor
    device: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> Random:
        """As it is."""
        own = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)
        return cls(torch.get_rng_state(), own)

    def restore(self, device: torch.device) -> None:
        """Make it so again."""
        torch.set_rng_state(self.host)
        if self.device is not None:
            torch.get_device_module(device).set_rng_state(self.device, device)

    def same(self, other: Random) -> bool:
        """Whether nothing was drawn between the two."""
        pairs = zip(self, other, strict=True)
        return all(mine is None or its is None or torch.equal(mine, its) for mine, its in pairs)


@dataclass
class Unit:
    """A bucket that was read: the state `before`, whether random numbers were drawn (`drew`), and the vectors with
    their graph where that is kept. on_host: activations of its backward lie in the host's memory."""

    bucket: Bucket
    before: Random
    drew: bool = False
    kept: Tensor | None = None
    on_host: bool = False


class Reading:
    """One batch of texts on its way through a backbone and back. trained: the parameters that want gradients."""

    def __init__(self, text: CachedText, backbone: Backbone, words: Words, trained: list[nn.Parameter]) -> None:
        self.text, self.backbone, self.trained = text, backbone, trained
        self.device, count = words.tokens.device, len(words.tokens)
        words = Words.of(words.tokens, backbone.pad_id) if words.lengths is None else words
        lengths = np.full(count, words.tokens.shape[1]) if words.lengths is None else words.lengths
        order, self.buckets = cut(lengths, min(int(text.cells or 1), cells_at_once(self.device)), self.device)
        back = np.empty_like(order)
        back[order] = np.arange(count)
        self.order, self.back = (sent(torch.from_numpy(o), self.device) for o in (order, back))
        self.tokens = words.tokens.index_select(0, self.order)
        kind = self.device.type
        self.autocast = partial(
            torch.autocast,
            kind,
            dtype=torch.get_autocast_dtype(kind),
            enabled=torch.is_autocast_enabled(kind),
            cache_enabled=False,  # buckets are summed in single precision, not in that of one cast for all
        )
        self.units: list[Unit] = []

    def forward(self) -> Tensor:
        """Text vectors (B, width) in the texts' own order, without a graph."""
        pieces, waiting, kept = [], self.buckets[::-1], 0
        limit = int(self.text.cells or 0) if self.trained else 0
        while waiting:
            bucket = waiting.pop()
            if self._exceeds(bucket):
                waiting += halves(bucket)[::-1]
                continue
            keep = kept + bucket.cells <= limit
            vectors = self._first(bucket, keep)
            if vectors is not None:
                pieces.append(vectors)
                kept += bucket.cells * keep
                continue
            if not keep and bucket.last - bucket.first == 1:
                raise too_large(bucket)
            self._give_up_graphs()
            self.text.halve(bucket.cells + kept)
            kept = limit = 0
            waiting.append(bucket)
        like = pieces[0] if pieces else next(self.backbone.parameters())
        rest = like.new_zeros(len(self.tokens) - sum(map(len, pieces)), self.backbone.width)
        return torch.cat([*pieces, rest]).index_select(0, self.back)

    def backward(self, gradient: Tensor) -> list[Tensor]:
        """Gradients of the trained parameters, given that of the text vectors (B, width)."""
        gradient, outside = gradient.index_select(0, self.order), Random.now(self.device)
        # Several buckets are summed in single precision at least.
        totals = [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in self.trained]
        waiting = [u for u in self.units if u.kept is None] + [u for u in self.units if u.kept is not None]
        while waiting:
            unit = waiting.pop()
            exceeds = unit.kept is None and self._exceeds(unit.bucket)
            if exceeds and not unit.drew:
                waiting += [replace(unit, bucket=half) for half in halves(unit.bucket)]
                continue
            unit.on_host |= exceeds
            found = self._again(unit, gradient[unit.bucket.first : unit.bucket.last])
            if found is None:
                self._make_room(unit)
                waiting.append(unit)
                continue
            for total, part in zip(totals, found, strict=True):
                if part is not None:
                    total.add_(part)
        outside.restore(self.device)
        return [total.to(p.dtype) for total, p in zip(totals, self.trained, strict=True)]

    def _first(self, bucket: Bucket, keep: bool) -> Tensor | None:
        """Vectors of a bucket, written down for the backward; None where the memory was not enough."""
        unit = Unit(bucket, Random.now(self.device))
        try:
            with torch.set_grad_enabled(keep), self.autocast():
                vectors = self.text.read(self.backbone, self._tokens(bucket))
        except torch.OutOfMemoryError:
            unit.before.restore(self.device)
            return None
        if self.trained:
            unit.drew, unit.kept = not unit.before.same(Random.now(self.device)), vectors if keep else None
            self.units.append(unit)
        return vectors.detach()

    def _again(self, unit: Unit, gradient: Tensor) -> tuple[Tensor | None, ...] | None:
        """Gradients from one unit; None where the memory was not enough."""
        vectors, unit.kept = unit.kept, None
        try:
            if vectors is None:
                with torch.enable_grad(), self.autocast(), on_host(unit.on_host, self.device):
                    unit.before.restore(self.device)
                    vectors = self.text.read(self.backbone, self._tokens(unit.bucket))
            return torch.autograd.grad(vectors, self.trained, gradient, allow_unused=True)
        except torch.OutOfMemoryError:
            return None

    def _exceeds(self, bucket: Bucket) -> bool:
        """Whether a bucket is more than fits since memory ran out, and can be less."""
        return bucket.last - bucket.first > 1 and bucket.cells > int(self.text.cells or 0)

    def _make_room(self, unit: Unit) -> None:
        """Prepare for a second try of a unit that did not fit. Raises ConfigError where there is nothing to try."""
        if unit.on_host:
            raise too_large(unit.bucket)
        self._give_up_graphs()
        self.text.halve(unit.bucket.cells)
        unit.on_host = not self._exceeds(unit.bucket)

    def _give_up_graphs(self) -> None:
        for unit in self.units:
            unit.kept = None

    def _tokens(self, bucket: Bucket) -> Tensor:
        return self.tokens[bucket.first : bucket.last, : bucket.width].contiguous()


def halves(bucket: Bucket) -> list[Bucket]:
    """A bucket of several texts in two."""
    middle = (bucket.first + bucket.last) // 2
    return [bucket._replace(last=middle), bucket._replace(first=middle)]


def too_large(bucket: Bucket) -> ConfigError:
    """What to tell who has too little memory."""
    return ConfigError(
        f"out of memory while reading {bucket.last - bucket.first} texts of {bucket.width} tokens: lower "
        "data.towers.max_tokens, data.batch_size, data.memory_batch or data.memory_rows, or name a smaller "
        "data.towers.encoder"
    )


@contextmanager
def telling_what_to_lower(text: CachedText) -> Iterator[None]:
    """Makes running out of memory elsewhere in a step a ConfigError of one line.

    Elsewhere collectives may run, and what one process repeats the others do not, so nothing is tried again.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        kept = "" if text.cells is None else f" or model.text_tokens (now {text.cells})"
        reason = str(error).partition(". ")[0]
        raise ConfigError(
            f"{reason}: lower data.batch_size, data.memory_batch, data.memory_rows, data.sampled{kept}"
        ) from None


@contextmanager
def on_host(wanted: bool, device: torch.device) -> Iterator[None]:
    """What a graph needs later goes to the host's memory meanwhile."""
    if not wanted:
        yield
        return
    with torch.autograd.graph.save_on_cpu(pin_memory=device.type == "cuda"):
        yield


class _Cached(torch.autograd.Function):
    """Parameters of a backbone to text vectors; the texts are no input, as nothing is learnt of them."""

    @staticmethod
    def forward(ctx: Any, reading: Reading, *parameters: Tensor) -> Tensor:
        ctx.reading = reading
        ctx.save_for_backward(*parameters)  # so that autograd refuses where they were changed in between
        return reading.forward()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors
        return None, *ctx.reading.backward(gradient)
