"""Steps by the clock: every few seconds, and at the very moment at which a block begins or ends.

Notable: it alone can take a challenger back, so nothing that a step raises ends it, a defect neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from loop.registry.registry import Busy
from loop.rollout.outside import told_of
from loop.rollout.rollout import Rollout
from loop.rollout.state import State
from twotower.clock import SECOND, now
from twotower.errors import ConfigError

LEAST_S = 0.05
"""A block's edge is stepped over by so much, so that the step is surely after it."""


def keep(
    rollout: Rollout,
    every_s: float,
    say: Callable[[str], None],
    show: Callable[[State], None] = lambda _: None,
    clock: Callable[[], int] = now,
    sleep: Callable[[float], None] = time.sleep,
) -> State:
    """Step until the rollout has ended, and return how. What fails, whatever it is, is said once and tried again; it
    may be killed and begun again at any moment. Raises ConfigError where none was begun."""
    if rollout.state is None:
        raise ConfigError(f"{rollout.work}: no rollout was begun here; `twotower rollout start` begins one")
    seen, told = 0, ""
    shown: tuple[str, int] | None = None
    while True:
        state, pause = None, every_s
        try:
            state = rollout.step(clock())
            fresh = [one for one in state.log if one[0] > seen]
            for at, line in fresh:
                say(line)
                seen = at
            if shown != (state.stage, state.judged_at):
                show(state)
                shown = (state.stage, state.judged_at)
            pause = _pause(rollout, state, every_s, clock())
            told = ""
        except Busy:  # somebody steps by hand
            pass
        except Exception as error:
            if told_of(error) != told:
                told = told_of(error)
                say(f"not done, tried again: {told}")
        if state is not None and state.ended:
            return state
        sleep(pause)


def _pause(rollout: Rollout, state: State, every_s: float, at: int) -> float:
    """Seconds until the next step."""
    edge = rollout.boundary(state, at)
    return every_s if edge is None else min(every_s, (edge - at) / SECOND + LEAST_S)
