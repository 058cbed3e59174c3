"""Whether a schedule is the one that its plan draws.

Notable: the plan holds the seed, so its schedule can be drawn again, row for row. A schedule with another seed, with
blocks left out, shortened or taken for drawn alone is another experiment than the planned one: half of the pairs, taken
by what became of them, show any effect. Units stand nowhere in the plan; they are those of the schedule's first block,
paired as it pairs them. Of clusters that block is the whole schedule: sites that were given other names or partners, or
left it from its end, are not seen here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.experiment.checks import Check
from evaluation.experiment.frame import TREATMENT
from evaluation.experiment.plan import Plan
from evaluation.experiment.spans import Spans, micros, spans_of
from twotower.clock import format_time
from twotower.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

NAME = "schedule drawn"
REMEDY = "give the schedule.parquet that was written with this plan"


def of_draw(plan: Plan, schedule: pd.DataFrame) -> Check:
    """Beginnings, ends, units, arms and pairs of all spans, in any order of rows.

    schedule: columns of `frame.SCHEDULE`. Raises DataError for a table that is no schedule.
    """
    from evaluation.experiment.schedule import draw, units_of

    given = spans_of(plan, schedule)
    try:
        drawn = spans_of(plan, draw(plan, units_of(schedule.assign(unit=schedule["unit"].astype(str)))))
    except ConfigError as error:
        return Check(NAME, "refused", f"the plan draws nothing for the units of this schedule ({error}); {REMEDY}")
    at = _first(given, drawn)
    if at is None:
        return Check(NAME, "passed", f"the {len(given)} spans that the seed {plan.seed} draws")
    if at < len(given):
        order = np.lexsort((schedule["unit"].astype(str).to_numpy(str), micros(schedule["begins_at"], "schedule")))
        here = f"row {int(order[at])} is {_said(plan, given, at)}"
    else:
        here = f"it ends with {_said(plan, given, len(given) - 1)}"
    there = f"{_said(plan, drawn, at)} there" if at < len(drawn) else "nothing more"
    said = f"the schedule is not the one that the plan draws: {here}; the seed {plan.seed} draws {there}; {REMEDY}"
    return Check(NAME, "refused", said)


def _first(given: Spans, drawn: Spans) -> int | None:
    """The first place, in order of beginning and unit, at which two schedules differ."""
    many = min(len(given), len(drawn))
    same = np.ones(many, np.bool_)
    for name in ("begins", "ends", "unit", "arm", "pair"):
        same &= np.asarray(getattr(given, name)[:many] == getattr(drawn, name)[:many], np.bool_)
    if not same.all():
        return int(same.argmin())
    return None if len(given) == len(drawn) else many


def _said(plan: Plan, spans: Spans, at: int) -> str:
    """One span in words."""
    arm = plan.treatment.name if spans.arm[at] == TREATMENT else plan.control.name
    alone = "drawn alone" if spans.pair[at] < 0 else f"pair {spans.pair[at]}"
    return (
        f"{spans.unit[at]} from {format_time(int(spans.begins[at]))} to {format_time(int(spans.ends[at]))}: {arm!r}, "
        f"{alone}"
    )
