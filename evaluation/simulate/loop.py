"""The event loop: arrivals, abandonment, hand-overs, repeats, transfers, shifts, learning and strain.

Notable: an arrival that nobody takes is put at the end of its class's queue and is not an event any more: who is first
in a queue and out of patience is dropped when somebody looks, which for figures made of records is the same and spares
half of the events. Policies that are asked in Python get queues without such contacts.
"""

from __future__ import annotations

import math

import numpy as np

from evaluation.simulate import draws
from evaluation.simulate.arms import begins_next, both, next_block, pick, turn
from evaluation.simulate.borrow import borrow, entry, inner
from evaluation.simulate.choosing import choose_contact, choose_csa, step_of
from evaluation.simulate.heap import pop, push
from evaluation.simulate.queues import drop, queue, unqueue
from evaluation.simulate.state import (
    AGAIN,
    ARRIVED,
    CONTACTS,
    DECIDE,
    ENDED,
    EVENTS,
    FINISHED,
    FREE,
    FULL,
    NOBODY,
    REACHED,
    READY,
    RESOLVED,
    RETURNS,
    STARTS_SHIFT,
    TRANSFERRED,
    UNRESOLVED,
    WAITING,
    State,
)
from evaluation.simulate.world import CONTROL, DECIDED, INDEX, LEVELS, Arms, Policy, World


@inner
def join_free(state: State, csa: int) -> None:
    """The CSA has room: last of those who have."""
    before, after, ring = state.staff.before, state.staff.after, len(state.staff.work)
    last = before[ring]
    after[last], before[csa], after[csa], before[ring] = csa, last, ring, csa
    state.counts[FREE] += 1


@inner
def leave_free(state: State, csa: int) -> None:
    """The CSA has no room any more, if they had any."""
    before, after = state.staff.before, state.staff.after
    if after[csa] == NOBODY:
        return
    after[before[csa]], before[after[csa]] = after[csa], before[csa]
    before[csa] = after[csa] = NOBODY
    state.counts[FREE] -= 1


@inner
def strain(world: World, state: State, csa: int, target: float) -> float:
    """Bring a CSA's strain to now and give it another target; how far it is over the threshold, in [0, 1]."""
    staff, tau, threshold = state.staff, world.of[3], world.of[4]
    if tau <= 0:
        return 0.0
    now = state.now[0]
    rest = math.exp(-(now - staff.strained_at[csa]) / tau)
    staff.strain[csa] = staff.target[csa] + (staff.strain[csa] - staff.target[csa]) * rest
    staff.strained_at[csa] = now
    if target >= 0:
        staff.target[csa] = target
    over: float = max(0.0, staff.strain[csa] - threshold) / (1.0 - threshold)
    return over


@inner
def success(world: World, state: State, contact: int, csa: int, over: float) -> float:
    """The true probability that a CSA resolves a contact now."""
    c = state.contacts
    logit = world.success[c.kind[contact], csa] + c.logit[contact] - world.of[5] * over
    row = c.row[contact]
    for d in range(world.csas.shape[1]):
        logit += world.contacts[row, d] * world.csas[csa, d]
    if len(world.pairs):
        logit += world.pairs[row, csa]
    if world.of[0] > 0:
        logit -= world.of[0] * math.exp(-state.staff.handled[csa] / world.of[1])
    return 1.0 / (1.0 + math.exp(-logit))


@inner
def pace(world: World, now: float, of: int) -> float:
    """How many times as long as on average handling (0) and after-call work (1) take that begin now."""
    found: float = world.pace[min(int(now / world.interval_s[0]), len(world.pace) - 1), of]
    return found


@inner
def give(world: World, state: State, contact: int, csa: int) -> None:
    """A CSA takes a contact now; how it will end is drawn now."""
    c, staff, now, kind = state.contacts, state.staff, state.now[0], state.contacts.kind[contact]
    over = strain(world, state, csa, 1.0 + world.hard[kind])
    mean = world.handle[kind, csa] * (1.0 + world.of[6] * over) * (1.0 + world.of[7] * staff.work[csa])
    if world.of[2] > 0:
        mean *= 1.0 + world.of[2] * math.exp(-staff.handled[csa] / world.of[1])
    mean *= pace(world, now, 0)
    key, sigma = c.key[contact], world.sigma[kind]
    if sigma < 0:
        took = -mean * math.log(draws.uniform(key, draws.HANDLE))
    elif sigma == 0:
        took = mean
    else:
        took = mean * math.exp(sigma * draws.normal(key, draws.HANDLE) - 0.5 * sigma * sigma)
    c.csa[contact], c.start[contact], c.end[contact] = csa, now, now + took
    if world.transfers[kind] > 0 and draws.uniform(key, draws.TRANSFER) < world.transfers[kind]:
        c.status[contact] = TRANSFERRED
    else:
        good = draws.uniform(key, draws.OUTCOME) < success(world, state, contact, csa, over)
        c.status[contact] = RESOLVED if good else UNRESOLVED
    if staff.work[csa] == 0:
        staff.since_busy[csa] = now
    staff.work[csa] += 1
    staff.taken[csa] += 1
    staff.since[csa] = now
    leave_free(state, csa)
    if staff.work[csa] < world.capacity[csa]:
        join_free(state, csa)
    push(state.heap, state.counts, now + took, (ENDED << 32) | contact)


