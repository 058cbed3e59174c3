"""Champion and challenger on the newest window: ranking, outcomes, calibration, and the worst band.

Notable: both rank the same contacts by the router's own code, each with what it knew then, so every difference is
paired by contact, and its bound is of a bootstrap over contacts. The champion has an advantage that is its own: nothing
of the window was its training, nor the challenger's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.baselines_rates import Outcomes
from evaluation.calibration import BINS, properties
from evaluation.ranking import positive_csas, split_log
from evaluation.ranking_judge import Judged, judge
from evaluation.ranking_model import ModelRanker
from evaluation.ranking_outcomes import mean_of_ratio
from loop.gate.rules import Check, GateSpec, Margin, not_worse, unanswered
from twotower.clock import format_time
from twotower.errors import ConfigError
from twotower.metrics import Bootstrap, log_losses
from twotower.tables.log import Log

Doubles = npt.NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True)
class Pair:
    """Both on the same contacts of a log."""

    log: Log
    champion: Judged
    challenger: Judged


def judged(champion: Path, challenger: Path, data: Path, start: int, seed: int = 0) -> Pair:
    """Let both rank the contacts that arrived at `start` (µs UTC) or later. Raises ConfigError where the window is none
    or either has seen part of it, BundleError."""
    log = Log.load(data)
    split = split_log(log, start)
    models = [ModelRanker.load(path, log, name=name) for path, name in ((champion, "champion"), (challenger, "new"))]
    for model in models:
        if model.until > start:
            raise ConfigError(
                f"{model.name}: was made from data up to {format_time(model.until)}, the window begins "
                f"{format_time(start)}; judge on what neither has seen"
            )
    if models[0].rank != models[1].rank:  # what is compared is one meaning of a rank, the challenger's
        models[0].rank = models[1].rank
    positives, outcomes = positive_csas(log), Outcomes(log)
    told = outcomes if outcomes.has_failures else None
    one, other = (judge(model, log, split.test, positives, told, seed) for model in models)
    return Pair(log, one, other)


@dataclass(frozen=True)
class _Told:
    """What one of the two said of the window's m hand-overs, of n contacts."""

    contact: npt.NDArray[np.int64]
    csa: npt.NDArray[np.int64]
    p: Doubles
    outcome: npt.NDArray[np.bool_]
    n: int

    @property
    def loss(self) -> Doubles:
        """(m,) nats."""
        return log_losses(self.p, self.outcome)

    def by_contact(self, values: Doubles | npt.NDArray[np.bool_] | None = None) -> Doubles:
        """Sums (n,) of something of hand-overs (m,), None: how many."""
        return np.bincount(self.contact, values, minlength=self.n).astype(np.float64)


def checks(pair: Pair, spec: GateSpec, seed: int = 0) -> Iterator[Check]:
    """The rules of ranking, outcomes, calibration and bands, of those that are asked."""
    if spec.ranking is not None:
        yield _ranking(pair, spec.ranking, spec.confidence, seed)
    one, other = _told(pair.champion), _told(pair.challenger)
    asked = {"outcomes": spec.outcomes, "calibration": spec.calibration, "bands": spec.bands}
    for rule, margin in asked.items():
        if margin is None:
            continue
        if one is None or other is None:
            yield unanswered(rule, "the window tells no outcomes, or one of the two no probabilities", margin)
        elif rule == "outcomes":
            yield _outcomes(one, other, margin, spec.confidence, seed)
        elif rule == "calibration":
            yield _calibration(one, other, margin, spec.confidence, seed)
        else:
            yield _bands(pair, one, other, margin, spec, seed)


def _told(of: Judged) -> _Told | None:
    said = of.outcomes
    if said is None or said.p is None or said.csa is None or not len(said.p):
        return None
    return _Told(said.contact, said.csa, np.asarray(said.p, np.float64), said.outcome, said.n)


def _bootstrap(n: int, confidence: float, seed: int) -> Bootstrap:
    """Two-sided intervals whose ends are one-sided bounds of the confidence asked for."""
    return Bootstrap(n, seed, DRAWS, 2 * confidence - 1)


def _ranking(pair: Pair, spec: Margin, confidence: float, seed: int) -> Check:
    handled = np.isfinite(pair.challenger.first) | np.isfinite(pair.champion.first)
    one, other = pair.champion.only(handled).reciprocal, pair.challenger.only(handled).reciprocal
    if not len(one):
        return unanswered("ranking", "nobody took and resolved any contact of the window", spec)
    found = _bootstrap(len(one), confidence, seed).difference(one, other)
    return not_worse(
        "ranking", "MRR@10", float(one.mean()), float(other.mean()), found.value, found.high, spec.margin,
        f" on {len(one):,} contacts",
    )  # fmt: skip


def _outcomes(one: _Told, other: _Told, spec: Margin, confidence: float, seed: int) -> Check:
    found = mean_of_ratio(one.by_contact(other.loss - one.loss), one.by_contact(), _bootstrap(one.n, confidence, seed))
    return not_worse(
        "outcomes", "nats a hand-over", float(one.loss.mean()), float(other.loss.mean()), found.value, found.high,
        spec.margin, f" on {len(one.p):,} hand-overs",
    )  # fmt: skip


def _calibration(one: _Told, other: _Told, spec: Margin, confidence: float, seed: int) -> Check:
    """Expected calibration error over ten bins each, resampled by contact; chance raises both alike."""
    count, off = one.by_contact(), [_off(one), _off(other)]

    def errors(weights: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        size = np.maximum(weights @ count, 1e-9)
        each = [np.abs(weights @ one).sum(axis=1) / size for one in off]
        return np.stack([each[0], each[1], each[1] - each[0]], axis=1)

    found = _bootstrap(one.n, confidence, seed).statistic(errors)
    return not_worse("calibration", "ECE", found[0].value, found[1].value, found[2].value, found[2].high, spec.margin)


def _off(told: _Told) -> Doubles:
    """Σ (P − outcome) over each contact's hand-overs, by bin of P (n, BINS)."""
    edges = np.quantile(told.p, np.linspace(0, 1, BINS + 1)[1:-1])
    bin_ = np.searchsorted(edges, told.p, side="right")
    found = np.bincount(told.contact * BINS + bin_, told.p - told.outcome, minlength=told.n * BINS)
    return np.asarray(found.reshape(told.n, BINS), np.float64)


def _bands(pair: Pair, one: _Told, other: _Told, spec: Margin, gate: GateSpec, seed: int) -> Check:
    """The band in which the challenger may be the most worse; the level is shared among all (Bonferroni)."""
    known = properties(pair.log, pair.champion.positions[one.contact], one.csa)
    members = [(f"{kind} {value}", values == value) for kind, values in known.items() for value in np.unique(values)]
    members = [(band, member) for band, member in members if member.sum() >= gate.band_least]
    if not members:
        return unanswered("bands", f"no band has {gate.band_least} hand-overs", spec)
    confidence = 1 - (1 - gate.confidence) / len(members)
    more, found = other.loss - one.loss, []
    for band, member in members:
        count = one.by_contact(member)
        kept = count > 0
        bootstrap = _bootstrap(int(kept.sum()), confidence, seed)
        found.append((mean_of_ratio(one.by_contact(more * member)[kept], count[kept], bootstrap), band, member))
    worse, band, member = max(found, key=lambda of: of[0].high)
    return not_worse(
        "bands", "nats", float(one.loss[member].mean()), float(other.loss[member].mean()), worse.value, worse.high,
        spec.margin, f" for {band}, the worst of {len(members)}",
    )  # fmt: skip
