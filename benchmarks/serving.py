"""From words to candidates inside a router, on one core, beside a transformer and a flat index.

    python benchmarks/serving.py --csas 10000 --output results/serving.json
    python benchmarks/serving.py --csas 1000 10000 100000 --keep bundles --output docs/results/serving.json

Notable: the towers are a trained bundle's, the roster is scaled (`scaled.py`), contacts are a generated centre's with
transcripts cut or repeated to `--characters`. Calls of both sides alternate in blocks. Wall-clock percentiles are those
that count; the processor's own time stands beside them, because on a shared machine the clock also tells of others. The
floor is what no router can go below: cutting the words alone, and one pass over the bytes that the search must read.
The peer is MiniLM in int8 by onnxruntime's own quantiser, then a FAISS flat index under the same mask: what a team
builds that takes sentence embeddings for granted.
"""

from __future__ import annotations

# ruff: noqa: E402 — numpy reads the number of threads when it is imported
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from measured import one_core
from record import Record, measure_each
from scaled import scaled_bundle
from serving_peer import Peer

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.report_text import table
from export.bundle import export_bundle
from serve.contact import clean
from serve.matcher import Matcher
from serve.roster.changes import State
from serve.roster.eligibility import Need
from train.run import run_training
from twotower.bundle.bundle import Bundle
from twotower.features.schema import log_columns
from twotower.scoring.join import ContactVectors
from twotower.tables.log import Log
from twotower.text.tokens import compose_text

K = 50
ASKED = 400  # contacts by which indexes are tuned
BLOCK = 50  # calls of one side before the other's
PERCENTILES = (50, 90, 99)
Row = dict[str, Any]
Codes = npt.NDArray[np.int64]


class Side(Protocol):
    """What is measured at one size of the roster."""

    def measure(self, csas: int) -> tuple[list[Row], str]:
        """Rows, and a table for people."""
        ...


