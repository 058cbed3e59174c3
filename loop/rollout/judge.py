"""The canary's plan, and how champion and challenger stand by it at a look.

Notable: two questions have two answers. Whether to go on needs an experiment whose checks have passed, for a number
that nobody can trust lets nobody through; whether to go back needs a guardrail's sequence alone, for a customer who is
harmed is not helped by a sample ratio. Bounds are those of an always-valid sequence over blocks, so a look every few
minutes costs nothing, and the level is shared among metrics, so many guardrails do not make false alarms likely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.rollout.spec import CanarySpec
from loop.rollout.state import Who
from loop.rollout.told import Looked
from twotower.clock import DAY, HOUR, format_time

if TYPE_CHECKING:
    import pandas as pd

    from evaluation.experiment.analyse import Block
    from evaluation.experiment.guards import Guard
    from evaluation.experiment.plan import Plan

CHAMPION, CHALLENGER = "champion", "challenger"
ANSWERED_BY = 16
"""Letters of a digest by which a plan names a bundle."""
NOT_FOLLOWED = ("schedule drawn", "schedule followed", "policies of neither arm")
"""Checks of an experiment that more data will not mend: who serves does not do as the plan says."""
DRAWS = 500
SHOWN = 200
"""Looks of a sequence that are kept for the page."""


def plan_of(spec: CanarySpec, champion: Who, challenger: Who, now: int) -> Plan:
    """From the next whole hour on (µs UTC). `twotower experiment analyse` reads it as any other."""
    from evaluation.experiment.deciders import BUNDLE
    from evaluation.experiment.plan import Arm, Plan, Primary, Stopping

    begins = -(-now // HOUR) * HOUR
    arms = {
        name: Arm(name=name, policies=(f"{BUNDLE}{who.digest[:ANSWERED_BY]}",))
        for name, who in ((CHAMPION, champion), (CHALLENGER, challenger))
    }
    asked = spec.primary.guardrail(spec.level)
    return Plan(
        name=f"rollout of version {challenger.version}",
        hypothesis=f"version {challenger.version} is not worse than version {champion.version}",
        design="switchback", unit="centre", begins=format_time(begins), ends=format_time(begins + spec.days * DAY),
        control=arms[CHAMPION], treatment=arms[CHALLENGER], share=spec.share, block_hours=spec.block_hours,
        wash_out_minutes=spec.wash_out_minutes, balance="pairs" if spec.share == 0.5 else "none",
        most_in_a_row=spec.most_in_a_row, seed=spec.seed,
        primary=Primary(metric=asked.metric, better=asked.better, smallest_effect=spec.primary.margin or 0.01,
                        alpha=2 * spec.level),
        guardrails=spec.guards(), history_days=spec.history_days, repeat_days=spec.repeat_days,
        mature_days=spec.mature_days, not_followed=spec.not_followed,
        stopping=Stopping(rule="always_valid", tuned=spec.tuned),
    )  # fmt: skip


@dataclass(frozen=True)
class Turns:
    """Whose turn it is by a plan's schedule. B blocks in order, µs UTC."""

    begins: Any
    ends: Any
    arm: Any
    """1: the challenger's"""

    @classmethod
    def of(cls, plan: Plan, schedule: pd.DataFrame) -> Turns:
        """Raises DataError for a schedule that is none."""
        from evaluation.experiment.spans import spans_of

        spans = spans_of(plan, schedule)
        return cls(spans.begins, spans.ends, spans.arm)

    def challengers(self, now: int) -> bool:
        """Whether it is the challenger's turn; before, between and after blocks it is not."""
        at = int(np.searchsorted(self.begins, now, side="right")) - 1
        return bool(at >= 0 and now < self.ends[at] and self.arm[at] == 1)

    def next(self, now: int) -> int | None:
        """When a block begins or ends next; None: none does."""
        later = [int(one[one > now].min()) for one in (self.begins, self.ends) if (one > now).any()]
        return min(later, default=None)

    def ended(self, since: int, now: int) -> bool:
        """Whether a block ended in (since, now]."""
        return bool(((self.ends > since) & (self.ends <= now)).any())


