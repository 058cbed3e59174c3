"""The judge: what a hand-over to any CSA is expected to bring, by a model that never saw how this one ended.

    q̂(x, a) = level(x) + tenure(x, a) + h(x)·θ_a,    θ_a ~ N(0, S)

Notable: the judge is never the policy. It has nothing in common with a bundle but the tables: contacts are known by
labels and by latent topics of hashed words, CSAs by what came of their hand-overs, and all of it is linear with normal
priors, so a fit is a few systems of equations, for any outcome, in seconds. h are the contact's leading components; a
CSA has a mean of their own and a part for each component, shrunk to 0 (empirical Bayes: the prior's width is the one
by which a fit to four fifths tells the last fifth best). Every expectation comes from a fit to other folds
(folds.py), which is what doubly robust estimates need (Chernozhukov et al., "Double/debiased machine learning for
treatment and structural parameters", 2018). Probabilities come from a linear model and are clipped: an estimate that
is doubly robust needs a good q̂ and no perfect one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.ope.folds import By, folds_of
from evaluation.ope.logged import METRICS, Logged
from evaluation.ope.rounds import Floats, Ints
from evaluation.simulate.replay_topics import Topics, topics_of
from evaluation.simulate.replay_window import window_of
from twotower.clock import DAY, NULL_TIME
from twotower.metrics import auc
from twotower.progress import track
from twotower.tables.log import Log

LATEST = 200_000
"""Hand-overs that are fitted, the latest; older ones tell of other times."""
LEAST = 100
"""Hand-overs with a known outcome that a model takes."""
COMPONENTS = 64
SPREADS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Widths, in standard deviations of the outcome, that what a CSA is better at than others is tried with."""
OF_CSA, OF_LABEL, OF_TOPICS = 0.2, 0.15, 0.25
"""Prior deviations of a CSA's mean, and of what a label, and all topics together, do to anybody's."""
TENURE_DAYS = 15.0
SWEEPS = 4
CELLS = 1 << 22
"""Pairs × components held at once."""


@dataclass(frozen=True)
class Quality:
    """What the judge's expectations are worth for hand-overs of folds that it did not see."""

    metric: str
    handovers: int
    folds: int
    by: str
    explained: float
    """1 − mean squared error / variance."""
    slope: float
    """Of outcomes on expectations; 1 is calibrated, below it they are too extreme."""
    auc: float
    """NaN where the outcome is not one of two."""

    def line(self) -> str:
        """In words."""
        order = "" if self.auc != self.auc else f", AUC {self.auc:.3f}"
        return (
            f"judge of {self.metric}: cross-fitted to {self.handovers:,} hand-overs in {self.folds} folds by "
            f"{self.by}, no policy's own model; held out it explains {self.explained:.1%} of the variance, slope "
            f"{self.slope:.2f}{order}"
        )


@dataclass(frozen=True)
class Judged:
    """`expected` (P,) q̂ of everybody who could have been chosen, and what it is worth."""

    expected: Floats
    quality: Quality


@dataclass(frozen=True)
class Features:
    """What contacts are like, for all metrics: of contacts that were read (`row`, −1: not), columns `wide` scaled by
    their priors, and `own`, 1 and the leading components."""

    row: Ints
    wide: Floats
    own: Floats
    hired: Ints
    """(J,)"""
    fold: Ints
    by: By

    @classmethod
    def of(cls, logged: Logged, folds: int = 5, by: By = "customer", seed: int = 0) -> Features:
        """Of the rounds' contacts and of the latest with a hand-over. No outcome is looked at."""
        log, window = logged.log, window_of(logged.log, logged.begin, logged.end)
        latest = np.unique(log.handovers.contact[-LATEST:]).astype(np.int64)
        contact = np.union1d(latest, logged.contact)
        wide = _scaled(topics_of(window, contact, seed), contact)
        row = np.full(len(log.contacts), -1, np.int64)
        row[contact] = np.arange(len(contact))
        hired = np.full(len(log.csas), NULL_TIME)
        hired[log.csas.csa] = log.csas.hired_at
        own = np.concatenate([np.ones((len(wide), 1)), wide[:, 1:] @ _components(wide[:, 1:])], axis=1)
        return cls(row, wide, own, hired, folds_of(log, folds, by, seed), by)


