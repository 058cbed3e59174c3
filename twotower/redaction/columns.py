"""Redaction of Arrow text columns.

Notable: only values in which something was masked are replaced, the others keep their bytes, and equal values are
redacted once. Bytes that are no UTF-8, which a Parquet file may hold, pass through: they are read and written by
Python's `surrogateescape`. Dictionary columns are decoded for the work and encoded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from twotower.redaction.redactor import Redactor
from twotower.redaction.spans import Redacted
from twotower.redaction.tally import ColumnTally


def redact_column(
    redactor: Redactor,
    column: Any,
    languages: Any = None,
    names: Sequence[Sequence[str]] | None = None,
    tally: ColumnTally | None = None,
) -> Any:
    """The column with every text redacted.

    Args:
        redactor: says what is masked.
        column: (N,) Arrow array of text (string, large_string, string_view or dictionaries of them) or of nulls alone.
        languages: (N,) Arrow array of BCP-47 tags of the rows, nulls where unknown; None: all unknown.
        names: the customer's names of each row; None: none are known.
        tally: counts what is masked.

    Returns:
        An array of the same type and length, null where the column is null.
    """
    tally = tally if tally is not None else ColumnTally()
    tally.rows += len(column)
    if pt.is_null(column.type) or not len(column):
        return column
    plain = column.dictionary_decode() if pt.is_dictionary(column.type) else column
    texts = _read(plain)
    tags = [None] * len(texts) if languages is None else _read(_decoded(languages))
    rows, changed = [], []
    seen: dict[tuple[str, str | None, tuple[str, ...]], Redacted] = {}
    for row, text in enumerate(texts):
        if text:
            key = (text, tags[row], tuple(names[row]) if names is not None else ())
            done = seen.get(key)
            if done is None:
                done = seen[key] = redactor.redact(*key)
            tally.add(done.spans)
            if done.spans:
                rows.append(row)
                changed.append(done.text)
    return _replaced(column, plain, rows, changed) if rows else column


def _decoded(column: Any) -> Any:
    return column.dictionary_decode() if pt.is_dictionary(column.type) else column


def _read(column: Any) -> list[str | None]:
    if pt.is_null(column.type):
        return [None] * len(column)
    try:
        texts: list[str | None] = column.to_pylist()
        return texts
    except UnicodeDecodeError:
        values = pc.cast(column, pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]


def _replaced(column: Any, plain: Any, rows: list[int], texts: list[str]) -> Any:
    """The column with new texts in some rows."""
    wide = pc.cast(plain, pa.large_binary())
    new = pa.array([text.encode("utf-8", "surrogateescape") for text in texts], pa.large_binary())
    mask = np.zeros(len(plain), dtype=np.bool_)
    mask[rows] = True
    done = pc.replace_with_mask(wide, pa.array(mask), new)
    options = pc.CastOptions(target_type=pa.large_string(), allow_invalid_utf8=True)
    return _as(pc.cast(done, options=options), column.type)


def _as(texts: Any, wanted: pa.DataType) -> Any:
    """Large strings in another type of text, bytes that are no UTF-8 as they are."""
    if pt.is_dictionary(wanted):
        encoded = _as(texts, wanted.value_type).dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            pc.cast(encoded.indices, wanted.index_type), encoded.dictionary, ordered=wanted.ordered
        )
    return pc.cast(texts, options=pc.CastOptions(target_type=wanted, allow_invalid_utf8=True))
