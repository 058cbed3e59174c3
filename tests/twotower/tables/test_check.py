"""`twotower check`: all problems at once, and on success what is there."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import minutes, replaced
from twotower.cli import main
from twotower.tables import hashing
from twotower.tables.check import check
from twotower.tables.findings import EXAMPLES
from twotower.tables.hashing import Keys, hash_texts, is_in


def test_a_sound_folder_is_described(tables, save, capsys):
    assert main(["check", str(save(tables))]) == 0
    said = capsys.readouterr().out
    assert "4 rows, 2 customers, 2026-01-01T00:10:00Z to 2026-01-01T01:00:00Z" in said
    assert "csas          4 rows, 3 CSAs" in said
    assert "with an outcome 80.0%, of these failures 50.0%" in said
    assert "with a propensity 60.0%" in said
    assert "eligible: 0 to 2 CSAs, median 1; whole roster for 1 contacts" in said
    assert "no problems" in said


def test_the_json_report_holds_the_same_figures(tables, save, capsys):
    assert main(["check", str(save(tables)), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["problems"] == []
    contacts = report["tables"]["contacts"]
    assert contacts["rows"] == 4
    assert contacts["eligible"] == {"filled": 3, "lists": 3, "named": 3, "smallest": 0, "median": 1, "largest": 2}
    assert contacts["language"]["most"] == {"en": 1, "es": 1, "pt-BR": 1}
    assert report["tables"]["interactions"]["csat"] == {"filled": 3, "mean": pytest.approx(10 / 3)}
    assert report["tables"]["csas"]["skills"]["most"] == {"cards": 2, "refunds": 2}


def test_every_problem_is_in_one_report(tables, save, capsys):
    tables["contacts"] = replaced(tables["contacts"], "language", ["en", "?", "pt-BR", "!"])
    tables["csas"] = tables["csas"].drop_columns(["profile"])
    interactions = replaced(tables["interactions"], "csat", [9.0, None, 1.0, float("inf"), None])
    tables["interactions"] = replaced(interactions, "csa_id", ["eve", "bob", "ada", "bob", "cy"])
    assert main(["check", str(save(tables)), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    found = {(kind["file"], kind["column"]): kind["count"] for kind in report["problems"]}
    assert found == {
        ("csas.parquet", "profile"): 1,
        ("contacts.parquet", "language"): 2,
        ("interactions.parquet", "csat"): 2,
        ("interactions.parquet", "csa_id"): 1,
    }
    assert report["problem_count"] == 6


def test_many_problems_of_a_kind_are_counted_and_the_first_shown(tables, save, capsys):
    n = 70_000  # more than one batch
    contacts = pa.table(
        {
            "contact_id": [f"c{i}" for i in range(n)],
            "arrived_at": minutes(*range(n)),
            "channel": ["chat"] * n,
            "intent_text": [None] * n,
            "transcript": [""] * n,
        }
    )
    tables["contacts"] = contacts.set_column(3, "intent_text", pa.array([None] * n, pa.string()))
    assert main(["check", str(save(tables))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "contacts.parquet, row 0, column intent_text: null, where a value is needed"
    assert lines[EXAMPLES] == (
        "contacts.parquet, column intent_text: null, where a value is needed: 69,990 more, 70,000 in all"
    )
    assert lines[-1] == "70,000 problems; rows count from 0"


def test_rows_are_numbered_through_the_file(tables, save):
    folder = save(tables)
    tables["interactions"] = replaced(tables["interactions"], "csat", [5.0, None, 1.0, 4.0, 7.0])
    pq.write_table(tables["interactions"], folder / "interactions.parquet", row_group_size=2)
    findings, _ = check(folder)
    assert findings.text().startswith("interactions.parquet, row 4, column csat: must be within 1..5 (found 7.0)")


def test_the_other_tables_are_checked_where_they_are(tables, save):
    tables["customers"] = pa.table({"customer_id": ["anna", "anna"], "language": ["en", "en"]})
    tables["shifts"] = pa.table({"csa_id": ["ada", "eve"], "starts_at": minutes(0, 0), "ends_at": minutes(-5, 60)})
    tables["truth"] = pa.table({"contact_id": ["c1", "c9"], "csa_id": ["ada", "ada"], "p_resolved": [0.5, 1.2]})
    found = {(kind["file"], kind["column"]) for kind in check(save(tables))[0].data()}
    assert found == {
        ("customers.parquet", "customer_id"),
        ("shifts.parquet", "csa_id"),
        ("shifts.parquet", "ends_at"),
        ("truth.parquet", "contact_id"),
        ("truth.parquet", "p_resolved"),
    }


def test_columns_of_ones_own_are_left_alone(tables, save):
    tables["contacts"] = tables["contacts"].append_column("notes", pa.array([1, 2, 3, 4]))
    assert len(check(save(tables))[0]) == 0


def test_real_logs_are_sound(real_data):
    for log in ("buck2", "golang_tools", "dba"):
        findings, tables = check(real_data / log)
        assert len(findings) == 0, findings.text()
        assert tables["interactions"]["resolved"]["filled"] == tables["interactions"]["rows"]


texts = st.lists(st.text(max_size=12), max_size=30)


@given(texts)
def test_texts_hash_alike_exactly_where_they_are_equal(values):
    hashes = hash_texts(pa.array(values, pa.string()))
    assert len(set(hashes.tolist())) == len(set(values))
    for large in (pa.array(values, pa.large_string()), pa.array(["x", *values], pa.string()).slice(1)):
        assert hash_texts(large).tolist() == hashes.tolist()


def test_lengths_and_zero_bytes_tell_texts_apart():
    assert len(set(hash_texts(pa.array(["", "\0", "\0\0", "a", "a\0", "\0a"])).tolist())) == 6


@given(texts)
def test_duplicates_are_those_of_a_plain_count(values):
    keys = Keys()
    keys.add(hash_texts(pa.array(values, pa.string())))
    column = pa.array(values, pa.string())
    duplicates = keys.duplicates(lambda: [(0, [column])], shown=100)
    expected = [(i, values.index(text), (text,)) for i, text in enumerate(values) if text in values[:i]]
    assert duplicates.rows == expected
    assert duplicates.count == len(expected)
    assert keys.distinct() == len(set(values))


def test_texts_whose_hashes_collide_are_compared_as_they_are(monkeypatch):
    monkeypatch.setattr(hashing, "hash_columns", lambda columns: np.zeros(len(columns[0]), dtype=np.uint64))
    keys = Keys()
    keys.add(np.zeros(3, dtype=np.uint64))
    duplicates = keys.duplicates(lambda: [(0, [pa.array(["a", "b", "a"])])], shown=10)
    assert duplicates.rows == [(2, 0, ("a",))]
    assert duplicates.count == 1


def test_beyond_the_rows_compared_the_hashes_are_counted(monkeypatch):
    monkeypatch.setattr(hashing, "CONFIRMED", 4)
    column = pa.array(["a"] * 10)
    keys = Keys()
    keys.add(hash_texts(column))
    duplicates = keys.duplicates(lambda: [(0, [column])], shown=2)
    assert [row for row, _, _ in duplicates.rows] == [1, 2]
    assert duplicates.count == 9


@given(st.lists(st.integers(0, 20), max_size=20), st.lists(st.integers(0, 20), max_size=20))
def test_membership_is_that_of_sets(asked, known):
    found = is_in(np.array(asked, dtype=np.uint64), np.array(sorted(known), dtype=np.uint64))
    assert found.tolist() == [value in known for value in asked]