@dataclass(frozen=True)
class Judged:
    """How both stand at a look. Pairs are of champion and challenger."""

    at: int
    contacts: tuple[int, int] = (0, 0)
    blocks: tuple[int, int] = (0, 0)
    """With a contact that counts."""
    guards: tuple[Guard, ...] = ()
    """The primary metric's first."""
    refused: tuple[str, ...] = ()
    """Why it must not go on by these numbers."""
    not_followed: str | None = None
    """That whoever serves does not do as the plan says."""
    timeline: tuple[Block, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def broken(self) -> tuple[Guard, ...]:
        """Metrics whose sequence shows more harm than the margin."""
        return tuple(one for one in self.guards if one.state == "broken")

    def missing(self, spec: CanarySpec) -> list[str]:
        """What is not there yet for going on."""
        found = list(self.refused)
        if min(self.contacts) < spec.contacts:
            found.append(f"{min(self.contacts):,} contacts of {spec.contacts:,} of each bundle")
        if min(self.blocks) < spec.blocks:
            found.append(f"{min(self.blocks)} blocks of {spec.blocks} of each bundle")
        must = self.guards if spec.guardrails_must == "be held" else self.guards[:1]
        found += [f"{said(one)}: not ruled out that it is beyond the margin" for one in must if one.state != "held"]
        return found if self.guards else (found or ["no block of either bundle"])

    def as_json(self) -> dict[str, Any]:
        """Plain values, sequences thinned to the latest looks."""
        return {
            "at": format_time(self.at), "contacts": list(self.contacts), "blocks": list(self.blocks),
            "refused": list(self.refused), "not_followed": self.not_followed, "notes": list(self.notes),
            "metrics": [_guard(one) for one in self.guards],
            "timeline": [[one.begins, one.ends, one.arm, one.contacts, one.mean] for one in self.timeline],
        }  # fmt: skip


def judge(plan: Plan, schedule: pd.DataFrame, spec: CanarySpec, looked: Looked, at: int) -> Judged:
    """At a look, µs UTC. Raises DataError where frame and schedule contradict each other."""
    from evaluation.experiment.analyse import prepare, timeline
    from evaluation.experiment.drawn import of_draw
    from evaluation.experiment.guards import guard

    first = (of_draw(plan, schedule),)
    ready = prepare(plan, schedule, looked.frame, looked.blocks, at, looked.data_end, looked.notes, DRAWS, first)
    refused = tuple(one.said for one in ready.checks if one.status == "refused")
    broken = [one.said for one in ready.checks if one.status == "refused" and one.name in NOT_FOLLOWED]
    not_followed = broken[0] if broken else None
    setting = ready.setting
    if setting is None:
        return Judged(at, refused=refused, not_followed=not_followed, notes=ready.notes)
    cells = setting.cells
    many = cells.total(np.flatnonzero(cells.counted))
    contacts = tuple(int(many[cells.arm == arm].sum()) for arm in (0, 1))
    blocks = tuple(int((many[cells.arm == arm] > 0).sum()) for arm in (0, 1))
    asked = (spec.primary.guardrail(spec.level), *plan.guardrails)
    guards = tuple(guard(setting, one, ready.outcomes.get(one.metric)) for one in asked)
    drawn = timeline(setting, ready.outcomes[plan.primary.metric])
    return Judged(
        at, (contacts[0], contacts[1]), (blocks[0], blocks[1]), guards, refused, not_followed, drawn, ready.notes
    )


def said(one: Guard) -> str:
    """A metric with its bounds and margin, in words."""
    from evaluation.experiment.analyse_tables import harm
    from evaluation.experiment.words import TITLES

    if one.state == "not measured":
        return f"{TITLES[one.of.metric]} not measured"
    return (
        f"{TITLES[one.of.metric]} worse by {harm(one, one.harm)} ({harm(one, one.low)} to {harm(one, one.high)}; "
        f"margin {harm(one, one.of.margin)})"
    )


def _guard(one: Guard) -> dict[str, Any]:
    seen = one.seen
    sign = 1.0 if one.of.better == "lower" else -1.0
    looks: list[list[float | int | None]] = []
    if seen is not None:
        # Harm beyond the margin is above 0, whatever the metric's units and direction.
        fixed = 0.0 if one.of.relative else one.of.margin
        for i in range(max(0, len(seen.value) - SHOWN), len(seen.value)):
            low, high = sorted((sign * float(seen.low[i]) - fixed, sign * float(seen.high[i]) - fixed))
            value = sign * float(seen.value[i]) - fixed
            bounds = [each if math.isfinite(each) else None for each in (value, low, high)]
            looks.append([int(seen.known_at[i]), *bounds])
    return {
        **one.of.model_dump(mode="json"), "state": one.state, "said": said(one), "control": one.control,
        "treatment": one.treatment, "harm": one.harm, "low": one.low, "high": one.high,
        "broken_at": None if one.broken_at is None else format_time(one.broken_at), "looks": looks,
    }  # fmt: skip
