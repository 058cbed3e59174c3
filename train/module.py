"""The Lightning module: the towers, their objectives, and what validation measures.

Notable: random numbers of a step are seeded by (seed, step), so a run that was interrupted anywhere goes on with the
same noise; the model is built when the data are known (`configure_model`). The profile's rate follows one cycle over
the run, which variational training wants; the text table, where it is trained at all, moves at a rate of its own,
because it is pretrained.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from train.batches import Step
from train.cached_text import CachedText, telling_what_to_lower
from train.data import MatcherData
from train.distil import Distillation, Matching, distillation
from train.encode import text_vectors
from train.guard import Guard, finite, total_norm
from train.objectives.memory import MemoryMixture
from train.posterior import PosteriorSampler
from train.posterior_towers import Columns, Replayed, design_of, profile_width, write_means, write_spread
from train.prepare import TrainingSet
from train.ranges import OBJECTIVE, span
from train.start import Carried, Stood, carried, facts_of, write_chain
from train.together import seed_of
from train.validate import validation_metrics
from twotower.clock import DAY
from twotower.errors import ConfigError
from twotower.progress import track
from twotower.towers.backbones import StaticBackbone
from twotower.towers.store import build
from twotower.towers.two_tower import TwoTower

SPREAD = 16  # directions in which a vector may be off: on generated centres 86 % of the variance of logits
SWEEPS = 10  # in an epoch
SEEDS = 7919  # between those of runs that go on from each other
TAKE_IN = 0.5  # sweeps after validation, as a share of those before


class Sweeps(Optimizer):
    """An optimiser whose step is a sweep of the sampler, so that Lightning counts, logs and saves it as any other."""

    def __init__(self, sampler: PosteriorSampler) -> None:
        super().__init__([torch.zeros(1)], {})
        self.sampler = sampler

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One sweep."""
        self.sampler.sweep()


