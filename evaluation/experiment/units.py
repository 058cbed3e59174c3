"""To which site or team a contact belongs, and who works where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from evaluation.experiment.handed import Handed
from evaluation.experiment.plan import Plan
from twotower.errors import DataError
from twotower.tables.log import Log

Longs = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]

CENTRE = "centre"
NEARLY_ALL = 0.95
"""Share of a queue's contacts that must go to one unit for those that nobody took to be counted there."""
UNTOLD = 0.02
"""Share of contacts of no unit above which an experiment of units cannot be analysed."""


def units_of_csas(plan: Plan, log: Log, moment: int) -> Names:
    """(J,) site or team of every CSA by the dated row that counts at a moment, None where it has none."""
    return or_none(getattr(log.csas, plan.unit).to_pylist(), log.csas.row_at(moment))


def or_none(values: Sequence[Any], place: npt.NDArray[Any]) -> Names:
    """Those at some places (n,), None at −1."""
    found: Names = np.array([*values, None], object)[place]
    return found


def units_of_contacts(plan: Plan, log: Log, of: Handed, rows: Longs) -> tuple[Names, int]:
    """Units (n,) of some contacts, None where not known, and of how many that is.

    Raises DataError where no CSA has a unit, or too many contacts have none.
    """
    if plan.unit == CENTRE:
        return np.full(len(rows), CENTRE, object), 0
    # Codes of units; the last one stands for none.
    by_row = np.asarray(getattr(log.csas, plan.unit).to_pylist(), object)
    names = np.unique(np.array([one for one in by_row if one is not None], dtype=object).astype(str)).astype(object)
    if not len(names):
        raise DataError(f"csas.parquet, column {plan.unit}: nobody has one; an experiment by {plan.unit} needs it")
    code = {name: i for i, name in enumerate(names)}
    of_row = np.array([-1 if one is None else code[one] for one in by_row], np.int64)
    unit = _of_lists(log, of_row, rows)
    took = of_takers(log, of, of_row, rows)
    unit = np.where(unit >= 0, unit, took)
    unit = np.where(unit >= 0, unit, _of_queues(log, of, of_row, rows))
    unknown = int((unit < 0).sum())
    if unknown > UNTOLD * len(rows):
        raise DataError(
            f"contacts.parquet: {unknown / len(rows):.1%} of contacts belong to no {plan.unit}: neither eligible, nor "
            f"the CSA who took them, nor their queue says which; give queues or eligible lists of one {plan.unit}"
        )
    return or_none(names.tolist(), unit), unknown


def _of_lists(log: Log, of_row: Longs, rows: Longs) -> Longs:
    """The unit (n,) of all who could have taken a contact, −1 where they are of several or there is no list."""
    found, eligible = np.full(len(rows), -1, np.int64), log.contacts.eligible
    if eligible is None:
        return found
    last = np.full(len(log.csas), -1, np.int64)
    last[log.csas.csa] = of_row
    part = eligible.take(rows)
    lengths = np.diff(part.offsets)
    full = np.flatnonzero((lengths > 0) & ~part.all_)
    if len(full):
        units = last[part.values]
        low = np.minimum.reduceat(units, part.offsets[full])
        high = np.maximum.reduceat(units, part.offsets[full])
        found[full] = np.where(low == high, low, -1)
    return found


def of_takers(log: Log, of: Handed, of_row: Longs, rows: Longs) -> Longs:
    """The unit (n,) of the first CSA, by the dated row that counted then; −1: nobody."""
    csa, moment = of.csa[rows], of.assigned_at[rows]
    # Rows lie by CSA and time: the last one of a CSA not after the moment.
    valid, owner = log.csas.valid_from, log.csas.csa
    found = np.full(len(rows), -1, np.int64)
    order = np.lexsort((np.r_[np.zeros(len(valid)), np.ones(len(rows))], np.r_[valid, moment], np.r_[owner, csa]))
    is_row = order < len(valid)
    latest = np.maximum.accumulate(np.where(is_row, np.arange(len(order)), -1))
    place = order[~is_row] - len(valid)
    row = order[np.maximum(latest[~is_row], 0)]
    good = (latest[~is_row] >= 0) & (csa[place] >= 0) & (owner[np.minimum(row, len(valid) - 1)] == csa[place])
    found[place[good]] = of_row[row[good]]
    return found


def _of_queues(log: Log, of: Handed, of_row: Longs, rows: Longs) -> Longs:
    """The unit (n,) that nearly all taken contacts of the same queue went to, −1 where there is none such."""
    coded = pc.dictionary_encode(log.contacts.queue)
    queue = np.asarray(pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
    took = of_takers(log, of, of_row, np.arange(len(queue)))
    known = (queue >= 0) & (took >= 0)
    if not known.any():
        return np.full(len(rows), -1, np.int64)
    queues, units = int(queue.max()) + 1, int(of_row.max()) + 1
    count = np.bincount(queue[known] * units + took[known], minlength=queues * units).reshape(queues, units)
    most = np.where(count.max(axis=1) >= NEARLY_ALL * np.maximum(count.sum(axis=1), 1), count.argmax(axis=1), -1)
    return np.append(most, -1)[queue[rows]]
