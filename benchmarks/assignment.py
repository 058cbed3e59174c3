"""How fast sets of contacts and CSAs are matched, and how near the optimum: one thread, beside an exact LP and greedy.

    python benchmarks/assignment.py --output results/assignment.json

Notable: two worlds. In `skills` values follow from eight skills and from how good a CSA is at all of them, so that
contacts want the same CSAs, as they do in a centre; in `independent` every pair is a draw of its own, which no centre
is, and which is the hardest for who looks at few candidates. The peers run on the same values in the same run: the
exact linear program by HiGHS, up to a limit of seconds, and greedy in order of arrival. The gap is against the program
where that came to its end, and is told beside the bound that the answer's own prices prove. The processor's seconds
beside the clock's tell a slow step from a busy machine.
"""

from __future__ import annotations

# ruff: noqa: E402 — numpy reads the number of threads when it is imported
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import coo_array, vstack

from serve.sets.given import Candidates, Window
from serve.sets.window import settle, warm
from twotower.files import atomic_write
from twotower.progress import track

Doubles = npt.NDArray[np.float64]
WORLDS = ("skills", "independent")
SKILLS = 8


def values(world: str, contacts: int, csas: int, each: int, seed: int) -> tuple[npt.NDArray[np.int64], Doubles]:
    """CSAs (W, each) of each contact, ascending, and their values (W, each): the best ones by value, or any."""
    rng = np.random.default_rng(seed)
    if world == "independent":
        few = np.stack([np.sort(rng.choice(csas, each, replace=False)) for _ in range(contacts)])
        return few, rng.random(few.shape)
    need, skill = (rng.normal(size=(n, SKILLS)).astype(np.float32) for n in (contacts, csas))
    level = rng.normal(size=csas).astype(np.float32)
    few = np.empty((contacts, each), np.int64)
    found = np.empty((contacts, each))
    for part in np.array_split(np.arange(contacts), max(1, contacts // 500)):
        score = (need[part] @ skill.T + level) / 3
        best = np.sort(np.argpartition(-score, each - 1, axis=1)[:, :each], axis=1)
        few[part], found[part] = best, 1 / (1 + np.exp(-np.take_along_axis(score, best, axis=1)))
    return few, found


def greedy(few: npt.NDArray[np.int64], value: Doubles, csas: int) -> float:
    """The value of giving each contact, in order, the best who is left."""
    free, whole = np.ones(csas, np.bool_), 0.0
    for who, worth in zip(few, value, strict=True):
        left = np.where(free[who], worth, -1.0)
        best = int(left.argmax())
        if left[best] >= 0:
            whole += float(left[best])
            free[who[best]] = False
    return whole


def program(few: npt.NDArray[np.int64], value: Doubles, csas: int, limit_s: float) -> dict[str, Any]:
    """The exact program by HiGHS: its value, None where `limit_s` was too short, and its seconds."""
    contacts, each = few.shape
    column = np.arange(few.size)
    ones = np.ones(few.size)
    rows = coo_array((ones, (np.repeat(np.arange(contacts), each), column)), shape=(contacts, few.size))
    columns = coo_array((ones, (few.reshape(-1), column)), shape=(csas, few.size))
    begun = time.perf_counter()
    done = linprog(
        -value.reshape(-1), A_ub=vstack([rows, columns]).tocsr(), b_ub=np.ones(contacts + csas), method="highs",
        options={"time_limit": limit_s},
    )  # fmt: skip
    return {"value": -float(done.fun) if done.status == 0 else None, "s": time.perf_counter() - begun}


def timed(work: Callable[[], Any], repeats: int, name: str) -> tuple[Any, list[float], list[float]]:
    """The last answer, and the seconds of each run by the clock and of the processor."""
    seconds, busy = [], []
    for _ in track(range(repeats), name):
        begun, worked = time.perf_counter(), time.process_time()
        found = work()
        seconds.append(time.perf_counter() - begun)
        busy.append(time.process_time() - worked)
    return found, seconds, busy


def measure(world: str, contacts: int, each: int, repeats: int, limit_s: float, seed: int) -> dict[str, Any]:
    """One case: as many CSAs as contacts; every pair where `each` is that many, else candidates."""
    few, value = values(world, contacts, contacts, each, seed)
    dense = each == contacts
    if dense:
        window: Window | Candidates = Window(value, np.ones(value.shape, np.bool_))
    else:
        window = Candidates(np.arange(contacts + 1) * each, few.reshape(-1), value.reshape(-1), contacts)
    name = f"{world}, {contacts:,} × {each:,}"
    found, seconds, busy = timed(lambda: settle(window), repeats, name)
    if dense:
        _, alone, _ = timed(lambda: linear_sum_assignment(value, maximize=True), repeats, f"{name}, alone")
    exact, plain = program(few, value, contacts, limit_s), greedy(few, value, contacts)
    return {
        "world": world,
        "contacts": contacts,
        "csas": contacts,
        "candidates": each,
        "s": {"median": median(seconds), "runs": seconds},
        "cpu_s": {"median": median(busy), "runs": busy},
        "scipy_alone_s": median(alone) if dense else None,
        "value": found.value,
        "taken": int((found.csa >= 0).sum()),
        "proven_gap": found.gap,
        "program": exact,
        "gap": None if exact["value"] is None else exact["value"] - found.value,
        "greedy_value": plain,
        "gained_over_greedy": found.value / plain - 1,
        "times_faster_than_program": exact["s"] / median(seconds),
    }


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        "world        contacts  candidates  median s   cpu s  scipy s     LP s  × LP   LP gap  proven gap    greedy"
    ]
    for case in found["cases"]:
        alone = "       –" if case["scipy_alone_s"] is None else f"{case['scipy_alone_s']:8.3f}"
        gap = "   (limit)" if case["gap"] is None else f"{case['gap']:9.1e}"
        lines.append(
            f"{case['world']:<12} {case['contacts']:>8,}  {case['candidates']:>10,}  {case['s']['median']:8.3f}"
            f"{case['cpu_s']['median']:8.3f} {alone}"
            f" {case['program']['s']:8.1f} {case['times_faster_than_program']:5.0f}  {gap}  {case['proven_gap']:9.1e}"
            f"  {case['gained_over_greedy']:+10.1%}"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse options, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dense", type=int, nargs="*", default=[300, 1_000], help="contacts, each with every CSA")
    parser.add_argument("--listed", type=int, nargs="*", default=[2_000, 10_000], help="contacts with candidates")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit-s", type=float, default=60.0, help="of the linear program (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    warm()
    sizes = [*((n, n) for n in args.dense), *((n, min(n, args.candidates)) for n in args.listed)]
    cases = [
        measure(world, contacts, each, args.repeats, args.limit_s, args.seed)
        for contacts, each in sizes
        for world in WORLDS
    ]
    found = {
        "cases": cases,
        "seed": args.seed,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1},
        "scipy": scipy.__version__,
        "numpy": np.__version__,
    }
    print(table(found))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(args.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
