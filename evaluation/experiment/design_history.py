"""What a log says of the time before an experiment: contacts, how they went, who they belong to, who was in the system.

Notable: whole days alone, so that each slot of the week stands for itself. Nothing is modelled here; blocks, variances
and what is left of a change are made of these columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.experiment.handed import Handed, came_back, handed
from evaluation.experiment.history import expected, groups_of
from evaluation.experiment.measured import end_of
from evaluation.experiment.units import NEARLY_ALL, of_takers
from twotower.clock import DAY, NEVER, SECOND, format_time
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Log

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

LEAST_DAYS, MOST_DAYS = 14, 182
"""A slot of the week must be seen twice; what is older than half a year says little of now."""
LEAST_KNOWN = 0.5
"""Share of contacts whose metric must be known."""
NO_UNIT = -1


@dataclass(frozen=True)
class Units:
    """Sites or teams of contacts (N,): positions in `names`, NO_UNIT where not known."""

    names: tuple[str, ...]
    code: Longs
    alone: float
    """Share of contacts whose queue and language are served by their unit alone, nearly; 1: demands are apart."""


@dataclass(frozen=True)
class History:
    """N contacts of whole days, by arrival."""

    begins: int
    """µs UTC, a midnight"""
    ends: int
    data_end: int
    """The last moment that anything was written down."""
    arrived: Longs
    left: Longs
    """(N,) when they were handled or gave up; `NEVER`: not known."""
    columns: dict[str, Doubles]
    """(N,) metrics of the frame; NaN: not known."""
    customer: Longs
    """(N,) −1: not known"""
    csa: Longs
    """(N,) the first one, −1: nobody"""
    groups: tuple[Longs, ...]
    """(N,) each, of `history.groups_of`."""
    sizes: tuple[int, ...]
    units: dict[str, Units]
    """By `site` and `team`, where the log has them."""
    csas: tuple[str, ...]
    customers: tuple[str, ...] = ()
    """Ids, by code; empty: not known."""

    def __len__(self) -> int:
        return len(self.arrived)

    @property
    def days(self) -> int:
        """Whole days."""
        return (self.ends - self.begins) // DAY

    def metric(self, name: str) -> Doubles:
        """(N,). Raises ConfigError where the log does not have it."""
        y = self.columns.get(name)
        if y is None:
            raise ConfigError(
                f"metric {name}: no single contact has it, so it can be a guardrail but not what decides; take one of "
                f"{', '.join(self.columns)}"
            )
        known = float((~np.isnan(y)).mean())
        if known < LEAST_KNOWN:
            what = "no contact" if known == 0 else f"only {known:.0%} of contacts"
            raise ConfigError(
                f"metric {name}: {what} before the experiment has it; take a metric that is measured, or measure it "
                "first"
            )
        return y

    def part(self, begins: int, ends: int) -> npt.NDArray[np.bool_]:
        """(N,) who arrived then."""
        found: npt.NDArray[np.bool_] = (self.arrived >= begins) & (self.arrived < ends)
        return found

    def adjusted(self, name: str) -> tuple[Doubles, float]:
        """A metric (N,) less what the first half of the days expects of such contacts, NaN in that half; and the share
        of a contact's variance that this explains. As the analysis adjusts (CUPED), by history alone."""
        y = self.metric(name)
        middle = self.begins + self.days // 2 * DAY
        early = self.part(self.begins, middle)
        x = expected(y[early], tuple(group[early] for group in self.groups), self.sizes).of(self.groups)
        late = ~early & ~np.isnan(y) & ~np.isnan(x)
        found = np.where(early, np.nan, y)
        if late.sum() < 3 or np.var(x[late]) <= 1e-12:
            return found, 0.0
        centred = x - x[late].mean()
        theta = float((y[late] - y[late].mean()) @ centred[late] / (centred[late] @ centred[late]))
        explained = theta**2 * float(np.var(x[late])) / max(float(np.var(y[late])), 1e-300)
        return found - theta * centred, explained


