"""A run that is killed or stopped anywhere is continued by its command, step by step what it would have been."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.forked import call
from tests.train.processes import driven
from tests.train.runs import OPTIONS, SHORT, digests, short, work_of
from train import interrupted, run
from train.checkpoints import read, write
from train.data import FromStep, MatcherData
from train.module import MatcherModule
from twotower.errors import ConfigError
from twotower.towers.config import TowerConfig

KINDS = {
    "gradient": ("--model.solver=gradient",),
    "memory": ("--data.memory=on",),
    "sampling": ("--model.solver=sampling",),
}
Steps = list[tuple[int, int, float]]
CONTINUES = "the same command continues the run"


class KilledError(Exception):
    """Stands for what ends a process without a word."""


def train(data: Path, output: Path, kind: str, *options: str, at: int = -1, end: Any = None) -> tuple[int, Steps]:
    """Exit status of a run, −1 where it was killed, and (epoch, step, loss) of its steps, of a sweep a sum of the
    chain; `end` is called when the step numbered `at` is done."""
    steps: Steps = []
    whole = MatcherModule.training_step

    def recorded(self: MatcherModule, step: Any, index: int) -> Tensor | None:
        loss = whole(self, step, index)
        state = loss if loss is not None else torch.cat([b.flatten().double() for b in self.sampler.buffers()]).sum()
        steps.append((self.trainer.current_epoch, index, float(state.detach())))
        if len(steps) == at + 1:
            end()
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MatcherModule, "training_step", recorded)
        try:
            return short(data, output, *KINDS[kind], *options), steps
        except KilledError:
            return -1, steps


def kill() -> None:
    raise KilledError


def send(signum: int) -> Callable[..., None]:
    """Something to call that sends this process a signal, which is handled before it returns."""
    return lambda *_: (os.kill(os.getpid(), signum), time.sleep(0))[1]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """SIGINT as in a terminal: what a shell starts in the background ignores it, and Lightning may leave it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Steps]]:
    """An uninterrupted run of every kind, and its steps."""
    root, found = tmp_path_factory.mktemp("whole"), {}
    for kind in KINDS:
        status, steps = train(tiny, root / kind, kind)
        assert status == 0
        found[kind] = root / kind, steps
    return found


def continued(tiny: Path, output: Path, kind: str, whole: tuple[Path, Steps], *options: str) -> int:
    """Repeats the command, which must do the steps and give the run of the uninterrupted one; returns how many."""
    status, steps = train(tiny, output, kind, *options)
    assert status == 0
    assert steps == whole[1][len(whole[1]) - len(steps) :]
    found, expected = digests(output), digests(whole[0])
    assert {name for name in expected if found[name] != expected[name]} == ({"config.yaml"} if options else set())
    return len(steps)


# The loader of the first epoch is made before the checkpoint is read, that of the second when it is known.
@pytest.mark.parametrize(("kind", "epoch"), [("gradient", 0), ("gradient", 1), ("memory", 0), ("sampling", 1)])
def test_a_killed_run_goes_on_from_the_middle_of_an_epoch(tiny, whole, tmp_path, kind, epoch):
    """From its fourth step; one that came later is done again."""
    saving, steps = "--saving.steps=2", len(whole[kind][1]) // 2
    assert train(tiny, tmp_path / "run", kind, saving, at=epoch * steps + 4, end=kill)[0] == -1
    assert read(work_of(tmp_path / "run") / "last.ckpt")["global_step"] == epoch * steps + 4
    assert continued(tiny, tmp_path / "run", kind, whole[kind], saving) == 2 * steps - (epoch * steps + 4)


def killed_in(step: int, data: Path, output: Path, *options: str) -> int:
    """A run in a process that SIGKILL ends in a step."""
    whole, steps = MatcherModule.training_step, itertools.count()

    def counted(*given: Any) -> Tensor | None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*given)

    MatcherModule.training_step = counted  # type: ignore[method-assign]
    return short(data, output, *options)


