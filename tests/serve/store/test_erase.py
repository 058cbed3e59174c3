"""Erasure leaves a customer in no store, and pruning what is old in this one; everybody else stays as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.customers import Customers
from serve.roster.changes import Block, Join
from serve.roster.journal import Journal, journal_secret
from serve.store.erase_files import contacts_in_files
from serve.store.export import export
from serve.store.store import Store
from serve.store.tables import abandoned, contacts, csas, decisions, facts, handovers, metadata
from tests.serve.store import day, told
from tests.support import Tables, at
from twotower.cli import main
from twotower.errors import DataError
from twotower.tables.check import check

ANNA = "anna-the-customer"
SECRET = b"sixteen bytes or more"
RARE = "zarzuela"  # a word that nobody else says


def tell(store: Store, more: str = "") -> None:
    """Three contacts of anna, two of bert and one of nobody; hand-overs of all but one."""
    people = {"a1": ANNA, "a2": ANNA, "a3": ANNA, "b1": "bert", "b2": "bert", "n1": None}
    for number, (contact_id, customer_id) in enumerate(people.items()):
        said = f"about my {RARE}" if customer_id == ANNA else "about my card"
        contact = {"customer_id": customer_id, "intent_text": said, "language": "en", "customer_language": "es"}
        store.log.decided(told.decided(more + contact_id, number, contact=contact, decision_id=f"{more}d-{contact_id}"))
        if contact_id != "a3":
            store.feedback(told.feedback(more + contact_id, minute=number + 1, ended_at=at(number + 2), resolved=True))
    store.abandoned(more + "a3", at(9))
    assert store.log.flush(60)


def kept(store: Store) -> dict[str, set[str]]:
    """Contacts that each table names."""
    tables = (contacts, decisions, handovers, facts, abandoned)
    return {
        table.name.removeprefix("twotower_"): {row["contact_id"] for row in told.rows(store, table)} for table in tables
    }


def remembered() -> Customers:
    """A pairing memory in which anna and bert are."""
    made = Customers.empty(SECRET, "bundle", 4)
    for customer_id in (ANNA, "bert"):
        made.update_arrival(customer_id, at(1))
        made.update_handover(customer_id, "ada", at(2), True)
    return made


def open_roster(path: Path) -> Journal:
    """A roster's journal in which anna and bert must not meet ada."""
    made = Journal(path, journal_secret(path))
    with made.locked():
        made.append([Join("ada"), Block("ada", ANNA), Block("ada", "bert")], at(1))
    return made


def tokens(folder: Path) -> Path:
    """What training keeps of texts, as it lays it out, and a file that is none of it."""
    kept = folder / "tokens" / ("ab" * 8)
    kept.mkdir(parents=True)
    pq.write_table(pa.table({"ids": [[1, 2]]}), kept / "part-00000-of-00001.parquet")
    (folder / "tokens" / "notes.txt").write_text("mine")
    return folder / "tokens"


def holds(folder: Path, word: str) -> list[str]:
    """Files below a folder in which a word stands; Parquet as it is read, the rest as bytes."""
    found = []
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".parquet":
            text = repr(pq.read_table(file).to_pylist()).encode()
        else:
            text = file.read_bytes() if file.is_file() else b""
        if word.encode() in text:
            found.append(str(file.relative_to(folder)))
    return found


