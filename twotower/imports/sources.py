"""What lies in a source, and its bytes: plain, gzip, UTF-16; whatever was damaged is said, what came before is kept.

Notable: gzip is told by its first bytes, never by the file's name, and decompressed in bounded steps, so a small file
that swells to terabytes costs time and no memory. Links inside a source are not followed: they may lead in a circle, or
to a file that nobody meant to hand over.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from twotower.errors import DataError
from twotower.imports.notes import LEFT_OUT, Notes

STEP = 1 << 20
"""Bytes of a read, and of what one read decompresses to."""
MEDIA = frozenset({".wav", ".mp3", ".mp4", ".ogg", ".webm", ".flac", ".m4a", ".png", ".jpg", ".jpeg", ".pdf", ".gif"})
"""Recordings and attachments, which lie beside transcripts."""
_GZIP = b"\x1f\x8b"
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"BZh": "a bzip2 file", b"\xfd7zXZ": "an xz file", b"(\xb5/\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read; `name` is its path inside of `root`, with / between folders. There may be a million of them."""

    root: Path
    name: str
    size: int
    mtime_ns: int

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.root / self.name


def list_files(source: str | Path, notes: Notes) -> list[SourceFile]:
    """The files of a source in the order of their names; a source that is one file is that file.

    Left out, and noted: links inside a folder, names that begin with a dot or an underscore, recordings, whatever is no
    regular file, and files without a byte.

    Raises:
        DataError: there is no such source, or a folder of it cannot be read.
    """
    root = Path(source)
    try:
        if root.is_dir():
            found = list(_walk(root, root, notes))
        elif root.is_file():
            found = [_described(root.parent, root.name)]
        else:
            raise DataError(f"{source}: no such file or folder; name what was exported")
    except OSError as error:
        raise DataError(f"{error.filename or source}: cannot be read ({error.strerror})") from None
    kept = []
    for file in sorted(found, key=lambda one: one.name):
        if file.size:
            kept.append(file)
        else:
            notes.add(LEFT_OUT, "files without a byte", file.name)
    return kept


def _walk(folder: Path, root: Path, notes: Notes) -> Iterator[SourceFile]:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            notes.add(LEFT_OUT, "links, which are not followed", name)
        elif path.name.startswith((".", "_")):
            notes.add(LEFT_OUT, "hidden files, whose names begin with . or _", name)
        elif path.is_dir():
            yield from _walk(path, root, notes)
        elif path.suffix.lower() in MEDIA:
            notes.add(LEFT_OUT, "recordings and pictures", name)
        elif not path.is_file():
            notes.add(LEFT_OUT, "devices and pipes", name)
        else:
            yield _described(root, name)


def _described(root: Path, name: str) -> SourceFile:
    found = (root / name).stat()
    return SourceFile(root, name, found.st_size, found.st_mtime_ns)


class Stream:
    """The bytes of one file, from `offset` on, as UTF-8 text would have them.

    `damage` is why the stream ended before the file did, None where it did not; `consumed` counts bytes of the file
    itself. Offsets count bytes after decompression.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.damage: str | None = None
        try:
            self._file: BinaryIO = path.open("rb")
            head = self._file.read(4)
            plain = not head.startswith((_GZIP, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            self._file.seek(offset if plain else 0)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        archive = next((what for magic, what in _ARCHIVES.items() if head.startswith(magic)), None)
        self.damage = f"files that are {archive}: unpack them first" if archive else None
        self._blocks = self._utf8() if not archive else iter(())
        self._left = b""
        if not plain:
            self._discard(offset)

    def read(self) -> bytes:
        """The next bytes; none at the end."""
        block, self._left = self._left, b""
        return block or next(self._blocks, b"")

    @property
    def consumed(self) -> int:
        """Bytes of the file that were read."""
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _discard(self, count: int) -> None:
        while count and (block := self.read()):
            self._left = block[count:]
            count -= min(count, len(block))

    def _utf8(self) -> Iterator[bytes]:
        blocks = self._plain()
        first = next(blocks, b"")
        if not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            yield from chain((first,) if first else (), blocks)
            return
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        for block in chain((first,), blocks):
            yield decoder.decode(block).encode("utf-8", "replace")
        yield decoder.decode(b"", True).encode("utf-8", "replace")

    def _plain(self) -> Iterator[bytes]:
        head = self._file.read(STEP)
        if head.startswith(_GZIP):
            yield from self._inflated(head)
            return
        while head:
            yield head
            head = self._file.read(STEP)

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        """Member after member, in steps of `STEP`; zeros at the end are padding."""
        while data.strip(b"\0"):
            inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
            while not inflate.eof:
                before = inflate.copy()
                try:
                    block = inflate.decompress(data, STEP)
                except zlib.error:
                    yield _until_damage(before, data)
                    self.damage = "gzip files with damaged content: what came before was read"
                    return
                if block:
                    yield block
                data = inflate.unconsumed_tail or (b"" if inflate.eof else self._file.read(STEP))
                if not data and not inflate.eof and not block:
                    self.damage = "gzip files that are cut off: what is there was read"
                    return
            data = inflate.unused_data or self._file.read(STEP)
            data = data if data.strip(b"\0") else self._file.read(STEP)


def _until_damage(inflate: zlib._Decompress, data: bytes) -> bytes:
    """What decompresses before the byte that does not."""
    found = b""
    for at in range(0, len(data), 64):
        try:
            found += inflate.decompress(data[at : at + 64], STEP - len(found))
        except zlib.error:
            break
        if len(found) >= STEP:
            break
    return found
