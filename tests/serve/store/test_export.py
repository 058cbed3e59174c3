"""Exports: a day goes in as a router tells it and comes out as the tables it was, or as they were known by a moment."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from serve.store.export import Exported, export
from serve.store.records import Decided
from serve.store.store import Store
from tests.serve.store import day, told
from tests.support import at
from twotower.cli import main
from twotower.clock import DAY
from twotower.errors import DataError, OutputError
from twotower.files import sha256_file
from twotower.redaction.redactor import Redactor
from twotower.tables.check import check
from twotower.tables.log import Log

TRAIN = ("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.batch_size=64", "--data.memory_batch=64",
         "--data.memory_rows=64", "--data.towers.max_tokens=24", "--data.towers.view_dim=32")  # fmt: skip


@pytest.fixture(scope="session")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small centre whose queue logs its propensities."""
    folder = tmp_path_factory.mktemp("days") / "centre"
    settings = Settings(contacts=500, csas=12, languages=("en", "es"), seed=3, days=30, eligible=4, propensities=True)
    generate(settings, folder)
    return folder


@pytest.fixture
def full(url: str, centre: Path, request: pytest.FixtureRequest):
    """A store that was told all of it."""
    with Store.open(url) as store:
        day.tell(store, centre)
        yield store


def digests(folder: Path) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in sorted(folder.iterdir())}


def by_key(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: [row[name] for name in names])


def test_a_day_comes_out_as_it_went_in_and_trains(full: Store, centre: Path, tmp_path: Path) -> None:
    done = export(full.engine, tmp_path / "out")
    assert check(tmp_path / "out")[0].counts == {}
    assert done == Exported(500, 464, done.customers, 12, len(day.decisions(centre)))
    masked, out = Redactor(), tmp_path / "out"
    contacts = day.read(centre, "contacts")
    for row in contacts:
        for name in ("intent_text", "transcript"):
            row[name] = masked.redact(row[name], row["language"]).text
    assert by_key(day.read(out, "contacts"), "contact_id") == by_key(contacts, "contact_id")
    key = ("contact_id", "csa_id", "assigned_at")
    handovers = day.read(centre, "interactions")
    for row in handovers:
        row["known_at"] = row["ended_at"] if row["known_at"] is None else row["known_at"]
    assert by_key(day.read(out, "interactions"), *key) == by_key(handovers, *key)
    rows = [{**row, "profile": masked.redact(row["profile"]).text, "cost": None} for row in day.read(centre, "csas")]
    assert by_key(day.read(out, "csas"), "csa_id") == by_key(rows, "csa_id")
    seen = {row["customer_id"] for row in contacts}
    customers = [row for row in day.read(centre, "customers") if row["customer_id"] in seen]
    assert by_key(day.read(out, "customers"), "customer_id") == by_key(customers, "customer_id")
    if full.engine.dialect.name == "sqlite":
        assert main(["check", str(out)]) == 0
        assert main(["train", "--data", str(out), "--output", str(tmp_path / "run"), *TRAIN]) == 0


def test_the_decisions_go_with_it(store: Store, tmp_path: Path) -> None:
    store.log.decided(told.decided(decision_id="d1", arm="greedy", seed=1, salt="1:ab", urgent=True))
    store.feedback(told.feedback())
    store.log.flush()
    export(store.engine, tmp_path / "out")
    [row] = pq.read_table(tmp_path / "out" / "decisions.parquet").to_pylist()
    assert row["candidates"] == [
        {"csa_id": "ada", "score": 1.5, "p_resolved": 0.75, "propensity": 0.9},
        {"csa_id": "bob", "score": 0.5, "p_resolved": 0.5, "propensity": 0.1},
    ]
    assert row["eligible"] == ["ada", "bob", "cy"]
    assert (row["chosen"], row["policy"], row["propensity"]) == ("ada", "explore-uniform", 0.9)
    assert (row["model"], row["roster_version"], row["arm"], row["seed"]) == ("bundle-1", 7, "greedy", 1)


def test_the_same_window_gives_the_same_bytes_whatever_comes_later(store: Store, tmp_path: Path) -> None:
    store.log.decided(told.decided("c1", 0))
    store.log.decided(told.decided("c2", 3))
    store.log.flush()
    store.feedback(told.feedback("c1", minute=1, ended_at=at(5), resolved=True), told.feedback("c2", minute=4))
    export(store.engine, tmp_path / "first", until=at(60))
    store.log.decided(told.decided("c3", 90))
    store.log.flush()
    store.feedback(told.feedback("c1", minute=1, csat=5, known_at=at(61)))
    store.feedback(told.feedback("c2", minute=4, ended_at=at(60), resolved=False))
    store.abandoned("c2", at(70))
    store.left(["ada"], at(80))
    export(store.engine, tmp_path / "again", until=at(60))
    assert digests(tmp_path / "first") == digests(tmp_path / "again")
    export(store.engine, tmp_path / "more")
    assert digests(tmp_path / "more") != digests(tmp_path / "first")


