"""Which arm holds when and where: the schedule that a plan's seed draws, and all the others that it could have drawn.

Notable: one function draws any number of schedules at once, so that the schedule that is used is one of those that
randomisation inference compares it with. Blocks are drawn in pairs that are alike: the same slot of the week in two
weeks that follow on each other; what is left over pairs with the same hours of another day of its kind, then of any
day. Of a pair one block is of each arm, so that neither the week's pattern nor a trend over weeks can favour an arm.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.experiment.frame import CONTROL, OUT, SCHEDULE, TREATMENT
from evaluation.experiment.plan import Pause, Plan
from twotower.clock import DAY, HOUR, parse_time
from twotower.errors import ConfigError

Longs = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
WEEK, MINUTE = 7 * DAY, HOUR // 60
MONDAY = 4 * DAY
"""The first Monday after 1970-01-01, from which weeks are counted."""
ALONE = -1
ALIKE, SALTS = 0.005, 200
"""How far the treatment's share of customers' past contacts may be from the plan's, and salts that are tried."""
MOST_TRIES = 1000
SCHEDULES = 64
"""Drawn at once where some are refused."""


@dataclass(frozen=True)
class Spans:
    """What is drawn. S spans in order of (begins, unit); µs UTC."""

    begins: Longs
    ends: Longs
    unit: npt.NDArray[np.object_]
    pair: Longs
    """Spans of the same number are of different arms; ALONE: drawn by itself."""

    def __len__(self) -> int:
        return len(self.begins)


def draw(plan: Plan, units: Sequence[str], seed: int | None = None) -> pd.DataFrame:
    """A schedule, one row a span, columns as in `frame.SCHEDULE`, in order of (begins_at, unit).

    units: what has an arm at a time (`Plan.unit`). Clusters and CSAs stand in order of their past, as `balance: pairs`
    gives neighbours different arms. seed: default, the plan's. Raises ConfigError for what cannot be drawn.
    """
    spans = spans_of(plan, units)
    drawn = _draw(plan, spans, 1, np.random.default_rng((plan.seed if seed is None else seed, 90)))[0]
    names = np.array([plan.control.name, plan.treatment.name], object)
    return pd.DataFrame(
        {
            "begins_at": pd.to_datetime(spans.begins, unit="us", utc=True).as_unit("us"),
            "ends_at": pd.to_datetime(spans.ends, unit="us", utc=True).as_unit("us"),
            "unit": spans.unit.astype(str),
            "arm": names[drawn].astype(str),
            "pair": spans.pair,
        }
    )[list(SCHEDULE)]


def redraws(plan: Plan, units: Sequence[str], n: int) -> Bytes:
    """Arms (n, S) of schedules that could have been drawn, independent of the one that was; spans as the rows of
    `draw`. The same for the same plan."""
    return _draw(plan, spans_of(plan, units), n, np.random.default_rng((plan.seed, 91)))


def units_of(schedule: pd.DataFrame) -> tuple[str, ...]:
    """The units of a schedule, in an order that pairs those that it pairs."""
    first = schedule[schedule["begins_at"] == schedule["begins_at"].min()]
    alone = first["pair"] == ALONE
    return tuple(first.assign(alone=alone).sort_values(["alone", "pair", "unit"])["unit"])


