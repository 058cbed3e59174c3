"""Thirty days of a centre that drifts: retrained daily, weekly, from nothing every day, or never.

    python benchmarks/retraining.py --output docs/results/retraining.json
    python benchmarks/retraining.py --contacts 4000 --csas 40 --days 60 --judged 6 --every 2

Notable: in the days that are judged intents and products come up that nobody asked about before, CSAs join and leave,
skills and demand walk. Every midnight a policy may train on what is known by then. At some midnights (--every) the
bundle that each has, exported, ranks the contacts until the next of these as a router would, history rolled forward
contact by contact.
Captured is the share of the oracle's uplift over the queue, in true probabilities, whoever the queue chose being the
queue. Processor seconds are of the training alone; export is the same for all. `daily` goes on from its own model of
the day before, thirty times in a row; `full` starts from nothing each time. Runs and scores lie in --work, and what
lies there is not done again, so an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import shutil
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.generate.centre import generate
from evaluation.generate.latents import Latents
from evaluation.generate.settings import Settings
from evaluation.page import svg
from evaluation.ranking import blocks, checked
from evaluation.ranking_model import ModelRanker
from evaluation.ranking_outcomes import mean_of_ratio
from evaluation.report_text import table as lined
from export.bundle import export_bundle
from train.run import run_training
from twotower.clock import DAY, format_time
from twotower.files import atomic_file, atomic_write
from twotower.metrics import Bootstrap
from twotower.progress import track
from twotower.tables.log import Log

Floats = npt.NDArray[np.float64]
Row = dict[str, Any]
POLICIES = ("frozen", "weekly", "daily", "full")
FROZEN, WEEKLY, DAILY, FULL = POLICIES
TOLD = {
    FROZEN: "trained once, before the first day",
    WEEKLY: "from nothing every seventh day",
    DAILY: "every day, going on from the day before",
    FULL: "from nothing every day",
}
RESAMPLES = 2000


@dataclass(frozen=True)
class Centre:
    """The tables of a generated centre, what is true of it, and the midnight before the days that are judged."""

    folder: Path
    log: Log
    latents: Latents
    begins: int

    @classmethod
    def made(cls, settings: Settings, judged: int, folder: Path) -> Centre:
        """Generated, unless it lies there."""
        if not folder.is_dir():
            generate(settings, folder)
        return cls(folder, Log.load(folder), Latents.load(folder / "truth.npz"), settings.ends - judged * DAY)

    def contacts(self, days: range) -> npt.NDArray[np.int64]:
        """Positions of those who arrive on some days that somebody could take."""
        arrived = self.log.contacts.arrived_at
        first, last = (int(np.searchsorted(arrived, self.begins + d * DAY)) for d in (days.start, days.stop))
        there = np.arange(first, last)
        return there[self.latents.assigned[there] >= 0]


@dataclass(frozen=True)
class Trained:
    """A run, and the processor's and the clock's seconds that it took."""

    run: Path
    cpu_s: float
    wall_s: float


def trained(centre: Centre, day: int, start: Path | None, work: Path, name: str) -> Trained:
    """The run on what was known at the midnight before a day; start: the run that it goes on from."""
    run, facts = work / f"{name}-{day:02}", work / f"{name}-{day:02}.json"
    if not facts.is_file():
        shutil.rmtree(run, ignore_errors=True)
        options = [] if start is None else [f"--data.start={start}", f"--data.tokens={work / 'tokens'}"]
        cpu, wall = time.process_time(), time.perf_counter()
        run_training(centre.folder, run, format_time(centre.begins + day * DAY), (), options)
        took = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        atomic_write(facts, json.dumps(took))
    return Trained(run, **json.loads(facts.read_text(encoding="utf-8")))


def judged(centre: Centre, run: Path, days: range, work: Path) -> Row:
    """True probabilities of each contact of some days, (n,) of model, queue and oracle, by the run's bundle."""
    place = work / f"{run.name}-judged-{days.start:02}-{days.stop:02}.npz"
    if not place.is_file():
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            export_bundle(run, Path(scratch) / "bundle")
            found = chosen(centre, ModelRanker.load(Path(scratch) / "bundle", centre.log, "success"), days)
        with atomic_file(place) as target, target.open("wb") as file:
            np.savez(file, allow_pickle=False, **found)
    with np.load(place, allow_pickle=False) as kept:
        return dict(kept)


def chosen(centre: Centre, ranker: ModelRanker, days: range) -> dict[str, Floats]:
    """The same by a ranker."""
    log, latents, rows = centre.log, centre.latents, centre.contacts(days)
    model, oracle = np.empty(len(rows)), np.empty(len(rows))
    at = 0
    for block in blocks(rows, len(log.csas)):
        score = checked(ranker, log, block)
        row, csa = np.nonzero(np.isfinite(score))
        p = np.full(score.shape, -np.inf)
        p[row, csa] = latents.p_resolved(block[row], csa)
        place = slice(at, at + len(block))
        model[place] = p[np.arange(len(block)), score.argmax(axis=1)]
        oracle[place] = p.max(axis=1)
        at += len(block)
    return {"model": model, "oracle": oracle, "queue": latents.p_resolved(rows, latents.assigned[rows])}


