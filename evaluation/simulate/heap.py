"""A binary heap of events over two arrays, ordered by (time, code), so that equal times are no matter of luck."""

from __future__ import annotations

from evaluation.simulate.borrow import inner
from evaluation.simulate.state import EVENTS, Heap, Longs


@inner
def _less(time: float, code: int, other_time: float, other_code: int) -> bool:
    return time < other_time or (time == other_time and code < other_code)


@inner
def push(heap: Heap, counts: Longs, time: float, code: int) -> None:
    """Add an event; the heap must have room."""
    place = counts[EVENTS]
    counts[EVENTS] += 1
    while place > 0:
        above = (place - 1) >> 1
        if not _less(time, code, heap.time[above], heap.code[above]):
            break
        heap.time[place], heap.code[place] = heap.time[above], heap.code[above]
        place = above
    heap.time[place], heap.code[place] = time, code


@inner
def pop(heap: Heap, counts: Longs) -> int:
    """Take the earliest event's code; its time is to be read from `heap.time[0]` before."""
    found = heap.code[0]
    counts[EVENTS] -= 1
    last = counts[EVENTS]
    time, code = heap.time[last], heap.code[last]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= last:
            break
        right = below + 1
        if right < last and _less(heap.time[right], heap.code[right], heap.time[below], heap.code[below]):
            below = right
        if not _less(heap.time[below], heap.code[below], time, code):
            break
        heap.time[place], heap.code[place] = heap.time[below], heap.code[below]
        place = below
    heap.time[place], heap.code[place] = time, code
    return found