@inner
def follow(state: State, contact: int, kind: int, at: float, barred: int) -> None:
    """What comes of a contact arrives at a later moment; the arrays must have room."""
    c, new = state.contacts, state.counts[CONTACTS]
    state.counts[CONTACTS] += 1
    c.key[new] = draws.child(c.key[contact])
    c.arrival[new], c.kind[new], c.patience[new], c.logit[new] = at, kind, c.patience[contact], c.logit[contact]
    c.row[new], c.parent[new], c.barred[new] = c.row[contact], contact, barred
    push(state.heap, state.counts, at, (RETURNS << 32) | new)


@inner
def after_call(world: World, state: State, contact: int) -> float:
    """Seconds of after-call work, by the contact's own number in the table of its CSA, at the level of as many contacts
    as wait whom the CSA could take; 0 without a table."""
    last = world.after.shape[2] - 1
    if last < 1:
        return 0.0
    c, level = state.contacts, len(world.after_waiting) - 1
    csa = c.csa[contact]
    if level > 0:
        drop(state)
        many = 0
        for place in range(world.takes.shape[1]):
            if world.takes[csa, place] != NOBODY:
                many += state.queues.size[world.takes[csa, place]]
        while world.after_waiting[level] > many:
            level -= 1
    table, at = world.after[level, csa], draws.uniform(c.key[contact], draws.AFTER) * last
    low = min(int(at), last - 1)
    seconds: float = table[low] + (table[low + 1] - table[low]) * (at - low)
    return seconds * pace(world, state.now[0], 1)


@inner
def end(world: World, state: State, contact: int) -> None:
    """A hand-over ends: what comes of the contact."""
    c, at, kind, barred = state.contacts, state.now[0], state.contacts.kind[contact], NOBODY
    csa: int = c.csa[contact]
    state.staff.handled[csa] += 1
    key, status = c.key[contact], c.status[contact]
    if status == TRANSFERRED:
        kind, barred = world.transfer_to[kind], csa
    elif status == UNRESOLVED and world.repeats[kind] > 0 and draws.uniform(key, draws.REPEAT) < world.repeats[kind]:
        at -= world.delay_s[kind] * math.log(draws.uniform(key, draws.DELAY))
    else:
        return
    follow(state, contact, kind, at, barred)


@inner
def release(world: World, state: State, contact: int) -> int:
    """After-call work is done as well; the CSA who has room again."""
    staff, now = state.staff, state.now[0]
    csa: int = state.contacts.csa[contact]
    staff.work[csa] -= 1
    staff.since[csa] = now
    if staff.work[csa] == 0:
        strain(world, state, csa, 0.0)
        staff.busy_s[csa] += now - staff.since_busy[csa]
    if staff.on_shift[csa]:
        leave_free(state, csa)
        join_free(state, csa)
    return csa


@inner
def again(policy: Policy, state: State, contact: int, queued: bool) -> None:
    """When to look again who could take a waiting contact, beside whenever somebody gets free."""
    kind, arrival, at = policy.kind[0], state.contacts.arrival[contact], np.inf
    if kind == LEVELS:
        step = step_of(policy, state.now[0] - arrival) if queued else 0
        if step + 1 < len(policy.after_s):
            at = arrival + policy.after_s[step + 1]
    elif kind == INDEX and not queued and policy.hold_s[0] > 0:
        at = arrival + policy.hold_s[0]
    if at < np.inf:
        push(state.heap, state.counts, at, (AGAIN << 32) | contact)


@inner
def waits(state: State, contact: int) -> bool:
    """Whether a contact that was queued has neither been taken nor given up."""
    c = state.contacts
    here: bool = state.now[0] < c.arrival[contact] + c.patience[contact]
    return here and c.status[contact] == 0 and c.csa[contact] == NOBODY


