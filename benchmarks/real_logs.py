"""Who takes a piece of work: the default configuration on real logs, beside simple rankers, rolled forward.

    TWOTOWER_REAL_DATA=DIR python benchmarks/real_logs.py --output results/real_logs.json
    TWOTOWER_REAL_DATA=DIR python benchmarks/real_logs.py --logs golang_tools --epochs 3 --data.towers.text_dim 64

Notable: nothing of the last tenth of contacts reaches training, which is cut where that tenth begins; history then
rolls forward with every arrival for the model and the baselines alike. Time scales and weights of the baselines are
chosen on the tenth before. Differences are paired by contact. Options that are not listed by --help go to training.
Figures are printed and written after every log; logs that an earlier run with the same options wrote stay in the file.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from record import Record, measure_each

from evaluation.ranking import split_log
from evaluation.ranking_run import Evaluation, evaluate
from evaluation.report_text import json_report, short, signed, table
from export.bundle import export_bundle
from train.run import run_training
from twotower.clock import format_time
from twotower.scoring.join import Rank
from twotower.tables.log import Log

CASES: dict[str, tuple[Rank, ...]] = {
    "buck2": ("handled",),
    "golang_tools": ("handled",),
    "dba": ("success", "handled"),
}
METRICS = ("hit@1", "hit@3", "hit@5", "hit@10", "mrr@10")
NAMED = {"neighbours": "tfidf-knn", "popularity": "popularity"}


def trained_bundle(data: Path, until: int, scratch: Path, options: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Train on what was known before `until` (µs), export to `scratch/bundle`; what run.json says, and the seconds."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    begun = time.perf_counter()
    finished = run_training(data, scratch / "run", format_time(until), (), options)
    seconds = time.perf_counter() - begun
    export_bundle(scratch / "run", scratch / "bundle")
    return {} if finished is None else finished.facts, seconds


def measure(data: Path, ranks: Sequence[Rank], options: Sequence[str], seed: int) -> tuple[list[dict[str, Any]], str]:
    """One log: train once, judge by each meaning of a rank; its row of the JSON and its tables."""
    log = Log.load(data)
    start = int(log.contacts.arrived_at[split_log(log).start])
    with tempfile.TemporaryDirectory() as folder:
        facts, seconds = trained_bundle(data, start, Path(folder), options)
        found = {rank: evaluate(Path(folder) / "bundle", data, start, rank, seed=seed) for rank in ranks}
    row = {
        "log": data.name,
        "training_s": round(seconds, 1),
        "run": facts,
        "ranks": {rank: case(one) for rank, one in found.items()},
    }
    return [row], "\n\n".join(case_table(data.name, one, seconds) for one in found.values())


def case(found: Evaluation) -> dict[str, Any]:
    """The figures of one log and rank for the JSON."""
    whole = json_report(found)
    names = ("from", "contacts", "csas", "best", "metrics", "ahead", "chosen", "outcomes", "best_rate", "less_loss")
    kept = {name: whole[name] for name in names if name in whole}
    against = {name: whole["ahead"][baseline] for name, baseline in NAMED.items()}
    return {**kept, "warnings": whole["warnings"], "difference": {"best": whole["ahead"][found.best], **against}}


def case_table(name: str, found: Evaluation, seconds: float) -> str:
    """The figures of one log and rank for people."""
    rows = [[f"{name}, {found.rank}", *METRICS, "model − it, MRR@10, paired"]]
    for ranker, metrics in found.metrics.items():
        star = " (best by validation)" if ranker == found.best else ""
        ahead = signed(found.ahead[ranker]) if ranker in found.ahead else ""
        label = "model" if ranker == found.model else ranker
        rows.append([label + star, *(short(metrics[metric]) for metric in METRICS), ahead])
    lines = [table(rows), f"{found.contacts:,} contacts, {found.csas:,} CSAs; training took {seconds:.0f} s"]
    if found.less_loss is not None:
        lines.append(f"log loss of outcomes below that of {found.best_rate}: {signed(found.less_loss)}")
    return "\n".join([*lines, *(f"note: {line}" for line in found.warnings)])


def main() -> None:
    """Parse options, measure each log; exit status 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--logs", nargs="+", choices=CASES, default=list(CASES), help="which logs (default: all)")
    parser.add_argument("--epochs", type=int, help="train at most so long; default: the default configuration's")
    parser.add_argument("--seed", type=int, default=0, help="of training and of the intervals (default 0)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args()
    root = os.environ.get("TWOTOWER_REAL_DATA")
    if not root or not Path(root).is_dir():
        print("skipped: TWOTOWER_REAL_DATA names no folder of real logs")
        return
    options += [f"--seed_everything={args.seed}"]
    options += [] if args.epochs is None else [f"--trainer.max_epochs={args.epochs}"]
    record = Record(args.output, {"options": options}, "logs", "log")
    if not measure_each(record, args.logs, lambda name: measure(Path(root) / name, CASES[name], options, args.seed)):
        sys.exit(1)


if __name__ == "__main__":
    main()