def test_a_process_that_is_killed_is_continued(tiny, whole, tmp_path):
    """By SIGKILL, in the sixth step."""
    done = call(killed_in, 5, tiny, tmp_path / "run", *KINDS["gradient"], "--saving.steps=3")
    assert done.status == -signal.SIGKILL, done.err
    assert continued(tiny, tmp_path / "run", "gradient", whole["gradient"], "--saving.steps=3") == 14 - 3


@pytest.mark.parametrize(
    ("kind", "signum", "status"),
    [("gradient", signal.SIGTERM, 143), ("memory", signal.SIGINT, 130), ("sampling", signal.SIGTERM, 143)],
)
def test_a_signal_ends_a_run_after_the_step_at_hand(tiny, whole, tmp_path, capsys, kind, signum, status):
    before = signal.getsignal(signum)
    found, steps = train(tiny, tmp_path / "run", kind, at=3, end=send(signum))
    assert (found, len(steps)) == (status, 4)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1] == (
        f"twotower train: stopped by {signal.Signals(signum).name} after step 3 of epoch 0 (from 0), which is saved: "
        + CONTINUES
    )
    assert not any("Traceback" in line or "nterrupt" in line for line in lines)
    assert signal.getsignal(signum) is before
    assert continued(tiny, tmp_path / "run", kind, whole[kind]) == len(whole[kind][1]) - 4


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SLURM job of one process; returns the file in which its `scontrol` writes what it was asked."""
    asked, tool = tmp_path / "asked", tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    tool.chmod(0o755)
    job = {"NTASKS": "1", "NTASKS_PER_NODE": "1", "JOB_NAME": "train", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0"}
    for name, value in {**job, "NODEID": "0", "NNODES": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    return asked


@pytest.mark.parametrize("works", [True, False])
def test_a_job_that_slurm_wants_back_is_saved_and_queued_again(tiny, whole, tmp_path, capsys, slurm, works):
    if not works:
        (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\necho no such job >&2\nexit 1\n")
    before = signal.getsignal(signal.SIGUSR1)
    found, steps = train(tiny, tmp_path / "run", "gradient", at=3, end=send(signal.SIGUSR1))
    assert (found, len(steps)) == (128 + signal.SIGUSR1, 4)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    if works:
        assert slurm.read_text() == "requeue 7\n"
        assert line.endswith("after step 3 of epoch 0 (from 0), which is saved: job 7 is queued again")
    else:
        assert line.endswith(f"{CONTINUES}; scontrol requeue 7 failed: no such job")
    assert signal.getsignal(signal.SIGUSR1) is before
    assert {p.name for p in work_of(tmp_path / "run").iterdir()} == {"fingerprint", "last.ckpt"}
    assert continued(tiny, tmp_path / "run", "gradient", whole["gradient"]) == len(whole["gradient"][1]) - 4


@pytest.mark.parametrize(("at", "left"), [(6, 7), (13, 0)])
def test_a_signal_in_the_last_step_of_an_epoch_waits_for_its_validation(tiny, whole, tmp_path, capsys, at, left):
    assert train(tiny, tmp_path / "run", "gradient", at=at, end=send(signal.SIGTERM))[0] == 143
    assert "after an epoch, which is saved" in capsys.readouterr().err.strip().splitlines()[-1]
    assert continued(tiny, tmp_path / "run", "gradient", whole["gradient"]) == left


def test_a_signal_before_training_leaves_nothing(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("train.data.prepare", send(signal.SIGTERM))
    assert train(tiny, tmp_path / "run", "gradient") == (143, [])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == "twotower train: stopped by SIGTERM before the first checkpoint: the same command starts anew"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "signum"), [("gradient", signal.SIGTERM), ("sampling", signal.SIGINT)])
def test_a_signal_after_training_leaves_the_last_checkpoint(tiny, whole, tmp_path, capsys, monkeypatch, kind, signum):
    """What the last validation measured is in run.json though it is not measured again."""
    with monkeypatch.context() as patch:
        patch.setattr(run, "fit_join", send(signum))
        assert train(tiny, tmp_path / "run", kind)[0] == 128 + signum
    last = capsys.readouterr().err.strip().splitlines()[-1]
    name = signal.Signals(signum).name
    assert last == f"twotower train: stopped by {name} between steps; the last checkpoint stays: {CONTINUES}"
    assert not (tmp_path / "run").exists()
    assert continued(tiny, tmp_path / "run", kind, whole[kind]) == 0


def test_a_run_that_had_stopped_early_stays_stopped(tiny, tmp_path, monkeypatch):
    """One more epoch would be measured, and might be kept."""
    measured: list[int] = []

    def falling(*_: object) -> dict[str, float]:
        measured.append(len(measured))
        return {"val_rank": -float(len(measured))}

    monkeypatch.setattr("train.module.validation_metrics", falling)
    options = ("--trainer.max_epochs=4", "--early_stopping.patience=1")
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_run", send(signal.SIGTERM))
        assert train(tiny, tmp_path / "run", "gradient", *options)[0] == 143
    assert train(tiny, tmp_path / "run", "gradient", *options) == (0, [])
    assert measured == [0, 1]


def test_a_step_that_is_validated_is_not_the_last_one_of_an_interrupted_run(tiny, tmp_path, monkeypatch):
    """Nobody would validate it any more."""
    measured, options = [0], ("--trainer.val_check_interval=0.5", "--trainer.max_epochs=1")

    def counted(*_: object) -> dict[str, float]:
        measured[0] += 1
        return {"val_rank": 0.5}

    monkeypatch.setattr("train.module.validation_metrics", counted)
    status, steps = train(tiny, tmp_path / "run", "gradient", *options, at=2, end=send(signal.SIGTERM))
    assert (status, [step for _, step, _ in steps]) == (143, [0, 1, 2, 3])
    assert measured == [1]  # after the third step
    status, steps = train(tiny, tmp_path / "run", "gradient", *options)
    assert (status, [step for _, step, _ in steps]) == (0, [4, 5, 6])
    assert measured == [2]


def test_a_run_that_is_killed_while_its_best_epoch_is_written_still_keeps_it(tiny, tmp_path, monkeypatch):
    """What says that an epoch is over also says which one is the best so far."""
    options, measured = ("--early_stopping.patience=3",), [0.0]

    def falling(*_: object) -> dict[str, float]:
        measured[0] -= 1
        return {"val_rank": measured[0]}

    def killed(checkpoint: dict[str, Any], path: Path) -> None:
        if path.name == "best.ckpt":
            raise KilledError
        write(checkpoint, path)

    monkeypatch.setattr("train.module.validation_metrics", falling)
    status, steps = train(tiny, tmp_path / "whole", "gradient", *options)
    assert status == 0
    measured[0] = 0
    with monkeypatch.context() as patch:
        patch.setattr("train.checkpoints.write", killed)
        assert train(tiny, tmp_path / "run", "gradient", *options)[0] == -1
    measured[0] = 0
    assert train(tiny, tmp_path / "run", "gradient", *options) == (0, steps)
    assert digests(tmp_path / "run") == digests(tmp_path / "whole")


def test_who_interrupts_twice_does_not_wait_for_the_step(tiny, tmp_path, capsys):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    assert train(tiny, tmp_path / "run", "gradient", at=3, end=twice)[0] == 130
    assert "before the first checkpoint" in capsys.readouterr().err.strip().splitlines()[-1]


def test_signals_are_given_back():
    before, notes = signal.getsignal(signal.SIGTERM), interrupted.Notes()
    notes.hold()
    send(signal.SIGTERM)()
    assert notes.received == signal.SIGTERM
    notes.release()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_ignored_stays_ignored(tiny, whole, tmp_path):
    """As in what `nohup` starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert train(tiny, tmp_path / "run", "gradient", at=3, end=send(signal.SIGINT)) == (0, whole["gradient"][1])


