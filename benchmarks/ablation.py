"""What each family of features adds, measured where nothing is reported from: families are chosen by these figures.

    TWOTOWER_REAL_DATA=DIR python benchmarks/ablation.py --output results/ablation.json
    TWOTOWER_REAL_DATA=DIR python benchmarks/ablation.py --start labels,customer,form --moves form style --output FILE
    python benchmarks/ablation.py --logs centre --worlds 11 --contacts 6000 --csas 60 --trainer.max_epochs 4

Notable: from a start, everything on unless `--start` says otherwise, each variant takes one family out (or puts one in
that the start lacks), is trained, exported and rolled forward like any run, and is held against the start, paired by
contact: MRR@10 of who handled it on logs where people choose their work, true probability of success of the first
choice on generated centres, as a share of the oracle's uplift, and there how CSAs are ranked whom training hardly saw.
Real logs are judged on the tenth *before* their last,
and trained on what was known before that; centres are worlds of their own seeds. So `real_logs.py` and
`generated_centres.py` report contacts that no choice has seen. A family of which no column varies on a log is not
trained without: it cannot add anything there. Intervals are over contacts; how much two trainings that differ in their
seed alone differ is measured beside them (`another seed`), and is not in the intervals. Options that are not listed by
--help go to training. Figures are written after every variant.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from generated_centres import Worth, choose
from real_logs import trained_bundle
from record import Record, measure_each
from scipy.stats import spearmanr

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.ranking import positive_csas, split_log
from evaluation.ranking_judge import judge
from evaluation.ranking_model import ModelRanker
from evaluation.ranking_outcomes import mean_of_ratio
from evaluation.report_text import signed, table
from evaluation.truth import Truth
from twotower.features import contact as contact_features
from twotower.features import customer as customer_features
from twotower.features.csa import CSA
from twotower.features.feature import Feature
from twotower.features.registry import FAMILIES
from twotower.metrics import Bootstrap, Interval
from twotower.tables.log import Log

LOGS = ("buck2", "golang_tools", "centre")
WORLDS = (11, 12, 13)  # not those of generated_centres.py
NEW = 20  # outcomes below which a CSA counts as a newcomer
EVERYTHING, DEFAULTS, OTHER_SEED = "everything", "default", "another seed"
Doubles = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A log and how a ranker is judged on it: `per_contact` gives a figure for each contact judged, of which `worth`
    makes the metric, and `difference` that of two rankers with its interval; `newcomers` how well it ranks CSAs whom
    training hardly saw, None where that is not known. Training knows what was known before `start` (µs)."""

    folder: Path
    start: int
    rank: str
    metric: str
    per_contact: Callable[[ModelRanker], Doubles]
    worth: Callable[[Doubles], float]
    difference: Callable[[Doubles, Doubles], Interval]
    newcomers: Callable[[ModelRanker], float] | None = None


def real(folder: Path, seed: int) -> Case:
    """A real log, judged by who handled the contacts of the tenth before its last."""
    log = Log.load(folder)
    test, positives = split_log(log).validation, positive_csas(log)
    handled = positives.lengths[test] > 0
    bootstrap = Bootstrap(int(handled.sum()), seed)

    def reciprocal(ranker: ModelRanker) -> Doubles:
        fresh = ModelRanker(ranker.name, ranker.rolling, "handled", ranker.until)
        return judge(fresh, log, test, positives, None, seed).only(handled).reciprocal

    start = int(log.contacts.arrived_at[test[0]])
    return Case(
        folder, start, "handled", "MRR@10", reciprocal, lambda r: float(r.mean()),
        lambda whole, part: bootstrap.difference(whole, part),
    )  # fmt: skip


def centre(folder: Path, contacts: int, csas: int, seed: int) -> Case:
    """A generated centre of its own world, judged by its truth."""
    generate(Settings(contacts=contacts, csas=csas, seed=seed), folder)
    log, worth = Log.load(folder), Worth.of(folder)
    test = split_log(log).test
    bootstrap, uplift = Bootstrap(len(worth.queue), seed), worth.oracle - worth.queue

    def captured(p: Doubles) -> float:
        return float((p - worth.queue).sum() / uplift.sum())

    start = int(log.contacts.arrived_at[test[0]])
    return Case(
        folder, start, "success", "captured", lambda ranker: choose(ranker, log, test, worth, seed), captured,
        lambda whole, part: mean_of_ratio(whole - part, uplift, bootstrap),
        lambda ranker: newcomers(ranker, log, worth.truth, start),
    )  # fmt: skip


