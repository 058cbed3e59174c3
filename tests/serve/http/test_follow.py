"""Two processes on one database: each counts every arrival and learns every end, once, whoever took the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from serve.customers import Customers
from serve.customers_build import build_customers
from serve.http import follow
from serve.http.app import create_app
from serve.http.build import build_service
from serve.http.follow import Follower
from serve.http.running import Running
from serve.http.settings import Limits, Settings
from serve.store import log
from serve.store.errors import StoreUnavailable
from serve.store.export import export
from serve.store.tables import contacts
from tests.serve.http.conftest import CONTACT
from tests.serve.store import told
from twotower.clock import DAY, HOUR, SECOND, now, parse_time
from twotower.features.engine.customers import PER_CUSTOMER
from twotower.tables.log import Log

SECRET = b"sixteen bytes or more"
COMES = parse_time("2026-01-25T00:00:00Z")
FACT = {
    "contact_id": "c-9", "csa_id": "csa-01", "assigned_at": COMES + SECOND, "ended_at": COMES + HOUR, "resolved": True,
}  # fmt: skip


class Worker:
    """A service as one of several, without its background."""

    def __init__(self, settings: Settings, journal: Path) -> None:
        self.service = build_service(settings, journal)
        assert self.service.store is not None
        self.store = self.service.store
        self.client = TestClient(create_app(self.service))
        self.follower = Follower(self.service, self.store)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        answer = self.client.post(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert self.store.log.flush()
        return answer.json()

    def match(self, contact_id: str | None, **more: Any) -> Any:
        contact = {**CONTACT, "contact_id": contact_id, "customer_id": "anna", "arrived_at": COMES, **more}
        return self.post("/v1/match", {"contact": contact, "queue": ["csa-01"]})

    @property
    def customers(self) -> Customers:
        found = self.service.serving.matcher.customers
        assert found is not None
        return found

    def known(self) -> dict[str, Any]:
        return self.customers.known_of("anna") or {"contacts": 0, "handovers": [], "met": []}

    def remembered(self, csa_id: str = "csa-01") -> int:
        """Hand-overs of a CSA in the model's memory."""
        view = self.service.serving.matcher.snapshot
        code = view.codes[csa_id]
        return int(view.memory.end[code] - view.memory.begin[code])


@pytest.fixture
def keeps() -> dict[str, Any]:
    """Settings that a test may change before a worker starts."""
    return {"keep_text": False}


@pytest.fixture
def start(
    whole_bundle: Path, customers: tuple[Path, Path], tmp_path: Path, keeps: dict[str, Any]
) -> Iterator[Callable[[], Worker]]:
    """Starts a worker."""
    file, secret = customers
    begun: list[Worker] = []

    def started() -> Worker:
        settings = Settings(
            str(whole_bundle), insecure=True, customers=str(file), secret=str(secret), workers=2, budget_s=20.0,
            store=f"sqlite:///{tmp_path / 'store.db'}", limits=Limits(deadline_s=10.0), **keeps,
        )  # fmt: skip
        begun.append(Worker(settings, tmp_path / "roster.journal"))
        return begun[-1]

    yield started
    for one in begun:
        one.service.close()


@pytest.fixture
def workers(start: Callable[[], Worker]) -> list[Worker]:
    return [start(), start()]


def look(*workers: Worker) -> None:
    """Each of them takes in what is new, twice."""
    for one in (*workers, *workers):
        one.follower.follow()


def test_each_counts_a_contact_once_whoever_is_asked_again(workers: list[Worker]) -> None:
    first, second = workers
    first.match("c-1")
    look(*workers)
    first.match("c-1")
    second.match("c-1")
    second.post("/v1/assign", {"contacts": [{**CONTACT, "contact_id": "c-1", "customer_id": "anna"}]})
    look(*workers)
    assert [one.known()["contacts"] for one in workers] == [1, 1]
    second.match("c-2", arrived_at=COMES + HOUR)
    look(*workers)
    assert [one.known()["contacts"] for one in workers] == [2, 2]
    assert first.known() == second.known()
    assert 'twotower_heard_total{what="arrival",when="in time"} 2.0' in first.client.get("/metrics").text


