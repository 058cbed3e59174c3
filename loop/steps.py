"""Named steps, each done once for the same inputs, whatever happens in between.

Notable: a step's key is a hash of what it is given: its own facts and what the steps before it left, by content. Its
folder appears whole under that key or not at all, so a process that dies at any moment has done a step or has not, and
the next run goes on from there. Because the outputs count and not the keys, a step that comes to the same result
spares all that follow. What a step does outside of its folder (a registry, an alias) must be the same done twice:
it may be repeated where a process died before it could say that it was done.

Source: build systems with early cutoff and deep traces (Mokhov, Mitchell and Peyton Jones, Build systems à la carte,
2018).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twotower.errors import ConfigError, DataError
from twotower.files import atomic_directory, sha256_file

DONE = "done.json"
SCRATCH = "scratch"
BEGINS, ENDS, KEPT = "begins", "ends", "kept"
"""Moments of a step: it begins, it is done and kept on the disk; it was done before."""

Watch = Callable[[str, str], None]


@dataclass(frozen=True)
class Given:
    """What a step works with."""

    folder: Path
    """To be filled; it becomes the step's output."""
    scratch: Path
    """For what a step can go on from if it is stopped; removed once it is done."""
    before: Mapping[str, Done]
    """By name, the steps it needs."""


@dataclass(frozen=True)
class Step:
    """One of them."""

    name: str
    work: Callable[[Given], Mapping[str, Any]]
    """Fills the folder; what it returns, JSON, is told to those that need it and to the report."""
    needs: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON: options and digests of what it reads beside `needs`."""
    skip: Callable[[Mapping[str, Done]], str | None] = lambda _: None
    """Why it is not to be done, by what came before; None: it is."""
    anyway: bool = False
    """It is done although one that it needs was left out."""


@dataclass(frozen=True)
class Done:
    """A step that is done, or was left out (`skipped` says why; then there is no folder)."""

    name: str
    key: str
    folder: Path
    said: Mapping[str, Any]
    digest: str
    """Of what it left: files and what it said."""
    seconds: float
    again: bool = False
    """It was found done."""
    skipped: str | None = None


class Steps:
    """Steps in their order, in a folder that keeps what they left."""

    def __init__(self, folder: str | Path, steps: Sequence[Step], watch: Watch | None = None) -> None:
        """Raises ConfigError for two of one name, and for a step that needs one that does not come before it."""
        self.folder, self.steps, self._watch = Path(folder), tuple(steps), watch or (lambda *_: None)
        known: set[str] = set()
        for step in self.steps:
            if step.name in known:
                raise ConfigError(f"steps: two are called {step.name!r}")
            if missing := [name for name in step.needs if name not in known]:
                raise ConfigError(f"step {step.name!r}: needs {missing[0]!r}, which does not come before it")
            known.add(step.name)

    def run(self, found: dict[str, Done] | None = None) -> dict[str, Done]:
        """All of them; those that were done with the same inputs are not done again. One process at a time: the caller
        holds a lock. found: is filled, so that who catches what a step raises knows those before it. Raises what a step
        raises; what was done stays done."""
        found = {} if found is None else found
        self.folder.mkdir(parents=True, exist_ok=True)
        for partial in self.folder.glob(".*.partial-*"):
            shutil.rmtree(partial)  # of a process that died
        for step in self.steps:
            before = {name: found[name] for name in step.needs}
            gone = [] if step.anyway else [f"{one.name} was left out" for one in before.values() if one.skipped]
            reason = gone[0] if gone else step.skip(before)
            if reason is not None:
                found[step.name] = Done(step.name, "", self.folder, {}, "", 0.0, skipped=reason)
            else:
                found[step.name] = self._one(step, before)
        return found

    def _one(self, step: Step, before: Mapping[str, Done]) -> Done:
        key = key_of(step, before)
        place = self.folder / f"{step.name}-{key[:16]}"
        if place.exists():
            self._watch(step.name, KEPT)
            return _read(step, key, place)
        self._watch(step.name, BEGINS)
        scratch = self.folder / SCRATCH / place.name
        scratch.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        with atomic_directory(place) as folder:
            said = json.loads(json.dumps(dict(step.work(Given(folder, scratch, before))), allow_nan=True))
            seconds = time.monotonic() - begun
            digest = _digest(folder, said)
            told = {"step": step.name, "key": key, "digest": digest, "seconds": seconds, "said": said}
            (folder / DONE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(scratch, ignore_errors=True)
        self._watch(step.name, ENDS)
        return Done(step.name, key, place, said, digest, seconds)

    def prune(self, keep: int) -> list[Path]:
        """Remove all but the latest `keep` outputs of each step; returns what was removed. Raises ConfigError for fewer
        than one."""
        if keep < 1:
            raise ConfigError(f"keep: {keep}; 1 or more outputs of each step expected")
        gone = []
        for step in self.steps:
            known = [one for one in self.folder.glob(f"{step.name}-{'[0-9a-f]' * 16}") if (one / DONE).is_file()]
            for place in sorted(known, key=lambda one: (one / DONE).stat().st_mtime_ns)[:-keep]:
                hidden = place.with_name(f".{place.name}.partial-old")
                place.rename(hidden)  # so that a half removed one is never taken for done
                shutil.rmtree(hidden)
                gone.append(place)
        return gone


def key_of(step: Step, before: Mapping[str, Done]) -> str:
    """SHA-256 over a step's name, facts, and what those it needs left."""
    given = {"step": step.name, "facts": dict(step.facts), "needs": {name: one.digest for name, one in before.items()}}
    return hashlib.sha256(json.dumps(given, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_of(folder: Path) -> str:
    """SHA-256 over names and bytes of all files of a folder, those of folders in it too."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{file.relative_to(folder).as_posix()}\0{sha256_file(file)}\n".encode())
    return found.hexdigest()


def _digest(folder: Path, said: Mapping[str, Any]) -> str:
    told = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{digest_of(folder)}\n{told}".encode()).hexdigest()


def _read(step: Step, key: str, place: Path) -> Done:
    try:
        told = json.loads((place / DONE).read_text(encoding="utf-8"))
        if told["key"] != key:
            raise ValueError(told["key"])
        return Done(step.name, key, place, told["said"], told["digest"], float(told["seconds"]), again=True)
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{place}: not what step {step.name!r} left; remove the folder, and it is done again") from None
