"""Batches: who is in one step, and the tensors of it.

Notable: the order of examples, and who is sampled, is a function of (seed, epoch, step) alone, so a resumed run
continues with the very batch that was next. Two kinds of step exist. A *profile* step draws hand-overs (from one
snapshot where the objective contrasts the roster or a sample of it, `train.sampling`, so that it is encoded once). A
*memory* step draws hand-overs that lie together in time, so that one sample of recent history serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from train.prepare import TrainingSet
from train.propensity import Propensities
from train.sampling import chances, draw, log_exposure, over_sample
from twotower.errors import ConfigError, DataError
from twotower.towers.two_tower import ContactOutput, TwoTower

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Sampling = Literal["shuffled", "by_snapshot", "sampled"]
"""How profile steps draw: from the whole log; from one snapshot, with the roster at it; or with a sample of that."""
DAY_US = 86_400_000_000
SAMPLED = 1024
"""CSAs in a sample of the roster."""


@dataclass
class Texts:
    """Contacts as the contact tower reads them: tokens (B, L), categories (B, C), numbers (B, F).

    `told` (B, T) is complexity as it was known on arrival, NaN where it was not. Where the text backbone is frozen,
    `text` (B, width) holds its output and `tokens` is None; `read` (B, W) are the frozen vectors that the heads read,
    None where they are the text's own. `contact` (B,): their positions in the log.
    """

    tokens: Tensor | None
    categories: Tensor
    numbers: Tensor
    told: Tensor
    text: Tensor | None = None
    read: Tensor | None = None
    contact: Tensor | None = None

    def outputs(self, model: TwoTower) -> ContactOutput:
        """The contact tower's output. Raises DataError where neither tokens nor text vectors are given."""
        tower = model.contact_tower
        if self.text is not None:
            read = self.text if self.read is None else self.read
            return tower.head(self.text, read, self.categories, self.numbers, self.told)
        if self.tokens is None:
            raise DataError("contacts of a batch: neither tokens nor text vectors are given; one of them was expected")
        return tower.outputs(self.tokens, self.categories, self.numbers, self.told)


class Roster(NamedTuple):
    """The whole roster at one snapshot, as a profile step contrasts it.

    `features` (J, G), `identity` (J,), `mask` (B, J) bool, `log_exposure` (J,) or (B, J): log π₀ up to a constant for
    each contact.
    """

    features: Tensor
    identity: Tensor
    mask: Tensor
    log_exposure: Tensor


@dataclass
class Sample:
    """S CSAs of the roster at one snapshot.

    `features` (S, G), `identity` (S,), `csa` (S,) who they are; `mask` (B, S) who is eligible; `log_exposure` (B, S)
    their log π₀ and `own_log_exposure` (B,) that of who took each contact, up to the same constant for each contact;
    `log_inclusion` (S,): log probability with which each CSA is in such a sample.
    """

    features: Tensor
    identity: Tensor
    csa: Tensor
    mask: Tensor
    log_exposure: Tensor
    own_log_exposure: Tensor
    log_inclusion: Tensor


@dataclass
class ProfileBatch:
    """Hand-overs for the profile part.

    `features` (B, G), `identity` (B,) of the CSA who took each; `resolved` (B,) float, NaN unknown; `csa` (B,). For
    objectives over the roster: `roster` (J, G), `roster_identity` (J,), `mask` (B, J) bool, `log_exposure` (J,) or
    (B, J); for those against a sample of it, `sample`. listed: whether the log tells who could have taken what.
    """

    contacts: Texts
    features: Tensor
    identity: Tensor
    resolved: Tensor
    csa: Tensor
    roster: Tensor | None = None
    roster_identity: Tensor | None = None
    mask: Tensor | None = None
    log_exposure: Tensor | None = None
    sample: Sample | None = None
    listed: bool = True

    def whole_roster(self) -> Roster:
        """What an objective over the roster reads. Raises ConfigError where the step does not carry it."""
        if self.roster is None or self.roster_identity is None or self.mask is None or self.log_exposure is None:
            raise ConfigError("a step without the roster: an objective over the roster needs sampling 'by_snapshot'")
        return Roster(self.roster, self.roster_identity, self.mask, self.log_exposure)

    def sampled_roster(self) -> Sample:
        """What an objective against sampled CSAs reads. Raises ConfigError where the step does not carry it."""
        if self.sample is None:
            raise ConfigError("a step without a sample: an objective against sampled CSAs needs sampling 'sampled'")
        return self.sample


