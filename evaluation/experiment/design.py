"""An experiment, designed from a history: the plan, its schedule, and all that the plan was made from.

Notable: everything is computed before the first contact, and twice where it can be: power by formula and by trying on
the history's own blocks. The plan keeps what it was computed from (`Plan.expected`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from evaluation.experiment.carry import Decay
from evaluation.experiment.design_blocks import Parts, Week, blocks_of, icc, parts_of, week_of
from evaluation.experiment.design_choose import Choice, chosen, options_of, pick
from evaluation.experiment.design_guards import Guarded, guarded, guardrails, secondary, widened
from evaluation.experiment.design_history import History, read_history
from evaluation.experiment.design_like import Like, bed_of, like
from evaluation.experiment.design_options import Option
from evaluation.experiment.design_replay import Replayed, replayed
from evaluation.experiment.design_spec import LEAST_DAYS, Asked
from evaluation.experiment.design_tried import Compared, enough, tried
from evaluation.experiment.plan import Guardrail, Plan
from evaluation.experiment.power import Precision
from evaluation.experiment.power_resampled import Tried
from evaluation.experiment.relaxation import relaxation
from evaluation.experiment.schedule import MONDAY, WEEK, balanced, draw
from evaluation.experiment.simulated_bias import Bias, biases
from evaluation.experiment.words import TITLES, change
from evaluation.simulate.scenario import said as in_a_line
from twotower.clock import DAY, format_time, parse_time
from twotower.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

Doubles = npt.NDArray[np.float64]
POINTS = 4
"""Durations at which power is tried as well."""
SHOWN_HOURS, SHOWN_WASH = 4.0, 30.0
"""Of the switchback beside the A/B test in the small centre."""


@dataclass(frozen=True)
class Sure:
    """How sure after so many days."""

    days: float
    contacts: float
    fixed: float
    """Power at one look at the end, by formula."""
    always: float
    """By a confidence sequence, at its end."""
    smallest_fixed: float
    smallest_always: float
    tried: Tried | None


@dataclass(frozen=True)
class Told:
    """What the history says, for the reader."""

    contacts: int
    days: int
    begins: int
    ends: int
    mean: float
    parts: Parts
    """In blocks of the design, or of 4 h."""
    hours: float
    week: Week
    icc: dict[str, tuple[float, int]]
    """By site, team, customer and CSA: intraclass correlation and groups."""
    explained: float
    """Share of a contact's variance that the covariate explains, from one half of the history to the other."""
    gain: float
    """Share of the switchback's variance that goes with it, the same way."""


@dataclass(frozen=True)
class Designed:
    """All of it."""

    asked: Asked
    plan: Plan
    schedule: pd.DataFrame
    choice: Choice
    compared: tuple[Compared | None, ...]
    """`choice.options`, tried; None: it cannot be."""
    precision: Precision
    sure: tuple[Sure, ...]
    decay: Decay | None
    guards: tuple[Guarded, ...]
    told: Told
    like: Like | None
    biases: tuple[Bias, ...]
    replayed: Replayed | None
    notes: tuple[str, ...]

    @property
    def at_end(self) -> Sure:
        """After the days of the plan."""
        return next(one for one in self.sure if one.days == self.choice.days)


def designed(asked: Asked, folder: str | Path) -> Designed:
    """Raises ConfigError and DataError, in one line, for what cannot be."""
    history = _history(asked, folder)
    begins = _begins(asked, history)
    y = history.metric(asked.metric)
    adjusted, explained = history.adjusted(asked.metric)
    decay, notes = _decay(asked, history)
    choice = chosen(asked, history, decay, begins, explained)
    rails = guardrails(asked, history, folder)
    choice, plan, at_end = _settled(asked, history, choice, begins, rails)
    compared, more = _compared(asked, history, choice, begins, rails, at_end)
    guards = widened(asked, guarded(asked, history, choice.option, choice.days, begins, rails, folder))
    plan = _balanced(plan.model_copy(update={"guardrails": tuple(one.of for one in guards)}), history)
    precision = choice.option.of_days(choice.days)
    schedule = draw(plan, choice.option.units)
    sure = tuple(_sure(asked, history, choice, plan, days, compared) for days in _points(asked, choice))
    notes += more
    small, shown = _shown(asked, history, begins)
    notes += [] if small is None else list(small.notes)
    again = None if asked.replay is None else replayed(asked.replay, plan, history, folder)
    return Designed(
        asked, plan, schedule, choice, compared, precision, sure, decay, guards,
        _told(history, y, adjusted, explained, choice.option), small, shown, again, tuple(notes),
    )  # fmt: skip


def least_effect(asked: Asked, folder: str | Path) -> float:
    """The smallest effect that the design finds with its power in the days that are given; whatever `asked.effect` is.

    Raises ConfigError for `days: auto`, and as `designed` does.
    """
    if asked.days == "auto":
        raise ConfigError("days: auto; the smallest effect is that of so many days, so give a number")
    history = _history(asked, folder)
    explained, (decay, _) = history.adjusted(asked.metric)[1], _decay(asked, history)
    options = options_of(asked, history, decay, _begins(asked, history), explained)[0]
    return pick(options, asked).smallest(asked, float(asked.days))


