"""The demo's last stage: an experiment designed from what was known before the test, run on the test's own days in a
simulated centre, and read out by the same steps as `twotower experiment analyse`.

Notable: the design sees nothing of the test. The treatment is the bundle's scores, the control the queue's order. What
the experiment says can be held against the truth here, both policies alone on the same contacts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twotower.clock import DAY, SECOND, format_time, parse_time

if TYPE_CHECKING:
    from evaluation.experiment.analyse import Analysis
    from evaluation.experiment.plan import Plan
    from evaluation.experiment.rehearse import Rehearsed
    from loop.stages import Stages

PLAN, TABLES, ANALYSIS = "plan", "tables", "analysis"
DAYS, BLOCK_HOURS = 14, 4.0
EFFECT = 0.1  # the least worth having, resolution; more where two weeks of so small a centre cannot find it
GUARDRAILS: tuple[dict[str, Any], ...] = (
    {"metric": "wait_s", "better": "lower", "margin": 60.0},
    {"metric": "abandoned", "better": "lower", "margin": 0.03},
)
PRICES = {"repeat": 0.0, "resolved": 6.0}  # nobody comes back in it: who is not helped is priced instead


@dataclass(frozen=True)
class Tried:
    """What the experiment was, what it said, and what was true."""

    plan: Plan
    analysis: Analysis
    rehearsed: Rehearsed


def try_experiment(
    stages: Stages, centre: Path, bundle: Path, output: Path, until: str, seed: int, load: float, patience: float
) -> Tried:
    """Design, run and read out; folders `plan`, `tables` and `analysis` in the new folder `output`.

    until: when the test begins; load, patience (a mean, minutes): as in the simulated day before.
    """
    from evaluation.experiment.analyse_html import write_analysis
    from evaluation.experiment.read_out import read_out

    begins = -(-parse_time(until, "until") // DAY) * DAY
    output.mkdir()
    with stages.stage("design"):
        plan, schedule = _designed(centre, output / PLAN, begins, seed)
    with stages.stage("experiment"):
        rehearsed = _run(plan, schedule, centre, bundle, output / TABLES, seed, load, patience)
        found = read_out(plan, schedule, output / TABLES)
        write_analysis(found, output / ANALYSIS)
    return Tried(plan, found, rehearsed)


def _designed(centre: Path, output: Path, begins: int, seed: int) -> tuple[Plan, Any]:
    from evaluation.experiment.design import designed, least_effect
    from evaluation.experiment.design_html import write_design
    from evaluation.experiment.design_spec import Asked
    from twotower.tables.log import Log

    left = (int(Log.load(centre).contacts.arrived_at[-1]) - begins) // DAY
    given = {
        "name": "matcher against queue", "control": {"name": "queue", "policies": ["queue"]},
        "treatment": {"name": "matcher", "policies": ["matcher"]}, "design": "switchback",
        "until": format_time(begins - SECOND), "begins": format_time(begins), "days": min(DAYS, left),
        "block_hours": BLOCK_HOURS, "guardrails": GUARDRAILS, "prices": PRICES, "seed": seed,
    }  # fmt: skip
    least = least_effect(Asked.model_validate({**given, "effect": EFFECT}), centre)
    effect = max(EFFECT, math.ceil(100 * least) / 100 if math.isfinite(least) else 0.0)
    found = designed(Asked.model_validate({**given, "effect": effect}), centre)
    write_design(found, output)
    return found.plan, found.schedule


def _run(
    plan: Plan, schedule: Any, centre: Path, bundle: Path, output: Path, seed: int, load: float, patience: float
) -> Rehearsed:
    from evaluation.experiment.rehearse import rehearse
    from evaluation.simulate.policies import fifo
    from evaluation.simulate.replay import ReplaySpec, replay
    from evaluation.simulate.replay_bundle import AGE_PER_S, SCANNED, pair_values, scores_rule

    spec = ReplaySpec.model_validate({
        "tables": str(centre), "from": plan.begins, "to": plan.ends, "outcomes": "truth", "load": load,
        "patience": {"mean_minutes": patience}, "interval_minutes": 120, "seed": seed,
    })  # fmt: skip
    of = replay(spec)
    pairs = pair_values(bundle, of.window, of.csa_ids)
    treatment = scores_rule(of, pairs, AGE_PER_S, SCANNED, "matcher")
    return rehearse(plan, schedule, of, fifo("queue"), treatment, centre, output, seed)
