"""One evaluation: a log, a test in it, the model, its peers and the baselines, all judged on the same contacts.

Notable: what the model is held against is chosen before the test is looked at, by the validation contacts: the best
ranking baseline by MRR@10 and the best rate by log loss. Every difference is paired by contact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.baselines import FAMILIES as BASELINES
from evaluation.baselines import Blend, best, tune
from evaluation.baselines_history import History
from evaluation.baselines_rates import FAMILIES as RATES
from evaluation.baselines_rates import Outcomes, RateBaseline, best_rate, tune_rates
from evaluation.calibration import Band, bands, properties
from evaluation.ranking import Positions, Ranker, Split, positive_csas, split_log, tried_csas
from evaluation.ranking_judge import Judged, judge
from evaluation.ranking_model import ModelRanker
from evaluation.ranking_outcomes import Judgement, mean_of_ratio
from evaluation.ranking_truth import TruthReport, judge_by_truth
from evaluation.residuals import LEAST, Residual, in_words, residuals
from evaluation.residuals_slices import csa_slices, slices
from twotower.clock import format_time
from twotower.errors import ConfigError
from twotower.metrics import Bootstrap, Interval, Reliability
from twotower.scoring.join import Rank
from twotower.tables.log import Log


@dataclass(frozen=True)
class Evaluation:
    """What was measured. `metrics`, `ahead` and `outcomes` go by the ranker's name, `model` first."""

    model: str
    rank: str
    start: str
    """Arrival of the first test contact."""
    contacts: int
    """Test contacts that were ranked: somebody took them and, as far as is known, resolved them."""
    without: int
    """The other test contacts, left out of the ranking."""
    csas: int
    metrics: dict[str, dict[str, Interval]]
    ahead: dict[str, Interval]
    """Model − the other, MRR@10, paired."""
    best: str
    """The ranking baseline with the best validation MRR@10."""
    chosen: dict[str, dict[str, Any]]
    """What tuning chose for each baseline."""
    outcomes: dict[str, dict[str, Interval | float]] = field(default_factory=dict)
    """Empty where the log tells no failures."""
    handovers: int = 0
    """Hand-overs of test contacts with a known outcome, to candidates."""
    outside: int = 0
    """Such hand-overs to somebody who was no candidate, left out."""
    best_rate: str | None = None
    less_loss: Interval | None = None
    """Log loss of the best rate − that of the model, paired; above 0 the model is better."""
    reliability: Reliability | None = None
    calibration: list[Band] = field(default_factory=list)
    """Calibration of the model's P(resolved), overall and by queue, language and tenure."""
    truth: TruthReport | None = None
    measure: str = "MRR@10"
    """What the slices are judged by; `likelihood` for success: what the model's P gave to the outcomes that came."""
    slices: list[Residual] = field(default_factory=list)
    csa_slices: list[Residual] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def evaluate(
    bundle: str | Path,
    data: str | Path,
    start: int | None = None,
    rank: Rank | None = None,
    peers: Sequence[str | Path] = (),
    seed: int = 0,
    digest: str | None = None,
) -> Evaluation:
    """Judge a bundle on a data set, beside rolling baselines computed here.

    Args:
        bundle: folder of the bundle.
        data: folder of the tables; with `truth.parquet` in it, what was captured of the oracle's uplift as well.
        start: µs UTC; contacts that arrived then or later are the test. None: the last tenth of contacts.
        rank: what a rank means; None: the bundle's default.
        peers: further bundles to put beside the first.
        seed: of the bootstrap and of the lots between ties.
        digest: that the bundle must have; peers are not asked for theirs.

    Raises:
        TwoTowerError: the tables or a bundle cannot be read, or `start` leaves nothing to test.
    """
    log = Log.load(data)
    split = split_log(log, start)
    names = _names([bundle, *peers])
    asked = zip([bundle, *peers], names, [digest, *(None for _ in peers)], strict=True)
    models = [ModelRanker.load(path, log, rank, name, wanted) for path, name, wanted in asked]
    truth = Path(data) if (Path(data) / "truth.parquet").is_file() else None
    begins = int(log.contacts.arrived_at[split.start])
    warnings = [
        f"{model.name} was made from data up to {format_time(model.until)}, the test begins {format_time(begins)}: "
        "it has seen part of the test, so its figures flatter it"
        for model in models
        if model.until > begins
    ]
    return evaluate_rankers(log, split, models, models[0].rank, truth, seed, warnings)


