"""Each thing that can be wrong with a folder: one clear line and exit status 1."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.support import Tables, minutes, replaced
from twotower.cli import main
from twotower.errors import DataError
from twotower.tables import Log
from twotower.tables.check import check

Spoil = Callable[[Tables], None]


def put(table: str, column: str, values: object) -> Spoil:
    """Puts other values into a column."""

    def spoil(tables: Tables) -> None:
        tables[table] = replaced(tables[table], column, values)

    return spoil


def drop(table: str, column: str) -> Spoil:
    def spoil(tables: Tables) -> None:
        tables[table] = tables[table].drop_columns([column])

    return spoil


def remove(table: str) -> Spoil:
    def spoil(tables: Tables) -> None:
        del tables[table]

    return spoil


def empty(table: str) -> Spoil:
    def spoil(tables: Tables) -> None:
        tables[table] = tables[table].slice(0, 0)

    return spoil


def without_zone(tables: Tables) -> None:
    contacts = tables["contacts"]
    tables["contacts"] = replaced(contacts, "arrived_at", pc.cast(contacts["arrived_at"], pa.timestamp("us")))


def levels(level: float | None) -> pa.Array:
    return pa.array([[], [{"name": "refunds", "level": level}], [], []])


STRUCTURAL = {
    "no contacts file": (remove("contacts"), r"contacts\.parquet: no such file"),
    "no csas file": (remove("csas"), r"csas\.parquet: no such file"),
    "no interactions file": (remove("interactions"), r"interactions\.parquet: no such file"),
    "missing column": (drop("contacts", "channel"), r"contacts\.parquet, column channel: missing; expected string"),
    "missing id": (drop("interactions", "csa_id"), r"interactions\.parquet, column csa_id: missing"),
    "number for text": (put("contacts", "channel", [1, 2, 3, 4]), r"column channel: wrong type int64; expected string"),
    "text for a time": (put("contacts", "arrived_at", ["2026-01-01"] * 4), r"column arrived_at: wrong type string"),
    "text for a list": (put("csas", "languages", ["en"] * 4), r"column languages: wrong type string; expected list"),
    "skills without level": (
        put("csas", "skills", [[{"name": "x"}]] * 4),
        r"column skills: wrong type list.*expected list.*level: double",
    ),
    "time without a zone": (without_zone, r"column arrived_at: times without a time zone; store them as timestamp"),
    "empty contacts": (empty("contacts"), r"contacts\.parquet: the table is empty"),
    "empty interactions": (empty("interactions"), r"interactions\.parquet: the table is empty"),
    "contact twice": (
        put("contacts", "contact_id", ["c3", "c1", "c2", "c1"]),
        r"contacts\.parquet, row 3, column contact_id: stands there twice.*'c1', first in row 1",
    ),
    "csa twice": (
        put("csas", "valid_from", minutes(None, None, None, None)),
        r"csas\.parquet, row 3, column csa_id: stands there twice",
    ),
    "unknown contact": (
        put("interactions", "contact_id", ["c1", "c9", "c3", "c3", "c4"]),
        r"interactions\.parquet, row 1, column contact_id: no contact_id of contacts\.parquet",
    ),
    "unknown csa": (
        put("interactions", "csa_id", ["ada", "bob", "eve", "bob", "cy"]),
        r"interactions\.parquet, row 2, column csa_id: no csa_id of csas\.parquet",
    ),
    "unknown csa in an eligible list": (
        put("contacts", "eligible", [["ada"], None, [], ["cy", "eve"]]),
        r"contacts\.parquet, row 3, column eligible: no csa_id of csas\.parquet",
    ),
    "nobody in an eligible list": (
        put("contacts", "eligible", pa.array([["ada", None], None, [], ["cy"]])),
        r"contacts\.parquet, row 0, column eligible: no csa_id.*None",
    ),
    "ended before assigned": (
        put("interactions", "ended_at", minutes(15, 12, 30, 45, None)),
        r"interactions\.parquet, row 2, column ended_at: ended before it was assigned",
    ),
    "null arrival": (
        put("contacts", "arrived_at", minutes(30, None, 10, 60)),
        r"contacts\.parquet, row 1, column arrived_at: null, where a value is needed",
    ),
    "null list": (
        put("csas", "languages", pa.array([["es"], ["en"], None, ["en"]])),
        r"csas\.parquet, row 2, column languages: null, where a value is needed",
    ),
    "null id": (
        put("interactions", "contact_id", ["c1", "c2", None, "c3", "c4"]),
        r"interactions\.parquet, row 2, column contact_id: null",
    ),
    "level is NaN": (put("csas", "skills", levels(float("nan"))), r"csas\.parquet, row 1, column skills.*0\.\.1.*nan"),
    "level above one": (put("csas", "skills", levels(1.5)), r"csas\.parquet, row 1, column skills.*0\.\.1.*1\.5"),
    "level below zero": (put("csas", "skills", levels(-0.1)), r"csas\.parquet, row 1, column skills.*0\.\.1.*-0\.1"),
    "level is null": (put("csas", "skills", levels(None)), r"csas\.parquet, row 1, column skills"),
}

VALUES = {
    "csat above five": (
        put("interactions", "csat", [6.0, None, 1.0, 4.0, None]),
        r"interactions\.parquet, row 0, column csat: must be within 1\.\.5 \(found 6\.0\)",
    ),
    "csat is NaN": (
        put("interactions", "csat", [5.0, None, float("nan"), 4.0, None]),
        r"interactions\.parquet, row 2, column csat: must be within 1\.\.5 \(found nan\)",
    ),
    "propensity is zero": (
        put("interactions", "propensity", [0.0, 1.0, 0.25, None, None]),
        r"row 0, column propensity: must be above 0 and at most 1 \(found 0\.0\)",
    ),
    "propensity above one": (
        put("interactions", "propensity", [0.5, 1.01, 0.25, None, None]),
        r"row 1, column propensity: must be above 0 and at most 1 \(found 1\.01\)",
    ),
    "language is no tag": (
        put("contacts", "language", ["en", None, "english!", "es"]),
        r"contacts\.parquet, row 2, column language: must be a language tag.*\(found 'english!'\)",
    ),
    "language of a csa is no tag": (
        put("csas", "languages", [["es"], ["en", "?"], ["en"], ["en"]]),
        r"csas\.parquet, row 1, column languages: must be a language tag.*\(found '\?'\)",
    ),
    "null text": (
        put("contacts", "intent_text", ["refund", "late order", None, "refund"]),
        r"contacts\.parquet, row 2, column intent_text: null, where a value is needed",
    ),
    "empty id": (
        put("contacts", "contact_id", ["c3", "c1", "c2", ""]),
        r"contacts\.parquet, row 3, column contact_id: the empty text, where a name is needed",
    ),
    "negative capacity": (put("csas", "capacity", [1, -2, 1, 1]), r"row 1, column capacity: must be 0 or more.*-2"),
    "known before assigned": (
        put("interactions", "known_at", minutes(None, 11, None, None, None)),
        r"row 1, column known_at: outcome known before it was assigned",
    ),
    "left before being hired": (
        put("csas", "left_at", minutes(30, None, 50, None)),
        r"csas\.parquet, row 0, column left_at: left before being hired",
    ),
}


@pytest.mark.parametrize("case", [*STRUCTURAL, *VALUES])
def test_check_says_where_and_why_and_exits_with_one(case, tables, save, capsys):
    spoil, expected = (STRUCTURAL | VALUES)[case]
    spoil(tables)
    assert main(["check", str(save(tables))]) == 1
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if re.search(expected, line)], said.out
    assert said.err == ""


@pytest.mark.parametrize("case", STRUCTURAL)
def test_what_cannot_be_loaded_is_refused_in_the_words_of_check(case, tables, save):
    STRUCTURAL[case][0](tables)
    folder = save(tables)
    with pytest.raises(DataError) as refused:
        Log.load(folder)
    findings, _ = check(folder)
    assert str(refused.value) in [f"{folder}/{line}" for line in findings.text().splitlines()]


@pytest.mark.parametrize("case", VALUES)
def test_a_single_odd_value_does_not_keep_a_log_from_loading(case, tables, save):
    VALUES[case][0](tables)
    if case == "empty id":
        tables["interactions"] = tables["interactions"].slice(0, 4)
    assert len(Log.load(save(tables)).contacts) == 4


@pytest.mark.parametrize("name", ["contacts", "csas", "interactions"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(tables, save, capsys, name, share):
    folder = save(tables)
    file = folder / f"{name}.parquet"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    assert main(["check", str(folder)]) == 1
    assert f"{name}.parquet: is truncated or no Parquet file" in capsys.readouterr().out
    with pytest.raises(DataError, match=rf"{name}\.parquet: is truncated or no Parquet file"):
        Log.load(folder)


def test_a_file_with_damaged_pages_is_named(tables, save, capsys):
    folder = save(tables)
    file = folder / "interactions.parquet"
    pq.write_table(tables["interactions"], file, use_dictionary=False, compression="zstd")
    content = bytearray(file.read_bytes())
    content[4:400] = b"\xff" * 396
    file.write_bytes(content)
    assert main(["check", str(folder)]) == 1
    assert "interactions.parquet: is truncated or no Parquet file" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"interactions\.parquet: is truncated"):
        Log.load(folder)


def test_a_folder_that_is_not_there_is_one_line_on_stderr(tmp_path: Path, capsys):
    assert main(["check", str(tmp_path / "nowhere")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"twotower check: .*nowhere: no such folder; .*\n", said.err)
