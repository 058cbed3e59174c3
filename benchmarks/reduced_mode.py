"""What a router in another language loses that ranks by `contact_tower_text.onnx` and `vectors.npy` alone.

    python benchmarks/reduced_mode.py --output docs/results/reduced_mode.json
    python benchmarks/reduced_mode.py --contacts 60000 --csas 240

Notable: the centre has known truth, so the loss is told as the share of the oracle's uplift over the queue that first
choices capture on the last tenth of contacts, beside the whole bundle with its history rolled forward. Both kinds of
vectors are judged, whichever the bundle holds, with the text alone and with the labels. The text of every contact goes
through the graph's tokenizer and through the router's, and tokens that differ are counted. Times are those of one
thread: the graph and the product, and in the same loop the router's own encoder. Options that are not listed by --help
go to training.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from real_logs import trained_bundle

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.ranking import split_log
from evaluation.ranking_model import ModelRanker
from evaluation.report_text import table
from evaluation.truth import Truth
from export.text_graph import Pieces
from export.text_tower import FILE, feeds, open_text, tokens_graph
from twotower.bundle.bundle import Bundle
from twotower.files import atomic_write
from twotower.scoring.standin import KINDS, csa_vectors
from twotower.tables.log import Log
from twotower.text.tokens import Tokenizer, compose_text

FILES = (FILE, "vectors.npy", "ids.json")
BLOCK = 256
Floats = np.ndarray[Any, np.dtype[np.float64]]
Texts = list[tuple[str, str]]


def main() -> None:
    """Parse options, make a centre and a bundle, judge them, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=12_000)
    parser.add_argument("--csas", type=int, default=76)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="train at most so long; default: the default configuration's")
    parser.add_argument("--calls", type=int, default=500, help="contacts that calls are timed on")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args()
    options += [] if args.epochs is None else [f"--trainer.max_epochs={args.epochs}"]
    with tempfile.TemporaryDirectory() as scratch:
        centre = Path(scratch) / "centre"
        generate(Settings(contacts=args.contacts, csas=args.csas, seed=args.seed), centre)
        log = Log.load(centre)
        start = int(log.contacts.arrived_at[split_log(log).test[0]])
        trained_bundle(centre, start, Path(scratch), [f"--seed_everything={args.seed}", *options])
        found = measure(centre, Path(scratch) / "bundle", args.calls)
    print(as_table(found))
    if args.output:
        settings = {"contacts": args.contacts, "csas": args.csas, "seed": args.seed, "options": options}
        machine = {"processor": platform.processor() or platform.machine()}
        text = json.dumps({"settings": settings, "machine": machine, **found}, indent=1)
        atomic_write(args.output, (text + "\n").encode())


def measure(centre: Path, folder: Path, calls: int) -> dict[str, Any]:
    """Everything about one bundle on the centre it was trained on."""
    log, bundle, truth = Log.load(centre), Bundle.open(folder), Truth.load(centre)
    texts = texts_of(log)
    contacts = positions(log.contacts.ids, truth.latents.contact_id[truth.contact])
    pairs = contacts[truth.rows], positions(log.csas.ids, truth.latents.csa_id)[truth.csa]
    ranked = {"the bundle, history rolled forward": whole(folder, log, pairs)}
    ranked |= reduced(bundle, log, texts, pairs)
    return {
        "manifest": bundle.manifest.reduced,
        "captured": {name: vars(truth.captured_by_pairs(score)) for name, score in ranked.items()},
        "tokens": tokens(bundle, texts),
        "milliseconds": timed(bundle, [texts[i] for i in np.unique(contacts)[:calls]]),
        "bytes": {name: bundle.manifest.files[name]["bytes"] for name in FILES},
    }


def texts_of(log: Log) -> Texts:
    """Need and transcript of every contact, empty where they are null."""
    columns = (getattr(log.contacts, name).to_pylist() for name in ("intent_text", "transcript"))
    return [(need or "", said or "") for need, said in zip(*columns, strict=True)]


