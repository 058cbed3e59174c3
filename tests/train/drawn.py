"""Towers and steps of random numbers, small enough to compute by hand, and the rows of a step that one process has."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tests.twotower.towers.conftest import CONFIG, SCHEMA, WORDS, random_model
from train.batches import Lists, MemoryBatch, ProfileBatch, Roster, Sample, Texts
from train.together import together
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


def lists_of(mask: Tensor, log_pi0: Tensor) -> Lists:
    """Lists from who is eligible (B, J) and log π₀ (B, J)."""
    row, column = mask.nonzero(as_tuple=True)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(mask)))])
    nobodys = torch.zeros(len(mask), dtype=torch.bool)
    return Lists(offsets, row, column, log_pi0[row, column], nobodys, torch.zeros(mask.shape[1]))


def some(lists: Lists, rows: slice) -> Lists:
    """Those of some contacts."""
    return lists_of(*lists.cells(rows))


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
    lists = lists_of(mask[:, drawn], log_pi0[:, drawn])
    sample = Sample(features[drawn], identity[drawn], drawn, lists, log_pi0[every, csa], inclusion.log())
    outcome = torch.randint(3, (n,), generator=random).float()
    return ProfileBatch(
        contacts=texts(n, random), features=features[csa], identity=identity[csa],
        resolved=torch.where(outcome == 2, torch.nan, outcome), csa=csa,
        roster=Roster(features, identity, lists_of(mask.index_put((every, csa), torch.tensor(True)), log_pi0)),
        sample=sample,
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
    """The step of a process that has some of the hand-overs, with the same roster and sample beside it; where there
    are two, the first, which begins at 0, encodes all recent rows but three."""
    if isinstance(step, MemoryBatch):
        names = ("csa", "age", "visible", "same")
        count = len(step.row_csa)
        recent = slice(0, count - 3) if rows.start in (None, 0) else slice(count - 3, count)
        shares = (count - 3, 3) if together() > 1 else ()
        mine = part_of_texts(step.rows, recent) if shares else step.rows
        contacts = part_of_texts(step.contacts, rows)
        return replace(
            step, contacts=contacts, rows=mine, shares=shares, **{name: getattr(step, name)[rows] for name in names}
        )
    assert step.sample is not None
    assert step.roster is not None
    rows = slice(*rows.indices(len(step.csa)))
    own = step.sample.own_log_exposure[rows]
    sample = replace(step.sample, lists=some(step.sample.lists, rows), own_log_exposure=own)
    names = ("features", "identity", "resolved", "csa")
    return replace(
        step, contacts=part_of_texts(step.contacts, rows), sample=sample,
        roster=step.roster._replace(lists=some(step.roster.lists, rows)),
        **{name: getattr(step, name)[rows] for name in names},
    )  # fmt: skip


def part_of_texts(contacts: Texts, rows: slice) -> Texts:
    """Some of the contacts."""
    values = (getattr(contacts, name) for name in Texts.__dataclass_fields__)
    return Texts(*(None if value is None else value[rows] for value in values))  # type: ignore[arg-type]


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """Gradients of all parameters that have one."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_alike(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """The same gradients of the same parameters, to a share of each one's length; and there are some."""
    assert ours.keys() == theirs.keys()
    assert sum(float(grad.norm()) for grad in theirs.values()) > 0.1
    for name, grad in theirs.items():
        assert float((ours[name] - grad).norm()) <= tolerance * float(grad.norm()) + 1e-7, name
