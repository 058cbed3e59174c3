"""JSON objects one after the other out of a stream of bytes, however they are strung together, damaged ones included.

Lines, objects without a separator between them (as Firehose writes them), lists, pages such as `{"tickets": […], …}`
and indented objects are all the same here: at the top level white space, commas and brackets separate. Where a record
ends is first guessed from how the one before it ended, a guess that the JSON parser itself confirms; only where it is
wrong are brackets followed.

Notable: nothing but the place in the stream is kept from record to record, so that reading can go on at any record. A
record that is damaged costs itself: the next one is sought where an object can begin and is accepted if it parses and
looks like a record, also behind a record that is larger than `largest`. The work of seeking is bounded by a multiple of
the bytes sought through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twotower.imports.balance import BAD, END, MORE, balanced

LARGEST = 16 << 20
"""Bytes of a record that is kept, unless somebody says otherwise."""
GUESS = 256 << 10
"""How far a guess of a record's end looks where the one before it ended otherwise."""
EFFORT = 8
"""Bytes that may be looked at in vain for each byte that is read."""
PATIENCE = 4
"""How many times `largest` may be looked at in vain before only beginnings are sought."""
MISSES = 8
"""Guesses in a row that may be wrong before brackets are followed from then on."""

CUT_OFF = "records that are cut off at the end of the file"
TOO_LARGE = "records that are larger than --largest"
TOO_DEEP = "records that are nested too deeply"
NO_OBJECT = "JSON values that are no objects"
NO_JSON = "bytes between records that are no JSON"
UNBALANCED = "records that are no JSON: a bracket, a quote or a comma is missing"

_DECODER = json.JSONDecoder(strict=False)  # control characters inside of strings are put right later, not refused
_SEPARATORS = re.compile(rb"(?:[\s,\[\]\x1e]|\xef\xbb\xbf)*+")
_INSIDE_PAGE = re.compile(rb"[\s,]*+")
_SCALAR = rb'(?:"(?:[^"\\\n]|\\.)*+"|[-+.\w]++)'
_PAIRS = rb'(?:"\w++"\s*+:\s*+' + _SCALAR + rb"\s*+,\s*+)*+"
_PAGE = re.compile(rb"\{\s*+" + _PAIRS + rb'"(\w++)"\s*+:\s*+\[')
_OWN_ID = re.compile(rb'"(?:id|ContactId)"\s*+:')
_FIELD = re.compile(rb'"(\w++)"\s*+:\s*+(?=.)', re.DOTALL)
_SCALARS = re.compile(_SCALAR)
_BEGINNINGS = re.compile(rb"[\n}\]\x00\x1e]\s*+,?\s*+(?=\{)")
_OPENED = 3  # bytes of the least opening that tells anything
_OPENING = re.compile(rb'\{\s*+"[^"\\\n]{0,64}"')
_STRAIGHT = {"line": b"\n", "joined": b"}"}
_ANYWHERE = re.compile(rb'(?=\{\s*+")')
_HEADER = 4096  # bytes in which a page says what it is
_CONTEXT = 64  # bytes before an object that say whether it may begin there


class Cursor(NamedTuple):
    """Between two records: all that reading on depends on."""

    offset: int = 0
    """Bytes before it."""
    line: int = 1
    """Line breaks before it, and one."""
    page: str | None = None
    """The list of a page it stands in; "" behind one, None outside of pages."""
    habit: str = "line"
    """How records were strung together last: line or joined."""
    opening: str = '{"'
    """How the last one began."""
    spent: int = 0
    """Bytes that were looked at in vain, less `EFFORT` for each byte read; never below zero."""


class Found(NamedTuple):
    """One record, or one damage: `value` or `why` is there. `page` names the list of a page that it stands in; `byte`
    is told where it does not begin a line; `mended` says that bytes which are not UTF-8 were replaced."""

    value: dict[str, Any] | None
    why: str | None
    page: str | None
    line: int
    byte: int | None
    after: Cursor
    mended: bool = False


