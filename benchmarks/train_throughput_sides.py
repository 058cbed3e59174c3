"""Both sides of `train_throughput.py`: so many steps of training, timed and with their contacts counted.

Notable: a *contact* is one example of a step whose text goes forward and backward. On our side the contact is one text
and the CSA a row of features; the peer, sentence-transformers' own trainer under MultipleNegativesRankingLoss, reads
the CSA's profile as a second text for every contact, and cuts texts into tokens inside its loop; both are what these
trainers do. Both sides start from the same weights, read as many tokens and run in this process with the same threads.
On a machine of several GPUs name one (CUDA_VISIBLE_DEVICES=0): the peer would take all of them.
The first step's operations are counted (`train.costs`), further ones warm up, and the clock runs from the end of a step
to the end of another; a device is waited for there and nowhere between.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import Callback

from train.ceilings import settled
from train.cli import build_cli
from train.costs import Counting
from train.data import MatcherData
from train.prepare import TrainingSet
from train.token_store import texts_between
from twotower.clock import format_time
from twotower.tables.log import Log
from twotower.towers.encoders import MINILM, load_encoder

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
WARM = 2  # steps before the clock starts, the counted one among them
TOKENS = 128
TOWERS: dict[str, tuple[str, ...]] = {
    "static": ("--data.towers.backbone=static", "--model.text_lr=0.0003"),
    "transformer": ("--data.towers.backbone=transformer", "--model.text_lr=0.00002"),
}
RATES = {"static": 2e-2, "transformer": 2e-5}
"""The peer's learning rates: ours of the transformer; for a table that starts distilled a tenth of what its authors
take for one that starts at random."""


@dataclass(frozen=True)
class Load:
    """What both sides are asked for: `batch` contacts in a step, `steps` timed ones; `device` cpu or cuda, `precision`
    fp32 or bf16; `options` of our training beyond these; `seed`."""

    tower: str
    device: str
    precision: str
    batch: int
    steps: int
    seed: int = 0
    options: tuple[str, ...] = ()

    @property
    def place(self) -> torch.device:
        """The device as torch has it."""
        return torch.device(self.device)

    def flags(self, steps: int) -> list[str]:
        """Options of our training for so many steps."""
        mixed = "bf16-mixed" if self.precision == "bf16" else "32-true"
        return [
            f"--trainer.accelerator={'gpu' if self.device == 'cuda' else 'cpu'}", "--trainer.devices=1",
            f"--trainer.precision={mixed}", f"--trainer.max_steps={steps}", "--trainer.max_epochs=100000",
            f"--data.batch_size={self.batch}", f"--data.towers.max_tokens={TOKENS}", "--data.memory=off",
            "--data.objective=sigmoid", "--model.solver=gradient", f"--seed_everything={self.seed}",
            *TOWERS[self.tower], *self.options,
        ]  # fmt: skip


@dataclass(frozen=True)
class Leg:
    """Timed steps of one side: `contacts` in `seconds`; `flops` and `counted` contacts of the step before that."""

    contacts: int
    seconds: float
    flops: int
    counted: int

    @property
    def per_s(self) -> float:
        """Contacts a second."""
        return self.contacts / self.seconds

    @property
    def flops_per_contact(self) -> float:
        """Operations of a contact, forward and backward, of all that goes with it."""
        return self.flops / self.counted


class Stopwatch:
    """Told where steps begin and end, and how many contacts they have, makes the leg of `steps` timed ones."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self.steps, self.device = steps, device
        self.done, self.rows = 0, 0
        self.leg: Leg | None = None
        self._counting: Counting | None = None
        self._counted = (0, 0)
        self._since = 0.0

    def begin(self) -> None:
        """A step begins."""
        if not self.done:
            self._counting = Counting().__enter__()

    def end(self) -> None:
        """A step ends."""
        if self._counting is not None:
            self._counting.__exit__(None, None, None)
            self._counted, self._counting = (self._counting.costs.flops, self.rows), None
        self.done += 1
        if self.done == WARM:
            settled(self.device)
            self.rows, self._since = 0, time.perf_counter()
        if self.done == WARM + self.steps:
            settled(self.device)
            self.leg = Leg(self.rows, time.perf_counter() - self._since, *self._counted)

    def finished(self) -> Leg:
        """The leg. Raises SystemExit where the steps were not all taken, or had no contact."""
        if self.leg is None:
            raise SystemExit(f"{self.done} steps were taken, {WARM + self.steps} were expected: give more --contacts")
        if not self.leg.contacts:
            raise SystemExit("the steps had no contacts: nothing was measured")
        return self.leg


