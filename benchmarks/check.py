"""`twotower check` on a large folder: rows per second and peak memory, on one core.

Writes a folder of N contacts with about 25 eligible CSAs each and one hand-over a contact, checks it in a process of
its own and reports what that process used. Claim: ten million contacts are checked within 4 GB.

    python benchmarks/check.py --contacts 10000000
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measured import measure_verb

from twotower.clock import SECOND, to_arrow
from twotower.files import atomic_write
from twotower.progress import track

CSAS = 2_000
ELIGIBLE = 25
BLOCK = 500_000
START = 1_700_000_000 * SECOND


def main() -> None:
    """Writes, checks, prints a table and the JSON, to `--output` as well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=500_000)
    parser.add_argument("--folder", type=Path, default=None, help="keep the generated tables here")
    parser.add_argument("--output", type=Path, default=None, help="write the figures here as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        if not (folder / "interactions.parquet").exists():
            write(folder, args.contacts)
        figures = measure(folder)
    print(f"{'contacts':>12} {'eligible':>12} {'seconds':>8} {'contacts/s':>11} {'peak GB':>8}")
    print(
        f"{figures['contacts']:>12,} {figures['eligible']:>12,} {figures['seconds']:>8.1f} "
        f"{figures['contacts_per_second']:>11,.0f} {figures['peak_gb']:>8.2f}"
    )
    text = json.dumps(figures, indent=2)
    print(text)
    if args.output:
        atomic_write(args.output, text + "\n")


def measure(folder: Path) -> dict[str, float]:
    """Time and peak memory of `twotower check`, and how much it read."""
    found = measure_verb("check", str(folder))
    contacts = found.report["tables"]["contacts"]
    return {
        "contacts": contacts["rows"],
        "eligible": contacts["eligible"]["named"],
        "seconds": round(found.seconds, 1),
        "contacts_per_second": round(contacts["rows"] / found.seconds),
        "peak_gb": round(found.peak_gb, 2),
    }


def write(folder: Path, contacts: int) -> None:
    """A valid data set of that many contacts; text is drawn from a few thousand sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    csa_ids = pa.array([f"csa-{j:06d}" for j in range(CSAS)])
    pq.write_table(
        pa.table(
            {
                "csa_id": csa_ids,
                "hired_at": pa.nulls(CSAS, pa.timestamp("us", tz="UTC")),
                "languages": pa.array([["en"]] * CSAS),
                "skills": pa.array([[{"name": "billing", "level": 0.5}]] * CSAS),
                "profile": pa.array([""] * CSAS),
                "capacity": pa.array([1] * CSAS),
            }
        ),
        folder / "csas.parquet",
    )
    words = np.array(
        ["my", "bill", "card", "app", "order", "late", "wrong", "refund", "please", "help", "since", "the"]
    )
    sentences = pa.array([" ".join(rng.choice(words, 40)) for _ in range(5_000)])
    with_contacts = with_handovers = None
    for first in track(range(0, contacts, BLOCK), "writing"):
        rows = np.arange(first, min(first + BLOCK, contacts))
        block = _contacts(rows, rng, csa_ids, sentences)
        handovers = _handovers(block, rows, rng, csa_ids)
        with_contacts = with_contacts or pq.ParquetWriter(folder / "contacts.parquet", block.schema)
        with_handovers = with_handovers or pq.ParquetWriter(folder / "interactions.parquet", handovers.schema)
        with_contacts.write_table(block)
        with_handovers.write_table(handovers)
    for writer in (with_contacts, with_handovers):
        if writer is not None:
            writer.close()


def _contacts(rows: np.ndarray, rng: np.random.Generator, csa_ids: pa.Array, sentences: pa.Array) -> pa.Table:
    n = len(rows)
    offsets = np.concatenate(([0], np.cumsum(rng.integers(ELIGIBLE - 5, ELIGIBLE + 6, n))))
    first = rng.integers(0, CSAS, n)
    named = (
        np.repeat(first, np.diff(offsets)) + 7 * (np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets)))
    ) % CSAS
    return pa.table(
        {
            "contact_id": _ids("contact", rows),
            "customer_id": _ids("customer", rng.integers(0, max(rows[-1] // 4, 1), n)),
            "arrived_at": to_arrow(START + rows * SECOND),
            "channel": pa.array(["chat", "call"]).take(pa.array(rng.integers(0, 2, n))),
            "language": pa.array(["en", "es", "pt-BR"]).take(pa.array(rng.integers(0, 3, n))),
            "intent_text": sentences.take(pa.array(rng.integers(0, len(sentences), n))),
            "transcript": sentences.take(pa.array(rng.integers(0, len(sentences), n))),
            "eligible": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), csa_ids.take(pa.array(named))),
        }
    )


def _handovers(contacts: pa.Table, rows: np.ndarray, rng: np.random.Generator, csa_ids: pa.Array) -> pa.Table:
    n = len(rows)
    begun = START + rows * SECOND
    return pa.table(
        {
            "contact_id": contacts["contact_id"],
            "csa_id": csa_ids.take(pa.array(rng.integers(0, CSAS, n))),
            "assigned_at": to_arrow(begun),
            "ended_at": to_arrow(begun + rng.integers(0, 3600, n) * SECOND),
            "resolved": pa.array(rng.random(n) < 0.7),
            "csat": pa.array(rng.integers(1, 6, n).astype(np.float64), mask=rng.random(n) < 0.8),
            "propensity": pa.array(rng.uniform(0.01, 1.0, n)),
        }
    )


def _ids(name: str, numbers: np.ndarray) -> pa.Array:
    return pa.array(np.char.add(f"{name}-", np.char.zfill(numbers.astype(str), 9)))


if __name__ == "__main__":
    main()
