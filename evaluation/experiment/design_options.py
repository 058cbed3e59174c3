"""The designs that a history allows, each with how sure it would be after so many days, and why one may not be taken.

Notable: every option is priced the same way, by days until the effect is found with the power asked for, so they can be
compared; what makes an option wrong (demand that crosses sites, an arm of a single cluster, blocks that hang over) is
said in words beside its number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from evaluation.experiment import power
from evaluation.experiment.carry import Decay
from evaluation.experiment.design_blocks import Blocks, Parts, blocks_of, icc, parts_of
from evaluation.experiment.design_history import NO_UNIT, History
from evaluation.experiment.design_spec import LEAST_DAYS, Asked
from evaluation.experiment.plan import Design, Unit
from evaluation.experiment.power import Precision
from evaluation.experiment.schedule import cut
from twotower.clock import DAY
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

HOURS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 24.0)
WASH_OUTS = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0)
"""Minutes."""
LEAST_CLUSTERS = 4
APART = 0.9
"""Share of contacts that must be of queues which one unit serves nearly alone, for units to be taken unasked."""
KNOWN_CUSTOMERS = 0.9
LEAST_POOL = 10.0
"""CSAs at work in each half, for customers to be taken unasked: small pools wait longer than the whole."""
POOL_HOURS = 24.0
RECENT_DAYS = 28


@dataclass(frozen=True)
class Option:
    """One way of trying."""

    design: Design
    unit: Unit
    block_hours: float | None
    wash_out_minutes: float
    missed: float
    """Share of the effect that carry-over hides."""
    of_days: Callable[[float], Precision] = field(repr=False)
    """How sure after so many days."""
    units: tuple[str, ...] = ("centre",)
    """In order of their past."""
    against: tuple[str, ...] = ()
    """Why it is not taken unasked."""
    impossible: str | None = None
    """Why it cannot be done at all."""

    def days(self, asked: Asked) -> float | None:
        """Whole weeks until the effect is found, None: not within the most."""
        for days in np.arange(LEAST_DAYS, asked.most_days + 1e-9, 7.0):
            if self.power(asked, float(days)) >= asked.power:
                return float(days)
        return None

    def power(self, asked: Asked, days: float) -> float:
        """By the stopping rule that is asked for."""
        always = asked.stopping == "always_valid"
        return 0.0 if self.impossible else self.of_days(days).power(asked.effect, asked.alpha, always)

    def smallest(self, asked: Asked, days: float) -> float:
        """The smallest effect found."""
        always = asked.stopping == "always_valid"
        return np.inf if self.impossible else self.of_days(days).smallest(asked.power, asked.alpha, always)


@dataclass(frozen=True)
class Cut:
    """The history in blocks of one length."""

    hours: float
    blocks: Blocks
    parts: Parts


def cuts(history: History, y: Doubles, hours: tuple[float, ...], explained: float = 0.0) -> tuple[Cut, ...]:
    """Of each length. explained: share of a contact's variance that a covariate takes out."""
    found = []
    for each in hours:
        blocks = blocks_of(history, y, each)
        parts = parts_of(blocks)
        found.append(Cut(each, blocks, replace(parts, within=parts.within * (1 - explained))))
    return tuple(found)


def hours_asked(asked: Asked) -> tuple[float, ...]:
    """Block lengths to be tried. Raises ConfigError for one that slots of the week cannot have."""
    if asked.block_hours == "auto":
        return HOURS
    hours = float(asked.block_hours)
    if (24 / hours) % 1 and hours % 24:
        raise ConfigError(f"block_hours: {hours:g}; a part of a day or whole days expected, such as 1, 2, 4, 8, 24")
    return (hours,)


def left(asked: Asked, begins: int, days: float, hours: float | None) -> float:
    """Days of so many from `begins` (µs UTC) on that pauses leave in blocks of so many hours, None: a single one."""
    if not asked.pauses:
        return days
    at, until = cut(begins, begins + round(days * DAY), hours, asked.pauses)
    return float((until - at).sum()) / DAY