class MatcherModule(lightning.LightningModule):
    """Trains a `TwoTower`.

    Args:
        lr: highest learning rate of everything but the text backbone.
        text_lr: learning rate of the text backbone; 0 freezes it; null trains it only where the memory is trained.
        text_tokens: token cells of a trained transformer whose activations are held at once, whatever the batch; more
            are read again in the backward (`train.cached_text`); null: as the device can.
        compile_text: pass a trained transformer through torch.compile.
        weight_decay: AdamW's, on the level and the memory; the rest has priors.
        memory_weight: weight of the memory objective beside the profile objective.
        warm_up: share of the steps over which the learning rate rises; then it falls as a cosine.
        solver: how the sigmoid's likelihood is learnt: by gradient steps on members, or by sampling the posterior
            over topics (`train.posterior`); auto samples where topics were found and the text is frozen.
        directions: in which work differs for CSAs, of the sampler.
        teacher: folder of a finished run, of the transformer tower above all, to match beside the own objectives, by
            gradients (`train.distil`); null: none.
        score_matching: weight of matching its scores.
        embedding_matching: weight of matching its vectors.
        temperature: at which scores are matched.
    """

    def __init__(
        self,
        lr: float = 5e-3,
        text_lr: float | None = None,
        text_tokens: int | None = None,
        compile_text: bool = False,
        weight_decay: float = 1e-2,
        memory_weight: float = 1.0,
        warm_up: float = 0.3,
        solver: Literal["auto", "gradient", "sampling"] = "auto",
        directions: int = 16,
        teacher: str | None = None,
        score_matching: float = 1.0,
        embedding_matching: float = 1.0,
        temperature: float = 2.0,
    ) -> None:
        super().__init__()
        if directions <= 0:
            raise ConfigError(f"model.directions {directions}: must be positive")
        if lr <= 0 or min(text_lr or 0.0, weight_decay, memory_weight) < 0 or not 0 < warm_up < 1:
            raise ConfigError("model: lr must be positive, other rates and weights not negative, warm_up in (0, 1)")
        self.save_hyperparameters()
        self.lr, self.text_lr, self.weight_decay = lr, text_lr, weight_decay
        self.memory_weight, self.warm_up = memory_weight, warm_up
        self.cached_text = CachedText(text_tokens, compile_text)
        self.solver, self.directions, self.teacher = solver, directions, teacher
        self.matching = Matching(score_matching, embedding_matching, temperature)
        self.taught: Distillation | None = None
        self.sampler: PosteriorSampler | None = None
        self.columns: Columns | None = None
        self.stood: Stood | None = None
        """The chain before it took in the validation window."""
        self.carried: Carried | None = None
        self.model: TwoTower | None = None
        self.memory: MemoryMixture | None = None
        self.guard = Guard()

    def configure_callbacks(self) -> list[lightning.Callback]:
        """What watches over the numbers."""
        return [self.guard]

    @property
    def data(self) -> MatcherData:
        """The run's data module."""
        module: MatcherData = self.trainer.datamodule  # type: ignore[attr-defined]
        return module

    def samples(self, data: MatcherData) -> bool:
        """Whether the posterior is sampled. Raises ConfigError where that was asked for and cannot be."""
        able = data.objective.name == "sigmoid" and not data.with_memory and data.training_set.topics is not None
        able = able and self.teacher is None
        if self.solver == "sampling" and not (able and not self.text_lr):
            raise ConfigError(
                "model.solver sampling: needs resolved and unresolved hand-overs, intent labels to find topics by, "
                "frozen text, no trained memory and no teacher; use --model.solver gradient"
            )
        return self.solver != "gradient" and able and not self.text_lr

    @property
    def towers(self) -> TwoTower:
        """The model. Raises ConfigError before `configure_model`."""
        if self.model is None:
            raise ConfigError("the model is built when training starts")
        return self.model

    def configure_model(self) -> None:
        """Build the towers for the log at hand."""
        if self.model is not None:
            return
        # Lightning has new tensors made on the device; beside them would lie what comes from the tables, on the host.
        with torch.device("cpu"):
            self._build(self.data.training_set)

    def _build(self, data: TrainingSet) -> None:
        torch.manual_seed(self.data.seed)
        self.objective = self.data.objective
        pad_id = data.tokenizer.pad_id
        sampled = self.samples(self.data)
        if sampled:
            width = profile_width(self.data.towers, data)
            self.data.towers = replace(self.data.towers, members=1, profile_dim=width, spread=SPREAD)
        model = build(
            self.data.towers, data.schema, data.table, data.log_weight, pad_id, deepcopy(data.heads),
            deepcopy(data.topics),
        )  # fmt: skip
        before = data.arrived_at < data.split
        numbers, told = (torch.from_numpy(values[before]) for values in (data.numbers, data.told))
        model.contact_tower.fit_standardise(numbers, told)
        csas = torch.from_numpy(data.csa_features[data.moments <= data.split])
        model.csa_tower.standardise.fit(csas[..., : model.csa_tower.plain])
        rate = data.resolved[data.training()]
        if self.objective.name == "sigmoid":
            share = float((rate == 1).sum() / max((rate >= 0).sum(), 1))
            nn.init.constant_(model.contact_tower.to_level.bias, float(np.log(share / (1 - share))))
        elif data.eligible is not None or (self.objective.name == "in_batch" and self.teacher is None):
            # The level is held: what no loss reads must not wait for a gradient, or several processes cannot train.
            model.contact_tower.to_level.requires_grad_(False)
        if not self.data.with_memory:
            model.contact_tower.to_memory.requires_grad_(False)
        days = float(data.arrived_at[-1] - data.arrived_at[0]) / DAY
        self.memory = MemoryMixture(days) if self.data.with_memory else None
        if self.text_lr is None:
            self.text_lr = 3e-4 if self.data.with_memory else 0.0
        device = self.trainer.strategy.root_device
        if self.text_lr == 0:
            model.contact_tower.backbone.requires_grad_(False)
            # A static backbone starts as what the heads read, and stays so.
            static = isinstance(model.contact_tower.backbone, StaticBackbone)
            with self.trainer.precision_plugin.forward_context():
                frozen = data.read if static else text_vectors(model.to(device), data)
            model.cpu()
            self.data.replace_training_set(replace(data, frozen_text=frozen))
        elif not isinstance(model.contact_tower.backbone, StaticBackbone):
            model.contact_tower.encoding = self.cached_text
        self.model = model
        self.taught = distillation(self.teacher, self.matching, self.data, Path(self.trainer.default_root_dir), device)
        if sampled:
            self._configure_sampler()
        elif self.data.start is not None:
            raise ConfigError("data.start: only a sampled posterior goes on from another run's; train without it")

    def _configure_sampler(self) -> None:
        data = self.data.training_set
        design, self.columns = design_of(self.towers, data, data.training(), self._replayed)
        sweeps = SWEEPS * int(self.trainer.max_epochs or 1)
        # Where processes meet through their devices, they meet there from the start.
        design = finite(design, self.data, data.training()).to(self.trainer.strategy.root_device)
        shard = self.trainer.global_rank, self.trainer.world_size
        start = self.data.start
        # Days that draw the same noise would not average it out.
        seed = self.data.seed + (0 if start is None else SEEDS * (start.in_a_row + 1))
        self.sampler = PosteriorSampler(design, self.directions, sweeps, seed, shard)
        if start is not None:
            self.carried = carried(start, self.columns.names, self.data)
            self.carried.into(self.sampler, start.before, sweeps)
        self.data.sweeps = SWEEPS
        self.automatic_optimization = False

    @property
    def _replayed(self) -> Replayed | None:
        start, most = self.data.start, self.data.replay
        return None if start is None or most is None else partial(start.replayed, most=most)

    def write_chain(self, folder: Path) -> None:
        """Leave in a run's folder what another run can go on from, once the window is taken in."""
        if self.sampler is None or self.columns is None or self.stood is None:
            return
        write_chain(folder, self.stood, Stood.of(self.sampler), self.columns.names, facts_of(self.data))

    def write_sampled(self) -> None:
        """Put the sampler's means so far into the towers; nothing where nothing is sampled."""
        if self.sampler is not None and self.columns is not None:
            write_means(self.towers, self.sampler, self.columns, self.data.training_set)

    def take_in(self) -> None:
        """Let the sampler go on over all hand-overs, those of the validation window too, and write its means.

        The latest outcomes say most about the CSAs that a router will meet; what validation was for is over by then.
        """
        if self.sampler is None:
            return
        data, start = self.data.training_set, self.data.start
        design, self.columns = design_of(self.towers, data, np.arange(len(data.contact)), self._replayed)
        sweeps = max(1, int(TAKE_IN * self.sampler.sweeps))
        design = finite(design, self.data, np.arange(len(data.contact))).to(self.trainer.strategy.root_device)
        self.stood = Stood.of(self.sampler)
        self.sampler = self.sampler.continued(design, sweeps)
        if start is not None and self.carried is not None:
            self.carried.recall(self.sampler, start.after, sweeps)
        for _ in track(range(sweeps), "latest outcomes"):
            with self.guard.sweep(self, self.sampler):
                self.sampler.sweep()
        self.sampler.cpu()
        self.write_sampled()
        write_spread(self.towers, self.sampler, data)

    def configure_optimizers(self) -> Any:
        """AdamW, one cycle for all but the text backbone; sweeps where the posterior is sampled."""
        if self.sampler is not None:
            return Sweeps(self.sampler)
        text = [p for p in self.towers.contact_tower.backbone.parameters() if p.requires_grad]
        decayed = [*self.towers.contact_tower.to_level.parameters(), *self.towers.contact_tower.to_memory.parameters()]
        taken = {id(p) for p in (*text, *decayed)}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in taken]
        groups = [
            {"params": rest, "lr": self.lr, "weight_decay": 0.0},
            {"params": decayed, "lr": self.lr, "weight_decay": self.weight_decay},
        ]
        rates = [self.lr, self.lr]
        if text:
            groups.append({"params": text, "lr": self.text_lr, "weight_decay": 0.0})
            rates.append(float(self.text_lr or 0.0))
        # A fused step unscales fp16 gradients inside, after they would have been clipped; nothing else has a scaler.
        optimiser = torch.optim.AdamW(groups, fused=self.trainer.scaler is None)
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=self.warm_up)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step; where the device's memory is not enough for it, one line says what to lower."""
        with telling_what_to_lower(self.cached_text):
            super().optimizer_step(*args, **kwargs)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does, and also where it refuses: a fused optimiser under bf16, which has no scaler."""
        scaled = self.trainer.scaler is not None
        if gradient_clip_val and not scaled and gradient_clip_algorithm in (None, "norm"):
            norm = nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
        else:
            norm = total_norm(self)
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.guard.gradient(norm, optimizer, scaled)

    def training_step(self, step: Step, index: int) -> Tensor | None:
        """Mean loss of one step; None where the step is a sweep."""
        if self.sampler is not None:
            # Sums of squares need their digits.
            with torch.autocast(self.device.type, enabled=False), self.guard.sweep(self, self.sampler):
                self.optimizers().step()  # type: ignore[union-attr]
            return None
        # Every process draws noise of its own, the first one what it would draw alone; so do batches of one update.
        trainer = self.trainer
        part = index % trainer.accumulate_grad_batches * trainer.world_size + trainer.global_rank
        torch.manual_seed(seed_of(self.data.seed * 1_000_003 + trainer.global_step, part))
        parts: dict[str, Tensor] = {}
        step = step if self.taught is None else self.taught.read(self.towers, step)
        if step.profile is not None:
            with span(OBJECTIVE):
                profile = self.objective(self.towers, step.profile)
                parts["profile"] = profile + self.towers.divergence() / len(self.data.training_set.training())
            self.log("train_profile", profile.detach(), prog_bar=True, batch_size=1)
        if step.memory is not None and self.memory is not None:
            with span(OBJECTIVE):
                memory = self.memory(self.towers, step.memory)
                parts["memory"] = self.memory_weight * memory
            self.log("train_memory", memory.detach(), prog_bar=True, batch_size=1)
        if self.taught is not None:
            with span(OBJECTIVE):
                parts["teacher"] = matched = self.taught(self.towers, step, self.memory)
            self.log("train_teacher", matched.detach(), prog_bar=True, batch_size=1)
        self.guard.losses(self, index, parts)
        return sum(parts.values(), start=torch.zeros((), device=self.device))

    def validation_step(self, batch: Any, index: int) -> None:
        """Measure the whole validation window; `val_rank` is what early stopping and checkpoints watch."""
        self.write_sampled()
        data = self.data
        metrics = validation_metrics(
            self.towers, data.training_set, self.objective.name, self.memory, data.propensities
        )
        self.log_dict(metrics, prog_bar=True, sync_dist=True, batch_size=1)
