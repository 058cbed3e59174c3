"""From the index arrays of a step to its tensors, on the device.

Notable: what training reads is put on the device once, smallest arrays first, up to a share of its free memory; a step
then sends indices and no data, and nothing waits for the device. An array that does not fit stays on the host; its rows
are gathered there while the device computes, and copied from pinned memory. On a CPU every array is a view of the
training set's own. Shapes come from the host, which knows them.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.batches import Lists, MemoryBatch, ProfileBatch, Roster, Sample, Step, Texts
from train.draws import (
    Drawn,
    DrawnLists,
    DrawnMemory,
    DrawnProfile,
    DrawnRoster,
    DrawnSample,
    draw_memory,
    draw_roster,
    draw_sample,
)
from train.prepare import TrainingSet
from train.propensity import Propensities
from twotower.clock import DAY
from twotower.towers.backbones import sent

Indices = npt.NDArray[np.int64]
SHARE = 0.6
"""Of the device's free memory that the training set may take; towers, gradients and activations need the rest."""
CPU = torch.device("cpu")


class At:
    """Row numbers (n,) on the host, and on a device once somebody asks."""

    def __init__(self, rows: Indices, device: torch.device) -> None:
        self.host, self._device = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)), device

    @cached_property
    def device(self) -> Tensor:
        """The same on the device."""
        return sent(self.host, self._device)


class Column:
    """An array (n, …) whose rows are wanted on a device."""

    def __init__(self, values: npt.NDArray[Any], device: torch.device, resident: bool) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            host = torch.from_numpy(np.ascontiguousarray(values))
        self.device, self.values = device, host.to(device) if resident else host

    def take(self, at: At) -> Tensor:
        """Rows (m, …) on the device."""
        if self.values.device.type == self.device.type:
            return self.values[at.device]
        return sent(self.values[at.host], self.device)

    def slice(self, start: int, stop: int) -> Tensor:
        """Rows `start` … `stop − 1` on the device."""
        rows = self.values[start:stop]
        return rows if rows.device.type == self.device.type else sent(rows, self.device)