class Centre:
    """A trained bundle and contacts of its centre."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        data, run, self.bundle_folder = folder / "centre", folder / "run", folder / "bundle"
        self.folder, self.args = folder, args
        if not self.bundle_folder.exists():
            generate(Settings(contacts=args.contacts, csas=240, seed=args.seed), data)
            run_training(data, run, options=[f"--seed_everything={args.seed}"])
            export_bundle(run, self.bundle_folder)
        log = Log.load(data)
        late = np.arange(len(log.contacts) - args.contacts // 10, len(log.contacts))
        self.contacts = [contact_of(log, int(i), args.characters) for i in late]
        self.bundle = Bundle.open(self.bundle_folder)
        columns = log_columns(log, late[:ASKED])
        nobody = [None] * len(late[:ASKED])
        self.asked: ContactVectors = Matcher(self.bundle).encode(columns, nobody, nobody)

    def scaled(self, csas: int) -> Path:
        """The bundle under a roster of so many; made where it is not there yet."""
        folder = self.folder / f"scaled-{csas}-{self.args.per_csa}"
        if not folder.exists():
            scaled_bundle(self.bundle, csas, self.args.per_csa, self.asked, folder, self.args.seed)
        return folder


def contact_of(log: Log, row: int, characters: int) -> Row:
    """A contact's fields, its transcript cut or repeated to so many characters."""
    said = log.contacts.transcript[row].as_py() or log.contacts.intent_text[row].as_py() or "hello"
    long = (f"{said} " * (1 + characters // len(said)))[:characters]
    names = ("intent_text", "language", "channel", "intent")
    return {**{name: getattr(log.contacts, name)[row].as_py() for name in names}, "transcript": long}


def timed(calls: dict[str, Callable[[int], Any]], count: int) -> dict[str, tuple[list[float], list[float]]]:
    """Wall-clock and processor seconds of `count` calls of each, in alternating blocks after one not counted."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in calls}
    for start in range(-BLOCK, count, BLOCK):
        for name, call in calls.items():
            for i in range(start, start + BLOCK):
                wall, own = time.perf_counter(), time.thread_time()
                call(i % count)
                spent = time.perf_counter() - wall, time.thread_time() - own
                if start >= 0:
                    for seconds, one in zip(found[name], spent, strict=True):
                        seconds.append(one)
    return found


def row_of(step: str, seconds: tuple[list[float], list[float]]) -> Row:
    """Percentiles in ms."""
    row: Row = {"step": step, "calls": len(seconds[0])}
    for name, spent in zip(("ms", "cpu_ms"), seconds, strict=True):
        row |= {f"p{p}_{name}": float(np.percentile(spent, p) * 1e3) for p in PERCENTILES}
    return row


class Serving:
    """What is measured, by the size of the roster."""

    def __init__(self, args: argparse.Namespace, scratch: Path) -> None:
        self.args, self.scratch = args, scratch
        self.centre = Centre(args.keep or scratch, args)

    def measure(self, csas: int) -> tuple[list[Row], str]:
        """Percentiles at one size of the roster."""
        folder = self.centre.scaled(csas)
        start = started(folder)
        matcher = Matcher.load(folder)
        need, listed = self.eligible(matcher)
        calls = self.calls(matcher, need, listed)
        with one_core():
            found = timed(calls, self.args.calls)
        facts = {
            "csas": csas, "share": len(listed) / csas, **start,
            "recall_at_50": round(recall(matcher, self.centre.contacts, listed), 4),
        }  # fmt: skip
        rows = [row_of(step, seconds) | facts for step, seconds in found.items()]
        return rows, told(csas, rows)

    def eligible(self, matcher: Matcher) -> tuple[Need, list[str]]:
        """A need that a share of the roster, drawn at random, answers, and their ids."""
        ids = list(matcher.snapshot.ids)
        rng = np.random.default_rng(self.args.seed)
        chosen = set(rng.choice(len(ids), max(K, round(self.args.share * len(ids))), replace=False).tolist())
        matcher.update_roster([State(csa_id, "busy") for code, csa_id in enumerate(ids) if code not in chosen])
        return Need(), [ids[code] for code in sorted(chosen)]

    def calls(self, matcher: Matcher, need: Need, listed: Sequence[str]) -> dict[str, Callable[[int], Any]]:
        """Steps by name."""
        contacts = self.centre.contacts
        seen = [matcher.read(contact) for contact in contacts]
        vectors = [matcher.vectors(one.encoded, [None]) for one in seen]
        snapshot, texts = matcher.snapshot, [compose_text(c["intent_text"], c["transcript"]) for c in contacts]
        codes = codes_of(matcher, listed)
        read = [clean(contact) for contact in contacts]
        bytes_read = floor_arrays(matcher, codes)
        n = len(contacts)
        found: dict[str, Callable[[int], Any]] = {
            "words to candidates, by need": lambda i: matcher.match(contacts[i % n], K, need),
            "words to candidates, ids listed": lambda i: matcher.match(contacts[i % n], K, listed),
            "words to vectors": lambda i: matcher.read(read[i % n]),
            "vectors to candidates": lambda i: matcher.rank(vectors[i % n], K, codes),
            "floor: cutting the words": lambda i: matcher.bundle.contact_encoder.words(texts[i % n]),
            "floor: one pass over the bytes": lambda i: [part.sum() for part in bytes_read],
        }
        if self.args.peer:
            peer = Peer(self.scratch, len(snapshot.ids), codes)
            found["peer: MiniLM in int8, flat index"] = lambda i: peer.match(texts[i % n], K)
        return found


STARTED = """
import json, resource, sys, time
begun = time.perf_counter()
from serve.matcher import Matcher
Matcher.load(sys.argv[1]).match({"intent_text": "refund"})
spent = time.perf_counter() - begun
pages = int(open("/proc/self/statm").read().split()[1])
print(json.dumps({"start_s": round(spent, 2), "resident_mb": pages * resource.getpagesize() // 10**6}))
"""
STARTS = 3


def started(folder: Path) -> Row:
    """Seconds from importing the matcher to its first answer, and its resident memory: a process of its own, the median
    of some."""
    told = [
        subprocess.run([sys.executable, "-c", STARTED, str(folder)], capture_output=True, check=True).stdout
        for _ in range(STARTS)
    ]
    rows = [json.loads(text) for text in told]
    return {name: sorted(row[name] for row in rows)[STARTS // 2] for name in rows[0]}


def codes_of(matcher: Matcher, listed: Sequence[str]) -> Codes:
    """Codes, ascending, of CSAs."""
    return np.array(sorted(matcher.snapshot.codes[csa_id] for csa_id in listed))


def floor_arrays(matcher: Matcher, codes: Codes) -> list[npt.NDArray[np.float32]]:
    """What a search under the mask must read at least: a stand-in and what the K best remember."""
    view = matcher.snapshot
    rows = np.concatenate([np.arange(view.memory.begin[c], view.memory.end[c]) for c in codes[:K]])
    return [view.vectors[: len(codes)].copy(), np.take(view.memory.rows.code, rows, axis=0)]


def recall(matcher: Matcher, contacts: Sequence[Row], listed: Sequence[str]) -> float:
    """Share of the exact best K that are among the candidates, over some contacts."""
    view, found = matcher.snapshot, []
    codes, rank = codes_of(matcher, listed), matcher.default_rank
    for contact in contacts[:100]:
        one = matcher.vectors(matcher.read(contact).encoded, [None])
        exact = matcher.bundle.join.score(rank, one, view.memory, codes, view.vectors_of(codes))
        best = set(codes[exact.best(K)].tolist())
        found.append(len(best & set(matcher.rank(one, K, codes).codes.tolist())) / len(best))
    return float(np.mean(found))


def told(csas: int, rows: Sequence[Row]) -> str:
    """A table for people."""
    head = f"{csas:,} CSAs, {rows[0]['share']:.0%} eligible, k = {K}"
    lines = [[head, "p50 ms", "p90 ms", "p99 ms", "p99 ms, processor's own"]]
    lines += [[r["step"], *(f"{r[n]:.3f}" for n in ("p50_ms", "p90_ms", "p99_ms", "p99_cpu_ms"))] for r in rows]
    first = rows[0]
    start = f"from start to first answer {first['start_s']:.2f} s, {first['resident_mb']:,.0f} MB"
    return f"{table(lines)}\n{start}; recall at {K}: {first['recall_at_50']:.3f}"


def options(doc: str | None) -> argparse.ArgumentParser:
    """What benchmarks of a bundle under scaled rosters are told alike; doc: of the script."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--csas", type=int, nargs="+", default=[10_000], help="sizes of the roster (default 10000)")
    parser.add_argument("--per-csa", type=int, default=32, help="hand-overs remembered of each (default 32)")
    parser.add_argument("--characters", type=int, default=600, help="of a transcript (default 600)")
    parser.add_argument("--contacts", type=int, default=12_000, help="of the centre that is trained on (default 12000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder that bundles are kept in between runs")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser


def measure_sizes(args: argparse.Namespace, side: Callable[[argparse.Namespace, Path], Side]) -> None:
    """Measure size after size of `--csas`. Raises SystemExit where one of them failed."""
    settings = {k: v for k, v in vars(args).items() if k not in ("output", "csas", "keep")}
    record = Record(args.output, {"settings": settings}, "rows", "csas")
    with tempfile.TemporaryDirectory() as scratch:
        whole = measure_each(record, args.csas, side(args, Path(scratch)).measure)
    if not whole:
        raise SystemExit(1)


def main() -> None:
    """Parse options, measure size after size."""
    parser = options(__doc__)
    parser.add_argument("--share", type=float, default=0.05, help="of the roster that is eligible (default 0.05)")
    parser.add_argument("--calls", type=int, default=1000, help="of each step (default 1000)")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="without the transformer")
    measure_sizes(parser.parse_args(), Serving)


if __name__ == "__main__":
    main()
