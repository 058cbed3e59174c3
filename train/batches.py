"""The tensors of a step, as objectives read them.

Notable: nothing here is larger than what a step encodes. Who is eligible is kept as lists and spelled out for some
contacts at a time, so no matrix of contacts × roster exists past the slice that an objective works on. Steps are drawn
on the host (`train/draws.py`) and made on the device (`train/gather.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from twotower.errors import ConfigError, DataError
from twotower.towers.backbones import Words
from twotower.towers.two_tower import ContactOutput, TwoTower

Indices = npt.NDArray[np.int64]


@dataclass
class Texts:
    """Contacts as the contact tower reads them: tokens (B, L), categories (B, C), numbers (B, F).

    `told` (B, T) is complexity as it was known on arrival, NaN where it was not. Where the text backbone is frozen,
    `text` (B, width) holds its output and `tokens` is None; `read` (B, W) are the frozen vectors that the heads read,
    None where they are the text's own, or are to be computed. `contact` (B,): their positions in the log. `lengths`
    (B,) of the texts in tokens, on the host, so that nobody asks the device.
    """

    tokens: Tensor | None
    categories: Tensor
    numbers: Tensor
    told: Tensor
    text: Tensor | None = None
    read: Tensor | None = None
    contact: Tensor | None = None
    lengths: Indices | None = None

    def outputs(self, model: TwoTower) -> ContactOutput:
        """The contact tower's output. Raises DataError where neither tokens nor text vectors are given."""
        tower = model.contact_tower
        if self.text is not None:
            read = self.text if self.read is None else self.read
            return tower.head(self.text, read, self.categories, self.numbers, self.told)
        if self.tokens is None:
            raise DataError("contacts of a batch: neither tokens nor text vectors are given; one of them was expected")
        words = Words(self.tokens, self.lengths)
        return tower.outputs(words, self.categories, self.numbers, self.told, self.read)


@dataclass
class Lists:
    """Who could have taken B contacts, among J CSAs, and log π₀ of these, up to a constant for each contact.

    Pairs `offsets[i]` … `offsets[i + 1]` are contact i's: `row` (P,), `column` (P,) of the J, `log_pi0` (P,); offsets
    (B + 1,) lie on the host. `everyone` (B,): anybody could have, by `exposure` (J,).
    """

    offsets: Indices
    row: Tensor
    column: Tensor
    log_pi0: Tensor
    everyone: Tensor
    exposure: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def counts(self) -> Tensor:
        """Whether anybody could have taken each contact (B,)."""
        return self.everyone.index_fill(0, self.row, True)

    def cells(self, rows: slice, csas: slice | None = None) -> tuple[Tensor, Tensor]:
        """Eligibility (b, j) and log π₀ (b, j), 0 where not eligible, of some contacts and some CSAs, all where None;
        slices have start and stop."""
        csas = slice(0, len(self.exposure)) if csas is None else csas
        first, last = int(self.offsets[rows.start]), int(self.offsets[rows.stop])
        exposure = functional.pad(self.exposure[csas], (0, 1))  # pairs with other CSAs go to a column that is cut off
        mask = self.everyone[rows, None].repeat(1, len(exposure))
        log_pi0 = torch.where(mask, exposure, 0)
        column, width = self.column[first:last] - csas.start, csas.stop - csas.start
        column = column.masked_fill((column < 0) | (column >= width), width)
        cell = self.row[first:last] - rows.start, column
        # No Python scalars: these would have to be copied to the device.
        mask.index_put_(cell, torch.ones_like(column, dtype=torch.bool))
        log_pi0.index_put_(cell, self.log_pi0[first:last])
        return mask[:, :-1], log_pi0[:, :-1]


class Roster(NamedTuple):
    """The whole roster at one snapshot, as a profile step contrasts it: `features` (J, G), `identity` (J,), and which
    of them could have taken each contact; who took it is always among these."""

    features: Tensor
    identity: Tensor
    lists: Lists


@dataclass
class Sample:
    """S CSAs of the roster at one snapshot.

    `features` (S, G), `identity` (S,), `csa` (S,) who they are; `lists` who of them is eligible; `own_log_exposure`
    (B,) log π₀ of who took each contact, up to the same constant for each contact; `log_inclusion` (S,): log
    probability with which each CSA is in such a sample.
    """

    features: Tensor
    identity: Tensor
    csa: Tensor
    lists: Lists
    own_log_exposure: Tensor
    log_inclusion: Tensor


@dataclass
class ProfileBatch:
    """Hand-overs for the profile part.

    `features` (B, G), `identity` (B,) of the CSA who took each; `resolved` (B,) float, NaN unknown; `csa` (B,). For
    objectives over the roster: `roster`; for those against a sample of it, `sample`. listed: whether the log tells who
    could have taken what. shares: how many hand-overs of the step each process has, where several train together.
    """

    contacts: Texts
    features: Tensor
    identity: Tensor
    resolved: Tensor
    csa: Tensor
    roster: Roster | None = None
    sample: Sample | None = None
    listed: bool = True
    shares: tuple[int, ...] = ()

    def whole_roster(self) -> Roster:
        """What an objective over the roster reads. Raises ConfigError where the step does not carry it."""
        if self.roster is None:
            raise ConfigError("a step without the roster: an objective over the roster needs sampling 'by_snapshot'")
        return self.roster

    def sampled_roster(self) -> Sample:
        """What an objective against sampled CSAs reads. Raises ConfigError where the step does not carry it."""
        if self.sample is None:
            raise ConfigError("a step without a sample: an objective against sampled CSAs needs sampling 'sampled'")
        return self.sample


@dataclass
class MemoryBatch:
    """Hand-overs beside a sample of H recent ones.

    `csa` (B,) who took it; `row_csa` (H,); `age` (B, H) days since each row was known; `visible` (B, H) known strictly
    before, eligible and not unresolved; `same` (B, H) of the same customer. Where several processes train together,
    each encodes some of the rows, `shares` of them in their order; `rows` are those of this one.
    """

    contacts: Texts
    rows: Texts
    csa: Tensor
    row_csa: Tensor
    age: Tensor
    visible: Tensor
    same: Tensor
    shares: tuple[int, ...] = ()


@dataclass
class Step:
    """One optimisation step: either part may be absent."""

    profile: ProfileBatch | None
    memory: MemoryBatch | None
