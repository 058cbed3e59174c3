"""Reading a Chrome trace of training steps: which part of a step took the host's time, and which the device's.

Notable: the parts are ranges that nest (`train.ranges`); a part's own time is what no range inside it takes, so parts
add up to the steps. What a device did counts for the part that was open on the host when it was launched, on whichever
thread, as the backward pass launches from another; where two streams overlap, the time counts once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from train.ranges import OTHER, PREFIX, STEP

DEVICE = frozenset(("kernel", "gpu_memcpy", "gpu_memset"))
LAUNCH = frozenset(("cuda_runtime", "cuda_driver"))


class Piece(NamedTuple):
    """From `start` to `end` (µs) the innermost open range was `part`."""

    start: float
    end: float
    part: str


@dataclass(frozen=True)
class Parts:
    """Seconds of `steps` traced steps: `host_s` by part, which add up to `seconds`; `device_s` by part, None where no
    device took part; what is missing to `seconds` there, the device was idle."""

    steps: int
    seconds: float
    host_s: dict[str, float]
    device_s: dict[str, float] | None

    @property
    def idle_s(self) -> float:
        """Seconds in which the device had nothing to do."""
        return max(0.0, self.seconds - sum((self.device_s or {}).values()))


def read_parts(trace: dict[str, Any], parts: Iterable[str]) -> Parts:
    """Seconds by part of the steps in a trace; parts that none entered are 0, and unknown ranges count as `other`."""
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    ranges = [event for event in events if event.get("cat") == "user_annotation" and _part(event) is not None]
    spans = sorted((Piece(e["ts"], e["ts"] + e["dur"], str(_part(e))) for e in ranges), key=_outermost_first)
    pieces = list(innermost(spans))
    steps = [span for span in spans if span.part == STEP]
    names = tuple(parts)
    host = dict.fromkeys(names, 0.0)
    for piece in pieces:
        host[_named(piece.part, names)] += (piece.end - piece.start) / 1e6
    worked = list(device_work(events))
    device = None if not worked else dict.fromkeys(names, 0.0)
    starts, until = [piece.start for piece in pieces], 0.0
    for launched, start, end in sorted(worked, key=lambda work: work[1]):
        place = bisect_right(starts, launched) - 1
        if device is not None and place >= 0 and launched < pieces[place].end:
            device[_named(pieces[place].part, names)] += max(0.0, end - max(start, until)) / 1e6
        until = max(until, end)
    seconds = sum(step.end - step.start for step in steps) / 1e6
    return Parts(len(steps), seconds, host, device)


def innermost(spans: Sequence[Piece]) -> Iterator[Piece]:
    """The time inside `step` ranges cut into pieces by the innermost range; spans are sorted, the outer first."""
    stack: list[Piece] = []
    at = 0.0
    for span in [*spans, Piece(float("inf"), float("inf"), STEP)]:
        while stack and stack[-1].end <= span.start:
            done = stack.pop()
            if done.end > at:
                yield Piece(at, done.end, done.part)
                at = done.end
        if not stack and span.part != STEP:
            continue  # outside of all steps
        if stack and span.start > at:
            yield Piece(at, span.start, stack[-1].part)
        at = max(at, span.start)
        # The clock's digits may let a range end after the one around it.
        stack.append(span._replace(end=min(span.end, stack[-1].end)) if stack else span)


def device_work(events: Iterable[dict[str, Any]]) -> Iterator[tuple[float, float, float]]:
    """(launched, start, end) in µs of all that a device did for a launch that the trace knows."""
    held = list(events)
    launched = {e["args"]["correlation"]: e["ts"] for e in held if e.get("cat") in LAUNCH and _correlated(e)}
    for event in held:
        if event.get("cat") in DEVICE and _correlated(event) and event["args"]["correlation"] in launched:
            yield launched[event["args"]["correlation"]], event["ts"], event["ts"] + event["dur"]


def _correlated(event: dict[str, Any]) -> bool:
    return "correlation" in event.get("args", {})


def _part(event: dict[str, Any]) -> str | None:
    name: str = event["name"]
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else None


def _named(part: str, names: Sequence[str]) -> str:
    return part if part in names else OTHER


def _outermost_first(piece: Piece) -> tuple[float, float]:
    return piece.start, -piece.end
