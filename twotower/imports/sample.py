"""The first rows of a source, column by column, whatever its format: what `import map` looks at.

Notable: files with the same columns are one group, named by a pattern in which digits are a star, as a daily export
names its files. Attributes of contact records and custom fields of tickets are columns like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from twotower.errors import DataError
from twotower.imports.connect import is_contact, is_transcript
from twotower.imports.look import Look, look_at
from twotower.imports.notes import Notes
from twotower.imports.records import Records
from twotower.imports.rows import header_of, is_parquet, rows_of
from twotower.imports.sources import SourceFile, Stream, list_files
from twotower.imports.zendesk import PAGES, kind_of

FILES = 8
"""Files of a group that are looked into."""
ENCODINGS = ("utf-8", "cp1252")


@dataclass
class Group:
    """Files with the same columns."""

    names: tuple[str, ...]
    files: list[SourceFile] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    rows: int = 0

    @property
    def patterns(self) -> list[str]:
        """Patterns of the files' names, as few as there are."""
        return sorted({re.sub(r"\d+", "*", re.sub(r"([\[?*])", "[\\1]", file.name)) for file in self.files})


@dataclass
class Sample:
    """What was looked at: `source` is csv, connect or zendesk."""

    source: str
    groups: list[Group]
    files: int
    encoding: str = "utf-8"
    titles: dict[str, str] = field(default_factory=dict)
    """Custom fields of tickets: their titles by id."""


def sample_of(source: Path, rows: int) -> Sample:
    """Looks at up to `rows` rows of each group of files.

    Raises:
        DataError: there is nothing to look at.
    """
    files = list_files(source, Notes())
    if not files:
        raise DataError(f"{source}: holds no file with a byte in it; name what was exported")
    first = next((file for file in files if not _is_json(file)), None)
    return _tables(files, rows) if first is not None else _objects(source, files, rows)


def _is_json(file: SourceFile) -> bool:
    if is_parquet(file.path):
        return False
    stream = Stream(file.path)
    head = stream.read().removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    stream.close()
    return head in (b"{", b"[")


def _tables(files: list[SourceFile], rows: int) -> Sample:
    groups: dict[tuple[str, ...], Group] = {}
    encoding = "utf-8"
    for file in files:
        if _is_json(file):
            continue
        if not is_parquet(file.path) and not _decodes(file, "utf-8"):
            encoding = ENCODINGS[1]
        names = tuple(header_of(file, None, encoding))
        groups.setdefault(names, Group(names)).files.append(file)
    for group in groups.values():
        found = [
            row
            for file in group.files[:FILES]
            for row in _rows(file, encoding, rows // min(FILES, len(group.files)) + 1)
        ]
        group.rows = len(found)
        group.looks = [look_at(name, [row.get(name) for row in found]) for name in group.names if name]
    return Sample("csv", list(groups.values()), len(files), encoding)


def _decodes(file: SourceFile, encoding: str) -> bool:
    stream = Stream(file.path)
    head = stream.read()
    stream.close()
    try:
        head[: head.rfind(b"\n") + 1 or None].decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _rows(file: SourceFile, encoding: str, most: int) -> list[dict[str, Any]]:
    found = (row.values for row in rows_of(file, None, None, encoding) if row.values is not None)
    return list(islice(found, most))


def _objects(source: Path, files: list[SourceFile], rows: int) -> Sample:
    """Contact records or tickets: their attributes or fields as columns."""
    taken: list[dict[str, Any]] = []
    titles: dict[str, str] = {}
    kinds = {"connect": 0, "zendesk": 0}
    for value, page in _values(files):
        if page == "ticket_fields":
            titles[str(value.get("id"))] = str(value.get("title"))
        elif is_contact(value) or is_transcript(value):
            kinds["connect"] += 1
            taken += [_attributes(value)] if is_contact(value) else []
        elif (kind := PAGES.get(page or "", kind_of(value))) is not None:
            kinds["zendesk"] += 1
            taken += [_custom(value)] if kind == "ticket" else []
        if len(taken) >= rows:
            break
    if not any(kinds.values()):
        raise DataError(f"{source}: JSON that is neither of Amazon Connect nor of Zendesk; export it as CSV or Parquet")
    names = tuple(dict.fromkeys(name for row in taken for name in row))
    group = Group(names, files, [look_at(name, [row.get(name) for row in taken]) for name in names], len(taken))
    return Sample(max(kinds, key=lambda kind: kinds[kind]), [group], len(files), titles=titles)


def _values(files: Iterable[SourceFile]) -> Iterator[tuple[dict[str, Any], str | None]]:
    pages = frozenset({*PAGES, "ticket_fields"})
    for file in files:
        stream = Stream(file.path)
        for found in Records(stream.read, lambda value, page: bool(value), pages):
            if found.value is not None:
                yield found.value, found.page
        stream.close()


def _attributes(value: dict[str, Any]) -> dict[str, Any]:
    found = value.get("Attributes")
    return found if isinstance(found, dict) else {}


def _custom(value: dict[str, Any]) -> dict[str, Any]:
    found = value.get("custom_fields")
    entries = found if isinstance(found, list) else []
    return {str(one.get("id")): one.get("value") for one in entries if isinstance(one, dict)}
