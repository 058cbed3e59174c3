"""The contacts of a window of a log: when they came, of which class each is, who could take it.

Notable: a class is queue × language × channel. Who can take a class is what the tables tell of CSAs (languages they
declare, or have served where they declare none; queues they have ever served, or declare a skill of that name for), not
the lists of `eligible`, which tell who was free besides: whether somebody is free is what is simulated. How many of the
listed pairs a window's classes allow is counted as a check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twotower.clock import format_time
from twotower.errors import ConfigError
from twotower.tables.log import Csas, Log

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
NONE = ""
"""A value that is null."""


@dataclass(frozen=True)
class Coded:
    """A property of all contacts of a log: names, "" where null, and codes (N,)."""

    names: tuple[str, ...]
    code: Longs


@dataclass(frozen=True)
class Window:
    """Contacts [first, last) of a log, by arrival, between two moments, µs UTC."""

    log: Log
    begin: int
    end: int
    rows: Longs
    """(N,) positions in `log.contacts`."""
    classes: tuple[str, ...]
    """(K,) such as `cards / en / chat`; a class of any contact of the log that is in the window."""
    parts: Longs
    """(K, 3) codes of queue, language and channel."""
    kind: Longs
    """(contacts of the log,) class, −1 where the window has none such."""
    queue: Coded
    language: Coded
    channel: Coded

    def __len__(self) -> int:
        return len(self.rows)

    def seconds(self, moments: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """From the window's start."""
        return np.asarray((moments - self.begin) / 1e6, np.float64)


def window_of(log: Log, begin: int, end: int) -> Window:
    """The contacts that arrived in [begin, end). Raises ConfigError where there is none."""
    arrived = log.contacts.arrived_at
    first, last = (int(i) for i in np.searchsorted(arrived, (begin, end)))
    if not begin < end or first == last:
        known = f"the log has contacts from {format_time(int(arrived[0]))} to {format_time(int(arrived[-1]))}"
        raise ConfigError(f"centre: no contact from {format_time(begin)} to {format_time(end)}; {known}")
    queue, channel = _coded(log.contacts.queue), _coded(log.contacts.channel)
    language = _coded(_languages(log))
    key = (queue.code * len(language.names) + language.code) * len(channel.names) + channel.code
    keys = np.unique(key[first:last])
    found = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    rest, of_channel = np.divmod(keys, len(channel.names))
    of_queue, of_language = np.divmod(rest, len(language.names))
    parts = np.stack([of_queue, of_language, of_channel], axis=1)
    named = [(queue.names[q], language.names[s], channel.names[c]) for q, s, c in parts.tolist()]
    classes = tuple(" / ".join(part or "–" for part in one) for one in named)
    kind = np.where(keys[found] == key, found, -1)
    return Window(log, begin, end, np.arange(first, last), classes, parts, kind, queue, language, channel)


def can_take(window: Window, before: int) -> Flags:
    """(K, J) which CSAs of the log can take which class, by what the tables tell until `before`, µs UTC."""
    speaks = _speaks(window, before)
    serves = _serves(window, before)
    able: Flags = serves[:, window.parts[:, 0]].T & speaks[:, window.parts[:, 1]].T
    return able


def covered(window: Window, able: Flags) -> float | None:
    """Share of the pairs that lists of `eligible` in the window name which the classes allow too; None: no lists."""
    lists = window.log.contacts.eligible
    if lists is None:
        return None
    part = lists.take(window.rows)
    if not len(part.values):
        return None
    return float(able[window.kind[window.rows][part.rows], part.values].mean())


def _languages(log: Log) -> Any:
    """Of contacts, or of their customers where contacts tell none: the first part of the tag, such as `en`."""
    customer = log.contacts.customer
    known = log.customer_language.take(pa.array(customer, mask=customer < 0))
    filled = pc.coalesce(log.contacts.language.cast(pa.string()), known.cast(pa.string()))
    return pc.utf8_lower(pc.replace_substring_regex(filled, "[-_].*$", ""))


def _coded(values: Any) -> Coded:
    filled = pc.fill_null(values.cast(pa.string()), NONE)
    names = pc.unique(filled).sort()
    code = pc.index_in(filled, value_set=names).to_numpy(zero_copy_only=False)
    return Coded(tuple(names.to_pylist()), code.astype(np.int64))


def _met(window: Window, of: Coded, before: int) -> Flags:
    """(J, values) whether a CSA was ever given a contact of that value before a moment."""
    moves, seen = window.log.handovers, np.zeros((len(window.log.csas), len(of.names)), np.bool_)
    early = moves.assigned_at < before
    seen[moves.csa[early], of.code[moves.contact[early]]] = True
    return seen


def _speaks(window: Window, before: int) -> Flags:
    """(J, languages); everybody speaks what is not told."""
    language, csas = window.language, window.log.csas
    speaks, row = _met(window, language, before), csas.row_at(before - 1)
    for csa, at in enumerate(row.tolist()):
        declared = [] if at < 0 else csas.languages[at].as_py() or []
        if declared:
            own = {one.replace("_", "-").split("-")[0].lower() for one in declared}
            speaks[csa] = [name in own for name in language.names]
    speaks[:, [name == NONE for name in language.names]] = True
    return speaks


def _serves(window: Window, before: int) -> Flags:
    """(J, queues); everybody serves what has no queue. Who was never given anything serves what their team does."""
    queue, csas = window.queue, window.log.csas
    met, row = _met(window, queue, before), csas.row_at(before - 1)
    serves = met | _declared(csas, row, queue.names)
    team = ["" if at < 0 else csas.team[at].as_py() or "" for at in row.tolist()]
    for csa in np.flatnonzero(~serves.any(axis=1)).tolist():
        mates = [other for other, name in enumerate(team) if name and name == team[csa]]
        serves[csa] = met[mates].any(axis=0)
    serves[:, [name == NONE for name in queue.names]] = True
    return serves


def _declared(csas: Csas, row: npt.NDArray[np.int32], queues: tuple[str, ...]) -> Flags:
    """(J, queues) whether a CSA declares a skill that is called like the queue."""
    found = np.zeros((len(row), len(queues)), np.bool_)
    for csa, at in enumerate(row.tolist()):
        names = set() if at < 0 else {one["name"].casefold() for one in csas.skills[at].as_py() or []}
        found[csa] = [name.casefold() in names for name in queues]
    return found
