"""The history engine on one core: seconds and memory for a log's whole history, beside pandas and DuckDB.

    python benchmarks/features.py --handovers 10000000 --csas 20000 --customers 1000000 --peer-handovers 500000

Claim: ten million hand-overs, 20,000 CSAs and a million customers take less than 60 s on one core and 4 GB.

Notable: the streams are synthetic and in memory. Measured are the streams' last sorting, every CSA's features at each
snapshot (with all groups read), every contact's customer features as of its own arrival, and single updates as a
router does them, with the numpy loops. Peak memory is the whole process's, the streams and their generation included.
The peers do the CSAs' sums and embeddings at the same snapshots and the customers' counts, frequency and style, not the
groups, load and pairings, and their results are compared with the engine's before their time counts; the engine's
seconds beside theirs are for the same rows, with pairings, which it cannot leave out.
"""

from __future__ import annotations

# ruff: noqa: E402 — numpy reads the number of threads when it is imported
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import platform
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
from features_peers import duckdb_csas, duckdb_customers, pandas_csas, pandas_customers
from measured import one_core

from twotower.clock import DAY, SECOND
from twotower.features.customer import customer_features
from twotower.features.engine.core import compiled
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.customers import CustomerHistory
from twotower.features.engine.events import Arrivals, KnownHandovers, Work, take
from twotower.features.engine.groups import group_features
from twotower.features.engine.record import csa_features
from twotower.features.engine.roll import walk
from twotower.features.engine.settings import CsaSettings, CustomerSettings
from twotower.files import atomic_write

BEGIN, SPAN = 20_000 * DAY, 364 * DAY
FAMILIES = (("intent", 200), ("language", 12), ("channel", 4), ("complexity", 5), ("upset", 3))
SIGNALS = ("verbosity", "formality", "politeness", "emotion")
BLOCK = 500_000
UPDATES = 2_000
Streams = tuple[KnownHandovers, Arrivals, np.ndarray, np.ndarray]


def main() -> None:
    """Measures, prints two tables and the JSON, to `--output` as well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--handovers", type=int, default=200_000)
    parser.add_argument("--csas", type=int, default=1_000)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=32, help="of the base embedding")
    parser.add_argument("--snapshots", type=int, default=52, help="moments, evenly over a year")
    parser.add_argument("--peer-handovers", type=int, default=30_000, help="0: without pandas and DuckDB")
    parser.add_argument("--output", type=Path, default=None, help="write the figures here as JSON")
    args = parser.parse_args()
    with one_core():
        _engine(_streams(1_000, 50, 50, args.width), 50, 50, 2)  # compiles
        figures: dict[str, Any] = {
            **{name: getattr(args, name) for name in ("handovers", "csas", "customers", "width", "snapshots")},
            "machine": platform.processor() or platform.machine(),
            **_measure(args),
        }
        figures["peers"] = _peers(args) if args.peer_handovers else []
    text = json.dumps(figures, indent=1)
    print(text)
    if args.output:
        atomic_write(args.output, text + "\n")


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    streams = _streams(args.handovers, args.csas, args.customers, args.width)
    seconds, history = _engine(streams, args.csas, args.customers, args.snapshots)
    total = sum(seconds.values())
    peak = _peak_gb()
    print(f"{args.handovers:,} hand-overs, {args.csas:,} CSAs, {args.customers:,} customers, width {args.width}")
    print(f"{'step':>34} {'seconds':>8} {'hand-overs/s':>13}")
    for step, spent in {**seconds, "all": total}.items():
        print(f"{step:>34} {spent:>8.1f} {args.handovers / max(spent, 1e-9):>13,.0f}")
    update = _update_us(history, streams[0])
    print(
        f"peak memory {peak:.2f} GB; one update {update['median']:.0f} µs (median; 99 % within {update['p99']:.0f})\n"
    )
    return {
        "seconds": {step: round(spent, 2) for step, spent in seconds.items()},
        "total_seconds": round(total, 2),
        "peak_gb": round(peak, 2),
        "update_us": {name: round(value, 1) for name, value in update.items()},
    }


def _engine(streams: Streams, csas: int, customers: int, snapshots: int) -> tuple[dict[str, float], CsaHistory]:
    """Seconds by step, and the CSAs' history at the end."""
    handovers, arrivals, assigned_at, ended_at = streams
    settings = CsaSettings(handovers.base.shape[1], families=FAMILIES)
    names, seconds = [name for name, _ in FAMILIES], {}
    begun = time.perf_counter()
    work = Work.of(handovers.csa, assigned_at, ended_at)
    seconds["beginnings and ends in order"] = time.perf_counter() - begun
    history = CsaHistory(settings, csas, core=compiled(numba.njit))
    begun, reading_s, finite = time.perf_counter(), 0.0, True
    for reading in walk(history, handovers, work, _moments(snapshots), names):
        read = time.perf_counter()
        finite &= bool(np.isfinite(csa_features(reading, settings)).all())
        for name, _ in FAMILIES:
            group_features(reading, settings, name, [0])
        reading_s += time.perf_counter() - read
    seconds[f"CSAs, {snapshots} snapshots"] = time.perf_counter() - begun - reading_s
    seconds["their features"] = reading_s
    del work, reading
    begun = time.perf_counter()
    finite &= _customers(handovers, arrivals, customers)
    seconds["customers as of each contact"] = time.perf_counter() - begun
    if not finite:
        raise SystemExit("a feature is not finite: the figures would mean nothing")
    return seconds, history


