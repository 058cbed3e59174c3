"""Who may not, what is too much, and what must not be in a log."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serve.guarded import Guarded
from serve.http.app import create_app
from serve.http.build import check_settings
from serve.http.limits import Rate
from serve.http.logs import Lines
from serve.http.service import Service
from serve.http.settings import Limits, Settings
from serve.http.tokens import Tokens, digest_of, new_token, read_tokens
from serve.http.tokens_verb import VERB as TOKENS
from serve.matcher import Matcher
from tests.serve.http.conftest import CONTACT, Asking
from twotower.cli import run_verb
from twotower.errors import BundleError, ConfigError

NOW = 1_767_225_600_000_000


@pytest.mark.parametrize(
    "header",
    [
        "", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "bearer tt_", "Bearer " + "x" * 100_00,
        "Bearer \x00", "Bearer ünïcode", "Token {router}", "Bearer {router}x", "Bearer {router} {router}",
    ],
)  # fmt: skip
def test_a_wrong_token_is_refused_before_the_body_is_read(
    ask: Asking, header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: Any) -> None:
        raise AssertionError("the body was read")

    monkeypatch.setattr("serve.http.asking._bytes", read)
    head = header.replace("{router}", ask.tokens["router"]).encode("utf-8")
    answer = ask.client.post("/v1/match", content=b"{}", headers={b"Authorization": head})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_no_token_is_refused_everywhere_but_for_health(ask: Asking) -> None:
    routes = ask.get("/openapi.json").json()["paths"]
    for path, methods in routes.items():
        for method in methods:
            status = ask.client.request(method.upper(), path, content=b"{}").status_code
            assert status == (200 if path in ("/healthz", "/readyz") else 401)


def test_an_expired_token_is_refused_from_its_moment_on() -> None:
    now = [NOW]
    token, entry = new_token("r", ["router"], NOW + 10)
    tokens = Tokens([entry], lambda: now[0])
    assert tokens.find(f"Bearer {token}") == entry
    now[0] += 10
    assert tokens.find(f"Bearer {token}") is None
    now[0] -= 11  # a clock that is set back
    assert tokens.find(f"Bearer {token}") == entry


def test_who_has_no_token_one_of_nobodys_or_an_old_one_learns_no_more_than_that(ask: Asking, service: Service) -> None:
    now = [NOW]
    old, entry = new_token("old", ["admin"], NOW + 10)
    service.tokens = Tokens([entry], lambda: now[0])
    ask.tokens.update(old=old, other=new_token("other", ["admin"], None)[0])
    assert ask.post("/v1/match", {"contact": {}}, "old").status_code == 200
    now[0] += 10
    answers = [ask.post("/v1/match", {"contact": {}}, who) for who in ("old", "other")]
    answers.append(ask.client.post("/v1/match", json={"contact": {}}))
    assert {one.status_code for one in answers} == {401}
    assert len({one.json()["error"] for one in answers}) == 1


def test_tokens_come_from_the_environment_where_no_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (_, ours), (_, theirs) = (new_token(name, ["router"], None) for name in "ab")
    monkeypatch.setenv("TWOTOWER_TOKENS", json.dumps({"tokens": [ours.to_json()]}))
    (tmp_path / "file").write_text(json.dumps({"tokens": [theirs.to_json()]}))
    assert read_tokens() == [ours]
    assert read_tokens(tmp_path / "file") == [theirs]


def test_swapped_tokens_have_their_own_roles(ask: Asking) -> None:
    assert ask.post("/v1/roster", {"changes": [{"op": "leave", "csa_id": "csa-01"}]}, "router").status_code == 403
    assert ask.post("/v1/match", {"contact": {}}, "roster").status_code == 403
    assert ask.post("/v1/explain", {"contact": {}, "csa_id": "csa-01"}, "router").status_code == 403


def test_every_entry_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_token(f"t{i}", ["router"], None) for i in range(5)]
    compared = []
    import hmac

    whole = hmac.compare_digest
    monkeypatch.setattr("serve.http.tokens.hmac.compare_digest", lambda a, b: compared.append(1) or whole(a, b))
    tokens = Tokens([entry for _, entry in made])
    assert tokens.find(f"Bearer {made[0][0]}") == made[0][1]
    assert len(compared) == 5


def test_files_hold_hashes_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens.json"

    def tokens(*words: str) -> tuple[int, str]:
        from importlib.metadata import EntryPoint

        status = run_verb("tokens", list(words), EntryPoint("tokens", "serve.http.tokens_verb:VERB", "twotower.verbs"))
        said = capsys.readouterr()
        return status, said.out + said.err

    status, said = tokens("add", str(file), "--name", "router-1", "--role", "router", "--days", "1")
    token = said.strip()
    assert status == 0
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    [entry] = read_tokens(file)
    assert entry.digest == digest_of(token)
    assert Tokens([entry]).find(f"Bearer {token}") == entry
    assert tokens("add", str(file), "--name", "router-1", "--role", "router")[0] == 1
    assert "router-1: router, until" in tokens("list", str(file))[1]
    assert tokens("remove", str(file), "--name", "router-1")[0] == 0
    assert read_tokens(file) == []
    assert tokens("remove", str(file), "--name", "router-1")[0] == 1
    assert TOKENS.extra is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"tokens": 5}', "[" * 100_000, '{"tokens": [{}]}',
     '{"tokens": [{"name": "a", "roles": ["king"], "sha256": "' + "0" * 64 + '"}]}',
     '{"tokens": [{"name": "a", "roles": ["admin"], "sha256": "0"}]}',
     '{"tokens": [{"name": "../a", "roles": ["admin"], "sha256": "' + "0" * 64 + '"}]}',
     '{"tokens": [{"name": "a", "roles": ["admin"], "sha256": "' + "0" * 64 + '", "expires": "soon"}]}'],
)  # fmt: skip
def test_tokens_that_cannot_be_are_refused(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(text)
    with pytest.raises(ConfigError):
        read_tokens(file)
    monkeypatch.setenv("TWOTOWER_TOKENS", text)
    with pytest.raises(ConfigError, match="TWOTOWER_TOKENS"):
        read_tokens()


def test_without_tokens_only_this_machine_is_served(bundle_folder: Path) -> None:
    with pytest.raises(ConfigError, match="insecure-loopback"):
        check_settings(Settings(str(bundle_folder), insecure=True, host="0.0.0.0"))
    with pytest.raises(ConfigError, match="no tokens"):
        check_settings(Settings(str(bundle_folder)))
    check_settings(Settings(str(bundle_folder), insecure=True))


def test_a_body_that_is_too_large_is_refused_however_it_says_its_length(ask: Asking, service: Service) -> None:
    large = b'{"contact": {"transcript": "' + b"x" * service.settings.limits.body_bytes + b'"}}'
    assert ask.post("/v1/match", large).status_code == 413
    parts = (large[i : i + 60_000] for i in range(0, len(large), 60_000))
    answer = ask.client.post("/v1/match", content=parts, headers=ask.head("router"))  # chunked: no length
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("length", "status"),
    [("²", 400), ("٣".encode().decode("latin-1"), 400), ("-1", 400), ("+1", 400), ("", 400), ("1" * 5000, 413)],
)
def test_a_length_that_cannot_be_is_refused(ask: Asking, length: str, status: int) -> None:
    head = {**ask.head("router"), "Content-Length": length.encode("latin-1")}
    answer = ask.client.post("/v1/match", content=b"{}", headers=head)
    assert answer.status_code == status
    assert ("whole bytes" in answer.json()["error"]) == (status == 400)
    assert answer.headers["connection"] == "close"


def test_lists_are_taken_up_to_their_limit(ask: Asking, service: Service) -> None:
    most = service.settings.limits.entries
    changes = [{"op": "state", "csa_id": "csa-01", "state": "busy"}] * most
    facts = [{"contact_id": f"c-{i}", "csa_id": "csa-01", "assigned_at": NOW} for i in range(most)]
    for path, name, whole in (("/v1/roster", "changes", changes), ("/v1/feedback", "facts", facts)):
        assert ask.post(path, {name: whole}).status_code == 200
        answer = ask.post(path, {name: [*whole, whole[0]]})
        assert (answer.status_code, answer.json()["error"]) == (422, f"{name}: {most + 1}; at most {most} are taken")
        assert ask.post(path, {name: []}).status_code == 422


@pytest.mark.parametrize("depth", [300, 10_000, 150_000])
@pytest.mark.parametrize("kind", [('{"a":', "}"), ("[", "]")])
def test_deeply_nested_bodies_are_refused(ask: Asking, depth: int, kind: tuple[str, str]) -> None:
    inside = kind[0] * depth + "1" + kind[1] * depth
    for path, body in (
        ("/v1/match", f'{{"contact": {inside}}}'),
        ("/v1/match", f'{{"contact": {{"a": {inside}}}}}'),
        ("/v1/roster", f'{{"changes": [{{"op": "join", "csa_id": "x", "csa": {{"skills": {inside}}}}}]}}'),
    ):
        assert ask.post(path, body.encode()).status_code == 422
    assert ask.client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b'{"contact": {"priority": 1e999}}', b'{"contact": {"priority": ' + b"9" * 100_000 + b"}}",
     b'{"contact": {}, "k": 1e400}', b'{"contact": {"intent_text": "' + b"\xc3" + b'"}}',
     b'{"contact": {}, "k": 9223372036854775808}', b'{"contact": {"arrived_at": 99999999999999999999}}'],
)  # fmt: skip
def test_bodies_that_break_parsers_are_refused(ask: Asking, body: bytes) -> None:
    assert ask.post("/v1/match", body).status_code == 422


def test_another_type_of_body_is_refused(ask: Asking) -> None:
    answer = ask.post("/v1/match", b"contact=1", **{"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 415


class TestRates:
    """A token that asks too often."""

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(rate_per_s=0.5, burst=3)

    def test_who_asks_too_often_waits_and_others_do_not(self, ask: Asking) -> None:
        statuses = [ask.post("/v1/match", {"contact": {}}, "router").status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        answer = ask.post("/v1/match", {"contact": {}}, "router")
        assert 1 <= int(answer.headers["retry-after"]) <= 2
        assert ask.post("/v1/match", {"contact": {}}, "admin").status_code == 200


def test_a_bucket_fills_again() -> None:
    now = [0.0]
    rate = Rate(2.0, 2.0, lambda: now[0])
    assert [rate.wait_s("a") for _ in range(3)] == [0, 0, 0.5]
    now[0] += 0.5
    assert [rate.wait_s("a") for _ in range(2)] == [0, 0.5]
    assert rate.wait_s("b") == 0


class TestBusy:
    """More at once than there may be."""

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(requests=0)

    def test_too_many_at_once_are_told_when_to_come_again(self, ask: Asking) -> None:
        answer = ask.post("/v1/match", {"contact": {}})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert ask.client.get("/healthz").status_code == 200


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/../../b", "/etc/passwd", "%2e%2e%2fmanifest.json", "x\x00y"])
def test_no_path_comes_from_a_request(ask: Asking, name: str) -> None:
    for path in ("/v1/roster/", "/v1/", "/", "/v1/models/"):
        assert ask.client.get(path + name.replace("\x00", "%00"), headers=ask.head("admin")).status_code in (404, 405)
    assert ask.post("/v1/match", {"contact": {}, "bundle": name}).status_code == 422


def test_tricks_in_the_names_of_a_bundles_files_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    import hashlib
    import shutil

    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    (tmp_path / "outside").write_bytes(b"x")
    manifest = json.loads((folder / "manifest.json").read_text())
    facts = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    for name in ("../outside", str(tmp_path / "outside"), "a/../../outside"):
        changed = {**manifest, "files": {**manifest["files"], name: facts}}
        changed.pop("id")
        canonical = json.dumps(changed, sort_keys=True, separators=(",", ":"))
        told = {"id": hashlib.sha256(canonical.encode()).hexdigest(), **changed}
        (folder / "manifest.json").write_text(json.dumps(told))
        with pytest.raises(BundleError, match="plain file name"):
            Matcher.load(folder)


SECRET_TEXT = "my card 4111-1111-1111-1111 is Zanzibarwurst"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that is logged, as the service logs it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    handler.addFilter(lambda record: not record.name.startswith("httpx"))  # the client's own
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def test_no_log_holds_text_or_tokens(
    ask: Asking, service: Service, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact = {**CONTACT, "transcript": SECRET_TEXT, "customer_id": "customer-Zanzibarwurst"}
    assert ask.post("/v1/match", {"contact": contact}).status_code == 200
    assert ask.post("/v1/match", {"contact": {**contact, "priority": SECRET_TEXT}}).status_code == 422
    assert ask.post("/v1/match", json.dumps({"contact": contact})[:-4].encode()).status_code == 422
    assert ask.client.post(f"/v1/{SECRET_TEXT}").status_code == 404
    assert ask.get(f"/v1/roster?limit={SECRET_TEXT}").status_code == 422
    assert ask.post("/v1/roster", {"changes": [{"op": SECRET_TEXT, "csa_id": "x"}]}).status_code == 422
    assert ask.post("/v1/match", {"contact": contact}, **{"X-Request-Id": SECRET_TEXT}).status_code == 200
    assert ask.client.request("Z", "/v1/match", headers=ask.head("router")).status_code in (404, 405)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"cannot encode {SECRET_TEXT}")

    with monkeypatch.context() as patch:
        patch.setattr(service.serving.matcher, "read", broken)
        found = ask.post("/v1/match", {"contact": contact})
        assert found.json()["fallback"] == "error"
        assert SECRET_TEXT not in found.text
    monkeypatch.setattr(service, "match", broken)
    defect = ask.post("/v1/match", {"contact": contact})
    assert defect.status_code == 500
    assert SECRET_TEXT not in defect.text
    text = logged.getvalue()
    assert '"error": "RuntimeError"' in text
    assert text.count('"message": "request"') == 10
    assert "Zanzibarwurst" not in text
    assert SECRET_TEXT not in text
    assert not re.search(r"4111\D?1111", text)  # "4111" alone may be part of a random id
    assert not any(token in text for token in ask.tokens.values())
    assert '"token": "the-admin"' in text
    for line in text.splitlines():
        json.loads(line)


TEXTS = st.one_of(
    st.text(max_size=400),
    st.text(st.characters(categories=["Cs", "Cc", "Co", "Cn", "Mn", "So", "Lo"]), max_size=60),
    st.builds(lambda part, times: part * times, st.text(max_size=12), st.integers(0, 20_000)),
)


@pytest.fixture(scope="module")
def fuzzed(bundle_folder: Path) -> Guarded:
    return Guarded(Matcher.load(bundle_folder), budget_s=60.0)


@given(TEXTS, TEXTS, st.one_of(st.none(), st.text(max_size=20)))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_text_is_matched_by_the_model(fuzzed: Guarded, need: str, said: str, language: str | None) -> None:
    found = fuzzed.match({"intent_text": need, "transcript": said, "language": language, "customer_id": need[:9]}, 3)
    assert found.fallback is None
    assert len(found.candidates) == 3


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_openapi_holds_under_schemathesis(service: Service, mode: str) -> None:
    """With what it says is taken, and with what it says is not."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

    service.tokens = None
    service.settings = replace(service.settings, limits=replace(service.settings.limits, rate_per_s=1e6, burst=1e6))
    app = create_app(service)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    count = 0

    for operation in schema.get_all_operations():
        one = operation.ok()
        if mode == "negative" and not (list(one.iter_parameters()) or list(one.body)):
            continue  # whoever asks for nothing cannot ask for it wrongly

        @given(case=one.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        def run(case: Any) -> None:
            nonlocal count
            count += 1
            answer = case.call()
            case.validate_response(
                answer, checks=[not_a_server_error, status_code_conformance, response_schema_conformance]
            )

        run()
    assert count > 100
    with TestClient(app) as client:
        assert client.get("/readyz").status_code == 200