def _history(asked: Asked, folder: str | Path) -> History:
    return read_history(
        folder, None if asked.until is None else parse_time(asked.until, "until"), asked.repeat_days
    )  # fmt: skip


def _begins(asked: Asked, history: History) -> int:
    """Raises ConfigError for a beginning before the data end."""
    if asked.begins is None:
        day = history.data_end + DAY
        return -(-(day - MONDAY) // WEEK) * WEEK + MONDAY
    begins = parse_time(asked.begins, "begins")
    if begins <= history.data_end:
        raise ConfigError(
            f"begins: {asked.begins} is before the data end, {format_time(history.data_end)}; an experiment is planned "
            "before its first contact"
        )
    return begins


def _decay(asked: Asked, history: History) -> tuple[Decay | None, list[str]]:
    """What is left of a change, by the log; where that cannot be seen, only with a wash-out that is given."""
    if asked.design not in ("auto", "switchback"):
        return None, []
    try:
        return relaxation(history), []
    except ConfigError as error:
        if asked.wash_out_minutes == "auto":
            raise
        return None, [f"carry-over is not known: {error}"]


def _plan(
    asked: Asked, history: History, choice: Choice, precision: Precision, begins: int, rails: tuple[Guardrail, ...]
) -> Plan:
    option, title = choice.option, TITLES[asked.metric]
    word = "raises" if asked.direction == "higher" else "lowers"
    hypothesis = asked.hypothesis or (
        f"{asked.treatment.name} {word} {title} by {change(asked.metric, asked.effect).lstrip('+')} or more against "
        f"{asked.control.name}"
    )
    ends = begins + round(choice.days * DAY)
    always = asked.stopping == "always_valid"
    first_look = _first_look(asked, begins, ends)
    expected = {
        "contacts": precision.contacts, "level": float(np.nanmean(history.metric(asked.metric))),
        "standard_error": precision.se, "degrees_of_freedom": precision.df,
        "power": precision.power(asked.effect, asked.alpha, always),
        "smallest_effect_found": precision.smallest(asked.power, asked.alpha, always),
        "missed_by_carry_over": option.missed, "days_of_history": float(history.days),
    }  # fmt: skip
    given = {
        "name": asked.name, "hypothesis": hypothesis, "design": option.design, "unit": option.unit,
        "begins": format_time(begins), "ends": format_time(ends), "control": asked.control,
        "treatment": asked.treatment, "block_hours": option.block_hours,
        "wash_out_minutes": option.wash_out_minutes, "seed": asked.seed, "pauses": asked.pauses,
        "most_in_a_row": asked.most_in_a_row if option.design == "switchback" else None,
        "primary": {"metric": asked.metric, "better": asked.direction, "smallest_effect": asked.effect,
                    "alpha": asked.alpha, "power": asked.power},
        "guardrails": rails, "secondary": secondary(asked, history, rails), "fdr": asked.fdr,
        "history_days": asked.history_days, "repeat_days": asked.repeat_days, "mature_days": asked.mature_days,
        "stopping": {"rule": asked.stopping, "first_look": first_look}, "prices": asked.prices,
        "expected": {name: float(f"{value:.6g}") for name, value in expected.items() if np.isfinite(value)},
    }  # fmt: skip
    try:
        return Plan.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"the plan cannot be: {in_a_line(error, Plan)}") from None


def _first_look(asked: Asked, begins: int, ends: int) -> str | None:
    """Raises ConfigError for one that is not within the experiment."""
    if asked.first_look is None:
        return None
    moment = parse_time(asked.first_look, "first_look")
    if not begins < moment <= ends:
        raise ConfigError(
            f"first_look: {asked.first_look} is not within the experiment, after {format_time(begins)} and not after "
            f"{format_time(ends)}"
        )
    return format_time(moment)


def _balanced(plan: Plan, history: History) -> Plan:
    """Of the design `customer`, with a salt by which both arms' customers called alike often."""
    if plan.design != "customer" or not history.customers:
        return plan
    count = np.bincount(history.customer[history.customer >= 0], minlength=len(history.customers))
    found, share = balanced(plan, history.customers, count)
    return found.model_copy(update={"expected": plan.expected | {"share_of_past_contacts": float(f"{share:.6g}")}})


