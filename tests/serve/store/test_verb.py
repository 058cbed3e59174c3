"""`twotower feedback`: options, and what it says."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from serve.store.store import Store
from tests.serve.store import told
from tests.support import at
from twotower.cli import GROUP, main


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWOTOWER_STORE", raising=False)


def test_the_verb_is_installed() -> None:
    [entry] = entry_points(group=GROUP, name="feedback")
    assert entry.load().extra == "serve"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["export", "--store", "sqlite:///x.db"], "--output is missing"),
        (["export", "--output", "out"], "--store URL is missing; or set TWOTOWER_STORE"),
        (["export", "--store", "sqlite:///x.db", "--output", "out"], "no such file"),
        (["export", "--store", "sqlite:///x.db", "--output", "out", "--since", "today"], "--since"),
        (["export", "--store", "sqlite:///x.db", "--output", "out", "--before", "x"], "--before does not belong"),
        (["erase", "--store", "sqlite:///x.db"], "--customer is missing"),
        (["erase", "--store", "sqlite:///x.db", "--customer", "a", "--secret", "f"], "--secret: is for --customers"),
        (["prune", "--store", "sqlite:///x.db"], "--before is missing"),
        (["prune", "--store", "mysql://root:hidden@h/db", "--before", "2026-01-01T00:00:00Z"], "URL is of mysql"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_are_one_line(argv: list[str], why: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["feedback", *argv]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert why in said.err
    assert said.err.count("\n") == 1
    assert "hidden" not in said.err
    assert not list(tmp_path.iterdir())


def test_an_export_says_what_it_wrote(store: Store, tmp_path: Path, monkeypatch, capsys) -> None:
    store.log.decided(told.decided())
    store.feedback(told.feedback(ended_at=at(4), resolved=True), told.feedback("gone"))
    store.log.flush()
    monkeypatch.setenv("TWOTOWER_STORE", store.engine.url.render_as_string(hide_password=False))
    times = ["--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"]
    assert main(["feedback", "export", "--output", str(tmp_path / "out"), *times]) == 0
    first, *notes = capsys.readouterr().out.splitlines()
    assert first.endswith("out: 1 contacts, 1 hand-overs, 3 rows of CSAs, 0 customers, 1 decisions")
    assert notes == [
        "1 hand-overs are of contacts that the log does not hold and are left out",
        "3 CSAs have a blank row, as none was logged; name a --csas FILE",
    ]
    assert main(["feedback", "export", "--output", str(tmp_path / "json"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["contacts"], data["without_contact"], data["left_out"]) == (1, 1, {})
