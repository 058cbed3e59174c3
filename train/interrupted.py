"""What a run does when it is stopped, and how little of it is lost: checkpoints inside an epoch, signals, what is said.

Notable: a signal only leaves a note. The step at hand is finished, a checkpoint is written, and the run ends with one
line and the status that a shell gives the signal: 143 for SIGTERM, as spot machines and schedulers send it, 130 for
SIGINT. Where Lightning finds SLURM, the signal with which it wants a job back (SIGUSR1, `#SBATCH --signal=USR1@120`) is
taken like these, and the job is queued again once it is saved; Lightning's own handler would write its checkpoint in
the middle of a step. Several processes agree on the step by a reduction every second, or every `AGREE_STEPS` steps,
which is the only time they wait for the device; Lightning's own word about signals, a broadcast in every step, is
turned off. Outside of the steps (reading tables, fitting the join) a run just ends; its last checkpoint stays.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import lightning
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_only

from twotower.errors import ConfigError, Interrupted, TrainingError

P = ParamSpec("P")
R = TypeVar("R")
LAST = "last.ckpt"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGREE_SECONDS, AGREE_STEPS = 1.0, 50  # between two reductions, at most; the first is after one step
CHILD_SECONDS = 10.0  # that processes have to end
CONTINUE = "the same command continues the run"


class Notes:
    """Takes SIGTERM and SIGINT as notes while it is `held`; a second SIGINT is an interrupt at once."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def hold(self, *more: int) -> None:
        """Take signals from now on, `more` too, but those that this process ignores, as what `nohup` starts does
        SIGINT."""
        if threading.current_thread() is threading.main_thread():  # which alone may
            heard = [signum for signum in (*SIGNALS, *more) if signal.getsignal(signum) is not signal.SIG_IGN]
            self._before = {signum: signal.signal(signum, self._note) for signum in heard}

    def release(self) -> None:
        """Give signals back to who had them."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signum


def deaf(worker: int) -> None:
    """Loaders' workers ignore what schedulers send to every process: the run needs them until its step is done."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


class SaveOften(lightning.Callback):
    """Writes `last.ckpt` inside epochs too, so that a run that is killed loses minutes.

    A checkpoint reads and changes nothing of what training computes, so when it is written does not matter to the
    result. Its place is the trainer's root folder.

    Args:
        minutes: between two checkpoints; 0: only at the ends of epochs, and when a signal comes.
        steps: write one every so many steps of an epoch as well; null: none.
    """

    def __init__(self, minutes: float = 10.0, steps: int | None = None) -> None:
        if minutes < 0 or (steps is not None and steps <= 0):
            raise ConfigError(f"saving.minutes {minutes}, saving.steps {steps}: must not be negative, steps positive")
        self.minutes, self.steps, self.notes = minutes, steps, Notes()
        self.measured: dict[str, float] = {}
        """Validation's metrics when the checkpoint was written from which the run went on."""
        self._saved_at = self._agreed_at = time.monotonic()
        self._wait, self._since = 1, 0  # steps between two agreements, and since the last one

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Have the loader made again that counted the steps: it did not know yet where in an epoch the run goes on."""
        if trainer.ckpt_path:
            trainer.fit_loop._combined_loader = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Take signals; Lightning's own handler, which would reduce inside a signal, is in force by now."""
        self._saved_at = self._agreed_at = time.monotonic()
        self.notes.hold(*requeue_signals(trainer))
        if trainer.world_size > 1:
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint where it is time to, end where a signal came. Raises Interrupted, on all processes."""
        done = batch_idx + 1
        # A checkpoint holds no gradients that are still being summed. Who goes on after a step that is validated does
        # not validate it: at the end of an epoch the checkpoint comes after that, inside of one with the next step.
        validated = trainer.val_check_batch is not None and done % trainer.val_check_batch == 0
        if done % trainer.accumulate_grad_batches or validated or done >= trainer.num_training_batches:
            return
        asked, due = self._agreed(trainer)
        if asked or due or (self.steps is not None and done % self.steps == 0):
            trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST)
            self._saved_at = time.monotonic()
        if asked:
            where = f"after step {batch_idx} of epoch {trainer.current_epoch} (from 0), which is saved"
            raise saved(trainer, asked, where)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """End where a signal came while the epoch before ended, which is saved. Raises Interrupted."""
        self._saved_at = time.monotonic()
        self._end_if_asked(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """The same after the last epoch; signals end the process at once from here on."""
        self.notes.release()
        self._end_if_asked(trainer)

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Give signals back."""
        self.notes.release()

    def on_save_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep what was measured: a run that is continued after its last epoch measures no more."""
        checkpoint["measured"] = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_load_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Take up what was measured."""
        self.measured = checkpoint["measured"]

    def _end_if_asked(self, trainer: lightning.Trainer) -> None:
        asked, _ = self._agreed(trainer, now=True)
        if asked:
            raise saved(trainer, asked, "after an epoch, which is saved")

    def _agreed(self, trainer: lightning.Trainer, now: bool = False) -> tuple[int, bool]:
        """The signal that came, 0 for none, and whether the clock says to save: the same on all processes.

        now: ask all of them even where it is not yet time to.
        """
        clock = time.monotonic()
        due = bool(self.minutes) and clock - self._saved_at >= 60 * self.minutes
        if trainer.world_size == 1:
            return self.notes.received, due
        self._since += 1
        if self._since < self._wait and not now:
            return 0, False
        pace = (clock - self._agreed_at) / self._since
        mine = torch.tensor([self.notes.received, due, pace], dtype=torch.float32, device=trainer.strategy.root_device)
        received, due, pace = trainer.strategy.reduce(mine, reduce_op="max").tolist()
        self._wait = int(min(max(AGREE_SECONDS / max(pace, 1e-9), 1), AGREE_STEPS))
        self._since, self._agreed_at = 0, time.monotonic()
        return int(received), bool(due)


