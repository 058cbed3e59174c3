"""What a centre declares of a CSA: the columns of `csas.parquet` but the dates, one row a CSA.

Notable: a row comes from a bundle or from a caller and is held to the same declaration (`twotower/tables/schema.py`) as
the tables that training reads; a column that is missing keeps what it was, or is as if null for a CSA who is new.
`channels`, which the tables do not have, says through which channels a CSA can be reached; null: through any.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from serve.contact import MatchError, moment_of
from twotower.clock import NEVER, NULL_TIME, from_arrow
from twotower.tables.schema import CSAS, is_language_tag
from twotower.text.identify import base_language

TEXTS = ("site", "team", "kind")
LISTS = ("languages", "channels")
COLUMNS = (*TEXTS, *LISTS, "skills", "profile", "capacity", "cost", "hired_at")
MOST_ENTRIES = 256  # of a list
MOST_CHARACTERS = 65_536  # of a profile
LONGEST_NAME = 256


@dataclass(frozen=True)
class Declared:
    """What is declared of one CSA. `hired_at` µs, None: not known; `channels` None: any; no `languages`: any."""

    languages: tuple[str, ...] = ()
    skills: tuple[tuple[str, float], ...] = ()
    profile: str = ""
    site: str | None = None
    team: str | None = None
    kind: str | None = None
    capacity: int = 1
    cost: float | None = None
    hired_at: int | None = None
    channels: tuple[str, ...] | None = None

    def changed(self, columns: Mapping[str, Any], where: str) -> Declared:
        """With other values of some columns. Raises MatchError, which begins with `where`, for what cannot be."""
        if unknown := sorted(set(map(str, columns)) - set(COLUMNS)):
            raise MatchError(f"{where}: unknown column {unknown[0]!r}; known are {', '.join(COLUMNS)}")
        return replace(self, **{name: _READ[name](value, f"{where}, {name}") for name, value in columns.items()})

    @property
    def spoken(self) -> tuple[str, ...]:
        """Base languages, each once."""
        bases = (base_language(tag) for tag in self.languages)
        return tuple(dict.fromkeys(base for base in bases if base is not None))

    def to_json(self) -> dict[str, Any]:
        """Plain values by column, those that differ from a CSA of whom nothing is declared."""
        return self.row([name for name in COLUMNS if getattr(self, name) != getattr(EMPTY, name)])

    def row(self, columns: Iterable[str] = COLUMNS) -> dict[str, Any]:
        """Plain values of some columns."""
        found: dict[str, Any] = {name: getattr(self, name) for name in columns}
        if "skills" in found:
            found["skills"] = [{"name": name, "level": level} for name, level in self.skills]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def csas_table(ids: Sequence[str], rows: Sequence[Declared]) -> pa.Table:
    """The table `csas` of J CSAs, and `channels`."""
    hired = [row.hired_at for row in rows]
    columns: dict[str, pa.Array] = {"csa_id": pa.array(ids, pa.string())}
    for name in ("valid_from", "left_at"):
        columns[name] = pa.nulls(len(ids), CSAS.column(name).type)
    columns["hired_at"] = pa.array(hired, pa.int64()).cast(CSAS.column("hired_at").type)
    for name in ("site", "team", "kind", "profile", "cost", "capacity"):
        columns[name] = pa.array([getattr(row, name) for row in rows], CSAS.column(name).type)
    columns["languages"] = pa.array([list(row.languages) for row in rows], CSAS.column("languages").type)
    skills = [[{"name": name, "level": level} for name, level in row.skills] for row in rows]
    columns["skills"] = pa.array(skills, CSAS.column("skills").type)
    channels = [None if row.channels is None else list(row.channels) for row in rows]
    columns["channels"] = pa.array(channels, pa.list_(pa.string()))
    return pa.table(columns)


def declared_of(table: pa.Table) -> dict[str, Declared]:
    """Rows by id of a table `csas` with one row a CSA; columns may be missing. Raises MatchError for what cannot be."""
    names = [name for name in COLUMNS if name in table.column_names]
    hired = from_arrow(table["hired_at"], NULL_TIME).tolist() if "hired_at" in names else []
    found = {}
    for i, row in enumerate(table.select(["csa_id", *(n for n in names if n != "hired_at")]).to_pylist()):
        csa_id = row.pop("csa_id")
        known = {name: value for name, value in row.items() if value is not None}
        if hired and NULL_TIME < hired[i] < NEVER:
            known["hired_at"] = hired[i]
        found[csa_id] = EMPTY.changed(known, f"csa {csa_id!r}")
    return found


def _text(value: Any, where: str) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > LONGEST_NAME):
        raise MatchError(f"{where}: text of at most {LONGEST_NAME} characters or null expected")
    return value


def _names(value: Any, where: str) -> tuple[str, ...]:
    whole = isinstance(value, list | tuple) and len(value) <= MOST_ENTRIES
    if not whole or not all(isinstance(one, str) and 0 < len(one) <= LONGEST_NAME for one in value):
        raise MatchError(f"{where}: a list of at most {MOST_ENTRIES} names expected")
    return tuple(dict.fromkeys(value))


def _languages(value: Any, where: str) -> tuple[str, ...]:
    found = _names([] if value is None else value, where)
    if wrong := [tag for tag in found if not is_language_tag(tag)]:
        raise MatchError(f"{where}: {wrong[0]!r} is no language tag such as en or pt-BR")
    return found


def _channels(value: Any, where: str) -> tuple[str, ...] | None:
    return None if value is None else _names(value, where)


def _skills(value: Any, where: str) -> tuple[tuple[str, float], ...]:
    found: dict[str, float] = {}
    entries = [] if value is None else value
    if not isinstance(entries, list | tuple) or len(entries) > MOST_ENTRIES:
        raise MatchError(f"{where}: a list of at most {MOST_ENTRIES} skills expected")
    for entry in entries:
        name, level = (entry.get("name"), entry.get("level")) if isinstance(entry, Mapping) else (None, None)
        if not isinstance(name, str) or not name or len(name) > LONGEST_NAME:
            raise MatchError(f"{where}: entries such as {{'name': 'billing', 'level': 0.7}} expected")
        found[name] = _number(level, f"{where} {name!r}, level", 0.0, 1.0)
    return tuple(found.items())


def _profile(value: Any, where: str) -> str:
    if value is not None and (not isinstance(value, str) or len(value) > MOST_CHARACTERS):
        raise MatchError(f"{where}: text of at most {MOST_CHARACTERS} characters or null expected")
    return value or ""


def _number(value: Any, where: str, low: float, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        raise MatchError(f"{where}: a number {bounds} expected")
    return float(value)


def _cost(value: Any, where: str) -> float | None:
    return None if value is None else _number(value, where, 0.0)


def _capacity(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise MatchError(f"{where}: a whole number of at least 0 expected")
    return value


def _hired_at(value: Any, where: str) -> int | None:
    return None if value is None else moment_of(value, where)


_READ: dict[str, Any] = {
    **dict.fromkeys(TEXTS, _text), "languages": _languages, "channels": _channels, "skills": _skills,
    "profile": _profile, "capacity": _capacity, "cost": _cost, "hired_at": _hired_at,
}  # fmt: skip
EMPTY = Declared()
