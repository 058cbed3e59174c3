"""What else is expected of a pair besides success: rating, quality, handle time, transfer.

Notable: a target's expected value is level_t(x) + own_t(a) + c_t · profile(x)·vector(a). Levels come from the contact
tower, own parts from the CSA tower, and the inner product is the one that success is scored with, so what makes a CSA
right for a contact moves their other outcomes too, by one coefficient each. Heads that a log could not fit are absent
and say nothing; the graphs put out 0 there. Nothing heavy is imported: towers and router both name these numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twotower.errors import BundleError
from twotower.features.complexity import LONGEST

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """A column of interactions.parquet: what is regressed, in `unit`, never leaves `low` … `high`."""

    name: str
    unit: str
    low: float
    high: float


TARGETS: tuple[Target, ...] = (
    Target("csat", "rating", 1.0, 5.0),
    Target("quality_score", "share", 0.0, 1.0),
    Target("handle_time_s", "log(1 + seconds)", 0.0, LONGEST),
    Target("transferred", "probability", 0.0, 1.0),
)
NAMES = tuple(one.name for one in TARGETS)
TIME = NAMES.index("handle_time_s")
_LOW, _HIGH = (np.array([getattr(one, side) for one in TARGETS], np.float32) for side in ("low", "high"))


@dataclass(frozen=True)
class Head:
    """`fit`, the coefficient c of profile · vector, and `variance` of the residuals, both in the target's unit."""

    fit: float
    variance: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fit) and 0 <= self.variance < math.inf):
            raise BundleError(
                f"outcome head: fit {self.fit} and variance {self.variance} must be finite, variance >= 0"
            )


class Expected(NamedTuple):
    """What is expected of one pair: P(`resolved`), mean `csat` (1..5), `quality_score` (0..1) and `handle_time_s`, and
    P(`transferred`); None where the log could not tell."""

    resolved: float | None = None
    csat: float | None = None
    quality_score: float | None = None
    handle_time_s: float | None = None
    transferred: float | None = None


@dataclass(frozen=True)
class Outcomes:
    """The heads of a bundle in the order of `TARGETS`, None where there is none."""

    heads: tuple[Head | None, ...] = (None,) * len(TARGETS)

    def __post_init__(self) -> None:
        if len(self.heads) != len(TARGETS):
            raise BundleError(f"{len(self.heads)} outcome heads, expected {len(TARGETS)}: {', '.join(NAMES)}")

    @property
    def named(self) -> tuple[str, ...]:
        """The targets that have a head."""
        return tuple(name for name, head in zip(NAMES, self.heads, strict=True) if head is not None)

    def expected(self, level: Floats, own: Floats, fit: Floats) -> Floats:
        """Expected values (C, T) of one contact with C CSAs, NaN where there is no head.

        level (T,) of the contact; own (C, T) of the CSAs; fit (C,) profile · vector. Handle times are seconds,
        E[s] = exp(μ + σ²/2) − 1, the mean of a log-normal time (Aitchison and Brown, 1957).
        """
        there = np.array([head is not None for head in self.heads])
        heads = [Head(0.0, 0.0) if head is None else head for head in self.heads]
        slope = np.array([head.fit for head in heads], np.float32)
        value = level + own + fit[:, None] * slope
        value[:, TIME] += np.float32(heads[TIME].variance / 2)
        found: Floats = np.clip(value, _LOW, _HIGH)
        found[:, TIME] = np.expm1(found[:, TIME])
        found[:, ~there] = np.nan
        return found

    def to_json(self) -> dict[str, Any]:
        """The section `outcomes` of `calibration.json`: the graphs' columns in `order`, null without head."""
        heads = {
            one.name: None if head is None else {**vars(head), "unit": one.unit, "low": one.low, "high": one.high}
            for one, head in zip(TARGETS, self.heads, strict=True)
        }
        return {"order": list(NAMES), "heads": heads}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Outcomes:
        """Of that section. Raises BundleError, KeyError, TypeError or ValueError where it is another one."""
        if tuple(fields["order"]) != NAMES:
            raise BundleError(f"outcomes are {', '.join(map(str, fields['order']))}, expected {', '.join(NAMES)}")
        found = (fields["heads"][name] for name in NAMES)
        return cls(tuple(None if one is None else Head(float(one["fit"]), float(one["variance"])) for one in found))