def switchbacks(asked: Asked, of: tuple[Cut, ...], decay: Decay | None, begins: int) -> tuple[Option, ...]:
    """Blocks and wash-outs that miss no more than is allowed. begins: µs UTC."""
    found = []
    for one in of:
        washes = WASH_OUTS if asked.wash_out_minutes == "auto" else (float(asked.wash_out_minutes),)
        for wash in washes:
            if asked.wash_out_minutes == "auto" and wash > 30 * one.hours:
                continue
            found.append(_switchback(asked, one, decay, begins, wash))
    return tuple(found)


def _switchback(asked: Asked, of: Cut, decay: Decay | None, begins: int, wash: float) -> Option:
    missed = 0.0 if decay is None else decay.missed(60 * of.hours, wash)
    against = []
    if missed > asked.carry_over:
        against.append(
            f"what the arm before leaves would hide {missed:.0%} of the effect, more than {asked.carry_over:.0%}"
        )
    impossible = None
    if wash >= 60 * of.hours:
        impossible = f"a wash-out of {wash:g} minutes leaves nothing of blocks of {of.hours:g} h"

    def of_days(days: float) -> Precision:
        return power.of_blocks(of.blocks, of.parts, begins, days, wash, 1 - missed, asked.pauses)

    return Option(
        "switchback", "centre", of.hours, wash, missed, of_days, against=tuple(against), impossible=impossible
    )


def best(options: tuple[Option, ...], asked: Asked) -> Option:
    """The switchback that finds the effect soonest; of those as soon, the surest; of those about as sure, the one that
    hides the least. With days that are given, the surest."""
    allowed = [one for one in options if not one.against and not one.impossible] or list(options)
    days = None if asked.days == "auto" else float(asked.days)

    def key(one: Option) -> tuple[float, float, float, float]:
        needed = days if days is not None else one.days(asked) or np.inf
        at = needed if np.isfinite(needed) else asked.most_days
        return needed, -round(one.power(asked, at), 2), one.missed, -(one.block_hours or 0.0)

    return min(allowed, key=key)