class Gather:
    """Makes the tensors of steps of one training set on one device.

    share: of the free memory of a device that is not the CPU, which the training set may take.
    """

    def __init__(self, data: TrainingSet, device: torch.device = CPU, share: float = SHARE) -> None:
        self.data, self.device = data, device
        features = data.csa_features.reshape(-1, data.csa_features.shape[-1])
        arrays: dict[str, npt.NDArray[Any]] = {
            "contact": data.contact, "csa": data.csa, "resolved": data.resolved, "known_at": data.known_at,
            "arrived_at": data.arrived_at, "customer": data.customer, "snapshot": data.snapshot,
            "identity": data.identity, "categories": data.categories, "numbers": data.numbers, "told": data.told,
            "features": features,
        }  # fmt: skip
        if data.frozen_text is None:
            arrays |= {"starts": data.tokens.offsets[:-1], "lengths": np.diff(data.tokens.offsets)}
            arrays |= {"ids": data.tokens.ids if len(data.tokens.ids) else np.zeros(1, np.int32), "read": data.read}
        else:
            arrays["text"] = data.frozen_text
            if data.frozen_text is not data.read:
                arrays["read"] = data.read
        self.columns = resident(arrays, device, share)

    @property
    def held(self) -> dict[str, bool]:
        """Which arrays lie on the device."""
        return {name: column.values.device.type == self.device.type for name, column in self.columns.items()}

    def step(self, drawn: Drawn) -> Step:
        """The tensors of a step."""
        profile = None if drawn.profile is None else self.profile(drawn.profile)
        return Step(profile, None if drawn.memory is None else self.memory(drawn.memory))

    def texts(self, contacts: Indices) -> Texts:
        """Tensors of contacts (B,), given as positions in the log."""
        at, columns = At(contacts, self.device), self.columns
        tokens, lengths = (None, None) if "text" in columns else self._tokens(contacts, at)
        text, read = (columns[name].take(at) if name in columns else None for name in ("text", "read"))
        return Texts(
            tokens, columns["categories"].take(at), columns["numbers"].take(at), columns["told"].take(at), text, read,
            at.device, lengths,
        )  # fmt: skip

    def _tokens(self, contacts: Indices, at: At) -> tuple[Tensor, Indices]:
        """Right-padded tokens (B, L) and lengths (B,) of contacts, L being the longest of them."""
        tokens, ids = self.data.tokens, self.columns["ids"].values
        lengths = tokens.lengths(contacts)
        if ids.device.type != self.device.type:
            return sent(torch.from_numpy(tokens.pad(contacts)), self.device), lengths
        place = torch.arange(max(int(lengths.max(initial=0)), 1), device=self.device)
        inside = place < self.columns["lengths"].take(at)[:, None]
        cell = torch.where(inside, self.columns["starts"].take(at)[:, None] + place, 0)
        return torch.where(inside, ids[cell].long(), tokens.pad_id), lengths

    def profile(self, drawn: DrawnProfile) -> ProfileBatch:
        """Tensors of a profile step."""
        at = At(drawn.positions, self.device)
        contacts = At(self.data.contact[drawn.positions], self.device)
        csa, resolved = self.columns["csa"].take(at), self.columns["resolved"].take(at).float()
        who = At(self.data.csa[drawn.positions], self.device)
        where = At(self.data.snapshot[contacts.host.numpy()] * len(self.data.identity) + who.host.numpy(), self.device)
        batch = ProfileBatch(
            self.texts(contacts.host.numpy()), self.columns["features"].take(where), self.columns["identity"].take(who),
            torch.where(resolved < 0, torch.nan, resolved), csa, listed=self.data.eligible is not None,
            shares=drawn.shares,
        )  # fmt: skip
        if drawn.roster is not None:
            batch.roster = self.roster(drawn.roster)
        if drawn.sample is not None:
            batch.sample = self.sample(drawn.sample)
        return batch

    def roster(self, drawn: DrawnRoster) -> Roster:
        """The whole roster at the step's snapshot."""
        size = len(self.data.identity)
        features = self.columns["features"].slice(drawn.moment * size, (drawn.moment + 1) * size)
        return Roster(features, self.columns["identity"].slice(0, size), self.lists(drawn.lists))

    def sample(self, drawn: DrawnSample) -> Sample:
        """A sample of the roster at the step's snapshot."""
        who = At(drawn.csa, self.device)
        where = At(drawn.moment * len(self.data.identity) + drawn.csa, self.device)
        return Sample(
            self.columns["features"].take(where), self.columns["identity"].take(who), who.device,
            self.lists(drawn.lists), self._put(drawn.own_log_pi0), self._put(drawn.log_inclusion),
        )  # fmt: skip

    def lists(self, drawn: DrawnLists) -> Lists:
        """Lists of who was eligible."""
        arrays = (drawn.row, drawn.column, drawn.log_pi0, drawn.everyone, drawn.exposure)
        return Lists(drawn.offsets, *(self._put(values) for values in arrays))

    def memory(self, drawn: DrawnMemory) -> MemoryBatch:
        """Tensors of a memory step."""
        at, rows = At(drawn.positions, self.device), At(drawn.rows, self.device)
        contacts = At(self.data.contact[drawn.positions], self.device)
        of_rows = At(self.data.contact[drawn.rows], self.device)
        arrived, known = self.columns["arrived_at"].take(contacts), self.columns["known_at"].take(rows)
        customer, row_customer = (self.columns["customer"].take(one) for one in (contacts, of_rows))
        age = arrived[:, None] - known[None, :]
        visible = age > 0
        if drawn.eligible is not None:
            visible = visible & self._put(drawn.eligible)
        return MemoryBatch(
            self.texts(contacts.host.numpy()), self.texts(self.data.contact[drawn.own_rows]),
            self.columns["csa"].take(at), self.columns["csa"].take(rows),
            (age.clamp_min(0).double() / DAY).float(), visible,
            (customer[:, None] == row_customer[None, :]) & (customer[:, None] >= 0), drawn.shares,
        )  # fmt: skip

    def _put(self, values: npt.NDArray[Any]) -> Tensor:
        return sent(torch.from_numpy(np.ascontiguousarray(values)), self.device)


def resident(arrays: dict[str, npt.NDArray[Any]], device: torch.device, share: float) -> dict[str, Column]:
    """Columns of arrays, on the device as long as they fit into `share` of its free memory, the smallest first."""
    left = share * free_memory(device)
    columns = {}
    for name, values in sorted(arrays.items(), key=lambda item: item[1].nbytes):
        left -= values.nbytes
        columns[name] = Column(values, device, left >= 0)
    return columns


def free_memory(device: torch.device) -> float:
    """Bytes free on a device; no limit where it is the host itself, or cannot be asked."""
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else float("inf")


def profile_batch(
    data: TrainingSet, positions: Indices, over_roster: bool, propensities: Propensities | None = None
) -> ProfileBatch:
    """Tensors of hand-overs on the host; over_roster: they share one snapshot, and the roster at it comes along."""
    drawn = draw_roster(data, positions, propensities) if over_roster else DrawnProfile(positions)
    return Gather(data).profile(drawn)


def sampled_batch(
    data: TrainingSet, positions: Indices, size: int, rng: np.random.Generator, propensities: Propensities | None = None
) -> ProfileBatch:
    """Tensors, on the host, of hand-overs that share one snapshot, beside a sample of the roster at it."""
    return Gather(data).profile(draw_sample(data, positions, size, rng, propensities))


def memory_batch(data: TrainingSet, positions: Indices, rows: Indices, most: int) -> MemoryBatch:
    """Tensors, on the host, of hand-overs beside the `most` latest rows known before the last of them arrived."""
    return Gather(data).memory(draw_memory(data, positions, rows, most))
