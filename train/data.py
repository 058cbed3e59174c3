"""The Lightning data module: tables to steps.

Notable: validation is the last part of the log in time, never a random part; the training set is computed in
`setup`, once, and every loader is a view of it. Step order depends on (seed, epoch, step) only. Where the objective
contrasts the roster, π₀ is fitted there too, on what was known before validation opens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from train.batches import Step
from train.draws import SAMPLED, Drawn, StepDataset
from train.gather import Gather
from train.interrupted import deaf
from train.objectives.base import ProfileObjective
from train.objectives.choose import choose, refuse_failures_alone
from train.prepare import TrainingSet, prepare
from train.propensity import Propensities, propensities_of
from train.start import Start
from twotower.clock import parse_time
from twotower.errors import ConfigError
from twotower.features.registry import suggested
from twotower.tables.log import Log
from twotower.towers.config import TOPICS, VIEW_DIM, TowerConfig


class FromStep(Sampler[int]):
    """Steps `start … length − 1` once, and all of them from then on."""

    def __init__(self, length: int, start: int) -> None:
        self.length, self.start = length, start

    def __iter__(self) -> Iterator[int]:
        # A generator: loaders with workers ask for an iterator twice and draw from the second alone.
        start, self.start = self.start, 0
        yield from range(start, self.length)

    def __len__(self) -> int:
        return self.length


class SweepNumbers(Dataset[int]):
    """The numbers of an epoch's sweeps: a sweep reads all hand-overs, which the sampler holds."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


