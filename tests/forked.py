"""Processes of their own that need not import what trains or serves again.

Notable: `import lightning` takes some fifteen seconds of a processor, and a run in a process of its own pays them
before its first line, a run in two processes twice; what serves takes three. Here a child is forked from a server of
the standard library's ("forkserver") that has imported it once, and that runs nothing else, so no thread or lock is
torn. It is a real process: a number, signals, an exit status, its own standard output and error. What a fresh
interpreter is needed for (what is imported at all; how an interpreter ends) is tested with `subprocess`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

ROOT = Path(__file__).parents[1]
IMPORTED = ["pandas", "pytest", "train.run", "train.profile", "serve.http.run", "serve.http.app", "serve.http.running"]
"""What the server has imported: nothing of the tests."""
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(IMPORTED)


@dataclass(frozen=True)
class Done:
    """A process that has ended: its exit status (−n where signal n ended it) and what it wrote."""

    status: int
    out: str
    err: str


class Process:
    """A process that the server forks, with what tests ask of `subprocess.Popen`: `function(*given)` in this process's
    environment, whatever it prints at the end of the file `said`. What it returns is the exit status."""

    def __init__(self, function: Callable[..., Any], *given: Any, said: Path) -> None:
        start_server()
        told = (function, given, dict(os.environ), str(said), str(said))
        # A daemon is ended with this process, whatever a test that failed has left.
        self._process = CONTEXT.Process(target=_run, args=told, daemon=True)
        self._process.start()
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        """Its exit status (−n where signal n ended it); None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status once it has ended. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired([self._process.name], timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def call(function: Callable[..., Any], *given: Any, timeout: float = 180, **environment: str) -> Done:
    """A function, which must have a name in its module, in a process of its own: what it returns is the exit status."""
    return _ended([_started(function, given, environment)], timeout)[0]


def ranks(count: int, function: Callable[..., Any], *given: Any, timeout: float = 180) -> list[Done]:
    """The same in `count` processes that train together, each with the environment that torchrun gives it.

    As with torchrun, the store in which they meet is held by who starts them.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "forked",
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip
    places = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return _ended([_started(function, given, place) for place in places], timeout)


def start_server() -> None:
    """Have the server import what it imports now, from the root of the project, wherever a test has gone since."""
    from multiprocessing import forkserver

    with contextlib.chdir(ROOT):
        forkserver.ensure_running()


def _started(
    function: Callable[..., Any], given: Sequence[Any], environment: Mapping[str, str]
) -> tuple[BaseProcess, Path]:
    start_server()
    said = Path(tempfile.mkdtemp(prefix="forked-"))
    told = (function, given, {**os.environ, **environment}, str(said / "out"), str(said / "err"))
    process = CONTEXT.Process(target=_run, args=told)
    process.start()
    return process, said


def _run(function: Callable[..., Any], given: Sequence[Any], environment: Mapping[str, str], *said: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(said, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.exit(function(*given))


def _ended(processes: Sequence[tuple[BaseProcess, Path]], timeout: float) -> list[Done]:
    """What processes came to; whoever is not done `timeout` seconds later is killed."""
    found = []
    for process, said in processes:
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        out, err = ((said / name).read_text(encoding="utf-8") for name in ("out", "err"))
        found.append(Done(int(process.exitcode or 0), out, err))
        shutil.rmtree(said)
    return found
