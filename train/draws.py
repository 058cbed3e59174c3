"""Who is in a step: index arrays, drawn on the host.

Notable: the order of examples, and who is sampled, is a function of (seed, epoch, step) alone, so a resumed run
continues with the very batch that was next, and several processes draw the same step and each take a share of it: how
many they are changes no batch. Two kinds of step exist. A *profile* step draws hand-overs (from one snapshot where the
objective contrasts the roster or a sample of it, `train.sampling`, so that it is encoded once). A *memory* step draws
hand-overs that lie together in time, so that one sample of recent history serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from train.prepare import TrainingSet
from train.propensity import Propensities
from train.sampling import Chances, chances, draw, over_sample

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Sampling = Literal["shuffled", "by_snapshot", "sampled"]
"""How profile steps draw: from the whole log; from one snapshot, with the roster at it; or with a sample of that."""
SAMPLED = 1024
"""CSAs in a sample of the roster."""


@dataclass(frozen=True)
class DrawnLists:
    """`batches.Lists` on the host."""

    offsets: Indices
    row: Indices
    column: Indices
    log_pi0: Floats
    everyone: npt.NDArray[np.bool_]
    exposure: Floats


@dataclass(frozen=True)
class DrawnRoster:
    """The whole roster at the snapshot `moment`, and who of it could have taken each contact."""

    moment: int
    lists: DrawnLists


@dataclass(frozen=True)
class DrawnSample:
    """CSAs `csa` (S,) of the roster at the snapshot `moment`, `lists` of who of them could have taken each contact,
    with log probabilities `log_inclusion` (S,), and `own_log_pi0` (B,) of who took it."""

    moment: int
    lists: DrawnLists
    csa: Indices
    log_inclusion: Floats
    own_log_pi0: Floats


@dataclass(frozen=True)
class DrawnProfile:
    """Hand-overs `positions` (B,) of this process, `shares` of the step's for each, and whom it contrasts."""

    positions: Indices
    shares: tuple[int, ...] = ()
    roster: DrawnRoster | None = None
    sample: DrawnSample | None = None


@dataclass(frozen=True)
class DrawnMemory:
    """Hand-overs `positions` (B,) of this process beside the recent `rows` (H,), of which process r encodes the
    `shares[r]` next ones; this one is `rank`. `eligible` (B, H): who took the row could have taken the contact, None
    where the log does not say."""

    positions: Indices
    rows: Indices
    eligible: npt.NDArray[np.bool_] | None = None
    shares: tuple[int, ...] = ()
    rank: int = 0

    @property
    def own_rows(self) -> Indices:
        """The rows that this process encodes."""
        if not self.shares:
            return self.rows
        start = sum(self.shares[: self.rank])
        return self.rows[start : start + self.shares[self.rank]]


@dataclass(frozen=True)
class Drawn:
    """One step: either part may be absent."""

    profile: DrawnProfile | None
    memory: DrawnMemory | None


