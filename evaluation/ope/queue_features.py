"""What a queue could see of those who could have been chosen, when a contact arrived: load, idleness, past, tenure.

Notable: every number is of what was strictly before the arrival, looked up among all hand-overs by binary searches, so
any pairs can be asked for in any order and none sees its own choice or a later one. Of a hand-over without a known end
nothing is said but that it began.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from evaluation.ope.logged import Logged
from evaluation.ope.rounds import Floats, Ints, Pairs
from twotower.clock import DAY, HOUR, NEVER, NULL_TIME
from twotower.tables.log import Log

NAMES = (
    "load", "idle", "longest_idle", "idle_rank", "last_hour", "last_day", "share", "share_in_queue", "tenure",
    "pairing",
)  # fmt: skip
"""load: hand-overs in hand, log(1 + n). idle: log(1 + minutes) since the last one ended, a day at most, 0 with load.
longest_idle: 1 for who has been idle longest of those eligible; idle_rank: their place by it, 0 … 1. last_hour,
last_day: hand-overs taken, log(1 + n). share: log of what they were given in four weeks over what an equal chance would
have given, share_in_queue: of the contact's queue. tenure: log(1 + days). pairing: log(1 + times this customer had
them)."""
PAST = 28 * DAY
PRIOR = 3.0
"""Hand-overs at the equal chance behind every share."""
MINUTE = HOUR // 60


class Timeline:
    """Events of groups at times, with weights: how many, or how much, strictly before any moment."""

    def __init__(self, group: Ints, time: Ints, weight: Floats | None = None) -> None:
        order = np.lexsort((time, group))
        self._times = np.sort(time)
        self._group, self.time = group[order], time[order]
        # A time's rank in place of the time: the key of any log fits 64 bits.
        self._key = self._group * (len(time) + 1) + np.searchsorted(self._times, self.time)
        amount = np.ones(len(time)) if weight is None else weight[order]
        self._sum = np.concatenate(([0.0], np.cumsum(amount)))

    def _place(self, group: Ints, moment: Ints) -> Ints:
        rank = np.searchsorted(self._times, moment)
        return np.asarray(np.searchsorted(self._key, group * (len(self._times) + 1) + rank))

    def between(self, group: Ints, since: Ints, until: Ints) -> Floats:
        """(P,) weight of events of each group at since ≤ time < until."""
        return np.asarray(self._sum[self._place(group, until)] - self._sum[self._place(group, since)])

    def latest(self, group: Ints, moment: Ints) -> Ints:
        """(P,) time of each group's latest event strictly before a moment, `NULL_TIME` where it had none."""
        at = self._place(group, moment) - 1
        there = (at >= 0) & (self._group[np.maximum(at, 0)] == group) if len(self.time) else np.zeros(len(group), bool)
        return np.where(there, self.time[np.maximum(at, 0)] if len(self.time) else NULL_TIME, NULL_TIME)


