"""One replication of a centre under a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre, positions
from evaluation.simulate.demand import Demand, poisson
from evaluation.simulate.entries import begin, hand_over, look
from evaluation.simulate.loop import advance
from evaluation.simulate.policies import Choice, Decide, Rule, Vectors, View, pairs_of
from evaluation.simulate.state import (
    ABANDONED,
    CONTACTS,
    COUNTS,
    DECIDE,
    ENDS_SHIFT,
    FINISHED,
    FULL,
    NOBODY,
    OPEN,
    STARTS_SHIFT,
    WAITING,
    Contacts,
    Heap,
    Queues,
    Staff,
    State,
)
from evaluation.simulate.told import Told
from evaluation.simulate.world import DECIDED, Arms, Policy, World
from twotower.errors import ConfigError, TwoTowerError

Array = Any  # of whichever type
Longs = npt.NDArray[np.int64]
ROOM = 1.25  # contacts that there is room for, for each first one, to begin with
DRAIN_S = 14 * 24 * 3600.0  # after the horizon, what waits then is left over


@dataclass(frozen=True)
class Truth:
    """What contacts of a class differ by: log-odds x·y of contacts (N, D) and CSAs (J, D), `logit` (N,), and `pairs`
    (N, J). Rows of vectors and pairs are those of `Demand.row`."""

    vectors: Vectors
    logit: npt.NDArray[np.float64] | None = None
    pairs: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Records:
    """What happened to every contact (M,), first ones and follow-ups, in the order in which they came to be; seconds.

    csa NOBODY, start and end NaN where nobody took it; status of `state.OPEN` (left over at the end), RESOLVED,
    UNRESOLVED, ABANDONED, TRANSFERRED. busy_s (J,): seconds of each CSA with work in hand.
    """

    arrival: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int32]
    csa: npt.NDArray[np.int32]
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    status: npt.NDArray[np.int8]
    row: npt.NDArray[np.int32]
    parent: npt.NDArray[np.int32]
    busy_s: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.arrival)


def simulate(
    centre: Centre, rule: Rule, seed: int = 0, replication: int = 0, demand: Demand | None = None,
    truth: Truth | None = None,
) -> Records:  # fmt: skip
    """One replication. demand: default, drawn by the centre's rates. Raises ConfigError for what does not fit."""
    demand = poisson(centre, seed, replication) if demand is None else demand
    rows = int(demand.row.max(initial=-1)) + 1
    world = world_of(centre, truth, rows)
    policy = policy_of(centre, rule, world, rows)
    state = state_of(centre, demand, truth)
    decide = rule.start() if rule.start is not None else None
    return records_of(run_through(world, policy, None, state, len(demand), centre.horizon_s + DRAIN_S, decide))


def policy_of(centre: Centre, rule: Rule, world: World, rows: int) -> Policy:
    """A rule as arrays. Raises ConfigError where it does not fit the centre, or the rows of the contacts there are."""
    policy = rule.arrays(centre)
    if policy.contacts.shape[1] and len(policy.contacts) < rows:
        raise ConfigError(f"policy {rule.name}: vectors of {len(policy.contacts)} contacts; {rows} expected")
    for whose, pairs in (("truth", world.pairs), (f"policy {rule.name}", policy.pairs)):
        if 0 < len(pairs) < rows:
            raise ConfigError(f"{whose}: pairs of {len(pairs)} contacts; {rows} expected")
    return policy


def run_through(
    world: World, policy: Policy, arms: Arms | None, state: State, first: int, until: float, decide: Decide | None
) -> State:
    """Advance to the end, growing arrays and asking for decisions on the way. first: how many contacts arrive by
    themselves; until: seconds at which to end at the latest."""
    clock, told = float(policy.clock_s[0]), None if decide is None else Told(decide)
    asked = clock if clock > 0 else np.inf
    while True:
        why = advance(world, policy, arms, state, first, min(asked, until))
        if why == FULL:
            state = _grown(state)
            continue
        if why == FINISHED or (why != DECIDE and state.now[0] >= until):
            if policy.kind[0] != DECIDED or state.counts[WAITING] == 0 or state.now[0] >= until:
                return state
            if asked == np.inf:  # nothing will happen any more, and nobody is to be asked again
                return state
            state.now[0] = asked
        again = np.inf if decide is None or told is None else _ask(world, state, decide, told)
        now = float(state.now[0])
        asked = min(now + clock if clock > 0 else np.inf, now + again)


