"""How much of what precision matching could gain is captured, on generated centres with known truth.

    python benchmarks/generated_centres.py --output results/generated_centres.json
    python benchmarks/generated_centres.py --contacts 6000 --csas 60 --seeds 0 --epochs 3

Notable: captured is the share of the oracle's uplift over the queue that the first choices reach on the last tenth of
contacts, in true probabilities; *of the ceiling* divides by what one captures who knows the true needs and learns the
CSAs from the same hand-overs. Beside the default configuration stands the naive peer, an in-batch softmax over
assigned pairs, trained on the same tables with the same towers. Options that are not listed by --help go to both
trainings. How far P(resolved) is from the truth is measured over all eligible pairs and over first choices, by queue,
language and the CSA's tenure. Figures are printed and written after every centre; centres that an earlier run with the
same settings wrote stay in the file and count for the means.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from real_logs import trained_bundle
from record import Record, measure_each

from evaluation.calibration import against_truth
from evaluation.ceiling import ceiling
from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.ranking import blocks, split_log
from evaluation.ranking_judge import judge
from evaluation.ranking_model import ModelRanker
from evaluation.ranking_outcomes import mean_of_ratio
from evaluation.report_text import table
from evaluation.truth import Truth
from twotower.metrics import Bootstrap, Interval
from twotower.tables.log import Log

CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "default": (),
    # as configs/naive.yaml
    "in-batch softmax": ("--data.objective=in_batch", "--data.batch_size=256", "--early_stopping.patience=5"),
}
SHARES = {"captured": "captured of the oracle's uplift", "of the ceiling": "of the ceiling"}  # in the JSON, in print


@dataclass(frozen=True)
class Worth:
    """True probabilities of success (n,) of the test contacts that somebody could take."""

    contact_ids: pa.Array
    queue: np.ndarray[Any, np.dtype[np.float64]]
    oracle: np.ndarray[Any, np.dtype[np.float64]]
    ceiling: np.ndarray[Any, np.dtype[np.float64]]
    truth: Truth

    @classmethod
    def of(cls, folder: Path) -> Worth:
        """Read a centre's truth and estimate its ceiling."""
        truth = Truth.load(folder)
        first = truth.offsets[:-1]
        learnt = np.lexsort((truth.csa, -ceiling(folder).p_resolved, truth.rows))[first]
        return cls(
            contact_ids=pa.array(truth.latents.contact_id[truth.contact].tolist(), pa.string()),
            queue=np.add.reduceat(truth.propensity * truth.p_resolved, first),
            oracle=np.maximum.reduceat(truth.p_resolved, first),
            ceiling=truth.p_resolved[learnt],
            truth=truth,
        )

    def chosen(self, csa_ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """True probabilities (n,) of one chosen CSA per contact."""
        place = {csa: i for i, csa in enumerate(self.truth.latents.csa_id.tolist())}
        wanted = np.array([place[csa] for csa in csa_ids])
        hit = self.truth.csa == wanted[self.truth.rows]
        if hit.sum() != len(wanted):
            raise ValueError("a chosen CSA was not eligible: the model ranks whom it must not")
        return self.truth.p_resolved[hit]

    def shares(self, model: np.ndarray[Any, np.dtype[np.float64]], seed: int) -> dict[str, Interval]:
        """Captured share of the oracle's uplift and of the ceiling's, with intervals over contacts."""
        bootstrap, gain = Bootstrap(len(model), seed), model - self.queue
        return {
            "captured": mean_of_ratio(gain, self.oracle - self.queue, bootstrap),
            "of the ceiling": mean_of_ratio(gain, self.ceiling - self.queue, bootstrap),
        }


def measure(args: argparse.Namespace, seed: int, options: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """One centre: the ceiling's row and one per configuration for the JSON, and their table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "centre"
        made = generate(Settings(contacts=args.contacts, csas=args.csas, seed=seed, eligible=args.eligible), folder)
        log, worth = Log.load(folder), Worth.of(folder)
        test = split_log(log).test
        start = int(log.contacts.arrived_at[test[0]])
        rows = [figures("ceiling", seed, made.mean_eligible, worth.shares(worth.ceiling, seed), None, None)]
        for name, own in CONFIGURATIONS.items():
            place = Path(scratch) / name.replace(" ", "-")
            place.mkdir()
            facts, seconds = trained_bundle(folder, start, place, [f"--seed_everything={seed}", *options, *own])
            ranker = ModelRanker.load(place / "bundle", log, "success", name)
            choices = choose(ranker, log, test, worth, seed)
            row = figures(name, seed, made.mean_eligible, worth.shares(choices, seed), seconds, facts)
            rows.append(row | {"calibration": calibration(ranker, log, test, worth)})
    return rows, "\n\n".join([as_table(rows), calibration_table(rows)])


def calibration(
    ranker: ModelRanker, log: Log, test: np.ndarray[Any, np.dtype[np.int64]], worth: Worth
) -> dict[str, list[dict[str, Any]]] | None:
    """Bands of P(resolved) against the truth; None for a ranker without probabilities."""
    place = {contact: i for i, contact in enumerate(worth.contact_ids.to_pylist())}
    codes = {csa: i for i, csa in enumerate(log.csas.ids.to_pylist())}
    csa = np.array([codes[name] for name in worth.truth.latents.csa_id.tolist()])[worth.truth.csa]
    p, score = np.full(len(csa), np.nan), np.full(len(csa), np.nan)
    for block in blocks(test, len(log.csas)):
        said = ranker.p_resolved(log, block)
        if said is None:
            return None
        scores = ranker.scores(log, block)
        for i, contact in enumerate(log.contacts.ids.take(pa.array(block)).to_pylist()):
            if contact in place:
                rows = slice(*worth.truth.offsets[place[contact] : place[contact] + 2])
                p[rows], score[rows] = said[i, csa[rows]], scores[i, csa[rows]]
    first = np.zeros(len(p), np.bool_)
    first[np.lexsort((-score, worth.truth.rows))[worth.truth.offsets[:-1]]] = True
    found = against_truth(worth.truth, log, p, first)
    return {name: [vars(band) for band in of] for name, of in found.items()}


def calibration_table(rows: Sequence[dict[str, Any]]) -> str:
    """Expected calibration error against the truth, overall and of the worst band."""
    lines = [["seed  learner", "pairs", "calibration error", "worst band", ""]]
    for row in rows:
        for pairs, of in (row.get("calibration") or {}).items():
            last = max(of[1:], key=lambda band: band["error"])
            cells = [f"{of[0]['error']:.3f}", f"{last['error']:.3f}", f"{last['kind']} {last['value']}"]
            lines.append([f"{row['seed']:>4}  {row['name']}", pairs, *cells])
    return table(lines)


def choose(
    ranker: ModelRanker, log: Log, test: np.ndarray[Any, np.dtype[np.int64]], worth: Worth, seed: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """True probabilities (n,) of the ranker's first choices."""
    judged = judge(ranker, log, test, seed=seed)
    names = log.csas.ids.take(pa.array(judged.top)).to_pylist()
    first = dict(zip(log.contacts.ids.take(pa.array(test)).to_pylist(), names, strict=True))
    return worth.chosen([first[contact] for contact in worth.contact_ids.to_pylist()])


def figures(
    name: str, seed: int, eligible: float, shares: dict[str, Interval], seconds: float | None, run: Any
) -> dict[str, Any]:
    """One row of the JSON."""
    intervals = {share: vars(interval) for share, interval in shares.items()}
    took = None if seconds is None else round(seconds, 1)
    return {"name": name, "seed": seed, "mean_eligible": eligible, **intervals, "training_s": took, "run": run}


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per learner of a centre."""
    lines = [["seed  learner", *SHARES.values(), "training"]]
    for row in rows:
        cells = ["{value:.3f} [{low:.3f}, {high:.3f}]".format(**row[share]) for share in SHARES]
        took = "" if row["training_s"] is None else f"{row['training_s']:.0f} s"
        lines.append([f"{row['seed']:>4}  {row['name']}", *cells, took])
    return table(lines)


def means(rows: Sequence[dict[str, Any]]) -> str:
    """One line per learner: the means over its centres."""
    lines = [["centres  mean of", *SHARES.values()]]
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        lines.append(
            [f"{len(mine):>7}  {name}", *(f"{np.mean([row[s]['value'] for row in mine]):.3f}" for s in SHARES)]
        )
    return table(lines)


def main() -> None:
    """Parse options, measure each centre, print the means; exit status 1 where a centre failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=60_000)
    parser.add_argument("--csas", type=int, default=240)
    parser.add_argument("--eligible", type=float, default=25.0, help="mean number of eligible CSAs aimed at")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one centre each (default 0 1 2)")
    parser.add_argument("--epochs", type=int, help="train at most so long; default: the default configuration's")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args()
    options += [] if args.epochs is None else [f"--trainer.max_epochs={args.epochs}"]
    settings = {"contacts": args.contacts, "csas": args.csas, "eligible": args.eligible, "options": options}
    own = {name: list(chosen) for name, chosen in CONFIGURATIONS.items()}
    record = Record(args.output, {"centres": settings, "configurations": own}, "rows", "seed")
    whole = measure_each(record, args.seeds, lambda seed: measure(args, seed, options))
    print(means(record.rows))
    if not whole:
        sys.exit(1)


if __name__ == "__main__":
    main()