def cluster(asked: Asked, history: History, metric: str, unit: Unit, begins: int) -> Option:
    """Sites or teams, in pairs by their past, all the time, which a pause would end. begins: µs UTC."""
    of = history.units.get(unit)
    nothing = Option("cluster", unit, None, 0.0, 0.0, lambda days: Precision(np.inf, 0.0, 0.0), ())
    if of is None:
        return _refused(nothing, f"csas.parquet, column {unit}: nobody has one")
    least = LEAST_DAYS if asked.days == "auto" else float(asked.days)
    if not left(asked, begins, least, None):
        return _refused(
            nothing, f"{unit}s keep their arm all the time, and a pause falls within {least:g} days; begin after it"
        )
    y, (late, _) = history.metric(metric), history.adjusted(metric)
    middle = history.begins + history.days // 2 * DAY
    early = history.part(history.begins, middle)
    first, second = _means(y, of.code, early, len(of.names)), _means(late, of.code, ~early, len(of.names))
    there = np.flatnonzero((first[0] > 0) & (second[0] > 1))
    if len(there) < LEAST_CLUSTERS:
        return _refused(
            nothing, f"{len(there)} {unit}s with contacts give an arm a single one; {LEAST_CLUSTERS} or more are needed"
        )
    order = there[np.argsort(first[1][there], kind="stable")]
    known = ~np.isnan(late) & np.isin(of.code, there)
    within = float(np.var(late[known] - second[1][of.code[known]]))
    apart = _apart(second, order, within)
    a_day = float(second[0][there].sum()) / max(history.days - history.days // 2, 1)
    sizes = second[0][order]

    def of_days(days: float) -> Precision:
        if not left(asked, begins, days, None):
            return Precision(np.inf, 0.0, 0.0)
        information = power.wanted(asked.effect, asked.alpha, asked.power)
        return power.of_clusters(sizes, apart, within, a_day * days, information)

    against = []
    if of.alone < APART:
        against.append(
            f"only {of.alone:.0%} of contacts are of queues and languages that one {unit} serves nearly alone: {unit}s "
            "share demand, so what one arm does reaches the other"
        )
    names = tuple(of.names[i] for i in order)
    return Option("cluster", unit, None, 0.0, 0.0, of_days, names, tuple(against))


def _refused(of: Option, why: str) -> Option:
    return Option(of.design, of.unit, of.block_hours, 0.0, 0.0, of.of_days, (), (), why)


def _means(y: Doubles, code: Longs, rows: npt.NDArray[np.bool_], many: int) -> tuple[Doubles, Doubles]:
    """Contacts (many,) and means of units."""
    known = rows & ~np.isnan(y) & (code != NO_UNIT)
    count = np.bincount(code[known], minlength=many).astype(np.float64)
    return count, np.bincount(code[known], y[known], many) / np.maximum(count, 1)


def _apart(of: tuple[Doubles, Doubles], order: Longs, within: float) -> float:
    """σ_c²: by what the neighbours of a pair still differ later, beyond chance."""
    count, mean = of
    pairs = order[: len(order) // 2 * 2].reshape(-1, 2)
    apart = mean[pairs[:, 0]] - mean[pairs[:, 1]]
    chance = within * (1 / count[pairs]).sum(axis=1)
    return max(float(((apart**2 - chance) / 2).mean()), 0.0)


def customer(asked: Asked, history: History, metric: str, begins: int, explained: float = 0.0) -> Option:
    """Customers by a hash, CSAs in two pools that are drawn anew every window. begins: µs UTC."""
    hours = POOL_HOURS if asked.block_hours == "auto" else float(asked.block_hours)
    wash = 0.0 if asked.wash_out_minutes == "auto" else float(asked.wash_out_minutes)
    y = history.metric(metric)
    known = ~np.isnan(y)
    share = float((history.customer >= 0).mean())
    variance = float(np.var(y[known])) * (1 - explained)
    of_customer, of_csa = icc(y, history.customer)[0], icc(y, history.csa)[0]
    busy = at_work(history, hours)
    a_day = float(known.sum()) / history.days

    def of_days(days: float) -> Precision:
        counted = left(asked, begins, days, hours)
        contacts = a_day * counted * (1 - min(wash / (60 * hours), 1.0))
        again = _again(history, counted)
        return power.of_customers(
            contacts, variance, again, of_customer, of_csa * variance, busy, counted * 24 / hours
        )  # fmt: skip

    against = []
    if share < KNOWN_CUSTOMERS:
        against.append(f"only {share:.0%} of contacts name their customer, so many would change arms")
    if busy / 2 < LEAST_POOL:
        against.append(f"about {busy / 2:.0f} CSAs at work in each pool: so small a pool waits longer than the whole")
    against.append(
        "both arms are centres of half the size, which wait longer than the whole: it measures the effect there"
    )
    impossible = None
    if len(history.csas) < 4 or share == 0:
        impossible = "fewer than four CSAs, or no contact names its customer"
    elif wash >= 60 * hours:
        impossible = f"a wash-out of {wash:g} minutes leaves nothing of windows of {hours:g} h"
    return Option("customer", "csa", hours, wash, 0.0, of_days, history.csas, tuple(against), impossible)


def at_work(history: History, hours: float) -> float:
    """Equal CSAs who would take as many contacts in a window, on average over contacts."""
    window = (history.arrived - history.begins) // round(hours * 3.6e9)
    taken = history.csa >= 0
    many = int(history.csa.max(initial=0)) + 1
    count = np.bincount(window[taken] * many + history.csa[taken], minlength=(int(window.max(initial=0)) + 1) * many)
    table = count.reshape(-1, many).astype(np.float64)
    total = table.sum(axis=1)
    equal = total**2 / np.maximum((table**2).sum(axis=1), 1.0)
    return float((equal * total).sum() / max(total.sum(), 1.0))


def _again(history: History, days: float) -> float:
    """Σ m² / Σ m of contacts m of a customer within so many days."""
    many = max(1, int(history.days // max(days, 1)))
    found, total = 0.0, 0.0
    for part in range(many):
        begin = history.begins + int(part * days * DAY)
        inside = history.part(begin, begin + int(days * DAY)) & (history.customer >= 0)
        count = np.bincount(history.customer[inside]).astype(np.float64)
        found, total = found + float((count**2).sum()), total + float(count.sum())
    return found / max(total, 1.0)
