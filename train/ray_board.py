"""What goes between a training run and its workers on Ray.

Notable: Ray's controller of a run and the board are processes of their own, which unpack what is here and nothing else;
were it beside the training, both would import all of it, which takes longer than small runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twotower.errors import TwoTowerError


class Board:
    """What workers and the process that started them tell each other; an ordinary object, which Ray makes an actor."""

    def __init__(self) -> None:
        self.stop, self.done, self.total = 0, 0, 0
        self.error: TwoTowerError | OSError | None = None
        self.interrupted: tuple[int, str] | None = None
        self.facts: dict[str, Any] | None = None
        self.resumed = False

    def look(self, done: int, total: int) -> int:
        """The first worker's steps; returns the signal that came, 0 for none."""
        self.done, self.total = done, total
        return self.stop

    def tell(self, **what: Any) -> None:
        """Set attributes; an error, once: of several workers the first says it."""
        for name, value in what.items():
            if name != "error" or self.error is None:
                setattr(self, name, value)

    def read(self) -> dict[str, Any]:
        """Everything."""
        return dict(vars(self))


@dataclass(frozen=True)
class Asked:
    """A training run, as it goes to every worker; places are absolute."""

    folder: Path
    output: Path
    until: str | None
    configs: tuple[Path, ...]
    options: tuple[str, ...]
    at: str = field(default_factory=os.getcwd)


def in_worker(given: dict[str, Any]) -> None:
    """What Ray Train runs in each worker."""
    from train.on_ray import run_here

    run_here(given["board"], given["asked"])
