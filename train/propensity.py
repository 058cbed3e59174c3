"""π₀(a | x): with which probability the queue, or whoever chose, gave contact x to the eligible CSA a.

Notable: the probability is fitted where the log does not hold it, as a conditional logit over the eligible (McFadden,
1974), log π₀(a | x) = w · f(x, a) − log Σ_{b eligible} exp(w · f(x, b)), on first hand-overs known before `until`, with
features as of the contact's arrival (`train.propensity_features`). A propensity p that was written down says more than
the choice itself: its hand-over is fitted by

    − p log π₀(a | x) − (1 − p) log(1 − π₀(a | x)),

of which the choice alone is the case p = 1. What was logged is also free of what a log of successes is not: there the
CSAs who succeed are chosen more often among what was kept, and an estimate from choices holds π₀ times each CSA's mean
success. So log propensities where you can. An estimate is clipped at `FLOOR` of the equal chance (Ionides, 2008, of
weights); what was logged is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.propensity_features import (
    Choices,
    Doubles,
    Floats,
    Indices,
    Pairs,
    QueueState,
    Shifts,
    listed_pairs,
    read_shifts,
)
from twotower.clock import format_time
from twotower.errors import DataError
from twotower.tables.log import Log

FLOOR = 0.05
"""Smallest estimate, as a share of the equal chance 1 / n of n eligible. The sum is then brought back to 1, so that an
inverse weight is at most 1 + 1 / FLOOR = 21 times n."""
RIDGE = 1.0
"""Precision of the Gaussian prior on each standardised weight."""
MOST_CHOICES = 20_000
"""Choices that weights are fitted on, evenly spaced; they are few."""
MOST_PAIRS = 4_000_000
"""Eligible pairs of these."""
PAIRS_AT_ONCE = 1 << 20
"""Of pairs whose features are held at once."""
LEAST_CHOICES = 50
"""Fewer cannot fit anything."""
BANDS = 10


class TooFewChoicesError(DataError):
    """The log is in order, but says too little of who was chosen."""


@dataclass(frozen=True)
class Propensities:
    """π₀ of a log's contacts; `weights` (K,) of the features of `state`, in the features' own units; `until` µs."""

    state: QueueState
    weights: Doubles
    until: int
    fitted_on: int
    """Choices that the weights were fitted on."""
    logged: Doubles
    """(N,) the propensity that was written down of each contact's first hand-over; NaN where none was."""
    chosen: Indices
    """(N,) who got that; −1 where nobody did."""

    @classmethod
    def fit(cls, log: Log, until: int, shifts: Shifts | None = None) -> Propensities:
        """Fit on first hand-overs that were known before `until` (µs), of contacts with an eligible list.

        Raises TooFewChoicesError where these are too few, DataError where a propensity is none.
        """
        state = QueueState(log, shifts)
        used = choices_of(state, np.flatnonzero(state.choices.known_at < until))
        if len(used.contact) < LEAST_CHOICES:
            raise TooFewChoicesError(
                f"{len(used.contact)} hand-overs to one of several eligible are known before {format_time(until)}; "
                f"{LEAST_CHOICES} are needed"
            )
        pairs = listed_pairs(log, used.contact)
        weights = conditional_weights(state.at(pairs), pairs, own_of(pairs, used.csa), told(used.propensity))
        logged, chosen = np.full(len(log.contacts), np.nan), np.full(len(log.contacts), -1, np.int64)
        logged[state.choices.contact], chosen[state.choices.contact] = state.choices.propensity, state.choices.csa
        return cls(state, weights, until, len(used.contact), logged, chosen)

    def scores(self, pairs: Pairs) -> Doubles:
        """w · f (P,) of pairs."""
        cuts = range(0, len(pairs.csa), PAIRS_AT_ONCE)
        parts = (pairs._replace(row=pairs.row[i:][:PAIRS_AT_ONCE], csa=pairs.csa[i:][:PAIRS_AT_ONCE]) for i in cuts)
        return np.concatenate([np.zeros(0), *(self.state.at(part) @ self.weights for part in parts)])

    def estimate(self, pairs: Pairs) -> tuple[Doubles, npt.NDArray[np.bool_]]:
        """π₀ (P,) of pairs by the fitted logit alone, which sums to 1 for each contact, and which were clipped."""
        p = softmax(self.scores(pairs), pairs)
        floor = FLOOR / np.diff(pairs.offsets)[pairs.row]
        clipped = p < floor
        p = np.maximum(p, floor)
        return p / total(p, pairs)[pairs.row], clipped

    def log_pi0(self, contacts: Indices, logged: bool = True) -> Floats:
        """log π₀ (P,) of the pairs of the contacts' eligible lists, contact after contact, as the lists have them.

        contacts: positions in the log. Where a propensity was written down, it is that of who was chosen, and the
        others share the rest as estimated; logged False: what was written down for these contacts is not looked at.
        """
        pairs = listed_pairs(self.state.log, contacts)
        p, _ = self.estimate(pairs)
        if logged:
            own, written = pairs.csa == self.chosen[contacts][pairs.row], self.logged[contacts][pairs.row]
            mine = total(np.where(own, p, 0), pairs)[pairs.row]
            known = np.isfinite(written) & (mine > 0) & (mine < 1)  # on the list, and not alone there
            rest = np.where(known, (1 - written) / np.where(known, 1 - mine, 1), 1)
            p = np.where(known & own, written, p * rest)
        return np.log(p).astype(np.float32)

    @property
    def source(self) -> str:
        """`logged`, `estimated`, or `logged and estimated`: where π₀ of who was chosen before `until` comes from."""
        choices = choices_of(self.state, np.flatnonzero(self.state.choices.known_at < self.until))
        share = np.isfinite(choices.propensity).mean()
        return "logged" if share > 0.99 else "logged and estimated" if share > 0 else "estimated"

    def judged(self) -> Choices:
        """Choices that the fit did not see: of contacts that arrived at `until` or later; the fit's own where there
        are fewer than `LEAST_CHOICES` of these."""
        choices, arrived = self.state.choices, self.state.log.contacts.arrived_at
        late = choices_of(self.state, np.flatnonzero(arrived[choices.contact] >= self.until))
        if len(late.contact) >= LEAST_CHOICES:
            return late
        return choices_of(self.state, np.flatnonzero(choices.known_at < self.until))

    def diagnostics(self) -> dict[str, float]:
        """How good the estimate is, by choices that the fit did not see (`held_out` 1) or, for want of those, did (0).

        `log_loss` of who was chosen, nats, and that of the equal chance and of the share of recent hand-overs;
        `calibration_error`, mean |predicted − observed| of bands over observed, and `calibration_worst` band;
        `effective_sample`, (Σ 1/π)² / Σ 1/π² as a share of the choices; `smallest` and `largest` estimate of an
        eligible CSA; `clipped`, the share of these at the floor; `logged`, the share of choices whose propensity was
        written down.
        """
        choices = self.judged()
        pairs = listed_pairs(self.state.log, choices.contact)
        own = own_of(pairs, choices.csa)
        p, clipped = self.estimate(pairs)
        features = self.state.at(pairs)
        share = softmax(features[:, self.state.names.index("share")], pairs)
        weight = 1 / p[own]
        bands = calibration(p, own)
        error = np.abs(bands[:, 0] - bands[:, 1])
        arrived = self.state.log.contacts.arrived_at[choices.contact]
        return {
            "choices": float(len(own)),
            "fitted_on": float(self.fitted_on),
            "held_out": float((arrived >= self.until).all()),
            "log_loss": float(-np.log(p[own]).mean()),
            "log_loss_equal": float(np.log(np.diff(pairs.offsets)).mean()),
            "log_loss_exposure": float(-np.log(share[own]).mean()),
            "calibration_error": float(error.mean() / bands[:, 1].mean()),
            "calibration_worst": float((error / np.maximum(bands[:, 0], 1e-9)).max()),
            "effective_sample": float(weight.sum() ** 2 / (weight**2).sum() / len(weight)),
            "smallest": float(p.min()),
            "largest": float(p.max()),
            "clipped": float(clipped.mean()),
            "logged": float(np.isfinite(choices.propensity).mean()),
        }