@dataclass
class MemoryBatch:
    """Hand-overs beside a sample of H recent ones.

    `csa` (B,) who took it; `row_csa` (H,); `age` (B, H) days since each row was known; `visible` (B, H) known strictly
    before, eligible and not unresolved; `same` (B, H) of the same customer.
    """

    contacts: Texts
    rows: Texts
    csa: Tensor
    row_csa: Tensor
    age: Tensor
    visible: Tensor
    same: Tensor


@dataclass
class Step:
    """One optimisation step: either part may be absent."""

    profile: ProfileBatch | None
    memory: MemoryBatch | None

    def to(self, device: torch.device) -> Step:
        """All tensors moved to a device."""
        moved: Step = _move(self, device)
        return moved


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _move(getattr(value, f.name), device) for f in fields(value)})
    return value


class StepDataset(Dataset[Step]):
    """Steps by number: item i of an epoch is a function of (seed, epoch, i).

    positions: hand-overs to draw from; profile: how profile steps draw, or None; memory: whether steps carry a memory
    part. rank and world: this process draws every world-th step. propensities: π₀ of the eligible where the log tells
    who they are; without them each CSA's share of recent hand-overs is. sampled: CSAs in a sample.
    """

    def __init__(
        self,
        data: TrainingSet,
        positions: Indices,
        profile: Sampling | None,
        memory: bool,
        batch_size: int,
        memory_batch: int,
        memory_rows: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        propensities: Propensities | None = None,
        sampled: int = SAMPLED,
    ) -> None:
        self.data, self.positions, self.profile, self.seed = data, positions, profile, seed
        self.batch_size, self.memory_batch, self.memory_rows = batch_size, memory_batch, memory_rows
        self.rank, self.world, self.propensities, self.sampled = rank, world, propensities, sampled
        self.memory_positions = self._memory_positions() if memory else np.zeros(0, np.int64)
        self.row_positions = positions[data.resolved[positions] != 0]
        self.set_epoch(0)

    def _memory_positions(self) -> Indices:
        """Hand-overs that a memory of `handled` learns from: not unresolved, in order of the contact's arrival."""
        good = self.positions[self.data.resolved[self.positions] != 0]
        order = np.lexsort((good, self.data.arrived_at[self.data.contact[good]]))
        ordered: Indices = good[order]
        return ordered

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of one epoch."""
        self.epoch, rng = epoch, np.random.default_rng([self.seed, epoch])
        profile = self._profile_order(rng)
        memory = self._memory_order(rng)
        steps = max(len(profile), len(memory)) // self.world
        self._profile = [profile[(i * self.world + self.rank) % len(profile)] for i in range(steps)] if profile else []
        self._memory = [memory[(i * self.world + self.rank) % len(memory)] for i in range(steps)] if memory else []

    def _profile_order(self, rng: np.random.Generator) -> list[Indices]:
        if self.profile is None:
            return []
        drawn = rng.permutation(self.positions)
        if self.profile != "shuffled":
            drawn = drawn[np.argsort(self.data.snapshot[self.data.contact[drawn]], kind="stable")]
            groups = np.split(drawn, np.flatnonzero(np.diff(self.data.snapshot[self.data.contact[drawn]])) + 1)
            chunks = [c for g in groups for c in np.array_split(g, -(-len(g) // self.batch_size))]
            return [chunks[i] for i in rng.permutation(len(chunks))]
        return np.array_split(drawn, max(1, -(-len(drawn) // self.batch_size)))

    def _memory_order(self, rng: np.random.Generator) -> list[Indices]:
        count = len(self.memory_positions)
        if not count:
            return []
        # Windows start at a random phase, so that epochs cut time differently.
        cuts = np.arange(int(rng.integers(1, self.memory_batch + 1)), count, self.memory_batch)
        windows = np.split(self.memory_positions, cuts)
        if len(windows) <= -(-count // self.memory_batch) and count > 1:
            # The same number in every epoch, whatever the phase: the cycle of rates counts on it.
            longest = int(np.argmax([len(w) for w in windows]))
            windows[longest : longest + 1] = np.array_split(windows[longest], 2)
        return [windows[i] for i in rng.permutation(len(windows))]

    def __len__(self) -> int:
        return max(len(self._profile), len(self._memory))

    def __getitem__(self, index: int) -> Step:
        profile = self._profile_batch(index) if self._profile else None
        memory = (
            memory_batch(self.data, self._memory[index], self.row_positions, self.memory_rows) if self._memory else None
        )
        return Step(profile, memory)

    def _profile_batch(self, index: int) -> ProfileBatch:
        positions = self._profile[index]
        if self.profile != "sampled":
            return profile_batch(self.data, positions, self.profile == "by_snapshot", self.propensities)
        rng = np.random.default_rng([self.seed, self.epoch, index * self.world + self.rank, 1])
        return sampled_batch(self.data, positions, self.sampled, rng, self.propensities)


def texts(data: TrainingSet, contacts: Indices) -> Texts:
    """Tensors of the contacts (B,)."""
    frozen = data.frozen_text
    apart = frozen is not None and frozen is not data.read
    return Texts(
        None if frozen is not None else torch.from_numpy(data.tokens.pad(contacts)),
        torch.from_numpy(data.categories[contacts]),
        torch.from_numpy(data.numbers[contacts]),
        torch.from_numpy(data.told[contacts]),
        None if frozen is None else torch.from_numpy(frozen[contacts]),
        torch.from_numpy(data.read[contacts]) if apart else None,
        torch.from_numpy(contacts),
    )


def eligible_mask(data: TrainingSet, contacts: Indices) -> npt.NDArray[np.bool_] | None:
    """(B, J) who could have taken each contact, or None where the log does not say."""
    return None if data.eligible is None else data.eligible.mask(contacts, len(data.identity))


def profile_batch(
    data: TrainingSet, positions: Indices, over_roster: bool, propensities: Propensities | None = None
) -> ProfileBatch:
    """Tensors of hand-overs; over_roster: they share one snapshot, and the roster at it comes along."""
    contacts, csa = data.contact[positions], data.csa[positions]
    snapshot = data.snapshot[contacts]
    resolved = data.resolved[positions].astype(np.float32)
    batch = ProfileBatch(
        texts(data, contacts),
        torch.from_numpy(data.csa_features[snapshot, csa]),
        torch.from_numpy(data.identity[csa]),
        torch.from_numpy(np.where(resolved < 0, np.float32(np.nan), resolved)),
        torch.from_numpy(csa),
        listed=data.eligible is not None,
    )
    if not over_roster:
        return batch
    moment = int(snapshot[0])
    mask = eligible_mask(data, contacts)
    mask = np.ones((len(csa), len(data.identity)), bool) if mask is None else mask
    mask[np.arange(len(csa)), csa] = True
    log_pi0 = log_exposure(data, moment)
    if propensities is not None:
        found = chances(data, contacts, moment, propensities)
        _, log_pi0 = over_sample(found, np.arange(len(data.identity)))
        log_pi0[np.arange(len(csa)), csa] = found.of(csa)
    return replace(
        batch,
        roster=torch.from_numpy(data.csa_features[moment]),
        roster_identity=torch.from_numpy(data.identity),
        mask=torch.from_numpy(mask),
        log_exposure=torch.from_numpy(log_pi0),
    )


def sampled_batch(
    data: TrainingSet, positions: Indices, size: int, rng: np.random.Generator, propensities: Propensities | None = None
) -> ProfileBatch:
    """Tensors of hand-overs that share one snapshot, and `size` CSAs who were eligible for some of them: all of these
    where there are no more."""
    contacts, own = data.contact[positions], data.csa[positions]
    moment = int(data.snapshot[contacts[0]])
    found = chances(data, contacts, moment, propensities)
    sample, log_inclusion = draw(found, size, rng)
    mask, log_pi0 = over_sample(found, sample)
    return replace(
        profile_batch(data, positions, over_roster=False),
        sample=Sample(
            torch.from_numpy(data.csa_features[moment][sample]),
            torch.from_numpy(data.identity[sample]),
            torch.from_numpy(sample),
            torch.from_numpy(mask),
            torch.from_numpy(log_pi0),
            torch.from_numpy(found.of(own)),
            torch.from_numpy(log_inclusion),
        ),
    )


def memory_batch(data: TrainingSet, positions: Indices, rows: Indices, most: int) -> MemoryBatch:
    """Tensors of hand-overs of contacts lying together in time, beside the `most` latest rows known before the last."""
    contacts = data.contact[positions]
    arrived = data.arrived_at[contacts]
    end = int(np.searchsorted(data.known_at[rows], arrived.max()))
    recent = rows[max(0, end - most) : end]
    visible = data.known_at[recent][None, :] < arrived[:, None]
    age = (arrived[:, None] - data.known_at[recent][None, :]) / DAY_US
    customer, row_customer = data.customer[contacts], data.customer[data.contact[recent]]
    mask = eligible_mask(data, contacts)
    if mask is not None:
        visible &= mask[:, data.csa[recent]]
    return MemoryBatch(
        texts(data, contacts),
        texts(data, data.contact[recent]),
        torch.from_numpy(data.csa[positions]),
        torch.from_numpy(data.csa[recent]),
        torch.from_numpy(age.clip(0).astype(np.float32)),
        torch.from_numpy(visible),
        torch.from_numpy((customer[:, None] == row_customer[None, :]) & (customer[:, None] >= 0)),
    )
