"""Losses, gradients and draws that are not finite: the step is left out, and the run ends naming its batch.

Notable: nothing waits for the device. Every step notes there, in a few numbers, where something was first not finite;
the host looks at them once in `LOOK` batches, at the end of an epoch and before a checkpoint. A step whose gradient is
not finite is left out on the device, by the flag with which fused AdamW obeys a gradient scaler (`found_inf`): to
multiply an update by 0 would keep its NaN. So weights stay finite until the host looks, and no checkpoint holds others.
Which hand-overs were in the batch follows from (epoch, step), as everything about a step does.

fp16 has a scaler, which skips a step that overflows and halves its scale; only `PERSISTENT` of these in a row, more
than a scale has halvings, are an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, cast

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from train.data import MatcherData
from train.draws import StepDataset
from train.posterior import Design, PosteriorSampler
from train.prepare import TrainingSet
from twotower.errors import TrainingError

Longs = npt.NDArray[np.int64]
LOOK = 50  # batches between two looks
PERSISTENT = 25
NAMED = 5  # contacts
NEVER = 2**62
GRADIENT = "gradient"
CHAIN = "use --model.solver gradient; other options need another --output"


class Flags:
    """Of each of some names, the number of the batch that made it not finite `limit` times in a row for the first time.

    limit: 1 without a gradient scaler.
    """

    def __init__(self, names: tuple[str, ...], device: torch.device, limit: int) -> None:
        self.names, self.limit = names, limit
        self.first = torch.full((len(names),), NEVER, dtype=torch.int64, device=device)
        self.streak = torch.zeros(len(names), dtype=torch.int64, device=device)

    def note(self, values: Tensor, number: int) -> Tensor:
        """Take in values (n,) of a batch; returns which are finite, on their device."""
        finite = torch.isfinite(values)
        # No `where`: its Python scalars would be copied to the device, and waited for.
        self.streak = (self.streak + 1) * ~finite
        self.first.masked_fill_((self.streak >= self.limit) & (self.first == NEVER), number)
        return finite


class Guard(lightning.Callback):
    """What a module tells about each batch, and the looks at it. Raises TrainingError from a look."""

    def __init__(self) -> None:
        self._losses: Flags | None = None
        self._gradient: Flags | None = None
        self._at = 0  # number of the batch at hand

    def losses(self, module: lightning.LightningModule, index: int, parts: dict[str, Tensor]) -> None:
        """Note the losses of batch `index` of this epoch by part; all batches of a run have the same parts."""
        trainer = module.trainer
        self._at = (trainer.current_epoch << 32 | index) * trainer.world_size + trainer.global_rank
        if self._losses is None:
            limit = PERSISTENT if trainer.scaler is not None else 1
            self._losses = Flags(tuple(parts), module.device, limit)
            self._gradient = Flags((GRADIENT,), module.device, limit)
        self._losses.note(torch.stack([loss.detach() for loss in parts.values()]), self._at)

    def gradient(self, norm: Tensor, optimiser: Optimizer, scaled: bool) -> None:
        """Note the gradient's norm before a step, which is left out where that is not finite.

        scaled: whether a gradient scaler leaves it out; if not, `optimiser` is fused and does.
        """
        if self._gradient is None:
            return
        finite = self._gradient.note(norm.detach().reshape(1), self._at)
        if not scaled:
            optimiser.found_inf = (~finite[0]).float()  # type: ignore[attr-defined]

    @contextmanager
    def sweep(self, module: lightning.LightningModule, sampler: PosteriorSampler) -> Iterator[None]:
        """Looks at the chain after each sweep, which waits for the device anyway. The last checkpoint is from before.

        Raises TrainingError.
        """
        try:
            yield
        except LinAlgError as error:
            raise TrainingError(f"sweep {sampler.sweeps}: the sampler cannot go on ({error}); {CHAIN}") from None
        bad = [name for name, value in sampler.named_buffers() if not bool(torch.isfinite(value).all())]
        if bad:
            raise TrainingError(f"sweep {sampler.sweeps}: {', '.join(bad)} of the sampler are not finite; {CHAIN}")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A look, once in `LOOK` batches."""
        if (batch_idx + 1) % LOOK == 0:
            self.look(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """A look."""
        self.look(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """A look before an epoch is validated."""
        self.look(trainer)

    def on_save_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """A look, and one at the weights themselves."""
        self.look(trainer)
        weights = dict(pl_module.named_parameters())
        finite = torch.stack([torch.isfinite(value).all() for value in weights.values()]).tolist()
        if not all(finite):
            name = next(name for name, good in zip(weights, finite, strict=True) if not good)
            raise TrainingError(f"weights {name} are not finite: no checkpoint is written; {remedy(trainer)}")

    def look(self, trainer: lightning.Trainer) -> None:
        """Wait for the device and see whether all was finite, on all processes.

        Raises TrainingError naming the first batch where something was not: epoch, step, part and contacts.
        """
        if self._losses is None or self._gradient is None:
            return
        first = torch.cat([self._losses.first, self._gradient.first])
        if trainer.world_size > 1:
            first = trainer.strategy.reduce(first, reduce_op="min")
        found = dict(zip((*self._losses.names, GRADIENT), first.tolist(), strict=True))
        # Of one step the loss, which comes first, made the gradient so, on whichever process.
        part = min(found, key=lambda name: found[name] // trainer.world_size)
        if found[part] != NEVER:
            raise TrainingError(told(trainer, part, found[part], self._losses.limit))


def finite(design: Design, data: MatcherData, positions: Longs) -> Design:
    """The design as it is. Raises TrainingError, naming contacts, where the sampler could not read it."""
    read = (design.about, design.plain, design.level, design.declared)
    if all(bool(torch.isfinite(values).all()) for values in read):
        return design
    spoilt = spoilt_contacts(data.training_set, data.training_set.contact[positions])
    where = f"contacts {named(data, spoilt)}" if len(spoilt) else "no contact: what is declared of CSAs is not"
    raise TrainingError(f"inputs of the sampler are not finite, on {where}; look at these rows")


def told(trainer: lightning.Trainer, part: str, number: int, limit: int) -> str:
    """One line about the batch of that number."""
    data: MatcherData = trainer.datamodule  # type: ignore[attr-defined]
    step, rank = divmod(number, trainer.world_size)
    epoch, index = step >> 32, step & 0xFFFFFFFF
    what = "the gradient" if part == GRADIENT else f"the loss of the {part}"
    often = f" {limit} times in a row" if limit > 1 else ""
    contacts = contacts_of(trainer, part, epoch, index, rank)
    spoilt = spoilt_contacts(data.training_set, contacts)
    which = f"contacts {named(data, contacts)}"
    if len(spoilt):
        which = f"contacts whose inputs are not finite, {named(data, spoilt)}"
    return (
        f"epoch {epoch}, step {index} (from 0): {what} is not finite{often}, on {which}; the step was left out of the "
        f"weights, the last checkpoint is from before it; {remedy(trainer)}"
    )


def remedy(trainer: lightning.Trainer) -> str:
    """What to do, naming what is set."""
    module = trainer.lightning_module
    rate = f"lower --model.lr (now {module.lr:g})"
    if trainer.precision != "32-true":
        rate += f", use --trainer.precision 32-true (now {trainer.precision})"
    return f"{rate}, or look at these rows; other options need another --output"


def contacts_of(trainer: lightning.Trainer, part: str, epoch: int, index: int, rank: int) -> Longs:
    """Positions in the log of the contacts in a step: those of its part, or of both; a gradient is of all processes and
    of all batches that were summed."""
    data: MatcherData = trainer.datamodule  # type: ignore[attr-defined]
    steps = copy(cast(StepDataset, cast(DataLoader[Any], trainer.train_dataloader).dataset))
    first, ranks = index, [rank]
    if part == GRADIENT:
        first, ranks = index - index % trainer.accumulate_grad_batches, list(range(trainer.world_size))
    positions = []
    steps.set_epoch(epoch)
    for process in ranks:
        steps.rank = process
        for drawn in (steps[i] for i in range(first, index + 1)):
            parts = {"profile": drawn.profile, "memory": drawn.memory}
            positions += [one.positions for name, one in parts.items() if one and part in (name, GRADIENT, "teacher")]
    found: Longs = np.unique(data.training_set.contact[np.concatenate(positions)])
    return found


def spoilt_contacts(data: TrainingSet, contacts: Longs) -> Longs:
    """Those of contacts (n,) whose text vectors or pairings are not finite; other inputs are made finite where read."""
    met = data.numbers[:, data.numbers.shape[1] - data.schema.relationship :]
    finite = np.ones(len(contacts), np.bool_)
    for values in (data.read, met, *([] if data.frozen_text is None else [data.frozen_text])):
        finite &= np.isfinite(values[contacts]).all(axis=1)
    spoilt: Longs = np.unique(contacts[~finite])
    return spoilt


def named(data: MatcherData, contacts: Longs) -> str:
    """The first ids of contacts (n,), and how many more there are."""
    ids = data.tables.contacts.ids.take(contacts[:NAMED]).to_pylist()
    more = len(contacts) - len(ids)
    return ", ".join(map(str, ids)) + (f" and {more:,} more" if more else "")


def total_norm(module: nn.Module) -> Tensor:
    """Norm of all gradients, where nothing clips them."""
    return nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
