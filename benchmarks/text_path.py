"""The transformer's text path: seconds to encode texts and to learn from them, by how they are cut, and in bfloat16.

    python benchmarks/text_path.py --contacts 65536 --device cuda --compiled --output docs/results/text_path.json

Notable: texts are a generated centre's, so lengths are uneven as they are in a log. Cases take turns, so that whatever
else the machine does falls on all of them alike, and medians and their ratios to the first case are told. *read again*
holds the graph of one bucket at a time (`train/cached_text.py`), *kept* that of all. Seconds are the processor's own
where one thread works, as others may work beside it, else the clock's. Memory is what a GPU's allocator counted at the
peak of a batch of its own; on a CPU nobody counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.report_text import table
from train.buckets import CELLS, cells_at_once, cut
from train.cached_text import CachedText
from train.texts import load_tokenizer
from train.token_store import texts_between
from twotower.files import atomic_write
from twotower.tables.log import Log
from twotower.towers.backbones import Backbone, Words, load_transformer
from twotower.towers.config import TowerConfig

Encode = Callable[[Words], Tensor]
ALL = 1 << 40


def main() -> None:
    """Parse options, measure all cases in turn, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=32, help="texts of one batch")
    parser.add_argument("--tokens", type=int, default=128, help="tokens read of a text")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="through torch.compile too")
    parser.add_argument("--cells", type=int, help="token cells of a pass; default: as training takes them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    if args.cells:
        CELLS[device.type] = args.cells
    backbone = load_transformer(args.encoder).to(device)
    words = texts(args, device)
    rows = measure(backbone, words, args)
    facts = about(backbone, words, device)
    print(json.dumps(facts))
    print(table([["case", "seconds", "texts/s", "tokens/s", "the first takes", "held, MB"], *map(as_row, rows)]))
    if args.output:
        settings = {k: v for k, v in vars(args).items() if k != "output"}
        atomic_write(args.output, json.dumps({**settings, **facts, "rows": rows}, indent=1) + "\n")


def texts(args: argparse.Namespace, device: torch.device) -> Words:
    """Texts of a generated centre, drawn until there are enough."""
    config = TowerConfig(encoder=args.encoder, max_tokens=args.tokens)
    with tempfile.TemporaryDirectory() as scratch:
        generate(Settings(contacts=3_000, csas=30, seed=args.seed), Path(scratch) / "centre")
        log = Log.load(Path(scratch) / "centre")
        corpus = load_tokenizer(config).encode_corpus(texts_between(log, 0, len(log.contacts)))
    drawn = np.random.default_rng(args.seed).integers(0, len(corpus), args.contacts)
    return Words(torch.from_numpy(corpus.pad(drawn)).to(device), corpus.lengths(drawn))


def about(backbone: Backbone, words: Words, device: torch.device) -> dict[str, Any]:
    """Lengths, padding in one pass and in buckets, how far bfloat16 is off, and the machine."""
    lengths = np.asarray(words.lengths)
    cells = sum(bucket.cells for bucket in cut(lengths, cells_at_once(device), device)[1])
    with torch.inference_mode():
        exact = CachedText()(backbone, words)
        with torch.autocast(device.type, torch.bfloat16):
            cosine = (exact * CachedText()(backbone, words)).sum(dim=1)
    return {
        "mean_length": round(float(lengths.mean()), 1),
        "padding_in_one_pass": round(1 - float(lengths.mean() / words.tokens.shape[1]), 3),
        "padding_in_buckets": round(1 - float(lengths.sum() / cells), 3),
        "least_cosine_of_bfloat16": round(float(cosine.min()), 6),
        "machine": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
    }


def cases(backbone: Backbone, args: argparse.Namespace) -> dict[str, tuple[Encode, bool, bool]]:
    """By name: how texts are encoded, whether gradients are taken, whether in bfloat16."""
    device = torch.device(args.device)

    def cached(cells: int, compiled: bool = False) -> Encode:
        text = CachedText(cells, compiled)
        return lambda words: text(backbone, words)

    bucket = cells_at_once(device)
    found: dict[str, tuple[Encode, bool, bool]] = {}
    for doing, grad in (("encode", False), ("learn", True)):
        found[f"{doing}, one padded pass"] = backbone.encode, grad, False
        found[f"{doing}, one padded pass, bf16"] = backbone.encode, grad, True
        found[f"{doing}, buckets" + ", kept" * grad] = cached(ALL), grad, False
        found[f"{doing}, buckets" + ", kept" * grad + ", bf16"] = cached(ALL), grad, True
        if grad:
            found["learn, buckets, read again"] = cached(bucket), grad, False
            found["learn, buckets, read again, bf16"] = cached(bucket), grad, True
        if args.compiled:
            found[f"{doing}, buckets, compiled"] = cached(bucket, True), grad, False
            found[f"{doing}, buckets, compiled, bf16"] = cached(bucket, True), grad, True
    return found


def measure(backbone: Backbone, words: Words, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of every case, taken in turns after one round that is not counted."""
    every = cases(backbone, args)
    held = {name: memory(backbone, words, *case) for name, case in every.items()}
    seconds: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(args.repeats):
        for name, case in every.items():
            seconds[name].append(timed(backbone, words, *case))
    rows, first = [], {}
    for name, found in seconds.items():
        median = statistics.median(found)
        first.setdefault(name.partition(",")[0], median)
        rows.append(
            {
                "case": name, "seconds": median, "all": found, "texts_per_second": args.contacts / median,
                "tokens_per_second": int(np.sum(words.lengths)) / median,
                "times_first": first[name.partition(",")[0]] / median, "held_mb": held[name],
            }
        )  # fmt: skip
    return rows


def timed(backbone: Backbone, words: Words, encode: Encode, grad: bool, bf16: bool) -> float:
    """Seconds of one batch: its vectors and, where asked for, the gradient of what is made of them."""
    alone = words.tokens.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    wait(words)
    begun = clock()
    step(backbone, words, encode, grad, bf16)
    wait(words)
    return clock() - begun


def step(backbone: Backbone, words: Words, encode: Encode, grad: bool, bf16: bool) -> None:
    """One batch."""
    backbone.zero_grad()
    with torch.set_grad_enabled(grad), torch.autocast(words.tokens.device.type, torch.bfloat16, enabled=bf16):
        vectors = encode(words)
    if grad:
        (vectors.float() ** 4).sum().backward()


def memory(backbone: Backbone, words: Words, encode: Encode, grad: bool, bf16: bool) -> float | None:
    """Megabytes more than the weights at the peak of a batch; None on a CPU, where nobody counts."""
    step(backbone, words, encode, grad, bf16)
    if words.tokens.device.type != "cuda":
        return None
    backbone.zero_grad()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(backbone, words, encode, grad, bf16)
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def wait(words: Words) -> None:
    """Until the device is done."""
    if words.tokens.device.type == "cuda":
        torch.cuda.synchronize()


def as_row(row: dict[str, Any]) -> list[str]:
    """One line of the table."""
    held = "" if row["held_mb"] is None else f"{row['held_mb']:,.0f}"
    return [
        row["case"], f"{row['seconds']:.3f}", f"{row['texts_per_second']:,.0f}", f"{row['tokens_per_second']:,.0f}",
        f"{row['times_first']:.2f} ×", held,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
