"""What policies reach on a generated centre under, near and over capacity, with the same staff: resolution, waits,
occupancy, and how hard contacts are spread; what a cap on occupancy costs in waits; what windows gain and cost.

    python benchmarks/policies.py --output docs/results/policies.json

Notable: outcomes are drawn from the centre's truth, for the same contacts with the same luck under every policy, so
intervals are of differences of pairs. Each policy stands there twice: told the truth of every pair, which shows what
the way of assigning is worth, and told what a bundle believes that was trained on the centre's log before the window,
which shows what is left of it in practice. The oracle is the set-based policy told the truth, with prices and without
promises to CSAs. A share is of the oracle's uplift over first come, first served with the longest idle.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from measured import measure_verb

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.page import svg
from evaluation.simulate import policies
from evaluation.simulate.figures import NAMES
from evaluation.simulate.policies import Rule
from evaluation.simulate.replay import Replay, ReplaySpec, replay
from evaluation.simulate.replay_bundle import pair_values
from evaluation.simulate.replicate import Comparison, Estimate, Trial, compare
from evaluation.simulate.scenario import ScenarioSpec, read, scenario_of
from evaluation.simulate.sets import Asked, Believed, sets
from serve.sets.sustain import Limits
from serve.sets.wait import Waiting
from twotower.clock import DAY, format_time
from twotower.engines import Engine
from twotower.files import atomic_write

Singles = npt.NDArray[np.float32]
FIFO, MINUTE = "FIFO, longest idle", 60.0
PRICES = 0.5  # of the fluid model's: the whole of them holds people back for contacts that wait too long
LOW = 0.25  # where promises hold people back already: with 0.5 contacts wait some seconds longer for hardly more
SHOWN = ("resolved", "mean_wait_s", "p90_wait_s", "abandoned", "occupancy", "gini_load", "gini_hard")
AGE = Waiting(per_s=0.02 / MINUTE)
PROMISED = Waiting(per_s=0.02 / MINUTE, guarantee_s=4 * MINUTE)


def limits(cap: float | None) -> Limits:
    """The promises to CSAs that are tried."""
    return Limits(occupancy=cap, over_s=4 * 3600.0, rest_s=30.0, in_a_row=3, spread_hard=0.2)


def rules_of(of: Replay, known: dict[str, Singles], cap: float) -> tuple[Rule, ...]:
    """Policies by what they are told: `truth`, `bundle`."""
    found = [policies.fifo(FIFO)]
    zero = np.zeros((len(of.centre.classes), len(of.csa_ids)))
    for name, pairs in known.items():
        believed = Believed(of.known, of.centre.handle_s, pairs)
        found.append(policies.greedy(zero, AGE.per_s, name=f"greedy match, {name}", pairs=pairs))
        for what, asked in (
            ("sets without prices", Asked(AGE)),
            ("oracle" if name == "truth" else "sets", Asked(AGE, prices=PRICES)),
            ("sets with promises", Asked(PROMISED, limits(cap), prices=LOW)),
        ):
            label = what if what == "oracle" else f"{what}, {name}"
            found.append(sets(of.centre, believed, asked, label, of.demand))
    return tuple(found)


def run(of: Replay, rules: tuple[Rule, ...], replications: int, processes: int) -> Comparison:
    """All of them on one load."""
    trial = Trial(of.centre, rules, 0, 0.0, 20.0, of.demand, of.truth)
    return compare(trial, replications, Engine(processes=processes))


def row_of(found: Comparison, name: str, figures: tuple[str, ...]) -> dict[str, Any]:
    """A policy's figures, and what it has more than first come, first served."""
    return {
        figure: {"mean": of.mean, "half": of.half, "more": more.mean, "more_half": more.half}
        for figure in figures
        for of, more in [(found.of(name, figure), found.less(name, FIFO, figure))]
    }


