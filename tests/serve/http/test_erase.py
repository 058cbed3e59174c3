"""An erased customer is in no store of a service that runs, nor comes back into one from what it holds in memory."""

from __future__ import annotations

import logging
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve.customers import Customers
from serve.http.build import build_service
from serve.http.ended import Learner
from serve.http.follow import Follower
from serve.http.service import Service
from serve.http.settings import Settings
from serve.roster.forget import open_journal
from serve.store.errors import StoreUnavailable
from serve.store.export import export
from serve.store.since import arrived_since
from serve.store.store import Store
from tests.serve.http.conftest import CONTACT, Asking
from tests.serve.http.server import Served
from tests.serve.store.test_erase import SECRET, holds
from twotower.cli import main
from twotower.clock import parse_time

ANNA = "anna-the-customer"
BEGUN = parse_time("2026-01-25T00:01:00Z")


def body(contact_id: str, customer_id: str = ANNA) -> dict[str, Any]:
    return {"contact": {**CONTACT, "contact_id": contact_id, "customer_id": customer_id}}


def fact(contact_id: str, minutes: int = 8) -> dict[str, Any]:
    ended = BEGUN + minutes * 60_000_000
    return {"contact_id": contact_id, "csa_id": "csa-01", "assigned_at": BEGUN, "ended_at": ended, "resolved": True}


def block(customer_id: str) -> dict[str, Any]:
    return {"op": "block", "csa_id": "csa-05", "customer_id": customer_id}


def erase_by_command(tmp_path: Path, *more: str) -> None:
    argv = ["feedback", "erase", "--store", f"sqlite:///{tmp_path / 'store.db'}", "--customer", ANNA]
    files = ("--customers", "customers.state"), ("--secret", "customers.secret"), ("--journal", "roster.journal")
    assert main([*argv, *(word for name, file in files for word in (name, str(tmp_path / file))), *more]) == 0


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """With a file of customers in which anna and bert are."""
    made = Customers.empty(SECRET, "bundle", 4)
    for customer_id in (ANNA, "bert"):
        made.update_arrival(customer_id, BEGUN)
        made.update_handover(customer_id, "csa-01", BEGUN + 1, True)
    made.save(tmp_path / "customers.state")
    (tmp_path / "customers.secret").write_bytes(SECRET)
    return replace(settings, customers=str(tmp_path / "customers.state"), secret=str(tmp_path / "customers.secret"))


@pytest.fixture
def memory(service: Service) -> Customers:
    customers = service.serving.matcher.customers
    assert customers is not None
    return customers


@pytest.fixture
def told(ask: Asking, store: Store, tmp_path: Path) -> Asking:
    """A service that saw contacts of both, with and without an outcome, and must keep both from a CSA."""
    for contact_id, customer_id in (("a1", ANNA), ("a2", ANNA), ("b1", "bert"), ("b2", "bert")):
        assert ask.post("/v1/match", body(contact_id, customer_id)).status_code == 200
    assert ask.post("/v1/feedback", {"facts": [fact("a1"), fact("b1")]}).json()["new"] == 2
    assert ask.post("/v1/roster", {"changes": [block(ANNA), block("bert")]}).status_code == 200
    assert store.log.flush()
    export(store.engine, tmp_path / "export")
    return ask


def in_memory(service: Service, memory: Customers) -> dict[str, Any]:
    """What of whom a service holds."""
    return {
        "customers": {one for one in (ANNA, "bert") if memory.known_of(one) is not None},
        "contacts": set(service._seen),
        "handovers": {key[0] for key in service.serving.learner.told._told},
        "pairs": len(service.serving.matcher.snapshot.blocked),
    }


BOTH = {"customers": {ANNA, "bert"}, "contacts": {"a2", "b2"}, "handovers": {"a1", "b1"}, "pairs": 2}
BERT = {"customers": {"bert"}, "contacts": {"b2"}, "handovers": {"b1"}, "pairs": 1}


def on_disk(tmp_path: Path) -> dict[str, Any]:
    """What of anna stands in files: by her id, in the customers' file, and by her hash in the journal."""
    saved = Customers.load(tmp_path / "customers.state", SECRET)
    journal = open_journal(tmp_path / "roster.journal")
    files = [name for name in holds(tmp_path, ANNA) if not name.startswith("log")]
    return {"files": files, "memory": saved.known_of(ANNA), "pairs": holds(tmp_path, journal.keyed(ANNA))}


NOTHING = {"files": [], "memory": None, "pairs": []}


