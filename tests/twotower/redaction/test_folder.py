"""`twotower redact`: what is free text is masked, everything else is the same, whole or not at all."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import replaced
from twotower.cli import main
from twotower.errors import ConfigError, DataError
from twotower.redaction import folder as redaction_folder
from twotower.redaction.config import RedactionConfig
from twotower.redaction.folder import redact_folder
from twotower.redaction.redactor import Redactor

REDACTOR = Redactor()


@pytest.fixture
def personal(tables, save):
    """The small data set with something personal in each free text, a file of another kind and a sub-folder."""
    contacts = replaced(tables["contacts"], "intent_text", ["order number 4711", "mail a@b.com", "lost card", "refund"])
    tables["contacts"] = replaced(contacts, "transcript", ["anna was here", "", "4111 1111 1111 1111", "612345678"])
    tables["csas"] = replaced(tables["csas"], "profile", ["", "call me at 555-1234", "", ""])
    tables["customers"] = pa.table({"customer_id": ["anna", "bert"], "name": ["Anna Smith", None]})
    folder = save(tables)
    (folder / "more").mkdir()
    (folder / "more" / "notes.txt").write_bytes(b"\0 a@b.com")
    return folder


def texts(folder, table, column):
    return pq.read_table(folder / f"{table}.parquet")[column].to_pylist()


def test_free_text_is_masked(personal, tmp_path):
    redact_folder(personal, tmp_path / "out", REDACTOR)
    assert texts(tmp_path / "out", "contacts", "intent_text") == [
        "order number [order]",
        "mail [email]",
        "lost card",
        "refund",
    ]
    assert texts(tmp_path / "out", "contacts", "transcript") == ["anna was here", "", "[card]", "[phone]"]
    assert texts(tmp_path / "out", "csas", "profile") == ["", "call me at [phone]", "", ""]


def test_everything_else_stays(personal, tmp_path):
    redact_folder(personal, tmp_path / "out", REDACTOR)
    for table, free in (("contacts", ["intent_text", "transcript"]), ("csas", ["profile"])):
        before, after = (pq.read_table(f / f"{table}.parquet") for f in (personal, tmp_path / "out"))
        assert after.schema.equals(before.schema, check_metadata=True)
        assert after.drop_columns(free).equals(before.drop_columns(free))
    for name in ("interactions.parquet", "customers.parquet", "more/notes.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (personal / name).read_bytes()


def test_the_copy_is_a_data_set(personal, tmp_path):
    redact_folder(personal, tmp_path / "out", REDACTOR)
    assert main(["check", str(tmp_path / "out")]) == 0


def test_redacting_the_copy_changes_nothing(personal, tmp_path):
    redact_folder(personal, tmp_path / "out", REDACTOR)
    assert not redact_folder(tmp_path / "out", tmp_path / "again", REDACTOR).total()


def test_batches_and_row_groups_do_not_matter(personal, tmp_path, monkeypatch):
    contacts = pq.read_table(personal / "contacts.parquet")
    encoded = contacts["transcript"].combine_chunks().dictionary_encode()
    pq.write_table(replaced(contacts, "transcript", encoded), personal / "contacts.parquet", row_group_size=2)
    monkeypatch.setattr(redaction_folder, "ROWS", 1)
    monkeypatch.setattr(redaction_folder, "BATCH", 1)
    redact_folder(personal, tmp_path / "out", REDACTOR)
    assert texts(tmp_path / "out", "contacts", "transcript") == ["anna was here", "", "[card]", "[phone]"]
    assert texts(tmp_path / "out", "contacts", "eligible") == contacts["eligible"].to_pylist()
    assert pq.read_schema(tmp_path / "out" / "contacts.parquet").field("transcript").type == encoded.type


def test_an_empty_table_is_copied(personal, tmp_path):
    contacts = pq.read_table(personal / "contacts.parquet")
    pq.write_table(contacts.slice(0, 0), personal / "contacts.parquet")
    redact_folder(personal, tmp_path / "out", REDACTOR)
    assert pq.read_table(tmp_path / "out" / "contacts.parquet").equals(contacts.slice(0, 0))


def test_names_of_the_customers_record_are_masked_in_their_texts_alone(personal, tmp_path):
    redactor = Redactor(RedactionConfig(customer_names=("name",)))
    redact_folder(personal, tmp_path / "out", redactor)
    assert texts(tmp_path / "out", "contacts", "transcript")[0] == "[name] was here"


def test_columns_of_the_users_own_are_masked_where_they_are_named(personal, tmp_path):
    columns = {"customers": ("name",), "contacts": ("transcript",)}
    redactor = Redactor(RedactionConfig(columns=columns, keep=("Anna",)))
    tally = redact_folder(personal, tmp_path / "out", redactor)
    assert texts(tmp_path / "out", "contacts", "intent_text")[1] == "mail a@b.com"
    assert sorted(tally.data()["tables"]) == ["contacts", "customers"]


def test_the_report_counts_and_never_quotes(personal, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["redact", str(personal), "--output", str(tmp_path / "out"), "--report", str(report)]) == 0
    said, written = capsys.readouterr().out, report.read_text()
    assert json.loads(written) == {
        "masked": {"card": 1, "email": 1, "order": 1, "phone": 2},
        "tables": {
            "contacts": {
                "intent_text": {"rows": 4, "changed": 2, "characters": 11, "masked": {"email": 1, "order": 1}},
                "transcript": {"rows": 4, "changed": 2, "characters": 28, "masked": {"card": 1, "phone": 1}},
            },
            "csas": {"profile": {"rows": 4, "changed": 1, "characters": 8, "masked": {"phone": 1}}},
        },
        "copied": ["customers.parquet", "interactions.parquet", "more/notes.txt"],
        "passed": ["customers.name"],
    }
    for text in ("a@b.com", "4711", "4111", "612345678", "555-1234"):
        assert text not in said + written


def test_the_words_for_people_say_what_was_not_looked_at(personal, tmp_path, capsys):
    assert main(["redact", str(personal), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "contacts.transcript: 2 of 4 rows changed: 1 card, 1 phone" in said
    assert "not redacted, as no `columns` of the configuration names it: customers.name" in said


def test_the_json_report_holds_the_same(personal, tmp_path, capsys):
    assert main(["redact", str(personal), "--output", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["masked"] == {"card": 1, "email": 1, "order": 1, "phone": 2}


def test_a_configuration_file_is_used(personal, tmp_path, capsys):
    config = tmp_path / "redaction.yaml"
    config.write_text("enabled: false\n")
    assert main(["redact", str(personal), "--output", str(tmp_path / "out"), "--config", str(config)]) == 0
    assert "switched off" in capsys.readouterr().out
    assert (tmp_path / "out/contacts.parquet").read_bytes() == (personal / "contacts.parquet").read_bytes()


def refused(source, output, redactor=REDACTOR) -> str:
    with pytest.raises((DataError, ConfigError)) as error:
        redact_folder(source, output, redactor)
    assert not output.exists()
    return str(error.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert "no such folder" in refused(tmp_path / "none", tmp_path / "out")


def test_an_output_inside_the_folder_is_refused(personal):
    assert "lies inside" in refused(personal, personal / "out")


def test_a_report_inside_the_folder_is_refused(personal, tmp_path, capsys):
    report = personal / "contacts.parquet"
    assert main(["redact", str(personal), "--output", str(tmp_path / "out"), "--report", str(report)]) == 1
    assert "name a --report elsewhere" in capsys.readouterr().err


def test_a_table_that_is_not_there_is_refused(personal, tmp_path):
    (personal / "csas.parquet").unlink()
    assert "csas.parquet: no such file" in refused(personal, tmp_path / "out")


def test_a_column_that_is_not_there_is_refused(personal, tmp_path):
    redactor = Redactor(RedactionConfig(columns={"contacts": ("transkript",)}))
    assert "contacts.parquet, column transkript: the column to redact is missing" in refused(
        personal, tmp_path / "out", redactor
    )


def test_a_column_that_is_no_text_is_refused(personal, tmp_path):
    redactor = Redactor(RedactionConfig(columns={"csas": ("capacity",)}))
    assert "column capacity: cannot be redacted: int64" in refused(personal, tmp_path / "out", redactor)


def test_a_missing_column_of_names_is_refused(personal, tmp_path):
    redactor = Redactor(RedactionConfig(customer_names=("full_name",)))
    assert "column full_name: the column to redact is missing" in refused(personal, tmp_path / "out", redactor)


def test_a_damaged_table_leaves_nothing_behind(personal, tmp_path):
    whole = (personal / "contacts.parquet").read_bytes()
    (personal / "contacts.parquet").write_bytes(whole[:4] + b"\xff" * 400 + whole[404:])
    assert "contacts.parquet" in refused(personal, tmp_path / "out")
    assert not list(tmp_path.glob(".out*"))


def test_a_link_to_a_folder_is_refused(personal, tmp_path):
    (personal / "link").symlink_to(tmp_path, target_is_directory=True)
    assert "is a link to another folder" in refused(personal, tmp_path / "out")
