"""What the analysis of experiments promises and what it keeps: published numbers, errors under dependence, seconds.

Notable: contacts of a block share a shock, half of it from the block before; sites and customers have rates of their
own; the day has a shape. So contacts as if each had been drawn are wrong far too often, and so is looking again and
again, which stands in the table beside what is used. Every experiment is drawn, and looked at after each block or day.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.experiment.effects import setting_of
from evaluation.experiment.estimate import estimate_in
from evaluation.experiment.frame import FRAME
from evaluation.experiment.plan import Plan
from evaluation.experiment.schedule import customer_arms, draw, place
from evaluation.experiment.spans import spans_of
from evaluation.experiment.stats.linear import Told
from evaluation.experiment.stats.sequential import Sample, best_rho, normal_mixture, relative_lift, sample_size
from twotower.clock import DAY, HOUR, parse_time
from twotower.files import atomic_write

Doubles = npt.NDArray[np.float64]

SITES, CSAS, CUSTOMERS = 24, 40, 4000
Z = 1.959964
DESIGNS: dict[str, dict[str, Any]] = {
    "switchback": {"design": "switchback", "unit": "centre", "block_hours": 4.0, "wash_out_minutes": 30.0},
    "switchback, short": {"design": "switchback", "unit": "centre", "block_hours": 2.0, "wash_out_minutes": 15.0,
                          "most_in_a_row": 3},
    "switchback of sites": {"design": "switchback", "unit": "site", "block_hours": 24.0, "wash_out_minutes": 30.0},
    "cluster": {"design": "cluster", "unit": "site"},
    "customer": {"design": "customer", "unit": "csa", "block_hours": 24.0, "balance": "none"},
}  # fmt: skip


def published() -> list[dict[str, Any]]:
    """Numbers that others have published, and ours."""
    lift = relative_lift(Sample(1396.87, 52377.9767, 3000), Sample(2422.7, 134698.29, 3461), 0.05, 1000)
    rough, exact = best_rho(100, 0.05, False), best_rho(100, 0.05)
    rows: list[tuple[str, float, float]] = [
        ("contacts an arm, 0.10 to 0.11", 14_749, sample_size(0.10, 0.11)),
        ("contacts an arm, 0.70 to 0.72", 8_077, sample_size(0.70, 0.72)),
        ("contacts an arm, 0.80 to 0.81", 24_638, sample_size(0.80, 0.81)),
        ("sequential lift", 0.50336, lift.value),
        ("its interval, low", -0.55844, lift.low),
        ("its interval, high", 1.56516, lift.high),
        ("normal mixture, usual ρ", 12.60056, rough),
        ("its bound", 30.35209, float(normal_mixture(100, rough, 0.05))),
        ("normal mixture, exact ρ", 12.17735, exact),
        ("its bound", 30.35122, float(normal_mixture(100, exact, 0.05))),
    ]
    return [{"what": what, "published": told, "here": here} for what, told, here in rows]


def plan_of(name: str, seed: int, weeks: int) -> Plan:
    """A plan of one of the designs."""
    ends = pd.Timestamp("2026-03-02T00:00:00Z") + pd.Timedelta(weeks=weeks)
    return Plan.model_validate({
        "name": name, "hypothesis": "", "begins": "2026-03-02T00:00:00Z", "ends": ends.isoformat(), "seed": seed,
        "control": {"name": "control", "policies": ["a"]}, "treatment": {"name": "treatment", "policies": ["b"]},
        "primary": {"metric": "resolved", "smallest_effect": 0.03}, **DESIGNS[name],
    })  # fmt: skip


def contacts_of(
    plan: Plan, schedule: pd.DataFrame, contacts: int, effect: float, shock: float, seed: int
) -> pd.DataFrame:
    """A frame of contacts whose resolution is known in its parts: intent, hour, block or site, customer, arm."""
    rng = np.random.default_rng((seed, 1))
    arrived = _arrivals(rng, parse_time(plan.begins), parse_time(plan.ends), contacts)
    who = rng.integers(0, CUSTOMERS, contacts)
    units = {"centre": ["centre"], "site": [f"site {i:02}" for i in range(SITES)]}.get(plan.unit, [])
    if units:
        unit = np.array(units, object)[rng.integers(0, len(units), contacts)]
    else:
        arms = customer_arms(plan, [f"k{i}" for i in who])
        unit = np.array([plan.control.name, plan.treatment.name], object)[arms]
    placed = place(plan, schedule, arrived, unit)
    intent = rng.integers(0, 12, contacts)
    known = 0.6 + 0.2 * intent / 11 + 0.03 * np.sin(2 * np.pi * arrived / DAY)
    shared = _shared(rng, arrived, plan, shock)
    if plan.unit == "site":
        shared = shared + rng.normal(0, shock, SITES)[np.unique(unit, return_inverse=True)[1]]
    if plan.design == "customer":  # pools are drawn anew and are not all as good
        shared = shared + rng.normal(0, shock / 2, (int(placed.block.max()) + 1, 2))[placed.block, placed.arm]
    shared = shared + 0.1 * rng.normal(0, 1, CUSTOMERS)[who]
    good = rng.random(contacts) < np.clip(known + shared + effect * (placed.arm == 1), 0.01, 0.99)
    columns: dict[str, Any] = dict.fromkeys(FRAME, np.nan) | {
        "contact_id": np.arange(contacts), "customer_id": who, "unit": unit, "block": placed.block, "arm": placed.arm,
        "arrived_at": pd.to_datetime(arrived, unit="us", utc=True), "washed": placed.washed, "covariate": known,
        "resolved": good.astype(np.float64),
    }  # fmt: skip
    return pd.DataFrame(columns)


def _arrivals(rng: np.random.Generator, begins: int, ends: int, n: int) -> npt.NDArray[np.int64]:
    at = rng.integers(begins, ends, 4 * n)
    hour = at % DAY / HOUR
    return np.sort(at[rng.random(4 * n) < 0.15 + 0.85 * np.exp(-((hour - 14) ** 2) / 20)][:n])


def _shared(rng: np.random.Generator, arrived: npt.NDArray[np.int64], plan: Plan, shock: float) -> Doubles:
    """What contacts of the same two hours share, most of it from the two hours before."""
    step = ((arrived - parse_time(plan.begins)) // (2 * HOUR)).astype(np.int64)
    fresh = rng.normal(0, shock, int(step.max()) + 1)
    found = np.zeros_like(fresh)
    for i in range(len(fresh)):
        found[i] = 0.7 * (found[i - 1] if i else 0.0) + fresh[i] * np.sqrt(1 - 0.7**2)
    return found[step]


@dataclass
class Count:
    """What happened in the experiments of one design and effect."""

    effect: float
    rejected: int = 0
    covered: int = 0
    crossed: int = 0
    """The confidence sequence left out 0 at some look."""
    left: int = 0
    """It left out the truth at some look."""
    naive: int = 0
    """Contacts as if each had been drawn."""
    peeked: int = 0
    """A fixed interval looked at after every block, from the tenth look on."""
    seconds: float = 0.0
    wider: float = 0.0
    values: list[float] | None = None


def measure(name: str, effect: float, experiments: int, contacts: int, weeks: int, shock: float) -> dict[str, Any]:
    """A row of the table."""
    count = Count(effect, values=[])
    for seed in range(experiments):
        plan = plan_of(name, seed, weeks)
        units = {"centre": ["centre"], "site": [f"site {i:02}" for i in range(SITES)]}.get(
            plan.unit, [f"a{i:02}" for i in range(CSAS)]
        )
        schedule = draw(plan, units)
        _add(count, plan, schedule, contacts_of(plan, schedule, contacts, effect, shock, seed))
    n = experiments
    return {
        "design": name, "effect": effect, "experiments": n, "mean": float(np.mean(count.values or [0.0])),
        "rejected": count.rejected / n, "covered": count.covered / n, "crossed": count.crossed / n,
        "sequence_covered": 1 - count.left / n, "times_as_wide": count.wider / n, "as_if_contacts": count.naive / n,
        "peeking": count.peeked / n, "seconds": count.seconds / n,
    }  # fmt: skip


def _add(count: Count, plan: Plan, schedule: pd.DataFrame, frame: pd.DataFrame) -> None:
    begun = time.process_time()
    setting = setting_of(plan, spans_of(plan, schedule), frame, draws=1000)
    outcome = setting.outcome("resolved")
    found = estimate_in(setting, outcome)
    count.seconds += time.process_time() - begun
    one, seen = found.effect, found.monitored
    count.rejected += one.p <= 0.05
    count.covered += one.low <= count.effect <= one.high
    count.crossed += seen.crossed is not None
    count.left += bool(((seen.low > count.effect) | (seen.high < count.effect)).any())
    count.wider += (seen.high[-1] - seen.low[-1]) / (one.high - one.low) if np.isfinite(seen.high[-1]) else np.nan
    counted = setting.cells.counted
    values = outcome.values if outcome.values is not None else frame["resolved"].to_numpy()
    y, arm = values[counted], frame["arm"][counted]
    parts = [y[(arm == a).to_numpy()] for a in (0, 1)]
    se = float(np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)))
    count.naive += Told(float(parts[1].mean() - parts[0].mean()), se, float(len(y))).p() <= 0.05
    late = slice(9, None)
    count.peeked += bool((np.abs(seen.value[late]) > Z * seen.se[late]).any())
    if count.values is not None:
        count.values.append(one.value)


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = ["published                             there         here"]
    lines += [f"{one['what']:<32}{one['published']:>12,.5f} {one['here']:>12,.5f}" for one in found["published"]]
    head = (
        "effect  experiments    mean  rejected  covered  sequence: crossed  covered  × as wide  as if contacts  peeking"
    )
    lines += ["", f"{'design':<20} {head}        s"]
    for row in found["designs"]:
        lines.append(
            f"{row['design']:<20} {row['effect']:6.3f}  {row['experiments']:11d}  {row['mean']:+.4f}  "
            f"{row['rejected']:8.3f}  {row['covered']:7.3f}  {row['crossed']:17.3f}  {row['sequence_covered']:7.3f}  "
            f"{row['times_as_wide']:9.2f}  {row['as_if_contacts']:14.3f}  {row['peeking']:7.3f}  {row['seconds']:7.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse options, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--experiments", type=int, default=40, help="of each design and effect (default 40)")
    parser.add_argument("--contacts", type=int, default=20_000)
    parser.add_argument("--weeks", type=int, default=4)
    parser.add_argument("--effects", type=float, nargs="*", default=[0.0, 0.03])
    parser.add_argument("--shock", type=float, default=0.04, help="standard deviation of what a block shares")
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS), choices=list(DESIGNS))
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    rows = [
        measure(name, effect, args.experiments, args.contacts, args.weeks, args.shock)
        for name in args.designs
        for effect in args.effects
    ]
    found = {
        "published": published(), "designs": rows, "contacts": args.contacts, "weeks": args.weeks, "shock": args.shock,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1},
    }  # fmt: skip
    print(table(found))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(args.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
