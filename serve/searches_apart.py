"""Searches of a large roster are built in a process of their own.

Notable: building is thousands of short array operations, and beside a thread that matches each of them waits for the
interpreter's lock, up to 5 ms every time: minutes for seconds of arithmetic. Another process has a lock, and mostly a
core, of its own. What it builds from and what it built pass through files that it maps. Where no process can be
started, as in a router with an interpreter inside, this one builds.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serve.searches import Asked, Built, Late, Material, Searches, build
from serve.snapshot import Snapshot
from twotower.errors import TwoTowerError
from twotower.index.build import read_index, write_index
from twotower.index.history import StaleVectors
from twotower.index.standins import NAME as STANDINS
from twotower.index.standins import read_standins, write_standins
from twotower.index.vectors import IndexChoice
from twotower.scoring.join import Join
from twotower.scoring.rows import HistoryRows

_log = logging.getLogger("serve")
APART = 50_000  # remembered hand-overs from which on a process is worth its start
NICE = 10  # so that it takes no time from who matches
FACTS, BUILT, JOIN = "facts.json", "built.json", "calibration.json"
PROFILES, HISTORY = "profiles.faiss", "history.faiss"
Choices = tuple[IndexChoice, IndexChoice]
_running: set[_Job] = set()
_lock = threading.Lock()


class Stopped(TwoTowerError):
    """Searches are not being built any more."""


@dataclass(eq=False)
class _Job:
    """Searches that are being built; the process that does so once it was started."""

    process: subprocess.Popen[bytes] | None = None
    ended: bool = False


def build_searches(join: Join, made_of: Material, asked: Sequence[Late], before: Snapshot) -> Searches:
    """What nominates, of material; arguments as in `searches.build`, asked: one pair a contact. Raises Stopped after
    `stop`."""
    contacts = _stacked(made_of, asked)
    choices = before.profiles.choice, before.history.index.choice
    if len(made_of.rows) >= APART:
        try:
            return Searches.of(_apart(join, made_of, contacts, choices), made_of)
        except (OSError, subprocess.SubprocessError) as error:
            _log.warning("searches are built in this process, no other could be started (%s)", error)
    return Searches.of(build(join, made_of, contacts, choices), made_of)


def stop() -> None:
    """End what is being built: for the end of a process that must not wait for it."""
    with _lock:
        for job in _running:
            job.ended = True
            if job.process is not None:
                job.process.kill()


def _stacked(made_of: Material, asked: Sequence[Late]) -> Asked:
    if not asked:
        return made_of.vectors[:0], np.empty((0, made_of.rows.width), np.float32)
    profile, memory = (np.stack(part) for part in zip(*asked, strict=True))
    return profile, memory


def _apart(join: Join, made_of: Material, asked: Asked, choices: Choices) -> Built:
    with tempfile.TemporaryDirectory(prefix="twotower-searches-") as name, _job() as job:
        folder = Path(name)
        _write(folder, join, made_of, asked, choices)
        _run(job, [sys.executable, "-m", "serve.searches_apart", name])
        profiles, history = _choices(folder / BUILT)
        standins = read_standins(folder / STANDINS, len(made_of.vectors))
        stale = StaleVectors(made_of.rows, made_of.indexed_at, made_of.rate)
        return Built(
            read_index(folder / PROFILES, made_of.vectors, profiles),
            read_index(folder / HISTORY, stale, history),
            {rank: standins[rank] for rank in join.ranks if rank in standins},
        )


def _write(folder: Path, join: Join, made_of: Material, asked: Asked, choices: Choices) -> None:
    """What `main` reads."""
    rows = {name: getattr(made_of.rows, name) for name in HistoryRows.__dataclass_fields__}
    arrays = {**rows, "vectors": made_of.vectors, "profile": asked[0], "memory": asked[1]}
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    join.save(folder / JOIN)
    facts = {name: getattr(made_of, name) for name in ("moment", "indexed_at", "rate")}
    (folder / FACTS).write_text(json.dumps({**facts, "choices": [one.to_json() for one in choices]}), encoding="utf-8")


@contextmanager
def _job() -> Iterator[_Job]:
    """What `stop` ends, from before the files are written: one that is stopped then starts no process."""
    job = _Job()
    with _lock:
        _running.add(job)
    try:
        yield job
    finally:
        with _lock:
            _running.discard(job)


def _run(job: _Job, command: list[str]) -> None:
    """Run it to its end. Raises Stopped where somebody ended it, OSError where it could not be started or failed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with _lock:
        if job.ended:
            raise Stopped("searches are not built anew: the service ends")
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        job.process = process
    _, told = process.communicate()
    if job.ended:
        raise Stopped("searches are not built anew: the process that did so was ended")
    if process.returncode:
        raise OSError(told.decode(errors="replace").strip().rpartition("\n")[2] or f"status {process.returncode}")


def _choices(file: Path) -> Choices:
    first, second = json.loads(file.read_text(encoding="utf-8"))["choices"]
    return IndexChoice(**first), IndexChoice(**second)


def main(folder: Path) -> None:
    """Build from what `_write` wrote, into the same folder."""
    os.nice(NICE)

    def array(name: str) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    rows = HistoryRows(**{name: array(name) for name in HistoryRows.__dataclass_fields__})
    made_of = Material(array("vectors"), rows, facts["moment"], facts["indexed_at"], facts["rate"])
    built = build(Join.load(folder / JOIN), made_of, (array("profile"), array("memory")), _choices(folder / FACTS))
    write_index(built.profiles, folder / PROFILES)
    write_index(built.history, folder / HISTORY)
    write_standins(built.standins, folder / STANDINS)
    choices = [one.choice.to_json() for one in (built.profiles, built.history)]
    (folder / BUILT).write_text(json.dumps({"choices": choices}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
