"""How a contact of a log would have ended with any CSA: by a model that never saw how it did end, or by the truth.

Notable: the model is cross-fitted, as double machine learning does it (Chernozhukov et al., "Double/debiased machine
learning for treatment and structural parameters", The Econometrics Journal 21:C1–C68, 2018): customers are dealt into
folds, and a contact's probabilities come from a fit to the other folds. It is a logistic model with normal priors: of
what the contact is about (queue, language, channel, intent, latent topics of its text), of the CSA, and of CSA × each
of these, with a strength that is chosen inside of each fold's own data. It has nothing in common with a bundle but the
tables, so it favours none. A generated centre's own truth needs no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from evaluation.generate.latents import Latents, sigmoid
from evaluation.simulate.replay_topics import Topics, topics_of
from evaluation.simulate.replay_window import Window
from evaluation.truth import positions
from twotower.clock import DAY, NULL_TIME
from twotower.errors import ConfigError
from twotower.metrics import reliability
from twotower.progress import track

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LATEST = 200_000
"""Hand-overs that are fitted, the latest; older ones tell of other times."""
LEAST = 100
"""Hand-overs with a known outcome that a model takes, and of each outcome a tenth of it."""
SPREADS = (0.15, 0.4, 0.9)
"""Standard deviations, in log-odds, that what a CSA is better at than others is tried with."""
OF_CSA, OF_LABEL, OF_TOPICS = 0.4, 0.5, 0.7
"""Standard deviations of a CSA's mean, and of what a label, and all topics together, do to anybody's."""
TENURE_DAYS = 15.0
BLOCK = 4096


@dataclass(frozen=True)
class Quality:
    """What the model's probabilities are worth for hand-overs of folds that it was not fitted to."""

    handovers: int
    folds: int
    auc: float
    loss: float
    """Mean log loss, nats."""
    mean_loss: float
    """Of saying the same of all."""
    error: float
    """Expected calibration error over ten bins."""
    slope: float
    """Of outcomes on log-odds; 1 is calibrated, below it probabilities are too extreme."""

    def line(self) -> str:
        """In words."""
        return (
            f"outcomes: cross-fitted to {self.handovers:,} hand-overs in {self.folds} folds; held out AUC "
            f"{self.auc:.3f}, log loss {self.loss:.4f} ({self.mean_loss:.4f} of the mean), calibration error "
            f"{self.error:.3f}, slope {self.slope:.2f}"
        )


def true_logits(folder: str | Path, window: Window, csa: Longs) -> Singles:
    """Log-odds (N, J) of a generated centre's own truth for CSAs (J,) of the log.

    Raises DataError where `truth.npz` is not there or belongs to another centre.
    """
    path = Path(folder) / "truth.npz"
    latents = Latents.load(path)
    contact = positions(window.log.contacts.ids.take(pa.array(window.rows)), latents.contact_id, f"{folder}: contact")
    who = positions(window.log.csas.ids.take(pa.array(csa)), latents.csa_id, f"{folder}: CSA")
    found = np.empty((len(contact), len(who)), np.float32)
    for start in range(0, len(contact), BLOCK):
        rows = contact[start : start + BLOCK]
        logit = latents.logit(np.repeat(rows, len(who)), np.tile(who, len(rows)))
        found[start : start + BLOCK] = logit.reshape(len(rows), len(who))
    return found


@dataclass(frozen=True)
class _Data:
    """Hand-overs (H,) with a known outcome, and what they are told by."""

    window: Window
    topics: Topics
    contact: Longs
    csa: Longs
    good: Flags
    again: Flags
    """Not its contact's first."""
    tenure: Doubles
    hired: Longs
    """(J,) of the log's CSAs."""
    scale: tuple[float, float]
    """Mean and deviation of the logarithm of tenure."""


def cross_fitted(window: Window, csa: Longs, folds: int = 5, seed: int = 0) -> tuple[Singles, Quality]:
    """Log-odds (N, J) of resolving for the window's contacts and CSAs (J,) of the log, and what they are worth.

    Raises ConfigError where the log tells too few outcomes.
    """
    data = _data(window, seed)
    fold = _folds(window, folds, seed)
    found, held = np.empty((len(window), len(csa)), np.float32), np.empty(len(data.good))
    for one in track(range(folds), "outcomes", folds):
        rest = np.flatnonzero(fold[data.contact] != one)
        fit = _chosen(data, rest, seed)
        own = np.flatnonzero(fold[data.contact] == one)
        held[own] = fit.of(data, own)
        mine = np.flatnonzero(fold[window.rows] == one)
        for start in range(0, len(mine), BLOCK):
            part = mine[start : start + BLOCK]
            found[part] = fit.across(data, window.rows[part], csa)
    return found, _quality(held, data.good, folds)


def _data(window: Window, seed: int) -> _Data:
    moves, log = window.log.handovers, window.log
    told = np.flatnonzero(moves.resolved >= 0)[-LATEST:]
    good = moves.resolved[told] == 1
    if len(told) < LEAST or min(good.sum(), (~good).sum()) < LEAST // 10:
        raise ConfigError(
            f"centre.outcomes: {len(told)} hand-overs with a known outcome, {int(good.sum())} of them resolved; a "
            f"cross-fitted model takes {LEAST}, of each kind {LEAST // 10}"
        )
    contact, csa = moves.contact[told].astype(np.int64), moves.csa[told].astype(np.int64)
    first = np.full(len(log.contacts), np.iinfo(np.int64).max)
    np.minimum.at(first, moves.contact, moves.assigned_at)
    hired = np.full(len(log.csas), NULL_TIME)
    hired[log.csas.csa] = log.csas.hired_at
    topics = topics_of(window, np.union1d(contact, window.rows), seed)
    log_tenure = _tenure(log.contacts.arrived_at[contact], hired[csa])
    known = log_tenure[~np.isnan(log_tenure)]
    scale = (float(known.mean()), float(known.std()) or 1.0) if len(known) else (0.0, 1.0)
    tenure = np.nan_to_num((log_tenure - scale[0]) / scale[1])
    return _Data(window, topics, contact, csa, good, moves.assigned_at[told] > first[contact], tenure, hired, scale)


