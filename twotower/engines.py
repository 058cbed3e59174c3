"""Where work runs: in this process, in processes of this machine, or as tasks of Ray; the same function each time.

Notable: what comes out does not depend on the engine, because the function, its arguments and the order of results do
not. What all tasks share goes into Ray's object store once, and only as many tasks are under way as there are places
for, so neither the items nor the results need fit into memory together. A task whose worker dies is run again; where
that does not help, one line says so. Whatever ends the loop, an interrupt above all, ends the tasks too. What Ray sends
between processes is pickled in memory, by Ray; nothing here reads a pickle from a disk.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from twotower.errors import ClusterError, ConfigError, MissingExtraError, TwoTowerError

T = TypeVar("T")
R = TypeVar("R")
ENGINES = ("local", "ray")
AHEAD = 2  # tasks under way for each processor: one that is done waits for nobody
RETRIES = 3  # of a task whose worker died
_WORK: list[Callable[[Any], Any]] = []  # of a process of the pool
_HELD: dict[str, Callable[[Any], Any]] = {}  # of a worker of Ray: the latest, by the name of its object


@dataclass(frozen=True)
class Engine:
    """One of ENGINES.

    processes: how many tasks run at once; None: one here, on Ray as many as the cluster has processors. address: of a
    cluster of Ray; None: `RAY_ADDRESS`, and without it one of this machine's processors, started when needed.
    """

    name: str = "local"
    processes: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise ConfigError(f"--engine {self.name}: there are {' and '.join(ENGINES)}")
        if self.processes is not None and self.processes < 1:
            raise ConfigError(f"--processes {self.processes}: 1 or more expected")
        if self.address is not None and self.name != "ray":
            raise ConfigError(f"--ray-address {self.address}: belongs to --engine ray")

    @property
    def places(self) -> int:
        """How many tasks run at once. Starts Ray, or joins it."""
        if self.processes is not None or self.name == "local":
            return self.processes or 1
        return max(1, int(ray_of(self.address).cluster_resources().get("CPU", 1)))

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """`work` of every item, in the order of the items, which are asked for as places become free.

        work: a function by name, or a `partial` of one; where it runs elsewhere, its package must be installed there.
        Arrays of an item may be read-only there.
        Raises what `work` raises, ClusterError where workers die, MissingExtraError without Ray.
        """
        if self.name == "ray":
            return self._on_ray(work, items)
        return map(work, items) if self.places == 1 else self._in_processes(work, items)

    @contextmanager
    def mapping(self) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
        """`map` for many calls with items of seconds: processes of this machine are started once for all of them."""
        if self.name == "ray" or self.places == 1:
            yield self.map
            return
        with _died_here(), ProcessPoolExecutor(self.places, get_context("spawn")) as pool:
            yield pool.map

    def _in_processes(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        # Spawned, not forked: a process with threads of numerical libraries must not be copied in the middle of theirs.
        # The work goes to each process once: what it holds may be large.
        with _died_here(), ProcessPoolExecutor(self.places, get_context("spawn"), _keep, (work,)) as pool:
            yield from _in_order(
                lambda item: pool.submit(_kept, item), items, AHEAD * self.places, lambda future: future.result()
            )

    def _on_ray(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        ray = ray_of(self.address)
        # As bytes: arrays that Ray unpacks itself are read-only, for which numba would compile its loops once more.
        held = ray.put(ray.cloudpickle.dumps(work))
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_applied)
        under_way: deque[Any] = deque()

        def submit(item: T) -> Any:
            under_way.append(task.remote(held.hex(), [held], item))
            return under_way[-1]

        def result(reference: Any) -> R:
            found: R = got(ray, reference)
            under_way.popleft()
            return found

        most = self.processes or AHEAD * self.places
        try:
            yield from _in_order(submit, items, most, result)
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)


def add_options(parser: argparse.ArgumentParser, what: str, processes: bool = True) -> None:
    """`--engine`, `--ray-address` and, unless the verb has another word for it, `--processes`."""
    parser.add_argument(
        "--engine", choices=ENGINES, help=f"where {what} run: local (default), or as tasks of Ray, with equal results"
    )
    parser.add_argument(
        "--ray-address", metavar="ADDRESS",
        help="of a cluster of Ray: auto, or HOST:PORT; default: RAY_ADDRESS, else this machine alone",
    )  # fmt: skip
    if processes:
        parser.add_argument("--processes", type=int, metavar="N", help=f"{what} at once (default 1; Ray: as it can)")


OPTIONS = {"engine": False, "ray-address": False}
"""For `cli.check_action`: of an action that takes them."""


def engine_of(args: argparse.Namespace) -> Engine:
    """What the options ask for. Raises ConfigError for what does not fit together."""
    return Engine(args.engine or "local", getattr(args, "processes", None), args.ray_address)


def ray_of(address: str | None = None) -> Any:
    """The module, joined to a cluster: the one that this process has joined already, or that of an address.

    Raises MissingExtraError where Ray is not installed, ConfigError where nobody answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    try:
        import ray
    except ImportError:
        raise MissingExtraError(
            "Ray is not installed: pip install 'twotower-matcher[cluster]', or use --engine local"
        ) from None
    if ray.is_initialized():
        return ray
    address = address or os.environ.get("RAY_ADDRESS") or None
    given: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(**given, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, AssertionError) as error:
        if not address:
            raise ConfigError(f"Ray cannot be started on this machine: {_first(error)}") from None
        if "AuthToken" in str(error.__cause__):
            raise ConfigError(
                f"--ray-address {address}: the cluster asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN "
                "or RAY_AUTH_TOKEN_PATH where it is not in its usual place"
            ) from None
        raise ConfigError(
            f"--ray-address {address}: no cluster of Ray answers there ({_first(error)}); start one with `ray start "
            "--head`, or leave the address out to use this machine"
        ) from None
    return ray


