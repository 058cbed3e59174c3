"""What a benchmark of several parts has measured so far: printed, and in its JSON file, after every part.

Notable: parts are logs or centres that take minutes each. The file is written anew after each of them, whole or not at
all, so a run that is stopped or fails later has lost one part. Rows of other parts that an earlier run left in the
file stay there if its settings were the same; each row says on which machine it was measured.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from twotower.errors import TwoTowerError
from twotower.files import atomic_write

Part = TypeVar("Part", str, int)
Rows = list[dict[str, Any]]


class Record:
    """Rows by part, in a JSON file `{**settings, name: [rows]}`.

    output: the file, or None to keep the rows in memory alone; settings: what a row's figures depend on; name: of the
    list of rows; key: the field of a row that names its part. Raises SystemExit, one line, where the file is there and
    is something else; a file of other settings will be replaced, which stderr says before anything is measured.
    """

    def __init__(self, output: Path | None, settings: dict[str, Any], name: str, key: str) -> None:
        self.output, self.settings, self.name, self.key = output, settings, name, key
        self.rows: Rows = [] if output is None or not output.exists() else self._left(output)

    def _left(self, output: Path) -> Rows:
        """Rows that an earlier run left, if its settings were the same."""
        try:
            found = json.loads(output.read_text(encoding="utf-8"))
            machine = {"machine": found["machine"]} if "machine" in found else {}
            rows = [machine | row for row in found[self.name]]
            parts = sorted({row[self.key] for row in rows})
        except (OSError, ValueError, KeyError, TypeError):
            raise SystemExit(
                f"{output}: not figures of this benchmark ({self.name!r} with {self.key!r} expected); "
                "name another --output or remove it"
            ) from None
        settings = {name: value for name, value in found.items() if name not in (self.name, "machine")}
        if settings == self.settings:
            return rows
        kept = ", ".join(map(str, parts))
        print(f"note: {output} holds {self.key} {kept} under other settings; it is replaced", file=sys.stderr)
        return []

    def put(self, part: str | int, rows: Rows) -> None:
        """Replace the part's rows and write the file; rows lie in order of their parts."""
        machine = {"machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}}
        others = [row for row in self.rows if row[self.key] != part]
        self.rows = sorted([*others, *(row | machine for row in rows)], key=lambda row: row[self.key])
        if self.output is not None:
            atomic_write(self.output, json.dumps({**self.settings, self.name: self.rows}, indent=1) + "\n")


def measure_each(record: Record, parts: Iterable[Part], measure: Callable[[Part], tuple[Rows, str]]) -> bool:
    """Measure part after part, print its text and record its rows; True if none failed.

    One that fails is told in a line on stderr, and the others go on. An interrupt ends it; the record stands.
    """
    whole = True
    for part in parts:
        try:
            rows, text = measure(part)
        except Exception as error:  # whatever it is, it must not cost the other parts
            whole = False
            print(complaint(f"{record.key} {part}", error), file=sys.stderr, flush=True)
            continue
        print(text, end="\n\n", flush=True)
        record.put(part, rows)
    return whole


def complaint(name: str, error: Exception) -> str:
    """One line: what failed, and for a defect where it was raised."""
    said = " ".join(str(error).split())
    if isinstance(error, TwoTowerError):
        return f"{name} failed: {said}"
    [*_, last] = traceback.extract_tb(error.__traceback__)
    return f"{name} failed: {type(error).__name__}: {said} ({Path(last.filename).name}:{last.lineno})"