def _tenure(arrived: Longs, hired: Longs) -> Doubles:
    """Logarithm of days since somebody was hired; NaN where nobody wrote that down."""
    days = np.where(hired == NULL_TIME, np.nan, (arrived - np.where(hired == NULL_TIME, 0, hired)) / DAY)
    return np.asarray(np.log1p(np.maximum(days, 0) / TENURE_DAYS))


def _folds(window: Window, folds: int, seed: int) -> Longs:
    """(contacts of the log,) by customer, so that nobody is judged by what came of their own other contacts."""
    customer = window.log.contacts.customer.astype(np.int64)
    alone = customer < 0
    customer[alone] = customer.max(initial=-1) + 1 + np.arange(alone.sum())
    random = np.random.default_rng((seed, 81))
    return np.asarray(random.permutation(int(customer.max()) + 1)[customer] % folds)


@dataclass(frozen=True)
class _Fit:
    """Weights of a fit: of all (p + 2,) with tenure and `again` last, of CSAs (J, p), and the intercept."""

    everyone: Doubles
    own: Doubles
    intercept: float

    def of(self, data: _Data, rows: Longs) -> Doubles:
        """Log-odds (n,) of hand-overs that happened."""
        z = data.topics.of(data.contact[rows])
        other = np.stack([data.tenure[rows], data.again[rows]], axis=1) @ self.everyone[-2:]
        mixed = (z * self.own[data.csa[rows]]).sum(axis=1)
        return np.asarray(z @ self.everyone[:-2] + other + mixed + self.intercept)

    def across(self, data: _Data, contact: Longs, csa: Longs) -> Singles:
        """Log-odds (n, J) of contacts' first hand-overs, to anybody."""
        z = data.topics.of(contact)
        arrived = data.window.log.contacts.arrived_at[contact]
        tenure = _tenure(arrived[:, None], data.hired[csa][None, :])
        tenure = np.nan_to_num((tenure - data.scale[0]) / data.scale[1]) * self.everyone[-2]
        logit = (z @ self.everyone[:-2] + self.intercept)[:, None] + z @ self.own[csa].T + tenure
        return np.asarray(logit, np.float32)


def _chosen(data: _Data, rows: Longs, seed: int) -> _Fit:
    """A fit to some hand-overs, with the spread by which a fit to four fifths of their contacts tells the rest best."""
    groups = np.random.default_rng((seed, 82)).permutation(int(data.contact.max()) + 1)
    inner = groups[data.contact[rows]] % 5 == 0
    best, least = SPREADS[0], np.inf
    for spread in SPREADS:
        logit = _fit(data, rows[~inner], spread).of(data, rows[inner])
        loss = _loss(logit, data.good[rows[inner]])
        if loss < least:
            best, least = spread, loss
    return _fit(data, rows, best)


def _fit(data: _Data, rows: Longs, spread: float) -> _Fit:
    """Penalised maximum likelihood; a column's scale is its weight's prior deviation."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    topics, size, good = data.topics, len(data.window.log.csas), data.good[rows]
    if not len(good) or good.all() or not good.any():  # as likely as a share of one more of each kind
        share = (good.sum() + 1) / (len(good) + 2)
        return _Fit(np.zeros(topics.size + 2), np.zeros((size, topics.size)), float(np.log(share / (1 - share))))
    z = topics.of(data.contact[rows])
    wide = np.full(topics.size, OF_LABEL)
    wide[topics.size - topics.text :] = OF_TOPICS / np.sqrt(max(1, topics.text))
    deep = np.full(topics.size, spread / 2)
    deep[0], deep[topics.size - topics.text :] = OF_CSA, spread / np.sqrt(max(1, topics.text))
    place = data.csa[rows, None] * topics.size + np.arange(topics.size)
    start = np.arange(len(rows) + 1) * topics.size
    of_csas = sparse.csr_matrix(((z * deep).ravel(), place.ravel(), start), (len(rows), size * topics.size))
    of_csas.eliminate_zeros()
    others = np.stack([data.tenure[rows], data.again[rows]], axis=1)
    design = sparse.hstack([sparse.csr_matrix(np.concatenate([z * wide, others], axis=1)), of_csas], format="csr")
    model: Any = LogisticRegression(C=1.0, max_iter=100, tol=1e-3).fit(design, good)
    weights = model.coef_[0]
    own = weights[topics.size + 2 :].reshape(size, topics.size) * deep
    everyone = weights[: topics.size + 2] * np.concatenate([wide, [1.0, 1.0]])
    return _Fit(everyone, own, float(model.intercept_[0]))


def _loss(logit: Doubles, good: Flags) -> float:
    return float(np.logaddexp(0, np.where(good, -logit, logit)).mean())


def _quality(logit: Doubles, good: Flags, folds: int) -> Quality:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    rate = float(good.mean())
    slope: Any = LogisticRegression(C=1e6).fit(logit[:, None], good)
    bins = reliability(sigmoid(logit), good.astype(np.float64))
    mean_loss = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    return Quality(
        len(good), folds, float(roc_auc_score(good, logit)), _loss(logit, good), float(mean_loss), float(bins.error),
        float(slope.coef_[0, 0]),
    )  # fmt: skip
