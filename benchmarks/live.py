"""One CSA in the serving roster when a hand-over ends: microseconds, beside bringing the whole roster up to date.

    python benchmarks/live.py --csas 20000 --contacts 100000 --output docs/results/live.json

Notable: a generated centre is trained for one epoch and exported, once with the families of features that are on by
default and once with all of them, where the profile vector moves too; then the router's matcher is told hand-overs one
by one, as it would be: from what it kept of the contact, or from the contact's text. The peer is what a router without
incremental updates does, `refresh`: everyone's features and vectors, and all search structures. Ratios are of medians;
the longest call is told beside them, as now and then all remembered rows move.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from measured import one_core
from real_logs import trained_bundle

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.report_text import table
from serve.matcher import Matcher
from twotower.clock import DAY, SECOND
from twotower.features.registry import FAMILIES
from twotower.files import atomic_write
from twotower.tables.log import Log

SETS: dict[str, list[str]] = {
    "default": [],
    "everything": [f"--data.towers.families={json.dumps(list(FAMILIES))}"],
}


def main() -> None:
    """Parse options, measure both sets, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=6_000)
    parser.add_argument("--csas", type=int, default=300)
    parser.add_argument("--updates", type=int, default=4_000)
    parser.add_argument("--refreshes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "centre"
        generate(Settings(contacts=args.contacts, csas=args.csas, seed=args.seed), data)
        rows = [measure(name, data, Path(scratch) / name, args) for name in SETS]
    print(as_table(rows))
    if args.output:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1}
        settings = {name: getattr(args, name) for name in ("contacts", "csas", "updates", "seed")}
        atomic_write(args.output, json.dumps({**settings, "machine": machine, "rows": rows}, indent=1) + "\n")


def measure(name: str, data: Path, scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One set of families: times of each way to tell a hand-over, and of a refresh."""
    scratch.mkdir()
    options = [*SETS[name], "--trainer.max_epochs=1", f"--seed_everything={args.seed}"]
    log = Log.load(data)
    trained_bundle(data, int(log.contacts.arrived_at[-1]) + 30 * DAY, scratch, options)  # when all of it was known
    matcher = Matcher.load(scratch / "bundle")
    contacts = pq.read_table(data / "contacts.parquet").slice(args.contacts - 256).to_pylist()
    seen, rng = [matcher.read(contact) for contact in contacts], np.random.default_rng(args.seed)
    who = [matcher.snapshot.ids[code] for code in rng.integers(0, len(matcher.snapshot.ids), 2 * args.updates)]
    now = int(matcher.bundle.manifest.window["until"]) + SECOND
    matcher.ended(seen[0], who[0], now)  # makes room

    def tell(kept: list[Any], start: int) -> Callable[[int], None]:
        """Hand-overs in the order of their time, three of four resolved."""
        return lambda i: matcher.ended(
            kept[i % 256], who[start + i], now + start + i, resolved=bool(i % 4), handle_time_s=300.0
        )

    with one_core():
        told = {
            "from what was kept": timed(tell(seen, 0), args.updates),
            "from the text": timed(tell(contacts, args.updates), args.updates // 4),
            "everyone": timed(lambda _: matcher.refresh(), args.refreshes),
        }
    ratio = told["everyone"]["p50"] / told["from what was kept"]["p50"]
    return {
        "families": name, "csas": len(matcher.snapshot.ids), "us": told, "times_faster": round(ratio, 1),
        "remembered": int((matcher.snapshot.memory.end - matcher.snapshot.memory.begin).sum()),
    }  # fmt: skip


def timed(call: Callable[[int], None], count: int) -> dict[str, float]:
    """Microseconds of calls: median, 99th percentile, and the longest."""
    spent = []
    for i in range(count):
        begun = time.perf_counter()
        call(i)
        spent.append((time.perf_counter() - begun) * 1e6)
    return {name: round(float(np.quantile(spent, q)), 1) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def as_table(rows: list[dict[str, Any]]) -> str:
    """A line for each way and set of families."""
    lines = [["families", "CSAs", "remembered", "told", "p50 µs", "p99 µs", "max µs", "× faster than everyone"]]
    for row in rows:
        for way, us in row["us"].items():
            ratio = f"{row['us']['everyone']['p50'] / us['p50']:,.0f}"
            lines.append(
                [row["families"], f"{row['csas']:,}", f"{row['remembered']:,}", way, f"{us['p50']:,.0f}",
                 f"{us['p99']:,.0f}", f"{us['max']:,.0f}", ratio]
            )  # fmt: skip
    return table(lines)


if __name__ == "__main__":
    main()