def test_an_erased_customer_is_in_no_store(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, secret = tmp_path / "customers.state", tmp_path / "customers.secret"
    secret.write_bytes(SECRET)
    remembered().save(memory)
    journal = open_roster(tmp_path / "roster.journal")
    with Store.open(url) as store:
        tell(store)
        for name in ("one", "two"):
            export(store.engine, tmp_path / name)
        pq.write_table(pa.table({"contact_id": ["a1", "b1"], "rank": [1, 1]}), tmp_path / "one" / "candidates.parquet")
        cache = tokens(tmp_path)
        assert holds(tmp_path, ANNA)
        assert holds(tmp_path, RARE)
        assert holds(tmp_path, journal.keyed(ANNA)) == holds(tmp_path, journal.keyed("bert")) == ["roster.journal"]
        monkeypatch.setenv("TWOTOWER_STORE", url)
        argv = ["feedback", "erase", "--customer", ANNA, "--customers", str(memory), "--secret", str(secret)]
        argv += ["--journal", str(journal.path)]
        exports = [word for name in ("one", "two") for word in ("--export", str(tmp_path / name))]
        assert main([*argv, *exports, "--tokens", str(cache)]) == 0
        assert kept(store) == {
            **{name: {"b1", "b2", "n1"} for name in ("contacts", "decisions", "handovers", "facts")},
            "abandoned": set(),
        }
        assert holds(tmp_path, ANNA) == []  # SQLite's files are below it, with what was deleted and the log beside it
        assert holds(tmp_path, RARE) == []
        assert holds(tmp_path, journal.keyed(ANNA)) == []
        assert holds(tmp_path, journal.keyed("bert")) == ["roster.journal"]
        assert [word for word in ("a1", "a2", "a3") if holds(tmp_path / "one", repr(word))] == []
        left = Customers.load(memory, SECRET)
        assert left.known_of(ANNA) is None
        assert left.known_of("bert") is not None
        assert [file.name for file in cache.rglob("*") if file.is_file()] == ["notes.txt"]
        export(store.engine, tmp_path / "after")
        for name in ("contacts", "interactions", "customers", "csas", "decisions"):
            rewritten, fresh = (pq.read_table(tmp_path / folder / f"{name}.parquet") for folder in ("two", "after"))
            assert rewritten.equals(fresh)
            assert rewritten.schema == fresh.schema
        assert check(tmp_path / "one")[0].counts == {}
        assert pq.read_table(tmp_path / "one" / "candidates.parquet").to_pylist() == [{"contact_id": "b1", "rank": 1}]
        before = {file: file.read_bytes() for file in (tmp_path / "two").iterdir()}
        assert main([*argv, *exports]) == 0  # again: nothing is known, nothing changes
        assert {file: file.read_bytes() for file in (tmp_path / "two").iterdir()} == before


def test_erasing_a_stranger_is_no_error(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    tell(store)
    before = kept(store)
    url = store.engine.url.render_as_string(hide_password=False)
    assert main(["feedback", "erase", "--store", url, "--customer", "nobody"]) == 0
    assert "0 decisions, 0 facts, 0 handovers, 0 abandoned, 0 contacts erased" in capsys.readouterr().out
    assert kept(store) == before


def test_an_erasure_that_was_stopped_is_run_again(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(url, text="none") as store:
        tell(store)
        export(store.engine, tmp_path / "out")
        argv = ["feedback", "erase", "--store", url, "--customer", ANNA, "--export", str(tmp_path / "out")]
        whole, done = pq.ParquetWriter.write_table, []

        def stop(writer: pq.ParquetWriter, table: pa.Table) -> None:
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(table)
            whole(writer, table)

        monkeypatch.setattr(pq.ParquetWriter, "write_table", stop)
        assert main(argv) == 130
        monkeypatch.undo()
        assert check(tmp_path / "out")[0].counts == {}
        assert "a1" in kept(store)["contacts"]
        assert main(argv) == 0
        assert check(tmp_path / "out")[0].counts == {}
        assert holds(tmp_path / "out", ANNA) == []
        assert kept(store)["contacts"] == {"b1", "b2", "n1"}


def test_a_customer_of_an_export_alone_is_erased_there(store: Store, tables: Tables, save, tmp_path: Path) -> None:
    folder = save(tables)
    url = store.engine.url.render_as_string(hide_password=False)
    assert contacts_in_files([folder], "anna") == {"c3", "c1"}
    assert main(["feedback", "erase", "--store", url, "--customer", "anna", "--export", str(folder)]) == 0
    assert [row["contact_id"] for row in day.read(folder, "contacts")] == ["c2", "c4"]
    assert [row["contact_id"] for row in day.read(folder, "interactions")] == ["c2", "c4"]
    assert check(folder)[0].counts == {}


def test_a_file_that_cannot_be_read_stops_it_before_anything_changes(store: Store, tmp_path: Path, capsys) -> None:
    tell(store)
    export(store.engine, tmp_path / "out")
    (tmp_path / "out" / "x.parquet").write_bytes(b"torn")
    before = kept(store)
    url = store.engine.url.render_as_string(hide_password=False)
    assert main(["feedback", "erase", "--store", url, "--customer", ANNA, "--export", str(tmp_path / "out")]) == 1
    assert "x.parquet: is truncated" in capsys.readouterr().err
    assert kept(store) == before
    assert ANNA in repr(pq.read_table(tmp_path / "out" / "contacts.parquet").to_pylist())
    with pytest.raises(DataError, match="no such folder"):
        contacts_in_files([tmp_path / "nowhere"], ANNA)


def test_what_is_old_is_forgotten_whole_or_not_at_all(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    tell(store)
    tell(store, "late-")
    store.feedback(told.feedback("b1", minute=4, known_at=at(5000), csat=3))  # became known later on
    store.feedback(told.feedback("only feedback", minute=2))
    store.roster([{"csa_id": "ada"}])
    store.roster([{"csa_id": "ada", "capacity": 2}], at(100))
    store.roster([{"csa_id": "ada", "capacity": 3}], at(4000))
    with store.engine.begin() as connection:
        for table, column in ((contacts, "arrived_at"), (decisions, "decided_at")):
            late = table.c.contact_id.like("late-%")
            connection.execute(table.update().where(late).values({column: table.c[column] + at(5000) - at(0)}))
    url = store.engine.url.render_as_string(hide_password=False)
    assert main(["feedback", "prune", "--store", url, "--before", "2026-01-03T00:00:00Z"]) == 0
    assert "forgotten" in capsys.readouterr().out
    found = kept(store)
    late = {f"late-{one}" for one in ("a1", "a2", "a3", "b1", "b2", "n1")}
    assert found["contacts"] == found["decisions"] == {"b1", *late}
    assert found["handovers"] == found["facts"] == {"b1", *late} - {"late-a3"}
    assert found["abandoned"] == {"late-a3"}
    assert [row["capacity"] for row in told.rows(store, csas)] == [2, 3]  # the one that counted then, and later ones
    assert sum(store.prune(at(2 * 1440)).values()) == 0


def test_every_table_with_contacts_is_erased_from() -> None:
    from serve.store.tables import OF_CONTACTS

    assert {table.name for table in metadata.sorted_tables if "contact_id" in table.c} == {
        one.name for one in OF_CONTACTS
    }
    assert np.all([("customer_id" in table.c) == (table is contacts) for table in metadata.sorted_tables])
