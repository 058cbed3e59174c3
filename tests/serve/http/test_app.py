"""The routes: what they answer, to whom, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from serve.http.service import Service
from serve.matcher import Matcher
from serve.store.store import Store
from tests.serve.http.conftest import CONTACT, Asking

START = 1_767_225_600_000_000  # the first of January 2026


def test_a_match_is_that_of_the_matcher(ask: Asking, matcher: Matcher) -> None:
    answer = ask.post("/v1/match", {"contact": CONTACT, "k": 4}, "router")
    assert answer.status_code == 200
    found = answer.json()
    expected = matcher.match(CONTACT, 4)
    assert [one["csa_id"] for one in found["candidates"]] == [one.csa_id for one in expected]
    assert [one["score"] for one in found["candidates"]] == pytest.approx([one.score for one in expected])
    assert found["candidates"][0]["reasons"][0]["part"] == expected[0].reasons[0].part
    assert found["fallback"] is None
    assert found["model"] == matcher.bundle.manifest.id
    assert answer.headers["x-request-id"] == found["request_id"]


def test_who_is_eligible_is_told_or_looked_up(ask: Asking) -> None:
    def ids(eligible: Any) -> set[str]:
        found = ask.post("/v1/match", {"contact": CONTACT, "k": 50, "eligible": eligible}).json()
        return {one["csa_id"] for one in found["candidates"]}

    everyone = ids(None)
    assert ids(["csa-03", "csa-07"]) == {"csa-03", "csa-07"}
    ask.post("/v1/roster", {"changes": [{"op": "state", "csa_id": "csa-03", "state": "busy"}]})
    assert ids({}) == everyone - {"csa-03"}
    assert ids({"states": ["busy"]}) == {"csa-03"}
    assert ids({"language": "fr"}) == set()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"),
        (b"[", "JSON"),
        (b'{"contact": {}, "k": 0}', "k: Input should be greater"),
        (b'{"contact": {}, "k": 100000}', "k: 100000; at most 200"),
        (b'{"contact": {"transcript": 5}}', "contact.transcript"),
        (b'{"contact": {"arrived_at": "2026-01-01T00:00:00"}}', "time with its zone"),
        (b'{"contact": {"arrived_at": "1766000000"}}', "time with its zone"),
        (b'{"contact": {"arrived_at": 1766000000}, "at": "0001-01-01T00:00:00Z"}', "at: "),
        (b'{"contact": {"priority": NaN}}', "priority"),
        (b'{"contact": {"intent_text": "\\ud800"}}', "JSON"),
        (b'{"contact": {}, "eligible": ["nobody"]}', "unknown csa_id 'nobody'"),
        (b'{"contact": {}, "eligible": {"states": ["asleep"]}}', "states"),
        (b'{"contact": {}, "rank": "nothing"}', "rank"),
        (b'{"contact": {}, "mistake": 1}', "mistake"),
    ],
)
def test_what_cannot_be_is_refused_by_name(ask: Asking, body: bytes, said: str) -> None:
    answer = ask.post("/v1/match", body)
    assert answer.status_code == 422
    assert said in answer.json()["error"]


def test_times_come_in_two_forms(ask: Asking, matcher: Matcher) -> None:
    at = "2026-01-25T00:00:00Z"
    micros = START + 24 * 86_400_000_000
    scores = [
        ask.post("/v1/match", {"contact": {**CONTACT, "arrived_at": moment}, "rank": "handled"}).json()["candidates"][
            0
        ]["score"]
        for moment in (at, micros, None)
    ]
    assert scores[0] == scores[1] != scores[2]


def test_an_assignment_gives_each_csa_once(ask: Asking) -> None:
    contacts = [{**CONTACT, "contact_id": f"c-{i}", "eligible": ["csa-01", "csa-02"]} for i in range(3)]
    found = ask.post("/v1/assign", {"contacts": contacts}, "router").json()["assignments"]
    assert {one["csa_id"] for one in found} == {"csa-01", "csa-02", None}
    found = ask.post("/v1/assign", {"contacts": contacts, "capacity": {"csa-01": 3}}).json()["assignments"]
    assert [one["contact_id"] for one in found] == ["c-0", "c-1", "c-2"]
    assert None not in {one["csa_id"] for one in found}
    assert ask.post("/v1/assign", {"contacts": contacts * 30}).status_code == 422


def test_an_assignment_keeps_guarantees(ask: Asking) -> None:
    contacts = [{**CONTACT, "contact_id": f"c-{i}", "eligible": ["csa-01"], "wait_s": 3.0 + i} for i in range(3)]
    contacts[1]["guarantee_s"] = 2.0
    body = {"contacts": contacts, "wait": {"per_s": 0.01, "guarantee_s": 60.0}}
    found = ask.post("/v1/assign", body).json()["assignments"]
    assert [one["csa_id"] for one in found] == [None, "csa-01", None]
    found = ask.post("/v1/assign", {**body, "method": "greedy"}).json()["assignments"]
    assert [one["csa_id"] for one in found] == ["csa-01", None, None]
    contacts[2]["priority"] = 1
    first = {"contacts": [{**one, "guarantee_s": None} for one in contacts], "wait": {"priority": "lower"}}
    found = ask.post("/v1/assign", first).json()["assignments"]
    assert [one["csa_id"] for one in found] == [None, None, "csa-01"]
    for wrong in ({"method": "best"}, {"wait": {"per_s": -1}}, {"wait": {"guarantee_s": "soon"}},
                  {"wait": {"priority": "most"}}):  # fmt: skip
        assert ask.post("/v1/assign", {**body, **wrong}).status_code == 422
    assert ask.post("/v1/assign", {"contacts": [{**CONTACT, "wait_s": -1.0}]}).status_code == 422


def test_a_roster_change_is_seen_by_the_next_answer(ask: Asking) -> None:
    changes = [{"op": "join", "csa_id": "new", "csa": {"languages": ["fr"]}}, {"op": "leave", "csa_id": "csa-00"}]
    answer = ask.post("/v1/roster", {"changes": changes}, "roster")
    assert answer.json()["version"] == 1
    found = ask.post("/v1/match", {"contact": CONTACT, "k": 50}).json()
    ids = {one["csa_id"] for one in found["candidates"]}
    assert "new" in ids
    assert "csa-00" not in ids
    assert found["roster_version"] == 1
    listed = ask.get("/v1/roster?limit=3&offset=9", "supervisor").json()
    assert (listed["total"], listed["offset"], len(listed["csas"])) == (12, 9, 3)
    assert listed["csas"][-1]["csa_id"] == "new"
    wrong = ask.post("/v1/roster", {"changes": [changes[1], {"op": "shift", "csa_id": "x", "on": True}]})
    assert wrong.status_code == 422
    assert "change 1 (shift 'x')" in wrong.json()["error"]


def test_feedback_is_stored_once(ask: Asking) -> None:
    fact = {"contact_id": "c-1", "csa_id": "csa-01", "assigned_at": START, "ended_at": START + 5, "resolved": True}
    assert ask.post("/v1/feedback", {"facts": [fact]}, "router").json()["new"] == 1
    assert ask.post("/v1/feedback", {"facts": [fact]}).json()["new"] == 0
    other = ask.post("/v1/feedback", {"facts": [{**fact, "resolved": False}]})
    assert other.status_code == 409
    assert "resolved" in other.json()["error"]
    assert ask.post("/v1/feedback", {"facts": [{**fact, "csat": 9.0}]}).status_code == 422


def test_a_hand_over_that_ended_moves_its_csa(ask: Asking, service: Service) -> None:
    contact = {**CONTACT, "contact_id": "c-9", "arrived_at": "2026-01-25T00:00:00Z"}
    body = {"contact": contact, "eligible": ["csa-01"], "at": "2026-01-26T00:00:00Z"}
    before = ask.post("/v1/match", body).json()["candidates"][0]["score"]
    fact = {
        "contact_id": "c-9", "csa_id": "csa-01", "assigned_at": "2026-01-25T00:01:00Z",
        "ended_at": "2026-01-25T00:09:00Z", "resolved": False,
    }  # fmt: skip
    assert ask.post("/v1/feedback", {"facts": [fact]}).json()["new"] == 1
    assert ask.post("/v1/match", body).json()["candidates"][0]["score"] < before
    assert ask.post("/v1/feedback", {"facts": [fact]}).json()["new"] == 0


def test_decisions_are_logged_with_who_was_eligible(ask: Asking, store: Store) -> None:
    from sqlalchemy import select

    from serve.store.tables import decisions

    contact = {**CONTACT, "contact_id": "c-5"}
    ask.post("/v1/match", {"contact": contact, "k": 2, "eligible": {"language": "en"}, "decision_id": "d-1"})
    ask.post("/v1/assign", {"contacts": [contact]})
    assert store.log.flush()
    with store.engine.connect() as connection:
        rows = connection.execute(select(decisions).order_by(decisions.c.chosen.nullsfirst())).mappings().all()
    assert rows[0]["decision_id"] == "d-1"
    assert rows[0]["eligible"].count("csa-") == 11
    assert rows[0]["roster_version"] == 0
    assert rows[1]["chosen"].startswith("csa-")


def test_exports_know_the_csas_of_the_bundle_and_those_who_joined(ask: Asking, service: Service, store: Store) -> None:
    from sqlalchemy import select

    from serve.store.tables import csas

    assert service.teller is not None
    service.teller.whole(service.serving.matcher)
    ask.post("/v1/roster", {"changes": [{"op": "join", "csa_id": "new", "csa": {"languages": ["fr"]}}]})
    ask.post("/v1/roster", {"changes": [{"op": "leave", "csa_id": "new"}]})
    with store.engine.connect() as connection:
        rows = connection.execute(select(csas.c.csa_id, csas.c.languages, csas.c.left_at)).all()
    assert len({row.csa_id for row in rows}) == 12
    assert [row.languages for row in rows if row.csa_id == "new"] == ['["fr"]'] * 2
    assert [row.left_at is not None for row in rows if row.csa_id == "new"].count(True) == 1


def test_an_explanation_is_that_of_the_matcher(ask: Asking, matcher: Matcher) -> None:
    answer = ask.post("/v1/explain", {"contact": CONTACT, "csa_id": "csa-01", "top": 2}, "supervisor")
    assert answer.status_code == 200
    expected = matcher.explain(CONTACT, "csa-01", top=2)
    assert answer.json()["words"] == expected.words()
    assert answer.json()["score"] == pytest.approx(expected.score)
    assert ask.post("/v1/explain", {"contact": CONTACT, "csa_id": "nobody"}).status_code == 422


WHO = {
    "/v1/match": ({"contact": {}}, {"router"}),
    "/v1/assign": ({"contacts": [{}]}, {"router"}),
    "/v1/roster": ({"changes": [{"op": "leave", "csa_id": "csa-01"}]}, {"roster"}),
    "/v1/erase": ({"customer_id": "nobody"}, set()),
    "/v1/feedback": ({"facts": [{"contact_id": "c", "csa_id": "csa-01", "assigned_at": START}]}, {"router"}),
}


@pytest.mark.parametrize("path", WHO)
@pytest.mark.parametrize("role", ["router", "roster", "supervisor", "metrics", "admin"])
def test_every_role_may_do_its_own(ask: Asking, path: str, role: str) -> None:
    body, roles = WHO[path]
    assert ask.post(path, body, role).status_code == (200 if role in roles | {"admin"} else 403)


@pytest.mark.parametrize("role", ["router", "roster", "supervisor", "metrics", "admin"])
def test_who_may_read(ask: Asking, role: str) -> None:
    assert ask.get("/v1/roster", role).status_code == (403 if role == "metrics" else 200)
    assert ask.get("/metrics", role).status_code == (200 if role in ("metrics", "admin") else 403)
    explained = ask.post("/v1/explain", {"contact": {}, "csa_id": "csa-01"}, role).status_code
    assert explained == (200 if role in ("supervisor", "admin") else 403)


def test_health_needs_no_token(ask: Asking, service: Service) -> None:
    assert ask.client.get("/healthz").json() == {"status": "ok"}
    assert ask.client.get("/readyz").json() == {"status": "ready"}
    service.draining = True
    assert ask.client.get("/readyz").status_code == 503
    assert ask.client.get("/healthz").status_code == 200


def test_metrics_tell_what_happened(ask: Asking, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    ask.post("/v1/match", {"contact": CONTACT})
    monkeypatch.setattr(service.serving.matcher, "read", lambda *_: 1 / 0)
    ask.post("/v1/match", {"contact": CONTACT})
    service.tick()
    text = ask.get("/metrics").text
    assert 'twotower_stage_seconds_count{stage="rank"} 1.0' in text
    assert 'twotower_fallbacks_total{reason="error"} 1.0' in text
    assert 'twotower_request_seconds_count{route="/v1/match",status="200"} 2.0' in text
    assert f'twotower_model{{bundle="{service.serving.matcher.bundle.manifest.id}"}} 1.0' in text
    assert 'twotower_decisions{state="lost"} 0.0' in text
    assert "twotower_roster_age_seconds" in text


def test_unknown_routes_and_methods(ask: Asking) -> None:
    assert ask.get("/v1/nothing").status_code == 404
    assert ask.get("/v1/match").status_code == 405
    assert ask.client.get("/docs").status_code == 404
    assert ask.get("/openapi.json").json()["components"]["schemas"]["MatchBody"]["required"] == ["contact"]
