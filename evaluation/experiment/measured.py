"""A data set's tables as the frame of an experiment: which arm each contact was in, and what became of it.

Notable: nothing from after `begins` is in a covariate, and nothing from after the look is in anything: the log is cut
at the look before it is read (`Log.cut`), so an interim analysis sees what could be seen then. A contact's unit, of
sites and teams, is that of all who could have taken it; else of the CSA who did; else, of contacts that nobody took,
the one that nearly all of its queue's contacts go to. What belongs to no unit is outside of the schedule, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.calibration import TENURE_DAYS, TENURES
from evaluation.experiment.deciders import by_bundle, deciders
from evaluation.experiment.frame import FRAME, FROM_TABLES, OUT
from evaluation.experiment.handed import Handed, came_back, handed
from evaluation.experiment.history import expected, groups_of, rates
from evaluation.experiment.outcomes import OF_CELLS
from evaluation.experiment.plan import Plan
from evaluation.experiment.schedule import customer_arms, place
from evaluation.experiment.spans import spans_of
from evaluation.experiment.units import or_none, units_of_contacts
from twotower.clock import DAY, NEVER, NULL_TIME, SECOND, format_time, parse_time
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Log

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]

LOAD_MINUTES = 30
LOADS = ("quiet", "usual", "busy")
"""By thirds of contacts that had arrived in the half hour before: what an arm has no part in."""


@dataclass(frozen=True)
class Measured:
    """What `analyse` takes."""

    frame: pd.DataFrame
    """Columns of FRAME and FROM_TABLES, in order of arrival."""
    data_end: int
    """The last moment that anything was written down, µs UTC."""
    notes: tuple[str, ...]


def measured(plan: Plan, schedule: pd.DataFrame, log: Log, at: int | None = None) -> Measured:
    """Contacts from `begins` to `ends` as the frame.

    log: up to the look, with `history_days` before `begins` where there are any; at: that look, for messages. Raises
    DataError where no contact arrived in the plan's time, or units cannot be told.
    """
    if overlap := spans_of(plan, schedule).overlap():
        raise DataError(f"schedule: {overlap}")
    begins, ends = parse_time(plan.begins), parse_time(plan.ends)
    arrived = log.contacts.arrived_at
    rows = np.arange(*np.searchsorted(arrived, (begins, ends)))
    if not len(rows):
        if at is not None and at < ends:
            raise DataError(
                f"contacts.parquet: none arrived from {plan.begins} until --at {format_time(at)}; give a later --at"
            )
        known = f"the log has contacts from {format_time(int(arrived[0]))} to {format_time(int(arrived[-1]))}"
        raise DataError(f"contacts.parquet: none arrived from {plan.begins} to {plan.ends}; {known}")
    of, data_end = handed(log), end_of(log)
    placed = _placed(plan, schedule, log, of, rows)
    covariate, rate, notes = _history(plan, log, of, rows)
    columns = {**_labels(log, of, rows), **placed.columns, **{name: of.columns[name][rows] for name in of.columns}}
    columns |= {"repeat": came_back(log, plan.repeat_days, data_end)[rows], "covariate": covariate, "csa_rate": rate}
    frame = pd.DataFrame({name: columns[name] for name in (*FRAME, *FROM_TABLES)})
    return Measured(frame, data_end, (*placed.notes, *notes))


def end_of(log: Log) -> int:
    """The last moment that anything was written down: arrived, given up, assigned, ended, known."""
    moments = [log.contacts.arrived_at, log.contacts.abandoned_at, log.handovers.assigned_at]
    moments += [log.handovers.ended_at, log.handovers.known_at]
    return max(int(one[one != NEVER].max(initial=NULL_TIME)) for one in moments)


def read(
    plan: Plan, schedule: pd.DataFrame, folder: str | Path, at: int | None
) -> tuple[Measured, pd.DataFrame | None]:
    """Frame and metrics of cells from a data set's folder, as known at a look (µs UTC; None: all there is). Raises
    ConfigError for a look before the experiment, DataError as `measured` does."""
    if at is not None and at <= parse_time(plan.begins):
        raise ConfigError(
            f"--at {format_time(at)}: the experiment begins at {plan.begins}, and nothing is known before; give a "
            "later --at"
        )
    log = Log.load(folder, until=at)
    found = measured(plan, schedule, log, at)
    if by_bundle(plan):
        found = replace(found, frame=found.frame.assign(policy=deciders(folder, found.frame, at)))
    asked = {plan.primary.metric, *(one.metric for one in plan.guardrails), *plan.secondary}
    if not asked & set(OF_CELLS):
        return found, None
    from evaluation.experiment.measured_blocks import measured_blocks

    return found, measured_blocks(plan, schedule, log, folder, found.data_end if at is None else at)


@dataclass(frozen=True)
class _Placed:
    columns: dict[str, Any]
    notes: tuple[str, ...]


def _placed(plan: Plan, schedule: pd.DataFrame, log: Log, of: Handed, rows: Longs) -> _Placed:
    """Unit, block, arm and wash-out of contacts."""
    arrived, notes = log.contacts.arrived_at[rows], []
    if plan.design == "customer":
        names = np.array([plan.control.name, plan.treatment.name], object)
        unit, unknown = names[_arms_of_customers(plan, log, rows)], 0
    else:
        unit, unknown = units_of_contacts(plan, log, of, rows)
    found = place(plan, schedule, arrived, unit)
    if unknown:
        notes.append(f"{unknown:,} contacts belong to no {plan.unit} that is known, and are left out")
    outside = int((found.arm == OUT).sum()) - unknown
    if outside:
        notes.append(f"{outside:,} contacts of units, or at times, that the schedule does not have are left out")
    columns = {"unit": unit, "block": found.block, "arm": found.arm, "washed": found.washed}
    return _Placed(columns, tuple(notes))


def _arms_of_customers(plan: Plan, log: Log, rows: Longs) -> npt.NDArray[np.int8]:
    """By the plan's hash of customers; a contact without one is drawn by itself."""
    customer = log.contacts.customer[rows]
    found = np.append(customer_arms(plan, log.customer_ids.to_pylist()), OUT).astype(np.int8)[customer]
    alone = np.flatnonzero(customer < 0)
    found[alone] = customer_arms(plan, log.contacts.ids.take(pa.array(rows[alone])).to_pylist())
    return found


