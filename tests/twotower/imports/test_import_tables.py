"""Files of rows by a map: one file for all, files for each table, what repeats, what contradicts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.twotower.imports.conftest import SECRET, Place
from tests.twotower.imports.exports import micros
from twotower.errors import DataError
from twotower.imports import tables
from twotower.imports.customers import CustomerKeys

HEADER = "call,phone,start,queue,lang,why,said,agent,wait,talk,done,stars"
ROW = "c1,+34600112233,2026-01-05 10:00:00,cards,es,fraud,me han cobrado dos veces,ada,40,02:10,yes,8"
COLUMNS: dict[str, Any] = {
    "contacts": {
        "contact_id": "call", "customer_id": "phone", "arrived_at": "start", "channel": {"value": "call"},
        "queue": "queue", "language": "lang", "intent": "why", "intent_text": "said",
    },
    "interactions": {
        "contact_id": "call", "csa_id": "agent",
        "assigned_at": {"from": "start", "plus": [{"from": "wait"}]},
        "ended_at": {"from": "start", "plus": [{"from": "wait"}, {"from": "talk"}]},
        "handle_time_s": "talk", "resolved": "done", "csat": {"from": "stars", "scale": [0, 10]},
    },
}  # fmt: skip
MAP: dict[str, Any] = {
    "source": "csv",
    "zone": "Europe/Madrid",
    "tables": {table: {"columns": columns} for table, columns in COLUMNS.items()},
}


def csv(*rows: str) -> str:
    return "\n".join([HEADER, *rows]) + "\n"


def test_one_row_is_a_contact_and_its_hand_over(place: Place) -> None:
    place.put("calls.csv", csv(ROW))
    done = place.run(MAP)
    assert done.one() == {
        "contact_id": "c1",
        "customer_id": CustomerKeys(SECRET).key("+34600112233"),
        "arrived_at": micros(0),
        "channel": "call",
        "queue": "cards",
        "language": "es",
        "intent": "fraud",
        "intent_text": "me han cobrado dos veces",
        "transcript": "",
        "priority": None,
        "abandoned_at": None,
        "eligible": None,
    }
    row = done.one("interactions")
    assert (row["csa_id"], row["assigned_at"], row["ended_at"]) == ("ada", micros(40), micros(170))
    assert (row["handle_time_s"], row["resolved"], row["csat"]) == (130.0, True, 4.2)
    assert done.one("csas")["skills"] == [{"name": "cards", "level": 1.0}]
    assert done.one("csas")["languages"] == ["es"]


def test_rows_of_one_contact_are_its_hand_overs(place: Place) -> None:
    again = ROW.replace(",ada,40,", ",bob,400,")
    place.put("calls.csv", csv(ROW, again, ROW, ROW.replace("cards", "loans")))
    done = place.run(MAP)
    assert [row["csa_id"] for row in done.rows("interactions")] == ["ada", "bob"]
    assert done.one()["queue"] == "cards"
    assert done.outcome.unused == {}
    assert done.notes("left out") == {"interactions: further rows of the same hand-over": 2}
    assert done.notes("guessed")["contacts that are told in several ways: the first counts"] == 1


def test_a_contact_that_nobody_took(place: Place) -> None:
    place.put("calls.csv", csv(ROW, "c2,,2026-01-05 11:00:00,cards,,,,,,,,"))
    done = place.run(MAP)
    assert [row["contact_id"] for row in done.rows("contacts")] == ["c1", "c2"]
    assert done.notes("left out") == {"interactions: rows without a csa_id: nobody took the contact": 1}


DAMAGED = {
    "no id": (",+34600112233,2026-01-05 10:00:00,,,,,ada,40,,,", "contacts: rows without contact_id"),
    "no time": ("c2,,,,,,,ada,40,,,", "contacts: rows without arrived_at"),
    "a broken time": ("c2,,soon,,,,,ada,40,,,", "contacts: rows whose arrived_at is no time"),
    "a broken wait": ("c2,,2026-01-05 10:00:00,,,,,ada,x,,,", "interactions: rows whose assigned_at is no number"),
    "no wait": ("c2,,2026-01-05 10:00:00,,,,,ada,,,,", "interactions: rows whose assigned_at has no wait to be added"),
    "a negative wait": ("c2,,2026-01-05 10:00:00,,,,,ada,-5,,,",
                        "interactions: rows whose assigned_at is a negative duration"),
    "too few cells": ("c2", "rows with another number of cells than the header"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_row_that_cannot_be_is_damaged_and_none_of_it_is_taken(place: Place, name: str) -> None:
    line, why = DAMAGED[name]
    place.put("calls.csv", csv(ROW, line))
    done = place.run(MAP, tolerate=1.0)
    assert done.one()["contact_id"] == "c1"
    assert done.notes("damaged") == {why: 1}
    assert done.outcome.notes["damaged"][0]["example"] == "calls.csv:3"


def test_values_that_cannot_be_cost_themselves(place: Place) -> None:
    place.put("calls.csv", csv(ROW.replace(",es,", ",12345,").replace("yes,8", "perhaps,11")))
    done = place.run(MAP)
    assert done.one()["language"] is None
    assert done.notes("repaired") == {
        "contacts.language is no language: left out": 1,
        "interactions.resolved is neither yes nor no: left out": 1,
        "interactions.csat is outside of the scale 0..10: left out": 1,
    }


def test_a_time_without_a_zone_is_damaged_where_none_is_stated(place: Place) -> None:
    place.put("calls.csv", csv(ROW))
    with pytest.raises(DataError, match="arrived_at is a time without a zone; state `zone` in the map"):
        place.run({key: value for key, value in MAP.items() if key != "zone"})


def test_files_of_their_own_for_each_table(place: Place) -> None:
    place.put("contacts-1.csv", "id;came\nc1;2026-01-05T09:00:00Z\n")
    place.put("contacts-2.csv", "id;came\nc2;2026-01-05T10:00:00Z\n")
    place.put("taken.csv", "id,who,at\nc1,ada,2026-01-05T09:01:00Z\nc2,bob,2026-01-05T10:02:00Z\n"
              "c9,bob,2026-01-05T10:02:00Z\n")  # fmt: skip
    place.put("people.csv", "who,knows,speaks,since\nada,billing:0.5|cards,en|es,2020-01-01T00:00:00Z\n")
    place.put("shifts.csv", "who,a,b\nada,2026-01-05T08:00:00Z,2026-01-05T16:00:00Z\n"
              "bob,2026-01-05T16:00:00Z,2026-01-05T08:00:00Z\n")  # fmt: skip
    place.put("notes.txt", "a\nb\n")
    mapping = {
        "source": "csv",
        "tables": {
            "contacts": {"files": ["contacts-*.csv"], "columns": {"contact_id": "id", "arrived_at": "came"}},
            "interactions": {"files": ["taken.csv"],
                             "columns": {"contact_id": "id", "csa_id": "who", "assigned_at": "at"}},
            "csas": {"files": ["people.csv"],
                     "columns": {"csa_id": "who", "skills": "knows", "languages": "speaks", "hired_at": "since"}},
            "shifts": {"files": ["shifts.csv"], "columns": {"csa_id": "who", "starts_at": "a", "ends_at": "b"}},
        },
    }  # fmt: skip
    done = place.run(mapping, tolerate=1.0)
    assert [row["channel"] for row in done.rows("contacts")] == ["unknown", "unknown"]
    ada, bob = done.rows("csas")
    assert (ada["skills"], ada["languages"], ada["hired_at"]) == (
        [{"name": "billing", "level": 0.5}, {"name": "cards", "level": 1.0}], ["en", "es"], 1_577_836_800_000_000,
    )  # fmt: skip
    assert (bob["hired_at"], bob["skills"]) == (micros(3720), [])  # nobody declares bob: what hand-overs show
    assert done.one("shifts")["starts_at"] == micros(-3600)
    assert done.notes("damaged") == {
        "interactions: rows of a contact that is not there": 1,
        "shifts: rows that end before they start": 1,
    }
    assert done.notes("left out") == {"files that the map names for no table": 1}


def test_customers_of_their_own(place: Place) -> None:
    place.put("calls.csv", csv(ROW))
    place.put("clients.csv", "tel,tongue,since\n0034600112233,es,2019-01-01\n+34 600112233,es,2019-01-01\n")
    tables = {name: one | {"files": ["calls.csv"]} for name, one in MAP["tables"].items()}
    tables["customers"] = {"files": ["clients.csv"], "columns": {"customer_id": "tel", "language": "tongue",
                           "since": {"from": "since", "format": "%Y-%m-%d"}}}  # fmt: skip
    done = place.run(MAP | {"tables": tables})
    assert done.one("customers")["customer_id"] == done.one()["customer_id"]
    assert done.notes("left out") == {"customers: further rows of the same customer_id": 1}
    place.output = place.folder / "other"
    done = place.run(MAP | {"tables": tables}, secret=None)
    assert not (done.folder / "customers.parquet").exists()
    assert done.notes("left out") == {"customers: rows of customers, who are not to be identified": 2}


def test_pseudonyms_stay_as_they_are(place: Place) -> None:
    place.put("calls.csv", csv(ROW.replace("+34600112233", "customer-17")))
    columns = COLUMNS["contacts"] | {"customer_id": {"from": "phone", "hash": "no"}}
    done = place.run(MAP | {"tables": MAP["tables"] | {"contacts": {"columns": columns}}}, secret=None)
    assert done.one()["customer_id"] == "customer-17"


def test_columns_that_no_table_takes_are_listed(place: Place) -> None:
    place.put("calls.csv", csv(ROW).replace("\n", ",7\n").replace("stars,7", "stars,mood"))
    assert place.run(MAP).outcome.unused == {"column mood": 1}


def test_ids_out_of_file_and_row(place: Place) -> None:
    place.put("calls.csv", csv(ROW, ROW))
    tables = {name: {"columns": one | {"contact_id": {"row": True}}} for name, one in COLUMNS.items()}
    done = place.run(MAP | {"tables": tables})
    assert [row["contact_id"] for row in done.rows("contacts")] == ["calls.csv:2", "calls.csv:3"]
    assert len(done.rows("interactions")) == 2


def test_parquet_with_types_of_its_own(place: Place) -> None:
    table = pa.table({
        "id": [1, 2],
        "came": [datetime(2026, 1, 5, 9, tzinfo=UTC)] * 2,
        "at": [datetime(2026, 1, 5, 9, 1, tzinfo=UTC)] * 2,
        "who": pa.array(["ada", "bob"]).dictionary_encode(), "ok": [True, None], "could": [["ada", "bob"], []],
    })  # fmt: skip
    pq.write_table(table, place.source / "calls.parquet")
    columns = {
        "contacts": {"contact_id": "id", "arrived_at": "came", "eligible": "could"},
        "interactions": {"contact_id": "id", "csa_id": "who", "assigned_at": "at", "resolved": "ok"},
    }
    done = place.run({"source": "csv", "tables": {name: {"columns": one} for name, one in columns.items()}})
    assert [(row["contact_id"], row["eligible"]) for row in done.rows("contacts")] == [("1", ["ada", "bob"]), ("2", [])]
    assert [row["resolved"] for row in done.rows("interactions")] == [True, None]


def test_a_contact_assigned_before_it_arrived(place: Place) -> None:
    place.put("calls.csv", "id,came,at,who\nc1,2026-01-05T09:00:30Z,2026-01-05T09:00:00Z,ada\n")
    columns = {"contacts": {"contact_id": "id", "arrived_at": "came"},
               "interactions": {"contact_id": "id", "csa_id": "who", "assigned_at": "at"}}  # fmt: skip
    done = place.run({"source": "csv", "tables": {name: {"columns": one} for name, one in columns.items()}})
    assert done.one()["arrived_at"] == micros(0)
    assert done.notes("repaired") == {"contacts that were assigned before they arrived: arrived then": 1}


def test_a_column_that_is_not_there_is_told_before_a_row_is_read(place: Place) -> None:
    place.put("a.csv", csv(ROW))
    place.put("b.csv", csv(ROW).replace("agent", "operator"))
    with pytest.raises(DataError, match=r"b\.csv: no column 'agent', which the map names for interactions\.csa_id"):
        place.run(MAP)


def test_a_column_that_names_no_contact_takes_no_memory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 10)
    place.put("a.csv", csv(*(ROW.replace(",40,", f",{n},") for n in range(25))))
    done = place.run(MAP, tolerate=1.0)
    assert done.notes("damaged") == {"rows of a contact beyond its first 10": 15}
    assert done.one()["contact_id"] == "c1"
    assert len(done.rows("interactions")) == 10


def test_a_table_without_files_is_one_line(place: Place) -> None:
    place.put("a.csv", csv(ROW))
    tables = MAP["tables"] | {"shifts": {"files": ["s*"], "columns": {"csa_id": "a", "starts_at": "b", "ends_at": "c"}}}
    with pytest.raises(DataError, match=r"tables\.shifts\.files: no file of the source is named like s\*"):
        place.run(MAP | {"tables": tables})
