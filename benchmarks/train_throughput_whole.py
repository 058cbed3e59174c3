"""Whole trainings of `train_throughput.py`: an epoch, and a run from tokens to its folder.

Notable: reading, tokenising and preparing the log is timed apart; the clock starts where Lightning takes over.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from train_throughput_sides import Clock, Load, Ours, Stopwatch

from train.ceilings import settled
from train.run import run_training


class EpochClock(Clock):
    """Seconds of the first epoch, from before its first batch is asked for to the end of its last step."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(Stopwatch(0, device))
        self.device, self.prepared, self.seconds = device, 0.0, 0.0
        self.begun = time.perf_counter()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """The log is read."""
        self.prepared = time.perf_counter() - self.begun

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """The clock starts."""
        settled(self.device)
        self.since = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Nothing is counted inside the epoch that is timed."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The clock may stop here."""
        if batch_idx + 1 == trainer.num_training_batches:
            settled(self.device)
            self.seconds = time.perf_counter() - self.since


class Start(Callback):
    """The moment when the log was prepared and training takes over."""

    at = 0.0

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """That moment."""
        self.at = time.perf_counter()


def epoch_seconds(folder: Path, until: int, load: Load) -> dict[str, Any]:
    """One epoch of a static tower whose text is trained, over the hand-overs before `until` (µs)."""
    clock = EpochClock(load.place)
    options = [flag for flag in load.flags(1) if not flag.startswith(("--trainer.max_steps", "--trainer.max_epochs"))]
    Ours(folder, until).fit([*options, "--trainer.max_epochs=1"], [clock])
    return {
        "contacts": clock.watch.rows, "seconds": clock.seconds, "prepared_s": clock.prepared, "batch": load.batch,
        "device": load.device, "precision": load.precision, "threads": torch.get_num_threads(),
    }  # fmt: skip


def trained_seconds(folder: Path, device: str, options: Sequence[str]) -> dict[str, Any]:
    """The default training of a folder of tables, with `options`."""
    start, begun = Start(), time.perf_counter()
    accelerator = f"--trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}"
    with tempfile.TemporaryDirectory() as scratch:
        done = run_training(folder, Path(scratch) / "run", None, (), [accelerator, *options], [start])
        ended = time.perf_counter()
    facts = {} if done is None else done.facts
    return {
        "contacts": facts.get("data", {}).get("contacts", 0), "seconds": ended - start.at,
        "prepared_s": start.at - begun, "device": device, "threads": torch.get_num_threads(), "run": facts,
    }  # fmt: skip
