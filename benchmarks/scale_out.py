"""What a processor does of each part, here and as a worker of Ray, and what that makes of a centre of any size.

    python benchmarks/scale_out.py --output docs/results/scale_out.json
    python benchmarks/scale_out.py --plan docs/results/scale_out.json --core-hour 0.04

Notable: a round does the same work in this process and on Ray, one after the other, and a ratio is of two runs of one
round; medians of rounds are printed. On Ray as many workers as processors share the work, so with perfect scaling the
ratio is their number, and less where others use the machine too. Rates of training are of its steps alone, in one
round. The plan multiplies rates of one processor; it is arithmetic, not a run.
"""

from __future__ import annotations

# ruff: noqa: E402 — numpy reads the number of threads when it is imported
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numba
import numpy as np
from features import BEGIN, FAMILIES, SPAN, _streams
from real_logs import trained_bundle
from scale_out_plan import plan_report
from simulate import centre_of
from simulate_peers import Queue

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.simulate.policies import fifo
from evaluation.simulate.replicate import Trial, compare
from train.on_ray import train_on_ray
from train.prepare import TrainingSet, prepare
from train.run import run_training
from twotower.bundle.bundle import Bundle
from twotower.bundle.embed import csa_vectors, encoded_columns
from twotower.clock import DAY
from twotower.engines import Engine, ray_of
from twotower.features.engine.cluster import advanced
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.settings import CsaSettings
from twotower.features.schema import log_columns
from twotower.files import atomic_write
from twotower.tables.log import Log
from twotower.towers.config import TowerConfig

HERE, RAY = Engine(), Engine("ray")
TRAINED = ("--model.solver=gradient", "--trainer.accelerator=cpu", "--early_stopping.patience=100000")
BATCH = 256
Row = dict[str, Any]


def main() -> None:
    """Measure and print, or print the plan of what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--handovers", type=int, default=400_000, help="of the history")
    parser.add_argument("--csas", type=int, default=4_000, help="of the history")
    parser.add_argument("--contacts", type=int, default=3_000, help="of the centre that is trained on")
    parser.add_argument("--texts", type=int, default=12_000, help="encoded in a round")
    parser.add_argument("--replications", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=20, help="of the training that is timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="measure nothing; plan by the figures of this file")
    parser.add_argument("--plan-handovers", type=float, default=1e9)
    parser.add_argument("--plan-csas", type=float, default=2e5)
    parser.add_argument("--core-hour", type=float, default=0.04, help="price")
    parser.add_argument("--cores", type=int, default=512, help="of the planned cluster")
    args = parser.parse_args()
    given = args.plan_handovers, args.plan_csas, args.cores, args.core_hour
    if args.plan is not None:
        print(plan_report(json.loads(args.plan.read_text(encoding="utf-8")), *given))
        return
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(args, Path(scratch))
    print(table(found), end="\n\n")
    print(plan_report(found, *given))
    if args.output is not None:
        atomic_write(args.output, json.dumps(found, indent=1) + "\n")


def measured(args: argparse.Namespace, scratch: Path) -> Row:
    """All figures."""
    workers = int(ray_of().cluster_resources()["CPU"])
    data, run = scratch / "centre", scratch / "bundle"
    generate(Settings(contacts=args.contacts, csas=60, seed=0), data)
    log = Log.load(data)
    trained_bundle(data, int(log.contacts.arrived_at[-1]) + 1, scratch, ("--trainer.max_epochs=1",))
    bundle, prepared = Bundle.open(run), prepare(log, TowerConfig(), 0.1)
    rows = [
        features(args, numba.njit), features(args, None), texts(args, bundle, log), csas(args, bundle), played(args),
        training(args, data, workers, scratch),
    ]  # fmt: skip
    sizes = {"handovers": args.handovers, "csas": args.csas, "contacts": args.contacts, "rounds": args.rounds}
    return {"settings": sizes, "workers": workers, "rates": rows, "bytes": sizes_of(args, bundle, data, prepared)}


def features(args: argparse.Namespace, compiler: Callable[..., Any] | None) -> Row:
    """Every CSA's history at the end of a year, by shards of CSAs."""
    handovers, _, _, _ = _streams(args.handovers, args.csas, args.csas * 50, 32)
    settings = CsaSettings(32, families=FAMILIES)

    def work(engine: Engine) -> int:
        history = CsaHistory(settings, args.csas)
        advanced(engine, history, handovers, None, BEGIN + SPAN + 2 * DAY, compiler)
        return len(handovers)

    name = "numpy" if compiler is None else "compiled"
    return rated(f"history, {name}", "hand-overs", work, args.rounds)


def texts(args: argparse.Namespace, bundle: Bundle, log: Log) -> Row:
    """Contacts through the contact tower."""
    contacts = np.resize(np.arange(len(log.contacts)), args.texts)
    columns = log_columns(log, contacts)
    return rated(
        "texts embedded", "contacts", lambda engine: len(encoded_columns(engine, bundle, columns)), args.rounds
    )


def csas(args: argparse.Namespace, bundle: Bundle) -> Row:
    """CSAs through the CSA tower."""
    features = np.resize(bundle.roster.features, (args.texts * 2, bundle.roster.features.shape[1]))
    identity = np.resize(bundle.roster.identity, len(features))
    return rated(
        "CSAs embedded", "CSAs", lambda engine: len(csa_vectors(engine, bundle, features, identity)), args.rounds
    )