def _settled(
    asked: Asked, history: History, choice: Choice, begins: int, rails: tuple[Guardrail, ...]
) -> tuple[Choice, Plan, Tried | None]:
    """With as many more weeks as trying asks for: where it surely finds the effect less often than is asked for, the
    formula promised too much. Days that are given, and the most there may be, stay, which is said. And what trying
    found, None where one may look at any time."""
    while True:
        plan = _plan(asked, history, choice, choice.option.of_days(choice.days), begins, rails)
        if asked.stopping != "fixed":
            return choice, plan, None
        found = tried(asked, history, choice.option, plan, choice.days)
        if enough(asked, found):
            return choice, plan, found
        said = f"{choice.days:g} days find it in {found.found:.0%} of experiments made of the history's own contacts"
        if asked.days != "auto" or choice.days + 7 > asked.most_days:
            kept = (
                "the days are given" if asked.days != "auto" else f"most_days: {asked.most_days:g} allows no week more"
            )
            why = (*choice.why, f"mind: {said}, less often than the {asked.power:.0%} that is asked for; {kept}")
            return replace(choice, why=why), plan, found
        why = (*choice.why, f"{said}, less often than by formula: a week more")
        choice = replace(choice, days=choice.days + 7, why=why)


def _compared(
    asked: Asked, history: History, choice: Choice, begins: int, rails: tuple[Guardrail, ...], at_end: Tried | None
) -> tuple[tuple[Compared | None, ...], list[str]]:
    """Every option tried, None where it cannot be; and notes. at_end: of the one that was chosen, where it is known."""
    found: list[Compared | None] = []
    notes = []
    for one in choice.options:
        mine = one is choice.option
        most = asked.most_days if asked.days == "auto" else float(asked.days)
        days = choice.days if mine else one.days(asked) or most
        if one.impossible or not one.of_days(days).contacts:
            found.append(None)
            continue
        if mine and at_end is not None:
            found.append(Compared(days, at_end))
            continue
        try:
            plan = _plan(asked, history, replace(choice, option=one, days=days), one.of_days(days), begins, rails)
            found.append(Compared(days, tried(asked, history, one, plan, days)))
        except ConfigError as error:
            found.append(None)
            notes.append(f"{one.design} could not be tried: {error}")
    return tuple(found), notes


def _points(asked: Asked, choice: Choice) -> list[float]:
    """Whole weeks up to the most, and the plan's days."""
    weeks = np.arange(LEAST_DAYS, max(asked.most_days, choice.days) + 1e-9, 7.0)
    return sorted({*weeks.tolist(), choice.days})


def _sure(
    asked: Asked, history: History, choice: Choice, plan: Plan, days: float, compared: tuple[Compared | None, ...]
) -> Sure:
    of = choice.option.of_days(days)
    weeks = _points(asked, choice)
    every = max(1, len(weeks) // POINTS)
    found = None
    if days == choice.days:
        own = compared[choice.options.index(choice.option)]
        found = None if own is None else own.tried
    elif of.contacts and weeks.index(days) % every == 0:
        found = tried(asked, history, choice.option, plan, days)
    return Sure(
        days, of.contacts, of.power(asked.effect, asked.alpha), of.power(asked.effect, asked.alpha, True),
        of.smallest(asked.power, asked.alpha), of.smallest(asked.power, asked.alpha, True), found,
    )  # fmt: skip


def _told(history: History, y: Doubles, adjusted: Doubles, explained: float, option: Option) -> Told:
    hours = option.block_hours if option.design == "switchback" and option.block_hours else 4.0
    late = ~np.isnan(adjusted)
    raw, less = (parts_of(blocks_of(history, np.where(late, values, np.nan), hours)) for values in (y, adjusted))
    n = blocks_of(history, np.where(late, y, np.nan), hours).weekly
    variances = [float((n**2 * one.between + n * one.within).sum()) for one in (raw, less)]
    gain = 1 - variances[1] / variances[0] if variances[0] > 0 else 0.0
    groups = {name: units.code for name, units in history.units.items()}
    groups |= {"customer": history.customer, "csa": history.csa}
    return Told(
        len(history), history.days, history.begins, history.ends, float(np.nanmean(y)),
        parts_of(blocks_of(history, y, hours)), hours, week_of(history, y),
        {name: icc(y, codes) for name, codes in groups.items()}, explained, gain,
    )  # fmt: skip


def _shown(asked: Asked, history: History, begins: int) -> tuple[Like | None, tuple[Bias, ...]]:
    """The small centre in which an A/B test of contacts is held against the truth."""
    if asked.show is None:
        return None, ()
    small = like(history)
    plan = Plan.model_validate(
        {"name": "shown", "hypothesis": "", "design": "switchback", "unit": "centre", "begins": format_time(begins),
         "ends": format_time(begins + asked.show.days * DAY), "control": {"name": "queue", "policies": ["queue"]},
         "treatment": {"name": "matcher", "policies": ["matcher"]}, "block_hours": SHOWN_HOURS,
         "wash_out_minutes": SHOWN_WASH, "primary": {"smallest_effect": 0.01}}
    )  # fmt: skip
    beds = [(load, bed_of(small, load, asked.show, asked.seed)) for load in asked.show.loads]
    return small, biases(beds, [plan], asked.show.replications)
