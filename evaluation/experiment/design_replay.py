"""The planned experiment on the last days of the user's own tables, played again: real arrivals, texts, shifts and
people, two policies, and what the switchback would have seen of their difference.

Notable: outcomes are a model of the log (or a generated centre's truth), so the effect here is no forecast; how much of
it carries over from block to block, and how wrong an A/B test of contacts would be, depends on it far less.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.experiment import design_spec
from evaluation.experiment.design_history import History
from evaluation.experiment.plan import Plan
from evaluation.experiment.simulated import Experiment, Testbed
from evaluation.experiment.simulated_bias import METRICS, Bias, biases
from evaluation.experiment.simulated_carry import Carried, carried
from evaluation.simulate.described import MINUTE, PatienceSpec
from evaluation.simulate.policies import Rule, fifo, greedy
from evaluation.simulate.replay import Replay, ReplaySpec, replay
from twotower.clock import DAY, format_time
from twotower.errors import ConfigError

SCANNED = 16


@dataclass(frozen=True)
class Replayed:
    """What it showed."""

    begins: int
    """µs UTC"""
    days: int
    policies: tuple[str, str]
    load: float
    biases: tuple[Bias, ...]
    carried: tuple[Carried, ...]
    notes: tuple[str, ...]


def replayed(asked: design_spec.Replayed, plan: Plan, history: History, folder: str | Path) -> Replayed:
    """The last days of the history. Raises ConfigError where it has fewer, and what `replay` and the bundle raise."""
    if asked.days > history.days:
        raise ConfigError(f"replay.days: {asked.days}; the history has {history.days} whole days")
    begins = history.ends - asked.days * DAY
    patience = None if asked.patience_minutes is None else PatienceSpec(mean_minutes=asked.patience_minutes)
    given = {"tables": str(folder), "from": format_time(begins), "to": format_time(history.ends),
             "outcomes": asked.outcomes, "patience": patience, "interval_minutes": 60.0}  # fmt: skip
    of = replay(ReplaySpec.model_validate(given))
    treatment = _treatment(asked, of)
    bed = Testbed(of.centre, fifo("first come, longest idle"), treatment, demand=of.demand, truth=of.truth)
    again = _in_window(plan, begins, history.ends)
    found = biases([(of.centre.load(), bed)], [again], asked.replications)
    left = carried(Experiment(bed, again), METRICS, asked.replications)
    names = bed.control.name, bed.treatment.name
    return Replayed(begins, asked.days, names, of.centre.load(), found, left, of.notes)


def _treatment(asked: design_spec.Replayed, of: Replay) -> Rule:
    age = asked.age_per_minute / MINUTE
    if asked.bundle is None:
        return greedy(of.known, age, scanned=SCANNED, name="best pair by class")
    from evaluation.simulate.replay_bundle import pair_values, scores_rule

    pairs = pair_values(asked.bundle, of.window, of.csa_ids)
    return scores_rule(of, pairs, age, SCANNED, "the bundle's scores")


def _in_window(plan: Plan, begins: int, ends: int) -> Plan:
    """The plan's blocks and wash-out as a switchback of the centre in the replayed days."""
    switchback = plan.design == "switchback"
    return Plan.model_validate(
        plan.model_dump()
        | {
            "design": "switchback", "unit": "centre", "begins": format_time(begins), "ends": format_time(ends),
            "block_hours": plan.block_hours if switchback else 4.0,
            "wash_out_minutes": plan.wash_out_minutes if switchback else 0.0, "pauses": (), "balance": "pairs",
            "share": 0.5, "most_in_a_row": None,
        }
    )  # fmt: skip
