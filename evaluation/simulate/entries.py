"""What Python calls of the compiled simulator, beside `loop.advance`: few ways in, as each takes long to compile."""

from __future__ import annotations

from evaluation.simulate.borrow import borrow, entry
from evaluation.simulate.heap import push
from evaluation.simulate.loop import give, join_free
from evaluation.simulate.queues import drop, free, unqueue, waiting
from evaluation.simulate.state import Doubles, Longs, State
from evaluation.simulate.world import World


@entry
def begin(state: State, free_from_the_start: Longs, times: Doubles, codes: Longs) -> None:
    """CSAs who have room at once, and events to come (n,)."""
    state = borrow(state)
    for csa in free_from_the_start:
        join_free(state, csa)
    for i in range(len(times)):
        push(state.heap, state.counts, times[i], codes[i])


@entry
def look(state: State) -> tuple[Longs, Longs]:
    """Contacts that wait, without those who are out of patience, and CSAs with room, the longest idle first."""
    state = borrow(state)
    drop(state)
    return waiting(state), free(state)


@entry
def hand_over(world: World, state: State, contact: int, csa: int) -> None:
    """A contact that waits goes to a CSA now."""
    world, state = borrow(world), borrow(state)
    unqueue(state, contact)
    give(world, state, contact, csa)
