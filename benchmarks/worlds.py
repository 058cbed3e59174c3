"""Which objective for which centre: every objective on worlds that are hard in one way each, with known truth.

    python benchmarks/worlds.py --output results/worlds.json
    python benchmarks/worlds.py --engine ray --ray-address auto
    python benchmarks/worlds.py --worlds cold drift --objectives sigmoid in_batch --seeds 0 1 --contacts 6000

Notable: a cell is one training of one objective on one centre. The file is written after each, and cells that it holds
with the same settings are not measured again, so that an interrupted run goes on where it was; seed comes after seed,
so that what is there early covers all worlds. Captured is the share of the oracle's uplift over the queue, in true
probabilities over the last tenth of contacts; once more with warm CSAs alone to choose from, and with cold ones alone,
for queue, oracle and model alike. The calibration error compares `p_resolved` of all test pairs with the truth.
Intervals are t intervals over seeds. Options that are not listed by --help go to every training.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from real_logs import trained_bundle
from record import Record, measure_each
from worlds_tables import report

from evaluation.ceiling import ceiling
from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.ranking import blocks, checked
from evaluation.ranking_model import ModelRanker
from evaluation.truth import Truth, positions
from train.objectives.choose import choose
from twotower.engines import add_options, engine_of
from twotower.errors import DataError
from twotower.metrics import reliability
from twotower.progress import track
from twotower.tables.log import Log

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Row = dict[str, Any]

WORLDS: dict[str, dict[str, Any]] = {
    "default": {},
    "scarce": {"contacts": 4 / 15},  # of those of the other worlds
    "cold": {"joiners": 0.45, "joiner_contacts": (0, 20, 50)},
    "confounded": {"confounding": 3.0},
    "successes": {"resolved_only": True},
    "drift": {"drift": 0.5},
    "propensities": {"propensities": True, "propensity_error": 1.0},
    "noise": {"noise": 0.25},
}
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "sigmoid": ("--data.objective=sigmoid",),  # which samples the posterior
    "sigmoid-gradient": ("--data.objective=sigmoid", "--model.solver=gradient"),
    "corrected_softmax": ("--data.objective=corrected_softmax",),
    # fewer than the roster has, or nothing would be sampled
    "sampled_softmax": ("--data.objective=sampled_softmax", "--data.sampled=32"),
    # as configs/naive.yaml
    "in_batch": ("--data.objective=in_batch", "--data.batch_size=256", "--early_stopping.patience=5"),
}
COLD, WARM = 20, 50
"""A CSA is cold with at most so many hand-overs before the test, warm with more than so many."""


@dataclass(frozen=True)
class Cell:
    """One objective on one centre."""

    world: str
    objective: str
    seed: int

    @property
    def name(self) -> str:
        """As the file calls it."""
        return f"{self.world}/{self.objective}/{self.seed}"

    def settings(self, args: argparse.Namespace) -> Settings:
        """Of the centre."""
        own = dict(WORLDS[self.world])
        contacts = round(args.contacts * own.pop("contacts", 1))
        return Settings(contacts=contacts, csas=args.csas, seed=self.seed, eligible=args.eligible, **own)

    def key(self, args: argparse.Namespace, options: Sequence[str]) -> Row:
        """What the figures depend on, as JSON has it."""
        told = {"centre": asdict(self.settings(args)), "training": [*options, *OBJECTIVES[self.objective]]}
        key: Row = json.loads(json.dumps(told))
        return key


def measure(cell: Cell, args: argparse.Namespace, options: Sequence[str]) -> tuple[list[Row], str]:
    """One cell: its row for the JSON and a line for people."""
    settings, begun = cell.settings(args), time.process_time()
    row: Row = {"cell": cell.name, **vars(cell), "settings": cell.key(args, options)}
    row["automatic"] = choose("auto", not settings.resolved_only, settings.csas).name
    objective = OBJECTIVES[cell.objective][0].partition("=")[2]
    try:
        choose(objective, not settings.resolved_only)
    except DataError as refused:
        row["left_out"] = str(refused)
        return [row], f"{cell.name}: left out, the log has successes only"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "centre"
        generate(settings, folder)
        truth = Truth.load(folder)
        own = [f"--seed_everything={cell.seed}", *row["settings"]["training"]]
        facts, seconds = trained_bundle(folder, test_begins(truth), Path(scratch), own)
        ranker = ModelRanker.load(Path(scratch) / "bundle", Log.load(folder), "success", cell.objective)
        score, p = said(ranker, truth)
        row |= figures(truth, score, "captured") | figures(truth, ceiling_of(settings, folder), "ceiling")
        row["calibration_error"] = None if p is None else calibration_error(p, truth.p_resolved)
        row |= {"training_s": round(seconds, 1), "cpu_s": round(time.process_time() - begun, 1), "run": facts}
    calibrated = "" if p is None else f", calibration error {row['calibration_error']:.3f}"
    return [row], f"{cell.name}: captured {row['captured']['all']:.3f}{calibrated}, training {seconds:.0f} s"


def attempt(cell: Cell, args: argparse.Namespace, options: Sequence[str]) -> tuple[list[Row], str] | Exception:
    """`measure`, or what it raised: one cell that fails must not end the others."""
    try:
        return measure(cell, args, options)
    except Exception as error:  # whatever it is, it is told with the cell's name
        return error


def answer(found: tuple[list[Row], str] | Exception) -> tuple[list[Row], str]:
    """What an attempt came to. Raises what it raised."""
    if isinstance(found, Exception):
        raise found
    return found


def test_begins(truth: Truth) -> int:
    """µs UTC of the first test contact."""
    return int(truth.latents.arrived_at[truth.latents.test_begins[0]])


def ceiling_of(settings: Settings, folder: Path) -> Floats:
    """The ceiling's probabilities of the truth's pairs; where failures are not logged, of one who sees them too."""
    if not settings.resolved_only:
        return ceiling(folder).p_resolved
    with tempfile.TemporaryDirectory() as scratch:
        generate(replace(settings, resolved_only=False), Path(scratch) / "whole")
        return ceiling(Path(scratch) / "whole").p_resolved


def said(ranker: ModelRanker, truth: Truth) -> tuple[Floats, Floats | None]:
    """Scores (pairs,) and P(resolved) (pairs,) in the order of the truth's pairs, with history rolled forward.

    P is None where the bundle knows none.
    """
    log = ranker.rolling.log
    ids = pa.array(truth.latents.contact_id[truth.contact].tolist(), pa.string())
    contact = positions(ids, np.asarray(log.contacts.ids.to_pylist()), "test contacts: contact_id")
    csa_ids = pa.array(truth.latents.csa_id.tolist(), pa.string())
    csa = positions(csa_ids, np.asarray(log.csas.ids.to_pylist()), "test contacts: csa_id")[truth.csa]
    score, p = np.empty(len(csa)), np.full(len(csa), np.nan)
    at = 0
    for block in blocks(contact, len(log.csas)):
        pairs = slice(truth.offsets[at], truth.offsets[at + len(block)])
        rows = np.repeat(np.arange(len(block)), np.diff(truth.offsets[at : at + len(block) + 1]))
        score[pairs] = checked(ranker, log, block)[rows, csa[pairs]]
        told = ranker.p_resolved(log, block)
        if told is not None:
            p[pairs] = told[rows, csa[pairs]]
        at += len(block)
    return score, None if np.isnan(p).any() else p


def calibration_error(p: Floats, true: Any) -> float:
    """Expected calibration error of probabilities (n,) against the true ones (n,), in ten bins of equal count."""
    return reliability(p, true).error


def figures(truth: Truth, score: Floats, name: str) -> Row:
    """Captured by a ranking among everybody, the warm, the cold, those without a contact; how many CSAs these are."""
    counts = handovers_before(truth)
    groups = {"all": counts >= 0, "warm": counts > WARM, "cold": counts <= COLD, "new": counts == 0}
    there = np.bincount(truth.csa, minlength=len(counts)) > 0
    sizes = {group: int((among & there).sum()) for group, among in groups.items()}
    return {name: {group: captured(truth, score, among) for group, among in groups.items()}, "csas": sizes}


def handovers_before(truth: Truth) -> npt.NDArray[np.int64]:
    """(J,) contacts that the queue gave each CSA before the test, logged or not."""
    assigned = truth.latents.assigned[: truth.latents.test_begins[0]]
    return np.bincount(assigned[assigned >= 0], minlength=len(truth.latents.csa_id))


def captured(truth: Truth, score: Floats, among: Flags) -> float | None:
    """Share of the oracle's uplift over the queue where only some CSAs may be chosen.

    truth: P pairs; score: (P,) higher is better, the first of the CSA ids breaks ties; among: (J,). Over the contacts
    for which at least two of them are eligible, the queue choosing among these as its probabilities say. None where
    there is no such contact.
    """
    kept = among[truth.csa]
    kept &= np.bincount(truth.rows, kept)[truth.rows] >= 2
    if not kept.any():
        return None
    row, p, weight = truth.rows[kept], truth.p_resolved[kept], truth.propensity[kept]
    first = np.flatnonzero(np.append(True, row[1:] != row[:-1]))
    queue = np.add.reduceat(weight * p, first) / np.add.reduceat(weight, first)
    oracle = np.maximum.reduceat(p, first)
    model = p[np.lexsort((truth.csa[kept], -score[kept], row))[first]]
    return float((model - queue).mean() / (oracle - queue).mean())


def cells(args: argparse.Namespace) -> list[Cell]:
    """All that is asked for, seed after seed."""
    return [Cell(w, o, seed) for seed in args.seeds for w in args.worlds for o in args.objectives]


def unmeasured(wanted: Sequence[Cell], record: Record, args: argparse.Namespace, options: Sequence[str]) -> list[Cell]:
    """Those that the record does not hold with the same settings."""
    held = {row["cell"]: row["settings"] for row in record.rows}
    return [cell for cell in wanted if held.get(cell.name) != cell.key(args, options)]


def main() -> None:
    """Parse options, measure what is not there yet, print the tables; exit status 1 where a cell failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS), help="default: all")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES), help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one centre each (default 0 1 2)")
    parser.add_argument("--contacts", type=int, default=7500, help="of a centre; scarce has 4/15 of them")
    parser.add_argument("--csas", type=int, default=80)
    parser.add_argument("--eligible", type=float, default=25.0, help="mean number of eligible CSAs aimed at")
    parser.add_argument("--output", type=Path, help="JSON file to write and to go on from")
    add_options(parser, "cells")
    args, options = parser.parse_known_args()
    record = Record(args.output, {}, "cells", "cell")
    wanted = cells(args)
    left = unmeasured(wanted, record, args, options)
    by_name = {cell.name: cell for cell in left}
    if len(left) < len(wanted):
        print(f"{len(wanted) - len(left)} of {len(wanted)} cells are in {args.output} already", file=sys.stderr)

    def names() -> Iterator[str]:
        yield from track(list(by_name), "worlds", unit="cell")

    found = engine_of(args).map(partial(attempt, args=args, options=options), list(by_name.values()))
    whole = measure_each(record, names(), lambda _: answer(next(found)))
    held = {cell.name for cell in wanted} - {cell.name for cell in unmeasured(wanted, record, args, options)}
    print(report([row for row in record.rows if row["cell"] in held], args.worlds, args.objectives))
    if not whole:
        sys.exit(1)


if __name__ == "__main__":
    main()
