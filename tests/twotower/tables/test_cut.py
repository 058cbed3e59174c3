"""The cut at T: what a log knows when everything known only at T or later is taken away."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import Tables, at
from twotower.clock import ARROW_TIME, NEVER
from twotower.tables import Log, Ragged


def test_contacts_that_had_not_arrived_are_not_there(tables, save):
    assert Log.load(save(tables), until=at(30)).contacts.ids.to_pylist() == ["c1", "c2"]


def test_outcomes_not_known_yet_are_not_there(tables, save):
    log = Log.load(save(tables), until=at(55))
    assert log.handovers.known_at.tolist() == [at(15), at(33), at(45), NEVER]


def test_a_handover_that_had_begun_is_there_without_what_came_later(tables, save):
    """Bob's of c2 was assigned at minute 12 and ended then; its outcome is known at 55."""
    moves = Log.load(save(tables), until=at(55)).handovers
    assert moves.assigned_at[-1] == at(12)
    assert moves.ended_at[-1] == at(12)
    assert (moves.resolved[-1], moves.transferred[-1]) == (-1, -1)
    assert np.isnan([moves.csat[-1], moves.quality_score[-1], moves.handle_time_s[-1]]).all()
    assert moves.propensity[-1] == 1
    open_ = Log.load(save(tables, "open"), until=at(40)).handovers
    assert sorted(open_.ended_at.tolist()) == [at(12), at(15), at(33), NEVER]


def test_csas_not_hired_yet_are_not_there(tables, save):
    log = Log.load(save(tables), until=at(40))
    assert log.csas.ids.to_pylist() == ["ada", "bob"]
    assert log.csas.left_at.tolist() == [NEVER] * 3


def test_a_dated_row_counts_strictly_before_the_cut(tables, save):
    folder = save(tables)
    assert len(Log.load(folder, until=at(20)).csas.csa) == 2
    assert len(Log.load(folder, until=at(21)).csas.csa) == 3


def test_eligible_lists_name_nobody_of_the_future(tables, save):
    log = Log.load(save(tables), until=at(35))
    assert log.contacts.ids.to_pylist() == ["c1", "c2", "c3"]
    assert log.contacts.eligible.row(0) is None
    assert log.contacts.eligible.row(2).tolist() == [0, 1]


@pytest.mark.parametrize("minute", [5, 10, 11, 20, 30, 33, 35, 40, 45, 50, 55, 60, 61, 100])
def test_cutting_the_files_and_cutting_the_log_are_the_same(tables, save, minute):
    by_hand = cut_files(tables, minute)
    if any(len(table) == 0 for table in by_hand.values()):
        log = Log.load(save(tables, "whole"), until=at(minute))
        assert len(log.contacts) == 0 or len(log.handovers) == 0
        return
    equal(without_ends(Log.load(save(by_hand, "cut"))), without_ends(Log.load(save(tables, "whole"), until=at(minute))))


def test_what_happens_at_the_cut_or_later_changes_nothing(tables, save):
    later = dict(tables)
    handovers = tables["interactions"].to_pylist()
    handovers[1] |= {"resolved": True, "csat": 5.0}  # known at minute 55
    handovers[4] |= {"csa_id": "bob"}  # never known
    later["interactions"] = pa.Table.from_pylist(handovers, tables["interactions"].schema)
    equal(Log.load(save(tables, "a"), until=at(55)), Log.load(save(later, "b"), until=at(55)))


@pytest.mark.parametrize("log", ["buck2", "golang_tools", "dba"])
def test_cutting_twice_is_cutting_once(real_data, log):
    whole = Log.load(real_data / log)
    early, late = (int(np.quantile(whole.contacts.arrived_at, share)) for share in (0.3, 0.8))
    equal(whole.cut(late).cut(early), whole.cut(early))


@given(st.lists(st.one_of(st.none(), st.lists(st.integers(0, 4), max_size=4)), min_size=1, max_size=8), st.data())
def test_ragged_take_and_keep_do_what_lists_do(lists, data):
    ragged = from_lists(lists)
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    assert to_lists(ragged.take(np.array(rows, dtype=np.int64))) == [lists[row] for row in rows]
    codes = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=5, max_size=5)), dtype=np.int32)
    expected = [None if row is None else [int(codes[v]) for v in row if codes[v] >= 0] for row in lists]
    assert to_lists(ragged.keep(codes)) == expected


def from_lists(lists: list[list[int] | None]) -> Ragged:
    lengths = [len(row or []) for row in lists]
    return Ragged(
        np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))),
        np.array([v for row in lists for v in row or []], dtype=np.int32),
        np.array([row is None for row in lists]),
    )


def to_lists(ragged: Ragged) -> list[list[int] | None]:
    rows = [ragged.row(i) for i in range(len(ragged))]
    return [None if row is None else row.tolist() for row in rows]


def cut_files(tables: Tables, minute: float) -> Tables:
    """The same data set as somebody would have exported it at that minute."""
    t = pa.scalar(at(minute), pa.int64()).cast(ARROW_TIME)
    contacts = tables["contacts"].filter(pc.less(tables["contacts"]["arrived_at"], t))
    csas = tables["csas"]
    for beginning in ("valid_from", "hired_at"):
        csas = csas.filter(pc.fill_null(pc.less(csas[beginning], t), True))
    left = pc.if_else(pc.less(csas["left_at"], t), csas["left_at"], None)
    csas = csas.set_column(csas.schema.get_field_index("left_at"), "left_at", left)
    handovers = tables["interactions"].filter(pc.less(tables["interactions"]["assigned_at"], t))
    known = pc.fill_null(pc.less(pc.coalesce(handovers["known_at"], handovers["ended_at"]), t), False)
    for name in ("ended_at", "known_at", "resolved", "csat"):
        told = pc.if_else(known, handovers[name], None)
        handovers = handovers.set_column(handovers.schema.get_field_index(name), name, told)
    there = set(csas["csa_id"].to_pylist())
    handovers = handovers.filter(pc.is_in(handovers["csa_id"], pa.array(sorted(there), pa.string())))
    eligible = [None if row is None else [c for c in row if c in there] for row in contacts["eligible"].to_pylist()]
    contacts = contacts.set_column(
        contacts.schema.get_field_index("eligible"), "eligible", pa.array(eligible, pa.list_(pa.string()))
    )
    return {"contacts": contacts, "csas": csas, "interactions": handovers}


def without_ends(log: Log) -> Log:
    """No end where no outcome is known: a table cannot say that a hand-over has ended and is not judged yet."""
    moves = log.handovers
    ended = np.where(moves.known_at == NEVER, NEVER, moves.ended_at)
    return replace(log, handovers=replace(moves, ended_at=ended))


def equal(left: object, right: object) -> None:
    """Column by column, with the column's name in the failure."""
    assert is_dataclass(left)
    for field in fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if is_dataclass(a):
            equal(a, b)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name
