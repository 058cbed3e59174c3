"""What was read so far, on disk: a SQLite file in a hidden folder beside the output, which is the journal as well.

Notable: a part's rows, its notes and the place up to which it was read are one transaction, so a process that is killed
at any moment leaves rows exactly up to a place that is written down, and the next run goes on from there. Nothing else
has to be in step. Sorting is SQLite's external merge sort, whose runs go to the same folder; its memory is that of the
page cache, which is bounded. The folder is readable by its owner alone, as it holds the texts before they are masked,
and is removed when the tables are there.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twotower.errors import ConfigError, DataError, OutputError
from twotower.files import refuse_existing
from twotower.imports.notes import Notes
from twotower.imports.sources import SourceFile

CACHE_KIB = 48 << 10
"""KiB of pages in memory, and of rows that are sorted before a run is written."""
VERSION = 1

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE parts (n INTEGER PRIMARY KEY, name TEXT, size INTEGER, mtime_ns INTEGER, cursor TEXT, done INTEGER);
CREATE TABLE notes (kind TEXT, reason TEXT, count INTEGER, example TEXT, PRIMARY KEY (kind, reason));
CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE contacts (contact_id TEXT, customer_id TEXT, arrived_at INTEGER, channel TEXT, queue TEXT, language TEXT,
  intent TEXT, intent_text TEXT, transcript TEXT, priority REAL, abandoned_at INTEGER, eligible TEXT);
CREATE TABLE handovers (contact_id TEXT, n INTEGER, csa_id TEXT, assigned_at INTEGER, ended_at INTEGER,
  known_at INTEGER, resolved INTEGER, csat REAL, quality_score REAL, handle_time_s REAL, transferred INTEGER,
  policy TEXT, propensity REAL, queue TEXT, team TEXT, site TEXT, profile TEXT, language TEXT);
CREATE TABLE customers (customer_id TEXT, language TEXT, since INTEGER);
CREATE TABLE csas (csa_id TEXT, payload TEXT);
CREATE TABLE shifts (csa_id TEXT, starts_at INTEGER, ends_at INTEGER);
"""


class Spill:
    """The file, its tables, and what is to be written into them with the next commit.

    Use `opened`. `notes` and `counts` are those of all runs so far.
    """

    def __init__(self, folder: Path, tables: str) -> None:
        self.folder = folder
        self.notes = Notes()
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._pending: dict[str, list[Sequence[Any]]] = {}
        file = folder / "spill.sqlite"
        fresh = not file.exists()
        self.db = sqlite3.connect(file, isolation_level=None, cached_statements=512)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        quoted = str(folder).replace("'", "''")
        self.db.execute(f"PRAGMA temp_store_directory = '{quoted}'")
        if fresh or not self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            with self.transaction():
                for statement in f"{_TABLES};{tables}".split(";"):
                    self.db.execute(statement)
        self.notes.load(self.db.execute("SELECT kind, reason, count, example FROM notes ORDER BY rowid"))
        self.counts.update(dict(self.db.execute("SELECT name, value FROM counts")))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in the block, or nothing of it."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def add(self, table: str, row: Sequence[Any]) -> None:
        """One more row for the next commit, its values in the order of the table's columns."""
        self._pending.setdefault(table, []).append(row)

    def commit(self, **meta: Any) -> None:
        """Writes what was added, notes and counts, and `meta` as JSON, in one transaction."""
        with self.transaction():
            self.flush(**meta)

    def flush(self, **meta: Any) -> None:
        """The same, inside of a transaction of the caller's."""
        for table, rows in self._pending.items():
            self.db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        self._pending = {}
        self.db.executemany(
            "INSERT INTO notes VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = excluded.count", self.notes.rows()
        )
        self.db.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", list(self.counts.items()))
        self.db.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, json.dumps(value)) for key, value in meta.items()]
        )

    def meta(self, key: str) -> Any:
        """What was committed under that name; None where nothing was."""
        found = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else json.loads(found[0])

    def once(self, stage: str) -> _Once:
        """A block that is run once whatever happens: `with spill.once("sort") as due: if due: …`."""
        return _Once(self, stage)

    # Parts.

    def plan(self, files: Iterable[SourceFile]) -> None:
        """The files to be read, in that order."""
        rows = [(n, file.name, file.size, file.mtime_ns, None, 0) for n, file in enumerate(files)]
        with self.transaction():
            self.db.executemany("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?)", rows)
            self.flush(planned=True)

    def unfinished(self) -> list[tuple[int, Any]]:
        """(number, cursor) of each file that was not read to its end."""
        rows = self.db.execute("SELECT n, cursor FROM parts WHERE done = 0 ORDER BY n")
        return [(n, None if cursor is None else json.loads(cursor)) for n, cursor in rows]

    def commit_part(self, n: int, cursor: Any, done: Iterable[int] = ()) -> None:
        """What was read up to the cursor of file `n`, and of the files `done` before it to their ends."""
        with self.transaction():
            self.flush()
            self.db.executemany("UPDATE parts SET done = 1, cursor = NULL WHERE n = ?", [(one,) for one in done])
            if cursor is not None:
                self.db.execute("UPDATE parts SET cursor = ? WHERE n = ?", (json.dumps(cursor), n))


class _Once:
    def __init__(self, spill: Spill, stage: str) -> None:
        self._spill, self._stage = spill, stage
        self._due = not spill.meta(stage)

    def __enter__(self) -> bool:
        if self._due:
            self._spill.db.execute("BEGIN IMMEDIATE")
        return self._due

    def __exit__(self, kind: Any, *_: Any) -> None:
        if not self._due:
            return
        if kind is None:
            self._spill.flush(**{self._stage: True})
            self._spill.db.execute("COMMIT")
        else:
            self._spill.db.execute("ROLLBACK")


@contextmanager
def opened(output: Path, tables: str, fingerprint: dict[str, Any], restart: bool) -> Iterator[Spill]:
    """The spill of an import that is to become `output`: an earlier run's, if it was of the same import.

    fingerprint: what the result depends on; restart: begin anew whatever is there. The folder stays, for the next run.

    Raises:
        ConfigError: what an earlier run left is of another import, by what is named.
        OutputError: the output exists, the folder cannot be written, or another process works on it.
        DataError: the disk is full, or the file was damaged from outside.
    """
    target = output.absolute()
    refuse_existing(target)
    folder = target.with_name(f".{target.name}.import")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror}); choose another --output") from None
    lock = _lock(folder)
    try:
        if restart:
            _clear(folder)
        spill = Spill(folder, tables)
        try:
            _same_import(spill, fingerprint, folder)
            yield spill
        finally:
            spill.db.close()
    except sqlite3.Error as error:
        raise DataError(f"{folder}: {error}; make room or remove the folder, and run again") from None
    finally:
        os.close(lock)


def remove(folder: Path) -> None:
    """The spill's folder, when it is no longer needed."""
    shutil.rmtree(folder)


def _lock(folder: Path) -> int:
    import fcntl  # not on every system

    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise OutputError(f"{folder}: another process imports into the same --output; wait for it") from None
    return handle


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == "lock":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _same_import(spill: Spill, fingerprint: dict[str, Any], folder: Path) -> None:
    fingerprint = {"program": VERSION, **fingerprint}
    before = spill.meta("fingerprint")
    if before is None:
        spill.commit(fingerprint=fingerprint)
    elif before != fingerprint:
        other = [key for key in fingerprint if before.get(key) != fingerprint[key]]
        raise ConfigError(
            f"{folder}: holds an import that was stopped, with another {', '.join(other)}; "
            "run that one to its end, or begin anew with --restart"
        )