def _ask(world: World, state: State, decide: Decide, told: Told) -> float:
    """Let the rule decide, and do as it says; seconds until it is to be asked again."""
    contacts, csas = look(state)
    if not len(contacts) or not len(csas):
        return np.inf
    told.tell(state)
    view = _view(world, state, contacts, csas)
    choice = decide(view)
    for place, csa in np.asarray(choice.pairs, np.int64).reshape(-1, 2).tolist():
        _check(world, state, view, choice, place, csa)
        contact = int(view.contact[place])
        hand_over(world, state, contact, csa)
        told.given(state, contact)
    if not choice.again_s > 0:
        raise TwoTowerError(f"a policy wants to be asked again after {choice.again_s} s; more than 0 expected")
    return choice.again_s


def _check(world: World, state: State, view: View, choice: Choice, place: int, csa: int) -> None:
    """Raises TwoTowerError for a pair that cannot be: a defect of the rule."""
    if not (0 <= place < len(view.contact) and 0 <= csa < len(world.capacity)):
        raise TwoTowerError(f"a policy chose contact {place} and CSA {csa}; {len(view.contact)} contacts wait")
    contact, kind = int(view.contact[place]), int(view.kind[place])
    if state.contacts.csa[contact] != NOBODY:
        raise TwoTowerError(f"a policy gave contact {place} to two CSAs")
    full = state.staff.work[csa] >= world.capacity[csa] or not state.staff.on_shift[csa]
    if full or not world.handle[kind, csa] > 0 or view.barred[place] == csa:
        raise TwoTowerError(f"a policy gave contact {place} of class {kind} to CSA {csa}, who cannot take it now")


def _view(world: World, state: State, contacts: Longs, csas: Longs) -> View:
    c, staff, now = state.contacts, state.staff, float(state.now[0])
    contacts = contacts[np.lexsort((contacts, c.arrival[contacts]))]
    busy = staff.busy_s + np.where(staff.work > 0, now - staff.since_busy, 0.0)
    staffed = staff.shift_s + np.where(staff.on_shift, now - staff.shift_began, 0.0)
    return View(
        now, contacts, c.kind[contacts].astype(np.int64), c.row[contacts].astype(np.int64), now - c.arrival[contacts],
        c.barred[contacts].astype(np.int64), csas, (world.capacity[csas] - staff.work[csas]).astype(np.int64),
        now - staff.since[csas], busy, staffed, staff.taken.copy(),
    )  # fmt: skip


def world_of(centre: Centre, truth: Truth | None, first: int) -> World:
    """The centre as arrays. Raises ConfigError where vectors do not fit."""
    k, j = len(centre.classes), len(centre.csas)

    def or_else(values: npt.NDArray[np.float64] | None, default: float, size: int) -> npt.NDArray[np.float64]:
        return np.full(size, default) if values is None else np.ascontiguousarray(values, np.float64)

    vectors = Vectors(np.zeros((0, 0), np.float32), np.zeros((j, 0), np.float32)) if truth is None else truth.vectors
    if len(vectors.csas) != j or (vectors.csas.shape[1] and len(vectors.contacts) < first):
        given = f"{len(vectors.contacts)} contacts and {len(vectors.csas)} CSAs"
        raise ConfigError(f"truth: vectors of {given}; {first} and {j} expected")
    p = np.clip(centre.success, 1e-12, 1 - 1e-12)
    learning, burnout = centre.learning, centre.burnout
    of = (
        learning.gain, learning.scale, learning.slow, burnout.tau_s, burnout.threshold, burnout.harm, burnout.tired,
        centre.chats,
    )  # fmt: skip
    to = np.zeros(k) if centre.transfer_to is None else centre.transfer_to
    return World(
        np.ascontiguousarray(centre.handle_s, np.float64), or_else(centre.sigma, 0.8, k), np.log(p / (1 - p)),
        np.ascontiguousarray(vectors.contacts, np.float32), np.ascontiguousarray(vectors.csas, np.float32),
        pairs_of(None if truth is None else truth.pairs, j, "truth"),
        np.ones(j, np.int32) if centre.capacity is None else centre.capacity.astype(np.int32),
        or_else(centre.repeats, 0.0, k), or_else(centre.delay_s, 3600.0, k), or_else(centre.transfers, 0.0, k),
        to.astype(np.int32), or_else(centre.hard, 0.0, k), np.array(of, np.float64),
        np.stack([or_else(one, 1.0, centre.rates.shape[1]) for one in (centre.pace, centre.after_pace)], axis=1),
        np.array([float(centre.interval_s)]), or_else(centre.head_start_s, 0.0, k),
        np.zeros((1, j, 0)) if centre.after_s is None else np.ascontiguousarray(centre.after_s, np.float64),
        np.array(centre.after_waiting, np.int64),
        positions(centre.can), positions(centre.can.T),
    )  # fmt: skip


