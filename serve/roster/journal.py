"""Changes of a roster on disk: a file that only grows, read by every process that serves the roster.

    {"journal": 1, "version": 0} 3f1c…
    {"version": 1, "at": 1767225600000000, "changes": [{"op": "shift", …}]} 9a0e…

Notable: every line ends with the first half of its SHA-256. A record is on the disk (fsync) before it is acknowledged.
A writer that was killed leaves part of a line at most, which nobody was told of: readers do not see it, the next writer
cuts it off. Writers take turns by a lock beside the file (flock: one machine, no network file system). A compacted file
takes the old one's place by a rename; who has the old one open reads that to its end first. Customers of pairs that
must not meet stand here as keyed hashes alone. Where a file is damaged in its middle nothing is guessed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from serve.roster.book import Keyed, key_of
from serve.roster.changes import Block, RosterChange, Unblock, from_json, to_json
from twotower.errors import ConfigError, TwoTowerError
from twotower.files import alone, atomic_file, atomic_write

FORMAT = 1
CHECK = 32  # hexadecimal digits of a line's checksum
SECRET_BYTES = 32


class JournalError(TwoTowerError):
    """A journal is damaged, of another kind, or cannot be written."""


class JournalGap(JournalError):
    """Records that this reader has not seen were compacted: it must begin anew with the whole file."""


@dataclass(frozen=True)
class Record:
    """Changes that were made together at a moment (µs), after which the roster has a `version`."""

    version: int
    at: int
    changes: tuple[RosterChange, ...]


class Journal:
    """One process's side of a journal. Calls that read must not overlap, nor calls that write; both may meanwhile.

    path: made where it is not there; secret: under which customers of blocked pairs are kept.
    """

    def __init__(self, path: str | Path, secret: bytes) -> None:
        self.path, self._secret = Path(path), secret
        self._file: BinaryIO | None = None
        self._offset = self._size = self._number = 0
        self.version = 0
        """Of the last record that was read or written."""

    def whole(self) -> list[Record]:
        """All records from the beginning, whatever was read of them. Raises as `read`."""
        again = Journal(self.path, self._secret)
        try:
            return again.read()
        finally:
            again.close()

    def keyed(self, customer_id: str) -> Keyed:
        """How a customer stands in it."""
        return Keyed(key_of(self._secret, customer_id))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def seen(self) -> tuple[int, int] | None:
        """Which file is there and how large, None where there is none: one stat, about a microsecond."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size

    @property
    def reached(self) -> tuple[int, int] | None:
        """What `seen` said when the file was last read to its end."""
        return None if self._file is None else (self._number, self._size)

    def read(self) -> list[Record]:
        """The records that are new since the last call, none where there is no file yet.

        Raises JournalError, naming the line, for a damaged file, JournalGap where records are gone.
        """
        if self._file is None:
            return self._opened() if self.path.exists() else []
        found = list(self._lines())
        if self.path.stat().st_ino != self._number:
            # The old file grows no more once another has its name; what came in between is read now.
            found += list(self._lines())
            self.close()
            found += self._opened()
        return found

    def append(self, changes: Sequence[RosterChange], at: int) -> int:
        """Write one record, on the disk when this returns; its version. Only under `locked`, with everything read; the
        record is read as everyone reads it.

        Raises JournalError where it cannot be written; nothing was then.
        """
        record = Record(self.version + 1, at, tuple(self._hashed(change) for change in changes))
        line = _line(_record(record))
        try:
            if self._file is None:
                atomic_write(self.path, _line({"journal": FORMAT, "version": 0}))
                self.path.chmod(0o600)
                self._opened()
            # Without a buffer: what did not fit must not be written after all when the file is closed.
            with self.path.open("r+b", buffering=0) as file:
                end = self._offset
                file.truncate(end)  # what a killed writer left
                file.seek(end)
                try:
                    rest = memoryview(line)
                    while rest:
                        rest = rest[file.write(rest) :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be written ({error.strerror}); nothing was changed") from None
        return record.version

    def compact(self, records: Iterable[Record]) -> None:
        """Put a file in this one's place that holds these records, which come to the same. Only under `locked`."""
        lines = [_line({"journal": FORMAT, "version": self.version}), *(_line(_record(one)) for one in records)]
        try:
            with atomic_file(self.path) as partial:
                partial.touch(0o600)
                partial.write_bytes(b"".join(lines))
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be compacted ({error.strerror}); it stays as it was") from None
        self.close()
        self._opened()

    @property
    def size(self) -> int:
        """Bytes that were read or written."""
        return self._offset

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among writers, of this process and of others."""
        with ExitStack() as stack:
            try:
                stack.enter_context(alone(self.path))
            except OSError as error:
                raise JournalError(f"{self.path}: its lock cannot be opened ({error.strerror})") from None
            yield

    def _opened(self) -> list[Record]:
        """Open the file anew; its records later than those that were read."""
        before = self.version
        file = self.path.open("rb")
        self._file, self._offset, self._size, self._number = file, 0, 0, os.fstat(file.fileno()).st_ino
        head = file.readline()
        content = _content(head)
        if content is None or content.get("journal") != FORMAT:
            self.close()
            raise JournalError(f"{self.path}: not a roster's journal of this version; name another file")
        self._offset, base = len(head), int(content["version"])
        if 0 < before < base:
            self.close()
            raise JournalGap(f"{self.path}: records after version {before} were compacted; read it from its beginning")
        self.version = 0
        found = [one for one in self._lines() if one.version > before]
        self.version = max(self.version, base, before)
        return found

    def _lines(self) -> Iterator[Record]:
        """Whole lines from where the last call ended."""
        file = self._file
        if file is None:
            return
        self._size = os.fstat(file.fileno()).st_size
        if self._size < self._offset:
            raise JournalGap(f"{self.path}: is shorter than what was read of it; read it from its beginning")
        file.seek(self._offset)
        while True:
            line = file.readline()
            if not line.endswith(b"\n"):
                return
            content = _content(line)
            if content is None:
                if file.read(1):
                    raise JournalError(
                        f"{self.path}: damaged at byte {self._offset}; restore it, or begin another journal"
                    )
                return  # the last line, that nobody was told of
            self._offset += len(line)
            record = _read(content, f"{self.path}, byte {self._offset}")
            self.version = record.version
            yield record

    def _hashed(self, change: RosterChange) -> RosterChange:
        if isinstance(change, Block | Unblock) and not isinstance(change.customer_id, Keyed):
            return replace(change, customer_id=self.keyed(change.customer_id))
        return change


def journal_secret(path: str | Path) -> bytes:
    """The secret of a journal, from the file `PATH.key` beside it, which is made where it is not there."""
    file = Path(path).with_name(Path(path).name + ".key")
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = file.read_bytes()
        if len(secret) != SECRET_BYTES:
            raise ConfigError(f"{file}: not a journal's secret; restore it, or begin another journal") from None
        return secret
    except OSError as error:
        raise ConfigError(f"{file}: cannot be made ({error.strerror}); name another place for the journal") from None
    with os.fdopen(handle, "wb") as made:
        made.write(secrets.token_bytes(SECRET_BYTES))
        made.flush()
        os.fsync(made.fileno())
    return file.read_bytes()


def _line(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")
    return text + b" " + hashlib.sha256(text).hexdigest()[:CHECK].encode("ascii") + b"\n"


def _content(line: bytes) -> dict[str, Any] | None:
    """What a line holds, None where it is not whole."""
    text, check = line[: -CHECK - 2], line[-CHECK - 1 : -1]
    if hashlib.sha256(text).hexdigest()[:CHECK].encode("ascii") != check:
        return None
    found = json.loads(text)
    return found if isinstance(found, dict) else None


def _record(record: Record) -> dict[str, Any]:
    changes = []
    for change in record.changes:
        found = to_json(change)
        if isinstance(change, Block | Unblock):
            key = change.customer_id
            if not isinstance(key, Keyed):
                raise JournalError(f"{change.op}: the customer is not hashed")
            found = {"op": change.op, "csa_id": change.csa_id, "customer_key": key.key.hex()}
        changes.append(found)
    return {"version": record.version, "at": record.at, "changes": changes}


def _read(content: dict[str, Any], where: str) -> Record:
    changes = []
    for told in content["changes"]:
        told = dict(told)
        if "customer_key" in told:
            told["customer_id"] = Keyed(bytes.fromhex(told.pop("customer_key")))
        changes.append(from_json(told, where))
    return Record(int(content["version"]), int(content["at"]), tuple(changes))
