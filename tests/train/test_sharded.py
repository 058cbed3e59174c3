"""Two processes with some rows each learn what one process with all of them learns, however unevenly rows count."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from tests.train.drawn import assert_alike, gradients, memory_step, part_of, profile_step, towers
from tests.train.processes import one_of, start
from train.batches import MemoryBatch, ProfileBatch
from train.objectives import base
from train.objectives.corrected_softmax import CorrectedSoftmax
from train.objectives.in_batch import InBatchSoftmax
from train.objectives.memory import MemoryMixture
from train.objectives.sampled import SampledSoftmax
from train.objectives.sigmoid import SigmoidContrast
from train.together import together

ROWS, FIRST = 14, 9
"""Of both processes together, and of the first of them."""
PROFILE = {
    "sigmoid": SigmoidContrast, "corrected": CorrectedSoftmax, "sampled": SampledSoftmax, "in-batch": InBatchSoftmax
}  # fmt: skip
NAMES = [*PROFILE, "memory"]
CASES = ["uneven", "idle sigmoid", "idle softmax"]
CELLS = {"at once": base.MOST_CELLS, "a row at a time": 60}


def profile(case: str) -> ProfileBatch:
    """All rows. Outcomes that are not known count for a softmax and not for the sigmoid, failures the other way round;
    in the idle cases no row of the second process counts for one of them."""
    step = profile_step(ROWS, size=10, seed=3)
    step.resolved[:FIRST] = torch.tensor([1, 1, 0, torch.nan, 1, 0, 0, 1, 1])
    idle = {"idle sigmoid": torch.nan, "idle softmax": 0.0}
    step.resolved[FIRST:] = idle[case] if case in idle else torch.tensor([0, 1, torch.nan, 0, 0])
    return step


def memory(case: str) -> MemoryBatch:
    """All rows; in the idle cases the second process sees no row of the past, and nothing teaches it."""
    step = memory_step(ROWS, seed=4)
    if case != "uneven":
        step.visible[FIRST:] = False
    return step


def learnt(name: str, case: str, rows: slice) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of some rows, in evaluation mode: noise would differ."""
    model = towers()
    torch.manual_seed(5)
    if name == "memory":
        mixture = MemoryMixture(span_days=100.0)
        loss, modules = mixture(model, part_of(memory(case), rows)), torch.nn.ModuleList([model, mixture])
    else:
        step = replace(part_of(profile(case), rows), shares=(FIRST, ROWS - FIRST) if together() > 1 else ())
        loss, modules = PROFILE[name]()(model, step), torch.nn.ModuleList([model])
    loss.backward()
    return loss.item(), gradients(modules)


def process(rank: int, place: str) -> None:
    """One of two: average losses and gradients over both, and leave them in `place`."""
    with one_of(2, rank, place):
        rows, found = slice(0, FIRST) if rank == 0 else slice(FIRST, ROWS), {}
        for case, name, (amount, cells) in itertools.product(CASES, NAMES, CELLS.items()):
            base.MOST_CELLS = cells
            loss, grads = learnt(name, case, rows)
            values = {"loss": torch.tensor(loss), **grads}
            for value in values.values():
                distributed.all_reduce(value)
                value /= 2
            found[f"{case} {name} {amount}"] = values
        if rank == 0:
            torch.save(found, Path(place) / "found.pt")


@pytest.fixture(scope="module")
def averaged(tmp_path_factory) -> dict[str, dict[str, Tensor]]:
    """What two processes found, by case, objective and how many rows they took at a time."""
    place = tmp_path_factory.mktemp("processes")
    start(process, 2, place)
    found: dict[str, dict[str, Tensor]] = torch.load(place / "found.pt", weights_only=True)
    return found


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_the_average_over_processes_is_one_process_with_all_rows(case, name, cells, averaged):
    loss, grads = learnt(name, case, slice(0, ROWS))
    theirs = dict(averaged[f"{case} {name} {cells}"])
    assert theirs.pop("loss").item() == pytest.approx(loss, rel=1e-5)
    assert_alike(theirs, grads, 1e-4)


def test_plain_means_of_each_process_would_not_do():
    """Counts are as uneven as they need to be for the tests above to tell the difference."""
    for name in NAMES:
        loss, _ = learnt(name, "uneven", slice(0, ROWS))
        plain = [learnt(name, "uneven", rows)[0] for rows in (slice(0, FIRST), slice(FIRST, ROWS))]
        assert abs(sum(plain) / 2 - loss) > 1e-3, name
