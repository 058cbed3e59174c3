"""Contact features: what is known the moment a contact arrives, from its own row.

Notable: features are computed column by column in Arrow, so a batch of a million costs seconds; only the counts of
characters go another way for few rows, to the same numbers, so that one contact in the router costs microseconds.
Nothing here looks at other contacts; what the past says of a customer is in `features/customer.py`. A language that is
not given is identified from the text, and is the customer's own where the text tells none; a regional one ("pt-BR")
counts as its base language.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twotower.clock import DAY, HOUR
from twotower.features.feature import Feature, table
from twotower.text.identify import base_language, identify
from twotower.text.signals import SIGNALS, signals
from twotower.text.tokens import clean

FEW = 64  # rows up to which Python counts characters sooner than Arrow has compiled the expression
Columns = Mapping[str, Any]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class ContactRows:
    """N contacts as columns named as in contacts.parquet, with what several features read computed once.

    Beside them stand `customer_since` and `customer_language`, of customers.parquet. Any column may be absent;
    `arrived_at` and `customer_since` are microseconds. languages: those that the centre serves (base languages), which
    identification is told where it knows them.
    """

    def __init__(self, columns: Columns, languages: Collection[str] = ()) -> None:
        self.columns, self._served = columns, frozenset(languages)

    def __len__(self) -> int:
        return size(self.columns)

    @cached_property
    def text(self) -> pa.Array:
        """The stated need and the transcript, a line each."""
        need = pc.fill_null(strings(self.columns, "intent_text"), "")
        said = pc.fill_null(strings(self.columns, "transcript"), "")
        return pc.binary_join_element_wise(need, said, pa.scalar("\n", pa.large_string()))

    @cached_property
    def languages(self) -> list[str | None]:
        """Base language of each contact: of its tag where it has one, else identified from its text, else its
        customer's own, else None."""
        found = [tag or guess for tag, guess in zip(self.tagged, self.guessed, strict=True)]
        if None not in found:
            return found
        return [base or own for base, own in zip(found, self.of_customers, strict=True)]

    @cached_property
    def tagged(self) -> list[str | None]:
        """Base language of each contact's own tag, None where it has none."""
        return _bases(self.columns, "language")

    @cached_property
    def guessed(self) -> list[str | None]:
        """Language identified from the text of each contact without a tag; None with one, and where the text tells
        none."""
        served = self._served or None
        # What is not asked for is not read: the verb `features` names the columns that were.
        return [None if tag else identify(self.text[i].as_py(), served).language for i, tag in enumerate(self.tagged)]

    @cached_property
    def of_customers(self) -> list[str | None]:
        """Base language of each contact's customer, None where it is not known."""
        return _bases(self.columns, "customer_language")

    @cached_property
    def signals(self) -> Floats:
        """`twotower.text.signals` (N, S) of the texts in their languages."""
        # The tag of a private language, which no lexicon speaks: what was looked for is not looked for again.
        return signals(self.text.to_pylist(), [base or "x" for base in self.languages])


def _bases(columns: Columns, name: str) -> list[str | None]:
    """The base language of each tag of a column."""
    values = columns.get(name)
    if values is None:
        return [None] * size(columns)
    if not isinstance(values, pa.Array | pa.ChunkedArray):  # a router's few: sooner done than told to Arrow
        return [None if tag is None else base_language(clean(tag)) for tag in values]
    coded = pc.dictionary_encode(strings(columns, name))
    bases = [base_language(tag) for tag in coded.dictionary.to_pylist()]
    return [None if i is None else bases[i] for i in coded.indices.to_pylist()]


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


def told(columns: Columns, name: str) -> list[str | None] | None:
    """The column where it is a router's few in a plain list, texts clean; None where Arrow has to be asked."""
    values = columns.get(name)
    if values is None:
        count = size(columns)
        return [None] * count if count <= FEW else None
    if not isinstance(values, list) or len(values) > FEW:
        return None
    return [None if value is None else clean(value) for value in values]


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


Compute = Callable[[ContactRows], npt.NDArray[Any]]


def _length(name: str) -> Compute:
    return lambda rows: np.log1p(_characters(pc.fill_null(strings(rows.columns, name), "")))


def _characters(text: pa.Array) -> npt.NDArray[np.int32]:
    length: npt.NDArray[np.int32] = pc.utf8_length(text).to_numpy(zero_copy_only=False)
    return length


def _share(pattern: str) -> Compute:
    characters = Characters(pattern)
    return lambda rows: characters.count(rows.text) / np.maximum(_characters(rows.text), 1)


def _count(pattern: str) -> Compute:
    characters = Characters(pattern)
    return lambda rows: np.log1p(characters.count(rows.text))


def _hour(function: Callable[[Doubles], Doubles]) -> Compute:
    def hour(rows: ContactRows) -> Doubles:
        of_day = (numeric(rows.columns, "arrived_at") % DAY) / HOUR
        return np.nan_to_num(function(of_day * (2 * np.pi / 24)))

    return hour