def share(found: Comparison, name: str) -> Estimate:
    """Of the oracle's uplift in resolution, by the jackknife over replications (Tukey, 1958)."""
    column = list(NAMES).index("resolved")
    mine, base, best = (found.values[found.names.index(one), :, column] for one in (name, FIFO, "oracle"))
    whole = (mine - base).mean() / (best - base).mean()
    n = len(mine)
    if n < 2:
        return Estimate(float(whole), float("nan"))
    left = np.array([np.delete(mine - base, i).mean() / np.delete(best - base, i).mean() for i in range(n)])
    return Estimate(float(whole), float(2 * np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())))


def curve(of: Replay, pairs: Singles, caps: list[float], replications: int, processes: int) -> list[dict[str, Any]]:
    """What each cap costs in waits and gains in rest, told the truth: alone, and under a guarantee, which overrides
    it."""
    believed = Believed(of.known, of.centre.handle_s, pairs)
    rules, asked_of = [policies.fifo(FIFO)], {FIFO: (None, None)}
    for label, waiting in (("", AGE), (", guarantee", PROMISED)):
        for cap in caps:
            name = f"cap {cap:.2f}{label}"
            asked = Asked(waiting, limits(cap if cap < 1 else None), prices=LOW)
            rules.append(sets(of.centre, believed, asked, name, of.demand))
            asked_of[name] = cap, bool(label)
    found = run(of, tuple(rules), replications, processes)
    return [
        {"policy": name, "cap": asked_of[name][0], "guarantee": asked_of[name][1], **row_of(found, name, SHOWN)}
        for name in found.names
    ]


def drawn(rows: list[dict[str, Any]]) -> str:
    """Waits and occupancy by cap, as SVG."""

    def draw(figure: Any) -> None:
        base = next(row for row in rows if row["cap"] is None)
        titles = {"mean_wait_s": "mean wait, s", **{name: name for name in ("abandoned", "resolved", "occupancy")}}
        every = figure.subplots(1, 4)
        for axes, (name, title) in zip(every, titles.items(), strict=True):
            for promised, label, colour in ((False, "cap alone", "#1b6ca8"), (True, "with a guarantee", "#c05621")):
                capped = sorted((row["cap"], i) for i, row in enumerate(rows) if row["guarantee"] is promised)
                shown = [rows[i][name] for _, i in capped]
                axes.errorbar([cap for cap, _ in capped], [one["mean"] for one in shown],
                              [one["half"] for one in shown], color=colour, marker="o", label=label)  # fmt: skip
            axes.axhline(base[name]["mean"], color="#9aa5b1", linestyle="--", label=FIFO)
            axes.set_title(title)
            axes.set_xlabel("cap on occupancy")
        every[0].legend(fontsize=7)

    return svg(draw, 11, 2.8)


def specialists(config: Path, loads: list[float], replications: int, processes: int) -> list[dict[str, Any]]:
    """What prices bring over greedy match where few can do what is asked most: a centre that a file describes."""
    rows = []
    for load in loads:
        spec = read(config, ScenarioSpec, {"policies": ["fifo", {"policy": "greedy", "age_per_minute": 0.02}, "sets"]})
        described = spec.model_copy(update={"centre": spec.centre.model_copy(update={"load": load})})
        trial = scenario_of(described).trial
        found = compare(trial, replications, Engine(processes=processes))
        more = {one: found.less("sets", "greedy match", one) for one in SHOWN}
        rows.append({"load": load, "policy": "sets", "than": "greedy match",
                     "more": {one: {"mean": of.mean, "half": of.half} for one, of in more.items()},
                     **{name: {one: found.of(name, one).mean for one in SHOWN} for name in found.names}})  # fmt: skip
        print(f"specialists, load {load:g}: sets with prices resolve {more['resolved'].mean:+.3f} ± "
              f"{more['resolved'].half:.3f} more than greedy match, contacts wait {more['mean_wait_s'].mean:+.1f} ± "
              f"{more['mean_wait_s'].half:.1f} s longer", flush=True)  # fmt: skip
    return rows


