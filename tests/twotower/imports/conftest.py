"""What the tests of imports share: a place, a secret, the verb as a person calls it, and tables as plain rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from twotower.cli import GROUP, run_verb
from twotower.imports.mapping import ImportMap, map_of
from twotower.imports.run import Job, run_import
from twotower.redaction.redactor import Redactor

ENTRY = EntryPoint("import", "twotower.imports.verb:VERB", GROUP)
SECRET = b"a secret of thirty-two bytes or so"


@dataclass
class Imported:
    """A finished import."""

    outcome: Any
    folder: Path

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A table's rows, times in microseconds."""
        found = pq.read_table(self.folder / f"{table}.parquet")
        for n, one in enumerate(found.schema):
            if str(one.type).startswith("timestamp"):
                found = found.set_column(n, one.name, found[one.name].cast("int64"))
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows

    def one(self, table: str = "contacts") -> dict[str, Any]:
        """The only row."""
        [row] = self.rows(table)
        return row

    def notes(self, kind: str) -> dict[str, int]:
        """Counts by reason."""
        return {one["reason"]: one["count"] for one in self.outcome.notes[kind]}


class Place:
    """A source that is being written, and what is imported of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir()
        self.output = folder / "tables"

    def put(self, name: str, content: str | bytes) -> Path:
        """A file of the source."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def job(self, mapping: ImportMap | dict[str, Any] | str, **more: Any) -> Job:
        """The import of the source."""
        if isinstance(mapping, str):
            mapping = ImportMap(source=mapping)
        if isinstance(mapping, dict):
            mapping = map_of({"version": 1, **mapping})
        return Job(self.source, self.output, mapping, **{"secret": SECRET, "tolerate": 0.0, **more})

    def run(self, mapping: ImportMap | dict[str, Any] | str, **more: Any) -> Imported:
        """Imports the source; nothing damaged is tolerated unless `tolerate` says so."""
        return Imported(run_import(self.job(mapping, **more)), self.output)

    def connect(self, *records: Any, **more: Any) -> Imported:
        """Imports records of Connect."""
        self.put("records.json", "\n".join(map(json.dumps, records)))
        return self.run(more.pop("mapping", "connect"), **more)

    def zendesk(self, *records: Any, **more: Any) -> Imported:
        """Imports objects of Zendesk."""
        self.put("records.json", "\n".join(map(json.dumps, records)))
        return self.run(more.pop("mapping", "zendesk"), **more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="session")
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
def verb(tmp_path: Path) -> Callable[..., int]:
    """`twotower import …` with a secret."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)

    def run(*words: Any, secret_too: bool = True) -> int:
        more = ["--secret", str(secret)] if secret_too else []
        return run_verb("import", [*map(str, words), *more], ENTRY)

    return run