def test_an_erased_customer_is_in_no_store_of_the_service(
    told: Asking, service: Service, memory: Customers, tmp_path: Path
) -> None:
    assert in_memory(service, memory) == BOTH
    found = told.post("/v1/erase", {"customer_id": ANNA}).json()
    assert found["rows"] == {"contacts": 2, "decisions": 2, "facts": 1, "handovers": 1, "abandoned": 0, "shadows": 0}
    assert (found["customers"], found["pairs"]) == (True, 1)
    assert in_memory(service, memory) == BERT
    service.eraser.save()
    assert {**on_disk(tmp_path), "files": []} == NOTHING
    # Exports are folders that the service knows nothing of: the command erases from them, and again from all else.
    assert on_disk(tmp_path)["files"] == ["export/contacts.parquet"]
    erase_by_command(tmp_path, "--export", str(tmp_path / "export"))
    assert on_disk(tmp_path) == NOTHING
    assert Customers.load(tmp_path / "customers.state", SECRET).known_of("bert") is not None
    found = told.post("/v1/erase", {"customer_id": ANNA}).json()
    assert (sum(found["rows"].values()), found["customers"], found["pairs"]) == (0, False, 0)


def test_a_command_erases_from_a_service_that_runs(
    told: Asking, service: Service, memory: Customers, tmp_path: Path
) -> None:
    erase_by_command(tmp_path, "--export", str(tmp_path / "export"))
    assert in_memory(service, memory)["customers"] == {ANNA, "bert"}
    service.eraser.save()  # before anybody asked who was erased
    assert on_disk(tmp_path) == NOTHING
    service.tick()
    assert in_memory(service, memory) == BERT


def test_who_was_erased_is_heard_of_without_a_save(
    told: Asking, service: Service, memory: Customers, tmp_path: Path
) -> None:
    erase_by_command(tmp_path)
    service.eraser.look()
    service.tick()
    assert in_memory(service, memory) == BERT


def test_who_comes_again_is_kept_as_a_new_customer(
    told: Asking, service: Service, memory: Customers, tmp_path: Path, store: Store
) -> None:
    assert told.post("/v1/erase", {"customer_id": ANNA}).status_code == 200
    assert told.post("/v1/feedback", {"facts": [fact("a2")]}).json()["new"] == 0  # it began before
    told.post("/v1/match", body("a3"))
    assert store.log.flush()
    assert told.post("/v1/feedback", {"facts": [fact("a3", 9)]}).json()["new"] == 1
    service.eraser.look()
    service.eraser.save()
    known = Customers.load(tmp_path / "customers.state", SECRET).known_of(ANNA)
    assert known is not None
    assert [one["last"] for one in known["met"]] == [BEGUN + 9 * 60_000_000]


