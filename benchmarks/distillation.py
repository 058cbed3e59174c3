"""What a static student keeps of its transformer teacher on real logs, rolled forward, and what the teacher gave it.

    TWOTOWER_REAL_DATA=DIR python benchmarks/distillation.py --output results/distillation.json
    TWOTOWER_REAL_DATA=DIR python benchmarks/distillation.py --logs golang_tools --fine-tune --trainer.accelerator gpu

Notable: three runs a log, on what was known before its last tenth, judged on that tenth as `real_logs.py` does: the
teacher (`configs/transformer.yaml`; its text stays frozen, for a CPU, unless `--fine-tune` is given), the static tower
alone, and the same with the teacher (`configs/distil.yaml`). All three read as many tokens. Ratios and differences are
paired by contact; intervals are over contacts, not over trainings. With `--runs DIR` finished runs stay there and are
used again. Options that are not listed by --help go to all three trainings. Figures are written after every log.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from record import Record, measure_each

from evaluation.ranking import positive_csas, split_log
from evaluation.ranking_judge import Judged, judge
from evaluation.ranking_model import ModelRanker
from evaluation.report_text import short, signed, table
from export.bundle import export_bundle
from train.run import run_training
from twotower.clock import format_time
from twotower.metrics import Bootstrap, Floats, Interval
from twotower.tables.log import Log

LOGS = ("buck2", "golang_tools")
METRICS = ("hit@1", "hit@10", "mrr@10")
TEACHER, ALONE, STUDENT = "transformer teacher", "static alone", "static with teacher"
FROZEN = ("--model.text_lr=0", "--data.batch_size=1024", "--data.memory_batch=256", "--data.memory_rows=2048")
"""Of a teacher whose text is frozen: a step costs no transformer, so it may be as large as a static tower's."""
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
KEPT = 0.98  # of the teacher's MRR that a student is to reach
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """A finished run's `facts` and how long it took, None where it was there already; `reciprocal` ranks (n,)."""

    facts: dict[str, Any]
    seconds: float | None
    judged: Judged


def train_once(data: Path, until: int, folder: Path, config: Path, options: Sequence[str]) -> float | None:
    """Train into `folder` on what was known before `until` (µs), unless a run is there; the seconds it took."""
    if folder.exists():
        return None
    begun = time.perf_counter()
    run_training(data, folder, format_time(until), [config], options)
    return round(time.perf_counter() - begun, 1)


def ratio(part: Doubles, whole: Doubles, bootstrap: Bootstrap) -> Interval:
    """Mean of `part` over mean of `whole`, paired by unit, with its interval."""
    both = np.stack([part, whole], axis=1)

    def over(weights: Floats) -> Floats:
        sums = weights @ both
        return sums[:, :1] / sums[:, 1:]

    return bootstrap.statistic(over)[0]


def measure(
    data: Path, runs: Path, fine_tune: bool, options: Sequence[str], seed: int
) -> tuple[list[dict[str, Any]], str]:
    """One log: train three runs, judge them; its row of the JSON and its table."""
    log = Log.load(data)
    split = split_log(log)
    start = int(log.contacts.arrived_at[split.start])
    positives = positive_csas(log)
    handled = positives.lengths[split.test] > 0
    teacher = runs / "teacher"
    asked: dict[str, tuple[Path, Path, tuple[str, ...]]] = {
        TEACHER: (teacher, CONFIGS / "transformer.yaml", () if fine_tune else FROZEN),
        ALONE: (runs / "alone", CONFIGS / "distil.yaml", ()),
        STUDENT: (runs / "student", CONFIGS / "distil.yaml", (f"--model.teacher={teacher}",)),
    }
    found = {}
    for name, (folder, config, own) in asked.items():
        seconds = train_once(data, start, folder, config, [*own, *options])
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as scratch:
            export_bundle(folder, Path(scratch) / "bundle")
            ranker = ModelRanker.load(Path(scratch) / "bundle", log, "handled", name)
            found[name] = Trained(facts, seconds, judge(ranker, log, split.test, positives, None, seed).only(handled))
    row = {"log": data.name, "contacts": int(handled.sum()), **figures(found, Bootstrap(int(handled.sum()), seed))}
    return [row], told(row)


def figures(found: dict[str, Trained], bootstrap: Bootstrap) -> dict[str, Any]:
    """The JSON's figures of one log, intervals as [value, low, high]."""
    reciprocal = {name: one.judged.reciprocal for name, one in found.items()}
    student = reciprocal[STUDENT]
    return {
        "metrics": {
            name: {
                metric: listed(value) for metric, value in one.judged.metrics(bootstrap).items() if metric in METRICS
            }
            for name, one in found.items()
        },
        "kept_of_teacher": {
            name: listed(ratio(reciprocal[name], reciprocal[TEACHER], bootstrap)) for name in (ALONE, STUDENT)
        },
        "student_less_teacher": listed(bootstrap.difference(student, reciprocal[TEACHER])),
        "student_less_alone": listed(bootstrap.difference(student, reciprocal[ALONE])),
        "training_s": {name: one.seconds for name, one in found.items()},
        "runs": {name: one.facts for name, one in found.items()},
    }


def listed(interval: Interval) -> list[float]:
    """An interval for the JSON."""
    return [interval.value, interval.low, interval.high]


def told(row: dict[str, Any]) -> str:
    """The figures of one log for people."""
    rows = [[row["log"], *METRICS, "MRR@10 of the teacher's", "training, s"]]
    for ranker, metrics in row["metrics"].items():
        kept = row["kept_of_teacher"].get(ranker)
        seconds = row["training_s"][ranker]
        rows.append([
            f"{ranker}, text {row['runs'][ranker]['text']}", *(short(Interval(*metrics[metric])) for metric in METRICS),
            "" if kept is None else str(Interval(*kept)), "there already" if seconds is None else f"{seconds:.0f}",
        ])  # fmt: skip
    reached = row["kept_of_teacher"][STUDENT][0] >= KEPT
    return "\n".join([
        table(rows),
        f"student − teacher {signed(Interval(*row['student_less_teacher']))}, "
        f"student − static alone {signed(Interval(*row['student_less_alone']))}; MRR@10, paired, "
        f"{row['contacts']:,} contacts",
        f"the student is {'' if reached else 'not '}within {1 - KEPT:.0%} of its teacher",
    ])  # fmt: skip


def main() -> None:
    """Parse options, measure each log; exit status 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=list(LOGS), help="which logs (default: all)")
    parser.add_argument("--fine-tune", action="store_true", help="train the teacher's text too, as for a GPU")
    parser.add_argument("--runs", type=Path, help="folder in which finished runs stay and are used again")
    parser.add_argument("--seed", type=int, default=0, help="of training and of the intervals (default 0)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args()
    root = os.environ.get("TWOTOWER_REAL_DATA")
    if not root or not Path(root).is_dir():
        print("skipped: TWOTOWER_REAL_DATA names no folder of real logs")
        return
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    options += [f"--seed_everything={args.seed}"]
    record = Record(args.output, {"options": options, "fine_tuned": args.fine_tune}, "logs", "log")
    with tempfile.TemporaryDirectory() as scratch:
        runs = args.runs or Path(scratch)

        def one(name: str) -> tuple[list[dict[str, Any]], str]:
            return measure(Path(root) / name, runs / name, args.fine_tune, options, args.seed)

        if not measure_each(record, args.logs, one):
            sys.exit(1)


if __name__ == "__main__":
    main()
