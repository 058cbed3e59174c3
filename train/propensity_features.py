"""What a queue could see of each eligible CSA when a contact arrived: exposure, load, idleness, shift.

Notable: nothing is stored pair by pair. Counts of the past lie in bins of a day or longer, a contact reads those before
its own bin; what is open and since when a CSA has been idle is looked up among all hand-overs by two binary searches a
pair. So any contacts can be asked for in any order, and each sees strictly what was before its arrival. A shift is a
plan: it is on from its start to just before its end, and known beforehand. Hand-overs without a known end are left out,
as in all that is learnt: whoever cuts a table at a moment has none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from twotower.clock import DAY, HOUR, NEVER, NULL_TIME, from_arrow
from twotower.errors import DataError
from twotower.tables.load import codes
from twotower.tables.log import Log
from twotower.tables.read import read_table
from twotower.tables.schema import SHIFTS

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

HALF_LIFE = 28 * DAY
"""After so long a hand-over counts half."""
PRIOR = 3.0
"""Pseudo-hand-overs at the equal chance behind every rate: log rates are taken to vary by 1/√3 between CSAs."""
LONGEST = DAY
"""So long a hand-over is open at most, and nobody counts as idle for longer."""
MOST_CELLS = 1 << 24
"""Of each table of counts (bins × queues × CSAs); bins grow longer where a day would need more."""
MINUTE = HOUR // 60


@dataclass(frozen=True)
class Shifts:
    """Who works when: `csa` codes, `starts_at`, `ends_at` (µs), sorted by CSA and start."""

    csa: Indices
    starts_at: Indices
    ends_at: Indices


def read_shifts(folder: str | Path, log: Log) -> Shifts | None:
    """The shifts of the log's CSAs; None where the folder has no such table. Raises DataError where it is damaged."""
    if not (Path(folder) / SHIFTS.file).exists():
        return None
    table = read_table(folder, SHIFTS)
    csa = codes(table["csa_id"], log.csas.ids).astype(np.int64)
    starts_at, ends_at = (from_arrow(table[name], NULL_TIME) for name in ("starts_at", "ends_at"))
    order = np.lexsort((starts_at, csa))
    order = order[csa[order] >= 0]  # a log that was cut knows fewer CSAs
    return Shifts(csa[order], starts_at[order], ends_at[order])


class Pairs(NamedTuple):
    """Eligible CSAs of n contacts, contact after contact: `contact` (n,) positions in the log, `row` (P,) which of
    them, `csa` (P,), `offsets` (n + 1,)."""

    contact: Indices
    row: Indices
    csa: Indices
    offsets: Indices


def listed_pairs(log: Log, contacts: Indices) -> Pairs:
    """Pairs of the contacts' lists; none for a contact without one."""
    if log.contacts.eligible is None:
        none = np.zeros(0, np.int64)
        return Pairs(contacts, none, none, np.zeros(len(contacts) + 1, np.int64))
    lists = log.contacts.eligible.take(contacts).distinct()
    return Pairs(contacts, lists.rows, lists.values.astype(np.int64), lists.offsets)


class Choices(NamedTuple):
    """First hand-overs of contacts, sorted by `assigned_at`: `contact`, `csa`, `known_at`, and the `propensity` with
    which the CSA was chosen, NaN where it was not written down."""

    contact: Indices
    csa: Indices
    assigned_at: Indices
    known_at: Indices
    propensity: Floats

    def take(self, rows: Indices | Flags) -> Choices:
        """Those at `rows`, or where a mask holds."""
        contact, csa, assigned_at, known_at = (column[rows] for column in self[:4])
        return Choices(contact, csa, assigned_at, known_at, self.propensity[rows])


