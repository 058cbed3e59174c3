"""What rest, caps and forbidden pairs cost as the day goes: each window again without one of them.

Notable: precedence has no common unit, so there is no dual of "rest before value". The difference is exact all the
same: the best window under the constraint against the best one without it, in value and in contacts who need not wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from serve.sets.given import Window
from serve.sets.window import Settled, settle
from twotower.errors import ConfigError

CONSTRAINTS = ("rest", "cap", "forbidden")


@dataclass(frozen=True)
class Relaxed:
    """What a window would be without one constraint: more `value`, more `contacts` taken up (either may be negative
    where a contact past its guarantee takes the place of others)."""

    constraint: str
    value: float
    contacts: int


def relaxed(window: Window, settled: Settled | None = None) -> list[Relaxed]:
    """What each constraint of a window costs; settled: what it came to, if that is known."""
    settled = settle(window) if settled is None else settled
    found = []
    for name in CONSTRAINTS:
        given = getattr(window, name)
        if given is None or not (len(given) if name == "forbidden" else np.any(given)):
            found.append(Relaxed(name, 0.0, 0))
            continue
        without: dict[str, Any] = {name: None}
        other = settle(replace(window, **without))
        more = int((other.csa >= 0).sum() - (settled.csa >= 0).sum())
        found.append(Relaxed(name, other.value - settled.value, more))
    return found


@dataclass
class Ledger:
    """What constraints have cost over time, for planners."""

    began_s: float
    now_s: float = field(init=False)
    value: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CONSTRAINTS, 0.0))
    contacts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CONSTRAINTS, 0))

    def __post_init__(self) -> None:
        self.now_s = self.began_s

    def add(self, now_s: float, window: Window, settled: Settled | None = None) -> None:
        """Count a window. A contact that is kept waiting in several windows counts in each of them. Raises ConfigError
        for a time before the last one."""
        if not now_s >= self.now_s:
            raise ConfigError(f"now_s: {now_s} s is before {self.now_s} s, which is counted")
        self.now_s = now_s
        for one in relaxed(window, settled):
            self.value[one.constraint] += one.value
            self.contacts[one.constraint] += one.contacts

    def table(self) -> list[dict[str, Any]]:
        """A row a constraint: `constraint`, `value_h` and `contacts_h` that leaving it out would bring an hour."""
        hours = max(self.now_s - self.began_s, 1.0) / 3600
        return [
            {"constraint": name, "value_h": self.value[name] / hours, "contacts_h": self.contacts[name] / hours}
            for name in CONSTRAINTS
        ]