def test_both_databases_give_the_same_bytes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    ids = ["b", "B", "a", "á", "_", "Z", "10", "9"]  # which languages sort otherwise
    urls = {
        "sqlite": f"sqlite:///{tmp_path / 'store.db'}",
        "postgresql": request.getfixturevalue("server").make("bytes"),
    }
    for name, url in urls.items():
        random.Random(name).shuffle(ids)
        with Store.open(url, text="none") as store:
            for one in ids:
                store.log.decided(told.decided(one, decision_id=f"d{one}", eligible=[one]))
            store.log.flush()
            store.feedback(*(told.feedback(one, ended_at=at(5), resolved=True) for one in ids))
            export(store.engine, tmp_path / name)
    assert digests(tmp_path / "sqlite") == digests(tmp_path / "postgresql")


def test_a_window_is_half_open_and_of_when_something_became_known(store: Store, tmp_path: Path) -> None:
    for number, minute in enumerate((0, 10, 20)):
        store.log.decided(told.decided(f"c{number}", minute))
    store.log.flush()
    store.feedback(
        told.feedback("c0", minute=1, ended_at=at(2), known_at=at(10), resolved=True),
        told.feedback("c1", minute=11, ended_at=at(12), resolved=False),
        told.feedback("c2", minute=21, ended_at=at(22), resolved=True),
    )

    def known(since: float, until: float) -> dict[str, Any]:
        out = tmp_path / f"{since}-{until}"
        export(store.engine, out, at(since), at(until))
        kept = {row["contact_id"] for row in day.read(out, "contacts")}
        rows = {row["contact_id"]: row["resolved"] for row in day.read(out, "interactions")}
        assert rows.keys() <= kept
        return rows

    assert known(0, 10) == {"c0": None}
    assert known(10, 20) == {"c0": True, "c1": False}  # c0's outcome was known at 10
    assert known(10.5, 20) == {"c1": False}
    assert known(11, 12) == {"c1": None}
    assert known(20, 30) == {"c2": True}


def test_clocks_that_jump_lose_nothing(store: Store, tmp_path: Path) -> None:
    """Told later, known earlier: the window goes by when it was known, and a decision may seem to come after."""
    store.log.decided(told.decided("c1", 0, decided_at=at(2)))
    store.log.flush()
    store.feedback(told.feedback("c1", minute=1, known_at=at(500), csat=2))
    store.feedback(told.feedback("c1", minute=1, known_at=at(30), resolved=True))
    store.feedback(told.feedback("c1", minute=1, ended_at=at(600)))
    export(store.engine, tmp_path / "early", until=at(100))
    [early] = day.read(tmp_path / "early", "interactions")
    assert (early["resolved"], early["csat"], early["known_at"], early["ended_at"]) == (True, None, at(30), None)
    assert (early["policy"], early["propensity"]) == ("explore-uniform", 0.9)
    export(store.engine, tmp_path / "late")
    [late] = day.read(tmp_path / "late", "interactions")
    assert (late["resolved"], late["csat"], late["known_at"], late["ended_at"]) == (True, 2.0, at(500), at(600))
    assert check(tmp_path / "late")[0].counts == {}


def test_policy_and_eligible_are_those_of_the_decision_that_was_followed(store: Store, tmp_path: Path) -> None:
    store.log.decided(told.decided("c1", 0, chosen="bob", eligible=["bob"], propensity=0.1, decision_id="d1"))
    store.log.decided(told.decided("c1", 0, decided_at=at(2), eligible=["ada", "cy"], propensity=0.8, decision_id="d2"))
    store.log.decided(
        told.decided("c1", 0, decided_at=at(9), eligible=["cy"], chosen="cy", policy="z", decision_id="d3")
    )
    store.log.decided(told.decided("c2", 0, decision_id="d4"))
    store.log.flush()
    store.feedback(
        told.feedback("c1", "ada", 3),
        told.feedback("c1", "cy", 10, decision_id="d3"),
        told.feedback("c1", "bob", 12, decision_id="d3"),  # which chose another
        told.feedback("c2", "ada", 3, policy="by hand"),
    )
    export(store.engine, tmp_path / "out")
    assert {row["contact_id"]: row["eligible"] for row in day.read(tmp_path / "out", "contacts")} == {
        "c1": ["ada", "cy"],
        "c2": ["ada", "bob", "cy"],
    }
    found = {(row["contact_id"], row["csa_id"]): row for row in day.read(tmp_path / "out", "interactions")}
    assert {key: (row["policy"], row["propensity"]) for key, row in found.items()} == {
        ("c1", "ada"): ("explore-uniform", 0.8),
        ("c1", "cy"): ("z", 0.9),
        ("c1", "bob"): (None, None),
        ("c2", "ada"): ("by hand", None),
    }