def state_of(centre: Centre, demand: Demand, truth: Truth | None) -> State:
    """The centre before anything has happened."""
    k, j, n = len(centre.classes), len(centre.csas), len(demand)
    size = int(n * ROOM) + 64

    def grown(values: Array, fill: float) -> Array:
        return np.concatenate([values, np.full(size - n, fill, values.dtype)])

    logit = demand.logit if truth is None or truth.logit is None else demand.logit + truth.logit[:n]
    nobody = [np.full(size, NOBODY, np.int32) for _ in range(5)]
    contacts = Contacts(
        grown(demand.arrival, np.inf), grown(demand.kind, 0), grown(demand.patience, np.inf), grown(demand.key, 0),
        grown(logit, 0.0), grown(demand.row, 0), nobody[0], nobody[1], nobody[2],
        np.full(size, np.nan), np.full(size, np.nan), np.zeros(size, np.int8), nobody[3], nobody[4],
    )  # fmt: skip
    ring = np.full((2, j + 1), NOBODY, np.int32)
    ring[:, j] = j
    zeros = [np.zeros(j) for _ in range(6)]
    handled = np.full(j, 1e12) if centre.experience is None else centre.experience.astype(np.float64)
    staff = Staff(
        np.zeros(j, np.bool_), np.zeros(j, np.int32), zeros[0], handled, zeros[1], zeros[2], zeros[3], zeros[4],
        zeros[5], np.zeros(j, np.int64), np.zeros(j), np.zeros(j), ring[0].copy(), ring[1].copy(),
    )  # fmt: skip
    events = 0 if centre.shifts is None else 2 * len(centre.shifts.csa)
    heap = Heap(np.empty(size + events + 64), np.empty(size + events + 64, np.int64))
    queues = Queues(np.full(k, NOBODY, np.int32), np.full(k, NOBODY, np.int32), np.zeros(k, np.int64))
    state = State(contacts, staff, queues, heap, np.zeros(COUNTS, np.int64), np.zeros(1))
    state.counts[CONTACTS] = n
    _begin(centre, state)
    return state


def _begin(centre: Centre, state: State) -> None:
    """Who works from the start has room; the other shifts are events."""
    if centre.shifts is None:
        state.staff.on_shift[:] = True
        begin(state, np.arange(len(centre.csas)), np.zeros(0), np.zeros(0, np.int64))
        return
    shifts = centre.shifts.joined()
    codes = [(event << 32) | shifts.csa.astype(np.int64) for event in (STARTS_SHIFT, ENDS_SHIFT)]
    times = np.column_stack([shifts.starts, shifts.ends]).ravel()
    begin(state, np.zeros(0, np.int64), times, np.column_stack(codes).ravel())


def _grown(state: State) -> State:
    """With twice the room for contacts and events."""

    def longer(values: Array, fill: float) -> Array:
        return np.concatenate([values, np.full(len(values), fill, values.dtype)])

    fills = {"arrival": np.inf, "patience": np.inf, "start": np.nan, "end": np.nan} | dict.fromkeys(
        ("parent", "barred", "csa", "before", "after"), NOBODY
    )
    contacts = Contacts(*(longer(values, fills.get(name, 0)) for name, values in state.contacts._asdict().items()))
    heap = Heap(*(longer(values, 0) for values in state.heap))
    return state._replace(contacts=contacts, heap=heap)


def records_of(state: State) -> Records:
    """What happened; who waited longer than they would at the end has abandoned."""
    c, n = state.contacts, int(state.counts[CONTACTS])
    status, end = c.status[:n].copy(), c.end[:n].copy()
    gone = c.arrival[:n] + c.patience[:n]
    lost = (status == OPEN) & (c.csa[:n] == NOBODY) & np.isfinite(gone)
    status[lost], end[lost] = ABANDONED, gone[lost]
    staff = state.staff
    busy = staff.busy_s + np.where(staff.work > 0, state.now[0] - staff.since_busy, 0.0)
    parts: tuple[Array, ...] = (c.arrival, c.kind, c.csa, c.start)
    arrival, kind, csa, start = (part[:n].copy() for part in parts)
    return Records(arrival, kind, csa, start, end, status, c.row[:n].copy(), c.parent[:n].copy(), busy)