class Records:
    """The records of one stream, from a cursor on.

    Args:
        read: gives the next bytes, none at the end.
        known: whether an object, found in the list `page`, looks like a record; asked where damage made its beginning
            uncertain.
        pages: names of lists whose pages are looked into.
        largest: bytes of a record that is kept.
    """

    def __init__(
        self,
        read: Callable[[], bytes],
        known: Callable[[dict[str, Any], str | None], bool],
        pages: frozenset[str] = frozenset(),
        cursor: Cursor | None = None,
        largest: int = LARGEST,
    ) -> None:
        cursor = Cursor() if cursor is None else cursor
        self._read, self._known, self._pages, self._largest = read, known, pages, largest
        self._buffer, self._at = b"", 0
        self._offset, self._line, self._page = cursor.offset, cursor.line, cursor.page
        self._habit, self._opening, self._spent = cursor.habit, cursor.opening.encode(), cursor.spent
        self._ended = False
        self._style, self._misses = "", 0
        self._first_in_line = cursor.offset == 0

    def __iter__(self) -> Iterator[Found]:
        while self._to_next():
            if self._buffer[self._at] != ord("{"):
                yield self._lost(NO_JSON, self._at, _ANYWHERE)
            elif page := self._page_begins():
                self._move(page.end(), page[1].decode())
            else:
                yield self._record()

    # Where the next record begins.

    def _to_next(self) -> bool:
        """Moves to what is no separator; False at the end."""
        while True:
            inside = self._page is not None
            found = (_INSIDE_PAGE if inside else _SEPARATORS).match(self._buffer, self._at)
            self._move(found.end() if found else self._at)
            if self._at >= len(self._buffer) - 2 and self._more():  # a mark of the byte order has three bytes
                continue
            if self._at >= len(self._buffer):
                return False
            if not inside or not self._leave_list():
                return True

    def _leave_list(self) -> bool:
        """Inside of a page: walks over what is no record. False where a record begins, or damage."""
        char = self._buffer[self._at : self._at + 1]
        if self._page:
            if char == b"]":
                self._move(self._at + 1, "")
            return char == b"]"
        self._fill(_HEADER)
        field = _FIELD.match(self._buffer, self._at)
        if char == b"}" or field is None:
            self._page = None
            self._move(self._at + 1)
            return char == b"}"
        self._move(field.end())
        if field[1].decode() in self._pages and self._buffer[self._at] == ord("["):
            self._move(self._at + 1, field[1].decode())
        elif scalar := _SCALARS.match(self._buffer, self._at):
            self._move(scalar.end())
        else:
            how, end = self._follow()
            self._move(end if how == END else self._at + 1)
        return True

    def _page_begins(self) -> re.Match[bytes] | None:
        if not self._pages:
            return None
        self._fill(_HEADER)
        found = _PAGE.match(self._buffer, self._at)
        named = found is not None and found[1].decode() in self._pages
        return found if found and named and not _OWN_ID.search(found[0]) else None  # what has an id is a record itself

    # One record.

    def _record(self) -> Found:
        for style in ("joined", "line") if self._style == "joined" else ("line", "joined"):
            end = self._guess(style)
            if end is not None:
                value, why, mended = _parsed(self._buffer[self._at : end])
                if why is None or why == TOO_DEEP:
                    self._style, self._misses = style, 0
                    self._habit = style
                    return self._found(value, why, end, mended)
                self._spend(end - self._at)
        self._misses += 1
        if not self._style or self._misses > MISSES:
            self._style = "followed"
        how, end = self._follow()
        if how == END:
            value, why, mended = _parsed(self._buffer[self._at : end])
            if why in (None, TOO_DEEP, NO_OBJECT):
                return self._found(value, why, end, mended)
            return self._lost(why or UNBALANCED, self._at + 1)
        if how == MORE:
            return self._lost(CUT_OFF if self._ended else TOO_LARGE, self._at + 1)
        return self._lost(UNBALANCED, self._at + 1)

    def _guess(self, style: str) -> int | None:
        """Where the record ends if it ends as the one before it did."""
        if self._style == "followed" or self._tired():
            return None
        mark, behind = (b"\n", 0) if style == "line" else (b"}{", 1)
        limit = None if self._style == style else self._at + GUESS
        if style == "joined" and limit is not None and (line := self._buffer.find(b"\n", self._at, limit)) >= 0:
            limit = line  # records that are joined stand in one line
        end = self._buffer.find(mark, self._at, limit)
        while end < 0 and limit is None and len(self._buffer) - self._at < self._largest and self._more():
            end = self._buffer.find(mark, self._at)
        if end < 0 or end - self._at > self._largest:
            return None
        end += behind
        while end > self._at and self._buffer[end - 1] in b" \t\r\n,]":
            end -= 1
        return end

    def _follow(self) -> tuple[str, int]:
        """`balanced` from here on, with more of the stream where it is needed."""
        if self._tired():
            return BAD, self._at
        how, place = balanced(self._buffer, self._at)
        while how == MORE and len(self._buffer) - self._at <= self._largest and self._more():
            how, place = balanced(self._buffer, self._at)
        self._spend(min(place - self._at, self._largest))
        if how == END and place - self._at > self._largest:
            return MORE, place
        return how, place

    def _spend(self, looked_at: int) -> None:
        self._spent += looked_at

    def _tired(self) -> bool:
        """Whether too much was looked at in vain: then only beginnings are sought, until enough was read."""
        return self._spent > PATIENCE * self._largest

    def _found(self, value: dict[str, Any] | None, why: str | None, end: int, mended: bool) -> Found:
        page, line, byte = self._page, self._line, self._own_byte()
        if not self._buffer.startswith(self._opening, self._at) or len(self._opening) < _OPENED:
            opening = _OPENING.match(self._buffer, self._at)
            self._opening = opening[0] if opening else self._opening
        self._move(end)
        return Found(value, why, page, line, byte, self._cursor(), mended)

    def _lost(self, why: str, start: int, beginnings: re.Pattern[bytes] | None = None) -> Found:
        """Moves to the next place where a record begins, or to the end; the damage lies before it.

        An object at the beginning of a line, or straight behind another one in a file where records are joined so,
        begins a record if its first words are those of the records before, so that each damaged one counts by itself.
        Elsewhere it has to look like a record, as it may be a part of the damaged one.
        """
        page, line, byte = self._page, self._line, self._own_byte()
        self._style, self._misses = "", 0
        self._move(start)
        while self._seek(beginnings or _BEGINNINGS):
            if beginnings is None and self._begins_alike():
                break
            how, end = self._follow()
            if how == END and self._is_record(end):
                break
            self._move(self._at + 1)
        if self._page == "":
            self._page = None
        return Found(None, why, page, line, byte, self._cursor())

    def _begins_alike(self) -> bool:
        before = self._buffer[self._at - 1 : self._at]
        return before == _STRAIGHT[self._habit] and self._buffer.startswith(self._opening, self._at)

    def _seek(self, beginnings: re.Pattern[bytes]) -> bool:
        """Moves to the next place where an object may begin; False where there is none."""
        while True:
            mark = beginnings.search(self._buffer, self._at)
            self._move(mark.end() if mark else max(self._at, len(self._buffer) - _CONTEXT))
            if mark:
                return True
            if not self._more():
                self._move(len(self._buffer))
                return False

    def _is_record(self, end: int) -> bool:
        value, why, _ = _parsed(self._buffer[self._at : end])
        return why is None and value is not None and self._known(value, self._page)

    # The buffer.

    def _cursor(self) -> Cursor:
        opening = self._opening.decode("utf-8", "replace")
        return Cursor(self._offset, self._line, self._page, self._habit, opening, self._spent)

    def _own_byte(self) -> int | None:
        """The byte where a record begins that shares its line with another."""
        return None if self._first_in_line else self._offset

    def _move(self, to: int, page: str | None = None) -> None:
        passed = self._buffer[self._at : to]
        lines = passed.count(b"\n")
        if lines:
            passed = passed[passed.rindex(b"\n") :]
        self._first_in_line = (self._first_in_line or lines > 0) and not passed.strip(b" \t\r\n,[\xef\xbb\xbf")
        read = to - self._at
        self._offset, self._line = self._offset + read, self._line + lines
        self._spent = max(0, self._spent - EFFORT * read) if self._spent else 0
        self._page = self._page if page is None else page
        self._at = to

    def _fill(self, size: int) -> None:
        """Reads on until so many bytes are there, or the end."""
        while len(self._buffer) - self._at < size and self._more():
            pass

    def _more(self) -> bool:
        """Reads on, as much again as there is; what lies before the place in the stream is forgotten."""
        if self._ended:
            return False
        parts = [self._buffer[self._at :]]
        want, got = max(1, len(parts[0])), 0
        while got < want and not self._ended:
            block = self._read()
            self._ended = not block
            parts.append(block)
            got += len(block)
        self._buffer, self._at = b"".join(parts), 0
        return got > 0


def _parsed(data: bytes) -> tuple[dict[str, Any] | None, str | None, bool]:
    """(the object, why it is none, whether bytes had to be replaced)."""
    mended = False
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text, mended = data.decode("utf-8", "replace"), True
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return None, f"records that are no JSON: {error.msg}", mended
    except RecursionError:
        return None, TOO_DEEP, mended
    except ValueError:
        return None, "records with a number of thousands of digits", mended
    return (value, None, mended) if isinstance(value, dict) else (None, NO_OBJECT, mended)
