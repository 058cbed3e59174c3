"""The same M/M/n + M queue in two well-kept simulators: ciw and simpy.

Notable: both are written as their own documentation writes such a queue (ciw's reneging customers, simpy's bank with
reneging), without what would slow them down: no record of states, no trace.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import ciw
import simpy


@dataclass(frozen=True)
class Queue:
    """Exponential arrivals (a second), service and patience (mean seconds), `agents` servers, for `horizon_s`."""

    arrivals: float
    handle_s: float
    patience_s: float
    agents: int
    horizon_s: float


@dataclass(frozen=True)
class Reached:
    """Of contacts that arrived after the warm-up: how many, mean seconds in the queue, share abandoned, share that
    waited at all."""

    contacts: int
    mean_wait_s: float
    abandoned: float
    waits: float


def by_ciw(of: Queue, seed: int, warm_up_s: float = 0.0) -> Reached:
    """Of ciw."""
    ciw.seed(seed)
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(of.arrivals)],
        service_distributions=[ciw.dists.Exponential(1 / of.handle_s)],
        number_of_servers=[of.agents],
        reneging_time_distributions=[ciw.dists.Exponential(1 / of.patience_s)],
    )
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_time(of.horizon_s)
    rows = [(one.waiting_time, one.record_type == "renege") for one in simulation.get_all_records()
            if one.arrival_date >= warm_up_s]  # fmt: skip
    return _reached(rows)


def by_simpy(of: Queue, seed: int, warm_up_s: float = 0.0) -> Reached:
    """Of simpy."""
    chance, env = random.Random(seed), simpy.Environment()
    agents, rows = simpy.Resource(env, of.agents), []

    def contact():
        arrived = env.now
        with agents.request() as taken:
            found = yield taken | env.timeout(chance.expovariate(1 / of.patience_s))
            if arrived >= warm_up_s:
                rows.append((env.now - arrived, taken not in found))
            if taken in found:
                yield env.timeout(chance.expovariate(1 / of.handle_s))

    def source():
        while True:
            yield env.timeout(chance.expovariate(of.arrivals))
            env.process(contact())

    env.process(source())
    env.run(of.horizon_s)
    return _reached(rows)


def _reached(rows: list[tuple[float, bool]]) -> Reached:
    n = max(1, len(rows))
    return Reached(
        len(rows), sum(wait for wait, _ in rows) / n, sum(lost for _, lost in rows) / n,
        sum(wait > 1e-9 for wait, _ in rows) / n,
    )  # fmt: skip
