"""What a challenger that answers unheard would have answered, held against what was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

BAND_LEAST = 20
"""Contacts that make a band."""


@dataclass(frozen=True)
class Band:
    """Contacts of one channel, language or queue."""

    kind: str
    value: str
    contacts: int
    agreement: float
    """Share of which both have the same first choice."""
    overlap: float
    """Mean share of candidates that both have."""


@dataclass(frozen=True)
class Compared:
    """Of contacts that the champion answered."""

    contacts: int = 0
    """That both answered."""
    errors: int = 0
    """That the challenger could not answer."""
    agreement: float = math.nan
    overlap: float = math.nan
    served_s: float = math.nan
    """Median time of a match, the champion's."""
    shadow_s: float = math.nan
    """The challenger's."""
    bands: tuple[Band, ...] = ()

    @property
    def asked(self) -> int:
        """All of them."""
        return self.contacts + self.errors

    @property
    def failed(self) -> float:
        """Share that the challenger could not answer; 0 of none."""
        return self.errors / self.asked if self.asked else 0.0

    @property
    def times(self) -> float:
        """The challenger's time in times of the champion's; NaN where a time is not known."""
        return self.shadow_s / self.served_s if self.served_s > 0 else math.nan

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"times": self.times}


def compared_of(rows: Sequence[Any]) -> Compared:
    """From rows with the fields of `shadows_since`."""
    from serve.store.shadows import BANDS

    both = [one for one in rows if one.error is None]
    if not both:
        return Compared(errors=len(rows))
    groups: dict[tuple[str, str], list[Any]] = {}
    for one in both:
        for kind in BANDS:
            if getattr(one, kind) is not None:
                groups.setdefault((kind, getattr(one, kind)), []).append(one)
    bands = [
        Band(kind, value, len(of), _mean([one.same_first for one in of]), _mean([one.overlap for one in of]))
        for (kind, value), of in sorted(groups.items())
        if len(of) >= BAND_LEAST
    ]
    timed = [one for one in both if one.served_s is not None and one.shadow_s is not None]
    return Compared(
        len(both), len(rows) - len(both), _mean([one.same_first for one in both]), _mean([one.overlap for one in both]),
        _median([one.served_s for one in timed]), _median([one.shadow_s for one in timed]), tuple(bands),
    )  # fmt: skip


def read_compared(url: str, challenger: str, champion: str, since: int) -> Compared:
    """From a store, since a moment (µs UTC). Raises StoreError."""
    from serve.store.shadows import shadows_since
    from serve.store.store import existing

    with existing(url) as engine:
        return compared_of(shadows_since(engine, challenger, champion, since))


def _median(values: Sequence[float]) -> float:
    return float(median(values)) if values else math.nan


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
