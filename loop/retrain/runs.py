"""Runs that a turn of the wheel may go on from: that of the champion, and the one before it.

Notable: only the run of a bundle that passed the gate is ever gone on from, so what a spoilt day taught ends with that
day. A turn that is run again after it promoted goes on from where it did the first time, from the parent of what is the
champion by then, and so finds everything done. A run that was trained otherwise (options, seed, program), or has too
many behind it that started from one another, is not gone on from: the turn then starts from nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from train.start import FILE
from twotower.files import atomic_directory

KEPT = "kept.json"


@dataclass(frozen=True)
class Kept:
    """A run that is kept, by the digest of its bundle."""

    bundle: str
    until: int
    """µs UTC: it knew nothing that became known then or later."""
    parent: str | None
    """Bundle of the run that it went on from."""
    way: str
    """Digest of how it was trained."""


@dataclass(frozen=True)
class Origin:
    """What a training goes on from: a run, and its bundle's digest."""

    run: Path
    bundle: str


def way_of(facts: Mapping[str, Any]) -> str:
    """Digest of how a run is trained: runs that go on from each other are trained alike."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()


class Runs:
    """The runs in a folder, one for each bundle that was let pass."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, run: Path, kept: Kept) -> None:
        """Keep a run; once is enough. Files are links where the disk can, since a run is never written to."""
        place = self.folder / kept.bundle
        if place.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_directory(place) as folder:
            shutil.copytree(run, folder / "run", copy_function=_linked)
            (folder / KEPT).write_text(json.dumps(asdict(kept), indent=1) + "\n", encoding="utf-8")

    def get(self, bundle: str | None) -> Kept | None:
        """The run of a bundle; None where it is not kept, or what is kept cannot be read."""
        if bundle is None:
            return None
        try:
            return Kept(**json.loads((self.folder / bundle / KEPT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def origin(self, champion: str | None, until: int, way: str, in_a_row: int) -> Origin | None:
        """What a training on what was known before `until` goes on from; None: from nothing.

        in_a_row: runs that may have started from one another, the one that is asked for counted.
        """
        kept = self.get(champion)
        while kept is not None and kept.until >= until:
            kept = self.get(kept.parent)
        if kept is None or kept.way != way:
            return None
        run = self.folder / kept.bundle / "run"
        if not (run / FILE).is_file() or _in_a_row(run) + 1 > in_a_row:
            return None
        return Origin(run, kept.bundle)

    def prune(self, served: Iterable[str]) -> None:
        """Remove all but the runs of some bundles and those that these went on from."""
        stay = set(served)
        stay |= {one.parent for one in map(self.get, tuple(stay)) if one is not None and one.parent is not None}
        for place in self.folder.glob("*") if self.folder.is_dir() else ():
            if place.name not in stay:
                if not place.name.startswith("."):
                    place = place.rename(place.with_name(f".{place.name}"))  # half of one is never taken for a run
                shutil.rmtree(place)


def _in_a_row(run: Path) -> int:
    return int(json.loads((run / "run.json").read_text(encoding="utf-8"))["in_a_row"])


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
