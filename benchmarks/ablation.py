"""What each family of features adds: everything on, then everything but one family, on real logs and a centre.

    TWOTOWER_REAL_DATA=DIR python benchmarks/ablation.py --output results/ablation.json
    TWOTOWER_REAL_DATA=DIR python benchmarks/ablation.py --start default --output results/ablation_default.json
    python benchmarks/ablation.py --logs centre --contacts 6000 --csas 60 --trainer.max_epochs 4

Notable: each variant is trained, exported and rolled forward through the last tenth like any run, and is held against
everything on (with `--start default`, against the families that training picks for the log), paired by contact: MRR@10
of who handled it on logs where people choose their work, true probability of success of the first choice on a generated
centre, as a share of the oracle's uplift. A family of which no column varies on a log is not trained without: it cannot
add anything there. Intervals are over contacts; how much two trainings that differ in their seed alone differ is
measured beside them (`another seed`), and is not in the intervals. Options that are not listed by --help go to
training. Figures are written after every variant.
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
from generated_centres import Worth, choose
from real_logs import trained_bundle
from record import Record, measure_each

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.ranking import positive_csas, split_log
from evaluation.ranking_judge import judge
from evaluation.ranking_model import ModelRanker
from evaluation.ranking_outcomes import mean_of_ratio
from evaluation.report_text import signed, table
from twotower.features import contact as contact_features
from twotower.features import customer as customer_features
from twotower.features.csa import CSA
from twotower.features.feature import Feature
from twotower.features.registry import FAMILIES
from twotower.metrics import Bootstrap, Interval
from twotower.tables.log import Log

LOGS = ("buck2", "golang_tools", "centre")
EVERYTHING, DEFAULTS, OTHER_SEED = "everything", "default", "another seed"
Doubles = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A log and how a ranker is judged on it: `per_contact` gives a figure for each test contact, of which `worth`
    makes the metric, and `difference` that of two rankers with its interval."""

    folder: Path
    start: int
    rank: str
    metric: str
    per_contact: Callable[[ModelRanker], Doubles]
    worth: Callable[[Doubles], float]
    difference: Callable[[Doubles, Doubles], Interval]


def real(folder: Path, seed: int) -> Case:
    """A real log, judged by who handled the contacts."""
    log = Log.load(folder)
    test, positives = split_log(log).test, positive_csas(log)
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
    """A generated centre, judged by its truth."""
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
    )  # fmt: skip


def variants(
    start: Sequence[str] | None, whole: Sequence[str], speaking: Sequence[str]
) -> Iterator[tuple[str, Sequence[str] | None]]:
    """Names of what is trained beside the start, and their families; None: as training picks them, which are `whole`.

    A family that no other could take the place of, since a tower would have nothing to read, is left in.
    """
    yield OTHER_SEED, start
    if start is not None:
        yield DEFAULTS, None
    for family in speaking:
        rest = [name for name in whole if name != family]
        if reads_something(rest):
            yield f"without {family}", rest


def reads_something(families: Sequence[str]) -> bool:
    """Whether both towers have a number to read."""
    numbers: tuple[Feature[Any], ...] = (*contact_features.NUMBERS, *customer_features.NUMBERS)
    contact = {feature.family for feature in numbers}
    csa = {feature.family for feature in CSA}
    return not contact.isdisjoint(families) and not csa.isdisjoint(families)


def run(
    case: Case, families: Sequence[str] | None, options: Sequence[str], seed: int
) -> tuple[Doubles, tuple[list[str], list[str]], float]:
    """Train with some families (None: as training picks them); the figure of each test contact, the families that were
    read and of which a column varies, and seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        chosen = [] if families is None else [f"--data.towers.families={json.dumps(list(families))}"]
        _, seconds = trained_bundle(
            case.folder, case.start, Path(scratch), [*options, *chosen, f"--seed_everything={seed}"]
        )
        log = Log.load(case.folder)
        ranker = ModelRanker.load(Path(scratch) / "bundle", log, case.rank)  # type: ignore[arg-type]
        return case.per_contact(ranker), speaks(Path(scratch) / "run"), seconds


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


def measure(
    name: str, case: Case, start: Sequence[str] | None, options: Sequence[str], seed: int, record: Record
) -> tuple[Rows, str]:
    """The start (None: as training picks it), then each variant; rows are recorded as they come."""
    whole, (read, speaking), seconds = run(case, start, options, seed)
    rows: Rows = [row(name, DEFAULTS if start is None else EVERYTHING, case, case.worth(whole), None, seconds)]
    silent = [family for family in read if family not in speaking]
    rows[0]["silent"] = silent
    record.put(name, rows)
    for variant, families in variants(start, read, speaking):
        part, _, seconds = run(case, families, options, seed + (variant == OTHER_SEED))
        rows.append(row(name, variant, case, case.worth(part), case.difference(whole, part), seconds))
        record.put(name, rows)
        print(f"{name}: {variant} {case.worth(part):.4f}", file=sys.stderr, flush=True)
    return rows, as_table(rows)


def row(log: str, variant: str, case: Case, value: float, adds: Interval | None, seconds: float) -> dict[str, Any]:
    """One row of the JSON; `adds`: everything less this variant."""
    interval = None if adds is None else {k: round(float(v), 5) for k, v in vars(adds).items()}
    return {
        "log": log, "variant": variant, "metric": case.metric, "value": round(value, 5), "adds": interval,
        "training_s": round(seconds, 1),
    }  # fmt: skip


def as_table(rows: Rows) -> str:
    """One line a variant."""
    lines = [[rows[0]["log"], rows[0]["metric"], f"{rows[0]['variant']} − it, paired"]]
    for one in rows:
        adds = "" if one["adds"] is None else signed(Interval(**one["adds"]))
        lines.append([one["variant"], f"{one['value']:.4f}", adds])
    silent = ", ".join(rows[0]["silent"]) or "none"
    return f"{table(lines)}\nno column varies on this log: {silent}"


def main() -> None:
    """Parse options, measure each log; exit status 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=list(LOGS), help="which logs (default: all)")
    parser.add_argument("--contacts", type=int, default=20_000, help="of the generated centre")
    parser.add_argument("--csas", type=int, default=120, help="of the generated centre")
    parser.add_argument("--start", choices=(EVERYTHING, DEFAULTS), default=EVERYTHING, help="what families leave")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args()
    root = os.environ.get("TWOTOWER_REAL_DATA", "")
    settings = {"options": options, "contacts": args.contacts, "csas": args.csas, "start": args.start}
    record = Record(args.output, settings, "rows", "log")
    start = tuple(FAMILIES) if args.start == EVERYTHING else None

    def one(name: str) -> tuple[Rows, str]:
        if name != "centre":
            return measure(name, real(Path(root) / name, args.seed), start, options, args.seed, record)
        with tempfile.TemporaryDirectory() as scratch:
            made = centre(Path(scratch) / "centre", args.contacts, args.csas, args.seed)
            return measure(name, made, start, options, args.seed, record)

    wanted = [name for name in args.logs if name == "centre" or (root and Path(root).is_dir())]
    if len(wanted) < len(args.logs):
        print("skipped real logs: TWOTOWER_REAL_DATA names no folder of them")
    if not measure_each(record, wanted, one):
        sys.exit(1)


if __name__ == "__main__":
    main()
