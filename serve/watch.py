"""Files that somebody replaces while they are served: a bundle, a roster.

Notable: what is new is loaded and checked beside what is served, by a thread that nobody waits for, and takes its place
only when it is good; what was refused is not tried again until it changes. A bundle is replaced as a whole: `BUNDLE` is
a symbolic link that is set to another folder, or a folder that another is renamed to. A roster file is like
`csas.parquet`; what differs from the roster becomes changes like any others, so it is in the journal and other workers
follow.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serve.matcher import Matcher
from serve.roster.changes import Change, Join, Leave, RosterChange
from serve.roster.declared import COLUMNS, declared_of
from twotower.clock import now
from twotower.errors import DataError
from twotower.tables.load import csas_of
from twotower.tables.log import Csas
from twotower.tables.read import read_table
from twotower.tables.schema import CSAS

MOST_GONE = 0.5  # of the active, by one roster file


class FileWatch:
    """Whether a file has changed. seen: what is there now is known already.

    folder: the file stands for the folder that it is in: one that lacks it is another, too, as is a link to nothing.
    """

    def __init__(self, path: str | Path, seen: bool = False, folder: bool = False) -> None:
        self.path, self._folder = Path(path), folder
        self._known = self._stamp() if seen else None

    def forget(self) -> None:
        """What is there now is not known after all."""
        self._known = None

    def changed(self) -> bool:
        """Whether it is another since the last call. One that is missing is not: somebody is about to put it there."""
        found = self._stamp()
        if found is None or found == self._known:
            return False
        self._known = found
        return True

    def _stamp(self) -> tuple[object, ...] | None:
        try:
            found = self.path.stat()
            return os.path.realpath(self.path), found.st_ino, found.st_size, found.st_mtime_ns
        except OSError:
            inside = self.path.parent
            there = self._folder and (inside.is_dir() or inside.is_symlink())
            return (os.path.realpath(inside),) if there else None


def roster_changes(
    matcher: Matcher, path: str | Path, at: int | None = None, most_gone: float = MOST_GONE
) -> list[RosterChange]:
    """What a `csas.parquet` says of the roster at a moment (µs, by default now) that is not so yet.

    Who is in it and works is to be there as it declares, in the columns that it has; who is not, or has left, leaves.
    A day of hiring that is null says nothing. Raises DataError where the file cannot be read, and where a larger share
    than `most_gone` of those who are there would leave: then it is more likely that the file is not whole.
    """
    wanted = read_roster_file(path, now() if at is None else at)
    view = dict(matcher.roster())
    known = {row["csa_id"]: row for row in matcher.declared([csa_id for csa_id in wanted if csa_id in view])}
    changes: list[RosterChange] = []
    for csa_id, told in wanted.items():
        if csa_id not in view or not view[csa_id].active:
            changes.append(Join(csa_id, told))
        elif differs := {name: value for name, value in told.items() if value != known[csa_id][name]}:
            changes.append(Change(csa_id, differs))
    active = [csa_id for csa_id, csa in view.items() if csa.active]
    gone = [csa_id for csa_id in active if csa_id not in wanted]
    if len(gone) > most_gone * len(active):
        raise DataError(
            f"{path}: {len(gone)} of {len(active)} CSAs who are there are not in it or have left, more than a share of "
            f"{most_gone:g}; is the file whole?"
        )
    return [*changes, *(Leave(csa_id) for csa_id in gone)]


def read_roster_file(path: str | Path, moment: int) -> dict[str, dict[str, Any]]:
    """Who works at a moment (µs) by a file with the columns of `csas.parquet`, and what is declared of each in the
    columns that it has. Raises DataError."""
    csas, columns = read_csas(path)
    rows = csas.declared_at(moment)
    who = csas.ids.filter(pa.array(csas.active_at(moment)))
    declared = declared_of(rows.filter(pc.is_in(rows["csa_id"], who)))
    return {
        csa_id: one.row(name for name in columns if name != "hired_at" or one.hired_at is not None)
        for csa_id, one in declared.items()
    }


def read_csas(path: str | Path) -> tuple[Csas, list[str]]:
    """The dated rows of a file like `csas.parquet`, and which of the columns that are declared it has. Raises
    DataError."""
    file = Path(path)
    if file.suffix != ".parquet":
        raise DataError(f"{path}: a Parquet file is expected, named like csas.parquet")
    table = read_table(file.parent, replace(CSAS, name=file.stem))
    names = pq.read_schema(file).names
    return csas_of(file.parent, table), [name for name in COLUMNS if name in names and name != "channels"]