def first_choices(log: Log) -> Choices:
    """What the queue chose: a contact's first hand-over; transfers are other decisions. Unknown ends are left out, also
    where that makes a transfer the first: a table that was cut does not hold them.

    A propensity of 1 says no more than the choice does, and counts as not written down: it comes from a rule without
    chance, and what varied is who happened to be free. Raises DataError where one is not in (0, 1].
    """
    moves = log.handovers
    strange = np.flatnonzero((moves.propensity <= 0) | (moves.propensity > 1))
    if len(strange):
        contact = log.contacts.ids[int(moves.contact[strange[0]])].as_py()
        raise DataError(
            f"interactions.parquet, column propensity: {moves.propensity[strange[0]]:g} at contact {contact}; a "
            "probability in (0, 1] was expected: write the right one, or null where it is not known"
        )
    order = np.lexsort((np.arange(len(moves)), moves.assigned_at, moves.contact))
    order = order[moves.known_at[order] < NEVER]
    first = order[np.append(True, np.diff(moves.contact[order]) != 0)[: len(order)]]
    first = first[np.argsort(moves.assigned_at[first], kind="stable")]
    propensity = moves.propensity[first]
    return Choices(
        moves.contact[first].astype(np.int64), moves.csa[first].astype(np.int64), moves.assigned_at[first],
        moves.known_at[first], np.where(propensity < 1, propensity, np.float32(np.nan)),
    )  # fmt: skip


class Events:
    """Events (n,) of groups 0 … `groups` − 1 at times, for questions about what was before a moment."""

    def __init__(self, group: Indices, time: Indices, groups: int) -> None:
        order = np.lexsort((time, group))
        self.time, self.order, self._times = time[order], order, np.sort(time)
        self._first = np.searchsorted(group[order], np.arange(groups))
        # A time's rank in place of the time: the key of any log fits 64 bits.
        self._key = group[order] * (len(time) + 1) + np.searchsorted(self._times, self.time)

    def before(self, group: Indices, moment: Indices) -> tuple[Indices, Indices]:
        """How many events of `group` (P,) lie strictly before `moment` (P,), and the position of the latest in
        `time`, which is another group's where there is none."""
        rank = np.searchsorted(self._times, moment)
        place = np.searchsorted(self._key, group * (len(self._times) + 1) + rank)
        return place - self._first[group], place - 1