def judged(logged: Logged, features: Features, metric: str, seed: int = 0) -> Judged | None:
    """q̂ of one outcome for all pairs of the rounds; None where fewer than `LEAST` hand-overs tell it."""
    data = _data(logged.log, features, metric)
    if len(data.value) < LEAST:
        return None
    folds = int(features.fold.max()) + 1
    held = np.empty(len(data.value))
    expected = np.empty(len(logged.pairs.csa))
    fold_of_pair = features.fold[logged.contact][logged.pairs.row]
    low, high = METRICS[metric].low, METRICS[metric].high
    for one in track(range(folds), f"judge of {metric}", folds):
        mine = features.fold[data.contact] == one
        fit = _chosen(data, np.flatnonzero(~mine), seed)
        held[mine] = fit.of(data, np.flatnonzero(mine))
        pairs = np.flatnonzero(fold_of_pair == one)
        expected[pairs] = fit.across(features, logged, pairs)
    return Judged(np.clip(expected, low, high), _quality(metric, data, np.clip(held, low, high), folds, features.by))


def _quality(metric: str, data: _Data, held: Floats, folds: int, by: str) -> Quality:
    value = data.value
    two = bool(np.isin(value, (0.0, 1.0)).all())
    explained = 1 - float(((value - held) ** 2).mean() / max(float(value.var()), 1e-12))
    order = auc(held, value > 0.5) if two else float("nan")
    return Quality(metric, len(value), folds, by, explained, _slope(held, value), order)


@dataclass(frozen=True)
class _Data:
    """Hand-overs (H,) with a known outcome, and what they are told by."""

    contact: Ints
    csa: Ints
    value: Floats
    wide: Floats
    """(H, p) with tenure, and whether it is not the contact's first, as the last two."""
    own: Floats
    csas: int


def _data(log: Log, features: Features, metric: str) -> _Data:
    moves = log.handovers
    column = getattr(moves, metric)
    told = np.flatnonzero(column >= 0) if column.dtype == np.int8 else np.flatnonzero(np.isfinite(column))
    told = told[-LATEST:]
    told = told[features.row[moves.contact[told]] >= 0]
    contact, csa = moves.contact[told].astype(np.int64), moves.csa[told].astype(np.int64)
    first = np.full(len(log.contacts), np.iinfo(np.int64).max)
    np.minimum.at(first, moves.contact, moves.assigned_at)
    again = (moves.assigned_at[told] > first[contact]).astype(np.float64)
    tenure = _tenure(log.contacts.arrived_at[contact], features.hired[csa])
    row = features.row[contact]
    wide = np.concatenate([features.wide[row], np.stack([tenure, again], axis=1)], axis=1)
    return _Data(contact, csa, column[told].astype(np.float64), wide, features.own[row], len(log.csas))


def _tenure(arrived: Ints, hired: Ints) -> Floats:
    """Logarithm of days since somebody was hired, about a year's; 0 where nobody wrote that down."""
    days = np.where(hired == NULL_TIME, 365.0, (arrived - np.where(hired == NULL_TIME, arrived, hired)) / DAY)
    return np.asarray(np.log1p(np.maximum(days, 0) / TENURE_DAYS) - np.log1p(365 / TENURE_DAYS))


def _scaled(topics: Topics, contact: Ints) -> Floats:
    """(n, p) the columns of contacts, 1 first, each times its prior deviation; centred but for the first."""
    columns = topics.of(contact)
    scale = np.full(topics.size, OF_LABEL)
    scale[topics.size - topics.text :] = OF_TOPICS / np.sqrt(max(1, topics.text))
    wide: Floats = columns * scale
    wide[:, 1:] -= wide[:, 1:].mean(axis=0)
    wide[:, 0] = 1.0
    return wide


def _components(wide: Floats) -> Floats:
    """(p, k) directions of the largest variance of columns (n, p)."""
    if not wide.shape[1]:
        return np.zeros((0, 0))
    values, vectors = np.linalg.eigh(wide.T @ wide / len(wide))
    kept = np.argsort(-values, kind="stable")[:COMPONENTS]
    return np.asarray(vectors[:, kept[values[kept] > 1e-10]])


