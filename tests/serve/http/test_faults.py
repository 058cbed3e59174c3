"""What goes wrong around a service, and what its callers get meanwhile."""

from __future__ import annotations

import errno
import os
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve.breaker import Breaker
from serve.http.build import build_service, load_serving
from serve.http.run import open_files
from serve.http.running import Running
from serve.http.service import Service
from serve.http.settings import Limits, Settings
from serve.roster.journal import Journal
from serve.store.errors import StoreUnavailable
from serve.store.store import Store
from tests.serve.http.conftest import CONTACT, Asking, order
from twotower.errors import BundleError, ConfigError
from twotower.text.identify import _detector

QUEUE = ["csa-05", "csa-02"]
START = 1_767_225_600_000_000


def test_a_session_that_raises_gives_the_queues_order_until_it_works_again(
    ask: Asking, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    service.serving.guarded.breaker = Breaker(3, 1.0, 4.0, lambda: now[0])

    class Session:
        def run(self, *_: Any) -> Any:
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION")

    with monkeypatch.context() as patch:
        patch.setattr(service.serving.matcher.bundle.contact_encoder, "_session", Session())
        answers = [ask.post("/v1/match", {"contact": CONTACT, "queue": QUEUE}) for _ in range(4)]
        assert [one.json()["fallback"] for one in answers] == ["error"] * 3 + ["open"]
        assert all(order(one) == QUEUE for one in answers)
        service.tick()
        metrics = ask.get("/metrics").text
        assert "twotower_breaker_open 1.0" in metrics
        assert 'twotower_fallbacks_total{reason="error"} 3.0' in metrics
        assert 'twotower_fallbacks_total{reason="open"} 1.0' in metrics
        assert ask.client.get("/readyz").status_code == 200  # it answers
    now[0] += 1.1
    assert ask.post("/v1/match", {"contact": CONTACT}).json()["fallback"] is None
    service.tick()
    assert "twotower_breaker_open 0.0" in ask.get("/metrics").text


def test_the_first_text_without_a_language_finds_the_detector_read(bundle_folder: Path, tmp_path: Path) -> None:
    _detector.cache_clear()
    load_serving(Settings(str(bundle_folder)), tmp_path / "j")
    assert _detector.cache_info().currsize == 1


def test_a_roster_that_nobody_knows_is_not_guessed(
    ask: Asking, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    service.serving.keeper._clock = lambda: time.monotonic() + 10
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "seen", failing)
        answer = ask.post("/v1/match", {"contact": CONTACT})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        answer = ask.post("/v1/match", {"contact": CONTACT, "queue": QUEUE})
        assert (answer.json()["fallback"], order(answer)) == ("roster", QUEUE)
        assert ask.post("/v1/assign", {"contacts": [CONTACT]}).status_code == 503
        assert ask.client.get("/readyz").status_code == 503
        service.tick()
        metrics = ask.get("/metrics").text
        age = next(line for line in metrics.splitlines() if line.startswith("twotower_roster_age_seconds "))
        assert float(age.split()[1]) > 9
        assert 'twotower_fallbacks_total{reason="roster"} 1.0' in metrics
    assert ask.post("/v1/match", {"contact": CONTACT}).json()["fallback"] is None


def test_a_full_disk_refuses_a_roster_change_and_serves_on(
    ask: Asking, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    changes = {"changes": [{"op": "leave", "csa_id": "csa-01"}]}
    with monkeypatch.context() as patch:
        patch.setattr("serve.roster.journal.os.fsync", full)
        answer = ask.post("/v1/roster", changes)
        assert answer.status_code == 503
        assert "No space left" in answer.json()["error"]
        assert "csa-01" in order(ask.post("/v1/match", {"contact": CONTACT, "k": 50}))
    assert ask.post("/v1/roster", changes).json()["version"] == 1
    assert "csa-01" not in order(ask.post("/v1/match", {"contact": CONTACT, "k": 50}))


def test_a_database_that_is_away_and_comes_back(
    ask: Asking, service: Service, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fact = {"contact_id": "c-1", "csa_id": "csa-01", "assigned_at": START}

    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("the server does not answer; nothing was stored, try again")

    with monkeypatch.context() as patch:
        patch.setattr(store, "feedback", away)
        patch.setattr(store, "roster", away)
        answer = ask.post("/v1/feedback", {"facts": [fact]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert ask.post("/v1/match", {"contact": CONTACT}).status_code == 200
        assert ask.post("/v1/roster", {"changes": [{"op": "join", "csa_id": "new"}]}).status_code == 200
    assert ask.post("/v1/feedback", {"facts": [fact]}).json()["new"] == 1
    service.tick()  # who joined meanwhile is told now
    from sqlalchemy import select

    from serve.store.tables import csas

    with store.engine.connect() as connection:
        assert connection.execute(select(csas.c.csa_id)).scalars().all() == ["new"]


def test_decisions_that_are_lost_are_counted(ask: Asking, service: Service, store: Store) -> None:
    store.log.close()
    assert ask.post("/v1/match", {"contact": CONTACT}).status_code == 200
    service.tick()
    assert 'twotower_decisions{state="lost"} 1.0' in ask.get("/metrics").text


def test_without_a_store_feedback_says_so(settings: Settings, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from serve.http.app import create_app

    made = build_service(replace(settings, insecure=True), tmp_path / "j")
    fact = {"contact_id": "c-1", "csa_id": "csa-01", "assigned_at": START}
    with TestClient(create_app(made)) as client:
        answer = client.post("/v1/feedback", json={"facts": [fact]})
        assert answer.status_code == 404
        assert "--store" in answer.json()["error"]
        assert client.post("/v1/match", json={"contact": CONTACT}).status_code == 200
    made.close()


@pytest.mark.parametrize("jump", [-10 * 365 * 86_400, 365 * 86_400])
def test_a_clock_that_jumps_breaks_nothing(ask: Asking, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    wall, fine = time.time, time.time_ns
    ask.post("/v1/roster", {"changes": [{"op": "state", "csa_id": "csa-01", "state": "busy"}]})
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    monkeypatch.setattr(time, "time_ns", lambda: fine() + int(jump * 1e9))
    assert ask.post("/v1/match", {"contact": CONTACT}).json()["fallback"] is None
    assert (
        ask.post("/v1/roster", {"changes": [{"op": "state", "csa_id": "csa-01", "state": "idle"}]}).json()["version"]
        == 2
    )
    assert ask.post("/v1/roster", {"changes": [{"op": "join", "csa_id": "new"}]}).json()["version"] == 3
    assert "new" in order(ask.post("/v1/match", {"contact": CONTACT, "k": 50}))
    fact = {"contact_id": "c-1", "csa_id": "csa-01", "assigned_at": START}
    assert ask.post("/v1/feedback", {"facts": [fact]}).json()["new"] == 1


def test_tokens_are_read_again_when_their_file_changes(bundle_folder: Path, tmp_path: Path) -> None:
    import json

    from serve.http.tokens import Tokens, new_token

    file = tmp_path / "tokens.json"
    first, entry = new_token("a", ["router"], None)
    file.write_text(json.dumps({"tokens": [entry.to_json()]}))
    made = build_service(Settings(str(bundle_folder), tokens=str(file)), tmp_path / "j")
    old, gone = new_token("c", ["router"], None)
    made.tokens = Tokens([gone])  # as if it had been taken out while the bundle was loaded
    running = Running(made, tmp_path / "j")
    assert made.tokens.find(f"Bearer {old}") is None
    assert made.tokens.find(f"Bearer {first}") == entry
    second, other = new_token("b", ["router"], None)
    (tmp_path / "next").write_text(json.dumps({"tokens": [other.to_json()]}))
    (tmp_path / "next").replace(file)
    running.look()
    assert made.tokens is not None
    assert made.tokens.find(f"Bearer {first}") is None
    assert made.tokens.find(f"Bearer {second}") == other
    file.write_text("broken")
    running.look()
    assert made.tokens.find(f"Bearer {second}") == other
    made.close()


def test_settings_that_do_not_fit_are_told(bundle_folder: Path, tmp_path: Path) -> None:
    for wrong in (
        {"secret": "x"},
        {"workers": 0},
        {"threads": 0},
        {"insecure": True, "tokens": "x"},
        {"tokens": str(tmp_path / "nowhere")},
    ):
        with pytest.raises(ConfigError):
            build_service(Settings(str(bundle_folder), **{"insecure": "tokens" not in wrong, **wrong}), tmp_path / "j")
    with pytest.raises(BundleError, match="expected"):
        load_serving(Settings(str(bundle_folder), digest="0" * 64), tmp_path / "j")
    with pytest.raises(BundleError):
        load_serving(Settings(str(tmp_path / "nowhere")), tmp_path / "j")


@pytest.mark.parametrize(
    ("limits", "set_to", "warned"),
    [
        ((100, 4000), (3000, 4000), False), ((100, 2000), (2000, 2000), True), ((3000, 4000), None, False),
        ((100, resource.RLIM_INFINITY), (3000, resource.RLIM_INFINITY), False),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, False),
    ],
)  # fmt: skip
def test_as_many_files_as_connections_need_may_be_open(
    limits: tuple[int, int], set_to: tuple[int, int] | None, warned: bool, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    done: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: done.append(given))
    open_files(3000)
    assert done == ([] if set_to is None else [set_to])
    assert ("raise the hard limit" in caplog.text) == warned


def test_what_ended_is_remembered_of_its_customer_and_saved(
    whole_bundle: Path, customers: tuple[Path, Path], tmp_path: Path
) -> None:
    from starlette.testclient import TestClient

    from serve.customers import Customers
    from serve.http.app import create_app

    file, secret = customers
    settings = Settings(
        str(whole_bundle), insecure=True, customers=str(file), secret=str(secret), keep_text=False,
        store=f"sqlite:///{tmp_path / 's.db'}", limits=Limits(deadline_s=10.0), budget_s=5.0,
    )  # fmt: skip
    made = build_service(settings, tmp_path / "j")
    contact = {**CONTACT, "contact_id": "c-9", "customer_id": "anna", "arrived_at": "2026-01-25T00:00:00Z"}
    fact = {
        "contact_id": "c-9", "csa_id": "csa-01", "assigned_at": "2026-01-25T00:01:00Z",
        "ended_at": "2026-01-25T00:09:00Z", "resolved": True,
    }  # fmt: skip
    with TestClient(create_app(made, Running(made, tmp_path / "j").lifespan)) as client:
        client.post("/v1/match", json={"contact": contact})
        assert client.post("/v1/feedback", json={"facts": [fact]}).json()["new"] == 1
    made.close()
    known = Customers.load(file, secret.read_bytes().rstrip()).known_of("anna")
    assert known is not None
    assert [one["csa_id"] for one in known["handovers"]] == ["csa-01"]
