"""Two policies in one centre, inside the compiled loop: who follows which, and whose turn it is.

Notable: `arms` is None where there is one policy, which numba sees when it compiles: what is behind `arms is None` is
not in that loop at all. The loop of an experiment is compiled apart, from the same text.

A contact follows the policy of its unit's arm in the block that holds now, so who waits when a block changes is handled
by the new arm. A CSA takes contacts of their own arm, or of both. A CSA of both who gets room serves the arm of whoever
has waited longest, by that arm's policy, and the other one where it gives them nobody: two routers on one floor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from evaluation.simulate.borrow import inner
from evaluation.simulate.heap import push
from evaluation.simulate.queues import give_up
from evaluation.simulate.state import AGAIN, BLOCK, NOBODY, State
from evaluation.simulate.world import SHARED, Arms, World

_null: Any = cgutils.get_null_value  # numba's own functions are not typed


def _either(context: Any, builder: Any, of: Any, first: Any, second: Any, is_first: Any) -> Any:
    """The one value or the other, number by number, so that what is not used of it vanishes."""
    if isinstance(of, types.Array):
        parts = [context.make_array(of)(context, builder, value) for value in (first, second)]
        chosen = context.make_array(of)(context, builder)
        for name in ("nitems", "itemsize", "data", "shape", "strides"):
            a, b = (getattr(part, name) for part in parts)
            setattr(chosen, name, _numbers(builder, a, b, is_first))
        chosen.meminfo, chosen.parent = _null(chosen.meminfo.type), _null(chosen.parent.type)
        return chosen._getvalue()
    value = _null(first.type)
    for place, part in enumerate(of.types):
        a, b = (builder.extract_value(one, place) for one in (first, second))
        value = builder.insert_value(value, _either(context, builder, part, a, b, is_first), place)
    return value


def _numbers(builder: Any, first: Any, second: Any, is_first: Any) -> Any:
    """Of a number or an array of numbers, such as a shape."""
    if not hasattr(first.type, "elements"):
        return builder.select(is_first, first, second)
    value = _null(first.type)
    for place in range(len(first.type.elements)):
        pair = [builder.extract_value(one, place) for one in (first, second)]
        value = builder.insert_value(value, builder.select(is_first, *pair), place)
    return value


def _pick(typing: Any, of: Any, place: Any) -> Any:
    """The first or the second of a tuple of two tuples of arrays, which belongs to nobody (`borrow.py`)."""
    kind = of.types[0]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, second = (builder.extract_value(args[0], at) for at in range(2))
        is_first = builder.icmp_signed("==", args[1], args[1].type(0))
        return _either(context, builder, kind, first, second, is_first)

    return kind(of, place), codegen


pick: Any = intrinsic(_pick)


@inner
def arm_of(arms: Arms, state: State, contact: int) -> int:
    """The arm that a contact is in now."""
    found: int = arms.arm[state.counts[BLOCK], arms.unit[state.contacts.row[contact]]]
    return found


@inner
def admits(arms: Arms | None, state: State, contact: int, csa: int) -> bool:
    """Whether a CSA takes contacts of this one's arm now."""
    if arms is None:
        return True
    own = arms.staff[state.counts[BLOCK], csa]
    return own == SHARED or own == arm_of(arms, state, contact)


@inner
def theirs(arms: Arms | None, state: State, contact: int, arm: int) -> bool:
    """Whether a contact is in an arm."""
    if arms is None:
        return True
    return arm_of(arms, state, contact) == arm


@inner
def oldest_of(arms: Arms, state: State, kind: int, csa: int, arm: int) -> int:
    """Who has waited longest in a class, of one arm (SHARED: of both), and may meet the CSA."""
    contact = state.queues.first[kind]
    while contact != NOBODY:
        following = state.contacts.after[contact]
        here = not give_up(state, contact) and state.contacts.barred[contact] != csa
        if here and (arm == SHARED or arm_of(arms, state, contact) == arm):
            return contact
        contact = following
    return NOBODY


@inner
def turn(world: World, arms: Arms, state: State, contact: int, csa: int) -> int:
    """The arm that a contact is in; where there is none, the one that a CSA who has room serves: their own, or of both
    that of whoever has waited longest, NOBODY where nobody waits."""
    if contact != NOBODY:
        return arm_of(arms, state, contact)
    own: int = arms.staff[state.counts[BLOCK], csa]
    if own != SHARED:
        return own
    found, since = NOBODY, np.inf
    for place in range(world.takes.shape[1]):
        kind = world.takes[csa, place]
        if kind == NOBODY:
            break
        contact = oldest_of(arms, state, kind, csa, SHARED)
        if contact != NOBODY and state.contacts.arrival[contact] - world.ahead[kind] < since:
            found, since = contact, state.contacts.arrival[contact] - world.ahead[kind]
    return NOBODY if found == NOBODY else arm_of(arms, state, found)


@inner
def both(arms: Arms | None, state: State, csa: int) -> bool:
    """Whether a CSA takes contacts of both arms."""
    if arms is None:
        return False
    return arms.staff[state.counts[BLOCK], csa] == SHARED


@inner
def begins_next(arms: Arms, state: State) -> float:
    """When the next block begins, s."""
    block = state.counts[BLOCK] + 1
    found: float = arms.begins[block] if block < len(arms.begins) else np.inf
    return found


@inner
def next_block(arms: Arms | None, state: State) -> bool:
    """Whether a block begins now; if so, everybody who waits is looked at again. The heap must have room for them."""
    if arms is None:
        return False
    if begins_next(arms, state) > state.now[0]:
        return False
    state.counts[BLOCK] += 1
    for first in state.queues.first:
        contact = first
        while contact != NOBODY:
            push(state.heap, state.counts, state.now[0], (AGAIN << 32) | contact)
            contact = state.contacts.after[contact]
    return True