@dataclass(frozen=True)
class _Fit:
    """Weights: of everyone (p + 2,), of CSAs (J, k), in the outcome's units about `mean`."""

    everyone: Floats
    own: Floats
    mean: float

    def of(self, data: _Data, rows: Ints) -> Floats:
        """(n,) of hand-overs that happened."""
        mixed = np.einsum("nk,nk->n", data.own[rows], self.own[data.csa[rows]])
        return np.asarray(self.mean + data.wide[rows] @ self.everyone + mixed)

    def across(self, features: Features, logged: Logged, pairs: Ints) -> Floats:
        """(p,) of pairs of the rounds, as first hand-overs."""
        row, csa = logged.pairs.row[pairs], logged.pairs.csa[pairs]
        contact = logged.contact[row]
        read = features.row[contact]
        level = features.wide @ self.everyone[:-2]
        found = self.mean + level[read]
        found += self.everyone[-2] * _tenure(logged.log.contacts.arrived_at[contact], features.hired[csa])
        step = max(1, CELLS // self.own.shape[1])
        for start in range(0, len(pairs), step):
            part = slice(start, start + step)
            found[part] += np.einsum("nk,nk->n", features.own[read[part]], self.own[csa[part]])
        return np.asarray(found)


def _chosen(data: _Data, rows: Ints, seed: int) -> _Fit:
    """A fit to some hand-overs, with the width of the prior by which a fit to four fifths of their contacts tells the
    rest best, drawn towards the mean by the slope of the outcomes on what that fit said of the rest."""
    groups = np.random.default_rng((seed, 82)).permutation(int(data.contact.max()) + 1)
    inner = groups[data.contact[rows]] % 5 == 0
    value, part = data.value[rows[inner]], _Rows.of(data, rows[~inner])
    best, least, slope = SPREADS[0], np.inf, 1.0
    for spread in SPREADS if inner.any() else ():
        said = part.fit(spread).of(data, rows[inner])
        loss = float(((said - value) ** 2).mean())
        if loss < least:
            best, least, slope = spread, loss, _slope(said, value)
    fit = _Rows.of(data, rows).fit(best)
    slope = min(max(slope, 0.0), 1.0)
    return _Fit(fit.everyone * slope, fit.own * slope, fit.mean)


def _slope(said: Floats, value: Floats) -> float:
    """Of outcomes on expectations; 1 where these are all alike."""
    spread = float(said.var())
    return float(((said - said.mean()) * (value - value.mean())).mean() / spread) if spread > 1e-12 else 1.0


@dataclass(frozen=True)
class _Rows:
    """Some hand-overs and what all fits to them share: outcomes about their mean, in their deviations, products of
    columns, and each CSA's part: who, which rows, their columns and the products of these."""

    mean: float
    scale: float
    y: Floats
    wide: Floats
    gram: Floats
    csas: int
    parts: tuple[tuple[int, Ints, Floats, Floats], ...]

    @classmethod
    def of(cls, data: _Data, rows: Ints) -> _Rows:
        """Of hand-overs at `rows`."""
        value, wide = data.value[rows], data.wide[rows]
        mean, scale = float(value.mean()), float(value.std()) or 1.0
        order = np.argsort(data.csa[rows], kind="stable")
        parts = []
        for at in np.split(order, np.flatnonzero(np.diff(data.csa[rows][order])) + 1):
            h = data.own[rows[at]]
            parts.append((int(data.csa[rows[at[0]]]), at, h, h.T @ h))
        gram = wide.T @ wide + np.eye(wide.shape[1])
        return cls(mean, scale, (value - mean) / scale, wide, gram, data.csas, tuple(parts))

    def fit(self, spread: float) -> _Fit:
        """The most likely weights under the priors: everyone's and the CSAs' in turn, each given the other."""
        k = self.parts[0][2].shape[1]
        prior = np.full(k, spread)
        prior[0] = OF_CSA
        used = np.flatnonzero(prior > 0)
        scaled = [(csa, at, h[:, used] * prior[used], _inverse(g, prior, used)) for csa, at, h, g in self.parts]
        everyone: Floats = np.zeros(self.wide.shape[1])
        own, mixed = np.zeros((self.csas, k)), np.zeros(len(self.y))
        for _ in range(SWEEPS):
            everyone = np.asarray(np.linalg.solve(self.gram, self.wide.T @ (self.y - mixed)), np.float64)
            left = self.y - self.wide @ everyone
            for csa, at, h, inverse in scaled:
                weights = inverse @ (h.T @ left[at])
                own[csa, used], mixed[at] = weights * prior[used], h @ weights
        return _Fit(everyone * self.scale, own * self.scale, self.mean)


def _inverse(products: Floats, prior: Floats, used: Ints) -> Floats:
    """(HᵀH + 1)⁻¹ of columns times their priors."""
    part = products[np.ix_(used, used)] * np.outer(prior[used], prior[used])
    return np.asarray(np.linalg.inv(part + np.eye(len(used))), np.float64)
