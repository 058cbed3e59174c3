"""Rows of CSV and Parquet files, one after the other, from any row on.

Notable: a quote that is never closed would make one row of the rest of the file. A row with the wrong number of cells
that spans several lines therefore costs its first line alone, and the lines behind it are read again as rows of their
own. Cells are read as text; what they mean is the mapping's to say.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from twotower.errors import DataError
from twotower.imports.records import LARGEST
from twotower.imports.sources import SourceFile, Stream

DELIMITERS = ",;\t|"
SNIFFED = 64 << 10
"""Bytes by which the sign between cells is told."""
_MAGIC = b"PAR1"
WIDTH = "rows with another number of cells than the header"
OPEN_QUOTE = "rows with a quote that is not closed"
TOO_LONG = "lines that are longer than --largest"
ENCODING = "bytes that are not of the stated encoding, replaced"


@dataclass(frozen=True, slots=True)
class Row:
    """A row, or why there is none. `after`: bytes (Parquet: rows) before the next one, and its line."""

    values: dict[str, Any] | None
    why: str | None
    line: int
    after: tuple[int, int]
    consumed: int
    mended: bool = False


def is_parquet(path: Path) -> bool:
    """Whether a file says that it is Parquet."""
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def header_of(file: SourceFile, delimiter: str | None = None, encoding: str = "utf-8") -> list[str]:
    """The names of a file's columns. Raises DataError where there are none, or one stands there twice."""
    if is_parquet(file.path):
        names = list(_schema(file).names)
    else:
        cells = Cells(file, delimiter, encoding)
        names = cells.names
        cells.close()
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"{file.name}: the column {sorted(twice)[0]!r} stands there twice; rename one")
    return names


def rows_of(
    file: SourceFile,
    cursor: Any = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    largest: int = LARGEST,
) -> Iterator[Row]:
    """The rows of a file behind a cursor (`Row.after`)."""
    if is_parquet(file.path):
        yield from _parquet(file, 0 if cursor is None else cursor[0])
    else:
        yield from Cells(file, delimiter, encoding, largest, cursor)


def _schema(file: SourceFile) -> pa.Schema:
    try:
        return pq.read_schema(file.path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name}: is no Parquet file ({str(error).splitlines()[0]}); export it again") from None


