"""`twotower import` as a person calls it: status, report, JSON, what contradicts, what is tolerated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.twotower.imports.conftest import ENTRY, SECRET, Place
from tests.twotower.imports.exports import agent, contact, lines, metric_set, ticket
from twotower.cli import main, run_verb
from twotower.secret import VARIABLE
from twotower.tables.check import check

Verb = Callable[..., int]
GOOD = [contact(f"c{n}", n * 500, agent("ada", n * 500 + 40)) for n in range(20)]


def test_connect_from_a_folder_to_tables_that_pass_the_check(
    place: Place, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    place.put("2026/01/records.json", lines(GOOD))
    assert verb("connect", place.source, "--output", place.output) == 0
    said = capsys.readouterr().out
    assert said.startswith("read as connect: 20 contact records, 20 records; ")
    assert "MB/s" in said
    assert "contacts.queue              100.0%  Queue.Name" in said
    assert "intent_text: nothing states one; empty, first at 2026/01/records.json:1" in said
    assert f"no problems in {place.output}" in said
    assert said.endswith("0 of 20 records were damaged and are not in the tables\n")
    findings, _ = check(place.output)
    assert not len(findings)
    assert sorted(path.name for path in place.output.iterdir()) == [
        "contacts.parquet", "csas.parquet", "import.json", "interactions.parquet",
    ]  # fmt: skip


def test_zendesk_as_json(place: Place, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    place.put("tickets.json", json.dumps({"tickets": [ticket(1, 0)], "metric_sets": [metric_set(1, 0)]}))
    assert verb("zendesk", place.source, "--output", place.output, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["format"] == "zendesk"
    assert told["counts"] == {"contacts": 1, "handovers": 1, "metrics": 1, "records": 2, "tickets": 1}
    assert told["mapped"]["interactions.resolved"] == {
        "from": "solved or closed, and not re-opened", "filled": 1, "rows": 1,
    }  # fmt: skip
    assert told["rate"]["records_per_second"] > 0
    assert told["tables"]["contacts"]["rows"] == 1
    written = json.loads((place.output / "import.json").read_text())
    assert written == {key: value for key, value in told.items() if key not in ("source", "output", "rate")}


def test_a_bar_is_shown_to_a_person(
    place: Place, verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("records.json", lines(GOOD))
    monkeypatch.setattr("twotower.progress.visible", lambda: True)
    assert verb("connect", place.source, "--output", place.output) == 0
    shown = capsys.readouterr().err
    for stage in ("reading", "bringing together", "making contacts", "writing"):
        assert stage in shown


def test_a_damaged_record_is_named_and_the_others_are_there(
    place: Place, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    text = lines(GOOD).splitlines()
    text[11] = text[11].replace('"Channel":', '"Channel', 1)
    place.put("records.json", "\n".join(text))
    words = ["connect", place.source, "--output", place.output]
    assert verb(*words) == 1
    error = capsys.readouterr().err
    assert "1 of 20 records are damaged (5.00%), more than --tolerate 0.01" in error
    assert "first at records.json:12" in error
    assert "nothing was written" in error
    assert error.count("\n") == 1
    assert not place.output.exists()
    # What was read is still there, so the same command goes on with it.
    assert verb(*words, "--tolerate", "0.05") == 0
    said = capsys.readouterr().out
    assert "going on from a run that was stopped" in said
    assert "1 of 20 records were damaged and are not in the tables" in said
    assert len(pq.read_table(place.output / "contacts.parquet")) == 19


def test_one_in_a_hundred_is_tolerated_unless_told(place: Place, verb: Verb) -> None:
    many = [contact(f"c{n}", n * 500, agent("ada", n * 500 + 40)) for n in range(100)]
    place.put("records.json", lines(many) + "{broken\n")
    assert verb("connect", place.source, "--output", place.output, "--tolerate", 0) == 1
    assert verb("connect", place.source, "--output", place.output) == 0


def test_texts_are_masked_unless_told(place: Place, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    place.put("tickets.json", json.dumps(ticket(1, 0, subject="call 212-555-0123", raw_subject="call 212-555-0123")))
    assert verb("zendesk", place.source, "--output", place.folder / "masked") == 0
    assert "masked: 1 phone" in capsys.readouterr().out
    assert verb("zendesk", place.source, "--output", place.folder / "plain", "--no-redact") == 0
    (place.folder / "redaction.yaml").write_text("kinds: [email]\n")
    assert (
        verb("zendesk", place.source, "--output", place.folder / "some", "--redaction", place.folder / "redaction.yaml")
        == 0
    )
    texts = {name: pq.read_table(place.folder / name / "contacts.parquet")["intent_text"].to_pylist()
             for name in ("masked", "plain", "some")}  # fmt: skip
    assert texts == {"masked": ["call [phone]"], "plain": ["call 212-555-0123"], "some": ["call 212-555-0123"]}


def test_a_secret_is_needed_or_nobody_is_identified(
    place: Place, verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    place.put("records.json", lines(GOOD))
    words = ["connect", place.source, "--output", place.output]
    assert verb(*words, secret_too=False) == 1
    assert capsys.readouterr().err == (
        f"twotower import: the customers' secret is missing: give --secret FILE, or set {VARIABLE}; "
        "or --no-customers, to identify nobody\n"
    )
    assert verb(*words, "--no-customers", secret_too=False) == 0
    assert pq.read_table(place.output / "contacts.parquet")["customer_id"].null_count == 20
    monkeypatch.setenv(VARIABLE, SECRET.decode())
    words[-1] = place.folder / "other"
    assert verb(*words, secret_too=False) == 0
    assert pq.read_table(place.folder / "other" / "contacts.parquet")["customer_id"].null_count == 0


CONTRADICTIONS = [
    (["csv"], "csv: --map is missing"),
    (["connect", "--sample", "5"], "connect: --sample does not belong to it"),
    (["connect", "--no-customers"], "--no-customers and --secret contradict each other"),
    (["connect", "--no-redact", "--redaction", "x.yaml"], "--no-redact and --redaction contradict each other"),
    (["connect", "--tolerate", "7"], "--tolerate: expected a share of 0 to 1, not 7"),
    (["connect", "--largest", "0"], "--largest: expected 1 to 1024 MiB, not 0"),
    (["connect", "--map", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    (["connect", "--csas", "nowhere.csv"], "nowhere.csv: no such file"),
]


@pytest.mark.parametrize(("more", "line"), CONTRADICTIONS, ids=[line for _, line in CONTRADICTIONS])
def test_what_contradicts_is_one_line(
    place: Place, verb: Verb, capsys: pytest.CaptureFixture[str], more: list[str], line: str
) -> None:
    place.put("records.json", lines(GOOD))
    assert verb(more[0], place.source, "--output", place.output, *more[1:]) == 1
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not place.output.exists()


def test_a_map_of_another_source_is_refused(place: Place, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    (place.folder / "mapping.yaml").write_text("version: 1\nsource: zendesk\n")
    assert verb("connect", place.source, "--output", place.output, "--map", place.folder / "mapping.yaml") == 1
    assert "is of `source: zendesk`; run import zendesk" in capsys.readouterr().err


def test_a_problem_that_only_the_checker_sees_leaves_nothing(
    place: Place, verb: Verb, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A roster in which one stands there twice passes every rule of the import and fails the check."""
    place.put("records.json", lines(GOOD))
    (tmp_path / "team.csv").write_text("csa_id,capacity\nada,1\nada,2\n")
    assert verb("connect", place.source, "--output", place.output, "--csas", tmp_path / "team.csv") == 1
    error = capsys.readouterr().err
    assert "the tables would have 1 problems and were not written: csas.parquet, row 1, column csa_id" in error
    assert not place.output.exists()


