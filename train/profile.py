"""`twotower train --profile`: where the time of a training step goes, beside what the device can do at most.

Of a run's first steps some warm up, one is counted (`train.costs`), some are timed with nothing listening, and a few
are traced by `torch.profiler`. A run of fewer steps gives each its share (`plan`). Where the posterior is sampled there
are no steps: sweeps are profiled instead, each over all hand-overs. When the run is written, the device's ceilings are
measured in the same process (`train.ceilings`), and the folder `RUN.profile` appears beside the run: `trace.json` for
Perfetto or chrome://tracing, `profile.json`, and `profile.txt`, the table that is printed. Of several processes the
first one is profiled.

Notable: the run is the same to the last bit with and without a profile. Steps are marked at Lightning's own seams (its
profiler's actions), text and towers by wrapping their methods while training lasts; a device is waited for where the
timed and the traced steps begin and end, and nowhere else.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler, Profiler
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from train.ceilings import measure_ceilings, settled
from train.costs import Costs, Counting
from train.profile_report import Measured, facts_of, table_of
from train.profile_trace import read_parts
from train.ranges import BACKWARD, DATA, OPTIMISER, STEP, STEP_PARTS, SWEEP_PARTS, TEXT, TOWERS, TRANSFER, span
from twotower.errors import ConfigError, OutputError
from twotower.files import atomic_directory
from twotower.towers.two_tower import TwoTower

NEXT = "train_dataloader_next"
ACTIONS = {NEXT: DATA, "batch_to_device": TRANSFER, "backward": BACKWARD, "optimizer_step": OPTIMISER}
"""Lightning's actions, by the end of their names, and the parts that they are; a closure's own parts lie inside."""
BOUNDLESS = 1 << 30  # steps of a loader that does not tell its length


class Plan(NamedTuple):
    """How many of the first steps warm up, are counted, settle, are timed, start the tracer, are traced: one after the
    other."""

    warm_up: int
    counted: int
    settle: int
    timed: int
    starting: int
    traced: int

    def phase(self, step: int) -> str | None:
        """What step number `step` is for; None after the last of them."""
        for name, count in self._asdict().items():
            if step < count:
                return str(name)
            step -= count
        return None


FULL = Plan(warm_up=5, counted=1, settle=2, timed=20, starting=1, traced=5)


def plan(steps: int, first: int = 0) -> Plan:
    """The plan of a run of so many steps: the full one, after `first` more, where there is room, else a share of it.

    A single step is traced; of two, one is counted and one traced.
    """
    if steps >= sum(FULL) + first:
        return FULL._replace(warm_up=FULL.warm_up + first)
    if steps < 4:
        return Plan(0, int(steps > 1), 0, int(steps > 2), 0, 1)
    share = (steps - 2) / (sum(FULL) - 2)
    return Plan(
        int(FULL.warm_up * share), 1, int(FULL.settle * share), max(1, int(FULL.timed * share)), 1,
        max(1, int(FULL.traced * share)),
    )  # fmt: skip


class StepProfile(Callback):
    """Profiles the run that it is a callback of; `write` then makes the folder.

    Raises OutputError where the folder is there already, ConfigError, when training starts, where the trainer has a
    profiler of its own.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists():
            raise OutputError(f"{folder}: exists already; remove it or choose another --output")
        self.folder = folder
        self.steps, self.plan, self.sweeps = 0, plan(BOUNDLESS), False
        self.rows: Counter[str] = Counter()  # contacts by phase
        self.done: Counter[str] = Counter()  # steps by phase
        self.seconds = {"timed": 0.0, "traced": 0.0}
        self.costs: Costs | None = None
        self.trace: dict[str, Any] | None = None
        self.device, self.precision, self.processes = torch.device("cpu"), "", 1
        self._marks: Marks | None = None
        self._wrapped: list[tuple[Any, str]] = []
        self._open: record_function | None = None
        self._counting: Counting | None = None
        self._tracer: profile | None = None
        self._since: float | None = None
        self._batch = False
        self._sweep_rows = 0

    def setup(self, trainer: Any, pl_module: lightning.LightningModule, stage: str) -> None:
        """Take the place of Lightning's profiler, in the first process alone."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        if not isinstance(trainer.profiler, PassThroughProfiler):
            raise ConfigError("--profile and --trainer.profiler: one of them; leave out the other")
        self._marks = Marks(self)
        trainer.profiler = self._marks

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Plan, and wrap the towers."""
        if self._marks is None:
            return
        self.device, self.precision = pl_module.device, str(trainer.precision)
        self.processes = trainer.world_size
        sampler = pl_module.sampler
        self.sweeps = sampler is not None
        # The first sweeps take means, which are less work than draws.
        self.plan = plan(steps_left(trainer), sampler.ascent if sampler is not None else 0)
        self._sweep_rows = len(sampler.design.csa) if sampler is not None else 0
        if sampler is None:
            self._wrap(pl_module.towers)

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A step that was opened has something to do."""
        self._batch = True
        self._count_rows(self._sweep_rows)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """What follows is no part of a step."""
        self.close(goes_on=False)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """The same, where no validation ran."""
        self.close(goes_on=False)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Leave module and trainer as they were."""
        self._leave(trainer)

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """The same."""
        self._leave(trainer)

    def _leave(self, trainer: Any) -> None:
        self.close(goes_on=False)
        if self._tracer is not None:
            self._tracer.stop()
            self._tracer = None
        for owner, name in self._wrapped:
            delattr(owner, name)
        self._wrapped.clear()
        if self._marks is not None:
            trainer.profiler = PassThroughProfiler()
            self._marks = None

    def _wrap(self, towers: TwoTower) -> None:
        """Mark text and towers, and count the contacts that the contact tower reads."""
        contact, csa = towers.contact_tower, towers.csa_tower
        for text in (contact.backbone, contact.reader, contact.topics):
            self._replace(text, "forward", TEXT)
            self._replace(text, "encode", TEXT)
        self._replace(contact, "outputs", TOWERS)
        self._replace(contact, "head", TOWERS, lambda out: self._count_rows(len(out.level)))
        self._replace(csa, "members", TOWERS)

    def _replace(self, owner: Any, name: str, part: str, seen: Callable[[Any], None] | None = None) -> None:
        whole = getattr(owner, name, None)
        if whole is None:
            return

        def marked(*args: Any, **named: Any) -> Any:
            if self._marks is not None and self._marks.backward:
                return whole(*args, **named)  # what is computed again belongs to the backward pass
            with span(part):
                out = whole(*args, **named)
            if seen is not None:
                seen(out)
            return out

        setattr(owner, name, marked)
        self._wrapped.append((owner, name))

    def _count_rows(self, rows: int) -> None:
        phase = self.plan.phase(self.steps)
        if self._open is not None and phase is not None:
            self.rows[phase] += rows

    @property
    def inside(self) -> bool:
        """Whether a step is open."""
        return self._open is not None

    def next_step(self) -> None:
        """A step begins, as its data are waited for; the one before ends here."""
        self.close(goes_on=True)
        phase = self.plan.phase(self.steps)
        if phase is None:
            return
        if phase == "counted":
            self._counting = Counting().__enter__()
        if phase in ("starting", "traced") and self._tracer is None:
            self._start_tracer()
        if phase in ("timed", "traced") and self._since is None:
            settled(self.device)
            self._since = time.perf_counter()
        self._batch = False
        self._open = span(STEP)
        self._open.__enter__()  # type: ignore[no-untyped-call]

    def close(self, goes_on: bool) -> None:
        """The open step ends, if there is one. goes_on: the next one begins at once."""
        if self._open is None:
            return
        phase = str(self.plan.phase(self.steps))
        after = self.plan.phase(self.steps + 1) if self._batch else phase
        last = not goes_on or after != phase
        if last and phase in ("timed", "traced"):
            settled(self.device)
        self._open.__exit__(None, None, None)
        self._open = None
        if last and self._since is not None:
            self.seconds[phase] += time.perf_counter() - self._since
            self._since = None
        if self._counting is not None:
            self._counting.__exit__(None, None, None)
            self.costs, self._counting = self._counting.costs, None
        if not self._batch:
            return
        self.done[phase] += 1
        self.steps += 1
        if self._tracer is not None and phase in ("starting", "traced"):
            self._tracer.step()
            if after is None:
                self._tracer.stop()
                self._tracer = None

    def _start_tracer(self) -> None:
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a run too short for the tracer to warm up
            steps = schedule(wait=0, warmup=self.plan.starting, active=self.plan.traced, repeat=1)
            self._tracer = profile(activities=activities, schedule=steps, on_trace_ready=self._keep)
            self._tracer.start()

    def _keep(self, tracer: profile) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            tracer.export_chrome_trace(str(path))
            self.trace = json.loads(path.read_text(encoding="utf-8"))

    def write(self) -> dict[str, Any]:
        """Measure the ceilings, write the folder; what profile.json says. The run must be over."""
        parts = SWEEP_PARTS if self.sweeps else STEP_PARTS
        measured = Measured(
            kind="sweep" if self.sweeps else "step", labels=parts, plan=self.plan._asdict(), done=dict(self.done),
            rows=dict(self.rows), seconds=dict(self.seconds), costs=self.costs,
            parts=None if self.trace is None else read_parts(self.trace, parts), precision=self.precision,
            processes=self.processes,
        )  # fmt: skip
        facts = facts_of(measured, measure_ceilings(self.device))
        with atomic_directory(self.folder) as folder:
            if self.trace is not None:
                self.trace.pop("traceName", None)  # the place of a file that is gone
                (folder / "trace.json").write_text(json.dumps(self.trace), encoding="utf-8")
            (folder / "profile.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            (folder / "profile.txt").write_text(table_of(facts) + "\n", encoding="utf-8")
        return facts


class Marks(Profiler):
    """Lightning's profiler: marks the parts that its loops name."""

    def __init__(self, owner: StepProfile) -> None:
        super().__init__()
        self.owner = owner
        self.open: dict[str, record_function] = {}

    @property
    def backward(self) -> bool:
        """Whether the backward pass is on its way, on whichever thread."""
        return any(name.endswith(f".{BACKWARD}") for name in self.open)

    def start(self, action_name: str) -> None:
        """An action begins; waiting for data begins a step."""
        part = ACTIONS.get(action_name.rpartition(".")[2])
        if part == DATA:
            self.owner.next_step()
        if part is not None and self.owner.inside:
            self.open[action_name] = span(part)
            self.open[action_name].__enter__()  # type: ignore[no-untyped-call]

    def stop(self, action_name: str) -> None:
        """An action ends."""
        marked = self.open.pop(action_name, None)
        if marked is not None:
            marked.__exit__(None, None, None)


def steps_left(trainer: Any) -> int:
    """Steps that a run has before it at most; epochs may differ by a few."""
    each, epochs = trainer.num_training_batches, trainer.max_epochs
    if each == float("inf") or not epochs or epochs < 0:
        steps = BOUNDLESS
    else:
        loop = trainer.fit_loop.epoch_loop
        done = int(loop.batch_progress.current.processed) % max(1, int(each)) if loop.restarting else 0
        steps = int(each) * max(1, epochs - trainer.current_epoch) - done
    if trainer.max_steps > 0:
        steps = min(steps, (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
    return max(1, steps)