def _labels(log: Log, of: Handed, rows: Longs) -> dict[str, Any]:
    """Ids and bands."""
    contacts, take = log.contacts, pa.array(rows)
    csa = of.csa[rows]
    return {
        "contact_id": contacts.ids.take(take).to_pylist(),
        "customer_id": or_none(log.customer_ids.to_pylist(), contacts.customer[rows]),
        "arrived_at": pd.to_datetime(contacts.arrived_at[rows], unit="us", utc=True).as_unit("us"),
        "csa_id": or_none(log.csas.ids.to_pylist(), csa),
        "policy": np.asarray(of.policy.take(take).to_pylist(), object),
        "language": np.asarray(contacts.language.take(take).to_pylist(), object),
        "intent": np.asarray(contacts.intent.take(take).to_pylist(), object),
        "tenure": _tenure(log, csa, of.assigned_at[rows]),
        "load": _load(contacts.arrived_at, rows),
    }


def _tenure(log: Log, csa: Longs, moment: Longs) -> Names:
    """Bands of the CSAs' time with the centre; null where nobody took it, or nobody knows since when."""
    hired = np.full(len(log.csas) + 1, NULL_TIME)
    hired[log.csas.csa] = log.csas.hired_at
    known = (csa >= 0) & (hired[csa] != NULL_TIME)
    days = np.where(known, moment - np.where(known, hired[csa], 0), 0) / DAY
    band = np.array(TENURES, object)[np.searchsorted(TENURE_DAYS, days, side="right")]
    band[~known] = None
    return band


def _load(arrived: Longs, rows: Longs) -> Names:
    """By how many arrived in the half hour before, in thirds of the experiment's contacts."""
    before = rows - np.searchsorted(arrived, arrived[rows] - LOAD_MINUTES * 60 * SECOND)
    cuts = np.quantile(before, (1 / 3, 2 / 3))
    return np.array(LOADS, object)[np.searchsorted(cuts, before, side="left")]


def _history(plan: Plan, log: Log, of: Handed, rows: Longs) -> tuple[Doubles, Doubles, list[str]]:
    """Covariate (n,) of contacts, past mean (n,) of their first CSAs, and what is to be said of it."""
    nothing = np.full(len(rows), np.nan)
    begins, metric = parse_time(plan.begins), plan.primary.metric
    arrived = log.contacts.arrived_at
    past = np.arange(*np.searchsorted(arrived, (begins - int(plan.history_days * DAY), begins)))
    if metric in OF_CELLS:
        return nothing, nothing, []
    y = came_back(log, plan.repeat_days, begins) if metric == "repeat" else of.columns[metric]
    # Waits and abandonment are known at once, outcomes when they were written down.
    at_once = np.minimum(of.assigned_at, log.contacts.abandoned_at)
    known = np.where((metric in ("wait_s", "abandoned")) | (of.columns["abandoned"] == 1), at_once, of.known_at)
    y = np.where((known < begins) | (metric == "repeat"), y, np.nan)[past]
    if np.isnan(y).all():
        return nothing, nothing, [f"no contact before {plan.begins} has a known {metric}: nothing is adjusted for"]
    groups, sizes = groups_of(_codes(log.contacts.intent), _codes(log.contacts.language), arrived)
    found = expected(y, tuple(one[past] for one in groups), sizes)
    all_of = found.of(groups)
    own = rates(y - all_of[past], of.csa[past], len(log.csas), found.mean)
    return all_of[rows], np.append(own, np.nan)[of.csa[rows]], []


def _codes(column: pa.Array) -> Longs:
    coded = pc.dictionary_encode(column)
    return np.asarray(pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
