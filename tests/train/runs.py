"""Running `twotower train` in tests."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from train.module import MatcherModule
from twotower.cli import main
from twotower.files import sha256_file

# Small and quick; every test that compares runs compares these.
OPTIONS = (
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--data.towers.max_tokens=24",
    "--data.towers.view_dim=32",
    "--data.batch_size=256",
    "--data.memory_rows=256",
)
FILES = {
    "calibration.json",
    "config.yaml",
    "csas.npz",
    "features.json",
    "features.state",
    "history.npz",
    "model.json",
    "model.safetensors",
    "probe.npz",
    "run.json",
    "tokenizer.json",
}


def train(data: Path, output: Path, *options: str) -> int:
    """The exit status of `twotower train`."""
    return main(["train", "--data", str(data), "--output", str(output), *OPTIONS, *options])


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file by its name."""
    return {str(file.relative_to(folder)): sha256_file(file) for file in folder.rglob("*") if file.is_file()}


def work_of(output: Path) -> Path:
    """Where checkpoints of an unfinished run are kept."""
    return output.with_name(f".{output.name}.training")


def interrupt_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl+C in the training step of that number, counted from 0."""
    whole, taken = MatcherModule.training_step, iter(range(10**6))

    def step_or_stop(self: MatcherModule, *args: object) -> object:
        if next(taken) == step:
            raise KeyboardInterrupt
        return whole(self, *args)  # type: ignore[arg-type]

    patch.setattr(MatcherModule, "training_step", step_or_stop)


def interrupted(data: Path, output: Path, step: int, *options: str) -> int:
    """The exit status of a run that is interrupted at a step."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, step)
        try:
            return train(data, output, *options)
        except SystemExit as stopped:
            return int(stopped.code or 0)
        finally:
            signal.signal(signal.SIGINT, before)  # Lightning turns it off while it shuts down
