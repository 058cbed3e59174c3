"""The windows that are compared, and what each of them could see at its own end.

Notable: every statistic of a window is computed as it stood at the window's own end, so that the newest window, of
which the youngest outcomes are not known yet, is compared with earlier ones at the same age.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twotower.clock import DAY, NEVER, NULL_TIME, Times, format_time
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Log

Ints = npt.NDArray[np.int64]
LEAST_EARLIER = 4
"""Earlier windows without which nothing can be called usual."""
LEAST = 30
"""Contacts or hand-overs of a window without which a statistic of it says nothing."""


@dataclass(frozen=True)
class Windows:
    """A log up to the end of its newest window, and W windows of `days` days; `edges` i8 (W + 1,) µs UTC, window w is
    [edges[w], edges[w + 1])."""

    log: Log
    edges: Times
    days: int

    @classmethod
    def of(cls, log: Log, days: int, start: int | None = None, stop: int | None = None) -> Windows:
        """Lay windows back from `stop` (µs UTC; None: just after the last contact) to `start` (None: the first).

        What became known at `stop` or later is forgotten, and the oldest stretch that fills no window is left out.
        Raises ConfigError where the windows are too few, DataError where there is no contact.
        """
        if days < 1:
            raise ConfigError(f"--window-days {days}: a window has at least one day; 7 is usual")
        arrived = log.contacts.arrived_at
        if not len(arrived):
            raise DataError("contacts.parquet: has no contact; drift compares windows of contacts")
        end = int(arrived[-1]) + 1 if stop is None else stop
        begin = int(arrived[0]) if start is None else max(start, int(arrived[0]))
        count = (end - begin) // (days * DAY)
        if count - 1 < LEAST_EARLIER:
            raise ConfigError(
                f"{format_time(begin)} to {format_time(end)}: {max(count, 0)} windows of {days} days; the newest is "
                f"compared with at least {LEAST_EARLIER} before it, so give {(LEAST_EARLIER + 1) * days} days of data "
                "or a smaller --window-days"
            )
        edges = end - np.arange(count, -1, -1, dtype=np.int64) * days * DAY
        if not (edges[-2] <= arrived[np.searchsorted(arrived, end) - 1] < end):
            raise ConfigError(
                f"--to {format_time(end)}: no contact arrived in the {days} days before it; the last came "
                f"{format_time(int(arrived[-1]))}"
            )
        return cls(log.cut(end), edges, days)

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def width(self) -> int:
        """µs."""
        return self.days * DAY

    def contacts(self, w: int) -> slice:
        """Positions of the contacts that arrived in a window."""
        low, high = np.searchsorted(self.log.contacts.arrived_at, self.edges[w : w + 2])
        return slice(int(low), int(high))

    def handovers(self, w: int, back: int = 0) -> Ints:
        """Rows, ascending, of the hand-overs assigned in a window, or in one that lies `back` µs earlier."""
        at = self.log.handovers.assigned_at
        return np.flatnonzero((at >= self.edges[w] - back) & (at < self.edges[w + 1] - back))

    def contact_window(self) -> Ints:
        """(N,) the window of each contact, −1 before the first."""
        return np.searchsorted(self.edges, self.log.contacts.arrived_at, side="right").astype(np.int64) - 1

    def begins(self) -> Times:
        """(J,) when each CSA began: hired, else from when its first dated row counts; where the table dates nobody, the
        first hand-over. `NULL_TIME`: before everything."""
        csas, handovers = self.log.csas, self.log.handovers
        hired, first = np.full(len(csas), NULL_TIME), np.full(len(csas), NEVER)
        np.maximum.at(hired, csas.csa, csas.hired_at)
        np.minimum.at(first, csas.csa, csas.valid_from)
        begun = np.where(hired == NULL_TIME, first, hired)
        if (begun == NULL_TIME).all():
            begun = np.full(len(csas), NEVER)
            np.minimum.at(begun, handovers.csa, handovers.assigned_at)
            begun[begun == NEVER] = NULL_TIME
        return begun

    def active(self, w: int) -> npt.NDArray[np.bool_]:
        """(J,) who works at the end of a window or took something in it."""
        here = np.asarray(self.log.csas.active_at(int(self.edges[w + 1]) - 1)).copy()
        here[self.log.handovers.csa[self.handovers(w)]] = True
        return here
