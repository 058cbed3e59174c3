"""A schedule as arrays: which unit had which arm, from when until when, and what was drawn together.

Notable: what makes a schedule no schedule (a column that is missing, an arm nobody planned, a span that ends before it
begins) is an error; what makes it one that nothing can be learnt from (overlaps, an arm of a single cluster) is said by
`checks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evaluation.experiment.frame import CONTROL, SCHEDULE, TREATMENT
from evaluation.experiment.plan import Plan
from twotower.clock import format_time
from twotower.errors import DataError, shown

if TYPE_CHECKING:
    import pandas as pd

Longs = npt.NDArray[np.int64]
Arms = npt.NDArray[np.int8]
ALONE = -1


@dataclass(frozen=True)
class Spans:
    """S spans in order of beginning, then unit."""

    begins: Longs
    """(S,) µs UTC"""
    ends: Longs
    unit: npt.NDArray[np.object_]
    arm: Arms
    pair: Longs
    """(S,) spans of the same number were drawn together, one of each arm; −1: drawn alone."""

    def __len__(self) -> int:
        return len(self.begins)

    def before(self) -> Longs:
        """(S,) the span of the same unit that ended last before each began; −1 for a unit's first."""
        found = np.full(len(self), -1, np.int64)
        order = np.lexsort((self.begins, self.unit.astype(str)))
        same = self.unit[order[1:]] == self.unit[order[:-1]]
        found[order[1:][same]] = order[:-1][same]
        return found

    def overlap(self) -> str | None:
        """The first two spans of a unit that overlap, in words."""
        before = self.before()
        late = np.flatnonzero((before >= 0) & (self.ends[before] > self.begins))
        if not len(late):
            return None
        one, other = int(before[late[0]]), int(late[0])
        return (
            f"unit {self.unit[one]!r}: the span until {format_time(int(self.ends[one]))} overlaps that from "
            f"{format_time(int(self.begins[other]))}"
        )

    def at(self, unit: npt.NDArray[np.object_], moment: Longs) -> Longs:
        """The span (N,) of a unit (N,) at a moment (N,), −1 where it has none. Spans must not overlap."""
        import pandas as pd

        names, of_span = np.unique(self.unit.astype(str), return_inverse=True)
        of_contact = pd.Index(names).get_indexer(pd.Index(unit))
        order = np.lexsort((self.begins, of_span))
        found = np.full(len(moment), -1, np.int64)
        for code in range(len(names)):
            rows, mine = order[of_span[order] == code], np.flatnonzero(of_contact == code)
            place = np.searchsorted(self.begins[rows], moment[mine], side="right") - 1
            inside = (place >= 0) & (moment[mine] < self.ends[rows[np.maximum(place, 0)]])
            found[mine[inside]] = rows[place[inside]]
        return found


def read_schedule(path: str | Path) -> pd.DataFrame:
    """schedule.parquet. Raises DataError: the file cannot be read."""
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]}); give --schedule") from None


def spans_of(plan: Plan, schedule: pd.DataFrame) -> Spans:
    """Raises DataError: row, column, what was expected."""
    import pandas as pd

    absent = [name for name in SCHEDULE if name not in schedule]
    if absent:
        raise DataError(f"schedule: column {absent[0]} is missing; expected {SCHEDULE[absent[0]]}")
    if not len(schedule):
        raise DataError("schedule: it is empty; at least a span of each arm is needed")
    for name in SCHEDULE:
        if schedule[name].isna().any():
            raise DataError(f"schedule, row {int(schedule[name].isna().to_numpy().argmax())}, column {name}: null")
    arms = schedule["arm"].astype(str).to_numpy(object)
    known = {plan.control.name: CONTROL, plan.treatment.name: TREATMENT}
    strange = [row for row, name in enumerate(arms) if name not in known]
    if strange:
        expected = " or ".join(repr(name) for name in known)
        raise DataError(f"schedule, row {strange[0]}, column arm: {shown(arms[strange[0]])}; the plan has {expected}")
    begins, ends = micros(schedule["begins_at"], "schedule"), micros(schedule["ends_at"], "schedule")
    if (begins >= ends).any():
        raise DataError(f"schedule, row {int((begins >= ends).argmax())}: it ends before it begins")
    unit = schedule["unit"].astype(str).to_numpy(object)
    order = np.lexsort((unit.astype(str), begins))
    coded = np.array([known[name] for name in arms], np.int8)
    if not pd.api.types.is_integer_dtype(schedule["pair"].dtype):
        raise DataError(f"schedule, column pair: {schedule['pair'].dtype}; whole numbers (int64) expected")
    pair = schedule["pair"].to_numpy(np.int64)
    numbers, count = np.unique(pair[pair != ALONE], return_counts=True)
    treated = np.array([coded[pair == number].sum() for number in numbers], np.int64)
    if ((count != 2) | (treated != 1)).any():
        odd = int(numbers[((count != 2) | (treated != 1)).argmax()])
        raise DataError(f"schedule, column pair: {odd} is no pair of spans, one of each arm; −1 says drawn alone")
    return Spans(begins[order], ends[order], unit[order], coded[order], pair[order])


def micros(column: Any, table: str = "frame") -> Longs:
    """A pandas column of times with a zone as int64 µs UTC. Raises DataError for any other."""
    import pandas as pd

    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        raise DataError(f"{table}, column {column.name}: {column.dtype}; times with a zone expected")
    return np.asarray(column.dt.tz_convert("UTC").dt.as_unit("us").astype("int64").to_numpy(), np.int64)