def run_policies(centre: Centre, days: int, every: int, work: Path) -> dict[str, Any]:
    """Scores of every judged day by policy, and seconds by policy of each training."""
    scores: dict[str, dict[int, Row]] = {name: {} for name in POLICIES}
    took: dict[str, list[float]] = {name: [] for name in POLICIES}
    first = trained(centre, 0, None, work, FULL)
    latest, weekly = first, first
    for day in track(range(days), "days"):
        if day:
            latest = trained(centre, day, latest.run, work, DAILY)
            took[DAILY].append(latest.cpu_s)
            if day >= 2 and not keep(day - 2, every):
                shutil.rmtree(work / f"{DAILY}-{day - 2:02}", ignore_errors=True)
        if day and day % 7 == 0:
            weekly = trained(centre, day, None, work, FULL)
            took[WEEKLY].append(weekly.cpu_s)
        if not keep(day, every):
            continue
        full = trained(centre, day, None, work, FULL)
        took[FULL].append(full.cpu_s)
        for name, run in ((FROZEN, first), (WEEKLY, weekly), (DAILY, latest), (FULL, full)):
            scores[name][day] = judged(centre, run.run, range(day, until(day, days, every)), work)
    return {"scores": scores, "took": took}


def keep(day: int, every: int) -> bool:
    """Whether a day is judged."""
    return day % every == every - 1 or day == 0


def until(day: int, days: int, every: int) -> int:
    """The next judged day, or the end."""
    return next((later for later in range(day + 1, days) if keep(later, every)), days)


def share(rows: list[Row], model: str = "model") -> float:
    """Of the oracle's uplift over the queue, over all contacts of some days."""
    mine, queue, oracle = (np.concatenate([row[name] for row in rows]) for name in (model, "queue", "oracle"))
    return float((mine - queue).mean() / (oracle - queue).mean())


def lost(rows: list[Row], of: list[Row], seed: int = 0) -> tuple[float, float, float]:
    """How much less `rows` capture than `of`, as a share of what that captures, and its 95 % interval over contacts."""
    mine, other, queue = (
        np.concatenate([one[name] for one in found])
        for found, name in ((rows, "model"), (of, "model"), (of, "queue"))
    )  # fmt: skip
    found = mean_of_ratio(other - mine, other - queue, Bootstrap(len(mine), seed, RESAMPLES))
    return found.value, found.low, found.high


def figures(found: dict[str, Any]) -> Row:
    """What stands in the JSON."""
    scores, took = found["scores"], found["took"]
    days = sorted(scores[FULL])
    after = [day for day in days if day]
    policies: dict[str, Row] = {}
    for name in POLICIES:
        rows = [scores[name][day] for day in after]
        policies[name] = {
            "told": TOLD[name], "captured": share(rows), "by_day": [share([scores[name][day]]) for day in days],
            "less_than_full": lost(rows, [scores[FULL][day] for day in after]),
            "training_cpu_s": float(np.median(took[name])) if took[name] else 0.0, "trainings": len(took[name]),
        }  # fmt: skip
    contacts = [len(scores[FULL][day]["model"]) for day in days]
    ratio = policies[DAILY]["training_cpu_s"] / policies[FULL]["training_cpu_s"]
    return {"days": days, "contacts": contacts, "policies": policies, "daily_time_of_full": ratio}


def table(row: Row) -> str:
    """For people."""
    lines = [["policy", "captured", "less than full (95 %)", "seconds a training", ""]]
    for name, one in row["policies"].items():
        less, low, high = one["less_than_full"]
        off = "" if name == FULL else f"{less:.1%} ({low:.1%} to {high:.1%})"
        lines.append([name, f"{one['captured']:.3f}", off, f"{one['training_cpu_s']:.1f}", one["told"]])
    return "\n".join([lined(lines), f"a daily training takes {row['daily_time_of_full']:.1%} of a full one's time"])


def drawn(row: Row) -> str:
    """Captured by day, and the seconds."""

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=[3, 1])
        for name, one in row["policies"].items():
            left.plot(
                row["days"], one["by_day"], label=f"{name}: {one['told']}", linewidth=1.6, marker="o", markersize=3
            )
        left.set(
            xlabel="day",
            ylabel="share of the oracle's uplift",
            title="captured until the next judged day",
        )
        left.legend(frameon=False)
        names = [WEEKLY, DAILY, FULL]
        per_day = [row["policies"][name]["training_cpu_s"] / (7 if name == WEEKLY else 1) for name in names]
        right.bar(names, per_day)
        right.set(title="training, processor seconds a day")

    return svg(draw, 10, 3.6)


def main() -> None:
    """Runs the policies; prints a table, writes JSON and a plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=19_500)
    parser.add_argument("--csas", type=int, default=120)
    parser.add_argument("--days", type=int, default=130, help="of the whole log")
    parser.add_argument("--judged", type=int, default=30, help="of these, the last ones, on which policies are judged")
    parser.add_argument("--every", type=int, default=1, help="judge, and train from nothing, only every so many days")
    parser.add_argument("--launches", type=int, default=4)
    parser.add_argument("--drift", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where runs lie, kept; default: a temporary folder")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    settings = Settings(
        args.contacts, args.csas, seed=args.seed, days=args.days, drift=args.drift, launches=args.launches,
        launch_days=args.judged,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        centre = Centre.made(settings, args.judged, work / "centre")
        row = figures(run_policies(centre, args.judged, args.every, work))
    print(table(row))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        told = {"settings": asdict(settings), "judged": args.judged, "every": args.every, "machine": machine}
        atomic_write(args.output, json.dumps({**told, **row}, indent=1) + "\n")
        atomic_write(args.output.with_suffix(".svg"), drawn(row))


if __name__ == "__main__":
    main()