def positions(ids: pa.Array, wanted: np.ndarray[Any, np.dtype[np.str_]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where each wanted id stands among ids."""
    place = {one: i for i, one in enumerate(ids.to_pylist())}
    return np.array([place[one] for one in wanted.tolist()])


def whole(folder: Path, log: Log, pairs: tuple[Any, Any]) -> Floats:
    """Scores (pairs,) of the bundle as the router has it."""
    ranker, score = ModelRanker.load(folder, log), np.empty(len(pairs[0]))
    for block in blocks(np.unique(pairs[0])):
        inside = np.isin(pairs[0], block)
        score[inside] = ranker.scores(log, block)[np.searchsorted(block, pairs[0][inside]), pairs[1][inside]]
    return score


def reduced(bundle: Bundle, log: Log, texts: Texts, pairs: tuple[Any, Any]) -> dict[str, Floats]:
    """Scores (pairs,) by both kinds of vectors, with the text alone and with labels; −inf for who joined later."""
    session, contacts = open_text(bundle.file(FILE)), np.unique(pairs[0])
    active = np.flatnonzero(bundle.roster.active)
    place = np.full(len(log.csas), -1)
    place[positions(log.csas.ids, np.array(bundle.roster.ids)[active])] = np.arange(len(active))
    labels = {name: np.array([v or "" for v in getattr(log.contacts, name).to_pylist()], object) for name in LABELS}
    until = int(bundle.manifest.window["until"])
    tables = {
        kind: csa_vectors(bundle.join, bundle.roster.vectors, bundle.history, kind, until)[active] for kind in KINDS
    }
    if not np.array_equal(tables[bundle.manifest.reduced["vectors"]], np.load(bundle.file(FILES[1]))):
        raise SystemExit("vectors.npy holds something else than the manifest says")
    found = {}
    for known, extra in (("text", {}), ("text and labels", labels)):
        parts = [
            session.run(["query"], feeds([texts[row] for row in block]) | {n: v[block] for n, v in extra.items()})
            for block in blocks(contacts)
        ]
        queries = np.concatenate([part[0] for part in parts])[np.searchsorted(contacts, pairs[0])]
        for kind in KINDS:
            score = np.einsum("nw,nw->n", queries, tables[kind][place[pairs[1]]])
            found[f"{known}, {kind} vectors"] = np.where(place[pairs[1]] < 0, -np.inf, score)
    return found


LABELS = ("channel", "queue", "language", "intent")


def blocks(rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Some rows at a time."""
    return [rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK)]


def tokens(bundle: Bundle, texts: Texts) -> dict[str, int]:
    """How many distinct texts there are, and of how many the graph's tokens are others than the router's."""
    tokenizer = Tokenizer.load(bundle.file("tokenizer.json"), bundle.schema.max_tokens)
    session = open_text(tokens_graph(Pieces.of(tokenizer)).SerializeToString())
    distinct, differ = sorted(set(texts)), 0
    for block in blocks(np.arange(len(distinct))):
        wanted = tokenizer.encode([compose_text(*distinct[row]) for row in block])
        found = session.run(["tokens"], feeds([distinct[row] for row in block]))[0]
        if found.shape != wanted.shape:
            raise SystemExit(f"tokens of {len(block)} texts are {found.shape}, expected {wanted.shape}")
        differ += int((found != wanted).any(axis=1).sum())
    return {"texts": len(distinct), "differ": differ}


def timed(bundle: Bundle, texts: Texts) -> dict[str, dict[str, float]]:
    """Milliseconds of a call, one contact each, in turn: the graph and the product, and the router's encoder."""
    session, vectors, encoder = (
        open_text(bundle.file(FILE)),
        np.load(bundle.file("vectors.npy")),
        bundle.contact_encoder,
    )
    spent: dict[str, list[float]] = {"graph and product": [], "the router's encoder": []}
    for i in range(len(texts)):
        given = feeds(texts[i : i + 1])
        contact = {"intent_text": texts[i][0], "transcript": texts[i][1], "language": "en"}
        begun = time.perf_counter()
        session.run(["query"], given)[0] @ vectors.T
        between = time.perf_counter()
        encoder.encode_one(contact)
        spent["graph and product"].append(between - begun)
        spent["the router's encoder"].append(time.perf_counter() - between)
    quantiles = {"p50": 0.5, "p99": 0.99}
    return {
        name: {q: round(1e3 * float(np.quantile(values, at)), 3) for q, at in quantiles.items()}
        for name, values in spent.items()
    }


def as_table(found: dict[str, Any]) -> str:
    """Every figure, for people."""
    full = next(iter(found["captured"].values()))["captured"]
    lines = [["ranked by", "captured", "of the bundle's"]]
    for name, one in found["captured"].items():
        lines.append(
            [name, f"{one['captured']:.3f} [{one['low']:.3f}, {one['high']:.3f}]", f"{one['captured'] / full:.3f}"]
        )
    more = [
        ["", ""],
        *([f"ms a call, {name}", f"p50 {one['p50']}, p99 {one['p99']}"] for name, one in found["milliseconds"].items()),
    ]
    more += [[name, f"{size:,} bytes"] for name, size in found["bytes"].items()]
    more.append(["texts with other tokens", f"{found['tokens']['differ']} of {found['tokens']['texts']}"])
    return table(lines) + "\n" + table(more) + f"\nvectors.npy holds: {found['manifest']['vectors']}"


if __name__ == "__main__":
    main()
