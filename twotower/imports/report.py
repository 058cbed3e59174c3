"""What an import has done, for people and as JSON.

Notable: `import.json` lies beside the tables and depends on the source alone: rates and the time that it took are told,
but not written there, so that an import that was stopped and one that was not leave the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from twotower.imports.formats import UNUSED
from twotower.imports.notes import DAMAGED, Notes
from twotower.imports.spill import Spill
from twotower.tables.summary import describe

MADE = {
    "csas": "hand-overs, from the first one on that shows it",
    "interactions.contact_id": "the contact", "interactions.known_at": "when the latest outcome became known",
}  # fmt: skip
"""What the import makes itself, by column or table."""


@dataclass
class Outcome:
    """The facts of one import."""

    format: str
    source: str
    output: str
    mapped: dict[str, str]
    """From what each column comes."""
    notes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    masked: dict[str, int] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)
    """What records (of rows: files) tell and no column takes."""
    filled: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows with a value, by table and column; under "" all rows."""
    checked: dict[str, Any] = field(default_factory=dict)
    text_of_notes: str = ""
    damaged: int = 0
    seconds: float = 0.0
    bytes_read: int = 0
    resumed: bool = False

    def tell(self, spill: Spill) -> None:
        """Takes over what the spill has counted."""
        notes: Notes = spill.notes
        self.notes, self.text_of_notes, self.damaged = notes.data(), notes.text(), notes.total(DAMAGED)
        counts = dict(sorted(spill.counts.items()))
        self.masked = {key.removeprefix("masked "): n for key, n in counts.items() if key.startswith("masked ")}
        self.unused = {key.removeprefix(UNUSED): n for key, n in counts.items() if key.startswith(UNUSED)}
        self.counts = {key: n for key, n in counts.items() if not key.startswith(("masked ", UNUSED))}

    @property
    def records(self) -> int:
        """Records that were read, damaged ones included."""
        return self.counts.get("records", 0)

    @property
    def contacts(self) -> int:
        """Contacts that were made."""
        return self.counts.get("contacts", 0)

    @property
    def handovers(self) -> int:
        """Hand-overs that were made."""
        return self.counts.get("handovers", 0)

    def facts(self) -> dict[str, Any]:
        """What depends on the source alone."""
        return {
            "format": self.format,
            "counts": self.counts,
            "damaged": self.damaged,
            "mapped": self.columns(),
            "notes": self.notes,
            "unused": self.unused,
            "masked": self.masked,
            "tables": self.checked,
        }

    def as_json(self) -> str:
        """`import.json`."""
        from twotower.cli import plain

        return json.dumps(plain(self.facts()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def columns(self) -> dict[str, dict[str, Any]]:
        """Each column that has a value somewhere: from what, and in what share of the rows."""
        found = {}
        for table, filled in self.filled.items():
            for column, count in filled.items():
                name = f"{table}.{column}"
                if column and count:
                    source = self.mapped.get(name) or MADE.get(name) or MADE.get(table, "the import")
                    found[name] = {"from": source, "filled": count, "rows": filled[""]}
        return found

    def data(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        rate = {"seconds": round(self.seconds, 3), "bytes": self.bytes_read, "resumed": self.resumed}
        if self.seconds > 0:
            rate["bytes_per_second"] = round(self.bytes_read / self.seconds)
            rate["records_per_second"] = round(self.records / self.seconds)
        return {"source": self.source, "output": self.output, **self.facts(), "rate": rate}

    def text(self) -> str:
        """For people."""
        counted = ", ".join(f"{n:,} {name}" for name, n in self.counts.items() if name not in ("contacts", "handovers"))
        speed = max(self.seconds, 1e-9)
        lines = [
            f"read as {self.format}: {counted}; {self.bytes_read / 1e6:,.1f} MB in {self.seconds:,.1f} s "
            f"({self.bytes_read / 1e6 / speed:,.1f} MB/s, {self.records / speed:,.0f} records/s)"
            + (", going on from a run that was stopped" if self.resumed else ""),
            "mapped:",
            *(
                f"  {name:<27} {one['filled'] / one['rows']:>6.1%}  {one['from']}"
                for name, one in self.columns().items()
            ),
        ]
        lines += [self.text_of_notes] if self.text_of_notes else []
        if self.unused:
            lines.append("no column takes: " + ", ".join(f"{name} ({n:,})" for name, n in self.unused.items()))
        if self.masked:
            lines.append("masked: " + ", ".join(f"{n:,} {kind}" for kind, n in self.masked.items()))
        lines += [describe(self.checked), f"no problems in {self.output}"]
        share = f"{self.damaged:,} of {self.records:,} records were damaged and are not in the tables"
        return "\n".join([*lines, share])