def evaluate_rankers(
    log: Log,
    split: Split,
    models: Sequence[Ranker],
    rank: str = "handled",
    truth: Path | None = None,
    seed: int = 0,
    warnings: Sequence[str] = (),
) -> Evaluation:
    """Judge rankers, the first being the model, beside the baselines; `truth` is the folder of a generated centre."""
    positives, outcomes = positive_csas(log), Outcomes(log)
    history = History(log, split.start)
    baselines = tune(history, split)
    rates = tune_rates(outcomes, split) if outcomes.has_failures else []
    told = outcomes if rates else None
    tuned: list[Blend | RateBaseline] = [*baselines, *rates]
    everything: list[Ranker] = [*models, *tuned]
    judged = [judge(ranker, log, split.test, positives, told, seed) for ranker in everything]
    handled = positives.lengths[split.test] > 0
    if not handled.any():
        raise ConfigError("nobody took and resolved any of the test contacts; choose an earlier --from")
    ranked = {one.name: one.only(handled) for one in judged}
    bootstrap = Bootstrap(int(handled.sum()), seed)
    rival = best(baselines)
    model = ranked[models[0].name]
    by_outcome = rank == "success" and model.outcomes is not None and model.outcomes.p is not None
    against = best_rate(rates).name if by_outcome else rival.name
    missed = _residuals(log, split.test[handled], model, ranked[against], by_outcome, seed)
    return Evaluation(
        model=model.name,
        rank=rank,
        start=format_time(int(log.contacts.arrived_at[split.start])),
        contacts=int(handled.sum()),
        without=int((~handled).sum()),
        csas=len(log.csas),
        metrics={name: one.metrics(bootstrap) for name, one in ranked.items()},
        ahead={
            name: bootstrap.difference(model.reciprocal, one.reciprocal)
            for name, one in ranked.items()
            if name != model.name
        },
        best=rival.name,
        chosen={one.name: one.as_json() for one in tuned},
        truth=None if truth is None else judge_by_truth(truth, log, judged, seed),
        **missed,
        warnings=[*warnings, *_notes(history, baselines, rank)],
        **_outcomes(log, judged, rates, len(split.test), seed),
    )


def _residuals(
    log: Log, handled: Positions, model: Judged, rival: Judged, by_outcome: bool, seed: int
) -> dict[str, Any]:
    """The residual part of an `Evaluation`: slices by what the contacts are, and by who handled them.

    Ranks are judged on the contacts somebody `handled`; outcomes on those with a known one.
    """
    if by_outcome and model.outcomes is not None and rival.outcomes is not None:
        known = model.outcomes.counts > 0
        positions, who, measure = model.outcomes.positions[known], tried_csas(log), "likelihood"
        reached, others = model.outcomes.likelihood[known], rival.outcomes.likelihood[known]
    else:
        positions, who, measure = handled, positive_csas(log), "MRR@10"
        reached, others = model.reciprocal, rival.reciprocal
    bootstrap = Bootstrap(len(positions), seed)
    of_contacts = residuals(reached, slices(log, positions, who), bootstrap, others)
    of_csas = residuals(reached, csa_slices(log, positions, who, LEAST), bootstrap, others)
    worst_first = sorted(of_contacts + of_csas, key=lambda residual: -residual.excess)
    words = in_words(worst_first, measure)
    return {"measure": measure, "slices": of_contacts, "csa_slices": of_csas, "words": words}


def _outcomes(log: Log, judged: Sequence[Judged], rates: Sequence[RateBaseline], n: int, seed: int) -> dict[str, Any]:
    """The outcome part of an `Evaluation`; nothing where the log tells no failures."""
    said = {one.name: one.outcomes for one in judged if one.outcomes is not None}
    model = judged[0].outcomes
    if not rates or model is None:
        return {}
    bootstrap = Bootstrap(n, seed)
    rival = best_rate(rates).name
    calibrated = model.p is not None
    less = mean_of_ratio(said[rival].losses - model.losses, model.counts, bootstrap) if calibrated else None
    return {
        "outcomes": {name: one.metrics(bootstrap) for name, one in said.items()},
        "handovers": len(model.contact),
        "outside": model.outside,
        "best_rate": rival,
        "less_loss": less,
        "reliability": model.reliability if calibrated else None,
        "calibration": _calibration(log, model),
    }


def _calibration(log: Log, model: Judgement) -> list[Band]:
    if model.p is None or model.csa is None or not len(model.p):
        return []
    own = properties(log, model.positions[model.contact], model.csa)
    return bands(model.p.astype(np.float64), model.outcome.astype(np.float64), own)


def _notes(history: History, baselines: Sequence[Blend], rank: str) -> list[str]:
    notes = []
    if rank == "success":
        notes.append(
            "who handled a contact was whoever assigned it, not who would have done best: hits and MRR tell how near "
            "the ranking comes to past assignments, the outcomes tell how good it is"
        )
    if len(history) > history.pool:
        notes.append(f"TF-IDF neighbours are sought among the latest {history.pool:,} hand-overs known at each arrival")
    if any(np.isnan(baseline.validation) for baseline in baselines):
        notes.append("nobody took and resolved a contact just before the test: the baselines are not tuned")
    return notes


def _names(paths: Sequence[str | Path]) -> list[str]:
    """The folders' names, told apart by number where they are alike or like a baseline's."""
    names: list[str] = []
    for path in paths:
        name = Path(path).resolve().name
        taken = {*names, *BASELINES, *RATES}
        names.append(name if name not in taken else f"{name} ({len(names) + 1})")
    return names
