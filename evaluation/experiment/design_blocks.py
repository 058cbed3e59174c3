"""A history cut into blocks: how blocks vary beside the slot of the week and beside chance, and how they hang together.

Notable: variances come from differences of the same slot in weeks that follow on each other, as a schedule pairs them,
so neither the week's pattern nor a slow trend counts. With contacts n and means m of such a pair,

    E (m₁ − m₀)² = 2 σ_b² + σ_w² (1/n₁ + 1/n₀),

σ_w² being the variance of contacts within a block, σ_b² that of what all contacts of a block share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evaluation.experiment.design_history import History
from evaluation.experiment.schedule import MONDAY, WEEK
from twotower.clock import DAY, HOUR, SECOND

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

LAGS = 6
"""Autocorrelations of block means that are told."""


@dataclass(frozen=True)
class Blocks:
    """Sums over W weeks × P slots of the week, from Monday; a slot that the history does not reach has no contacts."""

    hours: float
    first: int
    """The Monday from which weeks count, µs UTC."""
    n: Doubles
    """(W, P) contacts whose metric is known."""
    s: Doubles
    """(W, P) sum of the metric."""
    squares: Doubles
    """(W, P) sum of its squares."""
    early_n: Doubles
    """(W, P) those of the first minutes, which a wash-out would take."""
    early_s: Doubles
    inside: npt.NDArray[np.bool_]
    """(W, P) all of the block lies within the history."""

    @property
    def weekly(self) -> Doubles:
        """(P,) mean contacts of a slot."""
        many = np.maximum(self.inside.sum(axis=0), 1)
        return np.asarray((self.n * self.inside).sum(axis=0) / many, np.float64)


def blocks_of(history: History, y: Doubles, hours: float, wash_minutes: float = 0.0) -> Blocks:
    """Blocks of so many hours, a part of a week, of a metric (N,); NaN: not known."""
    step = round(hours * HOUR)
    first = history.begins - (history.begins - MONDAY) % WEEK
    slots = WEEK // step
    weeks = -(-(history.ends - first) // WEEK)
    known = np.flatnonzero(~np.isnan(y))
    since = history.arrived[known] - first
    place = since // step
    early = since % step < wash_minutes * 60 * SECOND
    begins = first + np.arange(weeks * slots) * step

    def total(values: Doubles | None, rows: npt.NDArray[np.bool_] | None = None) -> Doubles:
        at, of = (place, values) if rows is None else (place[rows], None if values is None else values[rows])
        return np.bincount(at, of, weeks * slots).reshape(weeks, slots).astype(np.float64)

    values = y[known]
    inside = (begins >= history.begins) & (begins + step <= history.ends)
    return Blocks(
        hours, first, total(None), total(values), total(values**2), total(None, early), total(values, early),
        inside.reshape(weeks, slots),
    )  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """Variance components of a metric in blocks of some length."""

    between: float
    """σ_b²: what all contacts of a block share, beyond their slot of the week."""
    within: float
    """σ_w²: contacts within a block."""
    pairs: int
    """Pairs of blocks that this was told from."""
    autocorrelation: tuple[float, ...]
    """Of block means beyond their slot, at 1, 2, … blocks."""
    uneven: float = 1.0
    """By how much the variance of a difference of pairs is larger than these parts make it, because a slot has not as
    many contacts in each week: then what slots differ by does not cancel, and busy blocks weigh more."""

    @property
    def icc(self) -> float:
        """Share of a contact's variance that its block has."""
        return self.between / max(self.between + self.within, 1e-300)