def propensities_of(folder: str | Path, log: Log, until: int) -> tuple[Propensities | None, dict[str, Any]]:
    """π₀ for training on what was known before `until` (µs), and what a run says of it: `source` and diagnostics.

    None, with `source` "exposure" and `why`, where it cannot be fitted; each CSA's share of recent hand-overs then
    stands in for it. folder: where `log` is from, for its shifts. Raises DataError where these are damaged, or where a
    propensity is none.
    """
    if log.contacts.eligible is None:
        return None, {"source": "exposure", "why": "contacts.parquet has no lists of who was eligible"}
    try:
        found = Propensities.fit(log, until, read_shifts(folder, log))
    except TooFewChoicesError as error:
        return None, {"source": "exposure", "why": str(error)}
    return found, {"source": found.source, **{k: round(v, 6) for k, v in found.diagnostics().items()}}


def choices_of(state: QueueState, rows: Indices) -> Choices:
    """Of the choices at `rows` those between several listed CSAs of whom the chosen is one, evenly thinned."""
    eligible = state.log.contacts.eligible
    if eligible is None:
        return state.choices.take(rows[:0])
    length = eligible.lengths[state.choices.contact[rows]]
    rows, length = rows[length > 1], length[length > 1]
    most = min(len(rows), MOST_CHOICES, MOST_PAIRS * len(rows) // max(int(length.sum()), 1))
    chosen = state.choices.take(rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)])
    pairs = listed_pairs(state.log, chosen.contact)
    several = np.diff(pairs.offsets) > 1  # also where somebody was listed twice
    return chosen.take(several & (total((pairs.csa == chosen.csa[pairs.row]).astype(np.float64), pairs) == 1))


