"""How often a canary takes back a challenger that does no harm, and how soon one that does.

Makes canaries as `twotower rollout` plans them by default (blocks of an hour by lot), with shocks that an hour's
contacts share, and judges them by the rollout's own code. An always-valid sequence does not change when later data
come, so the first look at which it crosses is read from one judgement at the end. Claims: of harmless challengers 5 %
at most are taken back by a guardrail; of those that resolve 15 points less nine of ten are, before half of the plan.

    python benchmarks/rollout.py --runs 200
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.experiment.frame import FRAME
from evaluation.experiment.guards import Guard
from evaluation.experiment.plan import Plan
from evaluation.experiment.schedule import draw, place
from evaluation.report_text import table
from loop.rollout.judge import Judged, judge, plan_of
from loop.rollout.spec import CanarySpec
from loop.rollout.state import Who
from loop.rollout.told import Looked
from twotower.clock import DAY, HOUR, parse_time
from twotower.files import atomic_write
from twotower.progress import track

BEGINS = parse_time("2026-03-02T00:00:00Z")
BOTH = Who(1, "1" * 64, ""), Who(2, "2" * 64, "")


@dataclass(frozen=True)
class Harm:
    """What a challenger does."""

    name: str
    resolved: float = 0.0
    """Points, as a share."""
    wait: float = 1.0
    """Times the champion's."""
    abandoned: float = 0.0
    csat: float = 0.0


HARMS = (
    Harm("none (A/A)"),
    Harm("resolves 1 point less", -0.01),
    Harm("resolves 3 points less (the margin)", -0.03),
    Harm("resolves 5 points less", -0.05),
    Harm("resolves 8 points less", -0.08),
    Harm("resolves 15 points less", -0.15),
    Harm("waits half as long again", wait=1.5),
    Harm("waits twice as long, 5 points more give up", wait=2.0, abandoned=0.05),
    Harm("a broken feature: all of it", -0.15, 2.0, 0.05, -0.3),
    Harm("resolves 3 points more", 0.03),
)


