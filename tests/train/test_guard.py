"""What is not finite ends a run in a line that names its batch, and never gets into weights or checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from tests.train.runs import digests, short, work_of
from train import guard, module
from train.checkpoints import read
from train.draws import Drawn, DrawnProfile
from train.guard import Flags, Guard
from train.module import MatcherModule
from train.objectives.memory import MemoryMixture
from train.objectives.sigmoid import SigmoidContrast
from train.posterior import PosteriorSampler
from twotower.errors import TrainingError

GRADIENT, SAMPLING = "--model.solver=gradient", "--model.solver=sampling"
At = tuple[int, int]


def stub(scaler: object = None) -> Any:
    """What the guard asks of a module."""
    trainer = SimpleNamespace(current_epoch=2, world_size=1, global_rank=0, scaler=scaler)
    return SimpleNamespace(trainer=trainer, device=torch.device("cpu"))


def test_the_first_batch_in_a_row_is_kept():
    flags = Flags(("a", "b"), torch.device("cpu"), limit=2)
    nan, one = float("nan"), 1.0
    for number, values in enumerate([(nan, one), (one, nan), (nan, nan), (nan, one), (nan, nan), (one, nan)]):
        flags.note(torch.tensor(values), number)
    assert flags.first.tolist() == [3, 2]


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_leaves_weights_and_moments_as_they_were(norm):
    weights = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([weights], lr=0.1, fused=True)
    watch = Guard()

    def step(gradient: float, seen: float) -> list[Tensor]:
        watch.losses(stub(), 0, {"profile": torch.tensor(1.0)})
        weights.grad = torch.full((3,), gradient)
        watch.gradient(torch.tensor(seen), optimiser, scaled=False)
        optimiser.step()
        return [value.detach().clone() for value in (weights, *optimiser.state[weights].values())]

    before = step(0.5, 0.9)
    assert not torch.equal(before[0], torch.ones(3))
    after = step(float("nan"), norm)
    assert all(map(torch.equal, before, after))
    assert not torch.equal(step(0.5, 0.9)[0], before[0])


class Taught:
    """A teacher who teaches nothing."""

    def read(self, towers: Any, step: Any) -> Any:
        return step

    def __call__(self, *given: Any) -> Tensor:
        return torch.zeros(())


def spoil(patch: pytest.MonkeyPatch, part: str, when: Callable[[int], bool]) -> list[At]:
    """Makes a part of the loss NaN in the batches, numbered from 0, for which `when` says so; returns their places."""
    seen: list[At] = []
    batches = iter(range(10**6))
    place: list[Any] = [None, 0]
    whole = MatcherModule.training_step

    def step(self: MatcherModule, drawn: Any, index: int) -> Tensor | None:
        bad = when(next(batches))
        if bad:
            seen.append((self.trainer.current_epoch, index))
        place[:] = [self, bad]
        return whole(self, drawn, index)

    def spoilt(loss: Tensor) -> Tensor:
        if not place[1]:
            return loss
        if part == "gradient":  # √0 has no derivative: inf · 0
            return loss + (place[0].towers.csa_tower.identities * 0).sqrt().sum()
        return loss * float("nan")

    objective = {"memory": MemoryMixture, "teacher": Taught}.get(part, SigmoidContrast)
    call = objective.forward if issubclass(objective, torch.nn.Module) else objective.__call__
    patch.setattr(MatcherModule, "training_step", step)
    patch.setattr(objective, call.__name__, lambda *given: spoilt(call(*given)))
    return seen


def told(line: str) -> tuple[int, int, str, list[str]]:
    """(epoch, step, what, ids) of the line."""
    found = re.search(
        r"twotower train: epoch (\d+), step (\d+) \(from 0\): (.*?) is not finite.* on contacts (.*?); ", line
    )
    assert found is not None, line
    ids = found[4].split(" and ")[0].split(", ")
    return int(found[1]), int(found[2]), found[3], ids


def batch_of(data: Path, epoch: int, step: int, memory: bool) -> set[str]:
    """Ids of the contacts of a step, from the data module alone."""
    from train.data import MatcherData
    from twotower.towers.config import TowerConfig

    reader = MatcherData(
        str(data), towers=TowerConfig(max_tokens=24, view_dim=32), memory="on" if memory else "auto",
        validation_share=0.1, batch_size=64, memory_batch=64, memory_rows=64,
    )  # fmt: skip
    reader.setup("fit")
    steps = reader.train_dataloader().dataset
    steps.set_epoch(epoch)  # type: ignore[attr-defined]
    drawn = steps[step].memory if memory else steps[step].profile
    contacts = reader.training_set.contact[drawn.positions]
    return set(reader.tables.contacts.ids.take(contacts).to_pylist())


@pytest.mark.parametrize(
    ("part", "what", "options"),
    [
        ("profile", "the loss of the profile", (GRADIENT,)),
        ("gradient", "the gradient", (GRADIENT,)),
        ("memory", "the loss of the memory", ("--data.memory=on",)),
        ("teacher", "the loss of the teacher", (GRADIENT,)),
    ],
)
def test_the_batch_is_named(tiny, tmp_path, monkeypatch, capsys, part, what, options):
    """One of three spoilt ones, the first; the look is at the end of its epoch."""
    if part == "teacher":
        monkeypatch.setattr(module, "distillation", lambda *_: Taught())
    with monkeypatch.context() as patch:
        places = spoil(patch, part, lambda number: number in (8, 9, 12))
        assert short(tiny, tmp_path / "run", *options) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    epoch, step, said, ids = told(line)
    assert places == [(1, 1), (1, 2), (1, 5)]
    assert ((epoch, step), said) == (places[0], what)
    assert len(ids) == guard.NAMED
    assert set(ids) <= batch_of(tiny, epoch, step, part == "memory")
    assert "lower --model.lr (now 0.005), or look at these rows" in line
    assert not (tmp_path / "run").exists()


def test_no_checkpoint_is_later_than_the_first_bad_step(tiny, tmp_path, monkeypatch):
    """The one of step 9 is due; what was before it is continued, to what it would have been."""
    options = (GRADIENT, "--saving.steps=3")
    assert short(tiny, tmp_path / "whole", *options) == 0
    with monkeypatch.context() as patch:
        spoil(patch, "profile", lambda number: number == 9)
        assert short(tiny, tmp_path / "run", *options) == 1
    assert read(work_of(tmp_path / "run") / "last.ckpt")["global_step"] == 7
    assert short(tiny, tmp_path / "run", *options) == 0
    assert digests(tmp_path / "run") == digests(tmp_path / "whole")


def test_it_is_looked_for_once_in_some_batches(tiny, tmp_path, monkeypatch, capsys):
    taken: list[int] = []
    monkeypatch.setattr(guard, "LOOK", 3)
    spoil(monkeypatch, "profile", lambda number: bool(taken.append(number)) or number == 3)
    assert short(tiny, tmp_path / "run", GRADIENT) == 1
    assert told(capsys.readouterr().err.strip().splitlines()[-1])[:2] == (0, 3)
    assert taken[-1] == 5


def test_weights_that_are_not_finite_are_not_saved(tiny, tmp_path, monkeypatch, capsys):
    whole = MatcherModule.training_step

    def step(self: MatcherModule, *given: Any) -> Tensor | None:
        loss = whole(self, *given)
        if self.trainer.global_step == 3:
            with torch.no_grad():
                self.towers.contact_tower.to_memory.weight[0, 0] = float("inf")  # no loss reads it here
        return loss

    monkeypatch.setattr(MatcherModule, "training_step", step)
    assert short(tiny, tmp_path / "run", GRADIENT, "--saving.steps=2") == 1
    assert "contact_tower.to_memory.weight are not finite" in capsys.readouterr().err.strip().splitlines()[-1]
    assert read(work_of(tmp_path / "run") / "last.ckpt")["global_step"] == 2


# Lightning gives bf16 to a CPU that is asked for fp16; this plugin is fp16 with a scaler, as on a GPU.
HALF = (
    GRADIENT,
    "--trainer.precision=null",
    '--trainer.plugins=[{"class_path": "lightning.pytorch.plugins.MixedPrecision", '
    '"init_args": {"precision": "16-mixed", "device": "cpu"}}]',
)


def test_an_overflow_that_a_scaler_skips_is_no_error(tiny, tmp_path, monkeypatch):
    places = spoil(monkeypatch, "profile", lambda number: number in (2, 5, 6, 7))
    assert short(tiny, tmp_path / "run", *HALF) == 0
    assert len(places) == 4


def test_many_overflows_in_a_row_are_an_error(tiny, tmp_path, monkeypatch, capsys):
    """More than it takes to halve the scale down to 1: it is not the scale."""
    monkeypatch.setattr(guard, "PERSISTENT", 5)
    spoil(monkeypatch, "profile", lambda number: number >= 4)
    assert short(tiny, tmp_path / "run", *HALF) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert told(line)[:2] == (1, 1)  # batch 8, the fifth
    assert "not finite 5 times in a row" in line
    assert "use --trainer.precision 32-true (now 16-mixed)" in line


def test_what_the_sampler_cannot_read_is_named(tiny, tmp_path, monkeypatch, capsys):
    """A text vector of one contact of the training window, spoilt when everything was fitted."""

    def design_of(towers: Any, data: Any, positions: Any, replayed: Any) -> Any:
        contact = data.contact[positions[data.resolved[positions] >= 0]][3]
        data.read[contact, -1] = np.nan  # a topic
        spoilt.append(int(contact))
        return whole(towers, data, positions, replayed)

    spoilt: list[int] = []
    whole = module.design_of
    monkeypatch.setattr(module, "design_of", design_of)
    assert short(tiny, tmp_path / "run", SAMPLING) == 1
    table = pq.read_table(tiny / "contacts.parquet").sort_by([("arrived_at", "ascending"), ("contact_id", "ascending")])
    row = table["contact_id"][spoilt[0]].as_py()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == f"twotower train: inputs of the sampler are not finite, on contacts {row}; look at these rows"


@pytest.mark.parametrize(("value", "why"), [(1.0, "common of the sampler are not finite"), (-1.0, "cannot go on")])
def test_a_chain_that_cannot_go_on_is_not_saved(tiny, tmp_path, monkeypatch, capsys, value, why):
    """A draw that is not finite; a covariance that is none."""
    whole = PosteriorSampler.sweep

    def sweep(self: PosteriorSampler) -> None:
        if self.sweeps == 5 and value < 0:
            self.plain_cov.mul_(-1)
        whole(self)
        if self.sweeps == 6 and value > 0:
            self.common[0] = float("nan")

    monkeypatch.setattr(PosteriorSampler, "sweep", sweep)
    assert short(tiny, tmp_path / "run", SAMPLING, "--saving.steps=1") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(r"twotower train: sweep [56]: ", line)
    assert why in line
    assert read(work_of(tmp_path / "run") / "last.ckpt")["global_step"] == 5


def test_of_one_step_the_loss_is_named_on_whichever_process_it_was(monkeypatch):
    """It made the gradient so on all of them."""

    def least(first: Tensor, reduce_op: str) -> Tensor:
        return torch.tensor([2 * 7 + 1, guard.NEVER, 2 * 7]) if reduce_op == "min" else first

    watch, seen = Guard(), stub()
    seen.trainer.world_size, seen.trainer.strategy = 2, SimpleNamespace(reduce=least)
    watch.losses(seen, 0, {"profile": torch.tensor(1.0), "memory": torch.tensor(1.0)})
    monkeypatch.setattr(guard, "told", lambda trainer, *found: f"{found}")
    with pytest.raises(TrainingError) as ended:
        watch.look(seen.trainer)
    assert str(ended.value) == "('profile', 15, 1)"


@pytest.mark.parametrize("part", ["profile", guard.GRADIENT])
def test_of_several_processes_the_batch_is_that_of_the_one_whose_loss_it_was(part):
    """A gradient is of all of them, and of all batches that were summed."""

    class Steps:
        rank = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __getitem__(self, step: int) -> Drawn:
            return Drawn(DrawnProfile(np.array([100 * self.epoch + 10 * step + self.rank])), None)

    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(training_set=SimpleNamespace(contact=np.arange(1000))), world_size=2,
        accumulate_grad_batches=2, train_dataloader=SimpleNamespace(dataset=Steps()),
    )  # fmt: skip
    found = guard.contacts_of(trainer, part, epoch=3, index=1, rank=1)  # type: ignore[arg-type]
    assert found.tolist() == ([311] if part == "profile" else [300, 301, 310, 311])
