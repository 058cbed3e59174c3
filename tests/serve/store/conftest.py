"""A fresh database for each test, of each kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.store.store import Store
from tests.serve.store.postgres import Server, serving

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server; tests that need it are skipped where there can be none."""
    with serving() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that holds nothing yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("server").make(f"store_{next(_numbers)}")  # type: ignore[no-any-return]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store that keeps no text, as a process that masks it takes a second to start."""
    with Store.open(url, text="none") as opened:
        yield opened


@pytest.fixture
def masking(url: str) -> Iterator[Store]:
    """An open store that keeps masked text."""
    with Store.open(url) as opened:
        yield opened
