"""Contact and customer features: what is known the moment a contact arrives, from its own row.

Notable: features are computed column by column in Arrow, so a batch of a million costs seconds; only the counts of
characters go another way for few rows, to the same numbers, so that one contact in the router costs microseconds.
Nothing here looks at other contacts; what the past says of a customer is the pairing memory's part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twotower.clock import DAY, HOUR
from twotower.text.tokens import clean

CATEGORIES = ("channel", "queue", "language", "intent")
TEXT = "intent_text and transcript"  # the column that contact_numbers adds: no table can have one of this name
FEW = 64  # rows up to which Python counts characters sooner than Arrow has compiled the expression
Columns = Mapping[str, Any]
Floats = npt.NDArray[np.float32]


def _text(columns: Columns) -> pa.Array:
    need = pc.fill_null(strings(columns, "intent_text"), "")
    said = pc.fill_null(strings(columns, "transcript"), "")
    return pc.binary_join_element_wise(need, said, pa.scalar("\n", pa.large_string()))


def strings(columns: Columns, name: str) -> pa.Array:
    """The column as large_string, all null where it is absent."""
    values = columns.get(name)
    if values is None:
        return pa.nulls(size(columns), pa.large_string())
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values.cast(pa.large_string())
    return pa.array([None if v is None else clean(v) for v in values], pa.large_string())


def numeric(columns: Columns, name: str) -> npt.NDArray[np.float64]:
    """The column as float64 (N,), NaN where null or absent."""
    values = columns.get(name)
    if values is None:
        return np.full(size(columns), np.nan)
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    return np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)


def size(columns: Columns) -> int:
    """Number of rows."""
    return len(next(iter(columns.values()))) if columns else 0


def _log_length(column: pa.Array) -> Floats:
    length: npt.NDArray[np.int32] = pc.utf8_length(pc.fill_null(column, "")).to_numpy(zero_copy_only=False)
    return np.log1p(length).astype(np.float32)


class Characters:
    """How many characters of a text belong to a class, which `pattern` describes as an expression for one character.

    RE2 compiles an expression at every call, which for the capitals of all alphabets costs more than all other features
    of a contact. Few rows are therefore counted in Python, by a table of characters that is filled from the
    same expression, so the numbers are equal whatever versions of Unicode RE2 and Python follow.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._belongs: dict[str, bool] = {}

    def count(self, text: pa.Array) -> npt.NDArray[np.int64]:
        """Counts (N,) of a large_string array (N,) without nulls."""
        if len(text) <= FEW:
            return np.array([self._count(one) for one in text.to_pylist()], dtype=np.int64)
        found: npt.NDArray[np.int64] = pc.count_substring_regex(text, self._pattern).to_numpy(zero_copy_only=False)
        return found

    def _count(self, text: str) -> int:
        used = set(text)
        if unknown := used - self._belongs.keys():
            self._learn(unknown if self._belongs else unknown.union(map(chr, range(128))))
        return sum(text.count(one) for one in used if self._belongs[one])

    def _learn(self, characters: set[str]) -> None:
        asked = list(characters)
        found = pc.match_substring_regex(pa.array(asked, pa.large_string()), self._pattern)
        self._belongs.update(zip(asked, found.to_pylist(), strict=True))


def _share(pattern: str) -> Callable[[Columns], Floats]:
    characters = Characters(pattern)

    def share(columns: Columns) -> Floats:
        text = columns[TEXT]
        length: npt.NDArray[np.int32] = pc.utf8_length(text).to_numpy(zero_copy_only=False)
        return (characters.count(text) / np.maximum(length, 1)).astype(np.float32)

    return share


def _count(pattern: str) -> Callable[[Columns], Floats]:
    characters = Characters(pattern)

    def count(columns: Columns) -> Floats:
        return np.log1p(characters.count(columns[TEXT])).astype(np.float32)

    return count


def _hour(function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Callable[[Columns], Floats]:
    def hour(columns: Columns) -> Floats:
        of_day = (numeric(columns, "arrived_at") % DAY) / HOUR
        return np.nan_to_num(function(of_day * (2 * np.pi / 24))).astype(np.float32)

    return hour


def _known(name: str) -> Callable[[Columns], Floats]:
    def known(columns: Columns) -> Floats:
        valid: npt.NDArray[np.bool_] = pc.is_valid(strings(columns, name)).to_numpy(zero_copy_only=False)
        return valid.astype(np.float32)

    return known


def _priority(columns: Columns) -> Floats:
    return np.nan_to_num(numeric(columns, "priority")).astype(np.float32)


def _tenure(columns: Columns) -> Floats:
    days = (numeric(columns, "arrived_at") - numeric(columns, "customer_since")) / DAY
    elapsed: npt.NDArray[np.float64] = np.nan_to_num(np.maximum(days, 0))
    return np.log1p(elapsed).astype(np.float32)


# name -> (what it means, its values (N,) float32; a missing input gives 0)
NUMBERS: dict[str, tuple[str, Callable[[Columns], Floats]]] = {
    "need_length": ("log(1 + characters of intent_text)", lambda c: _log_length(strings(c, "intent_text"))),
    "transcript_length": ("log(1 + characters of transcript)", lambda c: _log_length(strings(c, "transcript"))),
    "questions": ("log(1 + question marks)", _count(r"\?")),
    "exclamations": ("log(1 + exclamation marks)", _count(r"!")),
    "capitals": ("share of capital letters", _share(r"\p{Lu}")),
    "digits": ("share of digits", _share(r"[0-9]")),
    "hour_sin": ("sine of the hour of arrival (UTC)", _hour(np.sin)),
    "hour_cos": ("cosine of the hour of arrival (UTC)", _hour(np.cos)),
    "priority": ("priority as given, 0 where null", _priority),
    "customer_known": ("1 where the customer is identified", _known("customer_id")),
    "customer_tenure": ("log(1 + days since customers.since), 0 where unknown", _tenure),
}


def contact_numbers(columns: Columns, names: Sequence[str]) -> Floats:
    """Raw number features (N, F) float32 in the order of `names`."""
    if not names:
        return np.zeros((size(columns), 0), dtype=np.float32)
    columns = {**columns, TEXT: _text(columns)}
    return np.column_stack([NUMBERS[name][1](columns) for name in names]).astype(np.float32)


def contact_categories(columns: Columns, vocabularies: Mapping[str, Sequence[str]]) -> npt.NDArray[np.int64]:
    """Codes (N, C) int64, one column a category: 1 + the position in its vocabulary, 0 for null or unseen."""
    coded = []
    for name, vocabulary in vocabularies.items():
        found = pc.index_in(strings(columns, name), pa.array(vocabulary, pa.large_string()))
        coded.append(pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1)
    return np.column_stack(coded) if coded else np.zeros((size(columns), 0), dtype=np.int64)
