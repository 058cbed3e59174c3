"""Queues of waiting contacts, one a class, as links between contacts."""

from __future__ import annotations

import numpy as np

from evaluation.simulate.borrow import inner
from evaluation.simulate.state import ABANDONED, FREE, NOBODY, WAITING, Longs, State


@inner
def queue(state: State, contact: int) -> None:
    """A contact waits, last of its class."""
    c, q, kind = state.contacts, state.queues, state.contacts.kind[contact]
    last = q.last[kind]
    c.before[contact], c.after[contact] = last, NOBODY
    if last == NOBODY:
        q.first[kind] = contact
    else:
        c.after[last] = contact
    q.last[kind] = contact
    q.size[kind] += 1
    state.counts[WAITING] += 1


@inner
def unqueue(state: State, contact: int) -> None:
    """A contact waits no more."""
    c, q, kind = state.contacts, state.queues, state.contacts.kind[contact]
    before, after = c.before[contact], c.after[contact]
    if before == NOBODY:
        q.first[kind] = after
    else:
        c.after[before] = after
    if after == NOBODY:
        q.last[kind] = before
    else:
        c.before[after] = before
    c.before[contact] = c.after[contact] = NOBODY
    q.size[kind] -= 1
    state.counts[WAITING] -= 1


@inner
def give_up(state: State, contact: int) -> bool:
    """Whether a waiting contact is out of patience; if so, it is taken out of its queue."""
    c = state.contacts
    gone = c.arrival[contact] + c.patience[contact]
    if state.now[0] < gone:
        return False
    unqueue(state, contact)
    c.status[contact], c.end[contact] = ABANDONED, gone
    return True


@inner
def head(state: State, kind: int) -> int:
    """Who has waited longest in a class, NOBODY where none does; those before who gave up are dropped."""
    contact = state.queues.first[kind]
    while contact != NOBODY and give_up(state, contact):
        contact = state.queues.first[kind]
    return contact


@inner
def drop(state: State) -> None:
    """Take out of all queues who has run out of patience."""
    for kind in range(len(state.queues.first)):
        contact = state.queues.first[kind]
        while contact != NOBODY:
            following = state.contacts.after[contact]
            give_up(state, contact)
            contact = following


@inner
def waiting(state: State) -> Longs:
    """Contacts that wait, class by class; who is out of patience among them until `drop`."""
    found, n = np.empty(state.counts[WAITING], np.int64), 0
    for first in state.queues.first:
        contact = first
        while contact != NOBODY:
            found[n] = contact
            n += 1
            contact = state.contacts.after[contact]
    return found[:n]


@inner
def free(state: State) -> Longs:
    """CSAs with room, the longest idle first."""
    after, ring, n = state.staff.after, len(state.staff.work), 0
    found = np.empty(state.counts[FREE], np.int64)
    csa = after[ring]
    while csa != ring:
        found[n] = csa
        n += 1
        csa = after[csa]
    return found[:n]
