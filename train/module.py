"""The Lightning module: the towers, their objectives, and what validation measures.

Notable: random numbers of a step are seeded by (seed, step), so a run that was interrupted anywhere goes on with the same
dropout masks; the model is built when the data are known (`configure_model`); parameters of the text table, the rest and the
Gaussian prior have rates of their own, because the table is pretrained and the prior is a likelihood's, not a taste.
"""

from __future__ import annotations

from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from train.batches import Step, texts
from train.data import MatcherData
from train.objectives.choose import choose
from train.objectives.memory import MemoryMixture
from train.validate import validation_metrics
from twotower.errors import ConfigError
from twotower.towers.store import build
from twotower.towers.two_tower import TwoTower

DAY_US = 86_400_000_000


class MatcherModule(lightning.LightningModule):
    """Trains a `TwoTower`.

    Args:
        lr: learning rate of everything but the text table.
        text_lr: learning rate of the text backbone; 0 freezes it.
        weight_decay: AdamW's, on everything but identities.
        prior_std: standard deviation of the Gaussian prior on the identity embeddings' logits.
        memory_weight: weight of the memory objective beside the profile objective.
    """

    def __init__(
        self,
        lr: float = 3e-3,
        text_lr: float = 3e-4,
        weight_decay: float = 1e-2,
        prior_std: float = 1.0,
        memory_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if min(lr, prior_std) <= 0 or min(text_lr, weight_decay, memory_weight) < 0:
            raise ConfigError("lr and prior_std must be positive; text_lr, weight_decay and memory_weight not negative")
        self.save_hyperparameters()
        self.lr, self.text_lr, self.weight_decay = lr, text_lr, weight_decay
        self.prior_std, self.memory_weight = prior_std, memory_weight
        self.model: TwoTower | None = None
        self.memory: MemoryMixture | None = None

    @property
    def data(self) -> MatcherData:
        """The run's data module."""
        module: MatcherData = self.trainer.datamodule  # type: ignore[attr-defined]
        return module

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
        data = self.data.training_set
        torch.manual_seed(self.data.seed)
        self.objective = choose(self.data.objective_name, data.has_failures)
        model = build(self.data.towers, data.schema, data.table, data.log_weight, data.tokenizer.pad_id)
        before = data.arrived_at < data.split
        model.contact_tower.standardise.fit(torch.from_numpy(data.numbers[before]))
        model.csa_tower.standardise.fit(torch.from_numpy(data.csa_features[data.moments <= data.split]))
        rate = data.resolved[data.training()]
        if self.objective.name == "sigmoid":
            share = float((rate == 1).sum() / max((rate >= 0).sum(), 1))
            nn.init.constant_(model.contact_tower.to_level[-1].bias, float(np.log(share / (1 - share))))  # type: ignore
        span = float(data.arrived_at[-1] - data.arrived_at[0]) / DAY_US
        self.memory = MemoryMixture(span) if self.data.with_memory else None
        self.model = model

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW in three groups: text, identities (no decay: they have their prior), the rest."""
        text = {id(p) for p in self.towers.contact_tower.backbone.parameters()}
        identity = {id(p) for p in self.towers.csa_tower.identity.parameters()}
        for p in self.towers.contact_tower.backbone.parameters():
            p.requires_grad_(self.text_lr > 0)
        groups: dict[str, list[nn.Parameter]] = {"text": [], "identity": [], "rest": []}
        for p in self.parameters():
            if p.requires_grad:
                groups["text" if id(p) in text else "identity" if id(p) in identity else "rest"].append(p)
        return torch.optim.AdamW(
            [
                {"params": groups["text"], "lr": self.text_lr, "weight_decay": 0.0},
                {"params": groups["identity"], "lr": self.lr, "weight_decay": 0.0},
                {"params": groups["rest"], "lr": self.lr, "weight_decay": self.weight_decay},
            ],
            fused=True,
        )

    def training_step(self, step: Step, index: int) -> Tensor:
        """Mean loss of one step."""
        torch.manual_seed(self.data.seed * 1_000_003 + self.trainer.global_step)
        loss = torch.zeros((), device=self.device)
        if step.profile is not None:
            profile = self.objective(self.towers, step.profile)
            prior = self.towers.prior() / (self.prior_std**2 * len(self.data.training_set.training()))
            loss = loss + profile + prior
            self.log("train_profile", profile.detach(), prog_bar=True, batch_size=1)
        if step.memory is not None and self.memory is not None:
            memory = self.memory(self.towers, step.memory)
            loss = loss + self.memory_weight * memory
            self.log("train_memory", memory.detach(), prog_bar=True, batch_size=1)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        """Measure the whole validation window; `val_rank` is what early stopping and checkpoints watch."""
        metrics = validation_metrics(self.towers, self.data.training_set, self.objective.name, self.memory)
        self.log_dict(metrics, prog_bar=True, sync_dist=True, batch_size=1)