def test_interrupted_it_says_so_and_leaves_what_it_has(
    place: Place, verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from twotower.imports import run

    place.put("records.json", lines(GOOD))
    with monkeypatch.context() as patched:
        patched.setattr(run, "write_tables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert verb("connect", place.source, "--output", place.output) == 130
    assert not place.output.exists()
    assert verb("connect", place.source, "--output", place.output) == 0
    assert "going on from a run that was stopped" in capsys.readouterr().out


def test_a_draft_is_imported_as_it_stands(place: Place, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"L{n},+3460011{n:04},2026-01-05T09:{n:02}:00Z,cards,call,my card {n} is lost again,ada,"
                   f"2026-01-05T09:{n:02}:30Z,yes\n" for n in range(30))  # fmt: skip
    place.put("calls.csv", "Call ID,Caller,Start Time,Queue,Channel,Description,Agent,Answered At,Resolved\n" + rows)
    mapping = place.folder / "mapping.yaml"
    assert run_verb("import", ["map", str(place.source), "--output", str(mapping)], ENTRY) == 0
    assert "contacts.contact_id" in capsys.readouterr().out
    assert verb("csv", place.source, "--map", mapping, "--output", place.output) == 0
    assert len(pq.read_table(place.output / "interactions.parquet")) == 30
    assert run_verb("import", ["map", str(place.source), "--output", str(mapping)], ENTRY) == 1
    assert "exists already" in capsys.readouterr().err


def test_the_tables_are_read_by_the_next_verb(place: Place, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    place.put("records.json", lines(GOOD))
    assert verb("connect", place.source, "--output", place.output) == 0
    capsys.readouterr()
    assert main(["check", str(place.output)]) == 0
    assert "no problems" in capsys.readouterr().out
