"""A planned experiment rehearsed on tables of its own time: real contacts, shifts and people, two policies by the
plan's schedule, and the tables that it would have left behind.

Notable: what is written is a data set as any other, history and all, so it is read out by the same command as a real
experiment; and the truth stands beside it, both policies alone on the same contacts with the same luck, which no real
experiment shows. Nobody rates or transfers in it, and nobody comes back who did not come back in the log.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evaluation.experiment.plan import Plan
from evaluation.experiment.simulated import Experiment, Ran, Testbed
from evaluation.experiment.spans import spans_of
from evaluation.simulate.policies import Rule
from evaluation.simulate.replay import Replay
from evaluation.simulate.state import ABANDONED, NOBODY, OPEN, RESOLVED
from twotower.clock import SECOND, format_time, parse_time
from twotower.errors import ConfigError
from twotower.files import atomic_directory

if TYPE_CHECKING:
    import pandas as pd

Longs = npt.NDArray[np.int64]
KEPT = ("csas.parquet", "customers.parquet", "shifts.parquet")


@dataclass(frozen=True)
class Rehearsed:
    """What it was."""

    contacts: int
    """Of the experiment's time."""
    truth: dict[str, tuple[float, float]]
    """By metric: means with everybody in the control, and with everybody in the treatment."""


def rehearse(
    plan: Plan, schedule: pd.DataFrame, of: Replay, control: Rule, treatment: Rule, tables: str | Path,
    output: str | Path, seed: int = 0,
) -> Rehearsed:  # fmt: skip
    """Run the plan once and write the tables into the folder `output`, whole or not at all.

    Args:
        of: the plan's time, from its beginning to its end, of the data set in the folder `tables`.
        control, treatment: policies of the compiled loop.
        seed: of the contacts' luck.

    Raises:
        ConfigError: the replay is of another time than the plan, or the plan is no switchback of the whole centre.
        DataError: the schedule is not the plan's.
        OutputError: `output` exists already or cannot be written.
    """
    begins, ends = parse_time(plan.begins, "begins"), parse_time(plan.ends, "ends")
    if (of.window.begin, of.window.end) != (begins, ends):
        window = f"{format_time(of.window.begin)} to {format_time(of.window.end)}"
        raise ConfigError(f"rehearsal: contacts of {window}; the plan is from {plan.begins} to {plan.ends}")
    if plan.design != "switchback" or plan.unit != "centre":
        raise ConfigError(f"rehearsal: only a switchback of the whole centre can be tried; the plan is {plan.design}")
    experiment = Experiment(Testbed(of.centre, control, treatment, demand=of.demand, truth=of.truth, seed=seed), plan)
    ran = experiment.run(_arms(plan, schedule, experiment), 0)
    with atomic_directory(output) as partial:
        contacts, moves = _tables(plan, of, experiment, ran, Path(tables))
        pq.write_table(contacts, partial / "contacts.parquet")
        pq.write_table(moves, partial / "interactions.parquet")
        for name in KEPT:
            if (Path(tables) / name).is_file():
                shutil.copyfile(Path(tables) / name, partial / name)
    alone = experiment.truth(0)
    both = {name: tuple(float(np.nanmean(world.metrics[name])) for world in alone) for name in ("resolved", "wait_s")}
    return Rehearsed(len(of.demand), both)  # type: ignore[arg-type]


def _arms(plan: Plan, schedule: pd.DataFrame, experiment: Experiment) -> npt.NDArray[np.int8]:
    """(S,) of the experiment's spans, as the schedule has them."""
    given, own = spans_of(plan, schedule), experiment.spans
    if not np.array_equal(given.begins, own.begins) or not np.array_equal(given.unit, own.unit):
        raise ConfigError("rehearsal: the schedule has other blocks than the plan; give the one that was drawn for it")
    return given.arm


def _tables(plan: Plan, of: Replay, experiment: Experiment, ran: Ran, folder: Path) -> tuple[pa.Table, pa.Table]:
    """Contacts and hand-overs: history as it was, then the experiment's."""
    contacts, moves = (pq.read_table(folder / f"{name}.parquet") for name in ("contacts", "interactions"))
    begins = pa.scalar(experiment.begins, pa.int64()).cast(pa.timestamp("us", "UTC"))
    before = contacts.filter(pc.less(contacts["arrived_at"], begins))
    kept = moves.filter(pc.is_in(moves["contact_id"], before["contact_id"]))
    ids, new = _contacts(of, ran, contacts)
    made = _moves(plan, of, experiment, ran, ids, moves.schema)
    return pa.concat_tables([before, new]), pa.concat_tables([kept, made])


def _contacts(of: Replay, ran: Ran, contacts: pa.Table) -> tuple[Any, pa.Table]:
    """Ids (N,) by record, and the rows: those of the window, put in again under another id, of nobody known, where a
    load asks for it."""
    records = ran.records
    named = of.window.log.contacts.ids.take(pa.array(of.window.rows[records.row])).to_pylist()
    often: dict[str, int] = {}
    ids = []
    for name in named:
        often[name] = often.get(name, 0) + 1
        ids.append(name if often[name] == 1 else f"{name}~{often[name]}")
    place = pc.index_in(pa.array(named), contacts["contact_id"].combine_chunks())
    rows = contacts.take(place)
    lost = records.status == ABANDONED
    gone = pa.array(np.where(lost, _micros(of, records.end), 0), mask=~lost)
    changed = {"contact_id": pa.array(ids), "arrived_at": pa.array(_micros(of, records.arrival)), "abandoned_at": gone}
    if "customer_id" in rows.schema.names:
        again = np.array([name != own for name, own in zip(named, ids, strict=True)])
        changed["customer_id"] = pc.if_else(pa.array(again), None, rows["customer_id"].combine_chunks())
    for name, column in changed.items():
        kind = rows.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), kind, column.cast(kind.type))
    return np.array(ids, object), rows.take(pa.array(np.argsort(records.arrival, kind="stable")))


def _moves(plan: Plan, of: Replay, experiment: Experiment, ran: Ran, ids: Any, schema: pa.Schema) -> pa.Table:
    """Hand-overs, in order of assignment."""
    records = ran.records
    rows = np.flatnonzero(records.csa != NOBODY)
    rows = rows[np.argsort(records.start[rows], kind="stable")]
    arm = ran.assigned.arm[ran.assigned.block_at(records.start[rows]), ran.assigned.unit[records.row[rows]]]
    names = np.array([plan.control.policies[0], plan.treatment.policies[0]], object)
    over = records.status[rows] != OPEN
    ended = pa.array(_micros(of, np.where(over, records.end[rows], 0.0)), mask=~over)
    columns = {
        "contact_id": pa.array(ids[rows]),
        "csa_id": pa.array(np.array(of.csa_ids, object)[records.csa[rows]]),
        "assigned_at": pa.array(_micros(of, records.start[rows])),
        "ended_at": ended,
        "known_at": ended,
        "resolved": pa.array(records.status[rows] == RESOLVED, mask=~over),
        "handle_time_s": pa.array(records.end[rows] - records.start[rows], mask=~over),
        "transferred": pa.array(np.zeros(len(rows), np.bool_)),
        "policy": pa.array(names[arm]),
    }
    arrays = [
        columns[one.name].cast(one.type) if one.name in columns else pa.nulls(len(rows), one.type) for one in schema
    ]
    return pa.table(arrays, schema=schema)


def _micros(of: Replay, seconds: npt.NDArray[np.float64]) -> Longs:
    """µs UTC."""
    return of.window.begin + np.asarray(np.floor(seconds * SECOND), np.int64)