class MatcherData(lightning.LightningDataModule):
    """Reads a data folder and serves steps.

    Args:
        folder: tables as in the contract (contacts, csas, interactions, …).
        until: train on nothing that was known only at this time or later (ISO 8601 with a zone).
        towers: sizes that decide what is tokenised and computed beforehand.
        objective: profile objective, or `auto`.
        memory: train the memory: `auto` does where nobody else chose (no eligible lists), `on`, `off`.
        validation_share: share of the contacts, the latest, that validation sees; null: 3,000, at most a tenth.
        batch_size: hand-overs in a profile step, of all processes together.
        memory_batch: hand-overs in a memory step, of all processes together.
        memory_rows: recent hand-overs sampled beside them.
        sampled: CSAs that a step is contrasted with where the objective samples them.
        workers: loader processes.
        tokens: folder in which the log's tokens are kept and read again, null: none. They can be read back as text.
        start: a finished run that this one goes on from (`train.start`), null: none.
        release_days: after so many days a CSA who left has no identity any more, and would come back as a stranger;
            null: never.
        replay: of hand-overs older than the validation window of that run, how many are read at most; null: all.
        seed: of the order of steps.
    """

    def __init__(
        self,
        folder: str = "",
        until: str | None = None,
        towers: TowerConfig = TowerConfig(),  # noqa: B008 — frozen
        objective: str = "auto",
        memory: Literal["auto", "on", "off"] = "auto",
        validation_share: float | None = None,
        batch_size: int = 1024,
        memory_batch: int = 256,
        memory_rows: int = 2048,
        workers: int = 0,
        seed: int = 0,
        sampled: int = SAMPLED,
        tokens: str | None = None,
        start: str | None = None,
        replay: int | None = None,
        release_days: float | None = 90.0,
    ) -> None:
        super().__init__()
        if sampled <= 0:
            raise ConfigError(f"data.sampled {sampled}: must be positive")
        if replay is not None and replay < 1:
            raise ConfigError(f"data.replay {replay}: must be positive, or null for all")
        if (release_days or 0) < 0:
            raise ConfigError(f"data.release_days {release_days}: must not be negative")
        if validation_share is not None and not 0 < validation_share < 0.5:
            raise ConfigError(f"data.validation_share {validation_share}: a share between 0 and 0.5 was expected")
        self.folder, self.until, self.towers = folder, until, towers
        self.objective_name, self.memory_choice = objective, memory
        self.validation_share, self.batch_size, self.workers, self.seed = validation_share, batch_size, workers, seed
        self.memory_batch, self.memory_rows, self.sampled = memory_batch, memory_rows, sampled
        self.tokens = None if tokens is None else Path(tokens)
        self.start_folder, self.replay = None if start is None else Path(start), replay
        self.start: Start | None = None
        self.release_days = release_days
        self.log: Log | None = None
        self._set: TrainingSet | None = None
        self._gather: Gather | None = None
        self.propensities: Propensities | None = None
        self.propensity: dict[str, Any] | None = None
        """What run.json says of π₀ (`train.propensity.propensities_of`); None where the objective has no use for it."""
        self.sweeps = 0  # in an epoch, where the module samples instead of taking gradient steps

    @property
    def tables(self) -> Log:
        """The log as it was read. Raises ConfigError before `setup`."""
        if self.log is None:
            raise ConfigError("the data module has not been set up yet")
        return self.log

    @property
    def training_set(self) -> TrainingSet:
        """The prepared log. Raises ConfigError before `setup`."""
        if self._set is None:
            raise ConfigError("the data module has not been set up yet")
        return self._set

    def replace_training_set(self, data: TrainingSet) -> None:
        """Go on with a training set that has more in it."""
        self._set, self._gather = data, None

    @property
    def objective(self) -> ProfileObjective:
        """The profile objective of this log. Raises ConfigError, DataError where it cannot be (`choose`)."""
        data = self.training_set
        return choose(self.objective_name, data.has_failures, len(data.identity))

    @property
    def with_memory(self) -> bool:
        """Whether the memory is trained on who took what."""
        return self.memory_choice == "on" or (self.memory_choice == "auto" and self.tables.contacts.eligible is None)

    def setup(self, stage: str) -> None:
        """Load, check and prepare the log, once."""
        if self._set is None:
            self.log = Log.load(self.folder, None if self.until is None else parse_time(self.until, "--until"))
            if self.towers.view_dim is None:
                # A trained memory trains the text as well, and measured better from the encoder's table alone.
                self.towers = replace(self.towers, view_dim=0 if self.with_memory else VIEW_DIM)
            if self.towers.topics is None:
                self.towers = replace(self.towers, topics=0 if self.with_memory else TOPICS)
            if self.towers.families is None:
                self.towers = replace(self.towers, families=suggested(by_choice=self.with_memory))
            self.start = None if self.start_folder is None else Start.load(self.start_folder)
            self._set = prepare(self.log, self.towers, self.validation_share, self.tokens, self.start)
            refuse_failures_alone(self._set.resolved[self._set.training()])
            if self.objective.sampling != "shuffled":  # which also refuses before anything is written
                self.propensities, self.propensity = propensities_of(self.folder, self.log, self._set.split)

    def train_dataloader(self) -> DataLoader[Drawn] | DataLoader[int]:
        """Steps of the current epoch, from where a resumed run stopped."""
        data, trainer = self.training_set, self.trainer
        if self.sweeps:
            sweeps = FromStep(self.sweeps, self._resumed_at() if trainer else 0)
            return DataLoader(SweepNumbers(self.sweeps), batch_size=None, sampler=sweeps)
        dataset = StepDataset(
            data, data.training(), self.objective.sampling, self.with_memory, self.batch_size, self.memory_batch,
            self.memory_rows, self.seed, rank=trainer.global_rank if trainer else 0,
            world=trainer.world_size if trainer else 1, propensities=self.propensities, sampled=self.sampled,
        )  # fmt: skip
        epoch, start = (trainer.current_epoch, self._resumed_at()) if trainer else (0, 0)
        dataset.set_epoch(epoch)
        return DataLoader(
            dataset, batch_size=None, sampler=FromStep(len(dataset), start), num_workers=self.workers,
            persistent_workers=False, worker_init_fn=deaf,
        )  # fmt: skip

    def _resumed_at(self) -> int:
        """Steps of the current epoch that an interrupted run had done."""
        if self.trainer is None:
            return 0
        loop = self.trainer.fit_loop.epoch_loop
        # Lightning types the tracker by its base, which lacks the count.
        return int(loop.batch_progress.current.processed) if loop.restarting else 0  # type: ignore[attr-defined]

    def val_dataloader(self) -> list[int]:
        """One item: the module validates on the whole window at once."""
        return [0]

    def transfer_batch_to_device(self, batch: object, device: torch.device, dataloader_idx: int) -> object:
        """A step's tensors, made where they are wanted from its index arrays."""
        return self.step(batch, device) if isinstance(batch, Drawn) else batch

    def step(self, drawn: Drawn, device: torch.device) -> Step:
        """The tensors of a step on a device."""
        if self._gather is None or self._gather.device != device:
            self._gather = Gather(self.training_set, device)
        return self._gather.step(drawn)
