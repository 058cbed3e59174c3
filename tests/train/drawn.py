"""Towers and steps of random numbers, small enough to compute by hand, and the rows of a step that one process has."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from tests.twotower.towers.conftest import CONFIG, SCHEMA, WORDS, random_model
from train.batches import MemoryBatch, ProfileBatch, Sample, Texts
from twotower.features.complexity import COMPLEXITY
from twotower.towers.two_tower import TwoTower

CSAS = 24
"""With two members 48 logits a contact: torch draws noise on a CPU in blocks of 16, so that slices draw what all do."""
Part = TypeVar("Part", ProfileBatch, MemoryBatch)


def towers(dropout: float = 0.0) -> TwoTower:
    """Towers of two members that know all CSAs, in evaluation mode."""
    config = replace(CONFIG, members=2, identity_dropout=dropout, category_dropout=dropout)
    return random_model(config, replace(SCHEMA, identities=[f"csa-{i:02}" for i in range(CSAS)]))


def texts(n: int, random: torch.Generator) -> Texts:
    """Contacts (n,) of five tokens."""
    sizes = [1 + len(values) for values in SCHEMA.categories.values()]
    return Texts(
        tokens=torch.randint(1, WORDS, (n, 5), generator=random),
        categories=torch.stack([torch.randint(size, (n,), generator=random) for size in sizes], dim=1),
        numbers=torch.randn(n, len(SCHEMA.numbers), generator=random),
        told=torch.randn(n, len(COMPLEXITY), generator=random),
    )


def profile_step(n: int, size: int = CSAS, seed: int = 0) -> ProfileBatch:
    """Hand-overs (n,) of one snapshot, with the roster at it and a sample of `size`; a third have no outcome."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(CSAS, len(SCHEMA.csa_numbers), generator=random)
    identity = torch.arange(1, CSAS + 1)
    csa = torch.randint(CSAS, (n,), generator=random)
    mask = torch.rand(n, CSAS, generator=random) < 0.5
    log_pi0 = torch.randn(n, CSAS, generator=random)
    drawn = torch.randperm(CSAS, generator=random)[:size].sort().values
    inclusion = torch.rand(size, generator=random) if size < CSAS else torch.ones(size)
    every = torch.arange(n)
    sample = Sample(
        features[drawn], identity[drawn], drawn, mask[:, drawn], log_pi0[:, drawn], log_pi0[every, csa], inclusion.log()
    )
    outcome = torch.randint(3, (n,), generator=random).float()
    return ProfileBatch(
        contacts=texts(n, random), features=features[csa], identity=identity[csa],
        resolved=torch.where(outcome == 2, torch.nan, outcome), csa=csa, roster=features, roster_identity=identity,
        mask=mask.index_put((every, csa), torch.tensor(True)), log_exposure=log_pi0, sample=sample,
    )  # fmt: skip


def memory_step(n: int, rows: int = 20, seed: int = 0) -> MemoryBatch:
    """Hand-overs (n,) beside `rows` recent ones of eight CSAs."""
    random = torch.Generator().manual_seed(seed)
    return MemoryBatch(
        contacts=texts(n, random), rows=texts(rows, random), csa=torch.randint(8, (n,), generator=random),
        row_csa=torch.randint(8, (rows,), generator=random), age=torch.rand(n, rows, generator=random) * 30,
        visible=torch.rand(n, rows, generator=random) < 0.6, same=torch.rand(n, rows, generator=random) < 0.1,
    )  # fmt: skip


def part_of(step: Part, rows: slice) -> Part:
    """The step of a process that has some of the hand-overs, with the same roster, sample or recent rows beside it."""

    def cut(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[rows]

    contacts = Texts(*(cut(getattr(step.contacts, name)) for name in Texts.__dataclass_fields__))  # type: ignore[arg-type]
    if isinstance(step, MemoryBatch):
        names = ("csa", "age", "visible", "same")
        return replace(step, contacts=contacts, **{name: cut(getattr(step, name)) for name in names})
    assert step.sample is not None
    wide = ("mask", "log_exposure", "own_log_exposure")
    sample = replace(step.sample, **{name: cut(getattr(step.sample, name)) for name in wide})
    names = ("features", "identity", "resolved", "csa", "mask", "log_exposure")
    return replace(step, contacts=contacts, sample=sample, **{name: cut(getattr(step, name)) for name in names})


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """Gradients of all parameters that have one."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_alike(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """The same gradients of the same parameters, to a share of each one's length; and there are some."""
    assert ours.keys() == theirs.keys()
    assert sum(float(grad.norm()) for grad in theirs.values()) > 0.1
    for name, grad in theirs.items():
        assert float((ours[name] - grad).norm()) <= tolerance * float(grad.norm()) + 1e-7, name
