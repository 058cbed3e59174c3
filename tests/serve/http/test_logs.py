"""What a real service writes to its log: lines of JSON, none with a customer's text or a token, whatever is asked."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from serve.http.tokens import Token, new_token
from tests.serve.http.conftest import CONTACT, Asking
from tests.serve.http.server import Served

SECRET = "Zanzibarwurst 4111-1111-1111-1111"
START = 1_767_225_600_000_000
HELD = {**CONTACT, "contact_id": "c-1", "transcript": SECRET, "customer_id": "customer-Zanzibarwurst"}


@pytest.fixture
def tokens_file(tmp_path: Path) -> tuple[Path, str]:
    """The file, and an admin's token in it."""
    token, entry = new_token("me", ["admin"], None)
    return write_tokens(tmp_path / "tokens.json", entry), token


def write_tokens(file: Path, *entries: Token) -> Path:
    file.write_text(json.dumps({"tokens": [one.to_json() for one in entries]}))
    return file


def everything(served: Served) -> None:
    """Every route, with what it wants and with what it does not."""
    contacts = [HELD, {**HELD, "priority": SECRET}, {**HELD, "arrived_at": SECRET}, {**HELD, "intent_text": 5}, SECRET]
    for contact in contacts:
        for path, body in (
            ("/v1/match", {"contact": contact}),
            ("/v1/match", {"contact": contact, "eligible": [SECRET], "queue": [SECRET]}),
            ("/v1/assign", {"contacts": [contact, contact]}),
            ("/v1/explain", {"contact": contact, "csa_id": "csa-01"}),
            ("/v1/explain", {"contact": contact, "csa_id": SECRET}),
        ):
            assert served.post(path, body)[0] in (200, 422)
    change = {"op": "block", "csa_id": "csa-01", "customer_id": HELD["customer_id"]}
    for one in (change, {**change, "csa_id": SECRET}, {**change, SECRET: 1}, {"op": SECRET}):
        assert served.post("/v1/roster", {"changes": [one]})[0] in (200, 422)
    fact = {"contact_id": "c-1", "csa_id": "csa-01", "assigned_at": START, "resolved": True, "ended_at": START + 1}
    for one in (fact, {**fact, "resolved": SECRET}, {**fact, SECRET: SECRET}, {**fact, "resolved": False}):
        assert served.post("/v1/feedback", {"facts": [one]})[0] in (200, 409, 422)
    head = {"X-Request-Id": SECRET, "X-Deadline-Ms": SECRET}
    assert served.post("/v1/match", {"contact": HELD}, **head)[0] == 422
    assert served.get("/v1/" + SECRET.replace(" ", "%20"))[0] == 404


def broken(served: Served) -> None:
    """What is no request of HTTP at all."""
    for raw in (f"{SECRET}\r\n\r\n", f"GET /{SECRET} HTTP/9.9\r\n\r\n", f"POST /v1/match HTTP/1.1\r\n{SECRET}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", served.port), 20) as client:
            client.sendall(raw.encode())
            client.recv(4096)


def test_a_service_logs_json_without_text_or_tokens(
    bundle_folder: Path, tokens_file: tuple[Path, str], tmp_path: Path
) -> None:
    file, token = tokens_file
    options = ["--tokens", str(file), "--store", f"sqlite:///{tmp_path / 's.db'}", "--journal", str(tmp_path / "j")]
    with Served(bundle_folder, tmp_path / "log", *options, token=token) as served:
        everything(served)
        broken(served)
        served.token = token[:-1] + "~"
        assert served.post("/v1/match", {"contact": HELD})[0] == 401
        served.token = token
    text = served.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line != "stopped"]
    assert sum(line["message"] == "request" for line in lines) > 30
    assert {line["token"] for line in lines if line.get("status") == 200} == {"me"}
    for secret in ("Zanzibarwurst", "4111-1111", token, token[3:-1]):
        assert secret not in text
    assert "Zanzibarwurst" not in (tmp_path / "j").read_text()


@pytest.mark.parametrize("given", ["r-1", "A.b_c:9", "x" * 64])
def test_a_callers_own_plain_name_of_a_request_is_kept(ask: Asking, given: str) -> None:
    answer = ask.post("/v1/match", {"contact": {}}, **{"X-Request-Id": given})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "two words", "a\tb", "é"])
def test_any_other_name_is_replaced(ask: Asking, given: str) -> None:
    head: dict[Any, Any] = {**ask.head("admin"), b"X-Request-Id": given.encode()}
    answers = [ask.client.post("/v1/match", content=b'{"contact": {}}', headers=head) for _ in range(2)]
    made = {one.headers["x-request-id"] for one in answers}
    assert len(made) == 2
    assert given not in made


def test_refusals_have_the_requests_name_too(ask: Asking) -> None:
    for path, status in (("/v1/match", 422), ("/v1/nothing", 404)):
        answer = ask.post(path, b"[", **{"X-Request-Id": "mine"})
        assert (answer.status_code, answer.json()["request_id"], answer.headers["x-request-id"]) == (
            status, "mine", "mine",
        )  # fmt: skip
