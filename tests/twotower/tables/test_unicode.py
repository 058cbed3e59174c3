"""Bytes that are not UTF-8 in columns of text: the row is named by whoever reads the table."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.contact_file import ContactFile
from tests.support import replaced
from twotower.errors import DataError
from twotower.tables import Log
from twotower.tables.check import check
from twotower.tables.unicode import NOT_TEXT, broken_text, without


def raw(*values: bytes | None) -> pa.Array:
    """A column that calls itself text."""
    return pa.array(values, pa.binary()).view(pa.string())


def test_rows_are_found_in_any_chunk():
    column = pa.chunked_array([raw(b"a", None, b"\xff"), raw(), raw(b"\xc3\xa9", b"\xc3")])
    assert broken_text(column).tolist() == [2, 4]
    assert broken_text(raw(b"a", "é".encode(), None, b"\x00")).tolist() == []
    assert broken_text(pa.array([1, 2])).tolist() == []


def test_lists_of_text_are_looked_into():
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 3], pa.int32()), raw(b"en", b"es", b"\xff"))
    assert broken_text(lists).tolist() == [1]


def test_the_others_stay():
    assert without(raw(b"a", b"\xff", None), broken_text(raw(b"a", b"\xff", None))).to_pylist() == ["a", "", None]


@pytest.fixture
def broken(tables):
    """The small data set with a transcript that is none."""
    return {**tables, "contacts": replaced(tables["contacts"], "transcript", raw(b"fine", b"\xff\xfe", b"", b"again"))}


def test_loading_refuses_the_row(broken, save):
    with pytest.raises(DataError, match=r"contacts\.parquet, row 1, column transcript: bytes that are not UTF-8"):
        Log.load(save(broken))


def test_checking_reports_the_row_and_goes_on(broken, save):
    found = check(save(broken))
    assert [kind[1:] for kind in found[0].counts] == [("transcript", NOT_TEXT)]


def test_a_file_of_contacts_is_refused_by_its_row(broken, tmp_path):
    pq.write_table(broken["contacts"].drop_columns(["eligible"]), tmp_path / "contacts.parquet")
    file = ContactFile(tmp_path / "contacts.parquet", pa.array(["ada", "bob", "cy"]), need_arrival=False)
    with pytest.raises(DataError, match=r"contacts\.parquet, row 1, column transcript: bytes that are not UTF-8"):
        list(file.batches())
