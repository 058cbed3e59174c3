"""The legacy queue: who could have taken a contact, and whom it chose.

Eligible is who is employed, on shift, speaks the language, serves the contact's queue and happens to be idle. Idleness
is an independent draw whose probability is set so that the mean number of eligible CSAs is the one asked for. Among
the eligible the queue takes the longest idle, and the fast are idle longest; with Gumbel noise in the idle time that is
exactly a softmax over speed, π₀(a | x) ∝ exp(γ·speed_a), which is what is sampled and what is logged.

A contact without an eligible CSA is abandoned. What the queue logs of its probabilities may be wrong: under
`propensity_error` e, logged is π₀·exp(e·(ε_a + ε_xa) / √2) over its sum, with ε ~ N(0, 1) for each CSA and each pair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evaluation.generate.arrivals import Contacts
from evaluation.generate.people import Staff
from evaluation.generate.settings import Settings
from twotower.clock import NEVER, SECOND

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

SLOT = 1800 * SECOND
"""Shifts begin on the half-hour."""
PER_DAY = 48
SHIFT_SLOTS = 17
STARTS, START_SHARES = (12, 18, 26, 43), (0.31, 0.36, 0.26, 0.07)
"""Half-hours at which shifts begin: early, middle, late and night; together they leave no gap."""
ABSENT = 0.06
IDLE_AT_MOST = 0.97


@dataclass(frozen=True)
class Roster:
    """Who works when."""

    csa: Ints
    starts_at: Ints
    ends_at: Ints
    on: Flags
    """(half-hours of the window, J)."""


def draw_roster(settings: Settings, staff: Staff) -> Roster:
    """Five days a week of eight and a half hours, less absences, while employed."""
    random = settings.random("roster")
    size, days = len(staff), settings.days
    start = np.array(STARTS)[np.searchsorted(np.cumsum(START_SHARES)[:-1], random.random(size), side="right")]
    first_off = random.integers(0, 7, size)
    day = np.arange(days)
    works = ((day[:, None] - first_off) % 7 >= 2) & (random.random((days, size)) >= ABSENT)
    at, csa = np.nonzero(works)
    slot = at * PER_DAY + start[csa]
    starts_at = settings.begins + slot * SLOT
    ends_at = starts_at + SHIFT_SLOTS * SLOT
    employed = (staff.hired_at[csa] <= starts_at) & (ends_at <= staff.left_at[csa])
    slot, csa, starts_at, ends_at = slot[employed], csa[employed], starts_at[employed], ends_at[employed]
    on = np.zeros(((days + 1) * PER_DAY, size), dtype=bool)
    for step in range(SHIFT_SLOTS):
        on[slot + step, csa] = True
    order = np.lexsort((starts_at, csa))
    return Roster(csa[order], starts_at[order], ends_at[order], on)


@dataclass(frozen=True)
class Choice:
    """What the queue did with some contacts, in order."""

    offsets: Ints
    """(n + 1,) contact i's eligible CSAs are `csa[offsets[i]:offsets[i + 1]]`."""
    csa: Ints
    propensity: Floats
    """π₀ of each eligible CSA; sums to 1 over a contact."""
    logged: Floats
    """What the queue believes π₀ to be; sums to 1 over a contact."""
    helps: Flags
    """Who of `csa` may be given a transfer."""
    chosen: Ints
    """(n,) position in `csa` of who was chosen, −1 where nobody was eligible."""