def frame(plan: Plan, schedule: pd.DataFrame, harm: Harm, a_day: int, random: np.random.Generator) -> pd.DataFrame:
    """Contacts of a plan's time: a day that peaks in the early afternoon, shocks by hour (resolution 3 points, waits
    20 %, which pass slowly), 65 % resolved, a mean wait of 60 s, 5 % give up, every third rates."""
    begins, ends = parse_time(plan.begins), parse_time(plan.ends)
    n = int(a_day * (ends - begins) / DAY)
    at = np.sort(random.integers(begins, ends, 4 * n))
    hour = at % DAY / DAY * 24
    at = at[random.random(len(at)) < 0.1 + 0.9 * np.exp(-((hour - 14) ** 2) / 20)][:n]
    if len(at) < n:
        at = np.sort(random.choice(at, n))
    placed = place(plan, schedule, at, np.full(n, "centre", object))
    arm = np.maximum(placed.arm, 0)
    shock = shocks(int((ends - begins) // HOUR) + 1, random)[:, (at - begins) // HOUR]
    lost = random.random(n) < 0.05 + harm.abandoned * arm
    good = random.random(n) < 0.65 + harm.resolved * arm + 0.03 * shock[0]
    rated = (random.random(n) < 1 / 3) & ~lost
    columns: dict[str, Any] = {
        "contact_id": [f"c{i}" for i in range(n)], "customer_id": [f"k{i}" for i in random.integers(0, n, n)],
        "arrived_at": pd.to_datetime(at, unit="us", utc=True).as_unit("us"), "unit": "centre", "block": placed.block,
        "arm": placed.arm, "washed": placed.washed, "csa_id": np.where(lost, None, "ada"),
        "policy": np.where(lost, None, np.array([plan.control.policies[0], plan.treatment.policies[0]], object)[arm]),
        "resolved": np.where(lost, 0.0, good), "abandoned": lost.astype(float),
        "wait_s": random.exponential(60 * np.exp(0.2 * shock[1]) * np.where(arm == 1, harm.wait, 1.0)),
        "handle_minutes": np.where(lost, np.nan, 6.0),
        "csat": np.where(rated, np.clip(random.normal(3.9 + harm.csat * arm, 0.9), 1, 5), np.nan), "quality": np.nan,
        "repeat": (random.random(n) < 0.2 - 0.3 * harm.resolved * arm).astype(float), "transferred": 0.0,
        "covariate": np.nan, "language": "en", "intent": "i", "tenure": None, "load": "usual",
    }  # fmt: skip
    return pd.DataFrame(columns)[list(FRAME)]


def shocks(hours: int, random: np.random.Generator) -> Any:
    """Of resolution and waits (2, hours), standard normal; what is left of one hour's in the next is 0.7."""
    fresh = random.normal(0, 1, (2, hours))
    found = fresh.copy()
    for i in range(1, hours):
        found[:, i] = 0.7 * found[:, i - 1] + np.sqrt(1 - 0.7**2) * fresh[:, i]
    return found


@dataclass(frozen=True)
class Ended:
    """How one canary ended: `taken back`, `goes on`, `not shown`; by which metrics, after how many contacts of both and
    days."""

    how: str
    by: tuple[str, ...]
    contacts: int
    days: float


def ended(found: Judged, spec: CanarySpec, arrived: Any) -> Ended:
    """From one judgement at the plan's end."""
    broken = [one for one in found.guards if one.broken_at is not None]
    back = min((one.broken_at for one in broken if one.broken_at is not None), default=None)
    on = _held(found, spec)
    moment = min(one for one in (back, on, BEGINS + spec.days * DAY) if one is not None)
    how = "taken back" if moment == back else "goes on" if moment == on else "not shown"
    by = tuple(one.of.metric for one in broken if one.broken_at == back) if how == "taken back" else ()
    return Ended(how, by, int((arrived < moment).sum()), (moment - BEGINS) / DAY)


def _held(found: Judged, spec: CanarySpec) -> int | None:
    """The first look at which the primary metric is held and as many blocks and contacts are there as are asked for."""
    guard: Guard = found.guards[0]
    seen, sign = guard.seen, 1.0 if guard.of.better == "lower" else -1.0
    if seen is None or found.refused:
        return None
    high = seen.high if sign > 0 else -seen.low
    for i, moment in enumerate(seen.known_at.tolist()):
        there = [one for one in found.timeline if one.ends <= moment and one.contacts]
        contacts = [sum(one.contacts for one in there if one.arm == arm) for arm in (0, 1)]
        blocks = [sum(one.arm == arm for one in there) for arm in (0, 1)]
        if high[i] < guard.of.margin and min(contacts) >= spec.contacts and min(blocks) >= spec.blocks:
            return int(moment)
    return None


def run(harm: Harm, seed: int, a_day: int, spec: CanarySpec) -> Ended:
    """One canary, with a schedule of its own."""
    plan = plan_of(spec.model_copy(update={"seed": seed}), *BOTH, BEGINS)
    schedule = draw(plan, [plan.unit])
    made = frame(plan, schedule, harm, a_day, np.random.default_rng((seed, 7)))
    end = parse_time(plan.ends)
    found = judge(plan, schedule, spec, Looked(made, None, end), end)
    return ended(found, spec, made["arrived_at"].astype("int64").to_numpy())


def summary(harm: Harm, runs: list[Ended]) -> dict[str, Any]:
    """Shares, and medians over those that ended so."""
    found: dict[str, Any] = {"harm": asdict(harm), "runs": len(runs)}
    for how in ("taken back", "goes on", "not shown"):
        those = [one for one in runs if one.how == how]
        share = len(those) / len(runs)
        found[how] = {
            "share": share, "error": 1.96 * float(np.sqrt(share * (1 - share) / len(runs))),
            "contacts": float(np.median([one.contacts for one in those])) if those else None,
            "days": float(np.median([one.days for one in those])) if those else None,
        }  # fmt: skip
    by = [metric for one in runs for metric in one.by]
    found["by"] = {metric: by.count(metric) for metric in sorted(set(by))}
    return found


def shown(found: list[dict[str, Any]]) -> str:
    """The table."""
    rows = [("challenger", "taken back", "after contacts", "days", "goes on", "after contacts", "days", "not shown")]
    for one in found:
        back, on = one["taken back"], one["goes on"]
        rows.append(
            (
                one["harm"]["name"], f"{back['share']:.1%} ± {back['error']:.1%}", _number(back["contacts"], "{:,.0f}"),
                _number(back["days"], "{:.1f}"), f"{on['share']:.1%}", _number(on["contacts"], "{:,.0f}"),
                _number(on["days"], "{:.1f}"), f"{one['not shown']['share']:.1%}",
            )
        )  # fmt: skip
    return table(rows)


def _number(value: float | None, how: str) -> str:
    return "–" if value is None else how.format(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="of each challenger (200)")
    parser.add_argument("--a-day", type=int, default=1500, help="contacts (1500)")
    parser.add_argument("--harms", type=int, default=len(HARMS), help="only the first so many challengers")
    parser.add_argument("--output", type=Path, default=None, help="write the figures here as JSON")
    parser.add_argument("--canary", type=json.loads, default={}, help="fields of the canary instead, as JSON")
    args = parser.parse_args()
    spec, found = CanarySpec.model_validate(args.canary), []
    for harm in HARMS[: args.harms]:
        runs = [run(harm, seed, args.a_day, spec) for seed in track(range(args.runs), harm.name)]
        found.append(summary(harm, runs))
    print(shown(found))
    told = {"rollout": {"runs": args.runs, "a_day": args.a_day, "spec": spec.model_dump(mode="json"), "found": found}}
    if args.output is not None:
        atomic_write(args.output, json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
