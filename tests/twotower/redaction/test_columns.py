"""Arrow columns: the same type, the same length, and untouched where nothing was found."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.redaction.columns import redact_column
from twotower.redaction.redactor import Redactor
from twotower.redaction.tally import ColumnTally

REDACTOR = Redactor()
TEXTS = ["mail a@b.com", None, "", "nothing", "mail a@b.com"]
TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]


@pytest.mark.parametrize("type", TYPES, ids=str)
def test_the_type_stays(type):
    column = pc.cast(pa.array(TEXTS), type) if not pa.types.is_dictionary(type) else _dictionary(type)
    done = redact_column(REDACTOR, column)
    assert done.type == type
    assert done.to_pylist() == ["mail [email]", None, "", "nothing", "mail [email]"]


def _dictionary(type: pa.DataType) -> pa.Array:
    encoded = pa.array(TEXTS).dictionary_encode()
    return pa.DictionaryArray.from_arrays(pc.cast(encoded.indices, type.index_type), encoded.dictionary)


def test_a_column_without_finds_is_the_same_object():
    column = pa.array(["nothing", None])
    assert redact_column(REDACTOR, column) is column


def test_a_column_of_nulls_passes():
    assert redact_column(REDACTOR, pa.nulls(3)).equals(pa.nulls(3))


def test_a_slice_is_redacted_like_a_column():
    column = pa.array(["x", "a@b.com", "y", "c@d.com"]).slice(1, 2)
    assert redact_column(REDACTOR, column).to_pylist() == ["[email]", "y"]


@pytest.mark.parametrize("type", TYPES[:3], ids=str)
def test_bytes_that_are_no_text_pass_through(type):
    raw = pa.array([b"mail a@b.com \xff", b"\xfe alone", b"fine"])
    column = pc.cast(raw, options=pc.CastOptions(target_type=type, allow_invalid_utf8=True))
    done = pc.cast(redact_column(REDACTOR, column), pa.binary())
    assert done.to_pylist() == [b"mail [email] \xff", b"\xfe alone", b"fine"]


def test_each_row_has_its_language_and_names():
    column = pa.array(["612345678", "612345678", "anna", "anna"])
    languages = pa.array(["es", "de", None, None])
    done = redact_column(REDACTOR, column, languages, [[], [], ["Anna"], []])
    assert done.to_pylist() == ["[phone]", "612345678", "[name]", "anna"]


def test_languages_may_be_a_dictionary_or_unknown():
    column = pa.array(["612345678"])
    assert redact_column(REDACTOR, column, pa.array(["de"]).dictionary_encode()).to_pylist() == ["612345678"]
    assert redact_column(REDACTOR, column, pa.nulls(1)).to_pylist() == ["[phone]"]


def test_everything_is_counted_and_nothing_is_quoted():
    tally = ColumnTally()
    redact_column(REDACTOR, pa.array(TEXTS), tally=tally)
    assert tally.data() == {"rows": 5, "changed": 2, "characters": 14, "masked": {"email": 2}}


@given(st.lists(st.none() | st.sampled_from(["a@b.com", "x", "card 4111111111111111", "é\0"]), max_size=8))
def test_a_column_is_its_texts_one_by_one(texts):
    column = pa.array(texts, pa.large_string())
    wanted = [None if text is None else REDACTOR.redact(text).text for text in texts]
    assert redact_column(REDACTOR, column).to_pylist() == wanted
