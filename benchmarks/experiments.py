"""What experiments keep of what their plans promise, in a simulated centre that knows the truth.

    python benchmarks/experiments.py --experiments 1000 --processes 2 --output docs/results/experiments.json

Notable: nothing is drawn from a formula here. Two policies run in one centre whose people, queues and customers mix as
in life; the plan is made from a simulated history, as a user's is made from theirs; the analysis is the one that reads
users' tables. The truth is both policies alone on the same contacts with the same luck. Experiment r meets the same
contacts whatever is asked of it, so rows differ by what was asked alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.experiment import power
from evaluation.experiment.design_blocks import blocks_of, parts_of
from evaluation.experiment.design_history import History
from evaluation.experiment.estimate import estimate
from evaluation.experiment.plan import Plan
from evaluation.experiment.power import Precision
from evaluation.experiment.power_resampled import switchback
from evaluation.experiment.schedule import ALIKE, redraws
from evaluation.experiment.simulated import Experiment, Shocks, Testbed, alone, arrived
from evaluation.experiment.simulated_bias import BY_CONTACT, biases
from evaluation.experiment.simulated_carry import carried
from evaluation.experiment.simulated_contacts import seen
from evaluation.experiment.simulated_frame import frame_of, past_means
from evaluation.simulate.centre import HOUR, Centre, Patience
from evaluation.simulate.policies import Rule, fifo, greedy, p_mu
from evaluation.simulate.scenario import believed
from twotower.clock import DAY, NEVER, SECOND, format_time, parse_time
from twotower.files import atomic_write
from twotower.progress import track

Doubles = npt.NDArray[np.float64]

BEGINS = "2026-03-02T00:00:00Z"  # a Monday
CSAS, SITES, CLASSES, HANDLE_S, PATIENCE_S = 40, 8, 4, 720.0, 600.0
PATTERN = np.repeat([0.15, 0.15, 0.7, 1.0, 0.9, 0.35], 4) / 0.542
"""Contacts of an hour of the day, of a mean of 1; the peak is 1.85."""
PEAK = float(PATTERN.max())
AGE_PER_S = 2e-4
HISTORY, PAST = 10**6, 10**6 + 1
"""Replications that no experiment has: the plan's history, and the covariate's."""
METRIC = "resolved"
WAYS = ("switchback", "cluster", "customer")


@dataclass(frozen=True)
class Setup:
    """All that an experiment needs, small enough to be sent to a process."""

    design: str = "switchback"
    days: int = 14
    block_hours: float = 4.0
    wash_minutes: float = 20.0
    load: float = 0.85
    """At the peak of the day."""
    error: float | None = None
    """Of what the treatment believes of a pair, log-odds; None: both arms are the queue (A/A)."""
    shock: float = 0.25
    repeats: float = 0.15
    """Share of the unresolved who come back, after six hours on average."""
    rule: str = "best pair"
    """The treatment: `best pair`, or `pμ`, the pair that resolves the most a second."""
    seed: int = 0
    alike: float = ALIKE
    """Of the arms' customers (`schedule.balanced`); 1: no salt is looked for."""

    def plan(self) -> Plan:
        """Of the design."""
        units = {"switchback": "centre", "cluster": "site", "customer": "csa"}
        hours = {"switchback": self.block_hours, "cluster": None, "customer": 24.0}
        return Plan.model_validate({
            "name": self.design, "hypothesis": "", "design": self.design, "unit": units[self.design],
            "begins": BEGINS, "ends": format_time(parse_time(BEGINS) + self.days * DAY), "seed": self.seed,
            "block_hours": hours[self.design], "wash_out_minutes": self.wash_minutes,
            "control": {"name": "queue", "policies": ["queue"]},
            "treatment": {"name": "matcher", "policies": ["matcher"]}, "primary": {"smallest_effect": 0.01},
        })  # fmt: skip


def centre_of(setup: Setup, days: int) -> Centre:
    """A small centre; of the design `cluster`, sites that share neither people nor demand."""
    random = np.random.default_rng((setup.seed, 7))
    sites = SITES if setup.design == "cluster" else 1
    site = np.arange(CSAS) % sites
    kind = [(k, s) for s in range(sites) for k in range(CLASSES)]
    can = np.array([[site[j] == s for j in range(CSAS)] for _, s in kind])
    logit = 0.85 + 0.8 * random.standard_normal((CLASSES, CSAS))
    pace = np.exp(0.2 * random.standard_normal((CLASSES, CSAS)) - 0.02)
    rows = [k for k, _ in kind]
    return Centre(
        tuple(f"class {k} of site {s}" for k, s in kind), tuple(f"a{j:02}" for j in range(CSAS)),
        np.tile(PATTERN, (len(kind), days)), np.where(can, HANDLE_S * pace[rows], 0.0),
        np.where(can, 1 / (1 + np.exp(-logit[rows])), 0.0), HOUR, patience=(Patience("exponential", PATIENCE_S),),
        repeats=np.full(len(kind), setup.repeats), delay_s=np.full(len(kind), 6 * HOUR),
    ).at_load(setup.load / PEAK)  # fmt: skip


