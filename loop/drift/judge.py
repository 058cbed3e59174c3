"""What is usual is what the statistic did before; how unusual the newest value is, and which of many values to believe.

A statistic x is looked at on a scale on which it scatters evenly (√ of distances, log of sizes). With m the median of
the n earlier values and s₀ = c·1.4826·max(MAD, median |x_w − x_{w−1}| / √2) (c: Croux and Rousseeuw 1992, for small n),

    s = √(Σ min(|x_w − m|, 3 s₀)² / (n − 1)),   σ = max(s, sampling error, a floor)
    t = (x − m) / (σ √(1 + π / 2n)),   p from Student's t with n − 1 degrees of freedom

Notable: an incident of the past must not hide the next one, so it counts as no more than three deviations; MAD itself
varies so much with few windows that t would find five times too much in the tail (s: 0.8 to 1.05 times p at p = 0.05 to
0.002, n = 4 to 25, normal values). Dozens of statistics are watched, so what counts is p after Benjamini and Hochberg
(1995): where nothing drifts, the chance of any alarm is at most the rate, also where they go together as these do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from loop.drift.catalogue import KINDS, Kind, Scale
from loop.drift.series import Series
from loop.drift.windows import LEAST_EARLIER

Doubles = npt.NDArray[np.float64]
Status = Literal["ok", "watch", "alarm", "not known"]
SMALL = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}
NORMAL, CLIPPED = 1.4826, 3.0
RATE = 0.05
WATCHED = 4.0
"""A statistic is watched at so many times the rate of alarms."""
FLOOR = 0.02
"""Of the median: a spread of less is not believed, so that windows of very many contacts do not alarm by trifles."""
USUAL = 0.95
LATE = "labels come later than usual, and those that are missing could explain it"


@dataclass(frozen=True)
class Finding:
    """One statistic of the newest window. low, high: within which 95 % of windows fall; p: two- or one-sided, of this
    statistic alone, None where not known; adjusted: after Benjamini and Hochberg; windows: how many earlier values."""

    name: str
    group: str
    title: str
    value: float
    low: float
    high: float
    status: Status
    sentence: str
    p: float | None
    adjusted: float | None
    windows: int
    reason: str | None
    named: dict[str, float]
    values: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True)
class _Looked:
    series: Series
    kind: Kind
    low: float = np.nan
    high: float = np.nan
    p: float | None = None
    plain: float | None = None
    """p as if the missing labels did not matter."""
    below: bool = False
    windows: int = 0
    reason: str | None = None


def judged(series: Sequence[Series], rate: float = RATE) -> tuple[Finding, ...]:
    """Findings in the order of the series; `rate`: chance of any alarm where nothing drifts."""
    looked = [_look(one) for one in series]
    adjusted = benjamini_hochberg([one.p for one in looked])
    plain = benjamini_hochberg([one.plain for one in looked])
    found = [_finding(one, q, r, rate) for one, q, r in zip(looked, adjusted, plain, strict=True)]
    late = any(one.name.startswith("labels.") and one.status in ("watch", "alarm") for one in found)
    return tuple(_doubted(one) if late and KINDS[one.name].of_labels else one for one in found)


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Adjusted p in the same order: the smallest rate at which each would be found; None stays None."""
    from evaluation.experiment.stats.multiple import discoveries

    known = iter(discoveries([one for one in p if one is not None]).tolist())
    return [None if one is None else next(known) for one in p]


def spread(values: Doubles) -> float:
    """Robust standard deviation of the earlier values (n,): that of distances from the median, where a distance of more
    than three robust deviations counts as three. Robust is the larger of what MAD and the steps from window to window
    say: either alone is small by luck too often."""
    n, off = len(values), np.abs(values - np.median(values))
    robust = _corrected(n) * NORMAL * float(np.median(off))
    if n > 2:
        steps = np.abs(np.diff(values))
        robust = max(robust, _corrected(n - 1) * NORMAL * float(np.median(steps)) / np.sqrt(2))
    return float(np.sqrt(np.square(np.minimum(off, CLIPPED * robust)).sum() / (n - 1)))


def _corrected(n: int) -> float:
    return SMALL.get(n, n / (n - 0.8))


def _look(series: Series) -> _Looked:
    from scipy.stats import norm, t

    kind = KINDS[series.name]
    blank = _Looked(series, kind)
    if series.reason is not None:
        return replace(blank, reason=series.reason)
    moved, back = _SCALES[kind.scale]
    newest, earlier = series.values[-1], series.values[:-1]
    earlier = moved(earlier[np.isfinite(earlier)])
    if not np.isfinite(newest):
        return replace(blank, reason="the newest window has too little of it")
    if series.reference is not None:
        centre, scale, law = moved(series.reference), float(series.noise[-1]), norm()
    elif len(earlier) < LEAST_EARLIER:
        reason = f"{len(earlier)} earlier windows have it, {LEAST_EARLIER} are needed to say what is usual"
        return replace(blank, reason=reason, windows=len(earlier))
    else:
        n, noise = len(earlier), float(np.nan_to_num(series.noise[-1]))
        centre = float(np.median(earlier))
        floor = FLOOR * (1.0 if kind.scale == "log" else abs(centre))
        scale = max(spread(earlier), noise, floor, 1e-9)
        scale, law = scale * np.sqrt(1 + np.pi / (2 * n)), t(n - 1)

    def p_of(value: float) -> float:
        off = (moved(value) - centre) / scale
        if kind.side == "both":
            return float(2 * law.sf(abs(off)))
        return float(law.sf(off) if kind.side == "up" else law.cdf(off))

    reach = scale * law.ppf((1 + USUAL) / 2 if kind.side == "both" else USUAL)
    low = -np.inf if kind.side == "up" else centre - reach
    high = np.inf if kind.side == "down" else centre + reach
    if kind.unit == "share":
        low, high = max(low, 0.0) if np.isfinite(low) else low, min(high, 1.0) if np.isfinite(high) else high
    nearest = newest if series.span is None else float(np.clip(back(centre), *series.span))
    return replace(
        blank, low=back(low), high=back(high), p=p_of(nearest), plain=p_of(float(newest)),
        below=bool(moved(float(newest)) < centre), windows=len(earlier),
    )  # fmt: skip


_SCALES: dict[Scale, tuple[Any, Any]] = {
    "as it is": (lambda x: x, lambda y: y),
    "root": (lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda y: np.sign(y) * np.square(y)),
    "log": (lambda x: np.log(np.maximum(x, 1e-9)), np.exp),
}


def _finding(looked: _Looked, adjusted: float | None, plain: float | None, rate: float) -> Finding:
    kind, series = looked.kind, looked.series
    status: Status = "not known" if adjusted is None else _status(adjusted, rate)
    reason = looked.reason
    if status == "ok" and plain is not None and _status(plain, rate) != "ok":
        status, reason = "not known", LATE
    return Finding(
        series.name, kind.group, kind.title, float(series.values[-1]), float(looked.low), float(looked.high), status,
        kind.sentence(status, looked.below, reason), looked.p, adjusted, looked.windows, reason, series.named,
        tuple(float(value) for value in series.values),
    )  # fmt: skip


def _status(adjusted: float, rate: float) -> Status:
    return "alarm" if adjusted <= rate else "watch" if adjusted <= min(WATCHED * rate, 0.5) else "ok"


def _doubted(found: Finding) -> Finding:
    """What hangs on which labels are known, in a week in which other ones are known than usual."""
    if found.status not in ("watch", "alarm"):
        return found
    return replace(found, status="not known", reason=LATE, sentence=f"Not known: {LATE}.")
