"""A service over the small centre's bundle, with a token for each role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.customers import Customers
from serve.http.app import create_app
from serve.http.build import load_serving
from serve.http.service import Service
from serve.http.settings import Limits, Settings
from serve.http.tokens import ROLES, Token, Tokens, new_token
from serve.matcher import Matcher
from serve.store.store import Store

CONTACT = {"intent_text": "where is my refund", "language": "en", "channel": "chat"}
FOREVER = None


class Asking:
    """A client with a token of each role."""

    def __init__(self, client: TestClient, tokens: dict[str, str]) -> None:
        self.client, self.tokens = client, tokens

    def post(self, path: str, body: Any, role: str = "admin", **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, content=content, headers={**self.head(role), **headers})

    def get(self, path: str, role: str = "admin") -> Any:
        return self.client.get(path, headers=self.head(role))

    def head(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role]}", "Content-Type": "application/json"}


def order(answer: Any) -> list[str]:
    """Ids of an answer's candidates, best first."""
    return [one["csa_id"] for one in answer.json()["candidates"]]


@pytest.fixture
def tokens() -> dict[str, str]:
    """A token by role."""
    return {}


@pytest.fixture
def entries(tokens: dict[str, str]) -> list[Token]:
    """Their entries."""
    found = []
    for role in ROLES:
        tokens[role], entry = new_token(f"the-{role}", [role], FOREVER)
        found.append(entry)
    return found


@pytest.fixture
def limits() -> Limits:
    """A test class may replace it."""
    return Limits()


@pytest.fixture
def settings(bundle_folder: Path, tmp_path: Path, limits: Limits) -> Settings:
    return Settings(str(bundle_folder), budget_s=5.0, limits=replace(limits, deadline_s=10.0))


@pytest.fixture
def customers(whole_bundle: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A store of customers who never came, and its secret."""
    secret, file = tmp_path / "secret", tmp_path / "customers.state"
    secret.write_bytes(b"sixteen bytes or more")
    bundle = Matcher.load(whole_bundle).bundle
    Customers.empty(secret.read_bytes(), bundle.manifest.id, bundle.history.width).save(file)
    return file, secret


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}", text="none") as opened:
        yield opened


@pytest.fixture
def service(settings: Settings, entries: list[Token], tmp_path: Path, store: Store) -> Iterator[Service]:
    serving = load_serving(settings, tmp_path / "roster.journal")
    made = Service(serving, settings, Tokens(entries), store)
    yield made
    made.close()


@pytest.fixture
def ask(service: Service, tokens: dict[str, str]) -> Iterator[Asking]:
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield Asking(client, tokens)
