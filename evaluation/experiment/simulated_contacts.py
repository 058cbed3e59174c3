"""What a simulated centre's records say of contacts, as tables would: a contact's hand-overs together, repeats apart.

Notable: whole columns at once, since thousands of experiments are read. A transfer goes on as another record of the
same contact; a customer who comes back is another contact, as in tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre
from evaluation.simulate.figures import ratings
from evaluation.simulate.run import Records
from evaluation.simulate.state import ABANDONED, NOBODY, OPEN, RESOLVED, TRANSFERRED, UNRESOLVED

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

METRICS = ("resolved", "abandoned", "wait_s", "handle_minutes", "csat", "repeat", "transferred")
DAY_S = 86400.0


@dataclass(frozen=True)
class Seen:
    """N contacts that arrived before the horizon, by arrival; NaN: not known."""

    arrival: Doubles
    """s"""
    row: Longs
    """Of the first contact that it is, or comes back from."""
    kind: Longs
    """Class on arrival."""
    new: npt.NDArray[np.bool_]
    """No repeat of another."""
    csa: Longs
    """The first one; NOBODY: nobody took it."""
    metrics: dict[str, Doubles]
    """Of METRICS but `repeat`, which `came_back` makes."""

    def __len__(self) -> int:
        return len(self.arrival)


def seen(centre: Centre, records: Records, until_s: float) -> Seen:
    """Contacts that arrived before `until_s`, whose outcomes may be of later."""
    first, last, handled = _chains(records)
    whole = np.flatnonzero((first == np.arange(len(records))) & (records.arrival < until_s))
    whole = whole[np.argsort(records.arrival[whole], kind="stable")]
    end, status = last[whole], records.status[last[whole]]
    taken, lost = records.csa[whole] != NOBODY, records.status[whole] == ABANDONED
    # What nobody has taken at the end of time is neither lost nor resolved, and has waited nobody knows how long.
    over = np.isin(status, (RESOLVED, UNRESOLVED, ABANDONED)) | ((status == OPEN) & ~taken)
    until = np.where(taken, records.start[whole], np.where(lost, records.end[whole], np.nan))
    served = (status == RESOLVED) | (status == UNRESOLVED)
    wait = np.where(served, records.start[end] - records.arrival[end], np.nan)
    metrics = {
        "resolved": np.where(over, (status == RESOLVED).astype(np.float64), np.nan),
        "abandoned": lost.astype(np.float64),
        "wait_s": until - records.arrival[whole],
        "handle_minutes": np.where(taken, handled[whole] / 60.0, np.nan),
        "csat": np.where(served, _rated(centre, status, wait), np.nan),
        "transferred": np.where(taken, (records.status[whole] == TRANSFERRED).astype(np.float64), np.nan),
    }
    row, kind = records.row[whole].astype(np.int64), records.kind[whole].astype(np.int64)
    new = records.parent[whole] == NOBODY
    return Seen(records.arrival[whole], row, kind, new, records.csa[whole].astype(np.int64), metrics)


def _chains(records: Records) -> tuple[Longs, Longs, Doubles]:
    """Of each record: the first and the last of its contact, and for firsts the seconds of work of all of them."""
    n = len(records)
    own: Longs = np.arange(n, dtype=np.int64)
    took = np.where(records.csa != NOBODY, np.nan_to_num(records.end - records.start), 0.0)
    passed_on = records.status == TRANSFERRED
    if not passed_on.any():
        return own, own, took
    parent = records.parent.astype(np.int64)
    part = (parent != NOBODY) & passed_on[np.maximum(parent, 0)]
    first: Longs = np.where(part, parent, own)
    while True:
        above = first[first]
        if np.array_equal(above, first):
            break
        first = above
    last = own.copy()
    np.maximum.at(last, first, own)  # what comes of a contact has a later place
    return first, last[first], np.bincount(first, took, n).astype(np.float64)


def _rated(centre: Centre, status: npt.NDArray[np.int8], wait: Doubles) -> Doubles:
    """(N,) what customers would give on average."""
    zeros = np.zeros(0)
    ints = np.zeros(0, np.int32)
    return ratings(centre, Records(zeros, ints, ints, zeros, zeros, status, ints, ints, zeros), wait)


def came_back(of: Seen, customer: Longs, within_days: float, until_s: float) -> Doubles:
    """(N,) 1 where the contact's customer (N,) arrived again within so many days, NaN where it is too early to tell."""
    order = np.lexsort((np.arange(len(of)), of.arrival, customer))
    same = customer[order[1:]] == customer[order[:-1]]
    soon = of.arrival[order[1:]] - of.arrival[order[:-1]] <= within_days * DAY_S
    found = np.zeros(len(of))
    found[order[:-1]] = (same & soon).astype(np.float64)
    found[of.arrival > until_s - within_days * DAY_S] = np.nan
    return found
