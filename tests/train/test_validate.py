"""Ranks of validation by their formula, and in memory that does not grow with contacts × roster."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.train.conftest import SMALL
from train import validate
from train.encode import encode
from train.objectives.memory import MemoryMixture
from train.prepare import TrainingSet
from train.validate import memory_mrr, profile_mrr
from twotower.towers.store import build
from twotower.towers.two_tower import TwoTower


class Largest(TorchDispatchMode):
    """The most cells that any tensor had."""

    cells = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.cells = max(self.cells, out.numel() if isinstance(out, torch.Tensor) else 0)
        return out


def towers(data: TrainingSet) -> TwoTower:
    torch.manual_seed(0)
    return build(SMALL, data.schema, data.table, data.log_weight, data.tokenizer.pad_id, deepcopy(data.heads))


def last(data: TrainingSet, count: int) -> npt.NDArray[np.int64]:
    """The last hand-overs that validation counts, and one of the first, which has nothing behind it."""
    taken = np.flatnonzero(data.resolved != 0)
    return np.concatenate([taken[:1], taken[-count:]])


def test_memory_ranks_whoever_took_it_by_the_sums_of_their_rows(open_prepared):
    data, positions = open_prepared, last(open_prepared, 150)
    model, memory = towers(data), MemoryMixture(30.0)
    rows = np.flatnonzero(data.resolved != 0)
    contacts = data.contact[positions]
    vectors, past = encode(model, data, contacts).memory, encode(model, data, data.contact[rows]).memory
    reciprocal = []
    for vector, contact, taker in zip(vectors, contacts, data.csa[positions], strict=True):
        age = (data.arrived_at[contact] - data.known_at[rows]) / 86_400_000_000
        same = (data.customer[data.contact[rows]] == data.customer[contact]) & (data.customer[contact] >= 0)
        given = (torch.from_numpy(a) for a in (past @ vector, age.clip(0).astype(np.float32), same))
        kernel = memory.log_kernel(*given).exp().detach().double().numpy() * (age > 0)
        share = np.bincount(data.csa[rows], kernel, len(data.identity))
        reciprocal.append(1 / (1 + (share > share[taker] * (1 + 1e-6)).sum()))
    assert memory_mrr(model, data, memory, positions) == pytest.approx(np.mean(reciprocal), abs=1e-6)


def test_memory_of_a_large_roster_takes_no_more(open_prepared):
    positions = last(open_prepared, 150)
    model, memory = towers(open_prepared), MemoryMixture(30.0)
    large = replace(open_prepared, identity=np.arange(20_000))
    with Largest() as few:
        found = memory_mrr(model, open_prepared, memory, positions)
    with Largest() as many:
        assert memory_mrr(model, large, memory, positions) == found
    assert many.cells == few.cells


@pytest.mark.parametrize("corrected", [True, False])
def test_the_profile_ranks_some_contacts_at_a_time(corrected, prepared, monkeypatch):
    model, positions = towers(prepared), last(prepared, 60)
    masks: list[int] = []
    whole = validate.eligible_mask

    def noting(data: TrainingSet, contacts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_] | None:
        masks.append(len(contacts))
        return whole(data, contacts)

    before = profile_mrr(model, prepared, positions, corrected, None)
    monkeypatch.setattr(validate, "eligible_mask", noting)
    monkeypatch.setattr(validate, "MOST_CELLS", 2 * len(prepared.identity) + 1)
    assert profile_mrr(model, prepared, positions, corrected, None) == pytest.approx(before)
    assert max(masks) == 2
    assert sum(masks) == len(positions)
