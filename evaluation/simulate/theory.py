"""What queueing theory says of the simplest centres: M/M/n (Erlang C) and M/M/n + M (Erlang A), exactly.

Sources: Erlang (1917); Palm (1957); Garnett, Mandelbaum and Reiman, Designing a call center with impatient customers
(2002). Rates are per second, times seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from twotower.errors import ConfigError


@dataclass(frozen=True)
class Steady:
    """A centre in its steady state."""

    waits: float
    """Probability that a contact does not find somebody free."""
    level: float
    """Share that is taken up within the target; of all who call."""
    abandons: float
    occupancy: float
    mean_wait_s: float
    """Over everyone, until they are taken up or abandon."""


def erlang_c(arrivals: float, handle_s: float, agents: int, target_s: float = 20.0) -> Steady:
    """M/M/n. Raises ConfigError where there is more work than time, for which there is no steady state."""
    _check(arrivals, handle_s, agents)
    load = arrivals * handle_s
    if load >= agents:
        raise ConfigError(f"erlang_c: {load:g} erlangs for {agents} agents has no steady state; use erlang_a")
    blocked = 1.0  # Erlang B by its recursion, which does not overflow
    for n in range(1, agents + 1):
        blocked = load * blocked / (n + load * blocked)
    waits = blocked / (1 - load / agents * (1 - blocked))
    rate = (agents - load) / handle_s
    return Steady(waits, 1 - waits * math.exp(-rate * target_s), 0.0, load / agents, waits / rate)


def erlang_a(arrivals: float, handle_s: float, agents: int, patience_s: float) -> Steady:
    """M/M/n + M, by the stationary distribution of its birth-and-death chain. `level` is not computed (NaN)."""
    _check(arrivals, handle_s, agents)
    if not patience_s > 0:
        raise ConfigError(f"erlang_a: patience of {patience_s} s; more than 0 expected")
    log_p, logs, n = 0.0, [0.0], 0
    while n < agents or log_p > max(logs) - 60:
        n += 1
        log_p += math.log(arrivals) - math.log(min(n, agents) / handle_s + max(0, n - agents) / patience_s)
        logs.append(log_p)
    p = np.exp(np.array(logs) - max(logs))
    p /= p.sum()
    waiting = np.maximum(np.arange(len(p)) - agents, 0)
    waits = float(p[agents:].sum())
    abandons = float((p * waiting).sum() / patience_s / arrivals)
    occupancy = arrivals * (1 - abandons) * handle_s / agents
    return Steady(waits, math.nan, abandons, occupancy, float((p * waiting).sum() / arrivals))


def _check(arrivals: float, handle_s: float, agents: int) -> None:
    if not (arrivals > 0 and handle_s > 0 and agents >= 1):
        raise ConfigError(f"{arrivals} contacts a second of {handle_s} s for {agents} agents: all must be above 0")
