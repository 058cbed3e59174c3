"""How long callers wait: no longer than their deadline for a match, whatever the model does, nor than the limit for
anything else."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serve.breaker import Breaker
from serve.guarded import Pace
from serve.http.build import load_serving
from serve.http.service import Service
from serve.http.settings import Limits, Settings
from serve.roster.changes import Leave
from tests.serve.http.conftest import CONTACT, Asking, order

QUEUE = ["csa-05", "csa-02"]


def test_a_model_that_hangs_is_not_waited_for(ask: Asking, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(service.serving.matcher, "read", lambda *_: go_on.wait(30) and None)
    begun = time.monotonic()
    answer = ask.post("/v1/match", {"contact": CONTACT, "queue": QUEUE}, **{"X-Deadline-Ms": "60"})
    assert time.monotonic() - begun < 10
    assert answer.json()["fallback"] == "deadline"
    assert order(answer) == QUEUE
    assert "60 ms" in answer.json()["why"]
    assert answer.json()["elapsed_ms"]["whole"] >= 60  # what the caller waited, not what the fallback took
    go_on.set()


def test_an_assignment_does_not_wait_for_a_model_that_hangs(
    ask: Asking, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, breaker = threading.Event(), Breaker(1)
    service.serving.guarded.breaker = breaker
    monkeypatch.setattr(service.serving.matcher, "read", lambda *_: go_on.wait(30) and None)
    contacts = [{**CONTACT, "contact_id": f"c-{i}", "eligible": ["csa-01", "csa-02"]} for i in range(4)]
    body = {"contacts": contacts, "capacity": {"csa-02": 2}}
    begun = time.monotonic()
    answer = ask.post("/v1/assign", body, **{"X-Deadline-Ms": "60"})
    assert time.monotonic() - begun < 10
    found = answer.json()["assignments"]
    assert [one["csa_id"] for one in found] == ["csa-01", "csa-02", "csa-02", None]
    assert {one["fallback"] for one in found} == {"deadline"}
    assert breaker.state == "open"
    assert 'twotower_fallbacks_total{reason="deadline"} 4.0' in ask.get("/metrics").text
    go_on.set()


def test_a_fallback_names_nobody_who_may_be_gone_by_now(
    ask: Asking, service: Service, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every thread hangs in the model, so that none reads the journal, while another process changes the roster."""
    go_on, keeper = threading.Event(), service.serving.keeper
    monkeypatch.setattr(service.serving.matcher, "read", lambda *_: go_on.wait(30) and None)
    soon = {"X-Deadline-Ms": "60"}
    for _ in range(service.settings.threads):
        assert ask.post("/v1/match", {"contact": CONTACT}, **soon).json()["fallback"] == "deadline"
    other = load_serving(Settings(str(bundle_folder)), tmp_path / "roster.journal").keeper
    assert keeper.known()
    other.update([Leave(QUEUE[0])])
    keeper._clock = lambda: time.monotonic() + 10
    assert not keeper.known()
    answer = ask.post("/v1/match", {"contact": CONTACT, "queue": QUEUE}, **soon)
    assert (answer.json()["fallback"], order(answer)) == ("roster", QUEUE)
    assert ask.post("/v1/match", {"contact": CONTACT}, **soon).status_code == 503
    assert ask.post("/v1/assign", {"contacts": [CONTACT]}, **soon).status_code == 503
    keeper.follow()
    answer = ask.post("/v1/match", {"contact": CONTACT, "queue": QUEUE}, **soon)
    assert (answer.json()["fallback"], order(answer)) == ("deadline", QUEUE[1:])
    go_on.set()


def test_a_call_that_ends_after_its_deadline_fails_once(
    ask: Asking, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded, read = service.serving.guarded, service.serving.matcher.read
    guarded.breaker = Breaker(2)
    go_on, ended = threading.Event(), threading.Event()
    match = guarded.match

    def late(*args: Any) -> Any:
        go_on.wait(30)
        return read(*args)

    def matched(*args: Any, **options: Any) -> Any:
        try:
            return match(*args, **options)
        finally:
            ended.set()

    monkeypatch.setattr(service.serving.matcher, "read", late)
    monkeypatch.setattr(guarded, "match", matched)
    answer = ask.post("/v1/match", {"contact": CONTACT, "queue": QUEUE}, **{"X-Deadline-Ms": "60"})
    assert answer.json()["fallback"] == "deadline"
    go_on.set()
    assert ended.wait(30)
    assert guarded.breaker.state == "closed"
    ended.clear()
    go_on.clear()
    guarded._pace = Pace()  # which expects such a read to take longer now
    ask.post("/v1/match", {"contact": CONTACT, "queue": QUEUE}, **{"X-Deadline-Ms": "60"})
    assert guarded.breaker.state == "open"  # though it has not ended
    go_on.set()
    assert ended.wait(30)


def test_a_trial_that_hangs_is_not_the_last_one(ask: Asking, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    now, go_on = [0.0], threading.Event()
    breaker = service.serving.guarded.breaker = Breaker(1, 1.0, 4.0, lambda: now[0])
    service._threads = ThreadPoolExecutor(2)  # one hangs
    failed = breaker.enter()
    assert failed is not None
    failed.overdue()
    now[0] += 1.1
    with monkeypatch.context() as patch:
        patch.setattr(service.serving.matcher, "read", lambda *_: go_on.wait(30) and None)
        answer = ask.post("/v1/match", {"contact": CONTACT, "queue": QUEUE}, **{"X-Deadline-Ms": "60"})
        assert answer.json()["fallback"] == "deadline"
    now[0] += 1.9  # the pause has doubled
    assert ask.post("/v1/match", {"contact": CONTACT}).json()["fallback"] == "open"
    now[0] += 0.2
    assert ask.post("/v1/match", {"contact": CONTACT}).json()["fallback"] is None
    assert breaker.state == "closed"
    go_on.set()


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "", "9" * 30, "٣"])
def test_a_deadline_that_cannot_be_is_refused(ask: Asking, value: str) -> None:
    head = {**ask.head("router"), b"X-Deadline-Ms": value.encode()}
    assert ask.client.post("/v1/match", content=b'{"contact": {}}', headers=head).status_code == 422


def test_a_deadline_that_is_too_short_gets_the_queues_order(ask: Asking, service: Service) -> None:
    service.serving.guarded._pace.took("read", 17, 0.5)
    answer = ask.post("/v1/match", {"contact": {"intent_text": "where is my refund"[:17]}}, **{"X-Deadline-Ms": "100"})
    assert answer.json()["fallback"] == "no_time"
    assert len(order(answer)) == 10


class TestLimit:
    """Requests that name no deadline."""

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(request_s=1.0)

    @pytest.mark.parametrize(
        ("what", "path", "body"),
        [
            ("explain", "/v1/explain", {"contact": CONTACT, "csa_id": "csa-01"}),
            ("roster", "/v1/roster", None),
            ("check_roster", "/v1/roster", {"changes": [{"op": "leave", "csa_id": "csa-01"}]}),
        ],
    )
    def test_what_takes_too_long_is_told_so(
        self, ask: Asking, service: Service, monkeypatch: pytest.MonkeyPatch, what: str, path: str, body: Any
    ) -> None:
        go_on = threading.Event()
        with monkeypatch.context() as patch:
            patch.setattr(service.serving.matcher, what, lambda *_: go_on.wait(30))
            answer = ask.get(path) if body is None else ask.post(path, body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"] == "not answered in time"
        assert ask.post("/v1/match", {"contact": CONTACT}).json()["fallback"] is None
        go_on.set()
