"""What the compiled policies choose: a CSA for a contact that arrives, a contact for a CSA who gets room."""

from __future__ import annotations

import numpy as np

from evaluation.simulate import draws
from evaluation.simulate.arms import admits, oldest_of, theirs
from evaluation.simulate.borrow import inner
from evaluation.simulate.queues import give_up, head
from evaluation.simulate.state import NOBODY, State
from evaluation.simulate.world import INDEX, LEVELS, LONGEST_IDLE, Arms, Policy, World

FEW = 8  # contacts of a class that are looked at where the first ones must not meet the CSA


@inner
def may(world: World, state: State, contact: int, kind: int, csa: int) -> bool:
    """Whether a CSA can take a contact of a class."""
    return world.handle[kind, csa] > 0 and state.contacts.barred[contact] != csa


@inner
def step_of(policy: Policy, waited: float) -> int:
    """The step of overflow that is open after so many seconds."""
    step = 0
    while step + 1 < len(policy.after_s) and policy.after_s[step + 1] <= waited + 1e-9:
        step += 1
    return step


@inner
def worth(policy: Policy, state: State, contact: int, kind: int, csa: int) -> float:
    """What a policy of kind INDEX makes of a pair, its price taken off."""
    value = policy.value[kind, csa] - policy.price[csa]
    row = state.contacts.row[contact]
    product = np.float32(0.0)
    for d in range(policy.csas.shape[1]):
        product += policy.contacts[row, d] * policy.csas[csa, d]
    if len(policy.pairs):
        product += policy.pairs[row, csa]
    return value + product


@inner
def choose_csa(world: World, policy: Policy, arms: Arms | None, state: State, contact: int, again: bool) -> int:
    """Who of those with room takes a contact; NOBODY: it waits. again: it has waited for this step, or long enough."""
    kind, staff, c = policy.kind[0], state.staff, state.contacts
    of = c.kind[contact]
    ring = len(staff.work)
    step = step_of(policy, state.now[0] - c.arrival[contact]) if kind == LEVELS else 0
    found, best = NOBODY, np.inf
    csa = staff.after[ring]
    while csa != ring:
        if may(world, state, contact, of, csa) and admits(arms, state, contact, csa):
            if kind == LONGEST_IDLE:
                cost = float(staff.work[csa])
            elif kind == LEVELS:
                level = policy.level[of, csa]
                cost = np.inf if level < 0 or level > step else level * 1000.0 + staff.work[csa]
            elif kind == INDEX:
                cost = -worth(policy, state, contact, of, csa)
                if cost > 0 and not again and policy.hold_s[0] > 0:
                    cost = np.inf
            else:
                luck = draws.uniform(c.key[contact] + np.uint64(csa), draws.CHOICE)
                cost = luck
            if cost < best:
                found, best = csa, cost
                if kind == LONGEST_IDLE and cost == 0:
                    break
        csa = staff.after[csa]
    return found


@inner
def oldest(world: World, state: State, kind: int, csa: int) -> int:
    """Who has waited longest in a class and may meet the CSA."""
    contact = head(state, kind)
    for _ in range(FEW):
        if contact == NOBODY or state.contacts.barred[contact] != csa:
            return contact
        contact = state.contacts.after[contact]
        while contact != NOBODY:
            following = state.contacts.after[contact]
            if not give_up(state, contact):
                break
            contact = following
    return NOBODY


@inner
def choose_contact(world: World, policy: Policy, arms: Arms | None, state: State, csa: int, arm: int) -> int:
    """Whom of those who wait, where there are arms of this one, a CSA with room takes; NOBODY: none."""
    if policy.kind[0] == INDEX:
        return _most_worth(world, policy, arms, state, csa, arm)
    kind, c, now = policy.kind[0], state.contacts, state.now[0]
    found, best = NOBODY, np.inf
    for place in range(world.takes.shape[1]):
        of = world.takes[csa, place]
        if of == NOBODY:
            break
        contact = NOBODY
        if state.queues.size[of] > 0:
            contact = oldest(world, state, of, csa) if arms is None else oldest_of(arms, state, of, csa, arm)
        if contact == NOBODY:
            continue
        if kind == LONGEST_IDLE:
            cost = c.arrival[contact] - world.ahead[of]
        elif kind == LEVELS:
            level = policy.level[of, csa]
            if level < 0 or level > step_of(policy, now - c.arrival[contact]):
                continue
            cost = level * 1e12 + c.arrival[contact] - world.ahead[of]
        else:
            # By exponential races: a class is drawn by how many of it wait.
            cost = -np.log(draws.uniform(c.key[contact] + np.uint64(csa), draws.CHOICE)) / state.queues.size[of]
        if cost < best:
            found, best = contact, cost
    return found


@inner
def _most_worth(world: World, policy: Policy, arms: Arms | None, state: State, csa: int, arm: int) -> int:
    """Of the contacts that have waited longest in each class, the one that is worth most to the CSA now."""
    c, now = state.contacts, state.now[0]
    found, best = NOBODY, -np.inf
    for place in range(world.takes.shape[1]):
        of = world.takes[csa, place]
        if of == NOBODY:
            break
        contact = head(state, of) if state.queues.size[of] > 0 else NOBODY
        looked = 0
        while contact != NOBODY and looked < policy.scanned[0]:
            following = c.after[contact]
            # The first of a queue is there, but with arms it may be another's.
            there = (arms is None and looked == 0) or not give_up(state, contact)
            if there and theirs(arms, state, contact, arm):
                looked += 1
                waited = now - c.arrival[contact]
                value = worth(policy, state, contact, of, csa)
                held = value < 0 and waited < policy.hold_s[0]
                value += policy.age[of] * waited
                if value > best and not held and c.barred[contact] != csa:
                    found, best = contact, value
            contact = following
    return found
