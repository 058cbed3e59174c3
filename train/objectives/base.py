"""The interface of the objectives, and what all of them share: precision, the mean, and rows at a time.

Notable: an objective sees logits of the profile's members (or kernels of the memory) and returns one number; which
batches it needs is declared, so the data module can build them. All are means over examples, so that learning rates do
not depend on the batch size; over several processes they are means over the examples of all of them, so that the
average of the processes' gradients, which is what DDP takes, is the gradient of one process that had all the rows.

Logits of B contacts, M members and J CSAs are B·M·J cells. Where these are more than `MOST_CELLS`, contacts are taken
some rows at a time and each part is computed again in the backward pass (Chen et al., arXiv 1604.06174; the towers are
run once, before, so their dropout is the same for all parts). Loss and gradients are those of the whole under the same
noise; noise of logits is drawn for a part at a time, the same again in the backward pass. A roster of more than
twice `CSAS_AT_ONCE` is taken in parts too, and each is encoded where it is contrasted: nothing else grows with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

import torch
from torch import Tensor, distributed
from torch.utils.checkpoint import checkpoint

from train.batches import ProfileBatch
from train.draws import Sampling
from train.together import together
from twotower.towers.two_tower import ContactOutput, CsaOutput, TwoTower

MOST_CELLS = 1 << 24
"""Cells (contact, member, CSA) held at once; each takes about 40 bytes while gradients are computed, 0.7 GB in all."""

CSAS_AT_ONCE = 1 << 13
"""CSAs of a large roster that are encoded at once; one that would fill less than two parts is not parted, as to encode
it again costs more than it holds (measured at 10,000 CSAs: 136 contacts a second in place of 213, for 0.2 GB less)."""

SUCCESS_LEVEL = -8.0
"""The level at which objectives of successes alone hold the logit of success.

What a contact adds to the logits of all CSAs alike, successes cannot tell. Left free, it runs off to where log σ is
flat: noise of logits that are not learnt yet costs nothing there, and nothing is learnt any more. So low, log σ is exp
to e⁻⁸ of itself, and a shift of all logits changes the loss by no more than that. Where no lists tell who could have
taken a contact, π₀ is a mere share of recent work; a level that is free to flee keeps what that gets wrong out of z.
"""


class ProfileObjective(Protocol):
    """A loss on the profile part."""

    name: ClassVar[str]
    sampling: ClassVar[Sampling]
    needs_failures: ClassVar[bool]

    def __call__(self, model: TwoTower, batch: ProfileBatch) -> Tensor:
        """Mean loss (scalar) over the examples of a batch."""
        ...


def steady(logits: Tensor) -> Tensor:
    """The logits in float32 at least: under autocast sums over a roster would keep two or three digits."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def mean_of(total: Tensor, count: Tensor) -> Tensor:
    """total / count (scalars); 0 with a gradient of 0 where nothing counts.

    Where processes train together, `count` is that of all of them over their number: the average of what this returns,
    and of its gradients, is the sum of all totals over the sum of all counts. Every process must then call it.
    """
    world = together()
    count = count.detach().to(total.dtype, copy=True)
    if world > 1:
        distributed.all_reduce(count)
    return total * world / count.clamp_min(1)


def by_rows(total: Callable[[slice], Tensor], rows: int, cells: int, there: Tensor) -> Tensor:
    """The sum of `total` over slices of `rows` rows: one slice where rows · cells are at most `MOST_CELLS`.

    total: sum of the losses (scalar) of the rows of a slice; cells: logits that one row takes; there: any tensor of the
    device that `total` draws noise on. Memory beyond the towers' outputs is that of max(MOST_CELLS, cells) cells.
    """
    most = max(1, MOST_CELLS // max(cells, 1))
    if rows <= most:
        return total(slice(0, rows))

    def part(rows: slice, there: Tensor) -> Tensor:
        return total(rows)

    # Of its arguments `checkpoint` learns whose random numbers it has to draw again.
    parts: list[Tensor] = [checkpoint(part, one, there, use_reentrant=False) for one in slices(rows, most)]
    return torch.stack(parts).sum()


def by_blocks(
    encoded: Callable[[slice], CsaOutput],
    block: Callable[[slice, slice, CsaOutput], tuple[Tensor, Tensor]],
    rows: int,
    csas: int,
    members: int,
    there: Tensor,
) -> tuple[Tensor, Tensor]:
    """What `block` tells over a roster: log Σ exp of scores (rows, M), and scores of who took each contact (rows, M).

    encoded: what a slice of the roster is to the CSA tower; block: of a slice of rows and one of CSAs, log Σ exp of its
    scores, and the score of who took each contact, 0 where that is none of them; members: M; there: as of `by_rows`.
    Up to twice `CSAS_AT_ONCE` CSAs are encoded once, and contrasted with as many rows as make `MOST_CELLS` cells. More
    are taken in parts of `CSAS_AT_ONCE`, log Σ exp being the log Σ exp of that of the parts.
    """
    width = csas if csas <= 2 * CSAS_AT_ONCE else CSAS_AT_ONCE
    height = max(1, MOST_CELLS // max(members * width, 1))
    once = encoded(slice(0, csas)) if csas == width else None
    if once is not None and rows <= height:
        return block(slice(0, rows), slice(0, csas), once)

    def part(rows: slice, csas: slice, there: Tensor) -> tuple[Tensor, Tensor]:
        return block(rows, csas, encoded(csas) if once is None else once)

    found = []
    for some in slices(csas, width):
        parts = [checkpoint(part, one, some, there, use_reentrant=False) for one in slices(rows, height)]
        found.append([torch.cat(side) for side in zip(*parts, strict=True)])
    normalisers, own = (torch.stack(side) for side in zip(*found, strict=True))
    return normalisers.logsumexp(dim=0), own.sum(dim=0)


def slices(count: int, most: int) -> Iterator[slice]:
    """0 … count − 1 in slices of at most `most`."""
    return (slice(start, min(start + most, count)) for start in range(0, count, most))


def rows_of(contacts: ContactOutput, rows: slice) -> ContactOutput:
    """The contact tower's output for some rows."""
    return ContactOutput(*(part[rows] for part in contacts))


def level_of_success(contacts: ContactOutput, batch: ProfileBatch) -> Tensor:
    """(B,) the level that objectives of successes alone add to all logits of a contact: see `SUCCESS_LEVEL`."""
    return torch.full_like(contacts.level, SUCCESS_LEVEL) if batch.listed else contacts.level