def got(ray: Any, references: Any) -> Any:
    """`ray.get`, with what our own code raised as it was raised, and one line where a worker died.

    Raises ClusterError.
    """
    dead = (
        ray.exceptions.WorkerCrashedError, ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError,
        ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError, ray.exceptions.ObjectLostError,
        ray.exceptions.LocalRayletDiedError,
    )  # fmt: skip
    try:
        return ray.get(references)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TwoTowerError):
            raise error.cause from None
        raise
    except dead as error:
        raise died(error) from None


def died(error: BaseException) -> ClusterError:
    """What to tell whose worker is gone."""
    return ClusterError(
        f"a worker of Ray died ({type(error).__name__}: {_first(error)}), too often to try again; where memory ran "
        "out, fewer --processes, or more memory for each worker, help"
    )


@contextmanager
def _died_here() -> Iterator[None]:
    """One line where a process of this machine is gone. Raises ClusterError."""
    try:
        yield
    except BrokenProcessPool:
        raise ClusterError(
            "a process of this machine died in the middle of its work; where memory ran out, fewer --processes help"
        ) from None


def _in_order(submit: Callable[[T], Any], items: Iterable[T], most: int, result: Callable[[Any], R]) -> Iterator[R]:
    """Results in the order of items of which at most so many are under way."""
    coming, rest = deque[Any](), iter(items)
    coming.extend(map(submit, islice(rest, most)))
    while coming:
        yield result(coming.popleft())
        coming.extend(map(submit, islice(rest, 1)))


def _applied(name: str, held: list[Any], item: Any) -> Any:
    """One task on Ray. held: in a list, so that Ray does not fetch the work for every task, but this process once."""
    if name not in _HELD:
        import ray

        _HELD.clear()
        _HELD[name] = ray.cloudpickle.loads(ray.get(held[0]))
    return _HELD[name](item)


def _keep(work: Callable[[Any], Any]) -> None:
    _WORK.append(work)


def _kept(item: Any) -> Any:
    return _WORK[-1](item)


def _first(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