def _known(rows: ContactRows) -> npt.NDArray[np.bool_]:
    values = told(rows.columns, "customer_id")
    if values is not None:
        return np.array([value is not None for value in values], dtype=np.bool_)
    valid: npt.NDArray[np.bool_] = pc.is_valid(strings(rows.columns, "customer_id")).to_numpy(zero_copy_only=False)
    return valid


def _tenure(rows: ContactRows) -> Doubles:
    days = (numeric(rows.columns, "arrived_at") - numeric(rows.columns, "customer_since")) / DAY
    elapsed: Doubles = np.where(days > 0, days, 0)
    return np.log1p(elapsed)


def _foreign(rows: ContactRows) -> Doubles:
    own = rows.of_customers
    if not any(own):
        return np.zeros(len(own))
    pairs = zip(rows.languages, own, strict=True)
    return np.array([language is not None and language != said for said, language in pairs], dtype=np.float64)


def _arrival(
    name: str, family: str, unit: str, low: float, high: float, meaning: str, compute: Compute
) -> Feature[ContactRows]:
    return Feature(name, "contact", family, unit, low, high, meaning, "arrival", compute)


def _signal(place: int) -> Feature[ContactRows]:
    one = SIGNALS[place]
    return _arrival(
        f"said_{one.name}", "signals", one.unit, one.low, one.high, one.meaning, lambda rows: rows.signals[:, place]
    )


LOG = np.inf  # a count has no upper bound
LARGEST = float(np.finfo(np.float32).max)  # that a tensor can hold
NUMBERS: tuple[Feature[ContactRows], ...] = (
    _arrival("need_length", "form", "log(1 + characters)", 0, LOG, "of intent_text", _length("intent_text")),
    _arrival("transcript_length", "form", "log(1 + characters)", 0, LOG, "of transcript", _length("transcript")),
    _arrival("questions", "form", "log(1 + n)", 0, LOG, "question marks", _count(r"\?")),
    _arrival("exclamations", "form", "log(1 + n)", 0, LOG, "exclamation marks", _count(r"!")),
    _arrival("capitals", "form", "share of characters", 0, 1, "capital letters", _share(r"\p{Lu}")),
    _arrival("digits", "form", "share of characters", 0, 1, "digits", _share(r"[0-9]")),
    _arrival("hour_sin", "clock", "1", -1, 1, "sine of the hour of arrival (UTC)", _hour(np.sin)),
    _arrival("hour_cos", "clock", "1", -1, 1, "cosine of the hour of arrival (UTC)", _hour(np.cos)),
    _arrival(
        "priority", "priority", "the log's own", -LOG, LOG, "priority as given, 0 where null",
        lambda rows: np.nan_to_num(numeric(rows.columns, "priority")).clip(-LARGEST, LARGEST),
    ),
    _arrival("customer_known", "customer", "0 or 1", 0, 1, "whether the customer is identified", _known),
    _arrival("customer_tenure", "customer", "log(1 + days)", 0, LOG, "since customers.since, 0 where unknown", _tenure),
    _arrival(
        "foreign_language", "customer", "0 or 1", 0, 1,
        "whether contact and customer (customers.language) have different base languages, both known", _foreign,
    ),
    *(_signal(i) for i in range(len(SIGNALS))),
)  # fmt: skip


def _label(name: str, meaning: str) -> Feature[ContactRows]:
    return Feature(
        name, "contact", "labels", "code", 0, LOG, f"{meaning}; 0 is unknown", "arrival",
        lambda rows: category(rows, name),
    )  # fmt: skip


LABELS: tuple[Feature[ContactRows], ...] = (
    _label("channel", "how the contact came"),
    _label("queue", "the queue that it would have waited in"),
    _label("language", "base language as given, else identified from the text, else the customer's own"),
    _label("intent", "label as given, else by the contact tower's own head"),
)
CATEGORIES = tuple(label.name for label in LABELS)


def contact_numbers(rows: ContactRows, features: Sequence[Feature[ContactRows]]) -> Floats:
    """Raw number features (N, F) float32 in the order of `features`."""
    return table(tuple(features), rows, len(rows), None)


def contact_categories(rows: ContactRows, codes: Mapping[str, Mapping[str, int]]) -> npt.NDArray[np.int64]:
    """Codes (N, C) int64, one column a category, by `codes` of its values (1, 2, … in order); 0 for null or unseen."""
    coded = []
    for name, of in codes.items():
        few = rows.languages if name == "language" and len(rows) <= FEW else told(rows.columns, name)
        if few is not None:
            coded.append(np.array([0 if value is None else of.get(value, 0) for value in few], dtype=np.int64))
            continue
        found = pc.index_in(category(rows, name), pa.array(list(of), pa.large_string()))
        coded.append(pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1)
    return np.column_stack(coded) if coded else np.zeros((len(rows), 0), dtype=np.int64)


def codes_of(values: Sequence[str]) -> dict[str, int]:
    """Codes of a vocabulary: 1 + the position in it."""
    return {value: i + 1 for i, value in enumerate(values)}


def category(rows: ContactRows, name: str) -> pa.Array:
    """Values (N,) of a category as large_string, null where unknown."""
    return pa.array(rows.languages, pa.large_string()) if name == "language" else strings(rows.columns, name)
