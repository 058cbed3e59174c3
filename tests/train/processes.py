"""Processes of one test that train together over gloo, each on one thread.

Notable: a process that is done leaves at once, without finalising its interpreter. A thread of gloo may still be
dropping the last tensors that were reduced, for which it wants the interpreter's lock; where that is being finalised,
CPython ends the thread there and then, and C++ aborts the whole process (about one run in fifty on a busy machine).
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from tests.forked import start_server


def start(function: Callable[[int, str], None], count: int, place: str | Path) -> None:
    """`function(rank, place)` in `count` processes, forked from the server of `tests.forked`; returns when all are
    done. Raises where one of them fails."""
    start_server()
    multiprocessing.start_processes(function, (str(place),), nprocs=count, start_method="forkserver")


@contextmanager
def one_of(count: int, rank: int, place: str | Path) -> Iterator[None]:
    """This process as one of `count`, which meet in a file in the folder `place`; at the end it exits with status 0."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    meet, most = f"file://{place}/meet", timedelta(seconds=60)
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=count, timeout=most)
    yield
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)


def driven(script: str, words: list[str]) -> None:
    """A script as if it were this process's: Lightning starts it for the second one as it finds it here."""
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")
