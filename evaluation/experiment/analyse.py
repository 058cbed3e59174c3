"""The whole analysis of an experiment: checks first, then everything that the plan asks, then what to do.

Notable: the plan decides what is answered, and when. A look before its time, data that end early, a schedule that was
not followed: then there are refusals and nothing else. What is not known yet at the look (a block that has not ended,
an outcome that is too young, a customer who may still come back) is left out and counted, whoever made the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from evaluation.experiment.bands import Band, bands
from evaluation.experiment.checks import Check, of_blocks, of_data, of_schedule, of_time
from evaluation.experiment.effects import Setting, setting_of
from evaluation.experiment.estimate import Estimate, estimate_in
from evaluation.experiment.frame import FRAME
from evaluation.experiment.guards import Guard, Secondary, guard, secondary
from evaluation.experiment.monitor import path
from evaluation.experiment.outcomes import OF_CELLS, OF_HANDOVERS, Outcome
from evaluation.experiment.plan import Plan
from evaluation.experiment.sensitivity import Other, sensitivity
from evaluation.experiment.spans import Spans, micros, spans_of
from evaluation.experiment.taken import Taken, taken
from evaluation.experiment.through_time import CarryOver, Novelty, carry_over, novelty
from evaluation.experiment.value import Value, value
from evaluation.experiment.verdict import Verdict, refused, verdict
from evaluation.experiment.words import TITLES
from twotower.clock import DAY, format_time, parse_time
from twotower.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 5000
SUSPECT = 0.01
"""p below which a reader is told of carry-over or of an effect that changes with time."""


@dataclass(frozen=True)
class Block:
    """A cell of the timeline."""

    unit: str
    begins: int
    """µs UTC"""
    ends: int
    arm: int
    contacts: int
    """That count."""
    washed: int
    mean: float
    """Of the primary metric, adjusted."""


@dataclass(frozen=True)
class Found:
    """All numbers."""

    estimate: Estimate
    sensitivity: tuple[Other, ...]
    guards: tuple[Guard, ...]
    secondary: tuple[Secondary, ...]
    bands: tuple[Band, ...]
    novelty: Novelty
    carry_over: CarryOver | None
    taken: Taken | None
    value: Value | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Analysis:
    """What an experiment says."""

    plan: Plan
    look: int
    """The moment up to which things are known, µs UTC."""
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    verdict: Verdict
    found: Found | None
    """None: a check refused."""

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why there is no number."""
        return tuple(one.said for one in self.checks if one.status == "refused")


def analyse(
    plan: Plan,
    schedule: pd.DataFrame,
    frame: pd.DataFrame,
    blocks: pd.DataFrame | None = None,
    at: int | None = None,
    data_end: int | None = None,
    notes: tuple[str, ...] = (),
    draws: int = DRAWS,
    first: tuple[Check, ...] = (),
) -> Analysis:
    """Of a frame that tables or a simulation made.

    schedule, frame: columns of `frame.SCHEDULE` and `frame.FRAME`; blocks: metrics of cells (`measured_blocks`); at: an
    interim look, µs UTC, default the plan's end; data_end: until when things were written down, default the last
    arrival; first: checks that come before these. Raises DataError for a schedule or frame that is none.
    """
    ready = prepare(plan, schedule, frame, blocks, at, data_end, notes, draws, first)
    if ready.setting is None or ready.refused:
        return Analysis(plan, ready.look, ready.checks, ready.notes, refused(ready.checks), None)
    found = found_in(ready.setting, ready.outcomes)
    said = verdict(plan, found.estimate, found.guards, found.value, ready.look)
    notes = (*ready.notes, *_notes(found, ready.setting))
    return Analysis(plan, ready.look, ready.checks, notes, said, found)


@dataclass(frozen=True)
class Prepared:
    """An experiment whose checks have been made, and of which nothing is computed yet."""

    look: int
    """As in `Analysis`."""
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    setting: Setting | None
    """None: a check refused before contacts were looked at."""
    outcomes: dict[str, Outcome]
    """As `outcomes_of`."""

    @property
    def refused(self) -> bool:
        """Whether there must be no answer."""
        return any(one.status == "refused" for one in self.checks)


def prepare(
    plan: Plan,
    schedule: pd.DataFrame,
    frame: pd.DataFrame,
    blocks: pd.DataFrame | None = None,
    at: int | None = None,
    data_end: int | None = None,
    notes: tuple[str, ...] = (),
    draws: int = DRAWS,
    first: tuple[Check, ...] = (),
) -> Prepared:
    """The checks of `analyse`, and what its numbers are made from; for who watches some of them alone, again and again.
    Takes and raises as `analyse`."""
    absent = [name for name in FRAME if name not in frame]
    if absent:
        raise DataError(f"frame: column {absent[0]} is missing; expected {FRAME[absent[0]]}")
    spans = spans_of(plan, schedule)
    ends = parse_time(plan.ends)
    look = ends if at is None else min(at, ends)
    arrived = micros(frame["arrived_at"])
    if data_end is None:
        data_end = int(arrived.max()) if len(frame) else parse_time(plan.begins)
    checks = [*first, *of_schedule(plan, spans), *of_time(plan, look, data_end)]
    if all(one.status != "refused" for one in checks):
        checks += of_blocks(plan, spans, arrived, look, data_end)
    if any(one.status == "refused" for one in checks):
        return Prepared(look, tuple(checks), notes, None, {})
    known, spans, told = as_known(plan, spans, frame, look, data_end)
    setting = setting_of(plan, spans, known, blocks, draws)
    outcomes = outcomes_of(setting)
    return Prepared(look, (*checks, *of_data(setting, outcomes)), (*notes, *told), setting, outcomes)


