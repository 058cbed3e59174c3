"""What goes wrong around a store: killed processes, a database that is away, full or crashed, two who write at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from serve.store import engine as module
from serve.store.errors import StoreError, StoreUnavailable
from serve.store.store import Store
from serve.store.tables import decisions, facts, handovers
from tests.serve.store import told
from tests.serve.store.postgres import Server, serving
from tests.support import at

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that tests may stop."""
    with serving() as made:
        yield made


def teller(url: str, name: str, what: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.serve.store.teller", url, name, what]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def heard(process: subprocess.Popen[str], lines: int) -> list[str]:
    """So many lines that it printed."""
    assert process.stdout
    return [process.stdout.readline().strip() for _ in range(lines)]


def rest(process: subprocess.Popen[str]) -> list[str]:
    """The whole lines it printed before it was killed."""
    assert process.stdout
    said = process.stdout.read()
    process.wait()
    return said[: said.rfind("\n") + 1].split()


@pytest.mark.parametrize("what", ["feedback", "decisions"])
def test_what_was_acknowledged_is_there_after_a_kill(url: str, what: str) -> None:
    process = teller(url, "a", what)
    assert heard(process, 1) == ["open"]
    acknowledged = heard(process, 12)
    process.kill()
    acknowledged += rest(process)
    table = handovers if what == "feedback" else decisions
    with Store.open(url, text="none") as store:
        stored = {row["contact_id"] for row in told.rows(store, table)}
        assert len(acknowledged) >= 12
        assert set(acknowledged) <= stored
        assert len(stored) <= len(acknowledged) + 1  # one that was stored, and killed before it was said
        assert store.feedback(told.feedback("after")) == 1


def test_two_processes_write_at_once(url: str) -> None:
    both = [teller(url, name, "feedback") for name in "ab"]  # which open and make it at once, too
    for process in both:
        assert heard(process, 16)[0] == "open"
        process.kill()
    acknowledged = [one for process in both for one in rest(process)]
    with Store.open(url, text="none") as store:
        stored = {row["contact_id"] for row in told.rows(store, facts)}
        assert {f"{name}-{number}" for name in "ab" for number in range(15)} <= stored
        assert set(acknowledged) <= stored


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """SQLite: somebody else holds the database for longer than is waited for."""
    path = str(store.engine.url.database)
    with store.engine.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar_one() == module.WAIT_S * 1000
    store.engine.dispose()

    @event.listens_for(store.engine, "connect")
    def _impatient(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 20")

    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def stays_whole(store: Store) -> None:
    """While the database is away: feedback is refused, decisions wait."""
    with pytest.raises(StoreUnavailable, match="nothing was stored, try again"):
        store.feedback(told.feedback("c2", ended_at=at(5), resolved=True))
    for number in range(20):
        store.log.decided(told.decided(f"d{number}"))
    assert not store.log.flush(0.5)
    counts = store.log.counts
    assert (counts.accepted, counts.lost, counts.waiting) == (20, 0, 20)
    assert store.counts()["away"]


def is_back(store: Store) -> None:
    """Afterwards everything is there, once."""
    assert store.log.flush()
    store.ready()
    assert not store.counts()["away"]
    assert store.feedback(told.feedback("c2", ended_at=at(5), resolved=True)) == 1
    assert {row["contact_id"] for row in told.rows(store, handovers)} == {"c1", "c2"}
    assert told.count(store, decisions) == 20
    assert store.log.counts.lost == 0


def test_a_locked_database_comes_back(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}", text="none") as store:
        store.feedback(told.feedback("c1"))
        with locked(store):
            stays_whole(store)
        is_back(store)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_stops_or_crashes_comes_back(own: Server, mode: str) -> None:
    with Store.open(own.make(f"stopped_{mode}"), text="none") as store:
        store.feedback(told.feedback("c1"))
        own.stop(mode)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            store.ready()
        stays_whole(store)
        own.start()
        is_back(store)


def test_a_server_that_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened: the server does not answer") as refused:
        Store.open(f"postgresql://me:hidden@/db?host={tmp_path}")
    assert "hidden" not in str(refused.value)


def test_a_full_disk_refuses_feedback_and_keeps_decisions(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}", text="none") as store:
        store.feedback(told.feedback("c1"))
        room = {"pages": 0}

        @event.listens_for(store.engine, "connect")
        def _small(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {room['pages'] or 1}")  # not below what it has

        store.engine.dispose()
        fill(store)
        for number in range(20):
            store.log.decided(told.decided(f"d{number}", eligible=[f"csa-{one}" for one in range(1000)]))
        assert not store.log.flush(0.5)
        assert store.log.counts.lost == 0
        acknowledged = {row["contact_id"] for row in told.rows(store, handovers)}
        room["pages"] = 100_000
        store.engine.dispose()
        assert store.log.flush()
        assert told.count(store, decisions) == 20
        assert store.feedback(told.feedback("last")) == 1
        assert {row["contact_id"] for row in told.rows(store, handovers)} == acknowledged | {"last"}


def fill(store: Store) -> None:
    """Tell feedback until there is no room; every piece that was taken is there, and that which was not is not."""
    for number in range(1000):
        try:
            store.feedback(told.feedback(f"full-{number}", policy="p" * 400, decision_id="d" * 400))
        except StoreUnavailable as error:
            why = str(error)
            break
    else:
        pytest.fail("it was never full")
    assert "SQLITE_FULL" in why
    assert {row["contact_id"] for row in told.rows(store, handovers)} == {
        "c1",
        *(f"full-{one}" for one in range(number)),
    }


def test_a_commit_that_fails_is_not_acknowledged(store: Store) -> None:
    """As when the disk is full just then, whatever the database."""

    def full(connection: object) -> None:
        raise OperationalError("COMMIT", {}, sqlite_full())

    event.listen(store.engine, "commit", full)
    with pytest.raises(StoreUnavailable, match="try again"):
        store.feedback(told.feedback())
    event.remove(store.engine, "commit", full)
    assert told.count(store, handovers) == 0
    assert store.feedback(told.feedback()) == 1


def sqlite_full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"
    return error


def test_what_the_database_will_never_take_is_not_to_be_tried_again(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("DROP TABLE twotower_facts"))
    with pytest.raises(StoreError, match="the database refuses it") as refused:
        store.feedback(told.feedback(ended_at=at(5), resolved=True))
    assert not isinstance(refused.value, StoreUnavailable)
    assert "c1" not in str(refused.value)


def test_a_redacting_process_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        redacting = store._redacting
        assert redacting.redact([("call 612 345 678", "es")]) == ["call [phone]"]
        first = redacting._process
        assert first is not None
        first.kill()
        first.wait()
        assert redacting.redact([("call 612 345 678", "es")]) == ["call [phone]"]
        assert redacting._process is not first


def test_without_a_redacting_process_texts_are_masked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        assert store._redacting.redact([("call 612 345 678", "es"), ("", None)]) == ["call [phone]", ""]
    assert "redacted in this one" in caplog.text