class Counts:
    """Decayed sums of hand-overs by bin of time, queue and CSA; row 0 of the queues holds them all.

    `taken` what each CSA got; `expected` what they would have got had each contact gone to any of its eligible CSAs
    alike, both f4 (S, Q + 1, J); `logged` f4 (S, J) or None: sums of log(propensity · eligible) of what was taken where
    that was written down, and `logs` how many. Bin s holds what was before it began.
    """

    def __init__(self, log: Log, choices: Choices, queue: Indices, queues: int) -> None:
        arrived, csas = log.contacts.arrived_at, len(log.csas.ids)
        self.start, span = int(arrived[0]), int(arrived[-1] - arrived[0]) + 1
        most = max(8, MOST_CELLS // (csas * (queues + 1)))
        self.width = max(DAY, -(-span // most))
        bins = -(-span // self.width)
        self.taken, self.expected = (np.zeros((bins, queues + 1, csas), np.float32) for _ in range(2))
        has = bool(np.isfinite(choices.propensity).any())
        self.logged, self.logs = (np.zeros((bins, csas), np.float32) if has else None for _ in range(2))
        for part in np.array_split(np.arange(len(choices.contact)), max(1, len(choices.contact) // 50_000)):
            self._add(log, choices.take(part), queue)
        kept = np.float32(0.5 ** (self.width / HALF_LIFE))
        for sums in (self.taken, self.expected, self.logged, self.logs):
            if sums is not None:
                accumulate(sums, kept)

    def _add(self, log: Log, choices: Choices, queue: Indices) -> None:
        moment = self.bin(choices.assigned_at)
        known = moment < len(self.taken)  # later ones no contact can have seen
        choices, moment = choices.take(known), moment[known]
        pairs = listed_pairs(log, choices.contact)
        length = np.diff(pairs.offsets)
        row = pairs.row
        for q in (np.zeros_like(moment), 1 + queue[choices.contact]):
            np.add.at(self.taken, (moment, q, choices.csa), (length > 0).astype(np.float32))
            np.add.at(self.expected, (moment[row], q[row], pairs.csa), (1 / length[row]).astype(np.float32))
        if self.logged is not None and self.logs is not None:
            told = np.isfinite(choices.propensity) & (length > 0)
            where = moment[told], choices.csa[told]
            np.add.at(self.logged, where, np.log(choices.propensity[told] * length[told]).astype(np.float32))
            np.add.at(self.logs, where, np.float32(1))

    def bin(self, moment: Indices) -> Indices:
        """The bin of each moment."""
        found: Indices = np.maximum((moment - self.start) // self.width, 0)
        return found


def accumulate(sums: Floats, kept: np.float32) -> None:
    """In place, from what happened in each bin to what was there, decayed, when it began."""
    begun = np.zeros_like(sums[0])
    for s in range(len(sums)):
        happened = sums[s].copy()
        sums[s] = begun
        begun = (begun + happened) * kept


class QueueState:
    """Features of pairs of contacts and eligible CSAs, as of each contact's arrival; `names` says which."""

    def __init__(self, log: Log, shifts: Shifts | None) -> None:
        self.log, self.shifts, self.choices = log, shifts, first_choices(log)
        labels = pc.dictionary_encode(pc.fill_null(log.contacts.queue, ""))
        self.queue = labels.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        self.counts = Counts(log, self.choices, self.queue, len(labels.dictionary))
        moves, csas = log.handovers, len(log.csas.ids)
        ended = np.flatnonzero(moves.known_at < NEVER)
        csa, begun = moves.csa[ended].astype(np.int64), moves.assigned_at[ended]
        self._begun = Events(csa, begun, csas)
        self._ended = Events(csa, np.minimum(moves.ended_at[ended], begun + LONGEST), csas)
        self._shifts = None if shifts is None else Events(shifts.csa, shifts.starts_at, csas)
        logged = ("propensity_before",) if self.counts.logged is not None else ()
        on_shift = ("on_shift", "shift_hours") if shifts is not None else ()
        rates = ("share", "share_in_queue", "rate", "rate_in_queue")
        self.names = (*rates, *logged, "open", "idle_minutes", *on_shift)

    def at(self, pairs: Pairs) -> Doubles:
        """(P, K) the features of pairs, in the order of `names`.

        Shares are log decayed hand-overs; rates are log(taken + κ) − log(expected + κ), how much more often a CSA was
        chosen than chance would have it; `propensity_before` is the mean of log(propensity · eligible) of what they
        took, shrunken to 0 by one; `idle_minutes` and `shift_hours` are log(1 + value).
        """
        moment = self.log.contacts.arrived_at[pairs.contact][pairs.row]
        place, csa, counts = self.counts.bin(moment), pairs.csa, self.counts
        queue = 1 + self.queue[pairs.contact][pairs.row]
        shares, rates = [], []
        for q in (np.zeros_like(queue), queue):
            taken, expected = (sums[place, q, csa].astype(np.float64) for sums in (counts.taken, counts.expected))
            shares.append(np.log(taken + 0.5))
            rates.append(np.log(taken + PRIOR) - np.log(expected + PRIOR))
        columns = [*shares, *rates]
        if counts.logged is not None and counts.logs is not None:
            columns.append(counts.logged[place, csa] / (counts.logs[place, csa] + 1.0))
        return np.column_stack([*columns, *self._work(csa, moment), *self._shift(csa, moment)])

    def _work(self, csa: Indices, moment: Indices) -> tuple[Doubles, Doubles]:
        """Hand-overs open, and log minutes since the last one ended, 0 while one is open."""
        begun, _ = self._begun.before(csa, moment)
        ended, last = self._ended.before(csa, moment)
        still = (begun - ended).astype(np.float64)
        since = np.where(ended > 0, np.minimum(moment - self._ended.time[last], LONGEST), LONGEST)
        return still, np.where(still > 0, 0.0, np.log1p(since / MINUTE))

    def _shift(self, csa: Indices, moment: Indices) -> tuple[Doubles, ...]:
        """Whether on shift, and log hours since it began, 0 off shift."""
        if self.shifts is None or self._shifts is None:
            return ()
        if not len(self.shifts.csa):
            return np.zeros(len(csa)), np.zeros(len(csa))
        count, last = self._shifts.before(csa, moment + 1)
        row = self._shifts.order[last]
        on = (count > 0) & (self.shifts.ends_at[row] > moment)
        since = np.where(on, moment - self.shifts.starts_at[row], 0)
        return on.astype(np.float64), np.log1p(since / HOUR)