def played(args: argparse.Namespace) -> Row:
    """A day of a queue of 200 CSAs, first come, first served."""
    queue = Queue(200 / 300 * 0.95, 300.0, 600.0, 200, 24 * 3600.0)
    trial = Trial(centre_of(queue), (fifo(),))
    each = round(queue.arrivals * queue.horizon_s)

    def work(engine: Engine) -> int:
        compare(trial, args.replications, engine)
        return each * args.replications

    return rated("simulation", "contacts", work, args.rounds)


def training(args: argparse.Namespace, data: Path, workers: int, scratch: Path) -> Row:
    """Steps of Lightning by gradients: one process here, and as many workers of Ray as there are processors."""
    options = [*TRAINED, f"--trainer.max_epochs={args.epochs}", f"--data.batch_size={BATCH}"]
    clock, there = Clock(), Clock()
    run_training(data, scratch / "here", None, (), options, [clock])
    train_on_ray(data, scratch / "ray", None, (), [*options, f"--cluster.workers={workers}"], progress=there)
    return row("training", "pairs", {"local": [clock.rate() * BATCH], "ray": [there.rate() * BATCH]})


class Clock(lightning.Callback):
    """When which step was done."""

    def __init__(self) -> None:
        self.at: list[tuple[float, int]] = []

    def __call__(self, steps: int) -> None:
        """So many are done now."""
        if steps and (not self.at or steps > self.at[-1][1]):
            self.at.append((time.perf_counter(), steps))

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """One more."""
        self(trainer.global_step)

    def rate(self) -> float:
        """Steps a second, from the first that were seen to the last. Raises SystemExit where there are too few."""
        if len(self.at) < 3:
            raise SystemExit("training: too few steps to be timed; ask for more --epochs")
        (begun, first), (ended, last) = self.at[0], self.at[-1]
        return (last - first) / (ended - begun)


def rated(name: str, unit: str, work: Callable[[Engine], int], rounds: int) -> Row:
    """A row; once before, so that workers have compiled and opened what they need."""
    rates: dict[str, list[float]] = {"local": [], "ray": []}
    for engine in (HERE, RAY):
        work(engine)
    for _ in range(rounds):
        for label, engine in (("local", HERE), ("ray", RAY)):
            begun = time.perf_counter()
            count = work(engine)
            rates[label].append(count / (time.perf_counter() - begun))
    return row(name, unit, rates)


def row(name: str, unit: str, rates: dict[str, list[float]]) -> Row:
    """Medians, and that of the rounds' ratios."""
    ratio = statistics.median(ray / here for here, ray in zip(rates["local"], rates["ray"], strict=True))
    medians = {f"{engine}_per_s": round(statistics.median(of), 1) for engine, of in rates.items()}
    return {"part": name, "unit": unit, **medians, "ratio": round(ratio, 3), "rounds": rates}


def sizes_of(args: argparse.Namespace, bundle: Bundle, data: Path, prepared: TrainingSet) -> dict[str, float]:
    """Bytes of a hand-over, a contact and a CSA, by where they are."""
    handovers, _, _, _ = _streams(20_000, 400, 20_000, 32)
    history = CsaHistory(CsaSettings(32, families=FAMILIES), 400)
    history.advance(handovers, BEGIN + SPAN + 2 * DAY)
    kept = [value for value in vars(handovers).values() if isinstance(value, np.ndarray)]
    per_contact = partial(per, of=len(prepared.arrived_at))
    arrays = [value for name, value in vars(prepared).items() if isinstance(value, np.ndarray) and name not in BY_CSA]
    tables = {file.name: file.stat().st_size for file in data.glob("*.parquet") if file.stem != "truth"}
    vectors = sum(getattr(bundle.contact_encoder.encode_one({}), name).nbytes for name in ("profile", "memory", "base"))
    return {
        "tables_per_handover": per_contact(sum(size for name, size in tables.items() if name != "csas.parquet")),
        "stream_per_handover": per(sum(array.nbytes for array in kept), len(handovers)),
        "state_per_csa": per(sum(array.nbytes for array in history.state().values()), 400),
        "vectors_per_contact": float(vectors),
        "training_per_contact": per_contact(sum(array.nbytes for array in arrays) + prepared.tokens.ids.nbytes),
        "features_per_csa": float(4 * prepared.csa_features.shape[2]),
        "snapshots": float(len(prepared.moments)),
    }


BY_CSA = ("csa_features", "exposure", "table", "roster_features", "identity", "moments", "log_weight")


def per(total: float, of: int) -> float:
    """Bytes of one."""
    return round(total / of, 1)


def table(found: Row) -> str:
    """Rates for people."""
    lines = [f"{'':>20} {'one process/s':>14} {'Ray/s':>12} {'Ray : one':>10}   ({found['workers']} workers)"]
    for one in found["rates"]:
        rates = f"{one['local_per_s']:>14,.0f} {one['ray_per_s']:>12,.0f} {one['ratio']:>10.2f}"
        lines.append(f"{one['part']:>20} {rates}   {one['unit']}")
    lines += [f"{name:>24} {value:>12,.0f}" for name, value in found["bytes"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
