"""`import map`: which column is what, by names in several languages and by values, and what is left to a person."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.twotower.imports.conftest import Place
from tests.twotower.imports.exports import agent, contact, lines, ticket
from twotower.errors import ConfigError, DataError
from twotower.imports.draft import Draft, draft, quoted
from twotower.imports.guess import match
from twotower.imports.look import look_at
from twotower.imports.mapping import map_of, read_map
from twotower.imports.names import PHRASES, likeness, words_of

HEADERS = {
    "en": "Call ID,Caller,Start Time,Answered At,End Time,Queue Name,Language,Call Reason,Description,Agent,Resolved,"
    "CSAT",
    "es": "ID llamada,Teléfono cliente,Fecha inicio,Hora atención,Fecha fin,Cola,Idioma,Motivo,Descripción,Agente,"
    "Resuelto,Calificación",
    "de": "Vorgangsnummer,Rufnummer,Beginn,Angenommen am,Ende,Warteschlange,Sprache,Grund,Beschreibung,Mitarbeiter,"
    "Erledigt,Bewertung",
    "fr": "ID appel,Appelant,Date début,Décroché,Date fin,File d'attente,Langue,Motif,Demande,Conseiller,Résolu,"
    "Satisfaction",
    "pt": "ID chamada,Telefone,Data início,Hora atendimento,Data fim,Fila,Língua,Assunto código motivo,Descrição,"
    "Atendente,Resolvido,Avaliação",
    "it": "ID chiamata,Telefono,Data inizio,Ora risposta,Data fine,Coda,Lingua,Motivo contatto,Descrizione,Operatore,"
    "Risolto,Valutazione",
    "codes": "contactId,customerPhone,arrived_at,assignedAt,ended_at,queue,lang,intent,message,agentId,is_resolved,"
    "rating",
}
TARGETS = ["contact_id", "customer_id", "arrived_at", "assigned_at", "ended_at", "queue", "language", "intent",
           "intent_text", "csa_id", "resolved", "csat"]  # fmt: skip


def calls(
    count: int = 60, format: str = "%d/%m/%Y %H:%M:%S", begun: datetime = datetime(2026, 1, 5, 9)
) -> list[list[Any]]:
    rng, rows, at = random.Random(0), [], begun
    for n in range(count):
        at += timedelta(hours=9, seconds=rng.randrange(900))
        rows.append([
            f"L{n:05}", f"+346{rng.randrange(10**8):08}", at.strftime(format),
            (at + timedelta(seconds=40)).strftime(format), (at + timedelta(seconds=300)).strftime(format),
            rng.choice(["cards", "loans"]), rng.choice(["es", "en"]), rng.choice(["fraud", "loss", "fee"]),
            f"me han cobrado dos veces la comisión {n}", rng.choice(["ana", "luis", "eva"]), rng.choice(["Sí", "No"]),
            rng.choice(["", 1, 3, 5]),
        ])  # fmt: skip
    return rows


def csv(header: str, rows: list[list[Any]], sign: str = ",") -> str:
    names = header.split(",")
    return "\n".join(sign.join(map(str, row)) for row in [names, *rows]) + "\n"


def sources(made: Draft) -> dict[str, str]:
    return {name: guess.look.name for name, guess in made.guesses}


@pytest.mark.parametrize("tongue", HEADERS)
def test_columns_in_several_languages(place: Place, tongue: str) -> None:
    place.put("calls.csv", csv(HEADERS[tongue], calls()))
    made = draft(place.source, 1000)
    names = HEADERS[tongue].split(",")
    found = {name.partition(".")[2]: source for name, source in sources(made).items()}
    assert found == dict(zip(TARGETS, names, strict=True))
    assert all(0.45 <= guess.confidence <= 1 for _, guess in made.guesses)
    mapping = map_of(yaml.safe_load(made.text))
    assert mapping.tables["contacts"].columns["arrived_at"].format == "%d/%m/%Y %H:%M:%S"


def test_every_guess_says_how_sure_it_is_and_why(place: Place) -> None:
    place.put("calls.csv", csv(HEADERS["en"], calls()))
    text = draft(place.source, 1000).text
    line = next(line for line in text.splitlines() if "queue:" in line)
    assert (
        line.strip()
        == "queue: Queue Name  # 1.00 the name says 'queue name'; 2 distinct in 60 of 60 rows, values loans, cards"
    )
    assert "# TODO\n# - zone: times name no zone" in text


def test_a_draft_holds_no_customer_and_no_text(place: Place) -> None:
    place.put("calls.csv", csv(HEADERS["en"], calls()))
    made = draft(place.source, 1000)
    for said in (made.text, made.summary(), json.dumps(made.data())):
        assert "+346" not in said
        assert "cobrado" not in said


def test_days_and_months_are_told_by_the_values(place: Place) -> None:
    place.put("calls.csv", csv(HEADERS["en"], calls(format="%m/%d/%Y %H:%M:%S")))
    made = draft(place.source, 1000)
    assert map_of(yaml.safe_load(made.text)).tables["contacts"].columns["arrived_at"].format == "%m/%d/%Y %H:%M:%S"
    assert not any("can be read as" in one for one in made.todo)


def test_days_and_months_that_cannot_be_told_are_to_do(place: Place) -> None:
    place.put("calls.csv", csv(HEADERS["en"], calls(8)))
    assert any("can be read as %d/%m/%Y %H:%M:%S or as %m/%d/%Y %H:%M:%S" in one for one in draft(place.source, 9).todo)


def test_times_with_a_zone_need_none(place: Place) -> None:
    place.put("calls.csv", csv(HEADERS["en"], calls(format="%Y-%m-%dT%H:%M:%SZ")))
    made = draft(place.source, 1000)
    assert map_of(yaml.safe_load(made.text)).zone is None
    assert not any("zone" in one for one in made.todo)


def test_a_date_and_a_time_of_day_become_one(place: Place) -> None:
    rows = [[f"c{n}", f"{n % 28 + 1:02}.01.2026", f"09:{n:02}", "ada", "cards"] for n in range(40)]
    place.put("calls.csv", csv("Vorgangsnummer,Datum,Uhrzeit,Bearbeiter,Gruppe", rows, ";"))
    field = map_of(yaml.safe_load(draft(place.source, 1000).text)).tables["contacts"].columns["arrived_at"]
    assert (field.source, field.format) == (("Datum", "Uhrzeit"), "%d.%m.%Y %H:%M")


def test_waits_and_durations_make_times(place: Place) -> None:
    rows = [[f"c{n}", f"2026-01-05T09:{n:02}:00Z", n * 3, 100 + n, "ada", "cards"] for n in range(40)]
    place.put("calls.csv", csv("Call ID,Start Time,Wait Time,Talk Time,Agent,Queue", rows))
    made = draft(place.source, 1000)
    mapping = map_of(yaml.safe_load(made.text))
    taken = mapping.tables["interactions"].columns
    assert [one.source for one in taken["assigned_at"].plus] == [("Wait Time",)]
    assert [one.source for one in taken["ended_at"].plus] == [("Wait Time",), ("Talk Time",)]
    done = place.run(mapping)
    assert (done.rows("interactions")[1]["assigned_at"] - done.rows("contacts")[1]["arrived_at"]) == 3_000_000


def test_what_is_needed_and_not_found_is_refused_until_it_is_filled_in(place: Place) -> None:
    place.put("calls.csv", csv("a,b,c", [["x", "y", "z"]]))
    made = draft(place.source, 1000)
    assert "arrived_at: TODO" in made.text
    assert any(one.startswith("contacts.arrived_at: when the contact began to wait (needed)") for one in made.todo)
    path = place.put("../mapping.yaml", made.text)
    with pytest.raises(ConfigError, match=r"tables\.contacts\.columns\.\w+\.from: says TODO"):
        read_map(path)


def test_without_a_name_for_a_contact_its_row_is_one(place: Place) -> None:
    rows = [[f"2026-01-05T09:{n:02}:00Z", f"2026-01-05T09:{n:02}:30Z", "ada", "cards", "yes"] for n in range(40)]
    place.put("calls.csv", csv("Start Time,Answered At,Agent,Queue,Resolved", rows))
    mapping = map_of(yaml.safe_load(draft(place.source, 1000).text))
    assert mapping.tables["contacts"].columns["contact_id"].row
    assert len(place.run(mapping).rows("interactions")) == 40


def test_words_of_an_outcome_and_scales(place: Place) -> None:
    rows = [[f"c{n}", f"2026-01-05T09:{n:02}:00Z", "ada", ["Resolved", "Escalated to L2", "Failed"][n % 3], n % 11]
            for n in range(50)]  # fmt: skip
    place.put("calls.csv", csv("Call ID,Start Time,Agent,Outcome,Rating", rows))
    made = draft(place.source, 1000)
    fields = map_of(yaml.safe_load(made.text)).tables["interactions"].columns
    assert (fields["resolved"].yes, fields["resolved"].no) == (("resolved",), ("failed",))
    assert any("which of Escalated to L2 means resolved?" in one for one in made.todo)
    assert fields["csat"].scale == (0.0, 10.0)


def test_files_of_several_kinds_fill_several_tables(place: Place) -> None:
    for month in ("01", "02"):
        place.put(f"calls-2026-{month}.csv", csv(HEADERS["en"], calls()))
    place.put("agents.csv", csv("agent_id,team,languages,hire_date", [["ana", "A", "es|en", "2020-01-31"]] * 1))
    place.put(
        "shifts.csv", csv("agent,shift start,shift end", [["ana", "2026-01-05T08:00:00Z", "2026-01-05T16:00:00Z"]])
    )
    made = draft(place.source, 1000)
    mapping = map_of(yaml.safe_load(made.text))
    assert {table: one.files for table, one in mapping.tables.items()} == {
        "contacts": ("calls-*-*.csv",), "interactions": ("calls-*-*.csv",), "csas": ("agents.csv",),
        "shifts": ("shifts.csv",),
    }  # fmt: skip
    assert set(mapping.tables["csas"].columns) == {"csa_id", "team", "languages", "hired_at"}


@pytest.mark.parametrize(("encoding", "sign"), [("cp1252", ";"), ("utf-16", "\t")])
def test_encodings_and_decimals(place: Place, encoding: str, sign: str) -> None:
    rows = [[f"c{n}", f"2026-01-05T09:{n:02}:00Z", "José", f"{n},5"] for n in range(40)]
    place.put("calls.csv", csv("Nº llamada id,Inicio,Agente,Calificación", rows, sign).encode(encoding))
    mapping = map_of(yaml.safe_load(draft(place.source, 1000).text))
    assert mapping.encoding == ("cp1252" if encoding == "cp1252" else "utf-8")
    assert mapping.decimal == ","
    assert mapping.tables["interactions"].columns["csa_id"].source == ("Agente",)


def test_parquet_with_types(place: Place) -> None:
    begun = [datetime(2026, 1, 5, 9, n) for n in range(30)]
    table = pa.table({
        "interaction_id": list(range(30)), "created_at": pa.array(begun, pa.timestamp("ms", "UTC")),
        "agent": ["ada", "bob"] * 15,
        "assigned": pa.array(begun, pa.timestamp("ms", "UTC")), "resolved": [True, False] * 15,
    })  # fmt: skip
    pq.write_table(table, place.source / "calls.parquet")
    made = draft(place.source, 1000)
    assert sources(made)["contacts.arrived_at"] == "created_at"
    assert len(place.run(map_of(yaml.safe_load(made.text))).rows("interactions")) == 30


def test_attributes_of_connect(place: Place) -> None:
    rng = random.Random(1)
    records = [
        contact(f"c{n}", n * 500, agent("ada", n * 500 + 40), Attributes={
            "Language__c": rng.choice(["English", "Spanish"]), "CallReason": rng.choice(["fraud", "loss"]),
            "surveyScore": str(rng.choice([1, 5])), "greetingPlayed": "true"})
        for n in range(30)
    ]  # fmt: skip
    place.put("records.json", lines(records))
    made = draft(place.source, 1000)
    mapping = map_of(yaml.safe_load(made.text))
    assert mapping.source == "connect"
    assert {name: one.source for name, one in mapping.connect.attributes.items()} == {
        "language": ("Language__c",), "intent": ("CallReason",), "csat": ("surveyScore",),
    }  # fmt: skip
    assert made.unused == ["greetingPlayed"]
    assert {row["language"] for row in place.run(mapping).rows("contacts")} == {"en", "es"}


def test_custom_fields_of_zendesk_by_their_titles(place: Place) -> None:
    tickets = [ticket(n, n * 100, custom_fields=[{"id": 27642, "value": reason}, {"id": 5, "value": "x"}])
               for n, reason in enumerate(["fraud", "loss"] * 15)]  # fmt: skip
    fields = [{"id": 27642, "title": "Contact reason", "type": "tagger"}, {"id": 5, "title": "Legacy", "type": "text"}]
    place.put("tickets.json", json.dumps({"ticket_fields": fields}) + "\n" + json.dumps({"tickets": tickets}))
    mapping = map_of(yaml.safe_load(draft(place.source, 1000).text))
    assert mapping.source == "zendesk"
    assert {name: one.source for name, one in mapping.zendesk.fields.items()} == {"intent": ("27642",)}


def test_json_of_something_else_is_one_line(place: Place) -> None:
    place.put("a.json", '{"hello": "world"}')
    with pytest.raises(DataError, match="neither of Amazon Connect nor of Zendesk"):
        draft(place.source, 10)


def test_names_are_words() -> None:
    assert words_of("CallStartTime (UTC)") == {"call", "start", "time"}
    assert words_of("Teléfono del cliente") == {"telefono", "cliente"}
    assert words_of("ACDGroup2") == {"acd", "group", "2"}
    assert likeness("call_start_time", "arrived_at")[0] > likeness("call_end_time", "arrived_at")[0]
    assert likeness("mood", "csat") == (0.0, "")
    assert all(likeness(PHRASES[target].split(", ")[0], target)[0] == 1.0 for target in PHRASES)


def test_a_column_is_one_thing_and_a_thing_one_column() -> None:
    looks = [look_at("agent", ["a", "b"] * 20), look_at("agent name", ["Ann", "Bob"] * 20)]
    found = match(looks, ["csa_id", "team"])
    assert list(found) == ["csa_id"]
    assert found["csa_id"].look.name == "agent"


def test_values_rule_a_name_out() -> None:
    assert match([look_at("start time", ["red", "green"] * 20)], ["arrived_at"]) == {}
    assert match([look_at("resolved", [f"2026-01-{n:02}T00:00:00Z" for n in range(1, 20)])], ["resolved"]) == {}
    assert match([look_at("call id", ["x"] * 50)], ["contact_id"]) == {}


def test_values_alone_are_a_weak_guess() -> None:
    found = match([look_at("f7", [f"+34600{n:06}" for n in range(30)])], ["customer_id", "contact_id"])
    assert found["customer_id"].confidence < 0.5
    assert "by their look alone" in found["customer_id"].why


def test_names_that_yaml_would_take_for_something_else() -> None:
    for name in ("yes", "No", "27642", "a: b", 'say "hi"', "#x", " x", "null", "ñ", "a\\b", "1e3", "x, y"):
        assert yaml.safe_load(f"a: {quoted(name)}") == {"a": name}