def test_who_gets_a_fallback_came_and_who_is_refused_did_not(workers: list[Worker]) -> None:
    first, _ = workers
    first.service.serving.guarded.budget_s = 1e-9
    assert first.match("c-1")["fallback"] == "no_time"
    contact = {**CONTACT, "contact_id": "c-2", "customer_id": "anna", "arrived_at": COMES + HOUR}
    for body in ({"contact": contact, "k": 0}, {"contact": contact, "eligible": ["nobody"]}):
        assert first.client.post("/v1/match", json=body).status_code == 422
    assert first.store.log.flush()
    look(*workers)
    assert [one.known()["contacts"] for one in workers] == [1, 1]


def test_a_contact_without_an_id_is_one_for_each_decision(workers: list[Worker]) -> None:
    first, second = workers
    for one, name in ((first, "d-1"), (second, "d-1"), (second, "d-2")):
        contact = {**CONTACT, "customer_id": "anna", "arrived_at": COMES}
        one.post("/v1/match", {"contact": contact, "decision_id": name})
    look(*workers)
    assert [one.known()["contacts"] for one in workers] == [2, 2]


def test_a_missing_time_is_that_of_the_decision_and_none_is_to_come(workers: list[Worker]) -> None:
    first, second = workers
    begun = now()
    first.match("c-1", arrived_at=None)
    look(*workers)
    assert begun <= first.known()["last_contact"] <= now()
    first.match("c-2", arrived_at=now() + 300 * 365 * DAY // 10)
    look(*workers)
    assert first.known()["last_contact"] <= now()
    first.match("c-3", arrived_at=COMES)  # earlier than the last one
    look(*workers)
    assert first.known() == second.known()
    assert first.known()["contacts"] == 3
    decayed = first.customers.past(first.customers.codes(["anna"]), np.array([now()]), np.array([now()]))
    assert decayed.reading.style[0, 1, 0] > 2.0  # nobody's past has faded


def test_an_arrival_that_the_log_of_the_store_holds_counts_already(workers: list[Worker]) -> None:
    first, _ = workers
    first.customers.until = COMES
    first.match("c-1", arrived_at=COMES - 1)
    first.match("c-2", arrived_at=COMES)
    look(*workers)
    assert [one.known()["contacts"] for one in workers] == [1, 2]


def test_what_ended_moves_its_csa_in_every_process_once(workers: list[Worker]) -> None:
    before = [one.remembered() for one in workers]
    first, second = workers
    first.match("c-9")
    look(*workers)
    first.post("/v1/feedback", {"facts": [FACT]})
    assert [one.remembered() for one in workers] == [before[0] + 1, before[1]]
    look(*workers)
    second.post("/v1/feedback", {"facts": [{**FACT, "csat": 4.0, "known_at": COMES + 2 * HOUR}]})
    look(*workers)
    assert [one.remembered() for one in workers] == [before[0] + 1, before[1] + 1]
    for one in workers:
        assert [handover["csa_id"] for handover in one.known()["handovers"]] == ["csa-01"]
        assert one.known()["met"][0]["good"] == pytest.approx(1.0)


def test_a_second_hand_over_of_a_contact_is_learnt(workers: list[Worker]) -> None:
    first, second = workers
    before = [one.remembered("csa-02") for one in workers]
    first.match("c-9")
    other = {**FACT, "csa_id": "csa-02", "assigned_at": COMES + 2 * HOUR, "ended_at": COMES + 3 * HOUR}
    for fact in (FACT, other):
        first.post("/v1/feedback", {"facts": [fact]})
    look(*workers)
    assert [one.remembered("csa-02") for one in workers] == [before[0] + 1, before[1] + 1]
    assert len(second.known()["handovers"]) == 2


def test_who_starts_later_catches_up_and_counts_nothing_that_its_file_holds(
    start: Callable[[], Worker], customers: tuple[Path, Path]
) -> None:
    first = start()
    first.match("c-9")
    look(first)
    first.post("/v1/feedback", {"facts": [FACT]})
    first.customers.save(customers[0])
    first.match("c-2", arrived_at=COMES + DAY)
    later = {**FACT, "contact_id": "c-2", "assigned_at": COMES + DAY, "ended_at": COMES + DAY + HOUR}
    first.post("/v1/feedback", {"facts": [later]})
    look(first)
    # More of one that the file holds, which became known later than all else.
    first.post("/v1/feedback", {"facts": [{**FACT, "csat": 4.0, "known_at": COMES + 9 * DAY}]})
    second = start()
    look(second)
    assert (second.known()["contacts"], len(second.known()["handovers"])) == (2, 2)
    assert second.known()["met"] == first.known()["met"]
    assert second.remembered() == first.remembered()


def test_a_clock_that_is_set_back_hides_nothing(workers: list[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = workers
    first.match("c-1")
    look(*workers)
    for place in (log, follow):
        monkeypatch.setattr(place, "now", lambda: now() - HOUR)
    first.match("c-2", arrived_at=COMES + HOUR)
    second.follower.follow()
    assert second.known()["contacts"] == 2


def test_what_was_stored_while_the_database_was_away_comes_with_the_next_look(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = workers
    look(*workers)
    with monkeypatch.context() as away:

        def gone(*_: object) -> Any:
            raise StoreUnavailable("contacts: the server does not answer")

        away.setattr(follow, "arrived_since", gone)
        first.match("c-1")
        look(second)
    assert [one.message for one in caplog.records if "not heard of" in one.message] == [
        "what others store is not heard of now: contacts: the server does not answer"
    ]
    look(second)
    assert second.known()["contacts"] == 1


def test_a_contact_that_cannot_be_counted_holds_up_no_other(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workers
    first.match("c-1")
    first.match("c-2", arrived_at=COMES + HOUR)
    whole = Customers.update_arrival

    def broken(self: Customers, customer_id: str, arrived_at: int, *more: Any) -> None:
        if arrived_at == COMES:
            raise RuntimeError("no room")
        whole(self, customer_id, arrived_at, *more)

    monkeypatch.setattr(Customers, "update_arrival", broken)
    look(second)
    assert second.known()["contacts"] == 1


def test_of_several_the_first_saves_what_all_were_told(
    start: Callable[[], Worker], customers: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = start(), start()
    second.service.settings = replace(second.service.settings, number=1)
    lifespans = [Running(one.service, tmp_path / "roster.journal").lifespan for one in (first, second)]
    for one, lifespan in zip((first, second), lifespans, strict=True):
        one.client = TestClient(create_app(one.service, lifespan))
    with first.client:
        first.match("c-1")
        with second.client:
            second.match("c-2", arrived_at=COMES + HOUR)
        assert Customers.load(customers[0], SECRET).known_of("anna") is None
    known = Customers.load(customers[0], SECRET).known_of("anna")
    assert known is not None
    assert known["contacts"] == 2


class TestText:
    """Text is kept, masked."""

    @pytest.fixture
    def keeps(self) -> dict[str, Any]:
        return {"keep_text": True}

    def test_each_counts_what_a_store_that_is_built_from_the_exported_tables_counts(
        self, workers: list[Worker], tmp_path: Path
    ) -> None:
        first, second = workers
        texts = (
            "I am very upset, call me at 612 345 678 please!",
            "hi, where's my order?",
            "Thank you so much for your help",
        )
        for i, text in enumerate(texts):
            workers[i % 2].match(f"c-{i}", intent_text=text, arrived_at=COMES + i * DAY)
        first.post("/v1/feedback", {"facts": [{**FACT, "contact_id": "c-0"}]})
        look(*workers)
        assert first.known()["style"] == second.known()["style"]
        csas = [{"csa_id": "csa-01", "languages": ["en"], "capacity": 1}]
        first.store.roster(csas)
        export(first.store.engine, tmp_path / "tables")
        assert "612 345 678" not in str(told.rows(first.store, contacts))
        built = build_customers(first.service.serving.matcher.bundle, Log.load(tmp_path / "tables"), SECRET)
        moments = np.array([COMES + 9 * DAY])
        found, wanted = (one.past(one.codes(["anna"]), moments, moments).reading for one in (second.customers, built))
        for name in PER_CUSTOMER:
            np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-12, err_msg=name)
        assert found.style[0, 1, 1] > 2.0
