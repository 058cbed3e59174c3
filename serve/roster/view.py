"""The roster as others may see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serve.roster.changes import Presence


@dataclass(frozen=True)
class CsaView:
    """One CSA: with the centre (`active`), `on_shift`, the `state` and since when (µs, None: never told), languages
    (none: any), channels (None: any), and whether they `joined` after the bundle was made."""

    active: bool
    on_shift: bool
    state: Presence
    since: int | None
    languages: tuple[str, ...]
    channels: tuple[str, ...] | None
    joined: bool


@dataclass(frozen=True)
class RosterView:
    """Who is in a roster of one `version`: `ids` and what is known of each, in the order in which they came."""

    version: int
    ids: tuple[str, ...]
    csas: tuple[CsaView, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[str, CsaView]]:
        return zip(self.ids, self.csas, strict=True)

    @property
    def active(self) -> int:
        """How many are with the centre."""
        return sum(csa.active for csa in self.csas)

    def to_json(self, some: slice = slice(None)) -> dict[str, Any]:
        """Plain values, with the rows of some."""
        rows = [{"csa_id": i, **vars(csa)} for i, csa in zip(self.ids[some], self.csas[some], strict=True)]
        return {"version": self.version, "active": self.active, "total": len(self), "csas": rows}
