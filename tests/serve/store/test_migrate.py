"""Migrations: from nothing, from an older version with rows in it, by two at once, and not from a newer one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect, text

from serve.store.engine import open_engine, read_url
from serve.store.errors import StoreError
from serve.store.migrate import HEAD, SCRIPTS, migrate, version
from serve.store.store import Store, existing
from serve.store.tables import VERSION_TABLE, csas, facts, metadata
from tests.serve.store import told
from twotower.errors import ConfigError


def test_the_newest_version_is_the_one_that_is_opened() -> None:
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_migrations_lead_to_the_tables_that_the_program_knows(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_an_older_store_keeps_its_rows(url: str) -> None:
    engine = open_engine(read_url(url))
    migrate(engine, "0001")
    assert csas.name not in inspect(engine).get_table_names()
    row = "('f1', 'c1', 'ada', 5, '{}')"
    with engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO twotower_facts (feedback_id, contact_id, csa_id, assigned_at, told) VALUES {row}")
        )
    engine.dispose()
    with Store.open(url, text="none") as store:
        with store.engine.connect() as connection:
            assert version(connection) == HEAD
        assert [row["contact_id"] for row in told.rows(store, facts)] == ["c1"]
        assert store.roster([{"csa_id": "ada"}]) == 1


def test_a_migration_that_fails_was_not_begun(url: str) -> None:
    engine = open_engine(read_url(url))
    migrate(engine, "0001")

    @event.listens_for(engine, "after_cursor_execute")
    def _fail(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.lstrip().startswith("CREATE TABLE twotower_csas"):
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        migrate(engine)
    with engine.connect() as connection:
        assert version(connection) == "0001"
    assert csas.name not in inspect(engine).get_table_names()
    engine.dispose()


def test_a_store_of_a_newer_program_is_refused(url: str) -> None:
    Store.open(url, text="none").close()
    engine = open_engine(read_url(url))
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError, match=f"of version 9999, this program knows {HEAD}"):
        Store.open(url, text="none")


def test_opening_says_nothing(url: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.WARNING):
        Store.open(url, text="none").close()
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("feedback.db", "write it like sqlite:///feedback.db"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://root:hidden@host/db", "mysql"),
        ("postgresql+psycopg2://root:hidden@host/db", "psycopg2"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        Store.open(url)
    assert "hidden" not in str(refused.value)


def test_a_file_in_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder does not exist"):
        Store.open(f"sqlite:///{tmp_path / 'no' / 'store.db'}")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"a letter to anna, in her own words" * 400)
    with pytest.raises(StoreError, match="the database refuses it") as refused:
        Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    assert "anna" not in str(refused.value)


def test_who_only_reads_does_not_make_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"), existing(f"sqlite:///{tmp_path / 'store.db'}"):
        pass
    assert not list(tmp_path.iterdir())


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}", text="none") as store:
        store.feedback(told.feedback())
        assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("store.db*")} == {0o600}
