"""How well other outcomes are foretold on generated centres with known truth, and who is nominated under a utility.

    python benchmarks/outcomes.py --output docs/results/outcomes.json
    python benchmarks/outcomes.py --csas 1500 --seeds 2 --recall 150 --output docs/results/outcomes_nominated.json

Notable: heads are judged on the hand-overs of the last tenth of contacts, with history rolled forward. *Contact alone*
is the mean of what is expected over everyone who works then: the same bundle, but for who took the contact. *True
mean* is what the generator drew about, which nobody can beat but by chance. Recall is the share of the ten best by
utility, scored over the whole roster, that are among the ten best of those nominated. Options that are not listed by
--help go to training.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from real_logs import trained_bundle
from record import Record, Rows, measure_each

from evaluation.generate.catalogue import CHANNELS
from evaluation.generate.centre import generate
from evaluation.generate.handovers import HANDLE_S, TRANSFER
from evaluation.generate.latents import Latents
from evaluation.generate.settings import Settings
from evaluation.ranking import split_log
from evaluation.report_text import table
from serve.matcher import Matcher
from serve.nominate import nominated
from serve.rolling import RollingMatcher
from twotower.features.schema import log_columns
from twotower.metrics import auc
from twotower.progress import track
from twotower.scoring.outcomes import NAMES, TIME
from twotower.scoring.utility import Utility
from twotower.tables.log import Log

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
BEST = 10
UTILITIES = {
    "success": Utility(),
    "some of each": Utility(1.0, 0.1, 0.0, -0.02, -0.1),
    "CSAT": Utility(0.5, 0.5),
    "quality": Utility(1.0, 0.0, 2.0),
    "minutes": Utility(1.0, 0.0, 0.0, -0.1),
    "minutes alone": Utility(0.0, 0.0, 0.0, -1.0),
}


def expected(rolling: RollingMatcher, rows: Longs) -> tuple[Doubles, Doubles]:
    """Expected outcomes (n, T) of hand-overs, and the mean over everyone who works then; handle times as log(1 + s)."""
    log = rolling.log
    contact, csa = log.handovers.contact[rows].astype(np.int64), log.handovers.csa[rows].astype(np.int64)
    whole, alone = (np.empty((len(rows), len(NAMES))) for _ in range(2))
    for i in track(np.argsort(log.contacts.arrived_at[contact], kind="stable").tolist(), "expecting"):
        one = rolling.contacts(contact[i : i + 1])
        whole[i] = rolling.expected(one, csa[i : i + 1])[0]
        alone[i] = rolling.expected(one, rolling.active(int(log.contacts.arrived_at[contact[i]]))).mean(axis=0)
    head = rolling._join.outcomes.heads[TIME]
    for values in (whole, alone):
        values[:, TIME] = np.log1p(values[:, TIME]) - (0.0 if head is None else head.variance / 2)
    return whole, alone


def true_means(truth: Latents, log: Log, rows: Longs) -> Doubles:
    """Means (n, T) that the generator drew about, but for rounding; handle times in log seconds."""
    contact, csa = log.handovers.contact[rows].astype(np.int64), log.handovers.csa[rows].astype(np.int64)
    p, channels = truth.p_resolved(contact, csa), log.contacts.channel.take(contact).to_pylist()
    channel = np.log(HANDLE_S[[CHANNELS.index(name) for name in channels]])
    return np.column_stack(
        [
            3.1 + 1.4 * p - 0.7 * truth.upset[contact] + 0.4 * truth.handling[csa],
            0.60 + 0.10 * p + 0.25 * truth.quality[csa],
            channel - 0.25 * truth.speed[csa] + 0.25 * truth.difficulty[contact] + 0.25 * (1 - p),
            TRANSFER * (1 - p),
        ]
    )


def observed(log: Log, rows: Longs) -> Doubles:
    """What happened (n, T), NaN where it is not known; handle times as log(1 + s)."""
    moves = log.handovers
    moved = np.where(moves.transferred >= 0, moves.transferred, np.nan)
    columns = (moves.csat, moves.quality_score, np.log1p(moves.handle_time_s), moved)
    return np.column_stack([column[rows] for column in columns]).astype(np.float64)


def judge(name: str, seen: Doubles, by: dict[str, Doubles]) -> dict[str, Any]:
    """One target: R² of every forecast (n,), for transfers the area under the ROC curve too; means."""
    found: dict[str, Any] = {"target": name, "handovers": len(seen), "mean": float(seen.mean())}
    for who, values in by.items():
        found[who] = {"mean": float(values.mean()), "r2": float(1 - np.square(seen - values).mean() / seen.var())}
        if name == "transferred":
            found[who]["auc"] = float(auc(values, seen > 0))
    return found


def recall(matcher: Matcher, log: Log, count: int, seed: int) -> Rows:
    """Recall of nominations for some contacts of the test, with everyone eligible."""
    test = split_log(log).test
    picked = np.sort(np.random.default_rng(seed).choice(test, min(count, len(test)), replace=False))
    blank = [None] * len(picked)
    contacts = replace(
        matcher.encode(log_columns(log, picked), blank, blank), customer=np.full(len(picked), -1, np.int32)
    )
    view, join = matcher.snapshot, matcher.bundle.join
    everyone, rows = np.flatnonzero(view.active), []
    for name, utility in UTILITIES.items():
        shares, sizes = [], []
        for i in track(range(len(picked)), name):
            one, best = contacts.take(np.array([i])), []
            for codes in (everyone, nominated(view, join, utility, one, BEST)):
                vectors, own = view.vectors_of(codes), view.own_of(codes)
                scored = join.worth(utility, one, view.memory, codes, vectors, own)
                best.append(codes[scored.best(BEST)])
            shares.append(len(np.intersect1d(best[0], best[1])) / BEST)
            sizes.append(len(codes))
        rows.append({"utility": name, "recall": float(np.mean(shares)), "scored": float(np.mean(sizes))})
    return rows


def measure(args: argparse.Namespace, seed: int, options: Sequence[str]) -> tuple[Rows, str]:
    """One centre: its row of the JSON and its tables."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "centre"
        generate(Settings(contacts=args.contacts, csas=args.csas, seed=seed), folder)
        log, truth = Log.load(folder), Latents.load(folder / "truth.npz")
        start = int(log.contacts.arrived_at[split_log(log).test[0]])
        facts, _ = trained_bundle(folder, start, Path(scratch), [f"--seed_everything={seed}", *options])
        matcher = Matcher.load(Path(scratch) / "bundle")
        rows = np.flatnonzero(np.isin(log.handovers.contact, split_log(log).test))
        whole, alone = expected(RollingMatcher(matcher, log), rows)
        nominees = recall(matcher, log, args.recall, seed) if args.recall else []
    seen, true, heads = observed(log, rows), true_means(truth, log, rows), []
    for at, name in enumerate(NAMES):
        known = np.isfinite(seen[:, at]) & np.isfinite(whole[:, at])
        if known.any():
            by = {"contact alone": alone, "contact and CSA": whole, "true mean": true}
            heads.append(judge(name, seen[known, at], {who: values[known, at] for who, values in by.items()}))
    row = {"seed": seed, "roster": len(matcher.snapshot.ids), "heads": heads, "nominated": nominees}
    return [row | {"run": facts["outcomes"]}], as_text(row)


