"""What each kind of memory adds to who takes a piece of work: the join without it, and with it alone, on real logs.

    TWOTOWER_REAL_DATA=DIR python benchmarks/memories.py --output docs/results/memories.json

Notable: the towers are trained once a log. The parts of a score are computed by the code that serves, for the contacts
of the window that the join was fitted on and for those of the test, history rolled forward with every arrival; then
the weights are fitted anew for every selection of parts (`train.join.conditional_logit`), so a part that is left out
is made up for by the others as well as they can. Differences are paired by contact. Options that are not listed by
--help go to training.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from real_logs import trained_bundle
from record import Record, measure_each

from evaluation.ranking import candidate_mask, positive_csas, split_log
from evaluation.report_text import short, signed, table
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from train.join import MOST_EXAMPLES, conditional_logit, spread
from twotower.clock import parse_time
from twotower.metrics import Bootstrap, rank_positives, reciprocal
from twotower.progress import track
from twotower.scoring.join import Join, RankWeights
from twotower.scoring.kernels import Kernel
from twotower.tables.log import Log

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
LOGS = ("buck2", "golang_tools")
RIDGE = 1.0  # as the join's


@dataclass(frozen=True)
class Parts:
    """Raw parts (n, J, K) of the scores of contacts, 0 for who is no candidate, and who is one (n, J)."""

    columns: Floats
    candidates: npt.NDArray[np.bool_]


def kind_of(kernel: Kernel) -> str:
    """Which memory a part of the join is."""
    if kernel.scope == "pair":
        return "the pairing"
    return "like work" if kernel.sharpness else "popularity"


def unweighted(join: Join) -> tuple[Join, list[str]]:
    """The join of `handled` with every weight 1, and the kind of each of its parts."""
    weights = join.ranks["handled"]
    ones = replace(weights, profile=1.0, success=1.0, kernel_weights=(1.0,) * len(weights.kernels))
    return replace(join, ranks={**join.ranks, "handled": ones}), kinds(weights)


def kinds(weights: RankWeights) -> list[str]:
    """The kind of each part, in the order of `Scored.contributions`."""
    return ["profile", "success", *(kind_of(kernel) for kernel in weights.kernels)]


def parts(rolling: RollingMatcher, positions: Positions) -> Parts:
    """Parts of contacts of the log, rolled forward; float32 (n, J, K)."""
    log, contacts = rolling.log, rolling.contacts(positions)
    columns: Floats | None = None
    candidates = np.zeros((len(positions), len(log.csas)), np.bool_)
    for i in track(np.argsort(contacts.arrived_at, kind="stable").tolist(), "parts"):
        who = rolling.candidates(int(positions[i]))
        found = rolling.score(contacts.take(np.array([i])), who, "handled").contributions
        if columns is None:
            columns = np.zeros((len(positions), len(log.csas), found.shape[1]), np.float32)
        columns[i, who], candidates[i, who] = found, True
    return Parts(np.zeros((0, len(log.csas), 0), np.float32) if columns is None else columns, candidates)


def window(log: Log, begins: int, until: int) -> tuple[Positions, Positions]:
    """Contacts, and who took each, of hand-overs not known to be unresolved that arrived within [begins, until)."""
    moves = log.handovers
    arrived = log.contacts.arrived_at[moves.contact]
    rows = np.flatnonzero((arrived >= begins) & (moves.known_at < until) & (moves.resolved != 0))
    rows = spread(rows, MOST_EXAMPLES)
    return moves.contact[rows].astype(np.int64), moves.csa[rows].astype(np.int64)


def selections(names: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Each selection of parts: its name, and the columns in it."""
    yield "all", list(range(len(names)))
    for kind in dict.fromkeys(names):
        yield f"without {kind}", [i for i, name in enumerate(names) if name != kind]
    for kind in dict.fromkeys(names):
        yield f"{kind} alone", [i for i, name in enumerate(names) if name == kind]


def measure(data: Path, options: Sequence[str], seed: int) -> tuple[list[dict[str, Any]], str]:
    """One log: a row for every selection of parts."""
    log = Log.load(data)
    test = split_log(log).test
    start = int(log.contacts.arrived_at[test[0]])
    with tempfile.TemporaryDirectory() as folder:
        facts, _ = trained_bundle(data, start, Path(folder), options)
        rolling = RollingMatcher(Matcher.load(Path(folder) / "bundle"), log)
        rolling._join, names = unweighted(rolling._join)
        contacts, taken = window(log, parse_time(facts["window"]["validation_from_time"], "window"), start)
        fitted_on, positives = parts(rolling, contacts), positive_csas(log)
        test = test[positives.lengths[test] > 0]
        judged = parts(rolling, test)
    wanted, allowed = positives.mask(test, len(log.csas)), candidate_mask(log, test)
    found: dict[str, npt.NDArray[np.float64]] = {}
    for name, columns in selections(names):
        if not fitted_on.columns[:, :, columns].any():
            continue  # a log without failures has no success to speak of
        weights = conditional_logit(fitted_on.columns[:, :, columns].copy(), taken, fitted_on.candidates.copy(), RIDGE)
        scores = np.where(judged.candidates, judged.columns[:, :, columns] @ weights, -np.inf)
        found[name] = reciprocal(rank_positives(scores, wanted, allowed).first)
    return as_rows(data.name, found, seed)


def as_rows(log: str, found: dict[str, npt.NDArray[np.float64]], seed: int) -> tuple[list[dict[str, Any]], str]:
    """Rows of the JSON, and their table."""
    bootstrap = Bootstrap(len(found["all"]), seed)
    rows, lines = [], [[f"{log}: the join of", "MRR@10", "− all, paired"]]
    for name, values in found.items():
        mean, less = bootstrap.mean(values), bootstrap.difference(values, found["all"])
        rows.append({"log": log, "parts": name, "mrr@10": vars(mean), "difference": vars(less)})
        lines.append([name, short(mean), "" if name == "all" else signed(less)])
    return rows, table(lines)


def main() -> None:
    """Parse options, measure each log; exit status 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=list(LOGS), help="which logs (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of training and of the intervals (default 0)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args()
    root = os.environ.get("TWOTOWER_REAL_DATA")
    if not root or not Path(root).is_dir():
        print("skipped: TWOTOWER_REAL_DATA names no folder of real logs")
        return
    options += [f"--seed_everything={args.seed}"]
    record = Record(args.output, {"options": options}, "rows", "log")
    if not measure_each(record, args.logs, lambda name: measure(Path(root) / name, options, args.seed)):
        sys.exit(1)


if __name__ == "__main__":
    main()