def windows(config: Path, load: float, lengths: list[float], replications: int, processes: int) -> list[dict[str, Any]]:
    """What gathering contacts before they are matched gains and costs: windows of one length, and the adaptive rule
    up to the longest, where specialists are few."""
    fixed = [{"policy": "sets", "window_s": one, "least_window_s": one, "name": f"{one:g} s"} for one in lengths if one]
    adaptive = {"policy": "sets", "window_s": max(lengths), "name": "adaptive"}
    spec = read(config, ScenarioSpec, {"policies": ["fifo", {"policy": "sets", "name": "0 s"}, *fixed, adaptive]})
    described = spec.model_copy(update={"centre": spec.centre.model_copy(update={"load": load})})
    found = compare(scenario_of(described).trial, replications, Engine(processes=processes))
    rows = []
    for name in found.names[1:]:
        more = {one: found.less(name, "0 s", one) for one in SHOWN}
        rows.append({"load": load, "window": name,
                     **{one: {"mean": found.of(name, one).mean, "more": of.mean, "more_half": of.half}
                        for one, of in more.items()}})  # fmt: skip
        print(f"window {name:>9}: resolved {found.of(name, 'resolved').mean:.3f} ({more['resolved'].mean:+.4f} ± "
              f"{more['resolved'].half:.4f})   wait {found.of(name, 'mean_wait_s').mean:.1f} s "
              f"({more['mean_wait_s'].mean:+.1f} ± {more['mean_wait_s'].half:.1f})", flush=True)  # fmt: skip
    return rows