def newcomers(ranker: ModelRanker, log: Log, truth: Truth, start: int) -> float:
    """Spearman's correlation of score and true logit over pairs with CSAs of whom fewer than `NEW` outcomes were known
    at the start, both less their mean over the contact's eligible CSAs."""
    seen = np.bincount(log.handovers.csa[log.handovers.known_at < start], minlength=len(log.csas))
    codes = pc.index_in(pa.array(truth.latents.csa_id.tolist()), log.csas.ids.cast(pa.string())).to_numpy()
    ids = pa.array(truth.latents.contact_id[truth.contact].tolist())
    rows, csa = truth.rows, codes[truth.csa]
    places = pc.index_in(ids, log.contacts.ids.cast(pa.string())).to_numpy().astype(np.int64)
    score = ranker.scores(log, places)[rows, csa].astype(np.float64)
    p = truth.p_resolved
    many = np.diff(truth.offsets)
    relative = [
        value - np.repeat(np.add.reduceat(value, truth.offsets[:-1]) / many, many)
        for value in (score, np.log(p) - np.log1p(-p))
    ]
    new = seen[csa] < NEW
    return float(spearmanr(relative[0][new], relative[1][new]).statistic)


def variants(
    start: Sequence[str] | None, whole: Sequence[str], speaking: Sequence[str], moves: Sequence[str]
) -> Iterator[tuple[str, Sequence[str] | None]]:
    """Names of what is trained beside the start, and their families; None: as training picks them.

    start: as asked for; whole: the families that it turned out to be, speaking: those of which a column varies; moves:
    which are put in or taken out. One that no other could take the place of, since a tower would have nothing to read,
    is left in.
    """
    yield OTHER_SEED, start
    if start is not None:
        yield DEFAULTS, None
    for family in moves:
        if family not in whole:
            yield f"with {family}", [*whole, family]
        rest = [name for name in whole if name != family]
        if family in speaking and reads_something(rest):
            yield f"without {family}", rest


def reads_something(families: Sequence[str]) -> bool:
    """Whether both towers have a number to read."""
    numbers: tuple[Feature[Any], ...] = (*contact_features.NUMBERS, *customer_features.NUMBERS)
    contact = {feature.family for feature in numbers}
    csa = {feature.family for feature in CSA}
    return not contact.isdisjoint(families) and not csa.isdisjoint(families)


@dataclass(frozen=True)
class Tried:
    """What came of one training: the figure of each contact, of newcomers, families `read` and those that are
    `speaking`, seconds."""

    figures: Doubles
    newcomers: float | None
    read: list[str]
    speaking: list[str]
    seconds: float


def run(case: Case, families: Sequence[str] | None, options: Sequence[str], seed: int) -> Tried:
    """Train with some families; None: as training picks them."""
    with tempfile.TemporaryDirectory() as scratch:
        chosen = [] if families is None else [f"--data.towers.families={json.dumps(list(families))}"]
        _, seconds = trained_bundle(
            case.folder, case.start, Path(scratch), [*options, *chosen, f"--seed_everything={seed}"]
        )
        log = Log.load(case.folder)
        ranker = ModelRanker.load(Path(scratch) / "bundle", log, case.rank)  # type: ignore[arg-type]
        new = None if case.newcomers is None else case.newcomers(ranker)
        return Tried(case.per_contact(ranker), new, *speaks(Path(scratch) / "run"), seconds)


def speaks(run_folder: Path) -> tuple[list[str], list[str]]:
    """Families that a run read, and those of them with a column that differs between CSAs or between late contacts.

    What the towers' own heads tell, and labels, are taken to speak.
    """
    schema = json.loads((run_folder / "features.json").read_text(encoding="utf-8"))
    with np.load(run_folder / "csas.npz") as csas, np.load(run_folder / "probe.npz") as probe:
        values = {
            **dict(zip(schema["order"]["csa_numbers"], csas["features"].T, strict=True)),
            **dict(zip(schema["order"]["numbers"], probe["numbers"].T, strict=True)),
        }
    varies = {name for name, column in values.items() if np.ptp(column) > 0}
    told = {one["family"] for one in schema["features"] if varies.intersection(one["columns"])}
    read: list[str] = schema["families"]
    return read, [name for name in read if name in told or name in ("labels", "complexity")]


@dataclass(frozen=True)
class Trial:
    """What is varied: from a start (None: as training picks it, `called` in the table), these families, with options
    and a seed."""

    called: str
    start: Sequence[str] | None
    moves: Sequence[str]
    options: Sequence[str]
    seed: int


