"""Rules in Python that learn: they hear how the hand-overs that they made have ended.

Notable: a rule hears just before it decides, of all that ended since it last did, in the order in which they ended, so
nothing that it does not yet decide on is told, and the compiled loop knows nothing of it.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple, Protocol, runtime_checkable

from evaluation.simulate.state import RESOLVED, TRANSFERRED, State


class Ended(NamedTuple):
    """A hand-over that has ended; seconds from the start."""

    row: int
    """Of the first contact of which it is, or comes (`policies.View.row`)."""
    kind: int
    csa: int
    start: float
    end: float
    resolved: bool
    transferred: bool


@runtime_checkable
class Hears(Protocol):
    """A `Decide` that learns."""

    def ended(self, handover: Ended) -> None:
        """A hand-over that it chose has ended."""
        ...


class Told:
    """What one replication's rule is still to hear."""

    def __init__(self, decide: object) -> None:
        self._hears = decide if isinstance(decide, Hears) else None
        self._open: list[tuple[float, int]] = []

    def given(self, state: State, contact: int) -> None:
        """A hand-over has begun."""
        if self._hears is not None:
            heappush(self._open, (float(state.contacts.end[contact]), contact))

    def tell(self, state: State) -> None:
        """All that ended by now."""
        now, c = float(state.now[0]), state.contacts
        while self._hears is not None and self._open and self._open[0][0] <= now:
            contact = heappop(self._open)[1]
            status = int(c.status[contact])
            self._hears.ended(
                Ended(
                    int(c.row[contact]), int(c.kind[contact]), int(c.csa[contact]), float(c.start[contact]),
                    float(c.end[contact]), status == RESOLVED, status == TRANSFERRED,
                )
            )  # fmt: skip