def traded(rows: list[dict[str, Any]]) -> str:
    """Resolution against wait by the length of the window, as SVG."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        wait, resolved = ([row[name]["mean"] for row in rows] for name in ("mean_wait_s", "resolved"))
        axes.plot(wait[:-1], resolved[:-1], color="#1b6ca8", marker="o", label="always as long")
        axes.plot(wait[-1:], resolved[-1:], color="#c05621", marker="D", linestyle="none", label="adaptive")
        for row, x, y in zip(rows[:-1], wait, resolved, strict=False):
            axes.annotate(row["window"], (x, y), textcoords="offset points", xytext=(5, 5), fontsize=8)
        axes.set_xlabel("mean wait, s")
        axes.set_ylabel("resolved")
        axes.legend(fontsize=8)

    return svg(draw, 6, 3.5)


def trained(data: Path, until: int, folder: Path) -> Path:
    """A bundle of what was known before the window."""
    moment = format_time(until)
    measure_verb("train", "--data", str(data), "--until", moment, "--output", str(folder / "run"))
    measure_verb("export", str(folder / "run"), "--output", str(folder / "bundle"))
    return folder / "bundle"


def table(load: float, found: Comparison, shares: dict[str, Estimate]) -> str:
    """For the terminal."""
    lines = [f"\nload {load:g}",
             f"{'':32}{'resolved':>10}{'more':>16}{'of oracle':>16}{'wait, s':>9}{'more':>14}{'abandon':>9}"
             f"{'occupancy':>11}{'Gini hard':>11}{'more':>17}"]  # fmt: skip
    for name in found.names:
        of = {figure: found.of(name, figure) for figure in NAMES}
        more = {figure: found.less(name, FIFO, figure) for figure in NAMES}
        part = shares[name]
        lines.append(
            f"{name:32}{of['resolved'].mean:>10.3f}{more['resolved'].mean:>+9.3f} ±{more['resolved'].half:.3f}"
            f"{part.mean:>9.2f} ± {part.half:.2f}{of['mean_wait_s'].mean:>9.1f}{more['mean_wait_s'].mean:>+8.1f} "
            f"±{more['mean_wait_s'].half:4.1f}{of['abandoned'].mean:>9.3f}{of['occupancy'].mean:>11.3f}"
            f"{of['gini_hard'].mean:>11.3f}{more['gini_hard'].mean:>+9.3f} ± {more['gini_hard'].half:.3f}"
        )
    return "\n".join(lines)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All loads."""
    data = folder / "centre"
    if not data.exists():
        generate(Settings(args.contacts, args.csas, ("en", "es"), args.seed, days=args.days), data)
    arrived = pq.read_table(data / "contacts.parquet", columns=["arrived_at"])["arrived_at"]
    last = int(np.asarray(arrived.cast("int64")).max())
    begin = last // DAY * DAY - 4 * DAY
    bundle = folder / "bundle"
    if not args.no_bundle and not bundle.exists():
        trained(data, begin, folder)
    spec = ReplaySpec.model_validate(
        {"tables": str(data), "from": format_time(begin), "to": format_time(begin + DAY), "outcomes": "truth",
         "hard_share": 0.2, "interval_minutes": 60}
    )  # fmt: skip
    rows, more = [], []
    for load in args.loads:
        of = replay(spec.model_copy(update={"load": load}))
        truth = np.asarray(1 / (1 + np.exp(-of.truth.pairs)), np.float32)
        known = {"truth": truth}
        if not args.no_bundle:
            known["bundle"] = pair_values(bundle, of.window, of.csa_ids)
        found = run(of, rules_of(of, known, args.cap), args.replications, args.processes)
        shares = {name: share(found, name) for name in found.names}
        print(table(load, found, shares), flush=True)
        rows += [
            {"load": load, "policy": name, "contacts": len(of.demand),
             "of_oracle": {"mean": shares[name].mean, "half": shares[name].half},
             **row_of(found, name, NAMES)}
            for name in found.names
        ]  # fmt: skip
    if args.caps:
        of = replay(spec.model_copy(update={"load": max(args.loads)}))
        truth = np.asarray(1 / (1 + np.exp(-of.truth.pairs)), np.float32)
        more = curve(of, truth, args.caps, args.replications, args.processes)
        print(f"\nload {max(args.loads):g}: what a cap costs")
        for row in more:
            of_row = [
                f"{name} {row[name]['mean']:.3f}" for name in ("mean_wait_s", "abandoned", "resolved", "occupancy")
            ]
            print(f"{row['policy']:24}{'   '.join(of_row)}")
    gathered = windows(args.described, args.windows_load, args.windows, args.replications, args.processes)
    few = specialists(args.described, args.described_loads, args.replications, args.processes)
    return {
        "contacts": args.contacts, "csas": args.csas, "days": args.days, "seed": args.seed, "cap": args.cap,
        "replications": args.replications, "hard_share": 0.2, "rows": rows, "caps": more, "specialists": few,
        "windows": gathered,
    }  # fmt: skip


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=90_000)
    parser.add_argument("--csas", type=int, default=100)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.4, 0.65, 1.0])
    parser.add_argument("--cap", type=float, default=0.9)
    parser.add_argument("--caps", type=float, nargs="*", default=[1.0, 0.95, 0.9, 0.85, 0.8])
    parser.add_argument("--replications", type=int, default=8)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--described", type=Path, default=Path("configs/simulate.yaml"), help="a centre of specialists")
    parser.add_argument("--described-loads", type=float, nargs="*", default=[0.75, 0.92, 1.1])
    parser.add_argument("--windows", type=float, nargs="+", default=[0.0, 5.0, 15.0, 30.0, 60.0], help="lengths, s")
    parser.add_argument("--windows-load", type=float, default=0.92)
    parser.add_argument("--no-bundle", action="store_true", help="told the truth alone")
    parser.add_argument("--folder", type=Path, help="keep the centre and the bundle here, and use those that are there")
    parser.add_argument("--output", type=Path, help="JSON file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() if args.folder is None else nullcontext(args.folder) as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        found = measure(args, Path(folder))
    if args.output:
        atomic_write(args.output, json.dumps(found, indent=1) + "\n")
        if found["caps"]:
            atomic_write(args.output.with_suffix(".svg"), drawn(found["caps"]))
        atomic_write(args.output.with_name("windows.svg"), traded(found["windows"]))


if __name__ == "__main__":
    main()
