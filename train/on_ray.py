"""A training run on several workers of Ray: the same function in each, under Ray Train, and what comes of it here.

Notable: a worker does what a process under torchrun does. It reads the same tables and options, meets the others in
one process group, and the first of them writes checkpoints and the run; only who starts the processes differs, so
weights are those of as many processes that Lightning starts. Checkpoints are this project's own, beside the output, in
a place that all workers see: where a worker dies, all begin again from the last one, as the same command would. What a
worker finds wrong comes back as the error that it is, and an interrupt goes the other way: the step at hand is
finished and saved first.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning

from train.cli import ClusterOptions, cluster_options
from train.interrupted import SaveOften, ended_by, work_of
from train.ray_board import Asked, Board, in_worker
from train.run import Finished, run_training
from twotower.engines import died, ray_of
from twotower.errors import ConfigError, Interrupted, OutputError, TwoTowerError
from twotower.progress import bar

LOOK_SECONDS = 0.5  # between two looks at the board


class Watch(lightning.Callback):
    """In the first worker: counts steps, and passes on a signal as if it had come here."""

    def __init__(self, board: Any, ray: Any) -> None:
        self._board, self._ray = board, ray
        self._done, self._total = 0, 0
        self._save: SaveOften | None = None
        self._over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Steps begin, which end by themselves when a signal came."""
        self._total, self._done = int(trainer.estimated_stepping_batches), trainer.global_step
        found = (c for c in trainer.callbacks if isinstance(c, SaveOften))  # type: ignore[attr-defined]
        self._save = next(found)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """One more."""
        self._done = trainer.global_step

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Steps are over; what follows just ends."""
        self._save = None

    def close(self) -> None:
        """Look no more."""
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            signum = self._ray.get(self._board.look.remote(self._done, self._total))
            if signum and self._save is not None:
                self._save.notes.received = signum
            elif signum:
                os._exit(128 + signum)  # the others are ended with it


def train_on_ray(
    folder: Path,
    output: Path,
    until: str | None = None,
    configs: Sequence[Path] = (),
    options: Sequence[str] = (),
    address: str | None = None,
    progress: Callable[[int], None] = lambda steps: None,
) -> Finished:
    """`train.run.run_training` on workers of Ray, as many and as large as `cluster.*` of the configuration says.

    folder, output, configs and what options name must be seen by all workers at these places. address: as of
    `engines.Engine`; progress: told, now and then, how many steps are done. Raises what `run_training` raises,
    ClusterError where workers die more than `cluster.retries` times, ConfigError where the cluster has no room for
    them.
    """
    if output.exists():
        raise OutputError(f"{output}: exists already; choose another --output or remove it")
    work = work_of(output)
    wanted = cluster_options(configs, folder, until, work, options)
    ray = ray_of(address)
    refuse_too_much(wanted, ray.cluster_resources())
    board = _board(ray)
    asked = Asked(folder.absolute(), output.absolute(), until, tuple(p.absolute() for p in configs), tuple(options))
    try:
        for left in range(wanted.retries, -1, -1):
            failed = _fit(ray, board, asked, wanted, progress)
            told = ray.get(board.read.remote())
            if told["facts"] is not None:  # the output is there, whatever came while workers were taken down
                return Finished(output, told["facts"], told["resumed"])
            if told["error"] is not None:
                raise told["error"]
            if told["interrupted"] is not None:
                raise Interrupted(*told["interrupted"])
            if told["stop"]:
                raise ended_by(told["stop"], work)
            if failed is None:
                raise AssertionError("workers ended well and told nothing")
            if not left:
                raise died(failed) if isinstance(failed, Exception) else failed
    finally:
        ray.kill(board)
    raise AssertionError  # the last try returns or raises


def _board(ray: Any) -> Any:
    """On this process's own node: another may go, and the run with it, whatever `cluster.retries` says."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()


