"""Text that is no text: bytes in a column of strings that are not UTF-8.

Notable: Parquet and Arrow do not look, and the first to decode such a value would fail far from its row. A valid column
costs one pass in Arrow; only where that fails are the rows sought, by halves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

NOT_TEXT = "bytes that are not UTF-8; write the text as Unicode"


def broken_text(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Rows (n,), ascending, of a column of text, or of lists and structs with text, that hold bytes no text has."""
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    rows: list[int] = []
    first = 0
    for chunk in chunks:
        rows.extend(row + first for row in _broken(chunk))
        first += len(chunk)
    return np.array(rows, dtype=np.int64)


def without(values: pa.Array, rows: npt.NDArray[np.int64]) -> pa.Array:
    """The column with an empty text, or null where it holds no plain text, in some rows."""
    keep = np.arange(len(values), dtype=np.int64)
    blank = pa.scalar("", values.type) if pt.is_string(values.type) or pt.is_large_string(values.type) else None
    kept = values.take(pa.array(keep, mask=np.isin(keep, rows)))
    return kept if blank is None else pc.if_else(pa.array(np.isin(keep, rows)), blank, kept)


def _broken(chunk: Any) -> list[int]:
    """A list is looked into by its elements: a slice of it would still be judged by all of them."""
    if pt.is_list(chunk.type) or pt.is_large_list(chunk.type):
        parents = pc.list_parent_indices(chunk).to_numpy()
        return [int(row) for row in np.unique(parents[_broken(pc.list_flatten(chunk))])]
    if pt.is_struct(chunk.type):
        return sorted({row for i in range(chunk.type.num_fields) for row in _broken(pc.struct_field(chunk, i))})
    try:
        chunk.validate(full=True)
    except pa.ArrowInvalid:
        if len(chunk) == 1:
            return [0]
        half = len(chunk) // 2
        return [*_broken(chunk.slice(0, half)), *(half + row for row in _broken(chunk.slice(half)))]
    return []
