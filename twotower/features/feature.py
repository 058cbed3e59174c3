"""What a feature is: one declared object that knows its name, its meaning, its bounds and how it is computed.

Notable: everything else that speaks of features, the order of the tensors, `features.json`, the page in docs/, the list
that drift is watched on, is read off these objects, so a feature is added or changed in one place. *As of* names the
rule by which a value becomes known; a value that is not known is the default, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

Level = Literal["contact", "customer", "csa"]
Source = TypeVar("Source", contravariant=True)

# How a value becomes known. *Strictly before* is meant everywhere: facts of the very microsecond do not count.
AS_OF = {
    "arrival": "the contact's own row, complete when it arrives (a null intent: by a head that was fitted on labels)",
    "heads": "the contact's own row, through heads fitted on outcomes known before its block of the log began",
    "customer": "the customer's contacts that arrived, and hand-overs whose outcome was known, before the arrival",
    "roster": "the CSA's dated row that counts at the snapshot",
    "outcomes": "the CSA's hand-overs whose outcome was known before the snapshot",
    "work": "the CSA's hand-overs assigned, and ended, before the snapshot",
    "never": "fixed: follows from the id alone",
}


@dataclass(frozen=True)
class Feature(Generic[Source]):
    """One feature: a column of a tensor, or several that belong together.

    `name`; `level` whom it describes; `family` what is switched on and off together; `unit`; `low` and `high`, the
    bounds that it never leaves (infinite where there are none); `meaning`; `as_of` a key of `AS_OF`; `compute` its
    values (N,) or (N, columns) from the level's source; `columns` the names of its columns, from what the level says of
    widths (None: one column, called `name`); `default` where nothing is known; `watched` whether drift of a single
    column means something (not of a component of a vector); `counted_by` which of a CSA's hand-overs stand behind it:
    one of `engine.values.SUMS`, or `good` or `bad`.
    """

    name: str
    level: Level
    family: str
    unit: str
    low: float
    high: float
    meaning: str
    as_of: str
    compute: Callable[[Source], Any]
    columns: Callable[[Any], list[str]] | None = None
    default: float = 0.0
    watched: bool = True
    counted_by: str = "handled"

    def names(self, widths: Any) -> list[str]:
        """Names of its columns."""
        return [self.name] if self.columns is None else self.columns(widths)

    def describe(self, widths: Any) -> dict[str, Any]:
        """What `features.json` says of it; an infinite bound is null there."""
        return {
            "name": self.name,
            "level": self.level,
            "family": self.family,
            "unit": self.unit,
            "range": [None if np.isinf(bound) else bound for bound in (self.low, self.high)],
            "meaning": self.meaning,
            "as_of": self.as_of,
            "default": self.default,
            "columns": self.names(widths),
        }


def table(
    features: tuple[Feature[Any], ...], source: Any, rows: int, widths: Any, counts: Sequence[int] | None = None
) -> npt.NDArray[np.float32]:
    """Values (rows, columns) float32 of features, in their order; counts: how many columns each has, if that is known
    already."""
    counts = [len(feature.names(widths)) for feature in features] if counts is None else counts
    out = np.empty((rows, sum(counts)), dtype=np.float32)
    start = 0
    for feature, count in zip(features, counts, strict=True):
        end = start + count
        out[:, start:end] = np.reshape(feature.compute(source), (rows, end - start))
        start = end
    return out
