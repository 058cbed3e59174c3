"""What one hand-over adds to the sums of its CSA and of its groups, before decay: the definitions of the numbers kept.

Notable: columns that must exist for a rate to be one (how many outcomes, times, ratings are known) stand beside what is
summed, and squared weights beside those of them by which something is divided, so every mean comes with an effective
sample size (Σ w)² / Σ w² (Kish, *Survey Sampling*, 1965).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.errors import DataError
from twotower.features.engine.events import KnownHandovers, Work, check_codes
from twotower.features.engine.settings import CsaSettings

Doubles = npt.NDArray[np.float64]

SUMS = (
    "handled",
    "outcomes",
    "resolved",
    "timed",
    "log_seconds",
    "log_seconds_squared",
    "transfers_known",
    "transfers",
    "ratings",
    "csat",
    "csat_squared",
    "expected",  # how many have an outcome and an expectation of it
    "residual",  # Σ resolved − expected over these
    "upset",  # how many of these were upset
    "upset_residual",
    "upset_residual_squared",
)
COUNTS = ("handled", "outcomes", "resolved", "timed", "transfers_known", "transfers", "ratings")
SQUARES = ("handled", "outcomes", "timed", "transfers_known", "ratings", "upset")
COUNTED = [SUMS.index(name) for name in COUNTS]
SQUARED = [SUMS.index(name) for name in SQUARES]
_FROM_SUMS = [SUMS.index(n) for n in ("handled", "outcomes", "resolved", "timed", "log_seconds", "log_seconds_squared")]
# Of a CSA and a group; the last two are sums of squared weights.
GROUP_SUMS = (*(SUMS[i] for i in _FROM_SUMS), "outcomes_squares", "timed_squares")
GROUP_POWERS = (1, 1, 1, 1, 1, 1, 2, 2)


def csa_values(handovers: KnownHandovers) -> Doubles:
    """(M, len(SUMS)): what each hand-over adds, by name in `SUMS`. Seconds enter as log(1 + seconds)."""
    h, out = handovers, np.zeros((len(handovers), len(SUMS)))
    outcome = h.resolved >= 0
    out[:, 0], out[:, 1], out[:, 2] = 1, outcome, h.resolved == 1
    timed = ~np.isnan(h.handle_time_s)
    log_seconds = np.where(timed, np.log1p(h.handle_time_s, dtype=np.float64), 0)
    out[:, 3], out[:, 4], out[:, 5] = timed, log_seconds, log_seconds * log_seconds
    if h.transferred is not None:
        out[:, 6], out[:, 7] = h.transferred >= 0, h.transferred == 1
    if h.csat is not None:
        rated = ~np.isnan(h.csat)
        csat = np.where(rated, h.csat, 0).astype(np.float64)
        out[:, 8], out[:, 9], out[:, 10] = rated, csat, csat * csat
    if h.expected is not None:
        judged = outcome & ~np.isnan(h.expected)
        residual = np.where(judged, out[:, 2] - h.expected, 0)
        upset = judged & (np.zeros(len(h), np.bool_) if h.upset is None else h.upset)
        out[:, 11], out[:, 12], out[:, 13] = judged, residual, upset
        out[:, 14], out[:, 15] = residual * upset, residual * residual * upset
    return out


def group_values(values: Doubles, weights: Doubles) -> Doubles:
    """(M, len(GROUP_SUMS)) from `csa_values` and the weights (M, 1) that the result will be multiplied by."""
    squares = values[:, [1, 3]] * weights
    return np.concatenate([values[:, _FROM_SUMS], squares], axis=1)


def check_handovers(handovers: KnownHandovers, csas: int, settings: CsaSettings) -> None:
    """Raises DataError for the first value that cannot be, naming its column and row."""
    h = handovers
    check_codes("hand-overs: csa", h.csa, csas, 0)
    check_codes("hand-overs: resolved", h.resolved, 2, -1)
    possible = (h.handle_time_s >= 0) & (h.handle_time_s < np.inf)
    _check(possible, np.isnan(h.handle_time_s), "handle_time_s", h.handle_time_s, "0 or more, or NaN")
    if h.base.ndim != 2 or h.base.shape[1] != settings.width:
        raise DataError(f"hand-overs: base has the shape {h.base.shape}; (M, {settings.width}) is expected")
    # The sum of a row is finite only if all of it is; one pass, nothing as large as the embeddings is made.
    _check(np.isfinite(h.base.sum(axis=1)), None, "base", h.base, "finite numbers")
    if h.transferred is not None:
        check_codes("hand-overs: transferred", h.transferred, 2, -1)
    if h.csat is not None:
        _check(np.isfinite(h.csat), np.isnan(h.csat), "csat", h.csat, "a number or NaN")
    if h.expected is not None:
        inside = (h.expected >= 0) & (h.expected <= 1)
        _check(inside, np.isnan(h.expected), "expected", h.expected, "0 to 1, or NaN")
    if h.codes is not None and settings.families:
        if h.codes.shape != (len(h), len(settings.families)):
            raise DataError(f"hand-overs: codes {h.codes.shape}; (M, {len(settings.families)}) is expected")
        if ((h.codes < -1) | (h.codes >= np.diff(settings.offsets))).any():
            for i, (name, count) in enumerate(settings.families):
                check_codes(f"hand-overs: codes of {name}", h.codes[:, i], count, -1)


def check_work(work: Work, csas: int) -> None:
    """Raises DataError for the first CSA or change that cannot be."""
    check_codes("work: csa", work.csa, csas, 0)
    _check(np.abs(work.change) == 1, None, "change", work.change, "1 (assigned) or −1 (ended)", "work")


def _check(
    fine: npt.NDArray[Any],
    null: npt.NDArray[Any] | None,
    name: str,
    column: npt.NDArray[Any],
    expected: str,
    stream: str = "hand-overs",
) -> None:
    allowed = fine if null is None else fine | null
    if not allowed.all():
        row = int(np.argmin(allowed))
        raise DataError(f"{stream}: {name} {column[row]} in row {row}; {expected} is expected")
