"""What the store costs the router: a decision on the hot path, how soon it is durable, and feedback.

    python benchmarks/store.py --decisions 2000 --output docs/results/store.json

Notable: decisions come at random (Poisson) from the thread that also does a stand-in for a match (numpy and a little
Python), so what the store's own threads take from it shows in the match's 99th percentile. The stand-in is timed alone
first, in the same run. Between two decisions caches go cold, which is most of what logging one takes; so a burst, one
after the other, is told beside it. Texts are masked in a process of their own, as by default; the peer masks them in a
thread. A decision has 50 candidates, 500 eligible CSAs and a text of 600 characters. Bytes are the database's, for each
decision with its contact. PostgreSQL is measured where --postgresql names a database that may be written to.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.report_text import table
from serve.store.committer import WINDOW_S, Committer
from serve.store.records import Decided, Feedback, Offered
from serve.store.redacting import RedactingProcess
from serve.store.store import Store
from twotower.clock import now
from twotower.files import atomic_write

SAID = "I was charged twice for one order, please call me at 612 345 678, my name is Ana Lopez. Thanks! "
CANDIDATES = [Offered(f"csa-{i:05}", 0.1 * i, 0.5 + i / 200, 0.02) for i in range(50)]
ELIGIBLE = [f"csa-{i:05}" for i in range(500)]
BURST = 200
WAYS = ("no text", "text, own process", "text, in a thread")


def main() -> None:
    """Parse options, measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--decisions", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=30.0, help="decisions a second")
    parser.add_argument("--feedback", type=int, default=300)
    parser.add_argument("--postgresql", metavar="URL", help="measure this database too")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    rows = [measure(way, args) for way in WAYS]
    if args.postgresql:
        rows.append(measure("no text", args, args.postgresql))
    print(as_table(rows))
    if args.output:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        settings = {name: getattr(args, name) for name in ("decisions", "rate", "feedback")}
        found = {**settings, "window_ms": WINDOW_S * 1000, "machine": machine, "rows": rows}
        atomic_write(args.output, json.dumps(found, indent=1) + "\n")


def measure(way: str, args: argparse.Namespace, url: str | None = None) -> dict[str, Any]:
    """One way to keep text: microseconds on the hot path, milliseconds until durable, bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "store.db"
        with Store.open(url or f"sqlite:///{path}", text="none" if way == "no text" else "redacted") as store:
            if way == "text, in a thread":
                in_a_thread(store)
            ages = ages_of(store.log._decisions)
            alone = paced(None, args)["match"]
            spent = paced(store, args)
            store.log.flush(600)
            counts, told, durable = store.log.counts, feedback(store, args.feedback), list(ages)
            store.engine.dispose()
            size = path.stat().st_size if url is None else 0
            spent["burst"] = [decided(store, f"burst-{number}") for number in range(BURST)]
    return {
        "database": "postgresql" if url else "sqlite", "way": way,
        "us": {"match_alone": quantiles(alone), **{name: quantiles(values) for name, values in spent.items()}},
        "durable_ms": quantiles([1e3 * age for age in durable]), "late": counts.late, "lost": counts.lost,
        "feedback_ms": quantiles([us / 1e3 for us in told]), "bytes": round(size / args.decisions),
    }  # fmt: skip


def in_a_thread(store: Store) -> None:
    """Masks texts in this process, as where no other can be started."""

    def refuse(texts: object) -> list[str]:
        raise OSError

    redacting: RedactingProcess = store._redacting
    redacting._ask = refuse  # type: ignore[method-assign]


def ages_of(committer: Committer[Any]) -> list[float]:
    """Seconds from put to durable, filled as they are written."""
    ages: list[float] = []
    whole = committer._settle

    def settle(batch: list[tuple[float, Any]]) -> None:
        ages.extend(time.monotonic() - since for since, _ in batch)
        whole(batch)

    committer._settle = settle  # type: ignore[method-assign]
    return ages


def paced(store: Store | None, args: argparse.Namespace) -> dict[str, list[float]]:
    """Microseconds of the stand-in, and of making a decision and logging it, as they come; of the first alone where
    there is no store."""
    spent: dict[str, list[float]] = {"match": []} if store is None else {"match": [], "decided": []}
    vectors = np.random.default_rng(0).standard_normal((2000, 128)).astype(np.float32)
    due, gaps = time.perf_counter(), np.random.default_rng(1).exponential(1 / args.rate, args.decisions)
    for number in range(args.decisions):
        due += gaps[number]
        time.sleep(max(0.0, due - time.perf_counter()))
        begun = time.perf_counter()
        for row in range(10):
            np.argpartition(vectors @ vectors[row], 50)
        matched = time.perf_counter()
        spent["match"].append(1e6 * (matched - begun))
        if store is None:
            continue
        spent["decided"].append(decided(store, f"c{number}"))
    return spent


def decided(store: Store, contact_id: str) -> float:
    """Microseconds that it takes to make a decision and to log it."""
    contact = {"contact_id": contact_id, "customer_id": contact_id, "arrived_at": now(), "channel": "chat",
               "language": "en", "intent_text": SAID + contact_id, "transcript": SAID * 5}  # fmt: skip
    begun = time.perf_counter()
    store.log.decided(
        Decided(contact, CANDIDATES, ELIGIBLE, "csa-00001", "policy", 0.02, model="bundle", roster_version=1)
    )
    return 1e6 * (time.perf_counter() - begun)


def feedback(store: Store, count: int) -> list[float]:
    """Microseconds of pieces of feedback, one after the other, each durable when it returns."""
    spent = []
    for number in range(count):
        moment = now()
        told = Feedback.of(
            {
                "contact_id": f"c{number}",
                "csa_id": "csa-00001",
                "assigned_at": moment,
                "ended_at": moment,
                "resolved": True,
            }
        )
        begun = time.perf_counter()
        store.feedback(told)
        spent.append(1e6 * (time.perf_counter() - begun))
    return spent


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and largest."""
    return {name: round(float(np.quantile(values, q)), 2) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def as_table(rows: list[dict[str, Any]]) -> str:
    """A line for each way: median / 99 % / most."""
    heads = ("match alone µs", "match µs", "decided µs", "in a burst µs", "durable ms", "feedback ms")
    lines = [["database", "text", *heads, "late", "bytes"]]
    for row in rows:
        us = [row["us"][name] for name in ("match_alone", "match", "decided", "burst")]
        cells = [
            " / ".join(f"{value:,.1f}" for value in one.values())
            for one in (*us, row["durable_ms"], row["feedback_ms"])
        ]
        lines.append([row["database"], row["way"], *cells, str(row["late"]), f"{row['bytes']:,}"])
    return table(lines)


if __name__ == "__main__":
    main()
