"""`twotower generate`: seconds and peak memory per million contacts on one core, beside the floor of writing alone.

Generates a centre in a process of its own that is bound to one core, then reads its tables into memory and writes them
again with the same compression: what remains if drawing, choosing and wording cost nothing. Claim: one million contacts
in under two minutes on one core.

    python benchmarks/generate.py --contacts 1000000
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from measured import measure_verb, one_core

from twotower.files import atomic_write

ROWS_PER_GROUP = 32_768
TARGET_S = 120.0


def main() -> None:
    """Generates, writes again, prints a table and the JSON, to `--output` as well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=200_000)
    parser.add_argument("--csas", type=int, default=240)
    parser.add_argument("--output", type=Path, default=None, help="write the figures here as JSON")
    args = parser.parse_args()
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "centre"
        figures = {"contacts": args.contacts, "csas": args.csas, **generate(folder, args.contacts, args.csas)}
        with one_core():
            figures["floor_s"] = round(write_again(folder, Path(scratch)), 2)
    per_million = figures["seconds"] * 1e6 / args.contacts
    figures["seconds_per_million"] = round(per_million, 1)
    figures["floor_s_per_million"] = round(figures["floor_s"] * 1e6 / args.contacts, 1)
    figures["within_target"] = per_million < TARGET_S
    print(f"{'contacts':>12} {'seconds':>8} {'s/million':>10} {'floor s/million':>16} {'peak GB':>8} {'MB':>8}")
    print(
        f"{figures['contacts']:>12,} {figures['seconds']:>8.1f} {figures['seconds_per_million']:>10.1f} "
        f"{figures['floor_s_per_million']:>16.1f} {figures['peak_gb']:>8.2f} {figures['megabytes']:>8,.0f}"
    )
    text = json.dumps(figures, indent=2)
    print(text)
    if args.output:
        atomic_write(args.output, text + "\n")


def generate(folder: Path, contacts: int, csas: int) -> dict[str, float]:
    """Time and peak memory of `twotower generate`, and what it wrote."""
    found = measure_verb("generate", "--contacts", str(contacts), "--csas", str(csas), "--output", str(folder))
    return {
        "seconds": round(found.seconds, 2),
        "peak_gb": round(found.peak_gb, 2),
        "megabytes": round(sum(file.stat().st_size for file in folder.iterdir()) / 1e6, 1),
        "handovers": found.report["handovers"],
    }


def write_again(folder: Path, scratch: Path) -> float:
    """Seconds to write tables that are ready in memory."""
    tables = {file.name: pq.read_table(file) for file in sorted(folder.glob("*.parquet"))}
    begun = time.perf_counter()
    for name, table in tables.items():
        pq.write_table(table, scratch / name, compression="zstd", row_group_size=ROWS_PER_GROUP)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