def bed_of(setup: Setup, days: int | None = None) -> Testbed:
    """Both policies in the centre."""
    centre = centre_of(setup, days or setup.days)
    treatment = fifo("matcher") if setup.error is None else matcher(centre, setup)
    sites = SITES if setup.design == "cluster" else 1
    found = Testbed(
        centre, fifo("queue"), treatment, customers=8000, customer_sd=0.3, shocks=Shocks(setup.shock, days=0.15),
        seed=setup.seed, alike=setup.alike,
    )  # fmt: skip
    if sites == 1:
        return found
    of_class = tuple(f"s{i // CLASSES}" for i in range(len(centre.classes)))
    return replace(found, unit_of_class=of_class, unit_of_csa=tuple(f"s{j % sites}" for j in range(CSAS)))


def matcher(centre: Centre, setup: Setup) -> Rule:
    """By what is believed of pairs."""
    known = believed(centre, float(setup.error or 0.0), setup.seed)
    if setup.rule == "pμ":
        return p_mu(centre, known, "matcher")
    return greedy(known, AGE_PER_S, name="matcher")


def history_of(setup: Setup, days: int, number: int = HISTORY) -> History:
    """What a user would have: so many days of the queue alone."""
    bed = bed_of(replace(setup, error=None), days)
    of = arrived(bed, number)
    past = seen(bed.centre, alone(bed, of, 0, number), days * 24 * HOUR)
    ends = parse_time(BEGINS)
    begins = ends - days * DAY
    none = np.zeros(len(past), np.int64)
    return History(
        begins, ends, ends, begins + (past.arrival * SECOND).astype(np.int64), np.full(len(past), NEVER),
        past.metrics, of.customer[past.row], past.csa, (past.kind, past.kind, none, none),
        (len(bed.centre.classes), len(bed.centre.classes), 1, 1), {}, bed.centre.csas,
    )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One experiment."""

    value: float
    low: float
    high: float
    p: float
    crossed: bool
    """A confidence sequence left out 0 at some look."""
    truth: float
    """On the same contacts."""
    seconds: float


@cache
def _experiment(setup: Setup) -> tuple[Experiment, Doubles]:
    bed = bed_of(setup)
    experiment = Experiment(bed, setup.plan())
    return experiment, past_means(bed, PAST, experiment.seconds, METRIC)


def one(setup: Setup, lots: int, number: int) -> Row:
    """Experiment `number`, simulated and analysed. lots: schedules drawn again."""
    experiment, past = _experiment(setup)
    begun = time.process_time()
    arms = _schedule(setup, number)
    frame = frame_of(experiment, experiment.run(arms, number), past)
    found = estimate(experiment.plan, experiment.schedule(arms), frame, draws=lots)
    truth = 0.0
    if setup.error is not None:
        control, treatment = (float(np.nanmean(world.metrics[METRIC])) for world in experiment.truth(number))
        truth = treatment - control
    effect = found.effect
    return Row(
        effect.value, effect.low, effect.high, effect.p, found.crossed_at is not None, truth,
        time.process_time() - begun,
    )  # fmt: skip


def _schedule(setup: Setup, number: int) -> npt.NDArray[np.int8]:
    """A schedule of its own for every experiment, by a seed of its own."""
    experiment = _experiment(setup)[0]
    other = experiment.plan.model_copy(update={"seed": 1_000 + number})
    return redraws(other, experiment.units, 1)[0]


def run(setup: Setup, many: int, processes: int, lots: int) -> list[Row]:
    """Experiments 0, 1, …"""
    work: Callable[[int], Row] = partial(one, setup, lots)
    return list(track(_side_by_side(work, range(many), processes), f"{setup.design} {setup.error}", many))


def _side_by_side(work: Callable[[int], Row], numbers: Iterable[int], processes: int) -> Iterator[Row]:
    if processes == 1:
        yield from map(work, numbers)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(work, numbers, chunksize=8)


def share(flags: list[bool]) -> dict[str, float]:
    """With half of its 95 % interval."""
    p, n = float(np.mean(flags)), len(flags)
    return {"share": p, "half": float(1.96 * np.sqrt(max(p * (1 - p), 1e-12) / n))}


def summary(setup: Setup, rows: list[Row]) -> dict[str, Any]:
    """What came of them."""
    truth = float(np.mean([row.truth for row in rows]))
    values = np.array([row.value for row in rows])
    return {
        "setup": asdict(setup), "experiments": len(rows), "truth": truth, "mean": float(values.mean()),
        "mean_half": float(1.96 * values.std(ddof=1) / np.sqrt(len(rows))), "se": float(values.std(ddof=1)),
        "rejected": share([row.p <= setup.plan().primary.alpha for row in rows]),
        "crossed": share([row.crossed for row in rows]),
        "covers_mean_truth": share([row.low <= truth <= row.high for row in rows]),
        "covers_own_truth": share([row.low <= row.truth <= row.high for row in rows]),
        "seconds": float(np.mean([row.seconds for row in rows])),
    }  # fmt: skip


def planned(setup: Setup, history: History, kept: float = 1.0) -> Precision:
    """How sure the plan says that it will be, from the history."""
    y, explained = history.metric(METRIC), history.adjusted(METRIC)[1]
    blocks = blocks_of(history, y, setup.block_hours, setup.wash_minutes)
    parts = parts_of(blocks)
    parts = replace(parts, within=parts.within * (1 - explained))
    return power.of_blocks(blocks, parts, parse_time(BEGINS), setup.days, setup.wash_minutes, kept)


def calibrated(setup: Setup, effect: float, few: int = 12) -> Setup:
    """With a treatment whose whole effect is about this: one that believes the more wrongly, the better it must not be;
    by bisection over the error of its beliefs."""
    low, high = 0.0, 12.0
    for _ in range(9):
        middle = (low + high) / 2
        if _whole(replace(setup, error=middle), few) > effect:
            low = middle
        else:
            high = middle
    return replace(setup, error=(low + high) / 2)


def _whole(setup: Setup, few: int) -> float:
    experiment = Experiment(bed_of(setup), setup.plan())
    worlds = [experiment.truth(r) for r in range(HISTORY, HISTORY + few)]
    return float(np.mean([np.nanmean(b.metrics[METRIC]) - np.nanmean(a.metrics[METRIC]) for a, b in worlds]))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything."""
    base = Setup(days=args.days, block_hours=args.block_hours, wash_minutes=args.wash_out)
    found: dict[str, Any] = {"designs": {}}
    history = history_of(base, args.history_days)
    promise = planned(base, history)
    wanted = promise.smallest(args.power, 0.05)
    tried = calibrated(base, wanted)
    for name, setup in (("A/A", base), ("effect", tried)):
        found["designs"][f"switchback, {name}"] = summary(
            setup, run(setup, args.experiments, args.processes, args.lots)
        )
    found["power"] = promised(base, found["designs"]["switchback, effect"], args)
    for design in WAYS[1:]:
        for name, error in (("A/A", None), ("effect", 0.4)):
            setup = replace(base, design=design, error=error)
            found["designs"][f"{design}, {name}"] = summary(setup, run(setup, args.others, args.processes, args.lots))
    unsalted = replace(base, design="customer", alike=1.0)
    found["designs"]["customer, A/A, no salt"] = summary(
        unsalted, run(unsalted, args.others, args.processes, args.lots)
    )  # fmt: skip
    found["bias"] = bias(base, args)
    found["carried"] = left(base, args)
    return {**found, "days": args.days, "csas": CSAS, "contacts": len(history) / args.history_days * args.days}


