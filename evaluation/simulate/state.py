"""What an event loop changes, as arrays that a compiler takes; times are seconds from the start.

Notable: a contact's record is the whole result. Nothing is counted on the way, so figures of any kind, with any
warm-up, are made afterwards (`figures.py`). Follow-ups (repeats, transfers) are contacts too, appended to the same
arrays, which grow when they are full.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.int8]
Keys = npt.NDArray[np.uint64]

NOBODY = -1
# How a contact ended: not yet; and so on. A transfer's second part is a contact of its own.
OPEN, RESOLVED, UNRESOLVED, ABANDONED, TRANSFERRED = range(5)
# Events of the heap, beside arrivals, which are sorted already.
ENDED, STARTS_SHIFT, ENDS_SHIFT, RETURNS, AGAIN, READY = range(6)
# Why the loop handed back control.
FINISHED, FULL, REACHED, DECIDE = range(4)


class Contacts(NamedTuple):
    """Contacts (M,), of which `counts[CONTACTS]` are in use, the first N by arrival."""

    arrival: Doubles
    kind: Ints
    """Class."""
    patience: Doubles
    """Seconds; infinite: never abandons."""
    key: Keys
    logit: Doubles
    """What this contact adds to the log-odds of being resolved."""
    row: Ints
    """Of its vectors in `Policy.contacts` and `Truth.contacts`."""
    parent: Ints
    """The contact that it comes of, by a repeat or a transfer; NOBODY: it is a first one."""
    barred: Ints
    """A CSA who must not take it: who transferred it."""
    csa: Ints
    start: Doubles
    end: Doubles
    status: Bytes
    # Links of the queue of its class.
    before: Ints
    after: Ints


class Staff(NamedTuple):
    """CSAs (J,)."""

    on_shift: npt.NDArray[np.bool_]
    work: Ints
    """Contacts in hand."""
    since: Doubles
    """When their last contact began or ended, or their shift began."""
    handled: Doubles
    """Contacts so far, with those before the start."""
    strain: Doubles
    strained_at: Doubles
    target: Doubles
    """Where strain moves to while nothing changes."""
    busy_s: Doubles
    """Seconds with at least one contact in hand, until `since_busy`."""
    since_busy: Doubles
    taken: Longs
    """Contacts given so far: within this run."""
    shift_s: Doubles
    """Seconds on shift, until `shift_began`."""
    shift_began: Doubles
    # Links of the list of who has room, the longest idle first; J is its head and its tail.
    before: Ints
    after: Ints


class Queues(NamedTuple):
    """Waiting contacts by class (K,), oldest first; NOBODY where there is none."""

    first: Ints
    last: Ints
    size: Longs


class Heap(NamedTuple):
    """Events to come (capacity,), a binary heap by time, then by code."""

    time: Doubles
    code: Longs
    """event << 32 | subject."""


# Fields of `counts`; BLOCK: how many blocks of an experiment have begun, beside the first.
CONTACTS, ARRIVED, EVENTS, WAITING, FREE, BLOCK = range(6)
COUNTS = 6


class State(NamedTuple):
    """All of it."""

    contacts: Contacts
    staff: Staff
    queues: Queues
    heap: Heap
    counts: Longs
    now: Doubles
    """(1,) seconds."""
