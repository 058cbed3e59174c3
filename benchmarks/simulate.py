"""Contacts a second that the simulator plays, beside ciw and simpy on the same queue, with a check against Erlang A.

    python benchmarks/simulate.py --output docs/results/simulate.json

Notable: a round runs everything one after another on one core, and a ratio is of two runs of the same round; medians of
rounds are printed. What is timed is a replication with its figures; compiling comes before. The queue is M/M/n + M at
a load of 0.95, so that waits, abandonment and an empty queue all occur. The learned score is an inner product of a
vector of each contact and one of each CSA.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from measured import one_core
from simulate_peers import Queue, by_ciw, by_simpy

from evaluation.simulate.centre import Centre, Patience
from evaluation.simulate.figures import figures
from evaluation.simulate.policies import Rule, Vectors, fifo, greedy
from evaluation.simulate.replicate import estimate
from evaluation.simulate.run import simulate
from evaluation.simulate.theory import erlang_a
from twotower.files import atomic_write

HANDLE_S, PATIENCE_S, LOAD, HOUR = 300.0, 600.0, 0.95, 3600.0
CHECKED = ("waits", "abandoned", "mean_wait_s")


def centre_of(queue: Queue) -> Centre:
    """The queue as a centre of one class."""
    hours = queue.horizon_s / HOUR
    n = queue.agents
    return Centre(
        ("all",), tuple(str(i) for i in range(n)), np.full((1, round(hours)), queue.arrivals * HOUR),
        np.full((1, n), queue.handle_s), np.full((1, n), 0.7), HOUR, np.array([-1.0]),
        (Patience("exponential", queue.patience_s),),
    )  # fmt: skip


def scored(queue: Queue, columns: int) -> Rule:
    """Greedy match by a learned score of every pair."""
    random = np.random.default_rng(0)
    many = int(queue.arrivals * queue.horizon_s * 1.1) + 1000
    contacts = random.normal(0, columns**-0.5, (many, columns)).astype(np.float32)
    csas = random.normal(0, 1, (queue.agents, columns)).astype(np.float32)
    return greedy(np.zeros((1, queue.agents)), 1e-4, Vectors(contacts, csas), name="score per pair")


def ours(queue: Queue, rule: Rule, seed: int) -> dict[str, float]:
    """Figures of one replication."""
    centre = centre_of(queue)
    return figures(centre, simulate(centre, rule, seed), HOUR).as_row()


def timed(work: Callable[[], int]) -> float:
    """Contacts a second."""
    begun = time.perf_counter()
    contacts = work()
    return contacts / (time.perf_counter() - begun)


def check(queue: Queue, short: Queue, rounds: int) -> list[dict[str, Any]]:
    """What Erlang A says of the queue, and what was found: means over runs, and half of their 95 % intervals."""
    exact = erlang_a(queue.arrivals, queue.handle_s, queue.agents, queue.patience_s)
    found = {"simulator": [ours(queue, fifo(), seed) for seed in range(4 * rounds)]}
    for name, peer in (("ciw", by_ciw), ("simpy", by_simpy)):
        found[name] = [asdict(peer(short, seed, HOUR)) for seed in range(rounds)]
    rows: list[dict[str, Any]] = [
        {"of": "Erlang A", "waits": exact.waits, "abandoned": exact.abandons, "mean_wait_s": exact.mean_wait_s}
    ]
    for name, runs in found.items():
        of = {figure: estimate(np.array([run[figure] for run in runs])) for figure in CHECKED}
        rows.append({"of": name, **{figure: one.mean for figure, one in of.items()},
                     "half": {figure: one.half for figure, one in of.items()}})  # fmt: skip
    return rows


def measure(agents: int, hours: int, peer_hours: int, columns: int, rounds: int) -> dict[str, Any]:
    """All rounds."""
    arrivals = LOAD * agents / HANDLE_S
    queue = Queue(arrivals, HANDLE_S, PATIENCE_S, agents, hours * HOUR)
    short = Queue(arrivals, HANDLE_S, PATIENCE_S, agents, peer_hours * HOUR)
    score = scored(queue, columns)
    ours(short, fifo(), 0), ours(short, score, 0)  # compiled
    rates: dict[str, list[float]] = {"FIFO": [], "score per pair": [], "ciw": [], "simpy": []}
    for seed in range(rounds):
        rates["FIFO"].append(timed(lambda s=seed: int(ours(queue, fifo(), s)["contacts"])))
        rates["score per pair"].append(timed(lambda s=seed: int(ours(queue, score, s)["contacts"])))
        rates["ciw"].append(timed(lambda s=seed: by_ciw(short, s).contacts))
        rates["simpy"].append(timed(lambda s=seed: by_simpy(short, s).contacts))
    ratio = {name: [a / b for a, b in zip(rates["FIFO"], rates[name], strict=True)] for name in ("ciw", "simpy")}
    return {
        "agents": agents, "load": LOAD, "handle_s": HANDLE_S, "patience_s": PATIENCE_S, "columns": columns,
        "contacts_a_run": round(arrivals * queue.horizon_s), "rounds": rounds,
        "contacts_a_second": {name: statistics.median(of) for name, of in rates.items()},
        "times_as_fast_as": {name: statistics.median(of) for name, of in ratio.items()},
        "ratios": ratio, "check": check(queue, short, rounds),
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--hours", type=int, default=400, help="of the simulator's runs (default 400)")
    parser.add_argument("--peer-hours", type=int, default=8, help="of the peers' runs (default 8)")
    parser.add_argument("--columns", type=int, default=32, help="of the vectors of a score (default 32)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file")
    args = parser.parse_args()
    with one_core():
        found = measure(args.agents, args.hours, args.peer_hours, args.columns, args.rounds)
    for name, rate in found["contacts_a_second"].items():
        ratio = found["times_as_fast_as"].get(name)
        print(f"{name:<16}{rate:>12,.0f} contacts/s" + (f"   FIFO is {ratio:.1f} times as fast" if ratio else ""))
    for row in found["check"]:
        half = row.get("half", {})
        words = [f"{name} {row[name]:.5g}" + (f" ± {half[name]:.2g}" if half else "") for name in CHECKED]
        print(f"{row['of']:<16}{'   '.join(words)}")
    if args.output:
        atomic_write(args.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
