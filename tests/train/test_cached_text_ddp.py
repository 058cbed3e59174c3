"""Two processes that read texts through the cache: DDP averages once, also where one of them runs out of memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.train.cached import WIDTH, Device, Encode, bert, cached, one_by_one, words
from tests.train.processes import one_of, start
from twotower.towers.backbones import Words

CASES = {"read again": 60, "kept": 10_000, "no text on one": 60, "no room on one": 10_000}


class Tower(nn.Module):
    """A text backbone under a linear map, both trained."""

    def __init__(self, encode: str, cells: int, dropout: float) -> None:
        super().__init__()
        self.backbone = bert(dropout)
        self.top = nn.Linear(WIDTH, 3)
        self.text: Encode = {"cached": cached, "plain": one_by_one}[encode](self.backbone, cells)

    def forward(self, given: Words) -> Tensor:
        return (self.top(self.text(given)) ** 2).sum()


def texts(case: str, rank: int) -> Words:
    """Of one process: not as many as of the other."""
    if case == "no text on one" and rank == 1:
        return Words(torch.zeros(3, 4, dtype=torch.int64), np.zeros(3, np.int64))
    return words(24 - 9 * rank, seed=rank)


def learnt(tower: nn.Module, case: str, rank: int) -> dict[str, Tensor]:
    """Gradients of a step, with the masks of this process."""
    torch.manual_seed(rank)
    tower(texts(case, rank)).backward()
    return {name.removeprefix("module."): p.grad for name, p in tower.named_parameters() if p.grad is not None}


def both(case: str, rank: int) -> dict[str, dict[str, Tensor]]:
    """Gradients under DDP, and the average of those that each process finds alone in a plain loop."""
    scarce = case == "no room on one"
    dropout = 0.0 if scarce else 0.2  # a forward that was cut elsewhere draws other masks
    tower, plain = (Tower(encode, CASES[case], dropout) for encode in ("cached", "plain"))
    plain.load_state_dict(tower.state_dict())
    calls: Counter[str] = Counter()
    for name, p in tower.named_parameters():
        if not p.requires_grad:
            continue
        p.register_post_accumulate_grad_hook(lambda _, name=name: calls.update([name]))
    device = Device(tower.backbone)
    if scarce and rank == 1:
        device.room = 60_000
    with device.hooks():
        found = learnt(DistributedDataParallel(tower), case, rank)
    assert set(calls.values()) == {1}
    assert (device.refused > 0) == (scarce and rank == 1)
    alone = {n: torch.zeros_like(p) for n, p in plain.named_parameters() if p.requires_grad}
    alone |= learnt(plain, case, rank)
    for value in alone.values():
        distributed.all_reduce(value)
        value /= 2
    return {"found": found, "expected": alone}


def process(rank: int, place: str) -> None:
    """One of two."""
    with one_of(2, rank, place):
        torch.save({case: both(case, rank) for case in CASES}, Path(place) / f"{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, dict[str, dict[str, Tensor]]]]:
    """What each process found, by case."""
    place = tmp_path_factory.mktemp("processes")
    start(process, 2, place)
    return [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_the_average_is_that_of_plain_loops(case, found):
    for mine in found:
        ours, theirs = mine[case]["found"], mine[case]["expected"]
        assert ours.keys() == theirs.keys()
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5, msg=name)
