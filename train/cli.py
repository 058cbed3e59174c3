"""Options and configuration of a training run: LightningCLI over the data module, the module and the join.

Notable: every option is a constructor argument with a type and a sentence, readable in YAML (`configs/`) and on the
command line (`--model.lr 0.001`); what was resolved is written beside the run, so that a run is rebuilt from its config
and its data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from train.checkpoints import SafeCheckpoints
from train.class_paths import hold_class_paths, refused_path
from train.data import MatcherData
from train.distil_teacher import named
from train.interrupted import SaveOften
from train.join import JoinOptions
from train.module import MatcherModule
from train.stopping import StopEarly
from twotower.errors import ConfigError
from twotower.progress import visible

REFRESH = 20
"""Steps between two looks of the progress bar at the losses, for which the host waits for the device."""
TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": None,  # as the log suggests: see run.epochs_for
    "logger": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # StepDataset shards by rank itself
    "reload_dataloaders_every_n_epochs": 1,  # the order of an epoch is drawn when its loader is made
    "gradient_clip_val": 1.0,
    "enable_model_summary": False,
}


@dataclass(frozen=True)
class ClusterOptions:
    """Workers of a run on Ray (`--engine ray`); a run in processes of this machine has `trainer.devices` for that.

    Args:
        workers: processes that train together.
        cpus: processors of each.
        gpus: GPUs of each; 0: it trains on its processors.
        retries: times that all begin again from the last checkpoint when a worker died.
    """

    workers: int = 2
    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1 or self.cpus <= 0 or self.gpus < 0 or self.retries < 0:
            raise ConfigError(
                f"cluster: workers {self.workers}, cpus {self.cpus:g}, gpus {self.gpus:g}, retries {self.retries}; at "
                "least one worker, more than no processor, and nothing negative were expected"
            )


class MatcherCLI(LightningCLI):
    """LightningCLI with the join's options and the callbacks every run has. placed: as of `build_cli`."""

    def __init__(self, *args: Any, placed: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self._placed = dict(placed or {})
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds `join`, early stopping and checkpoints; ties the seeds together."""
        parser.add_class_arguments(JoinOptions, "join")
        parser.add_class_arguments(ClusterOptions, "cluster")
        parser.add_lightning_class_args(StopEarly, "early_stopping")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(SaveOften, "saving")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val_rank",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
            }
        )
        parser.link_arguments("seed_everything", "data.seed")

    @cached_property
    def resolved(self) -> str:
        """The configuration as YAML, without the places of this machine: a teacher goes by its digest. It is written
        out once, as that takes as long as some steps of training."""
        config = self.parser.dump(without_places(self.config), skip_none=False, format="yaml")
        return yaml.safe_dump(yaml.safe_load(config), sort_keys=True, allow_unicode=True)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        plugins = config.get("plugins") or []
        plugins = [*(plugins if isinstance(plugins, list) else [plugins]), *self._placed.get("plugins", ())]
        config |= {**self._placed, "plugins": [*plugins, SafeCheckpoints()]}
        return super()._instantiate_trainer(config, callbacks)


class Parsed(MatcherCLI):
    """Options that were read, with nothing built by them."""

    def instantiate_classes(self) -> None:
        """Builds nothing."""


def cluster_options(
    configs: Sequence[Path], folder: Path, until: str | None, work: Path, options: Sequence[str]
) -> ClusterOptions:
    """What a run's options say of its workers. Raises ConfigError as `build_cli` does."""
    read = build_cli(configs, folder, until, work, options, kind=Parsed)
    return ClusterOptions(**read.config["cluster"].as_dict())


def build_cli(
    configs: Sequence[Path],
    folder: Path,
    until: str | None,
    work: Path,
    options: Sequence[str],
    placed: Mapping[str, Any] | None = None,
    kind: type[MatcherCLI] = MatcherCLI,
) -> MatcherCLI:
    """Parse options and build data module, module and trainer.

    configs: YAML as in `configs/`, later ones win; folder: the tables; work: where checkpoints go; placed: arguments of
    the trainer that stand above all options. Raises ConfigError, one line, for an unknown option, a value of the wrong
    type and a class path that is not allowed.
    """
    for config in configs:
        if not config.is_file():
            raise ConfigError(f"--config {config}: no such file; configurations are in configs/")
    hold_class_paths(configs, options)
    given = [f"--config={config}" for config in configs]
    fixed = [f"--data.folder={folder}", f"--checkpoint.dirpath={work}", f"--trainer.default_root_dir={work}"]
    if until is not None:
        fixed.append(f"--data.until={until}")
    try:
        return kind(
            MatcherModule,
            MatcherData,
            args=[*given, *options, *fixed],
            run=False,
            seed_everything_default=0,
            save_config_callback=None,
            trainer_defaults={
                **TRAINER_DEFAULTS,
                "enable_progress_bar": visible(),
                "callbacks": [every_epoch(work), *([TQDMProgressBar(refresh_rate=REFRESH)] if visible() else [])],
            },
            parser_kwargs={"exit_on_error": False},
            placed=placed,
        )
    except (ArgumentError, MisconfigurationException, TypeError, ValueError) as error:
        said = refused_path(str(error)) or str(error).strip().splitlines()[0]
        raise ConfigError(f"option or configuration: {said}") from None


def every_epoch(work: Path) -> ModelCheckpoint:
    """Writes `last.ckpt` after every epoch, after the best one, of which it tells.

    `save_last` would write it only beside a new best one.
    """
    return ModelCheckpoint(
        dirpath=work, filename="last", monitor=None, save_top_k=1, every_n_epochs=1, enable_version_counter=False
    )


def without_places(config: Namespace) -> Namespace:
    """A copy of the configuration with the data and checkpoint folders blanked."""
    copy = config.clone()
    copy.pop("config", None)
    copy.pop("cluster", None)
    copy["data.folder"], copy["data.tokens"] = "", None
    copy["data.start"] = named(config["data.start"])
    copy["model.teacher"] = named(config["model.teacher"])
    copy["checkpoint.dirpath"] = None
    copy["trainer.default_root_dir"] = None
    copy["trainer.enable_progress_bar"] = None
    return copy
