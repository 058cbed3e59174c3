"""Which design, and for how long: the one that finds the effect soonest and is not wrong, and in words why.

Notable: what cannot be found within the time that is given is an error that names the smallest effect that can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.experiment.carry import Decay
from evaluation.experiment.design_history import History
from evaluation.experiment.design_options import Option, best, cluster, customer, cuts, hours_asked, left, switchbacks
from evaluation.experiment.design_spec import RANGE, Asked
from evaluation.experiment.words import TITLES, level, towards
from twotower.clock import format_time
from twotower.errors import ConfigError

KINDS = {
    "switchback": "the whole centre changes its arm from block to block",
    "cluster": "some {unit}s have one arm, others the other, all the time",
    "customer": "customers keep an arm, CSAs are split into two pools that are drawn anew",
}


@dataclass(frozen=True)
class Choice:
    """What was chosen among what."""

    option: Option
    days: float
    options: tuple[Option, ...]
    """One of each kind."""
    grid: tuple[Option, ...]
    """All switchbacks that were priced."""
    why: tuple[str, ...]


def chosen(asked: Asked, history: History, decay: Decay | None, begins: int, explained: float) -> Choice:
    """begins: µs UTC; explained: share of a contact's variance that the analysis will take out. Raises ConfigError for
    a design that cannot be, and for an effect that no duration finds."""
    y = history.metric(asked.metric)
    check_effect(asked, float(np.nanmean(y)))
    options, grid = options_of(asked, history, decay, begins, explained)
    try:
        option = pick(options, asked)
        days = _days(asked, option, begins)
    except ConfigError:
        _check_wash_out(asked, grid)
        raise
    return Choice(option, days, tuple(options), grid, _why(asked, option, options, days, begins))


def options_of(
    asked: Asked, history: History, decay: Decay | None, begins: int, explained: float
) -> tuple[list[Option], tuple[Option, ...]]:
    """One of each kind that is asked for, and all switchbacks that were priced."""
    y = history.metric(asked.metric)
    grid: tuple[Option, ...] = ()
    options: list[Option] = []
    if asked.design in ("auto", "switchback"):
        grid = switchbacks(asked, cuts(history, y, hours_asked(asked), explained), decay, begins)
        options.append(best(grid, asked))
    if asked.design in ("auto", "cluster"):
        units: tuple[Literal["site", "team"], ...] = ("site", "team") if asked.unit == "auto" else (asked.unit,)
        found = tuple(cluster(asked, history, asked.metric, unit, begins) for unit in units)
        options.append(_of_units(found, asked))
    if asked.design in ("auto", "customer"):
        options.append(customer(asked, history, asked.metric, begins, explained))
    return options, grid


def check_effect(asked: Asked, mean: float) -> None:
    """Raises ConfigError where the metric has no room for the effect."""
    low, high = RANGE.get(asked.metric, (-np.inf, np.inf))
    room = high - mean if asked.direction == "higher" else mean - low
    if asked.effect >= room:
        word = "rise" if asked.direction == "higher" else "fall"
        raise ConfigError(
            f"effect: {asked.effect:g} is too large: {TITLES[asked.metric]} is {level(asked.metric, mean)} now and "
            f"cannot {word} by more than {room:.3g}; give it in the metric's own units"
        )


def _check_wash_out(asked: Asked, grid: tuple[Option, ...]) -> None:
    """Raises ConfigError where a wash-out that is given leaves nothing of any block, whatever else is wrong."""
    if asked.wash_out_minutes != "auto" and grid and all(one.impossible for one in grid):
        longest = max(one.block_hours or 0.0 for one in grid)
        raise ConfigError(
            f"wash_out_minutes: a wash-out of {float(asked.wash_out_minutes):g} minutes leaves nothing of blocks of "
            f"{longest:g} h, the longest; give fewer minutes, or longer block_hours"
        )


def _of_units(found: Sequence[Option], asked: Asked) -> Option:
    """Sites or teams: what can be done, is not wrong, and is sooner."""
    most = asked.most_days if asked.days == "auto" else float(asked.days)

    def key(one: Option) -> tuple[bool, int, float]:
        return one.impossible is not None, len(one.against), one.smallest(asked, most)

    return min(found, key=key)


def pick(options: Sequence[Option], asked: Asked) -> Option:
    """Raises ConfigError where the only ones asked for cannot be done."""
    able = [one for one in options if one.impossible is None]
    if not able:
        reasons = "; ".join(dict.fromkeys(f"{one.design}: {one.impossible}" for one in options))
        raise ConfigError(f"design {asked.design}: {reasons}")
    most = asked.most_days if asked.days == "auto" else float(asked.days)

    def key(one: Option) -> tuple[int, float, float]:
        needed = one.days(asked)
        return len(one.against), np.inf if needed is None else needed, one.smallest(asked, most)

    # Equally good ones in the order in which they stand: a switchback tells the whole effect of the whole centre.
    return min(able, key=key)


def _days(asked: Asked, option: Option, begins: int) -> float:
    effect = towards(asked.metric, asked.effect, asked.direction)
    most = asked.most_days if asked.days == "auto" else float(asked.days)
    if not left(asked, begins, most, option.block_hours):
        raise ConfigError(
            f"pauses: no block is left of {most:g} days from {format_time(begins)} on ({option.design}); begin after "
            "them"
        )
    if asked.days == "auto":
        needed = option.days(asked)
        if needed is not None:
            return needed
        least = option.smallest(asked, asked.most_days)
        raise ConfigError(
            f"effect: {effect} is too small for any duration up to {asked.most_days:g} days: the "
            f"smallest that is found with a power of {asked.power:.0%} is {_least(asked, least)} ({option.design}); "
            "give a larger --effect, or more most_days in a --config"
        )
    days = float(asked.days)
    counted = left(asked, begins, days, option.block_hours)
    if option.block_hours is not None and counted * 24 / option.block_hours < 4:
        beside = " beside pauses" if asked.pauses else ""
        raise ConfigError(
            f"days: {days:g} days hold {counted * 24 / option.block_hours:.1f} blocks of {option.block_hours:g} h"
            f"{beside}; 4 or more are needed"
        )
    if option.power(asked, days) < asked.power:
        least, needed = option.smallest(asked, days), option.days(asked)
        more = f"; {needed:g} days find it" if needed is not None else ""
        raise ConfigError(
            f"effect: {effect} is too small for {days:g} days: the smallest that is found with a "
            f"power of {asked.power:.0%} is {_least(asked, least)} ({option.design}){more}"
        )
    return days


def _least(asked: Asked, least: float) -> str:
    return towards(asked.metric, least, asked.direction) if np.isfinite(least) else "none"


def _why(asked: Asked, option: Option, options: Sequence[Option], days: float, begins: int) -> tuple[str, ...]:
    """In words."""
    said = [f"{option.design}: {KINDS[option.design].format(unit=option.unit)}"]
    if asked.design != "auto":
        said[0] += ", as asked for"
    if option.block_hours is not None and asked.block_hours == "auto" and option.design == "switchback":
        said.append(
            f"blocks of {option.block_hours:g} h with a wash-out of {option.wash_out_minutes:g} minutes find the "
            f"effect soonest of all that hide no more than {asked.carry_over:.0%} of it; these hide {option.missed:.1%}"
        )
    if asked.pauses:
        counted = left(asked, begins, days, option.block_hours)
        said.append(f"pauses leave {counted:.3g} of the {days:g} days; only these count towards contacts and power")
    for one in options:
        if one is option:
            continue
        needed = None if one.impossible else one.days(asked)
        reasons = [one.impossible] if one.impossible else list(one.against)
        if not reasons:
            reasons = [f"needs {needed:g} days" if needed else f"does not find the effect in {asked.most_days:g} days"]
            if needed == days:
                reasons = ["takes as long, and does not show the whole centre in one arm"]
        said.append(f"not {one.design}: {'; '.join(str(reason) for reason in reasons)}")
    said += [f"mind: {reason}" for reason in option.against]
    return tuple(said)