def _customers(handovers: KnownHandovers, arrivals: Arrivals, customers: int) -> bool:
    """Every contact's customer features, block by block; whether all are finite."""
    settings, finite = CustomerSettings(signals=SIGNALS), True
    history = CustomerHistory(settings, customers, core=compiled(numba.njit))
    for start in range(0, len(arrivals), BLOCK):
        part = slice(start, start + BLOCK)
        reading = history.along(arrivals, handovers, arrivals.customer[part], arrivals.arrived_at[part])
        finite &= bool(np.isfinite(customer_features(reading, settings)).all())
    return finite


def _update_us(history: CsaHistory, handovers: KnownHandovers) -> dict[str, float]:
    """Microseconds of one hand-over's update on the whole state with the numpy loops."""
    router = CsaHistory.restored(history.settings, history.state())
    rows = range(max(0, len(handovers) - UPDATES), len(handovers))
    single = [replace(take(handovers, slice(i, i + 1)), known_at=np.array([router.moment + i])) for i in rows]
    spent = []
    for one in single:
        begun = time.perf_counter()
        router.update(one)
        spent.append((time.perf_counter() - begun) * 1e6)
    return {"median": float(np.median(spent)), "p99": float(np.quantile(spent, 0.99))}


def _peers(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The same rows through the engine, pandas and DuckDB; as many hand-overs a CSA and a customer as at full size."""
    share = args.peer_handovers / args.handovers
    csas, customers = max(20, round(args.csas * share)), max(20, round(args.customers * share))
    handovers, arrivals, _, _ = _streams(args.peer_handovers, csas, customers, args.width)
    handovers = replace(handovers, codes=None)
    moments = _moments(args.snapshots)
    settings, style = CsaSettings(args.width), CustomerSettings(signals=SIGNALS)

    def engine_csas() -> np.ndarray:
        history = CsaHistory(settings, csas, core=compiled(numba.njit))
        rows = [[r.sums, r.squares, r.embeddings] for r in walk(history, handovers, None, moments)]
        return np.concatenate([np.concatenate([a.reshape(csas, -1) for a in row], axis=1) for row in rows])

    def engine_customers() -> np.ndarray:
        history = CustomerHistory(style, customers, core=compiled(numba.njit))
        found = history.along(arrivals, handovers, arrivals.customer, arrivals.arrived_at)
        return np.column_stack([found.count, found.style.reshape(len(found.count), -1)])

    tasks: dict[str, tuple[Callable[[], np.ndarray], ...]] = {
        "CSAs at snapshots": (
            engine_csas,
            lambda: pandas_csas(handovers, csas, moments, settings),
            lambda: duckdb_csas(handovers, csas, moments, settings),
        ),
        "customers at contacts": (
            engine_customers,
            lambda: pandas_customers(arrivals, style),
            lambda: duckdb_customers(arrivals, style),
        ),
    }
    print(f"{args.peer_handovers:,} hand-overs, {csas:,} CSAs, {customers:,} customers, width {args.width}")
    print(f"{'':>24} {'engine s':>9} {'pandas s':>9} {'ratio':>7} {'DuckDB s':>9} {'ratio':>7}")
    return [_compared(name, *task, args.peer_handovers) for name, task in tasks.items()]


def _compared(
    name: str,
    engine: Callable[[], np.ndarray],
    pandas: Callable[[], np.ndarray],
    duckdb: Callable[[], np.ndarray],
    handovers: int,
) -> dict[str, Any]:
    """One row of the second table. Raises SystemExit where a peer computes something else."""
    engine()  # compiles what this shape of input still lacks
    mine, own = _timed(engine)
    row: dict[str, Any] = {"task": name, "handovers": handovers, "engine_s": round(own, 3)}
    for peer, run in (("pandas", pandas), ("duckdb", duckdb)):
        theirs, spent = _timed(run)
        if theirs.shape != mine.shape or not np.allclose(theirs, mine, rtol=1e-6, atol=1e-6):
            raise SystemExit(f"{name}: {peer} computes something else than the engine; their times do not compare")
        row |= {f"{peer}_s": round(spent, 3), f"{peer}_ratio": round(spent / own, 1)}
    print(
        f"{name:>24} {own:>9.2f} {row['pandas_s']:>9.2f} {row['pandas_ratio']:>6.1f}× "
        f"{row['duckdb_s']:>9.2f} {row['duckdb_ratio']:>6.1f}×"
    )
    return row


def _timed(run: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    begun = time.perf_counter()
    return run(), time.perf_counter() - begun


def _moments(snapshots: int) -> np.ndarray:
    return BEGIN + (np.arange(1, snapshots + 1) * (SPAN // snapshots)) + DAY


def _streams(count: int, csas: int, customers: int, width: int) -> Streams:
    """Hand-overs and arrivals in order, and when the hand-overs began and ended; whole seconds, so that many tie.

    CSAs and customers are busy to different degrees. A contact is the arrival of one hand-over.
    """
    rng = np.random.default_rng(7)
    known = BEGIN + np.sort(rng.integers(0, SPAN // SECOND, count)) * SECOND
    seconds = rng.lognormal(6, 0.7, count).astype(np.float32)
    ended = known - rng.choice(np.array([0, 0, 0, 3600]), count) * SECOND
    assigned = ended - seconds.astype(np.int64) * SECOND
    csa = (csas * rng.random(count) ** 1.5).astype(np.int32)
    customer = (customers * rng.random(count) ** 2).astype(np.int32)
    base = np.empty((count, width), np.float32)
    for start in range(0, count, BLOCK):
        part = base[start : start + BLOCK]
        rng.standard_normal(part.shape, dtype=np.float32, out=part)
    codes = np.column_stack([(n * rng.random(count) ** 1.5).astype(np.int16) for _, n in FAMILIES])
    handovers = KnownHandovers(
        csa, known, (rng.random(count, np.float32) < 0.8).astype(np.int8), seconds, base,
        customer=customer,
        transferred=(rng.random(count, np.float32) < 0.1).astype(np.int8),
        csat=np.where(rng.random(count, np.float32) < 0.8, np.nan, rng.integers(1, 6, count)).astype(np.float32),
        expected=rng.random(count, np.float32), upset=rng.random(count, np.float32) < 0.2, codes=codes,
    )  # fmt: skip
    arrived = assigned - rng.integers(0, 300, count) * SECOND
    order = np.argsort(arrived, kind="stable")
    signals = rng.standard_normal((count, len(SIGNALS)), dtype=np.float32)
    return handovers, Arrivals(customer[order], arrived[order], signals), assigned, ended


def _peak_gb() -> float:
    """Resident memory of this process at its highest so far, GiB; 0 where the system does not say."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found.group(1)) / 2**20 if found else 0.0


if __name__ == "__main__":
    main()
