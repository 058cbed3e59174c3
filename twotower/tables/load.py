"""From Parquet files to a `Log`: ids become codes by one look-up per distinct text, rows are sorted once.

Nothing loops over rows in Python; a million contacts with eligible lists load in seconds. What cannot be read into a
log at all is refused here in one line; judging single values is the business of `check`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from twotower.clock import NEVER, NULL_TIME, format_time, from_arrow
from twotower.tables.findings import short
from twotower.tables.log import Codes, Contacts, Csas, Flags, Floats, Handovers, Log
from twotower.tables.ragged import Ragged
from twotower.tables.read import NULL, TWICE, Problem, read_table, refuse, unknown
from twotower.tables.schema import CONTACTS, CSAS, CUSTOMERS, INTERACTIONS


def load(folder: str | Path) -> Log:
    """The whole data set; see `Log.load`."""
    csa_table = read_table(folder, CSAS)
    contact_table = read_table(folder, CONTACTS, as_stored=("eligible",))
    handover_table = read_table(folder, INTERACTIONS)
    customer_table = read_table(folder, CUSTOMERS) if (Path(folder) / CUSTOMERS.file).exists() else None
    csas = csas_of(folder, csa_table)
    contacts, customer_ids = _contacts(folder, contact_table, csas.ids)
    since, language = _customers(folder, customer_table, customer_ids)
    handovers = _handovers(folder, handover_table, contacts.ids, csas.ids)
    return Log(contacts, customer_ids, since, language, csas, handovers)


def _contacts(folder: str | Path, table: pa.Table, csa_ids: pa.StringArray) -> tuple[Contacts, pa.StringArray]:
    order = (
        pc.sort_indices(table, [("arrived_at", "ascending"), ("contact_id", "ascending")]).to_numpy().astype(np.int64)
    )
    eligible = _eligible(folder, table["eligible"], csa_ids)
    table = table.drop_columns(["eligible"]).take(pa.array(order))
    ids = _text(table["contact_id"])
    _refuse_twice(folder, CONTACTS.file, "contact_id", ids, order)
    customers = _text(table["customer_id"])
    customer_ids = _sorted_unique(customers)
    contacts = Contacts(
        ids=ids,
        arrived_at=from_arrow(table["arrived_at"], NULL_TIME),
        customer=codes(customers, customer_ids),
        intent_text=_free(table["intent_text"]),
        transcript=_free(table["transcript"]),
        channel=_text(table["channel"]),
        queue=_text(table["queue"]),
        language=_text(table["language"]),
        intent=_text(table["intent"]),
        priority=_floats(table["priority"]),
        abandoned_at=from_arrow(table["abandoned_at"], NEVER),
        eligible=None if eligible is None else eligible.take(order),
    )
    return contacts, customer_ids


def _eligible(folder: str | Path, column: pa.ChunkedArray, csa_ids: pa.StringArray) -> Ragged | None:
    """CSA codes per contact in the order of the file; None where every list is null."""
    if column.null_count == len(column):
        return None
    lengths = pc.list_value_length(column)
    everyone = pc.is_null(lengths).to_numpy()
    offsets = np.concatenate(([0], np.cumsum(pc.fill_null(lengths, 0).to_numpy(), dtype=np.int64)))
    values = codes(pc.list_flatten(column), csa_ids)
    strange = np.flatnonzero(values < 0)
    if len(strange):
        row = int(np.searchsorted(offsets, strange[0], side="right")) - 1
        named = short(column[row].as_py()[strange[0] - offsets[row]])
        raise refuse(folder, Problem(CONTACTS.file, unknown("csa_id", CSAS), "eligible", row, named))
    return Ragged(offsets, values, everyone)


def _customers(
    folder: str | Path, table: pa.Table | None, ids: pa.StringArray
) -> tuple[npt.NDArray[np.int64], pa.StringArray]:
    """Since when, and the language, of the customers the contacts name; the others have asked nothing."""
    if table is None:
        return np.full(len(ids), NULL_TIME, dtype=np.int64), pa.nulls(len(ids), pa.string())
    _refuse_twice(folder, CUSTOMERS.file, "customer_id", _text(table["customer_id"]))
    row = pc.index_in(ids, value_set=_text(table["customer_id"]))
    return from_arrow(table["since"].take(row), NULL_TIME), _text(table["language"].take(row))


def csas_of(folder: str | Path, table: pa.Table) -> Csas:
    """The dated rows of a table `csas`. Raises DataError, naming a file of `folder`, for rows that cannot be."""
    _refuse_levels(folder, table["skills"])
    ids = _sorted_unique(_text(table["csa_id"]))
    csa = codes(table["csa_id"], ids)
    valid_from = from_arrow(table["valid_from"], NULL_TIME)
    order = np.lexsort((valid_from, csa))
    csa, valid_from, table = csa[order], valid_from[order], table.take(pa.array(order))
    again = np.flatnonzero((np.diff(csa) == 0) & (np.diff(valid_from) == 0))
    if len(again):
        first, row = int(order[again[0]]), int(order[again[0] + 1])
        key = [short(table[name][int(again[0])].as_py()) for name in CSAS.unique]
        found = f"{', '.join(key)}, first in row {first}"
        raise refuse(folder, Problem(CSAS.file, TWICE, "csa_id", row, found))
    return Csas(
        ids=ids,
        csa=csa,
        valid_from=valid_from,
        hired_at=from_arrow(table["hired_at"], NULL_TIME),
        left_at=from_arrow(table["left_at"], NEVER),
        site=_text(table["site"]),
        team=_text(table["team"]),
        kind=pc.fill_null(_text(table["kind"]), "csa"),
        languages=_whole(table["languages"]),
        skills=_whole(table["skills"]),
        profile=_free(table["profile"]),
        capacity=table["capacity"].to_numpy().astype(np.int32),
        cost=_floats(table["cost"]),
    )


def _handovers(folder: str | Path, table: pa.Table, contact_ids: pa.StringArray, csa_ids: pa.StringArray) -> Handovers:
    contact = codes(table["contact_id"], contact_ids)
    csa = codes(table["csa_id"], csa_ids)
    for name, code, other in (("contact_id", contact, CONTACTS), ("csa_id", csa, CSAS)):
        strange = np.flatnonzero(code < 0)
        if len(strange):
            row = int(strange[0])
            named = short(table[name][row].as_py())
            raise refuse(folder, Problem(INTERACTIONS.file, unknown(name, other), name, row, named))
    assigned_at = from_arrow(table["assigned_at"], NULL_TIME)
    ended_at = from_arrow(table["ended_at"], NEVER)
    early = np.flatnonzero(ended_at < assigned_at)
    if len(early):
        row = int(early[0])
        ended = format_time(int(ended_at[row]))
        raise refuse(folder, Problem(INTERACTIONS.file, INTERACTIONS.order[0][2], "ended_at", row, ended))
    known_at = from_arrow(pc.coalesce(table["known_at"], table["ended_at"]), NEVER)
    order = np.lexsort((ended_at, assigned_at, csa, contact, known_at))
    return Handovers(
        contact=contact[order],
        csa=csa[order],
        assigned_at=assigned_at[order],
        ended_at=ended_at[order],
        known_at=known_at[order],
        resolved=_flags(table["resolved"])[order],
        csat=_floats(table["csat"])[order],
        quality_score=_floats(table["quality_score"])[order],
        handle_time_s=_floats(table["handle_time_s"])[order],
        propensity=_floats(table["propensity"])[order],
        transferred=_flags(table["transferred"])[order],
        policy=_text(table["policy"]).take(pa.array(order)),
    )


def codes(values: Any, ids: pa.StringArray) -> Codes:
    """Positions of texts (array or chunked, plain or dictionary) in `ids`; −1 where null or not there."""
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    parts = [np.zeros(0, dtype=np.int32)]
    for chunk in chunks:
        if pt.is_dictionary(chunk.type):
            meaning = np.append(codes(chunk.dictionary, ids), np.int32(-1))
            parts.append(meaning[pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False)])
        elif pt.is_null(chunk.type):
            parts.append(np.full(len(chunk), -1, dtype=np.int32))
        else:
            found = pc.index_in(pc.cast(chunk, ids.type), value_set=ids, skip_nulls=True)
            parts.append(pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int32))
    return np.concatenate(parts)


def _refuse_twice(
    folder: str | Path, file: str, column: str, ids: pa.StringArray, order: npt.NDArray[np.int64] | None = None
) -> None:
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0]
    rows = np.flatnonzero(pc.equal(ids, twice).to_numpy(zero_copy_only=False))
    rows = np.sort(rows if order is None else order[rows])
    found = f"{short(twice.as_py())}, first in row {rows[0]}"
    raise refuse(folder, Problem(file, TWICE, column, int(rows[1]), found))


def _refuse_levels(folder: str | Path, skills: pa.ChunkedArray) -> None:
    levels = pc.struct_field(pc.list_flatten(skills), "level")
    good = pc.and_(pc.is_finite(levels), pc.and_(pc.greater_equal(levels, 0.0), pc.less_equal(levels, 1.0)))
    bad = np.flatnonzero(~pc.fill_null(good, False).to_numpy())
    if len(bad):
        row = int(pc.list_parent_indices(skills)[int(bad[0])].as_py())
        level = levels[int(bad[0])].as_py()
        why, found = (NULL, None) if level is None else ("must be within 0..1", short(level))
        raise refuse(folder, Problem(CSAS.file, why, "skills.level", row, found))


def _sorted_unique(values: pa.StringArray) -> pa.StringArray:
    distinct = pc.unique(values).drop_null()
    return distinct.take(pc.sort_indices(distinct))


def _whole(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _free(column: pa.ChunkedArray) -> pa.LargeStringArray:
    return pc.fill_null(_whole(column), "")


def _text(column: Any) -> pa.StringArray:
    narrow = pc.cast(column, pa.string())
    return _whole(narrow) if isinstance(narrow, pa.ChunkedArray) else narrow


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.fill_null(column, float("nan")).to_numpy(), dtype=np.float32)


def _flags(column: pa.ChunkedArray) -> Flags:
    return np.asarray(pc.fill_null(pc.cast(column, pa.int8()), -1).to_numpy(), dtype=np.int8)
