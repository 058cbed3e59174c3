"""A statistic over the windows, as the judges receive it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Values (W,) of one statistic of the catalogue, the newest last; NaN where a window has none.

    noise: (W,) standard error by sampling alone, in the units in which the statistic is judged (`Kind.scale`); 0 where
    no formula gives one. span: the values that the newest could take if labels that are late were known. reference:
    mean of the statistic without drift, where earlier windows cannot tell; noise is then all that scatters. named: what
    the newest value is made of. reason: why it is not known.
    """

    name: str
    values: Doubles
    noise: Doubles
    span: tuple[float, float] | None = None
    reference: float | None = None
    named: dict[str, float] = field(default_factory=dict)
    reason: str | None = None


def unknown(name: str, windows: int, reason: str) -> Series:
    """A statistic that the tables do not tell."""
    blank = np.full(windows, np.nan)
    return Series(name, blank, blank, reason=reason)


def share(part: Doubles, whole: Doubles, least: float = 1.0) -> tuple[Doubles, Doubles]:
    """Shares (W,) with the binomial errors that they have at the share of all windows before the newest; NaN where the
    whole is below `least`. The error never falls below that of a single one in the whole, so that where nothing ever
    happened one event is not infinitely much."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(whole >= least, part / whole, np.nan)
        earlier = float(np.nansum(part[:-1]) / max(np.nansum(whole[:-1]), 1.0))
        kept = np.clip(earlier, 1 / whole, 1 - 1 / np.maximum(whole, 2))
        error = np.sqrt(kept * (1 - kept) / whole)
    return p, np.where(np.isfinite(p), error, np.nan)