def promised(base: Setup, got: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """What plans made from several histories say of the power to find the effect that there was, and what was kept."""
    rows = []
    for number in range(args.histories):
        history = history_of(base, args.history_days, HISTORY + 2 + number)
        plan = planned(base, history)
        blocks = blocks_of(history, history.metric(METRIC), base.block_hours, base.wash_minutes)
        tried = switchback(blocks, base.plan(), got["truth"])
        rows.append(
            [plan.power(got["truth"], 0.05), tried.found, plan.se, tried.se, plan.power(got["truth"], 0.05, True)]
        )
    mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
    names = ("by_formula", "by_trying", "se_by_formula", "se_by_trying", "any_time_at_end")
    return {
        "truth": got["truth"], "histories": args.histories, "history_days": args.history_days,
        **{name: {"mean": float(a), "sd": float(b)} for name, a, b in zip(names, mean, spread, strict=True)},
        "kept": got["rejected"], "se_kept": got["se"], "any_time_kept": got["crossed"],
    }  # fmt: skip


def bias(base: Setup, args: argparse.Namespace) -> list[dict[str, Any]]:
    """An A/B test of contacts, and the switchback, against the truth at three loads, of two treatments."""
    found = []
    for rule in ("best pair", "pμ"):
        setups = [replace(base, load=load, error=0.4, rule=rule) for load in args.loads]
        rows = biases([(setup.load, bed_of(setup)) for setup in setups], [base.plan()], args.replications)
        found += [
            {"rule": rule, **{name: getattr(row, name) for name in ("load", "metric", "way", "covered", "wrong")},
             **{name: asdict(getattr(row, name)) for name in ("truth", "told", "off")}} for row in rows
        ]  # fmt: skip
    return found


def left(base: Setup, args: argparse.Namespace) -> list[dict[str, Any]]:
    """What an arm leaves to the next block, without a wash-out, with and without customers who come back."""
    found = []
    for repeats in (0.0, base.repeats):
        for load in args.loads:
            setup = replace(base, load=load, error=0.4, wash_minutes=0.0, repeats=repeats)
            rows = carried(Experiment(bed_of(setup), setup.plan()), (METRIC, "wait_s", "abandoned"), args.replications)
            found += [
                {"repeats": repeats, "load": load, "metric": row.metric, "effect": row.effect, "missed": row.missed,
                 "start": row.decay.start, "tau_minutes": row.decay.tau,
                 **{name: getattr(row.decay, name).tolist() for name in ("minutes", "left", "half")}} for row in rows
            ]  # fmt: skip
    return found


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{found['csas']} CSAs, {found['contacts']:,.0f} contacts in {found['days']} days", ""]
    lines.append(f"{'':22}{'experiments':>12}{'truth':>9}{'mean':>18}{'se':>9}{'found':>15}{'at any look':>15}"
                 f"{'covers truth':>15}{'own truth':>15}{'s':>7}")  # fmt: skip
    for name, row in found["designs"].items():
        shares = (row[key] for key in ("rejected", "crossed", "covers_mean_truth", "covers_own_truth"))
        said = "".join(f"{one['share']:>8.1%} ±{one['half']:4.1%} " for one in shares)
        lines.append(f"{name:22}{row['experiments']:>12,}{row['truth']:>+9.4f}{row['mean']:>+9.4f} "
                     f"±{row['mean_half']:.4f}{row['se']:>9.4f} {said}{row['seconds']:>7.3f}")  # fmt: skip
    of = found["power"]
    formula, tried, any_time = (of[name] for name in ("by_formula", "by_trying", "any_time_at_end"))
    lines += ["", f"power for {of['truth']:+.4f}, by {of['histories']} histories of {of['history_days']} days: "
              f"{formula['mean']:.1%} by formula (sd {formula['sd']:.1%}), {tried['mean']:.1%} by trying (sd "
              f"{tried['sd']:.1%}); kept {of['kept']['share']:.1%} ± {of['kept']['half']:.1%}",
              f"standard error {of['se_by_formula']['mean']:.5f} by formula, {of['se_by_trying']['mean']:.5f} by "
              f"trying, kept {of['se_kept']:.5f}; at any time {any_time['mean']:.1%} or more, kept "
              f"{of['any_time_kept']['share']:.1%}", ""]  # fmt: skip
    for row in found["bias"]:
        way = "A/B by contact" if row["way"] == BY_CONTACT else row["way"]
        lines.append(f"{row['rule']:10} load {row['load']:.2f} {row['metric']:10} {way:15} truth "
                     f"{row['truth']['mean']:+9.4f}  told {row['told']['mean']:+9.4f}  off {row['off']['mean']:+9.4f} "
                     f"± {row['off']['half']:.4f}{'  wrong' if row['wrong'] else ''}")  # fmt: skip
    lines.append("")
    for row in found["carried"]:
        lines.append(f"{row['repeats']:.0%} come back, load {row['load']:.2f} {row['metric']:10} effect "
                     f"{row['effect']:+9.4f}, of which blocks without a wash-out miss {row['missed']:.1%}; left at "
                     f"first {row['start']:.2f}, fading in {row['tau_minutes']:.0f} minutes")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Parse options, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=100, help="of the switchback, A/A and with an effect (100)")
    parser.add_argument("--others", type=int, default=40, help="of each other design (40)")
    parser.add_argument("--replications", type=int, default=20, help="of biases and of what is left (20)")
    parser.add_argument("--history-days", type=int, default=182, help="that a plan is made from (182)")
    parser.add_argument("--histories", type=int, default=12, help="from which plans are made (12)")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--block-hours", type=float, default=4.0)
    parser.add_argument("--wash-out", type=float, default=20.0, help="minutes (20)")
    parser.add_argument("--power", type=float, default=0.8, help="that the effect is chosen for (0.8)")
    parser.add_argument("--loads", type=float, nargs="*", default=[0.8, 0.95, 1.15], help="at the peak of the day")
    parser.add_argument("--lots", type=int, default=1000, help="schedules drawn again (1000)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file")
    args = parser.parse_args()
    found = measure(args)
    print(table(found))
    if args.output:
        atomic_write(args.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