def requeue_signals(trainer: Any) -> tuple[int, ...]:
    """The signals, none or one, at which Lightning would queue this job again."""
    environment = trainer._accelerator_connector.cluster_environment
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return ()
    return (int(environment.requeue_signal or signal.SIGUSR1),)


def saved(trainer: lightning.Trainer, signum: int, where: str) -> Interrupted:
    """What ends a run whose last step is saved; where the signal asks for it, the job is queued again first."""
    then = CONTINUE
    if signum in requeue_signals(trainer) and trainer.is_global_zero:
        then = requeued()
    return Interrupted(signum, f"stopped by {signal.Signals(signum).name} {where}: {then}")


def requeued() -> str:
    """Queue this SLURM job again; what there is to say of it."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        failed = done.stderr.strip() or f"status {done.returncode}" if done.returncode else None
    except OSError as error:
        failed = error.strerror
    return f"{CONTINUE}; scontrol requeue {job} failed: {failed}" if failed else f"job {job} is queued again"


def work_of(output: Path) -> Path:
    """Where the checkpoints of the run that will be `output` are kept."""
    return output.absolute().with_name(f".{output.name}.training")


def stoppable(run: Callable[P, R]) -> Callable[P, R]:
    """A function with an argument `output` that says in one line that a signal ended it: it raises Interrupted."""
    arguments = signature(run)

    @wraps(run)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        work = work_of(arguments.bind(*args, **kwargs).arguments["output"])
        try:
            return run(*args, **kwargs)
        except KeyboardInterrupt:
            ended = ended_by(signal.SIGINT, work)
        except SystemExit as stopped:
            if isinstance(stopped, Interrupted) or stopped.code != 128 + signal.SIGTERM:
                raise
            ended = ended_by(signal.SIGTERM, work)
        # Of several processes the first says it.
        raise ended if not getattr(rank_zero_only, "rank", 0) else SystemExit(ended.status)

    return told


def ended_by(signum: int, work: Path) -> Interrupted:
    """What ends a run outside of its steps."""
    name = signal.Signals(signum).name
    if not (work / LAST).is_file():
        return Interrupted(signum, f"stopped by {name} before the first checkpoint: the same command starts anew")
    return Interrupted(signum, f"stopped by {name} between steps; the last checkpoint stays: {CONTINUE}")


def fit(trainer: lightning.Trainer, module: lightning.LightningModule, data: Any, last: Path | None) -> bool:
    """`trainer.fit` from the checkpoint `last`, or from the beginning.

    Returns whether this process goes on: of several the first, which also says what ended them all. Raises
    KeyboardInterrupt where Lightning ends the process for one, Interrupted, and what training raises.
    """
    notes = next(c for c in trainer.callbacks if isinstance(c, SaveOften)).notes  # type: ignore[attr-defined]
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    except (Interrupted, TrainingError):
        if trainer.is_global_zero:
            raise
    except BaseException as error:
        end_children(trainer)
        if isinstance(error, SystemExit) and error.code == 1:  # how Lightning ends on an interrupt
            raise KeyboardInterrupt from None
        if notes.received and isinstance(error, RuntimeError):
            # A signal to a whole group of processes ends loaders too, and who waits for them.
            raise ended_by(notes.received, Path(trainer.default_root_dir)) from None
        raise
    return bool(trainer.is_global_zero)


def end_children(trainer: lightning.Trainer) -> None:
    """Processes that Lightning started wait for this one, which ends: end them with it, as the last thing it does.

    Not now: an observer kills this process where one of them ends before it.
    """
    atexit.register(end, list(getattr(trainer.strategy.launcher, "procs", [])))


def end(children: Sequence[subprocess.Popen[Any]]) -> None:
    """End processes: they may wait for this one inside a collective, where none hears a signal that it handles."""
    for child in children:
        child.terminate()
    until = time.monotonic() + CHILD_SECONDS
    for child in children:
        try:
            child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
