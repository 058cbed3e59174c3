"""The tables, declared once: from here come the Arrow type check, the pandera schema and the summary of `check`.

A data set is a folder of Parquet files. A column marked `optional` may be null in places, all null, or absent. Columns
not named here are ignored, so that users keep what else they have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

from twotower.clock import ARROW_TIME

TEXT = pa.string()
FLOAT = pa.float64()
INTEGER = pa.int64()
FLAG = pa.bool_()
SKILLS = pa.list_(pa.struct([("name", pa.string()), ("level", pa.float64())]))

# The part of BCP-47 that people use: language, extended language, script, region, variants, extensions, private use.
LANGUAGE_TAG = (
    r"^[A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
    r"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[A-WY-Za-wy-z0-9](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?$"
)
_LANGUAGE_TAG = re.compile(LANGUAGE_TAG)


def is_language_tag(text: str) -> bool:
    """Whether the tables take a text for a language tag."""
    return _LANGUAGE_TAG.fullmatch(text) is not None  # `match` would let a line end stand behind it


@dataclass(frozen=True)
class Column:
    """One column of one table."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    optional: bool = False
    """May be null or absent."""
    low: float | None = None
    """Smallest value allowed (a list's or struct's: of the number inside)."""
    high: float | None = None
    above: float | None = None
    """Values must be greater than this."""
    pattern: str | None = None
    """Regular expression that the text, or each text of the list, matches."""
    pattern_name: str = ""
    free: bool = False
    """Free text that may be empty. Null is a fault that `check` reports; a log reads it as empty."""
    key: bool = False
    """An id: never null, never the empty text."""


@dataclass(frozen=True)
class Table:
    """One file of a data set."""

    name: str
    columns: tuple[Column, ...]
    unique: tuple[str, ...] = ()
    """Columns that together name a row once."""
    required: bool = True
    order: tuple[tuple[str, str, str], ...] = ()
    """Pairs of times (earlier, later) in one row, and what it means when the later one comes first."""

    @property
    def file(self) -> str:
        return f"{self.name}.parquet"

    def column(self, name: str) -> Column:
        """The declaration of the column of that name."""
        return next(column for column in self.columns if column.name == name)


def _language(name: str, meaning: str, *, type: pa.DataType = TEXT, optional: bool = False) -> Column:
    return Column(
        name, type, meaning, "BCP-47", optional, pattern=LANGUAGE_TAG, pattern_name="a language tag like en or pt-BR"
    )


def _time(name: str, meaning: str, optional: bool = False) -> Column:
    return Column(name, ARROW_TIME, meaning, "UTC", optional)


CONTACTS = Table(
    "contacts",
    (
        Column("contact_id", TEXT, "names the contact", key=True),
        Column("customer_id", TEXT, "who asked; null: no pairing memory", optional=True),
        _time("arrived_at", "when the contact began to wait"),
        Column("channel", TEXT, "chat, call, e-mail: the user's own names"),
        Column("queue", TEXT, "the legacy queue", optional=True),
        _language("language", "the contact's language", optional=True),
        Column("intent", TEXT, "label of what is wanted", optional=True),
        Column("intent_text", TEXT, "the stated need, short", free=True),
        Column("transcript", TEXT, "all that was said before a CSA was chosen; may be empty", free=True),
        Column("priority", FLOAT, "the queue's priority", optional=True),
        _time("abandoned_at", "when the customer gave up", optional=True),
        Column("eligible", pa.list_(TEXT), "CSA ids who could have taken it; null: the whole roster", optional=True),
    ),
    unique=("contact_id",),
    order=(("arrived_at", "abandoned_at", "abandoned before it arrived"),),
)

CUSTOMERS = Table(
    "customers",
    (
        Column("customer_id", TEXT, "names the customer", key=True),
        _language("language", "the customer's language", optional=True),
        _time("since", "customer since", optional=True),
    ),
    unique=("customer_id",),
    required=False,
)

CSAS = Table(
    "csas",
    (
        Column("csa_id", TEXT, "names the CSA", key=True),
        _time("valid_from", "from when this row counts; null: from the beginning", optional=True),
        _time("hired_at", "first day; null: from the beginning", optional=True),
        _time("left_at", "last day; null: still there", optional=True),
        Column("site", TEXT, "where the CSA works", optional=True),
        Column("team", TEXT, "the CSA's team", optional=True),
        _language("languages", "languages the CSA speaks", type=pa.list_(TEXT)),
        Column("skills", SKILLS, "names and levels; may be empty", "level 0..1", low=0.0, high=1.0),
        Column("profile", TEXT, "free text; may be empty", free=True),
        Column("capacity", INTEGER, "contacts at once", low=0),
        Column("kind", TEXT, "csa, or bot, self-service, callback, specialist desk; null: csa", optional=True),
        Column("cost", FLOAT, "what the CSA costs", "per hour", optional=True, low=0.0),
    ),
    unique=("csa_id", "valid_from"),
    order=(("hired_at", "left_at", "left before being hired"),),
)

INTERACTIONS = Table(
    "interactions",
    (
        Column("contact_id", TEXT, "the contact handed over", key=True),
        Column("csa_id", TEXT, "to whom", key=True),
        _time("assigned_at", "when the CSA got it"),
        _time("ended_at", "when the hand-over ended", optional=True),
        _time("known_at", "when the outcome became known; null: ended_at", optional=True),
        Column("resolved", FLAG, "whether the need was met", optional=True),
        Column("csat", FLOAT, "the customer's rating", "1..5", optional=True, low=1.0, high=5.0),
        Column("quality_score", FLOAT, "the quality team's score", "0..1", optional=True, low=0.0, high=1.0),
        Column("handle_time_s", FLOAT, "work on the contact", "seconds", optional=True, low=0.0),
        Column("transferred", FLAG, "whether it went on to another CSA", optional=True),
        Column("policy", TEXT, "who or what chose", optional=True),
        Column("propensity", FLOAT, "probability that the policy chose this CSA", "(0, 1]", True, high=1.0, above=0.0),
    ),
    order=(
        ("assigned_at", "ended_at", "ended before it was assigned"),
        ("assigned_at", "known_at", "outcome known before it was assigned"),
    ),
)

SHIFTS = Table(
    "shifts",
    (
        Column("csa_id", TEXT, "who works", key=True),
        _time("starts_at", "from"),
        _time("ends_at", "until"),
    ),
    order=(("starts_at", "ends_at", "ends before it starts"),),
    required=False,
)

TRUTH = Table(
    "truth",
    (
        Column("contact_id", TEXT, "a test contact of a generated centre", key=True),
        Column("csa_id", TEXT, "an eligible CSA", key=True),
        Column("p_resolved", FLOAT, "true probability of success", low=0.0, high=1.0),
    ),
    unique=("contact_id", "csa_id"),
    required=False,
)

TABLES = (CONTACTS, CUSTOMERS, CSAS, INTERACTIONS, SHIFTS, TRUTH)