def refuse_too_much(wanted: ClusterOptions, there: dict[str, float]) -> None:
    """Raises ConfigError where a cluster has no room for the workers, for whom Ray would wait for ever."""
    for resource, name, each in (("CPU", "cpus", wanted.cpus), ("GPU", "gpus", wanted.gpus)):
        has = there.get(resource, 0.0)
        if each * wanted.workers > has:
            raise ConfigError(
                f"cluster.workers {wanted.workers} with cluster.{name} {each:g} each: the cluster has {has:g}; ask for "
                "less, or add nodes"
            )


def _fit(
    ray: Any, board: Any, asked: Asked, wanted: ClusterOptions, progress: Callable[[int], None]
) -> BaseException | None:
    """One try: what ended it, None where it is finished. A signal is passed on to the workers, and waited for."""
    found: list[BaseException | None] = []
    # Not in the main thread: there Ray Train takes SIGINT to itself and ends with status 0.
    over = threading.Event()  # not `join`: one that is interrupted takes the thread for ended, as of Python 3.11

    def run() -> None:
        found.append(_run(board, asked, wanted))
        over.set()

    threading.Thread(target=run, daemon=True).start()
    with bar("training", unit="step") as advance:
        shown = 0
        while not over.is_set():
            try:
                over.wait(LOOK_SECONDS)
                done = ray.get(board.read.remote())["done"]
                advance(done - shown)
                progress(done)
                shown = done
            except KeyboardInterrupt:
                _stop(ray, board, signal.SIGINT)
            except SystemExit as stopped:
                if stopped.code != 128 + signal.SIGTERM:
                    raise
                _stop(ray, board, signal.SIGTERM)
    return found[0]


def _stop(ray: Any, board: Any, signum: int) -> None:
    """Pass a signal on; of two interrupts the second ends at once."""
    if ray.get(board.read.remote())["stop"] and signum == signal.SIGINT:
        raise KeyboardInterrupt
    ray.get(board.tell.remote(stop=int(signum)))


def _run(board: Any, asked: Asked, wanted: ClusterOptions) -> BaseException | None:
    import logging

    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    logging.getLogger("ray").setLevel(logging.ERROR)
    resources = {"CPU": wanted.cpus, **({"GPU": wanted.gpus} if wanted.gpus else {})}
    scale = ScalingConfig(num_workers=wanted.workers, use_gpu=wanted.gpus > 0, resources_per_worker=resources)
    place = asked.output.with_name(f".{asked.output.name}.ray")
    name = f"run-{time.time_ns()}"  # of a new run: nothing of an earlier one is read
    try:
        TorchTrainer(
            in_worker, train_loop_config={"board": board, "asked": asked}, scaling_config=scale,
            run_config=RunConfig(name=name, storage_path=str(place)),
        ).fit()  # fmt: skip
    except BaseException as error:  # of a thread: whatever it is, it is told where the run was asked for
        return error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return None


def run_here(board: Any, asked: Asked) -> None:
    """What each worker runs, in a process of its own that has met the others."""
    import ray
    from ray.train import get_context
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    if Path(asked.at).is_dir():
        os.chdir(asked.at)
    watch = Watch(board, ray) if get_context().get_world_rank() == 0 else None
    placed = {
        "strategy": RayDDPStrategy(), "devices": "auto", "num_nodes": 1, "plugins": [RayLightningEnvironment()]
    }  # fmt: skip
    try:
        done = run_training(
            asked.folder, asked.output, asked.until, asked.configs, asked.options, [watch] if watch else [], placed
        )
        if done is not None:
            ray.get(board.tell.remote(facts=done.facts, resumed=done.resumed))
    except (ConnectionError, TimeoutError):  # as where another worker is gone: all begin again
        raise
    except (TwoTowerError, OSError) as error:  # the latter: a disk that is full, above all
        ray.get(board.tell.remote(error=error))
        raise
    except Interrupted as stopped:
        ray.get(board.tell.remote(interrupted=(stopped.signum, stopped.message)))
    finally:
        if watch is not None:
            watch.close()