def test_what_is_being_learnt_of_an_erased_customer_goes_as_well(
    told: Asking, service: Service, memory: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning, go_on, whole = threading.Event(), threading.Event(), Learner.learn

    def slowly(self: Learner, *args: Any) -> bool:
        learning.set()
        assert go_on.wait(30)
        return whole(self, *args)

    monkeypatch.setattr(Learner, "learn", slowly)
    threads = [threading.Thread(target=told.post, args=("/v1/feedback", {"facts": [fact("a2")]}))]
    threads[0].start()
    assert learning.wait(30)
    threads.append(threading.Thread(target=told.post, args=("/v1/erase", {"customer_id": ANNA})))
    threads[1].start()
    threads[1].join(0.5)  # if it did not wait, it would be through by now, and what is learnt would stay
    go_on.set()
    for thread in threads:
        thread.join()
    assert in_memory(service, memory) == BERT


def test_customers_are_not_saved_where_nobody_can_say_who_was_erased(
    told: Asking, service: Service, memory: Customers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    erase_by_command(tmp_path)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("serve.store.erasures.Erasures.news", away)
        service.eraser.save()
        for _ in range(3):
            service.eraser.look()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "customers are not saved, as nobody can say who was erased", "who was erased is not heard of now",
    ]  # fmt: skip
    assert {**on_disk(tmp_path), "files": []} == NOTHING
    service.eraser.save()
    assert in_memory(service, memory)["customers"] == {"bert"}


def test_what_could_not_be_done_is_said_and_asked_for_again(
    told: Asking, memory: Customers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "customers.state"
    content = file.read_bytes()
    file.write_bytes(b"torn")
    answer = told.post("/v1/erase", {"customer_id": ANNA})
    assert answer.status_code == 503
    assert "erase again" in answer.json()["error"]
    assert ANNA not in caplog.text + answer.text
    file.write_bytes(content)
    assert told.post("/v1/erase", {"customer_id": ANNA}).json()["pairs"] == 1
    assert on_disk(tmp_path)["memory"] is None


def test_rows_that_go_later_are_not_taken_in(told: Asking, service: Service, memory: Customers, store: Store) -> None:
    follower = Follower(service, store)
    store.contacts([{"contact_id": "a9", "customer_id": ANNA}, {"contact_id": "b9", "customer_id": "bert"}])
    store.erasures.record(ANNA, memory.key_of(ANNA))  # a command that erases from exports first
    service.eraser.look()
    assert memory.known_of(ANNA) is None
    before = memory.known_of("bert")
    follower.follow()
    assert memory.known_of(ANNA) is None
    assert before is not None
    assert memory.known_of("bert")["contacts"] > before["contacts"]  # type: ignore[index]


def test_what_is_being_taken_in_of_an_erased_customer_goes_as_well(
    told: Asking, service: Service, memory: Customers, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, reading, go_on, whole = Follower(service, store), threading.Event(), threading.Event(), arrived_since

    def slowly(*args: Any) -> list[dict[str, Any]]:
        found = whole(*args)
        reading.set()
        assert go_on.wait(30)
        return found

    monkeypatch.setattr("serve.http.follow.arrived_since", slowly)
    store.contacts([{"contact_id": "a9", "customer_id": ANNA}])
    threads = [threading.Thread(target=follower.follow)]
    threads[0].start()
    assert reading.wait(30)
    threads.append(threading.Thread(target=told.post, args=("/v1/erase", {"customer_id": ANNA})))
    threads[1].start()
    threads[1].join(0.5)  # if it did not wait, it would be through by now, and what is taken in would stay
    go_on.set()
    for thread in threads:
        thread.join()
    assert memory.known_of(ANNA) is None


class TestWithoutAStore:
    """Of one process that keeps no log."""

    @pytest.fixture
    def store(self) -> None:
        return None

    def test_its_memory_and_its_files_forget(
        self, ask: Asking, service: Service, memory: Customers, tmp_path: Path
    ) -> None:
        ask.post("/v1/roster", {"changes": [block(ANNA)]})
        answer = ask.post("/v1/erase", {"customer_id": ANNA}).json()
        assert (answer["rows"], answer["customers"], answer["pairs"]) == ({}, True, 1)
        service.eraser.save()
        assert on_disk(tmp_path) == NOTHING
        assert memory.known_of("bert") is not None

    def test_several_workers_are_told_to_have_one(self, ask: Asking, service: Service) -> None:
        service.settings = replace(service.settings, workers=2)
        answer = ask.post("/v1/erase", {"customer_id": ANNA})
        assert answer.status_code == 404
        assert "--store" in answer.json()["error"]


def test_a_service_begins_to_follow_before_its_customers_are_loaded(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, url = Customers.load, f"sqlite:///{tmp_path / 'store.db'}"

    def meanwhile(*args: Any) -> Customers:
        found = whole(*args)
        with Store.open(url, text="none") as other:
            other.erase(ANNA, found.key_of(ANNA))
        return found

    monkeypatch.setattr("serve.http.build.Customers.load", meanwhile)
    told = replace(settings, store=url, keep_text=False, insecure=True)
    made = build_service(told, tmp_path / "roster.journal")
    made.eraser.save()
    made.close()
    assert whole(tmp_path / "customers.state", SECRET).known_of(ANNA) is None


@pytest.fixture
def options(settings: Settings, tmp_path: Path) -> list[str]:
    """Of a server of its own."""
    named = {"store": f"sqlite:///{tmp_path / 'store.db'}", "journal": str(tmp_path / "roster.journal")}
    named |= {"customers": str(settings.customers), "secret": str(settings.secret)}
    return ["--no-text", *(word for name, value in named.items() for word in (f"--{name}", value))]


def contacts(tmp_path: Path) -> set[str]:
    with sqlite3.connect(tmp_path / "store.db") as connection:
        return {row[0] for row in connection.execute("SELECT contact_id FROM twotower_contacts")}


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("by_route", [True, False], ids=["route", "command"])
def test_a_real_service_does_not_undo_an_erasure(
    bundle_folder: Path, tmp_path: Path, options: list[str], workers: str, by_route: bool
) -> None:
    with Served(bundle_folder, tmp_path / "log", *options, "--workers", workers) as served:
        served.post("/v1/roster", {"changes": [block(ANNA)]})
        for number in range(8):  # each connection is taken by whichever worker comes first
            assert served.post("/v1/match", body(f"a{number}"))[0] == 200
        served.post("/v1/match", body("b1", "bert"))
        if by_route:
            assert served.post("/v1/erase", {"customer_id": ANNA})[0] == 200
        else:
            erase_by_command(tmp_path)
        for _ in range(8):
            _, found = served.post("/v1/match", {"contact": {**CONTACT, "customer_id": ANNA}, "k": 50})
            assert "csa-05" in {one["csa_id"] for one in found["candidates"]}
        served.process.terminate()  # the customers' file is saved once more
        assert served.process.wait(30) == 0
    assert not {name for name in contacts(tmp_path) if name.startswith("a")}
    assert "b1" in contacts(tmp_path)
    found = on_disk(tmp_path)
    assert found["pairs"] == []
    assert not found["memory"] or found["memory"]["met"] == []  # whose contacts came afterwards is a new customer
    assert ANNA not in (tmp_path / "log").read_text()
