"""Is P(resolved) still right? Judged on hand-overs that are old enough, each scored with what was known when it came.

    gap = mean (y − p);   logit P(y) = a + b (logit p − its mean) + its mean   (Cox 1958: a = 0, b = 1 where p is right)

Notable: windows that the bundle was made from do not count as earlier ones, as nobody is as well calibrated as on what
they were fitted to. While fewer than four later windows have passed, the usual range is what sampling alone makes of a
calibrated model, and says so. The expected calibration error is what exceeds chance (evaluation/calibration.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from loop.drift.outcomes import Maturation, known_by, mature
from loop.drift.series import Doubles, Series, unknown
from loop.drift.windows import LEAST_EARLIER, Ints, Windows
from twotower.progress import track

if TYPE_CHECKING:
    from serve.rolling import RollingMatcher

NAMES = ("calibration.gap", "calibration.slope", "calibration.intercept", "calibration.error")
LEAST = 100
"""Outcomes of a window below which nothing is said of its calibration."""
SAMPLE = 3000
EXTREME = 1e-4


def calibration(
    windows: Windows, curve: Maturation, rolling: RollingMatcher | None, until: int = 0, seed: int = 0
) -> Iterator[Series]:
    """Gap, slope, intercept and error, by window; until: the end of the bundle's data window, µs UTC."""
    size = len(windows)
    reason = None
    if rolling is None:
        reason = "no --bundle was given"
    elif not rolling.calibrated:
        reason = "the bundle gives no probability: its log had no failures"
    elif not len(curve.age):
        reason = "no hand-over before the newest window has a known outcome"
    if reason is not None or rolling is None:
        yield from (unknown(name, size, str(reason)) for name in NAMES)
        return
    values, errors = np.full((size, len(NAMES)), np.nan), np.full((size, len(NAMES)), np.nan)
    for w in track(range(size), "calibration", unit="window"):
        rows = mature(windows, curve, w)
        rows = rows[known_by(windows, rows, w)]
        # A contact's arrival decides what the bundle knew of it; hand-overs come after it.
        rows = rows[windows.log.contacts.arrived_at[windows.log.handovers.contact[rows]] >= until]
        if len(rows) < LEAST:
            continue
        if len(rows) > SAMPLE:
            rows = np.sort(np.random.default_rng((seed, w)).choice(rows, SAMPLE, replace=False))
        p = said(windows, rolling, rows)
        values[w], errors[w] = measured(p, windows.log.handovers.resolved[rows] == 1)
    few = np.isfinite(values[:-1, 0]).sum() < LEAST_EARLIER
    for i, (name, right) in enumerate(zip(NAMES, (0.0, 1.0, 0.0, 0.0), strict=True)):
        made = Series(name, values[:, i], errors[:, i], reference=right if few else None)
        if not np.isfinite(made.values[-1]):
            made = replace(made, reason=f"fewer than {LEAST} outcomes newer than the bundle are known")
        yield made


def said(windows: Windows, rolling: RollingMatcher, rows: Ints) -> Doubles:
    """P(resolved) (n,) of hand-overs, when their contact arrived."""
    moves = windows.log.handovers
    positions = moves.contact[rows].astype(np.int64)
    contacts = rolling.contacts(positions)
    p = np.empty(len(rows))
    for i in np.argsort(contacts.arrived_at, kind="stable"):
        at = np.array([i])
        scored = rolling.score(contacts.take(at), moves.csa[rows[at]].astype(np.int64), "success")
        p[i] = np.nan if scored.p_resolved is None else scored.p_resolved[0]
    return p


def measured(p: Doubles, outcome: npt.NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """Gap, slope, intercept and error beyond chance of probabilities and outcomes (n,), and what each scatters by where
    p is right."""
    from evaluation.calibration import bands

    q = np.clip(p, EXTREME, 1 - EXTREME)
    x = np.log(q / (1 - q))
    centre = float(x.mean())
    slope, intercept, errors = recalibration(x - centre, outcome, centre)
    band = bands(q, outcome.astype(np.float64), {})[0]
    gap_error = float(np.sqrt((q * (1 - q)).sum()) / len(q))
    found = np.array([float((outcome - q).mean()), slope, intercept, band.error - band.chance])
    return found, np.array([gap_error, errors[0], errors[1], max(band.chance, 1e-9) / 2])


def recalibration(
    x: Doubles, outcome: npt.NDArray[np.bool_], offset: float
) -> tuple[float, float, tuple[float, float]]:
    """Slope b and intercept a of logit P(y) = offset + a + b x by maximum likelihood, and their standard errors; NaN
    where p does not differ between pairs."""
    import warnings

    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    if float(x.std()) < 1e-6:
        return np.nan, np.nan, (np.nan, np.nan)
    design = np.stack([x, np.ones_like(x)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of separation, which shows in the errors
        found = GLM(outcome.astype(np.float64), design, family=Binomial(), offset=np.full(len(x), offset)).fit()
    (slope, intercept), errors = found.params, found.bse
    return float(slope), float(intercept), (float(errors[0]), float(errors[1]))