def test_checkpoints_by_the_clock_change_nothing(tiny, whole, tmp_path, monkeypatch):
    written: list[str] = []

    def counted(checkpoint: dict[str, Any], path: Path) -> None:
        written.append(path.name)
        write(checkpoint, path)

    monkeypatch.setattr("train.checkpoints.write", counted)
    assert continued(tiny, tmp_path / "run", "gradient", whole["gradient"], "--saving.minutes=0.000001") == 14
    assert written.count("last.ckpt") >= 6 + 6 + 2  # inside both epochs and at their ends
    written.clear()
    assert continued(tiny, tmp_path / "other", "gradient", whole["gradient"], "--saving.minutes=0") == 14
    assert written.count("last.ckpt") == 2


def test_what_a_killed_process_left_half_written_goes(tiny, tmp_path):
    work_of(tmp_path / "run").mkdir()
    (work_of(tmp_path / "run") / ".last.ckpt.partial-1234").write_bytes(b"half")
    train(tiny, tmp_path / "run", "gradient", at=0, end=kill)
    assert [p.name for p in work_of(tmp_path / "run").iterdir()] == ["fingerprint"]


def test_two_processes_agree_on_the_step(tiny, tmp_path):
    """The signal reaches the second alone; the first says so, once, and the checkpoint is of a step that both did."""
    code = (
        "import os, signal, sys; from train import interrupted; from train.module import MatcherModule\n"
        "from twotower.cli import run_verb; interrupted.AGREE_STEPS = 3\n"
        "whole, steps = MatcherModule.training_step, iter(range(100))\n"
        "def step(self, *given):\n"
        "    if next(steps) == 1 and self.trainer.global_rank == 1: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return whole(self, *given)\n"
        "MatcherModule.training_step = step\n"
        "sys.exit(run_verb('train', sys.argv[1:]))"
    )
    (tmp_path / "driver.py").write_text(code)
    words = ["--data", str(tiny), "--output", str(tmp_path / "run"), *OPTIONS, *SHORT, *KINDS["gradient"]]
    distributed = ["--data.batch_size=16", "--trainer.devices=2", "--trainer.strategy=ddp"]
    place = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = call(driven, str(tmp_path / "driver.py"), [*words, *distributed], **place)
    assert done.status == 143, done.err
    assert done.err.count("stopped by SIGTERM after step") == 1
    assert "Traceback" not in done.err
    step = int(done.err.split("stopped by SIGTERM after step ")[1].split()[0])
    assert read(work_of(tmp_path / "run") / "last.ckpt")["global_step"] == step + 1


