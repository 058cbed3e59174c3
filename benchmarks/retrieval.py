"""How fast candidates come from the indexes, and how many of the right ones: one thread, measured beside brute force.

    python benchmarks/retrieval.py --csas 10000 --output results/retrieval.json

Notable: the vectors are synthetic, and honest about what makes retrieval easy or hard. Work comes in a few hundred
topics of very different frequency; a CSA does some of them, their remembered hand-overs are contacts of these topics,
and the queries are further contacts from the same topics, so neighbours are near, as in a real centre, and many are
almost equally near, which is hard for an index. No trained model takes part. The brute-force peer runs in the same
process on the same vectors: the same exact score over everyone eligible. Wall-clock times are those that count; CPU
times beside them tell a slow step from a busy machine.
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
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.snapshot import Snapshot
from serve.surrogate import Surrogate
from twotower.clock import DAY, NEVER
from twotower.files import atomic_write
from twotower.index.build import build_history_index, build_profile_index, recall
from twotower.index.history import history_queries, history_vectors, staleness_rate
from twotower.index.standins import fit_standins
from twotower.index.vectors import faiss
from twotower.progress import track
from twotower.scoring.join import ContactVectors, Join, Rank, RankWeights
from twotower.scoring.kernels import Kernel
from twotower.scoring.outcomes import TARGETS
from twotower.scoring.rows import HistoryRows

Floats = npt.NDArray[np.float32]
NOW = 20_000 * DAY
TOPICS, TOPICS_PER_CSA = 300, 4
PROFILE, MEMORY = 129, 64  # the widths of the default towers
# Components fade as those of memory vectors trained on code reviews do: about nine of them carry the variance
# (participation ratio), and a contact's nearest hand-over lies at a cosine of about 0.9.
SPECTRUM = (1.0 + np.arange(MEMORY)) ** -0.75
SPECTRUM /= np.linalg.norm(SPECTRUM)
K = 10
STEPS = ("candidates", "score", "both", "brute force")


def centre(csas: int, per_csa: int, rng: np.random.Generator) -> tuple[HistoryRows, Floats, Callable[[int], Any]]:
    """Remembered hand-overs, profile vectors (J, P), and a source of contacts."""
    frequency = 1 / np.arange(1, TOPICS + 1)
    frequency /= frequency.sum()
    centres = SPECTRUM * rng.standard_normal((TOPICS, MEMORY))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    to_profile = rng.standard_normal((MEMORY, PROFILE - 1)) / 8
    does = np.stack([rng.choice(TOPICS, TOPICS_PER_CSA, replace=False, p=frequency) for _ in range(csas)])
    counts = rng.integers(per_csa // 2, per_csa * 3 // 2 + 1, csas)
    owner = np.repeat(np.arange(csas), counts)
    vector = texts(centres[does[owner, rng.integers(0, TOPICS_PER_CSA, len(owner))]], rng)
    known = NOW - (rng.random(len(owner)) ** 2 * 365 * DAY).astype(np.int64) - 1
    order = np.lexsort((known, owner))
    resolved = rng.random(len(owner)) < 0.75
    rows = HistoryRows.of(
        csa=owner[order].astype(np.int32),
        known_at=known[order],
        until=np.full(len(owner), NEVER),
        vector=vector[order],
        residual=(resolved - 0.75).astype(np.float32)[order],
        outcome=np.ones(len(owner), dtype=np.float32),
        weight=resolved.astype(np.float32)[order],
        customer=np.full(len(owner), -1, dtype=np.int32),
        contact=np.arange(len(owner)),
    )
    skill = centres[does].mean(axis=1) + 0.4 * SPECTRUM * rng.standard_normal((csas, MEMORY))
    profiles = np.column_stack([skill @ to_profile * 4, 0.3 * rng.standard_normal(csas)]).astype(np.float32)

    def contacts(count: int) -> ContactVectors:
        memory = texts(centres[rng.choice(TOPICS, count, p=frequency)], rng)
        profile = np.column_stack([memory @ to_profile, np.ones(count)]).astype(np.float32)
        level = rng.standard_normal(count).astype(np.float32)
        return ContactVectors(profile, memory, level, memory, np.full(count, NOW), np.full(count, -1, dtype=np.int32))

    return rows, profiles, contacts


def texts(near: npt.NDArray[np.float64], rng: np.random.Generator) -> Floats:
    """Unit vectors around their topics, at a cosine of about 0.7 to them."""
    found = near + SPECTRUM * rng.standard_normal(near.shape)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def join() -> Join:
    """Parts as many and as sharp as training fits by default, with weights of the size it finds."""
    days = (7.0, 40.0, 190.0)
    masses = [Kernel("csa", "mass", beta, d * 86400) for beta in (0.0, 4.0, 16.0) for d in days]
    pairs = [Kernel("pair", "mass", 0.0, d * 86400) for d in days]
    handled = RankWeights(
        kernels=(*masses, *pairs),
        profile=0.1,
        success=0.5,
        kernel_weights=(0.05, 0.2, 0.1, 0.1, 0.1, 0.2, 0.1, 0.2, 0.3, 0.2, 0.1, 0.1),
    )
    residuals = tuple(Kernel("csa", "residual", beta, None, 4.0) for beta in (2.0, 8.0, 24.0))
    success = RankWeights(kernels=residuals, profile=1.0, level=1.0, kernel_weights=(0.5, 1.0, 0.5))
    return Join({"handled": handled, "success": success}, "success", True)


def snapshot(rows: HistoryRows, vectors: Floats, queries: ContactVectors, joined: Join) -> Snapshot:
    """Indexes chosen as an export chooses them."""
    return Snapshot.of(
        tuple(f"csa-{j}" for j in range(len(vectors))),
        np.ones(len(vectors), dtype=np.bool_),
        vectors,
        np.full((len(vectors), 9, vectors.shape[1]), 0.1, np.float16),
        np.zeros((len(vectors), len(TARGETS)), np.float32),
        rows,
        build_profile_index(vectors, queries.profile),
        build_history_index(
            history_vectors(rows, NOW, staleness_rate(joined)), history_queries(queries.memory, "handled")
        ),
        {rank: Surrogate(one) for rank, one in fit_standins(joined, vectors, rows, NOW).items()},
    )


def measure(
    view: Snapshot, joined: Join, contacts: ContactVectors, rank: Rank, share: float, seed: int
) -> dict[str, Any]:
    """Times in ms of both steps and of the peer, and recall of the top K, for one rank and share of eligible CSAs."""
    rng = np.random.default_rng(seed)
    clocks = {"ms": time.perf_counter_ns, "cpu_ms": time.thread_time_ns}
    times: dict[str, dict[str, list[float]]] = {clock: {step: [] for step in STEPS} for clock in clocks}
    sizes, found, kept = [], [], []
    for i in track(range(len(contacts)), f"{rank}, {share:.0%} eligible"):
        one = contacts.take(np.array([i]))
        eligible = None if share == 1 else np.sort(rng.choice(len(view.ids), int(len(view.ids) * share), replace=False))
        marks = [[clock() for clock in clocks.values()]]
        codes = view.candidates(one, rank, K, eligible)
        marks.append([clock() for clock in clocks.values()])
        best = top(view, joined, one, rank, codes)
        marks.append([clock() for clock in clocks.values()])
        for c, clock in enumerate(clocks):
            for step, (a, b) in {"candidates": (0, 1), "score": (1, 2), "both": (0, 2)}.items():
                times[clock][step].append((marks[b][c] - marks[a][c]) / 1e6)
        sizes.append(len(codes))
        kept.append((one, eligible, best))
    # The peer apart, and for an eighth of the contacts: it is slow, and it empties the caches.
    for one, eligible, best in track(kept[::8], f"{rank}, {share:.0%} eligible, brute force"):
        everyone = np.arange(len(view.ids)) if eligible is None else eligible
        before = [clock() for clock in clocks.values()]
        true = top(view, joined, one, rank, everyone)
        for c, (name, clock) in enumerate(clocks.items()):
            times[name]["brute force"].append((clock() - before[c]) / 1e6)
        found.append(len(np.intersect1d(best, true)) / K)
    quantiles = {clock: {step: quantile(t) for step, t in steps.items()} for clock, steps in times.items()}
    return {
        "rank": rank,
        "eligible_share": share,
        **quantiles,
        "scored": float(np.mean(sizes)),
        f"recall_at_{K}": float(np.mean(found)),
        "times_faster_than_brute_force": quantiles["ms"]["brute force"]["p50"] / quantiles["ms"]["both"]["p50"],
    }


def top(view: Snapshot, joined: Join, one: ContactVectors, rank: Rank, codes: npt.NDArray[np.int64]) -> Any:
    """The best K of the codes by the exact score."""
    score = joined.score(rank, one, view.memory, codes, view.vectors_of(codes)).score
    return codes[np.argsort(-score, kind="stable")[:K]]


def quantile(times: list[float]) -> dict[str, float]:
    """p50, p95 and p99."""
    return {name: float(q) for name, q in zip(("p50", "p95", "p99"), np.percentile(times, [50, 95, 99]), strict=True)}


def run(csas: int, per_csa: int, queries: int, seed: int) -> dict[str, Any]:
    """Build a centre and measure every case."""
    rng = np.random.default_rng(seed)
    rows, vectors, source = centre(csas, per_csa, rng)
    joined = join()
    start = time.perf_counter()
    view = snapshot(rows, vectors, source(256), joined)
    built = time.perf_counter() - start
    contacts = source(queries)
    for warm in range(50):
        view.candidates(contacts.take(np.array([warm % queries])), "success", K)
    cases = [
        measure(view, joined, contacts, rank, share, seed) for rank in ("success", "handled") for share in (1.0, 0.05)
    ]
    asked = history_queries(contacts.memory, "handled")
    return {
        "vectors": "synthetic: topics of unequal frequency, CSAs and contacts drawn from them; no trained model",
        "csas": csas,
        "history_rows": len(rows),
        "widths": {"profile": PROFILE, "memory": MEMORY},
        "queries": queries,
        "seed": seed,
        "build_s": built,
        "indexes": {
            "profiles": view.profiles.choice.to_json() | {"recall_at_50": recall(view.profiles, contacts.profile, 50)},
            "history": view.history.index.choice.to_json() | {"recall_at_100": recall(view.history.index, asked, 100)},
        },
        "cases": cases,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1},
        "faiss": faiss.__version__,
    }


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{found['csas']:,} CSAs, {found['history_rows']:,} remembered hand-overs, one thread; {found['vectors']}"]
    for name, index in found["indexes"].items():
        reached = index["recall_at_50" if name == "profiles" else "recall_at_100"]
        lines.append(f"index {name}: {index['kind']}, effort {index['effort']}, recall {reached:.4f} of brute force")
    lines += ["", "rank     eligible  scored  step           p50 ms  p95 ms  p99 ms  p99 cpu  recall@10  × brute force"]
    for case in found["cases"]:
        for step, q in case["ms"].items():
            ratio = case["times_faster_than_brute_force"]
            tail = f"{case[f'recall_at_{K}']:9.4f}  {ratio:9.1f}" if step == "both" else ""
            lines.append(
                f"{case['rank']:<8} {case['eligible_share']:>8.0%}  {case['scored']:>6.0f}  {step:<12}"
                f" {q['p50']:>8.3f}{q['p95']:>8.3f}{q['p99']:>8.3f}{case['cpu_ms'][step]['p99']:>9.3f}  {tail}".rstrip()
            )
    return "\n".join(lines)


def main() -> None:
    """Parse options, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--csas", type=int, default=10_000)
    parser.add_argument("--history", type=int, default=32, help="mean remembered hand-overs per CSA (default 32)")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    found = run(args.csas, args.history, args.queries, args.seed)
    print(table(found))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(args.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