def spans_of(plan: Plan, units: Sequence[str]) -> Spans:
    """What a plan draws an arm for, with who is paired with whom. Raises ConfigError for units that cannot be."""
    _check(plan, units)
    begins, ends = blocks_of(plan)
    names = np.array(sorted(units), object)
    b, u = (axis.ravel() for axis in np.meshgrid(np.arange(len(begins)), np.arange(len(names)), indexing="ij"))
    if plan.balance == "none":
        pair = np.full(len(b), ALONE, np.int64)
    elif plan.design == "switchback":
        of_unit = _paired_blocks(begins, ends)
        pair = np.where(of_unit[b] == ALONE, ALONE, of_unit[b] * len(names) + u)
    else:
        place = {name: position for position, name in enumerate(units)}
        rank = np.array([place[name] for name in names])[u]
        pairs = len(units) // 2
        pair = np.where(rank < 2 * pairs, b * pairs + rank // 2, ALONE)
    return Spans(begins[b], ends[b], names[u], pair.astype(np.int64))


def blocks_of(plan: Plan) -> tuple[Longs, Longs]:
    """Begins and ends (B,) of blocks, µs UTC, without those that meet a pause. Raises ConfigError: none is left."""
    begins, ends = parse_time(plan.begins, "begins"), parse_time(plan.ends, "ends")
    at, until = cut(begins, ends, plan.block_hours, plan.pauses)
    if not len(at):
        raise ConfigError(f"pauses: no block is left from {plan.begins} to {plan.ends}")
    return at, until


def cut(begins: int, ends: int, hours: float | None, pauses: Sequence[Pause]) -> tuple[Longs, Longs]:
    """[begins, ends), µs UTC, in blocks of so many hours, None: a single one; without those that meet a pause."""
    step = ends - begins if hours is None else round(hours * HOUR)
    at = np.arange(begins, ends, step, dtype=np.int64)
    until = np.minimum(at + step, ends)
    kept = np.ones(len(at), np.bool_)
    for pause in pauses:
        kept &= (until <= parse_time(pause.begins, "pauses")) | (at >= parse_time(pause.ends, "pauses"))
    return at[kept], until[kept]


def customer_arms(plan: Plan, customers: Iterable[str]) -> Bytes:
    """The arm of each customer of a plan of the design `customer`, by a hash of the plan's seed and salt and the
    customer's id: whoever routes needs no list. A contact without a customer goes by its own id."""
    most = 1 << 64
    salt = f"twotower experiment {plan.seed}{f'.{plan.salt}' if plan.salt else ''}\0".encode()
    found = [
        int.from_bytes(hashlib.blake2b(salt + one.encode(), digest_size=8).digest(), "big") < plan.share * most
        for one in customers
    ]
    return np.where(np.array(found, np.bool_), TREATMENT, CONTROL).astype(np.int8)


def balanced(plan: Plan, customers: Sequence[str], contacts: npt.NDArray[Any]) -> tuple[Plan, float]:
    """The plan with the first salt by which the treatment's share of past contacts is within `ALIKE` of the plan's, the
    nearest of `SALTS` where none is; and that share. contacts (K,): of each customer.

    Few customers make many contacts. A pool whose customers call more waits longer in every window, which errors by
    windows do not see; so lots that are as unlike are drawn again (rerandomisation, Morgan & Rubin 2012).
    """
    total = max(float(contacts.sum()), 1.0)
    best, nearest = plan, math.inf
    for salt in range(SALTS):
        tried = plan.model_copy(update={"salt": salt})
        share = float(contacts[customer_arms(tried, customers) == TREATMENT].sum()) / total
        if abs(share - plan.share) < abs(nearest - plan.share):
            best, nearest = tried, share
        if abs(share - plan.share) <= ALIKE:
            break
    return best, nearest


@dataclass(frozen=True)
class Placed:
    """Where contacts (N,) fall. block: the span's number among the distinct begins of the schedule (of the design
    `cluster` among its rows), −1: none; arm: as `frame.FRAME` says; washed: arrived too soon after a change."""

    block: Longs
    arm: Bytes
    washed: Flags


def place(plan: Plan, schedule: pd.DataFrame, arrived_at: Longs, unit: npt.NDArray[np.object_]) -> Placed:
    """arrived_at (N,) µs UTC; unit (N,): of the design `customer` the arm's name. A unit that the schedule does not
    know is in no arm."""
    block, arm = np.full(len(arrived_at), -1, np.int64), np.full(len(arrived_at), OUT, np.int8)
    washed = np.zeros(len(arrived_at), np.bool_)
    wash = round(plan.wash_out_minutes * MINUTE)
    number = _numbers(plan, schedule)
    for name, rows in _by_unit(plan, schedule):
        begins, ends = (_moments(schedule, column)[rows] for column in ("begins_at", "ends_at"))
        mine = np.flatnonzero(unit == name)
        at = np.searchsorted(begins, arrived_at[mine], side="right") - 1
        inside = (at >= 0) & (arrived_at[mine] < ends[at])
        mine, at = mine[inside], at[inside]
        arms = (schedule["arm"].to_numpy()[rows] == plan.treatment.name).astype(np.int8)
        changed = _changes(plan, begins, ends, arms)
        block[mine], arm[mine] = number[rows][at], arms[at]
        washed[mine] = changed[at] & (arrived_at[mine] < begins[at] + wash)
    return Placed(block, arm, washed)


def _moments(schedule: pd.DataFrame, column: str) -> Longs:
    return np.asarray(schedule[column].astype("datetime64[us, UTC]").astype("int64"), np.int64)


def _numbers(plan: Plan, schedule: pd.DataFrame) -> Longs:
    if plan.design == "cluster":
        return np.arange(len(schedule))
    found: Longs = schedule["begins_at"].rank(method="dense").to_numpy().astype(np.int64) - 1
    if plan.design == "switchback" and schedule["unit"].nunique() > 1:
        return np.arange(len(schedule))
    return found


def _by_unit(plan: Plan, schedule: pd.DataFrame) -> Iterable[tuple[str, Longs]]:
    """Rows of each unit, in order of time; of the design `customer` one row a block stands for each arm."""
    key = "arm" if plan.design == "customer" else "unit"
    ordered = schedule.reset_index(drop=True).sort_values("begins_at", kind="stable")
    if plan.design == "customer":
        ordered = ordered.drop_duplicates(["begins_at", "arm"])
    for name, rows in ordered.groupby(key, sort=False).indices.items():
        yield str(name), ordered.index.to_numpy()[rows]


def _changes(plan: Plan, begins: Longs, ends: Longs, arms: Bytes) -> Flags:
    """(B,) whether something changed when a block began: its arm, from the control before and in pauses; pools are
    drawn anew in every block; of clusters every one counts as changed when the experiment begins, so that both arms
    are of the same time."""
    if plan.design != "switchback":
        return np.ones(len(begins), np.bool_)
    before = np.concatenate([[CONTROL], arms[:-1]])
    before[1:][begins[1:] > ends[:-1]] = CONTROL
    return np.asarray(arms != before)


def _check(plan: Plan, units: Sequence[str]) -> None:
    if len(set(units)) < len(units):
        twice = sorted({one for one in units if list(units).count(one) > 1})
        raise ConfigError(f"schedule: the {plan.unit} {twice[0]!r} is there twice")
    if not units:
        raise ConfigError(f"schedule: no {plan.unit} to draw an arm for")
    if plan.unit == "centre" and len(units) != 1:
        raise ConfigError(f"schedule: {len(units)} units given; the whole centre is one")
    if plan.design in ("cluster", "customer") and len(units) < 2:
        raise ConfigError(f"schedule: a single {plan.unit} cannot be in two arms")


def _paired_blocks(begins: Longs, ends: Longs) -> Longs:
    """(B,) numbers of pairs, ALONE for the one that may be left over. A block that was cut short is like none."""
    slot, length = (begins - MONDAY) % WEEK, ends - begins
    weekend = slot // DAY >= 5
    pair, found = np.full(len(begins), ALONE, np.int64), 0
    likeness: tuple[Callable[[int], Hashable], ...] = (
        lambda i: (int(slot[i]), int(length[i])),
        lambda i: (int(slot[i] % DAY), bool(weekend[i]), int(length[i])),
        lambda i: (int(slot[i] % DAY), int(length[i])),
        lambda i: 0,
    )
    for alike in likeness:
        groups: dict[Hashable, list[int]] = {}
        for i in np.flatnonzero(pair == ALONE).tolist():
            groups.setdefault(alike(i), []).append(i)
        for group in groups.values():
            for one, other in zip(group[::2], group[1::2], strict=False):
                pair[one] = pair[other] = found
                found += 1
    # Numbered by time.
    order = {number: place for place, number in enumerate(dict.fromkeys(pair[pair != ALONE].tolist()))}
    return np.array([order.get(number, ALONE) for number in pair.tolist()], np.int64)


def _draw(plan: Plan, spans: Spans, n: int, random: np.random.Generator) -> Bytes:
    """(n, S) arms; those in which an arm holds too long are drawn again."""
    if plan.most_in_a_row is None:
        return _complete(plan, spans, n, random) if plan.balance == "none" else _halves(spans, n, random)
    kept: list[Bytes] = []
    many = 0
    for _ in range(MOST_TRIES):
        found = _in_turn(plan, spans, max(n, SCHEDULES), plan.most_in_a_row, random)
        found = found[_short(spans, found, plan.most_in_a_row)]
        kept.append(found)
        many += len(found)
        if many >= n:
            return np.concatenate(kept)[:n]
    raise ConfigError(
        f"most_in_a_row: {plan.most_in_a_row} blocks of an arm in a row leave hardly any schedule with this balance; "
        "allow more, or balance: none"
    )


def _halves(spans: Spans, n: int, random: np.random.Generator) -> Bytes:
    """Of each pair one of either arm, by a coin; who is alone by a coin of their own."""
    arms = (random.random((n, len(spans))) < 0.5).astype(np.int8)
    order = np.argsort(spans.pair, kind="stable")
    second = order[1:][(spans.pair[order][1:] == spans.pair[order][:-1]) & (spans.pair[order][1:] != ALONE)]
    first = order[np.searchsorted(spans.pair[order], spans.pair[second])]
    arms[:, second] = 1 - arms[:, first]
    return arms


def _in_turn(plan: Plan, spans: Spans, n: int, most: int, random: np.random.Generator) -> Bytes:
    """In order of time, each span by a coin unless its pair or `most` spans of an arm before it leave no choice."""
    luck = (random.random((n, len(spans))) < plan.share).astype(np.int8)
    arms = np.full((n, len(spans)), OUT, np.int8)
    first: dict[int, int] = {}
    run: dict[str, Longs] = {}
    last: dict[str, Bytes] = {}
    for i, (unit, pair) in enumerate(zip(spans.unit.tolist(), spans.pair.tolist(), strict=True)):
        before, many = last.get(unit, np.full(n, OUT, np.int8)), run.get(unit, np.zeros(n, np.int64))
        if pair in first:
            arms[:, i] = 1 - arms[:, first[pair]]
        else:
            arms[:, i] = np.where(many >= most, 1 - before, luck[:, i])
        if pair != ALONE:
            first.setdefault(pair, i)
        run[unit], last[unit] = np.where(arms[:, i] == before, many + 1, 1), arms[:, i]
    return arms


def _complete(plan: Plan, spans: Spans, n: int, random: np.random.Generator) -> Bytes:
    """So many of each unit's blocks (of clusters and CSAs: of the units at a time) in the treatment as the share says,
    at least one and not all where there are two."""
    of_time = plan.design != "switchback"
    group = spans.begins if of_time else np.unique(spans.unit.astype(str), return_inverse=True)[1]
    arms = np.zeros((n, len(spans)), np.int8)
    for one in np.unique(group):
        mine = np.flatnonzero(group == one)
        treated = min(max(round(plan.share * len(mine)), 1), max(len(mine) - 1, 1))
        order = np.argsort(random.random((n, len(mine))), axis=1)
        arms[:, mine] = order < treated
    return arms


def _short(spans: Spans, arms: Bytes, most: int) -> Flags:
    """(n,) in which schedules no unit has an arm for longer than `most` blocks."""
    good = np.ones(len(arms), np.bool_)
    for name in np.unique(spans.unit.astype(str)):
        mine = arms[:, spans.unit.astype(str) == name].astype(np.int64)
        if mine.shape[1] > most:
            window = np.lib.stride_tricks.sliding_window_view(mine, most + 1, axis=1).sum(axis=2)
            good &= np.all((window > 0) & (window <= most), axis=1)
    return good
