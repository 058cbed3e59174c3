"""Several processes on one machine: by flags alone, one run folder, and what one process would have learnt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from safetensors.numpy import load_file

from tests.forked import call, ranks
from tests.train.processes import driven
from tests.train.quiet import quietly
from tests.train.runs import FILES, OPTIONS, digests, short, work_of
from train.batches import Step
from train.module import MatcherModule
from twotower.cli import main

SMALL = ("--trainer.max_epochs=1", "--data.batch_size=50", "--data.memory_batch=50")
# An odd number of rows to two processes, and of a step a single one to one of them.
CASES = {
    "memory": ("open_centre", ()),
    "in batch": ("open_centre", ("--data.objective=in_batch",)),
    "sampled": ("tiny", ("--data.objective=sampled_softmax", "--data.sampled=9", "--data.batch_size=21")),
}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def words(data: Path, output: Path, *options: str) -> list[str]:
    return ["train", "--data", str(data), "--output", str(output), *OPTIONS, *SMALL, *options]


def alone(data: Path, output: Path, *options: str) -> None:
    """A run in this process, as quiet as those in several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", torch.zeros_like)
        assert main(words(data, output, *options)) == 0


def torchrun(data: Path, output: Path, *options: str) -> str:
    """What a run in two processes printed that torchrun starts."""
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "tests.train.quiet", *words(data, output, *options)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def lightning(data: Path, output: Path, *options: str) -> str:
    """The same of a process that is forked, and of a second one that Lightning starts from its command."""
    place = os.pathsep.join(sys.path)
    done = call(driven, str(Path(__file__).with_name("quiet.py")), words(data, output, *options), PYTHONPATH=place)
    assert done.status == 0, done.err
    return done.out


def forked(data: Path, output: Path, *options: str) -> str:
    """The same of two processes that find what torchrun tells those that it starts."""
    both = ranks(2, quietly, words(data, output, *options))
    assert [done.status for done in both] == [0, 0], both[0].err + both[1].err
    return "".join(done.out for done in both)


STARTS: dict[str, Callable[..., str]] = {
    "memory": torchrun, "in batch": lightning, "sampled": forked
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_learns(case, request, tmp_path):
    """The same global batches, so the same weights but for the order of sums, which Adam carries on. Started by
    torchrun, they share the work of tokenising too; started by Lightning, the first one has done it."""
    name, options = CASES[case]
    data = request.getfixturevalue(name)
    first, both = tmp_path / "alone", tmp_path / "both"
    alone(data, first, *options)
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", f"--data.tokens={tmp_path / 'tokens'}")
    said = STARTS[case](data, both, *options, *two)
    shards = 1 if case == "in batch" else 2
    assert len(list(tmp_path.glob(f"tokens/*/part-*-of-0000{shards}.parquet"))) == shards
    assert said.count("objective ") == 1
    assert set(digests(both)) == FILES
    assert not work_of(both).exists()
    one, other = (load_file(folder / "model.safetensors") for folder in (first, both))
    assert one.keys() == other.keys()
    for tensor, values in one.items():
        assert np.allclose(values, other[tensor], rtol=1e-3, atol=1e-3), tensor
    metrics = [json.loads((folder / "run.json").read_text())["metrics"] for folder in (first, both)]
    assert metrics[1] == pytest.approx(metrics[0], abs=2e-3)
    moved = max(float(np.abs(values).max()) for tensor, values in one.items() if tensor.endswith("identities"))
    assert moved > 0.01


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_with_clipped_gradients(precision, tiny, tmp_path):
    assert short(tiny, tmp_path / "run", f"--trainer.precision={precision}", "--trainer.max_epochs=1") == 0
    assert "sigmoid" in (tmp_path / "run" / "run.json").read_text()


@contextmanager
def elsewhere(strategy: SingleDeviceStrategy, empty_init: bool | None = None) -> Iterator[None]:
    """New tensors lie on another device than the tables' arrays, as they do where Lightning trains on a GPU."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("options", [(), ("--model.solver=gradient",)], ids=["sampling", "gradient"])
def test_a_model_is_built_on_the_host_whatever_device_it_will_train_on(options, tiny, tmp_path, monkeypatch):
    once = ("--trainer.max_epochs=1", *options)
    assert short(tiny, tmp_path / "plain", *once) == 0
    monkeypatch.setattr(SingleDeviceStrategy, "tensor_init_context", elsewhere)
    assert short(tiny, tmp_path / "run", *once) == 0
    assert digests(tmp_path / "run") == digests(tmp_path / "plain")


def test_batches_that_are_summed_draw_noise_of_their_own(tiny, tmp_path, monkeypatch):
    seeds: list[tuple[int, int]] = []
    whole = MatcherModule.training_step

    def recorded(self: MatcherModule, step: Step, index: int) -> torch.Tensor | None:
        loss = whole(self, step, index)
        seeds.append((self.trainer.global_step, torch.initial_seed()))
        return loss

    monkeypatch.setattr(MatcherModule, "training_step", recorded)
    options = ("--model.solver=gradient", "--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=3")
    assert short(tiny, tmp_path / "run", *options) == 0
    assert len({update for update, _ in seeds}) < len(seeds)
    assert len({seed for _, seed in seeds}) == len(seeds)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_learns_what_a_cpu_learns(case, request, tmp_path):
    """The same batches without noise: metrics within 0.005, weights within what Adam makes of the order of sums."""
    name, options = CASES[case]
    data = request.getfixturevalue(name)
    found = []
    for accelerator in ("cpu", "gpu"):
        output = tmp_path / accelerator
        alone(data, output, *options, f"--trainer.accelerator={accelerator}", "--trainer.precision=32-true")
        metrics = json.loads((output / "run.json").read_text())["metrics"]
        found.append((metrics, load_file(output / "model.safetensors")))
    (first, one), (second, other) = found
    assert second == pytest.approx(first, abs=5e-3)
    for tensor, values in one.items():
        assert np.allclose(values, other[tensor], rtol=1e-2, atol=1e-2), tensor