class Clock(Callback):
    """Our side's stopwatch: contacts are the rows that the contact tower makes of texts while these are trained."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Look at the contact tower. Raises SystemExit where its text is frozen."""
        tower = pl_module.towers.contact_tower
        if not any(parameter.requires_grad for parameter in tower.backbone.parameters()):
            raise SystemExit("the text is frozen, and nothing goes forward and backward: leave out --model.text_lr 0")
        self._hook = tower.to_level.register_forward_hook(self._read)

    def _read(self, module: Any, inputs: Any, out: torch.Tensor) -> None:
        if module.training:
            self.watch.rows += len(out)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A step begins."""
        self.watch.begin()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A step ends."""
        self.watch.end()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Look away."""
        self._hook.remove()


@dataclass
class Ours:
    """Our side on one log: read once, trained anew in every leg."""

    folder: Path
    until: int
    data: MatcherData | None = None

    def leg(self, load: Load) -> Leg:
        """Train so many steps from the same start."""
        watch = Stopwatch(load.steps, load.place)
        self.fit(load.flags(WARM + load.steps), [Clock(watch)])
        return watch.finished()

    def fit(self, options: Sequence[str], callbacks: list[Callback]) -> None:
        """Train under these callbacks alone: nothing validates, nothing is saved."""
        with tempfile.TemporaryDirectory() as work:
            flags = [*options, "--trainer.limit_val_batches=0"]
            cli = build_cli((), self.folder, format_time(self.until), Path(work), flags)
            cli.trainer.callbacks = callbacks  # type: ignore[attr-defined]
            self.data = self.data or cli.datamodule
            self.data.batch_size = cli.datamodule.batch_size
            self.data.setup("fit")
            cli.trainer.fit(cli.model, datamodule=self.data)

    @property
    def training_set(self) -> TrainingSet:
        """What was read of the log, once a leg has run."""
        if self.data is None:
            raise SystemExit("a leg must run before what it read is asked for")
        return self.data.training_set


@dataclass(frozen=True)
class Pairs:
    """Resolved hand-overs before a moment as texts: `contact` and `profile` (n,) of who resolved it."""

    contact: list[str]
    profile: list[str]


def contact_texts(log: Log) -> list[str]:
    """Texts (N,) as the contact tower reads them."""
    return texts_between(log, 0, len(log.contacts))


def profile_texts(log: Log) -> list[str]:
    """Texts (J,) of the CSAs' latest rows: the profile, or, where that is empty, the names of the skills."""
    found = [""] * len(log.csas.ids)
    rows = zip(log.csas.csa.tolist(), log.csas.profile.to_pylist(), log.csas.skills.to_pylist(), strict=True)
    for csa, profile, skills in rows:
        found[csa] = profile or ", ".join(skill["name"] for skill in skills or ())
    return found


def resolved_pairs(folder: Path, until: int) -> Pairs:
    """Pairs that a loss of positives alone learns from: what was known to be resolved before `until` (µs)."""
    log = Log.load(folder, until)
    contacts, profiles = contact_texts(log), profile_texts(log)
    good = np.flatnonzero((log.handovers.resolved == 1) & (log.handovers.known_at < until))
    taken = zip(log.handovers.contact[good].tolist(), log.handovers.csa[good].tolist(), strict=True)
    whole = [(contacts[contact], profiles[csa]) for contact, csa in taken]
    return Pairs([contact for contact, _ in whole], [profile for _, profile in whole])


def missing_for_peer() -> list[str]:
    """Packages without which sentence-transformers does not train."""
    return [name for name in ("datasets", "accelerate") if importlib.util.find_spec(name) is None]


class Peer:
    """The peer on one log: sentence-transformers' trainer, anew in every leg.

    tower: `transformer` (the same MiniLM) or `static` (the same table, weighed, and tokenizer).
    """

    def __init__(self, tower: str, pairs: Pairs, data: TrainingSet) -> None:
        self.tower, self.pairs, self.data = tower, pairs, data

    def model(self) -> Any:
        """The model before training."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import StaticEmbedding
        from tokenizers import Tokenizer

        if self.tower == "transformer":
            model = load_encoder(MINILM)
            model.max_seq_length = TOKENS
            return model.train()
        with tempfile.TemporaryDirectory() as folder:
            self.data.tokenizer.save(Path(folder) / "tokenizer.json")
            tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        weighed = self.data.table * np.exp(self.data.log_weight)[:, None]
        return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weighed)], device="cpu")

    def leg(self, load: Load) -> Leg:
        """Train so many steps from the same start."""
        watch = Stopwatch(load.steps, load.place)
        self.fit(load, WARM + load.steps, watch)
        return watch.finished()

    def fit(self, load: Load, steps: int, watch: Stopwatch | None = None) -> Any:
        """Train so many steps; the model."""
        from datasets import Dataset, disable_progress_bars
        from sentence_transformers import SentenceTransformerTrainer
        from sentence_transformers.losses import MultipleNegativesRankingLoss
        from transformers import PrinterCallback

        disable_progress_bars()
        model = self.model()
        model.model_card_data.set_widget_examples = lambda dataset: None  # examples for a model card, no training
        with tempfile.TemporaryDirectory() as work:
            trainer = SentenceTransformerTrainer(
                model=model,
                args=arguments(load, steps, work, RATES[self.tower]),
                train_dataset=Dataset.from_dict({"contact": self.pairs.contact, "profile": self.pairs.profile}),
                loss=MultipleNegativesRankingLoss(model),
                callbacks=[] if watch is None else [steps_told(watch, load.batch)],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return model


def arguments(load: Load, steps: int, work: str, rate: float) -> Any:
    """The peer's training arguments: the same batch, precision and seed; nothing logged, evaluated or saved."""
    from sentence_transformers import SentenceTransformerTrainingArguments

    return SentenceTransformerTrainingArguments(
        output_dir=work, max_steps=steps, per_device_train_batch_size=load.batch, dataloader_drop_last=True,
        learning_rate=rate, warmup_steps=max(1, steps // 10), bf16=load.precision == "bf16",
        use_cpu=load.device == "cpu", seed=load.seed, save_strategy="no", eval_strategy="no", logging_strategy="no",
        report_to="none", disable_tqdm=True,
    )  # fmt: skip


def steps_told(watch: Stopwatch, batch: int) -> Any:
    """The peer's callback that tells a stopwatch of its steps, each of which has a whole batch."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        def on_step_begin(self, *args: Any, **named: Any) -> None:
            watch.rows += batch
            watch.begin()

        def on_step_end(self, *args: Any, **named: Any) -> None:
            watch.end()

    return Steps()