class StepDataset(Dataset[Drawn]):
    """Steps by number: item i of an epoch is a function of (seed, epoch, i), and of the rank which share of it.

    positions: hand-overs to draw from; profile: how profile steps draw, or None; memory: whether steps carry a memory
    part. batch_size, memory_batch: hand-overs in a step, of all `world` processes together; this one takes the share of
    `rank`. propensities: π₀ of the eligible where the log tells who they are; without them each CSA's share of recent
    hand-overs is. sampled: CSAs in a sample.
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
        steps = range(max(len(profile), len(memory)))
        self._profile = [profile[i % len(profile)] for i in steps] if profile else []
        self._memory = [memory[i % len(memory)] for i in steps] if memory else []

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

    def __getitem__(self, index: int) -> Drawn:
        profile = self._profile_step(index) if self._profile else None
        memory = None
        if self._memory:
            step = self._memory[index]
            memory = draw_memory(self.data, step, self.row_positions, self.memory_rows, self.rank, self.world)
        return Drawn(profile, memory)

    def _profile_step(self, index: int) -> DrawnProfile:
        step, shard = self._profile[index], (self.rank, self.world)
        if self.profile == "shuffled":
            return DrawnProfile(share_of(step, *shard), shares_of(len(step), self.world))
        if self.profile == "by_snapshot":
            return draw_roster(self.data, step, self.propensities, *shard)
        rng = np.random.default_rng([self.seed, self.epoch, index, 1])
        return draw_sample(self.data, step, self.sampled, rng, self.propensities, *shard)


def shares_of(count: int, world: int) -> tuple[int, ...]:
    """How many of `count` rows each process takes, the first ones one more; empty for one process."""
    return tuple(count // world + (rank < count % world) for rank in range(world)) if world > 1 else ()


def share_of(step: Indices, rank: int, world: int) -> Indices:
    """The rows (B,) of a step that a process takes."""
    taken: Indices = np.array_split(step, world)[rank]
    return taken


def draw_roster(
    data: TrainingSet, step: Indices, propensities: Propensities | None = None, rank: int = 0, world: int = 1
) -> DrawnProfile:
    """Hand-overs that share one snapshot, to be contrasted with the roster at it."""
    moment = int(data.snapshot[data.contact[step[0]]])
    positions = share_of(step, rank, world)
    found = chances(data, data.contact[positions], moment, propensities)
    lists = listed(found.with_takers(data.csa[positions]))
    return DrawnProfile(positions, shares_of(len(step), world), DrawnRoster(moment, lists))


def draw_sample(
    data: TrainingSet,
    step: Indices,
    size: int,
    rng: np.random.Generator,
    propensities: Propensities | None = None,
    rank: int = 0,
    world: int = 1,
) -> DrawnProfile:
    """Hand-overs that share one snapshot, and `size` CSAs who were eligible for some of them: all of these where there
    are no more. The sample is that of the whole step, whoever takes which share."""
    contacts = data.contact[step]
    moment = int(data.snapshot[contacts[0]])
    found = chances(data, contacts, moment, propensities)
    sample, log_inclusion = draw(found, size, rng)
    shares = shares_of(len(step), world)
    start = sum(shares[:rank])
    mine = found if world == 1 else found.rows(start, start + shares[rank])
    positions = share_of(step, rank, world)
    lists, own = listed(over_sample(mine, sample)), mine.of(data.csa[positions])
    return DrawnProfile(positions, shares, sample=DrawnSample(moment, lists, sample, log_inclusion, own))


def listed(found: Chances) -> DrawnLists:
    """Chances as lists, contact after contact."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(found.row, minlength=len(found.everyone)))])
    return DrawnLists(offsets.astype(np.int64), found.row, found.csa, found.log_pi0, found.everyone, found.exposure)


def draw_memory(
    data: TrainingSet, step: Indices, rows: Indices, most: int, rank: int = 0, world: int = 1
) -> DrawnMemory:
    """Hand-overs of contacts lying together in time, beside the `most` latest rows known before the last of these."""
    end = int(np.searchsorted(data.known_at[rows], data.arrived_at[data.contact[step]].max()))
    recent = rows[max(0, end - most) : end]
    positions = share_of(step, rank, world)
    eligible = eligible_rows(data, data.contact[positions], data.csa[recent])
    return DrawnMemory(positions, recent, eligible, shares_of(len(recent), world), rank)


def eligible_rows(data: TrainingSet, contacts: Indices, csa: Indices) -> npt.NDArray[np.bool_] | None:
    """(B, H) whether who took each of H rows, `csa` (H,), could have taken each contact; None where the log does not
    say. Nothing is made for each contact and CSA."""
    if data.eligible is None:
        return None
    theirs, column = np.unique(csa, return_inverse=True)
    place = np.full(len(data.identity), -1, np.int32)
    place[theirs] = np.arange(len(theirs))
    lists = data.eligible.take(contacts).keep(place)
    return lists.mask(np.arange(len(lists)), len(theirs))[:, column]
