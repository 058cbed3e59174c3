"""The interface of the objectives.

Notable: an objective sees logits of the profile's members (or kernels of the memory) and returns one number; which
batches it needs is declared, so the data module can build them. All are means over examples, so that
learning rates do not depend on the batch size.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

from torch import Tensor

from train.batches import ProfileBatch
from twotower.towers.two_tower import TwoTower


class ProfileObjective(Protocol):
    """A loss on the profile part."""

    name: ClassVar[str]
    sampling: ClassVar[Literal["shuffled", "by_snapshot"]]
    needs_failures: ClassVar[bool]

    def __call__(self, model: TwoTower, batch: ProfileBatch) -> Tensor:
        """Mean loss (scalar) over the examples of a batch."""
        ...