def test_a_process_that_hears_no_signal_is_ended_too(monkeypatch):
    monkeypatch.setattr(interrupted, "CHILD_SECONDS", 0.2)
    code = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: None); print(flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    interrupted.end([child])
    assert child.wait(10) == -signal.SIGKILL


def test_a_loader_with_workers_draws_from_where_the_run_goes_on():
    """It asks its sampler for an iterator twice, and draws from the second alone."""
    steps = FromStep(5, 2)
    iter(steps)
    assert list(steps) == [2, 3, 4]
    assert list(steps) == [0, 1, 2, 3, 4]


def test_what_is_sent_to_all_processes_does_not_end_the_loaders(tiny):
    data = MatcherData(
        str(tiny), towers=TowerConfig(max_tokens=24, view_dim=32), validation_share=0.1, batch_size=64, workers=1
    )
    data.setup("fit")
    loader = data.train_dataloader()
    steps: Any = iter(loader)
    taken = [next(steps)]
    for signum in (signal.SIGTERM, signal.SIGINT):
        os.kill(steps._workers[0].pid, signum)
    assert len([*taken, *steps]) == len(loader) == 7


@pytest.mark.parametrize("options", [{"minutes": -1.0}, {"steps": 0}])
def test_savings_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError, match="saving"):
        interrupted.SaveOften(**options)