def measure(name: str, case: Case, trial: Trial, record: Record) -> tuple[Rows, str]:
    """The start, then each variant; rows are recorded as they come."""
    whole = run(case, trial.start, trial.options, trial.seed)
    rows: Rows = [row(name, trial.called, case, whole, None)]
    rows[0] |= {"families": whole.read, "silent": [family for family in whole.read if family not in whole.speaking]}
    record.put(name, rows)
    for variant, families in variants(trial.start, whole.read, whole.speaking, trial.moves):
        part = run(case, families, trial.options, trial.seed + (variant == OTHER_SEED))
        rows.append(row(name, variant, case, part, case.difference(whole.figures, part.figures)))
        record.put(name, rows)
        print(f"{name}: {variant} {rows[-1]['value']:.4f}", file=sys.stderr, flush=True)
    return rows, as_table(rows)


def row(log: str, variant: str, case: Case, tried: Tried, less: Interval | None) -> dict[str, Any]:
    """One row of the JSON; `less`: the start less this variant."""
    interval = None if less is None else {k: round(float(v), 5) for k, v in vars(less).items()}
    new = {} if tried.newcomers is None else {"newcomers": round(tried.newcomers, 4)}
    return {
        "log": log, "variant": variant, "metric": case.metric, "value": round(case.worth(tried.figures), 5),
        "start_less_it": interval, **new, "training_s": round(tried.seconds, 1),
    }  # fmt: skip


def as_table(rows: Rows) -> str:
    """One line a variant."""
    lines = [[rows[0]["log"], rows[0]["metric"], f"{rows[0]['variant']} − it, paired", "newcomers"]]
    for one in rows:
        less = "" if one["start_less_it"] is None else signed(Interval(**one["start_less_it"]))
        new = f"{one['newcomers']:.3f}" if "newcomers" in one else ""
        lines.append([one["variant"], f"{one['value']:.4f}", less, new])
    silent = ", ".join(rows[0]["silent"]) or "none"
    return f"{table(lines)}\nno column varies on this log: {silent}"


def families_of(text: str) -> tuple[str, ...] | None:
    """What `--start` names: everything, default (None) or families with commas between them."""
    if text in (EVERYTHING, DEFAULTS):
        return tuple(FAMILIES) if text == EVERYTHING else None
    named = tuple(text.split(","))
    if unknown := [name for name in named if name not in FAMILIES]:
        raise argparse.ArgumentTypeError(f"no family {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    return named


def options_of() -> tuple[argparse.Namespace, list[str]]:
    """This script's options, and those that go to training."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=list(LOGS), help="which logs (default: all)")
    parser.add_argument("--worlds", nargs="+", type=int, default=list(WORLDS), help="seeds of the generated centres")
    parser.add_argument("--contacts", type=int, default=20_000, help="of a generated centre")
    parser.add_argument("--csas", type=int, default=120, help="of a generated centre")
    parser.add_argument("--start", type=families_of, default=EVERYTHING, help="everything, default or families: a,b,c")
    parser.add_argument("--moves", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="families to move")
    parser.add_argument("--seed", type=int, default=0, help="of training")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_known_args()


def main() -> None:
    """Measure each log; exit status 1 where one failed."""
    args, options = options_of()
    root = os.environ.get("TWOTOWER_REAL_DATA", "")
    called = {None: DEFAULTS, tuple(FAMILIES): EVERYTHING}.get(args.start, "start")
    settings = {"options": options, "contacts": args.contacts, "csas": args.csas, "seed": args.seed}
    record = Record(args.output, settings | {"start": list(args.start or [DEFAULTS])}, "rows", "log")
    trial = Trial(called, args.start, args.moves, options, args.seed)

    def one(name: str) -> tuple[Rows, str]:
        log, _, world = name.partition(" ")
        if not world:
            return measure(name, real(Path(root) / log, args.seed), trial, record)
        with tempfile.TemporaryDirectory() as scratch:
            made = centre(Path(scratch) / "centre", args.contacts, args.csas, int(world))
            return measure(name, made, trial, record)

    there = [name for name in args.logs if name == "centre" or (root and Path(root).is_dir())]
    if len(there) < len(args.logs):
        print("skipped real logs: TWOTOWER_REAL_DATA names no folder of them")
    parts = [[name] if name != "centre" else [f"centre {world}" for world in args.worlds] for name in there]
    if not measure_each(record, [part for several in parts for part in several], one):
        sys.exit(1)


if __name__ == "__main__":
    main()
