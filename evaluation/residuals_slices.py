"""Slices of the test contacts: what could set the contacts a model misses apart from those it gets right.

Notable: slices by history (warm and cold CSAs, new and returning customers) look only at what was known strictly before
the contact arrived, as the model does. A slice may use the right CSA, which a model may not: slices explain, they do
not predict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from evaluation.ranking import Positions
from twotower.clock import DAY, HOUR
from twotower.tables.log import Log
from twotower.tables.ragged import Ragged

Bools = npt.NDArray[np.bool_]

MOST_VALUES = 30
NONE = "(none)"
OTHERS = "(others)"
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Slice:
    """The test contacts with one value of one property: `member` bool[n]."""

    kind: str
    value: str
    member: Bools


def slices(log: Log, positions: Positions, handled: Ragged) -> list[Slice]:
    """Every slice of the test contacts; those that hold all of them or none are left out.

    Args:
        log: a whole log.
        positions: (n,) ascending test contacts, each handled by somebody.
        handled: by whom: `positive_csas(log)`, or `tried_csas(log)` where outcomes are judged.
    """
    found = [*_categories(log, positions), *_texts(log, positions), *_customers(log, positions)]
    found += _experience(log, positions, handled)
    return [part for part in found if part.member.any() and not part.member.all()]


def csa_slices(log: Log, positions: Positions, handled: Ragged, least: int) -> list[Slice]:
    """One slice per CSA: the test contacts that this CSA handled, where these are at least `least`."""
    chosen = handled.take(positions)
    many = np.flatnonzero(np.bincount(chosen.values, minlength=len(log.csas)) >= least)
    out = []
    for csa in many:
        member = np.zeros(len(positions), dtype=np.bool_)
        member[chosen.rows[chosen.values == csa]] = True
        out.append(Slice("CSA", str(log.csas.ids[int(csa)]), member))
    return out


def binned(kind: str, values: npt.NDArray[Any], edges: tuple[float, ...], names: tuple[str, ...]) -> Iterator[Slice]:
    """One slice per bin: bin i holds `edges[i − 1] <= value < edges[i]`; NaN falls into none."""
    which = np.searchsorted(np.asarray(edges), values, side="right")
    which[np.isnan(values)] = -1
    for i, name in enumerate(names):
        yield Slice(kind, name, which == i)


def _categories(log: Log, positions: Positions) -> Iterator[Slice]:
    contacts = log.contacts
    for kind in ("queue", "channel", "language", "intent"):
        column = pc.fill_null(getattr(contacts, kind).take(positions), NONE)
        counts = sorted((-c["counts"], c["values"]) for c in pc.value_counts(column).to_pylist())
        values = np.asarray(column.to_pylist(), dtype=object)
        named = [value for _, value in counts[:MOST_VALUES]]
        for value in named:
            yield Slice(kind, value, values == value)
        yield Slice(kind, OTHERS, ~np.isin(values.astype(str), named))
    hour = (contacts.arrived_at[positions] % DAY) / HOUR
    names = tuple(f"{start:02d}–{start + 4:02d} h UTC" for start in range(0, 24, 4))
    yield from binned("time of day", hour, (4, 8, 12, 16, 20), names)


def _texts(log: Log, positions: Positions) -> Iterator[Slice]:
    contacts = log.contacts
    needs = [text or "" for text in contacts.intent_text.to_pylist()]
    talk = contacts.transcript.take(positions).to_pylist()
    words = [WORD.findall(needs[p].lower()) for p in positions]
    length = np.array([len(w) + len(WORD.findall(t or "")) for w, t in zip(words, talk, strict=True)], dtype=float)
    edges = tuple(np.unique(np.quantile(length, [0.25, 0.5, 0.75])))
    bounds = ("0", *(f"{edge:.0f}" for edge in edges))
    names = (
        *(f"{low} to below {high} words" for low, high in pairwise(bounds)),
        f"{bounds[-1]} words or more",
    )
    yield from binned("text length", length, edges, names)
    seen = {word for text in needs[: int(positions[0])] for word in WORD.findall(text.lower())}
    share = np.array([np.mean([w not in seen for w in ws]) if ws else np.nan for ws in words])
    names = ("all seen before", "up to a quarter new", "more than a quarter new")
    yield from binned("words of the need", share, (1e-9, 0.25 + 1e-9), names)


def _customers(log: Log, positions: Positions) -> Iterator[Slice]:
    customer = log.contacts.customer
    before = handled_before(log, positions)
    unknown = customer[positions] < 0
    yield Slice("customer", "unknown", unknown)
    yield Slice("customer", "new: no hand-over known yet", ~unknown & (before == 0))
    yield Slice("customer", "returning", ~unknown & (before > 0))


def handled_before(log: Log, positions: Positions) -> npt.NDArray[np.int64]:
    """How many hand-overs of each contact's customer were known strictly before it arrived; 0 for unknown customers."""
    customer = log.contacts.customer[log.handovers.contact].astype(np.int64)
    return _counted(customer, log, log.contacts.customer[positions].astype(np.int64), positions)[0]


def _experience(log: Log, positions: Positions, handled: Ragged) -> Iterator[Slice]:
    """By the most experienced CSA of each contact: hand-overs known before, and how long ago the last became known."""
    chosen = handled.take(positions)
    count, last = _counted(
        log.handovers.csa.astype(np.int64), log, chosen.values.astype(np.int64), positions[chosen.rows]
    )
    most = np.full(len(positions), np.nan)
    np.fmax.at(most, chosen.rows, count.astype(float))
    names = ("0", "1 to 4", "5 to 19", "20 to 99", "100 or more")
    yield from binned("hand-overs the CSA had", most, (1, 5, 20, 100), names)
    arrived = log.contacts.arrived_at[positions[chosen.rows]]
    age = np.where(count > 0, (arrived - last) / DAY, np.nan)
    youngest = np.full(len(positions), np.nan)
    np.fmin.at(youngest, chosen.rows, age)
    names = ("within a day", "within a week", "within 30 days", "within half a year", "longer ago")
    yield from binned("last hand-over of the CSA", youngest, (1, 7, 30, 182), names)


def _counted(
    group: npt.NDArray[np.int64], log: Log, asked: npt.NDArray[np.int64], positions: Positions
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Hand-overs of each asked group known strictly before the contact arrived, and when the last became known (0
    where there is none)."""
    size = len(group)
    order = np.argsort(group, kind="stable")
    key = group[order] * (size + 1) + order
    known = np.searchsorted(log.handovers.known_at, log.contacts.arrived_at[positions], side="left")
    start, stop = np.searchsorted(key, asked * (size + 1)), np.searchsorted(key, asked * (size + 1) + known)
    count = np.where(asked >= 0, stop - start, 0)
    last = (
        np.where(count > 0, log.handovers.known_at[order[np.maximum(stop - 1, 0)]], 0) if size else np.zeros_like(count)
    )
    return count.astype(np.int64), last.astype(np.int64)