def _parquet(file: SourceFile, done: int) -> Iterator[Row]:
    _schema(file)
    opened = pq.ParquetFile(file.path)
    total, first = max(1, opened.metadata.num_rows), 0
    for group in range(opened.num_row_groups):
        count = opened.metadata.row_group(group).num_rows
        if first + count <= done:
            first += count
            continue
        try:
            for batch in opened.iter_batches(1 << 12, row_groups=[group]):
                for values in batch.to_pylist():
                    first += 1
                    if first > done:
                        yield Row(values, None, first, (first, first + 1), file.size * first // total)
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError):
            lost = "row groups that are damaged, from a row on"
            yield Row(None, lost, first + 1, (first, first + 1), file.size * first // total)
            return


class Cells:
    """The rows of one CSV file; `names` are the header's."""

    def __init__(
        self,
        file: SourceFile,
        delimiter: str | None = None,
        encoding: str = "utf-8",
        largest: int = LARGEST,
        cursor: Any = None,
    ) -> None:
        encoding = "utf-8" if encoding.startswith("utf-16") else encoding  # the stream is UTF-8 by now
        head = _Lines(file, largest)
        sample = head.peek()
        self._delimiter = delimiter or _sniffed(sample.decode(encoding, "replace"))
        self._encoding, self._largest = encoding, largest
        self._lines = head
        self.names: list[str] = []
        self._mended = False
        csv.field_size_limit(max(csv.field_size_limit(), largest))
        header, _, _ = self._next()
        self.names = [name.strip().removeprefix("\ufeff").strip() for name in header or []]
        if not any(self.names):
            raise DataError(f"{file.name}: has no header in its first line; write the columns' names there")
        if cursor is not None:
            head.close()
            self._lines = _Lines(file, largest, *cursor)

    def __iter__(self) -> Iterator[Row]:
        try:
            while True:
                begun = self._lines.line
                cells, why, kept = self._next()
                if cells is None and why is None:
                    break
                if cells == []:
                    continue  # an empty line
                if cells is not None and len(cells) != len(self.names):
                    cells, why = None, WIDTH
                    self._lines.back(kept[1:])
                yield self._row(cells, why, begun)
            if self._lines.damage is not None:
                yield self._row(None, self._lines.damage, self._lines.line)
        finally:
            self._lines.close()

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()

    def _row(self, cells: list[str] | None, why: str | None, line: int) -> Row:
        values = None if cells is None else dict(zip(self.names, cells, strict=True))
        lines = self._lines
        mended, self._mended = self._mended, False
        return Row(values, why, line, (lines.offset, lines.line), lines.consumed, mended)

    def _next(self) -> tuple[list[str] | None, str | None, list[bytes]]:
        """(cells, why there are none, the lines of the row); nothing at all at the end."""
        kept: list[bytes] = []

        def lines() -> Iterator[str]:
            while (line := self._lines.next()) is not None:
                kept.append(line)
                yield self._text(line)

        try:
            cells = next(csv.reader(lines(), delimiter=self._delimiter, strict=False), None)
        except csv.Error as error:
            why = TOO_LONG if "limit" in str(error) else "rows that are no CSV"
            self._lines.back(kept[1:])
            return None, why, kept
        if kept and kept[-1] == b"":
            return None, TOO_LONG, kept
        if len(kept) > 1 and not self._closed(kept):
            self._lines.back(kept[1:])
            return None, OPEN_QUOTE, kept
        return cells, None, kept

    def _closed(self, lines: list[bytes]) -> bool:
        """Whether the quotes of a row of several lines are closed where they should be."""
        try:
            next(csv.reader(map(self._text, lines), delimiter=self._delimiter, strict=True))
        except csv.Error:
            return False
        return True

    def _text(self, line: bytes) -> str:
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError:
            self._mended = True
            return line.decode(self._encoding, "replace")


class _Lines:
    """Lines of bytes with the place behind the last one that was given."""

    def __init__(self, file: SourceFile, largest: int, offset: int = 0, line: int = 1) -> None:
        self._stream = Stream(file.path, offset)
        self._buffer = b""
        self._back: deque[bytes] = deque()
        self._largest = largest
        self.offset, self.line = offset, line
        first = self.peek()
        self._end = b"\r" if b"\n" not in first and b"\r" in first else b"\n"
        if offset == 0 and first.startswith(b"\xef\xbb\xbf"):
            self._buffer, self.offset = self._buffer[3:], 3

    @property
    def damage(self) -> str | None:
        return self._stream.damage

    @property
    def consumed(self) -> int:
        return self._stream.consumed

    def peek(self) -> bytes:
        """The beginning of what comes next."""
        while len(self._buffer) < SNIFFED and (block := self._stream.read()):
            self._buffer += block
        return self._buffer[:SNIFFED]

    def next(self) -> bytes | None:
        """A line with its end, b"" for one that is too long, None at the end."""
        if self._back:
            return self._count(self._back.popleft())
        end = self._buffer.find(self._end)
        while end < 0 and len(self._buffer) <= self._largest and (block := self._stream.read()):
            searched = len(self._buffer)
            self._buffer += block
            end = self._buffer.find(self._end, searched)
        if max(end, len(self._buffer) if end < 0 else 0) > self._largest:
            return self._skip()
        if end < 0 and not self._buffer:
            return None
        end = len(self._buffer) if end < 0 else end + 1
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        return self._count(line)

    def back(self, lines: list[bytes]) -> None:
        """Takes lines back that were given last."""
        self._back.extendleft(reversed(lines))
        self.offset -= sum(map(len, lines))
        self.line -= len(lines)

    def close(self) -> None:
        self._stream.close()

    def _count(self, line: bytes) -> bytes:
        self.offset += len(line)
        self.line += 1
        return line

    def _skip(self) -> bytes:
        """Over the rest of a line that is too long."""
        while (end := self._buffer.find(self._end)) < 0:
            self.offset += len(self._buffer)
            self._buffer = self._stream.read()
            if not self._buffer:
                break
        self.offset += end + 1
        self._buffer = self._buffer[end + 1 :]
        self.line += 1
        return b""


def _sniffed(sample: str) -> str:
    """The sign that stands most often in the first line, outside of quotes."""
    first = "".join(sample.partition("\n")[0].split('"')[::2])
    best = max(DELIMITERS, key=first.count)
    return best if best in first else ","
