"""What became of contacts, as known at a moment: from tables, from the router's feedback, or from both as one.

Notable: of a store only the window that the plan and its history need is read, into a folder that is gone again when it
has been read: nothing here keeps a copy of what a customer may have erased.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.retrain.merge import feedback_tables, merge
from twotower.clock import DAY, parse_time
from twotower.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from evaluation.experiment.plan import Plan

SCRATCH = ".tables"


@dataclass(frozen=True)
class Looked:
    """The frame of an experiment (`evaluation/experiment/frame.py`) as known at a look."""

    frame: pd.DataFrame
    blocks: pd.DataFrame | None
    data_end: int
    """µs UTC"""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tables:
    """Where outcomes are known. data: a folder of tables; feedback: a store's URL, or the folder of an export."""

    data: Path | None
    feedback: str | None
    work: Path

    def __post_init__(self) -> None:
        if self.data is None and self.feedback is None:
            raise ConfigError("nothing tells what becomes of contacts; give --feedback (a store's URL), or --data")
        for option, folder in (("--data", self.data), ("--feedback", self.feedback)):
            if folder is not None and "://" not in str(folder) and not Path(folder).is_dir():
                raise ConfigError(f"{option} {folder}: no such folder")

    @property
    def store(self) -> str | None:
        """The store's URL; None: there is none."""
        return self.feedback if self.feedback is not None and "://" in self.feedback else None

    @contextmanager
    def folder(self, since: int, until: int) -> Iterator[Path]:
        """A data set of what became known in [since, until), µs UTC. Raises StoreError where that is nothing."""
        scratch = self.work / SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that died
        try:
            found = [] if self.data is None else [self.data]
            if self.store is not None:
                csas = None if self.data is None else self.data / "csas.parquet"
                found.append(feedback_tables(self.store, scratch / "feedback", until, since, csas))
            elif self.feedback is not None:
                found.append(Path(self.feedback))
            if len(found) > 1:
                whole = scratch / "whole"
                whole.mkdir(parents=True)
                merge(found, whole, until)
                found = [whole]
            yield found[0]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def look(self, plan: Plan, schedule: pd.DataFrame, at: int) -> Looked:
        """Contacts of a plan as known at a moment, µs UTC. Raises DataError, ConfigError, StoreError where there are
        none yet, or tables are none."""
        from evaluation.experiment.measured import read

        since = parse_time(plan.begins) - int(plan.history_days * DAY)
        with self.folder(since, at) as folder:
            found, blocks = read(plan, schedule, folder, at)
        return Looked(found.frame, blocks, found.data_end, found.notes)

    def value(self, champion: Path, challenger: Path, since: int, until: int, margin: Any) -> Any:
        """The gate's rule of value on contacts that came since: a `Check`, None where it is not asked."""
        from loop.gate.rules import GateSpec
        from loop.gate.valued import checks

        with self.folder(since, until) as folder:
            return next(iter(checks(champion, challenger, folder, since, GateSpec(value=margin))), None)