def parts_of(blocks: Blocks) -> Parts:
    """By moments; pairs weigh as contacts do in a difference of means."""
    n, inside = blocks.n, blocks.inside & (blocks.n > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = blocks.s / n
    inner = float((blocks.squares - n * np.nan_to_num(mean) ** 2)[inside].sum())
    free = float((n - 1)[inside].sum())
    within = max(inner, 0.0) / max(free, 1.0)
    both = inside[1:] & inside[:-1]
    a, b = n[1:][both], n[:-1][both]
    apart = mean[1:][both] - mean[:-1][both]
    weight = (a * b / (a + b)) ** 2
    between = 0.0
    if len(apart):
        between = float((weight * (apart**2 - within * (1 / a + 1 / b))).sum() / (2 * weight.sum()))
    found = Parts(max(between, 0.0), within, len(apart), _autocorrelation(mean, n, inside))
    return replace(found, uneven=_uneven(blocks, found))


def _uneven(blocks: Blocks, parts: Parts) -> float:
    """Squares of what pairs differ by in sums beyond the overall mean, over what blocks of usual size would; 1 at
    least, as uneven weeks can only add."""
    n, s, inside = blocks.n, blocks.s, blocks.inside
    total = float(n[inside].sum())
    if total <= 0:
        return 1.0
    beyond = s - float(s[inside].sum()) / total * n
    both = inside[1:] & inside[:-1]
    usual = np.broadcast_to(blocks.weekly, n.shape)[1:][both]
    expected = 2 * float((usual**2 * parts.between + usual * parts.within).sum())
    seen = float(((beyond[1:] - beyond[:-1])[both] ** 2).sum())
    return max(1.0, seen / expected) if expected > 0 else 1.0


def _autocorrelation(mean: Doubles, n: Doubles, inside: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """Of what block means are beyond their slot's, weighted by the contacts of the smaller block."""
    weight = np.where(inside, n, 0.0)
    slot = (weight * np.nan_to_num(mean)).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-300)
    rest, flat = np.where(inside, np.nan_to_num(mean) - slot, 0.0).ravel(), weight.ravel()
    found = []
    for lag in range(1, LAGS + 1):
        if lag >= len(rest):
            break
        pair = np.minimum(flat[lag:], flat[:-lag])
        spread = np.sqrt((pair * rest[lag:] ** 2).sum() * (pair * rest[:-lag] ** 2).sum())
        found.append(float((pair * rest[lag:] * rest[:-lag]).sum() / spread) if spread > 0 else 0.0)
    return tuple(found)


def icc(y: Doubles, group: Longs) -> tuple[float, int]:
    """Intraclass correlation of y (n,) in groups (n,), −1 left out, and how many groups have two or more; by one-way
    analysis of variance with groups of unequal size (Donner 1986, International Statistical Review 54)."""
    known = ~np.isnan(y) & (group >= 0)
    values, codes = y[known], np.unique(group[known], return_inverse=True)[1]
    if not len(values):
        return 0.0, 0
    count = np.bincount(codes).astype(np.float64)
    groups, total = len(count), float(count.sum())
    if groups < 2 or total <= groups:
        return 0.0, int((count > 1).sum())
    mean = np.bincount(codes, values) / count
    inner = float(((values - mean[codes]) ** 2).sum()) / (total - groups)
    outer = float((count * (mean - values.mean()) ** 2).sum()) / (groups - 1)
    size = (total - float((count**2).sum()) / total) / (groups - 1)
    found = (outer - inner) / max(outer + (size - 1) * inner, 1e-300)
    return float(np.clip(found, 0.0, 1.0)), int((count > 1).sum())


@dataclass(frozen=True)
class Week:
    """By weekday from Monday: contacts a day, and the mean of the metric."""

    contacts: tuple[float, ...]
    mean: tuple[float, ...]


def week_of(history: History, y: Doubles) -> Week:
    """The pattern of a week."""
    day = (history.arrived - MONDAY) % WEEK // DAY
    many = np.bincount((history.begins - MONDAY + np.arange(history.days) * DAY) % WEEK // DAY, minlength=7)
    known = ~np.isnan(y)
    count, told = np.bincount(day, minlength=7), np.bincount(day[known], minlength=7)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(day[known], y[known], 7) / told
        contacts = count / many
    return Week(tuple(contacts.tolist()), tuple(mean.tolist()))
