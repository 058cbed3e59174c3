"""The seconds that each stage of a loop takes.

Notable: a stage's time includes the imports it is the first to need, because that is what a person waits for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from twotower.progress import visible


class Stages:
    """Wall-clock seconds by stage, in the order in which the stages ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a block; tells a person at a terminal what has begun. Blocks of one name add up."""
        if visible():
            print(f"· {name}", file=sys.stderr, flush=True)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    def rows(self) -> list[tuple[str, str, str]]:
        """(stage, seconds, share) as text, the total last."""
        whole = max(self.total, 1e-9)
        rows = [(name, f"{took:.1f} s", f"{took / whole:.0%}") for name, took in self.seconds.items()]
        return [*rows, ("total", f"{self.total:.1f} s", "100%")]
