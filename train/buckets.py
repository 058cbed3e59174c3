"""Texts of like length together, so that a padded pass holds little padding.

Notable: everything is decided on the host from lengths that are known there; the longest texts go first, so what is
going to need too much memory needs it at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Indices = npt.NDArray[np.int64]
CELLS = {"cpu": 2_048, "cuda": 65_536}
"""Token cells of one pass: fewer do not fill the device, more let texts of unlike length meet. On a CPU of 512 to 8,192
these were fastest (`benchmarks/text_path.py --cells`); a GPU's follow from what a pass takes to start."""
MULTIPLES = {"cpu": 1, "cuda": 8}
"""Of tokens in a padded width: what kernels of a GPU take without copying."""


class Bucket(NamedTuple):
    """Positions `first` … `last` in the order by length, padded to `width`."""

    first: int
    last: int
    width: int

    @property
    def cells(self) -> int:
        """Token cells, padding included."""
        return (self.last - self.first) * self.width


def cells_at_once(device: torch.device) -> int:
    """Token cells of one pass on a device."""
    return CELLS.get(device.type, CELLS["cuda"])


def cut(lengths: Indices, cells: int, device: torch.device) -> tuple[Indices, list[Bucket]]:
    """The order (B,) of texts by length (B,), longest first, and buckets of it of at most `cells` token cells each.

    A text that alone has more is a bucket of its own; texts without words are in none, and come last in the order.
    """
    order: Indices = np.argsort(-lengths, kind="stable")
    filled, step = int((lengths > 0).sum()), MULTIPLES.get(device.type, MULTIPLES["cuda"])
    found, first = [], 0
    while first < filled:
        width = -(-int(lengths[order[first]]) // step) * step
        last = min(filled, first + max(1, cells // width))
        found.append(Bucket(first, last, width))
        first = last
    return order, found
