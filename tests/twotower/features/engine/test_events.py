"""Streams: sorted, of one length, and the same for the same rows in any order."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twotower.features.engine.histories import Table, draw_table, tables
from twotower.clock import HOUR, NEVER
from twotower.errors import DataError
from twotower.features.engine.events import Arrivals, KnownHandovers, Work, between, check_codes, take


def same(first, second) -> bool:
    return all(getattr(first, f.name).tobytes() == getattr(second, f.name).tobytes() for f in fields(first))


@given(tables(), st.randoms(use_true_random=False))
def test_rows_in_any_order_are_the_same_stream(table, random):
    rows = list(range(len(table)))
    random.shuffle(rows)
    assert same(table.take(np.array(rows, np.int64)).handovers(), table.handovers())


def test_rows_that_differ_in_their_embedding_alone_have_an_order_too():
    one = draw_table(np.random.default_rng(0), 1)
    table = one.take(np.zeros(6, np.int64))
    table = replace(table, known_at=np.full(6, 10), base=np.random.default_rng(1).standard_normal((6, 3), np.float32))
    assert same(table.take(np.array([3, 1, 5, 0, 4, 2])).handovers(), table.handovers())
    assert sorted(map(tuple, table.handovers().base)) == sorted(map(tuple, table.base))


@given(tables())
def test_a_stream_holds_what_is_known_some_day_in_its_order(table):
    stream = table.handovers()
    assert len(stream) == (table.known_at < NEVER).sum()
    assert (np.diff(stream.known_at) >= 0).all()


def test_between_is_half_open():
    work = Work.of(np.array([0, 1, 2], np.int32), np.array([10, 20, 30]), np.full(3, NEVER))
    assert between(work, work.at, 10, 30).csa.tolist() == [0, 1]


def test_work_begins_and_ends():
    work = Work.of(np.array([1, 0], np.int32), np.array([20, 10]), np.array([20 + HOUR, NEVER]))
    assert work.csa.tolist() == [0, 1, 1]
    assert work.change.tolist() == [1, 1, -1]
    assert work.at.tolist() == [10, 20, 20 + HOUR]


def test_rows_out_of_order_are_refused():
    with pytest.raises(DataError, match="arrivals: row 2 is earlier than the row before it; sort them by time"):
        Arrivals(np.zeros(3, np.int32), np.array([1, 5, 4]))


def test_a_null_time_is_refused():
    with pytest.raises(DataError, match="work: a time is null"):
        Work(np.zeros(1, np.int32), np.array([NEVER]), np.ones(1, np.int8))


def test_columns_of_different_length_are_refused():
    stream = draw_table(np.random.default_rng(0), 9).handovers()
    with pytest.raises(DataError, match="hand-overs: csat has 1 rows"):
        replace(stream, csat=np.zeros(1, np.float32))


def test_an_absent_column_stays_absent():
    stream = replace(draw_table(np.random.default_rng(0), 9).handovers(), csat=None, codes=None)
    part = take(stream, slice(0, 2))
    assert part.csat is None
    assert len(part) == 2
    assert isinstance(part, KnownHandovers)


def test_a_code_outside_is_named_with_its_row():
    with pytest.raises(DataError, match="csa: 7 in row 1; 0 to 4 are expected"):
        check_codes("csa", np.array([0, 7, -1]), 5, 0)


def test_one_code_outside_is_refused_too():
    with pytest.raises(DataError, match="csa: -1 in row 0; 0 to 4 are expected"):
        check_codes("csa", np.array([-1]), 5, 0)


def test_the_tables_of_these_tests_have_ties():
    table: Table = draw_table(np.random.default_rng(3), 40)
    assert len(np.unique(table.known_at)) < len(table)