def as_text(row: dict[str, Any]) -> str:
    """The tables of one centre."""
    who = ("contact alone", "contact and CSA", "true mean")
    lines = [[f"seed {row['seed']}", "hand-overs", "mean", "expected", *(f"R², {name}" for name in who)]]
    for one in row["heads"]:
        auc_of = [f" (AUC {one[name]['auc']:.3f})" if "auc" in one[name] else "" for name in who]
        r2 = [f"{one[name]['r2']:.3f}{more}" for name, more in zip(who, auc_of, strict=True)]
        means = f"{one['mean']:.3f}", f"{one['contact and CSA']['mean']:.3f}"
        lines.append([one["target"], str(one["handovers"]), *means, *r2])
    found = table(lines)
    if row["nominated"]:
        cells = [[one["utility"], f"{one['recall']:.3f}", f"{one['scored']:.0f}"] for one in row["nominated"]]
        found += "\n\n" + table([[f"of {row['roster']} CSAs", "recall of the ten best", "scored"], *cells])
    return found


def main() -> None:
    """Parse options, measure each centre; exit status 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=15_000)
    parser.add_argument("--csas", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one centre each (default 0 1 2)")
    parser.add_argument("--recall", type=int, default=0, metavar="N", help="measure nominations for N test contacts")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args()
    settings = {"contacts": args.contacts, "csas": args.csas, "recall": args.recall, "options": options}
    record = Record(args.output, {"centres": settings}, "rows", "seed")
    if not measure_each(record, args.seeds, lambda seed: measure(args, seed, options)):
        sys.exit(1)


if __name__ == "__main__":
    main()
