"""A service whose database is a PostgreSQL server that stops, or crashes, and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serve.http.service import Service
from serve.store.store import Store
from serve.store.tables import csas, decisions, handovers
from tests.serve.http.conftest import CONTACT, Asking
from tests.serve.store import told
from tests.serve.store.postgres import Server, serving

START = 1_767_225_600_000_000
FACT = {"contact_id": "c-1", "csa_id": "csa-01", "assigned_at": START}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that tests may stop."""
    with serving() as made:
        yield made


@pytest.fixture(params=["fast", "immediate"])
def mode(request: pytest.FixtureRequest) -> str:
    """How it is stopped; `immediate` is as good as a crash."""
    return str(request.param)


@pytest.fixture
def store(server: Server, mode: str) -> Iterator[Store]:
    with Store.open(server.make(f"http_{mode}"), text="none") as opened:
        yield opened


def test_it_serves_on_and_loses_nothing(ask: Asking, service: Service, store: Store, server: Server, mode: str) -> None:
    assert ask.post("/v1/feedback", {"facts": [{**FACT, "contact_id": "c-0"}]}).json()["new"] == 1
    server.stop(mode)
    try:
        answer = ask.post("/v1/feedback", {"facts": [FACT]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert ask.post("/v1/match", {"contact": CONTACT}).json()["fallback"] is None
        assert ask.post("/v1/roster", {"changes": [{"op": "join", "csa_id": "new"}]}).status_code == 200
        assert ask.client.get("/readyz").status_code == 200
        service.tick()
        assert "twotower_store_away 1.0" in ask.get("/metrics").text
    finally:
        server.start()
    assert ask.post("/v1/feedback", {"facts": [FACT]}).json()["new"] == 1
    assert store.log.flush()
    service.tick()
    metrics = ask.get("/metrics").text
    assert "twotower_store_away 0.0" in metrics
    assert 'twotower_decisions{state="lost"} 0.0' in metrics
    assert {row["contact_id"] for row in told.rows(store, handovers)} == {"c-0", "c-1"}
    assert told.count(store, decisions) == 1
    assert {row["csa_id"] for row in told.rows(store, csas)} == {"new"}