def as_known(
    plan: Plan, spans: Spans, frame: pd.DataFrame, look: int, data_end: int
) -> tuple[pd.DataFrame, Spans, list[str]]:
    """The frame and the spans as they were known at a look, and what that leaves out.

    Outcomes are known `mature_days` after a contact, repeats after `repeat_days`, in data that end at `data_end`.
    """
    arrived, notes = micros(frame["arrived_at"]), []
    until = data_end if look >= parse_time(plan.ends) else min(look, data_end)
    if plan.design != "cluster":
        over = spans.ends <= look
        open_ = spans.begins[~over & (spans.begins < look)]
        spans = Spans(*(getattr(spans, name)[over] for name in ("begins", "ends", "unit", "arm", "pair")))
        if len(open_):
            notes.append(f"blocks that had not ended at {format_time(look)} are left out")
    inside = (frame["arm"].to_numpy(np.int8) >= 0) & (arrived < look)
    if plan.design != "cluster":
        limit = int(spans.ends.max()) if len(spans) else int(arrived.min())
        inside &= arrived < limit
    frame = frame.assign(arm=np.where(inside, frame["arm"].to_numpy(np.int8), np.int8(-1)))
    young = inside & (arrived > until - int(plan.mature_days * DAY))
    if plan.mature_days and young.any():
        frame = frame.assign(**{name: frame[name].where(~young) for name in OF_HANDOVERS})
        notes.append(
            f"{int(young.sum()):,} contacts are younger than {plan.mature_days:g} days: their outcomes count as not "
            "known"
        )
    back = inside & (arrived > until - int(plan.repeat_days * DAY))
    if back.any():
        frame = frame.assign(repeat=frame["repeat"].where(~back))
        if not frame.loc[inside, "repeat"].isna().all():
            notes.append(f"of {int(back.sum()):,} contacts it is too early to tell whether their customers come back")
    return frame, spans, notes


def outcomes_of(setting: Setting) -> dict[str, Outcome]:
    """Every metric that the plan names and somebody measured."""
    plan = setting.plan
    found: dict[str, Outcome] = {}
    for metric in dict.fromkeys((plan.primary.metric, *(one.metric for one in plan.guardrails), *plan.secondary)):
        if metric in OF_CELLS and setting.blocks is None and metric != plan.primary.metric:
            continue
        found[metric] = setting.outcome(metric)
    return found


def found_in(setting: Setting, outcomes: dict[str, Outcome]) -> Found:
    """All numbers of an experiment whose checks have passed."""
    plan = setting.plan
    outcome = outcomes[plan.primary.metric]
    primary = estimate_in(setting, outcome)
    primary = replace(primary, lift=path(setting, outcome, plan.primary.alpha, lift=True))
    return Found(
        estimate=primary,
        sensitivity=sensitivity(setting, outcome, primary.effect),
        guards=tuple(guard(setting, one, outcomes.get(one.metric)) for one in plan.guardrails),
        secondary=secondary(setting, outcomes),
        bands=bands(setting, outcome),
        novelty=novelty(setting, outcome),
        carry_over=carry_over(setting, outcome),
        taken=taken(setting, outcome),
        value=value(setting),
        blocks=timeline(setting, outcome),
    )


def timeline(setting: Setting, outcome: Outcome) -> tuple[Block, ...]:
    """Every block, with the mean of a metric."""
    cells = setting.cells
    washed = cells.total(np.flatnonzero((cells.of >= 0) & cells.washed))
    counted = cells.total(np.flatnonzero(cells.counted))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = outcome.s / outcome.n
    return tuple(
        Block(
            str(cells.unit[c]), int(cells.begins[c]), int(cells.ends[c]), int(cells.arm[c]), int(counted[c]),
            int(washed[c]), float(mean[c]),
        )
        for c in range(len(cells))
    )  # fmt: skip


def _notes(found: Found, setting: Setting) -> list[str]:
    """What a reader must know beside the numbers."""
    notes, primary = [], found.estimate.effect
    if setting.plan.design == "switchback" and primary.method != "randomisation":
        notes.append(
            f"{len(setting.lots[0])} different schedules are too few for randomisation inference at {primary.alpha:g}: "
            "t with CR2 errors instead"
        )
    carried = found.carry_over
    if carried is not None:
        tests = [one.p for one in (carried.before, carried.early) if one is not None]
        if tests and min(tests) * len(tests) < SUSPECT:
            notes.append("an arm seems to reach into the block after it: the wash-out is too short, or blocks are")
    slope = found.novelty.slope
    if slope is not None and slope.p < SUSPECT:
        word = "grows" if slope.value * primary.value > 0 else "fades"
        notes.append(
            f"the effect {word} with time: what it will be after the experiment is less sure than its interval says"
        )
    if found.taken is not None and found.taken.by_who:
        notes.append(
            "most of the effect comes from better CSAs taking more of the contacts, not from better matches: it is "
            "bounded by their time"
        )
    absent = [name for name in setting.plan.secondary if name not in {one.effect.metric for one in found.secondary}]
    if absent:
        notes.append(f"secondary metrics that nobody measured in both arms: {', '.join(TITLES[one] for one in absent)}")
    unknown = 1 - primary.contacts / max(int(setting.cells.counted.sum()), 1)
    if setting.plan.primary.metric not in OF_CELLS and unknown > 0.01:
        notes.append(f"{unknown:.0%} of contacts have no known {setting.plan.primary.metric} and are left out of it")
    return notes