@inner
def place(
    world: World, policy: Policy, arms: Arms | None, state: State, contact: int, csa: int, queued: bool
) -> None:  # fmt: skip
    """A contact goes to somebody or into its queue; or, where there is none, a CSA with room gets whom the policy gives
    them. queued: the contact waits already, and a step of overflow opens or it has been held long enough. Where there
    are arms, the policy is that of the contact's, or of the one whose turn it is to be served."""
    serves, arm, asked = contact == NOBODY, CONTROL, False
    if policy.kind[0] == DECIDED or (queued and not waits(state, contact)):
        if not serves and not queued:
            queue(state, contact)
        return
    # One place each where somebody is chosen and given: the compiler writes them out wherever they are called.
    while True:
        if serves:
            room = csa != NOBODY and state.staff.on_shift[csa] and state.staff.work[csa] < world.capacity[csa]
            if not room or state.counts[WAITING] == 0:
                return
        if arms is not None:
            arm = 1 - arm if asked else turn(world, arms, state, contact, csa)
            if arm == NOBODY:
                return
            policy = pick(arms.policies, arm)
        if serves:
            contact = choose_contact(world, policy, arms, state, csa, arm)
            if contact == NOBODY and not asked and both(arms, state, csa):
                asked = True
                continue
            if contact == NOBODY:
                return
            asked = False
        else:
            csa = choose_csa(world, policy, arms, state, contact, queued) if state.counts[FREE] > 0 else NOBODY
            if csa == NOBODY:
                break
        if serves or queued:
            unqueue(state, contact)
        give(world, state, contact, csa)
        if not serves:
            return
        contact = NOBODY
    if not queued:
        queue(state, contact)
    again(policy, state, contact, queued)


@inner
def shift(state: State, csa: int, on: bool, room: bool) -> None:
    """A CSA's shift begins or ends; what is in hand is finished."""
    if state.staff.on_shift[csa] == on:
        return
    state.staff.on_shift[csa] = on
    leave_free(state, csa)
    if not on:
        state.staff.shift_s[csa] += state.now[0] - state.staff.shift_began[csa]
    else:
        state.staff.since[csa] = state.staff.shift_began[csa] = state.now[0]
        if room:
            join_free(state, csa)


@inner
def happen(world: World, state: State, code: int) -> tuple[int, int]:
    """One event of the heap, now: a contact to be placed and a CSA to be served, NOBODY where there is none."""
    event, subject, rest = code >> 32, code & 0xFFFFFFFF, 0.0
    if event in (RETURNS, AGAIN):
        return subject, NOBODY
    if event == ENDED:
        end(world, state, subject)
        rest = after_call(world, state, subject)
    if rest > 0:
        push(state.heap, state.counts, state.now[0] + rest, (READY << 32) | subject)
        return NOBODY, NOBODY
    if event in (ENDED, READY):
        return NOBODY, release(world, state, subject)
    shift(state, subject, event == STARTS_SHIFT, state.staff.work[subject] < world.capacity[subject])
    return NOBODY, subject if event == STARTS_SHIFT else NOBODY


@entry
def advance(world: World, policy: Policy, arms: Arms | None, state: State, first: int, until: float) -> int:
    """Let events happen until `until`, or until Python is to decide (DECIDE), arrays are full (FULL), or nothing is
    left (FINISHED). first: how many contacts arrive by themselves, in order. arms: of an experiment, in place of the
    policy."""
    world, policy, state = borrow(world), borrow(policy), borrow(state)
    # A name of its own: numba leaves out what is behind `arms is None` only of an argument that is never set again.
    lent = borrow(arms)
    counts, now, arrival = state.counts, state.now, state.contacts.arrival
    eager = policy.kind[0] == DECIDED and policy.clock_s[0] <= 0
    while True:
        arrived = counts[ARRIVED]
        next_arrival = arrival[arrived] if arrived < first else np.inf
        next_event = state.heap.time[0] if counts[EVENTS] > 0 else np.inf
        at, spare = min(next_arrival, next_event), 4
        if arms is not None:
            at, spare = min(at, begins_next(lent, state)), 4 + counts[WAITING]
        if at > until:
            now[0] = until
            return REACHED
        if at == np.inf:
            return FINISHED
        if counts[CONTACTS] >= len(arrival) - 1 or counts[EVENTS] >= len(state.heap.time) - spare:
            return FULL
        now[0], queued = at, False
        if next_block(lent, state):
            continue
        if next_event <= next_arrival:
            code = pop(state.heap, counts)
            queued = code >> 32 == AGAIN
            contact, csa = happen(world, state, code)
        else:
            counts[ARRIVED] += 1
            contact, csa = arrived, NOBODY
        if contact != NOBODY or csa != NOBODY:
            place(world, policy, lent, state, contact, csa, queued)
        if eager and counts[WAITING] > 0 and counts[FREE] > 0:
            return DECIDE