class Queue:
    """The legacy queue of one centre."""

    def __init__(self, settings: Settings, staff: Staff, roster: Roster, contacts: Contacts, gamma: float) -> None:
        self._begins = settings.begins
        self._on = roster.on
        # Rows are (language, queue): who speaks the one and serves the other.
        speaks = staff.fluency.T > 0
        self._able = speaks[:, None, :] & staff.queues.T[None, :, :]
        self._weight = np.exp(gamma * staff.speed.astype(np.float64))
        self._left, self._bounded = staff.most.copy(), np.flatnonzero(staff.most < NEVER)
        self._test = len(contacts) - settings.test_contacts
        self._error, self._errors = settings.propensity_error, settings.random("propensities")
        self._belief = self._errors.normal(0, 1, len(staff)) if self._error else np.zeros(len(staff))
        self.idle = min(IDLE_AT_MOST, settings.eligible / max(self._mean_pool(contacts), 1e-9))

    def choose(self, contacts: Contacts, rows: slice, random: np.random.Generator) -> Choice:
        """Draws who is idle and whom the queue takes, for a block of contacts."""
        pool = self._pool(contacts, rows)
        pool &= random.random(pool.shape, np.float32) < self.idle
        uniform = random.random(len(pool))
        choice = self._within_bounds(pool, uniform, max(0, self._test - rows.start))
        return self._believed(choice) if self._error else choice

    def _take(self, pool: Flags, uniform: Floats, before: int) -> Choice:
        """Whom the queue takes out of a pool (n, J); the first `before` contacts come before the test."""
        row, csa = np.nonzero(pool)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(pool)))])
        propensity = normalise(self._weight[csa], offsets)
        helps = np.ones(len(csa), dtype=bool)
        if len(self._bounded):
            helps = (row >= before) | ~np.isin(csa, self._bounded)
        return Choice(offsets, csa, propensity, propensity, helps, draw(propensity, offsets, uniform))

    def _within_bounds(self, pool: Flags, uniform: Floats, before: int) -> Choice:
        """The same, with who has had as many as they are given before the test out of the pool until then.

        One leaves at a time, the first in time: what was chosen up to there stands, what comes after is chosen anew.
        """
        pool[:before, self._bounded[self._left[self._bounded] == 0]] = False
        while True:
            choice = self._take(pool, uniform, before)
            if not len(self._bounded):
                return choice
            taken = np.full(len(pool), -1)
            taken[choice.chosen >= 0] = choice.csa[choice.chosen[choice.chosen >= 0]]
            had = taken[:before, None] == self._bounded
            over = had.cumsum(axis=0) > self._left[self._bounded]
            if not over.any():
                self._left[self._bounded] -= had.sum(axis=0)
                return choice
            first = np.where(over.any(axis=0), over.argmax(axis=0), before)
            pool[first.min() : before, self._bounded[first.argmin()]] = False

    def _believed(self, choice: Choice) -> Choice:
        """The choice with errors in what is logged of its probabilities."""
        error = (self._belief[choice.csa] + self._errors.normal(0, 1, len(choice.csa))) / np.sqrt(2)
        logged = normalise(choice.propensity * np.exp(self._error * error), choice.offsets)
        return replace(choice, logged=logged)

    def _pool(self, contacts: Contacts, rows: slice) -> Flags:
        slot = (contacts.arrived_at[rows] - self._begins) // SLOT
        return np.asarray(self._on[slot] & self._able[contacts.language[rows], contacts.queue[rows]])

    def _mean_pool(self, contacts: Contacts) -> float:
        """Mean number of able CSAs on shift, from (up to) some ten thousand contacts spread over the window."""
        step = max(1, len(contacts) // 10_000)
        return float(self._pool(contacts, slice(0, None, step)).sum(axis=1).mean())


def normalise(weight: Floats, offsets: Ints) -> Floats:
    """Weights of ragged rows divided by their row's sum; a row of zeros stays one."""
    count = np.diff(offsets)
    sums = np.zeros(len(count))
    if len(weight):
        # reduceat cannot see empty rows, and a running total would lose digits over a million rows.
        sums[count > 0] = np.add.reduceat(weight, offsets[:-1][count > 0])
    return np.asarray(weight / np.repeat(np.where(sums > 0, sums, 1), count))


def draw(probability: Floats, offsets: Ints, uniform: Floats) -> Ints:
    """One position per ragged row by inversion; −1 for an empty row.

    The running total over all rows serves every row: row i owns the stretch between its offsets.
    """
    total = np.concatenate([[0.0], np.cumsum(probability)])
    low, high = total[offsets[:-1]], total[offsets[1:]]
    at = np.searchsorted(total, low + uniform * (high - low), side="right") - 1
    at = np.clip(at, offsets[:-1], offsets[1:] - 1)
    return np.where(offsets[1:] > offsets[:-1], at, -1)
