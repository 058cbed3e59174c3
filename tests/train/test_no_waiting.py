"""No step asks the device for a number: on a device without values every question is an error.

Notable: torch's meta device has shapes and no data, so `.item()`, `bool()`, `nonzero` and indexing by a mask raise
there, which are what makes a host wait for a GPU. Copies from memory that is not pinned would be the other thing.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.train.conftest import SMALL
from train import gather
from train.draws import Sampling, StepDataset
from train.gather import Gather
from train.objectives import base
from train.objectives.choose import PROFILE
from train.objectives.memory import MemoryMixture
from train.prepare import TrainingSet
from twotower.towers import backbones
from twotower.towers.store import build
from twotower.towers.two_tower import TwoTower

META = torch.device("meta")
SAMPLINGS: dict[str, Sampling] = {name: make().sampling for name, make in PROFILE.items()}


class Copies(TorchDispatchMode):
    """How many tensors went from the host to the device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [value for value in args if isinstance(value, torch.Tensor)]
        copied = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        self.count += copied and out.device == META and any(value.device.type == "cpu" for value in given)
        return out


def towers(data: TrainingSet) -> TwoTower:
    pad_id = data.tokenizer.pad_id
    return build(SMALL, data.schema, data.table, data.log_weight, pad_id, deepcopy(data.heads)).to(META).train()


def test_the_device_without_values_refuses_questions():
    values = torch.ones(3, device=META)
    for ask in (lambda: values.sum().item(), lambda: bool(values.any()), lambda: values[values > 0]):
        with pytest.raises((RuntimeError, NotImplementedError)):
            ask()


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trained"])
@pytest.mark.parametrize("cells", [base.MOST_CELLS, 60], ids=["at once", "some at a time"])
@pytest.mark.parametrize("name", PROFILE)
def test_profile_steps(name, cells, frozen, prepared, monkeypatch):
    devices: set[torch.device] = set()
    kept = base.checkpoint

    def noting(*args: Any, **options: Any) -> Any:
        devices.update(value.device for value in args if isinstance(value, torch.Tensor))
        return kept(*args, **options)

    monkeypatch.setattr(base, "MOST_CELLS", cells)
    monkeypatch.setattr(base, "checkpoint", noting)
    data = replace(prepared, frozen_text=prepared.read if frozen else None)
    drawn = StepDataset(data, data.training(), SAMPLINGS[name], False, 32, 32, 100, seed=5, sampled=7)[0]
    model = towers(data)
    model.contact_tower.backbone.requires_grad_(not frozen)
    loss = PROFILE[name]()(model, Gather(data, META).step(drawn).profile) + model.divergence()
    loss.backward()
    assert loss.device == META
    assert model.csa_tower.identities.grad is not None
    assert (model.contact_tower.backbone.table.grad is None) == frozen
    # torch keeps the random numbers of a GPU for the backward pass where an argument lies on it, and else does not.
    assert devices == ({META} if cells == 60 and name != "sigmoid" else set())


@pytest.mark.parametrize("with_lists", [True, False])
def test_memory_steps(with_lists, prepared, open_prepared):
    data = prepared if with_lists else open_prepared
    drawn = StepDataset(data, data.training(), None, True, 32, 32, 100, seed=5)[0]
    model, mixture = towers(data), MemoryMixture(30.0).to(META)
    step = Gather(data, META).step(drawn)
    mixture(model, step.memory).backward()
    assert model.contact_tower.to_memory.weight.grad is not None


def test_what_fits_is_held_smallest_first_and_the_rest_is_sent(prepared, monkeypatch):
    """Rows are the same wherever their array lies."""
    monkeypatch.setattr("train.gather.free_memory", lambda device: float(prepared.csa_features.nbytes))
    held = Gather(prepared, META, share=0.5).held
    assert held["identity"]
    assert held["categories"]
    assert not held["features"]
    assert not all(Gather(prepared, META, share=0.0).held.values())
    drawn = StepDataset(prepared, prepared.training(), "sampled", True, 32, 32, 100, seed=5, sampled=7)[0]
    assert drawn.profile is not None
    assert drawn.profile.sample is not None
    step = Gather(prepared, META, share=0.0).step(drawn)
    assert step.profile is not None
    assert step.profile.features.shape == (len(drawn.profile.positions), prepared.csa_features.shape[-1])
    assert {t.device.type for t in (step.profile.features, step.profile.contacts.tokens, step.memory.age)} == {"meta"}  # type: ignore[union-attr]
    assert np.array_equal(
        step.profile.contacts.lengths, prepared.tokens.lengths(prepared.contact[drawn.profile.positions])
    )


@pytest.mark.parametrize("share", [1.0, 0.0], ids=["held", "on the host"])
@pytest.mark.parametrize("text", ["frozen", "trained"])
def test_whatever_goes_to_the_device_goes_from_pinned_memory(text, share, prepared, monkeypatch):
    """From other memory a copy may wait for all that the device has still to do."""
    pinned: list[torch.Tensor] = []
    for module in (gather, backbones):
        monkeypatch.setattr(module, "sent", lambda host, device: pinned.append(host) or host.to(device))
    monkeypatch.setattr("train.gather.free_memory", lambda device: float(share and "inf"))
    data = replace(prepared, frozen_text=prepared.read if text == "frozen" else None)
    model, memory, held = towers(data), MemoryMixture(30.0).to(META), Gather(data, META)
    for name in SAMPLINGS:
        drawn = StepDataset(data, data.training(), SAMPLINGS[name], True, 32, 32, 100, seed=5, sampled=7)[0]
        with Copies() as copies:
            step = held.step(drawn)
            (PROFILE[name]()(model, step.profile) + memory(model, step.memory)).backward()
        assert 0 < copies.count == len(pinned)
        pinned.clear()
