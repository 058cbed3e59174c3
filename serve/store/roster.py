"""Dated rows of CSAs: who was there, with which skills, from when on.

Notable: a row is added where it says something that the latest one does not; so a service may tell its whole roster
whenever it starts. Rows are those of csas.parquet and are held to the same bounds, since an export must pass `check`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, select

from serve.store.engine import plainly
from serve.store.errors import Conflict, InvalidFact
from serve.store.records import finite, named, storable, time_of
from serve.store.redacting import RedactingProcess
from serve.store.rows import insert_new
from serve.store.tables import csas
from twotower.clock import NULL_TIME
from twotower.errors import shown
from twotower.tables.schema import is_language_tag

LABELS = ("site", "team", "kind")
TIMES = ("hired_at", "left_at")
NAMES = ("csa_id", "valid_from", *TIMES, *LABELS, "languages", "skills", "profile", "capacity", "cost")
BLANK: dict[str, Any] = {"languages": "[]", "skills": "[]", "profile": "", "capacity": 1}


def store_roster(engine: Engine, rows: Iterable[Mapping[str, Any]], at: Any, redacting: RedactingProcess | None) -> int:
    """Store rows of CSAs that count from `at` on, or from their own valid_from; how many said something new.

    at: a moment, or None for the beginning. redacting: masks profiles; None: they are not kept. Raises InvalidFact
    naming CSA and field, Conflict where another row has the same date, StoreUnavailable.
    """
    valid_from = NULL_TIME if at is None else time_of("at", at)
    made = [csa_row(row, valid_from) for row in rows]
    texts = [""] * len(made) if redacting is None else redacting.redact([(row["profile"], None) for row in made])
    for row, text in zip(made, texts, strict=True):
        row["profile"] = text
    with plainly("roster"), engine.begin() as connection:
        return sum(_store(connection, row) for row in sorted(made, key=lambda row: (row["csa_id"], row["valid_from"])))


def store_left(engine: Engine, csa_ids: Iterable[str], at: Any) -> int:
    """CSAs have left; how many were told to have left for the first time. Raises as `store_roster`."""
    moment = time_of("at", at)
    with plainly("roster"), engine.begin() as connection:
        done = 0
        for csa_id in sorted(set(csa_ids)):
            latest = _latest(connection, named("csa_id", csa_id), moment) or {**dict.fromkeys(NAMES), **BLANK}
            if latest["left_at"] is None:
                done += _store(connection, {**latest, "csa_id": csa_id, "valid_from": moment, "left_at": moment})
        return done


def csa_row(told: Mapping[str, Any], valid_from: int) -> dict[str, Any]:
    """A CSA as a row. Raises InvalidFact naming the CSA and the field."""
    csa_id = named("csa_id", told.get("csa_id"))
    try:
        times = {name: None if told.get(name) is None else time_of(name, told[name]) for name in ("valid_from", *TIMES)}
        return {
            **times,
            "csa_id": csa_id,
            "valid_from": valid_from if times["valid_from"] is None else times["valid_from"],
            **{name: _label(name, told.get(name)) for name in LABELS},
            "languages": json.dumps(_languages(told.get("languages"))),
            "skills": json.dumps(_skills(told.get("skills"))),
            "profile": _label("profile", told.get("profile")) or "",
            "capacity": _capacity(told.get("capacity")),
            "cost": _cost(told.get("cost")),
        }
    except InvalidFact as error:
        raise InvalidFact(f"CSA {csa_id!r}, {error}") from None


def _store(connection: Connection, row: dict[str, Any]) -> bool:
    latest = _latest(connection, row["csa_id"], row["valid_from"])
    if latest is not None and {**latest, "valid_from": None} == {**row, "valid_from": None}:
        return False
    if insert_new(connection, csas, [row]):
        return True
    raise Conflict(f"CSA {row['csa_id']!r}: another row of the same date was told before and stands")


def _latest(connection: Connection, csa_id: str, moment: int) -> dict[str, Any] | None:
    """The row of a CSA that counts at a moment."""
    where = (csas.c.csa_id == csa_id) & (csas.c.valid_from <= moment)
    found = connection.execute(select(csas).where(where).order_by(csas.c.valid_from.desc()).limit(1)).mappings().first()
    return None if found is None else dict(found)


def _label(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidFact(f"{name}: {shown(value)}; a text is expected")
    return None if value is None else storable(value)


def _languages(value: Any) -> list[str]:
    tags = [] if value is None else list(value)
    for tag in tags:
        if not isinstance(tag, str) or not is_language_tag(tag):
            raise InvalidFact(f"languages: {shown(tag)}; language tags like en or pt-BR are expected")
    return tags


def _skills(value: Any) -> list[dict[str, Any]]:
    made = []
    for skill in [] if value is None else value:
        name, level = (skill.get("name"), finite(skill.get("level"))) if isinstance(skill, Mapping) else (None, None)
        if not isinstance(name, str) or not name or level is None or not 0 <= level <= 1:
            raise InvalidFact(f"skills: {shown(skill)}; a name and a level of 0 to 1 are expected")
        made.append({"name": storable(name), "level": level})
    return made


def _capacity(value: Any) -> int:
    number = finite(1 if value is None else value)
    if number is None or number < 0 or number != int(number) or number >= 1 << 31:
        raise InvalidFact(f"capacity: {shown(value)}; a whole number of 0 or more is expected")
    return int(number)


def _cost(value: Any) -> float | None:
    number = finite(value)
    if value is not None and (number is None or number < 0):
        raise InvalidFact(f"cost: {shown(value)}; a number of 0 or more is expected")
    return number