@dataclass(frozen=True)
class QueueState:
    """The timelines of a log. `begun`, `ended` by CSA; `taken`, `expected` by CSA and by queue × CSA; `served` by
    customer × CSA."""

    log: Log
    queue: Ints
    """(contacts,) codes."""
    hired: Ints
    begun: Timeline
    ended: Timeline
    taken: Timeline
    expected: Timeline
    taken_in: Timeline
    expected_in: Timeline
    served: Timeline

    @classmethod
    def of(cls, past: Logged) -> QueueState:
        """Of a log, whose rounds `past` tell what an equal chance would have given."""
        log, moves = past.log, past.log.handovers
        csa = moves.csa.astype(np.int64)
        codes = log.contacts.queue.dictionary_encode(null_encoding="encode").indices
        queue = pc.fill_null(codes, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        hired = np.full(len(log.csas), NULL_TIME)
        hired[log.csas.csa] = log.csas.hired_at
        over = np.flatnonzero(moves.ended_at < NEVER)
        pairs, arrived = past.pairs, log.contacts.arrived_at[past.contact]
        equal = (1.0 / pairs.lengths)[pairs.row]
        chosen = pairs.csa[pairs.own]
        size = len(log.csas)
        in_queue = queue[past.contact] * size
        customer = log.contacts.customer[moves.contact].astype(np.int64)
        known = np.flatnonzero(customer >= 0)
        return cls(
            log, queue, hired,
            begun=Timeline(csa, moves.assigned_at),
            ended=Timeline(csa[over], moves.ended_at[over]),
            taken=Timeline(chosen, arrived),
            expected=Timeline(pairs.csa, arrived[pairs.row], equal),
            taken_in=Timeline(in_queue + chosen, arrived),
            expected_in=Timeline(in_queue[pairs.row] + pairs.csa, arrived[pairs.row], equal),
            served=Timeline(customer[known] * size + csa[known], moves.assigned_at[known]),
        )  # fmt: skip

    def features(self, contact: Ints, pairs: Pairs) -> Floats:
        """(P, `NAMES`) of pairs of contacts (n,) as of their arrivals."""
        size = len(self.log.csas)
        who, t = pairs.csa, self.log.contacts.arrived_at[contact][pairs.row]
        load, idle = self._load(who, t)
        customer = self.log.contacts.customer[contact].astype(np.int64)[pairs.row]
        pairing = self.served.between(np.maximum(customer, 0) * size + who, np.full(len(t), NULL_TIME + 1), t)
        columns = {
            "load": np.log1p(load),
            "idle": np.log1p(idle),
            "longest_idle": pairs.greedy(idle) * (idle > 0),
            "idle_rank": _ranks(idle, pairs),
            "last_hour": np.log1p(self.begun.between(who, t - HOUR, t)),
            "last_day": np.log1p(self.begun.between(who, t - DAY, t)),
            "share": _share(self.taken, self.expected, who, t),
            "share_in_queue": _share(self.taken_in, self.expected_in, self.queue[contact][pairs.row] * size + who, t),
            "tenure": np.log1p(np.maximum(_days(t, self.hired[who]), 0)),
            "pairing": np.where(customer >= 0, np.log1p(pairing), 0.0),
        }
        return np.stack([columns[name] for name in NAMES], axis=1)

    def _load(self, who: Ints, t: Ints) -> tuple[Floats, Floats]:
        """Hand-overs in hand, those of the last day that have not ended, and minutes since the last one ended."""
        began = self.begun.between(who, t - DAY, t)
        done = self.ended.between(who, t - DAY, t)
        load = np.maximum(began - done, 0.0)
        last = self.ended.latest(who, t)
        minutes = np.where(last == NULL_TIME, DAY, t - np.where(last == NULL_TIME, t, last)) / MINUTE
        return load, np.where(load > 0, 0.0, np.minimum(minutes, DAY / MINUTE))


def _share(taken: Timeline, expected: Timeline, group: Ints, t: Ints) -> Floats:
    """log((taken + κ) / (expected + κ)) over the last four weeks."""
    had, due = (line.between(group, t - PAST, t) for line in (taken, expected))
    return np.asarray(np.log((had + PRIOR) / (due + PRIOR)))


def _ranks(idle: Floats, pairs: Pairs) -> Floats:
    """(P,) 0 for the longest idle of a list … 1 for who was idle last, ties in the list's order."""
    order = np.lexsort((-idle, pairs.row))
    place = np.empty(len(idle))
    place[order] = np.arange(len(idle)) - pairs.offsets[:-1][pairs.row]
    return np.asarray(place / np.maximum(pairs.lengths - 1, 1)[pairs.row])


def _days(t: Ints, hired: Ints) -> Floats:
    return np.where(hired == NULL_TIME, 365.0, (t - np.where(hired == NULL_TIME, t, hired)) / DAY)