def own_of(pairs: Pairs, csa: Indices) -> Indices:
    """(n,) position among the pairs of the CSA (n,) who got each contact."""
    return np.flatnonzero(pairs.csa == csa[pairs.row])


def told(propensity: Floats) -> Doubles:
    """Propensities as they are fitted: 1, the choice alone, where none was written down."""
    return np.where(np.isfinite(propensity), propensity, 1.0).astype(np.float64)


def total(values: Doubles, pairs: Pairs) -> Doubles:
    """(n,) sums of values (P,) over each contact's pairs."""
    return np.bincount(pairs.row, values, len(pairs.contact)).astype(np.float64)


def softmax(score: Doubles, pairs: Pairs) -> Doubles:
    """(P,) softmax of scores (P,) over each contact's pairs."""
    full = np.flatnonzero(np.diff(pairs.offsets) > 0)
    highest = np.zeros(len(pairs.contact))
    highest[full] = np.maximum.reduceat(score, pairs.offsets[full])
    p = np.exp(score - highest[pairs.row])
    found: Doubles = p / total(p, pairs)[pairs.row]
    return found


def conditional_weights(features: Doubles, pairs: Pairs, own: Indices, p: Doubles) -> Doubles:
    """Weights (K,) of features (P, K) by L-BFGS; own (n,) who was chosen, p (n,) with what propensity, 1 where that is
    not known; prior N(0, 1 / `RIDGE`) on weights of features standardised within contacts."""
    from scipy.optimize import minimize

    count = np.diff(pairs.offsets)[pairs.row]
    x = np.column_stack([column - (total(column, pairs)[pairs.row] / count) for column in features.T])
    scale = np.maximum(np.sqrt((x**2).mean(axis=0)), 1e-6)
    x = np.where(scale > 1e-6, x / scale, 0)
    chosen = np.zeros(len(pairs.csa), np.bool_)
    chosen[own] = True

    def loss(theta: Doubles) -> tuple[float, Doubles]:
        pi = softmax(x @ theta, pairs)
        mine = np.clip(pi[own], 1e-12, 1 - 1e-12)
        value = -(p * np.log(mine) + (1 - p) * np.log1p(-mine)).sum()
        # What pulls each score: the propensity at the chosen, the rest of it shared as the others are estimated.
        target = np.where(chosen, p[pairs.row], ((1 - p) / (1 - mine))[pairs.row] * pi)
        return float(value + 0.5 * RIDGE * theta @ theta), x.T @ (pi - target) + RIDGE * theta

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    weights: Doubles = np.where(scale > 1e-6, found.x / scale, 0)
    return weights


def calibration(p: Doubles, own: Indices) -> Doubles:
    """(bands, 2): mean estimate, and share who were chosen, of the pairs (P,) in ten bands of as many."""
    chosen = np.zeros(len(p))
    chosen[own] = 1
    bands = np.array_split(np.argsort(p, kind="stable"), min(BANDS, len(p)))
    return np.array([(p[band].mean(), chosen[band].mean()) for band in bands])