def read_history(folder: str | Path, until: int | None = None, repeat_days: float = 7.0) -> History:
    """Of a data set, up to MOST_DAYS. until: µs UTC, default all. Raises DataError; ConfigError for too few days."""
    log = Log.load(folder, until=until)
    arrived, last = log.contacts.arrived_at, end_of(log)
    if not len(arrived):
        raise DataError("contacts.parquet: there are no contacts")
    ends = (int(arrived[-1]) // DAY + (int(arrived[-1]) % DAY > DAY - DAY // 24)) * DAY
    begins = max(-(-int(arrived[0]) // DAY) * DAY, ends - MOST_DAYS * DAY)
    days = max(0, (ends - begins) // DAY)
    if days < LEAST_DAYS:
        raise ConfigError(
            f"{folder}: history of {days} whole days, from {format_time(int(arrived[0]))} to "
            f"{format_time(int(arrived[-1]))}; {LEAST_DAYS} or more are needed to know how weeks differ"
        )
    of = handed(log)
    rows = np.arange(*np.searchsorted(arrived, (begins, ends)))
    columns = {**of.columns, "repeat": came_back(log, repeat_days, last)}
    intent, language = codes(log.contacts.intent), codes(log.contacts.language)
    groups, sizes = groups_of(intent[rows], language[rows], arrived[rows])
    return History(
        begins, ends, last, arrived[rows], _left(log, of)[rows],
        {name: column[rows] for name, column in columns.items()}, log.contacts.customer[rows].astype(np.int64),
        of.csa[rows], groups, sizes, _units(log, of, rows, language), tuple(log.csas.ids.to_pylist()),
        tuple(log.customer_ids.to_pylist()),
    )  # fmt: skip


def _left(log: Log, of: Handed) -> Longs:
    """(N,) when the last hand-over ended, or they gave up."""
    found = np.full(len(log.contacts), np.iinfo(np.int64).min)
    np.maximum.at(found, log.handovers.contact, log.handovers.ended_at)
    lost = of.columns["abandoned"] == 1
    nobody = found == np.iinfo(np.int64).min
    return np.where(lost, log.contacts.abandoned_at, np.where(nobody, NEVER, found))


def _units(log: Log, of: Handed, rows: Longs, language: Longs) -> dict[str, Units]:
    """Sites and teams, of the first CSA, where csas.parquet has at least one."""
    found: dict[str, Units] = {}
    kind = codes(log.contacts.queue) * (int(language.max(initial=-1)) + 2) + language + 1
    for name in ("site", "team"):
        by_row = getattr(log.csas, name).to_pylist()
        names = tuple(sorted({str(one) for one in by_row if one is not None}))
        if not names:
            continue
        of_row = np.array([NO_UNIT if one is None else names.index(str(one)) for one in by_row], np.int64)
        found[name] = _of_kinds(names, of_takers(log, of, of_row, rows), kind[rows])
    return found


def _of_kinds(names: tuple[str, ...], code: Longs, kind: Longs) -> Units:
    """With contacts that nobody took where nearly all of their queue and language are."""
    known = code != NO_UNIT
    if not known.any():
        return Units(names, code, 0.0)
    kinds = np.unique(kind, return_inverse=True)[1]
    table = np.bincount(kinds[known] * len(names) + code[known], minlength=(int(kinds.max()) + 1) * len(names))
    table = table.reshape(-1, len(names))
    most = np.where(table.max(axis=1) >= NEARLY_ALL * np.maximum(table.sum(axis=1), 1), table.argmax(axis=1), NO_UNIT)
    filled = np.where(known, code, most[kinds])
    return Units(names, filled, float(table.max(axis=1).sum() / table.sum()))


def codes(column: pa.Array) -> Longs:
    """Positions of values (N,) in the order in which they first stand there, −1 where null."""
    coded: Any = pc.dictionary_encode(column)
    return np.asarray(pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False), np.int64)


def seconds_since(moments: Longs, begin: int) -> Doubles:
    """(n,) s."""
    return np.asarray((moments - begin) / SECOND, np.float64)