def test_what_the_tables_do_not_allow_is_null_and_counted(store: Store, tmp_path: Path) -> None:
    odd = {"language": "Klingon!", "customer_language": "??", "channel": None, "priority": float("inf")}
    store.log.decided(told.decided("c1", 5, contact=odd, propensity=1.5))
    store.log.flush()
    store.feedback(told.feedback("c1", minute=6), told.feedback("nobody knows", minute=6))
    store.abandoned("c1", at(1))
    done = export(store.engine, tmp_path / "out")
    assert check(tmp_path / "out")[0].counts == {}
    assert done.left_out == {"language": 1, "customer_language": 1, "abandoned_at": 1, "propensity": 1}
    assert (done.without_contact, done.without_row, done.interactions) == (1, 3, 1)
    [contact] = day.read(tmp_path / "out", "contacts")
    assert [contact[name] for name in ("language", "channel", "priority", "abandoned_at")] == [None, "", None, None]


def test_contacts_whose_text_is_not_there_yet_are_counted(url: str, tmp_path: Path) -> None:
    with Store.open(url) as store:
        store.log._texts.put = lambda said: False  # type: ignore[method-assign]  # as when the router is killed
        store.log.decided(told.decided())
        store.feedback(told.feedback())
        store.log.flush()
        assert export(store.engine, tmp_path / "out").without_text == 1
        assert store.contacts([{"contact_id": "c1", "intent_text": "call 612 345 678", "language": "es"}]) == 0
        assert export(store.engine, tmp_path / "again").without_text == 0
    assert day.read(tmp_path / "again", "contacts")[0]["intent_text"] == "call [phone]"


def test_csas_are_dated_rows_of_the_log_and_of_a_file(store: Store, centre: Path, tmp_path: Path) -> None:
    known = {"csa_id": "ada", "languages": ["en"], "skills": [{"name": "cards", "level": 0.5}], "capacity": 2}
    assert store.roster([known]) == 1
    assert store.roster([known], at(50)) == 0
    assert store.roster([{**known, "languages": ["en", "es"]}], at(60)) == 1
    assert store.left(["ada", "bob"], at(100)) == 2
    assert store.left(["ada"], at(200)) == 0
    store.log.decided(told.decided())
    store.feedback(told.feedback())
    store.log.flush()
    done = export(store.engine, tmp_path / "out", until=at(101), csas=centre / "csas.parquet")
    assert check(tmp_path / "out")[0].counts == {}
    rows = day.read(tmp_path / "out", "csas")
    assert done.csas == len(rows) == 3 + 1 + 1 + 12
    ada = [(row["valid_from"], row["languages"], row["left_at"]) for row in rows if row["csa_id"] == "ada"]
    assert ada == [(None, ["en"], None), (at(60), ["en", "es"], None), (at(100), ["en", "es"], at(100))]
    assert done.without_row == 1  # cy, who was eligible and of whom nobody told anything
    log = Log.load(tmp_path / "out")
    names = log.csas.ids.to_pylist()
    assert dict(zip(names, log.csas.active_at(at(101)).tolist(), strict=True))["ada"] is False


def test_a_window_without_a_hand_over_writes_nothing(store: Store, tmp_path: Path, capsys) -> None:
    store.log.decided(told.decided())
    store.log.flush()
    url = store.engine.url.render_as_string(hide_password=False)
    argv = ["feedback", "export", "--store", url, "--output", str(tmp_path / "out")]
    assert main(argv) == 1
    assert "no hand-over of a known contact became known" in capsys.readouterr().err
    assert main([*argv, "--since", "2026-01-02T00:00:00Z", "--until", "2026-01-02T00:00:00Z"]) == 1
    assert "is not before --until" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir() if file.name != "store.db" and "store.db-" not in file.name] == []


def test_a_folder_that_is_there_is_not_touched(store: Store, tmp_path: Path) -> None:
    store.log.decided(told.decided())
    store.feedback(told.feedback())
    store.log.flush()
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        export(store.engine, tmp_path / "out")
    with pytest.raises(DataError, match="a file named csas"):
        export(store.engine, tmp_path / "other", csas=tmp_path / "people.parquet")
    assert not (tmp_path / "other").exists()


def test_a_decision_that_nobody_followed_leaves_its_contact(store: Store, tmp_path: Path) -> None:
    store.log.decided(Decided({"contact_id": "c9", "arrived_at": at(3), "channel": "chat"}, [], eligible=[]))
    store.log.decided(told.decided("c1", 0))
    store.log.flush()
    store.feedback(told.feedback("c1"))
    export(store.engine, tmp_path / "out", until=at(0) + DAY)
    rows = {row["contact_id"]: row["eligible"] for row in day.read(tmp_path / "out", "contacts")}
    assert rows.keys() == {"c1", "c9"}
