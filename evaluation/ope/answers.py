"""Answers of one metric, for all policies: gates first, then estimates over the same rounds and draws.

Notable: of what is refused no estimate leaves this module, so none is to be found in any report. Each estimator has to
pass by the weights that it uses itself, and the answer by those of the estimator that was asked for: MIPS may be
withheld where DR answers, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.ope.estimators import TITLES, Estimator, Mean, SwitchDR, Terms, estimators
from evaluation.ope.found import Answer, Logging
from evaluation.ope.intervals import Clusters, estimates, influence, standard_error
from evaluation.ope.logged import METRICS
from evaluation.ope.marginal import Marginal, chosen_marginal
from evaluation.ope.outcome import LEAST, Judged
from evaluation.ope.overlap import Overlap, Z, overlap, refusals
from evaluation.ope.rounds import Floats, Ints, Rounds
from evaluation.ope.sensitivity import Sensitivity, sensitivity
from evaluation.ope.setting import Asked, Setting
from twotower.errors import DataError

JUDGED = ("dm", "dr", "switch-dr")
"""Estimators that need the judge."""
UNLIKE = 0.02
"""Difference of the share of rewards that are known, between the log and what the policy would see, that is told."""


def answers_of(
    setting: Setting, asked: Sequence[Asked], metric: str, judge: Judged | None, groups: Sequence[Ints]
) -> tuple[list[Answer], Logging]:
    """One answer for each policy, and what the log's own earned. Raises DataError where no reward is known."""
    spec, reward = setting.spec, setting.logged.reward(metric)
    known = np.flatnonzero(np.isfinite(reward))
    if not len(known):
        raise DataError(
            f"interactions.parquet, column {metric}: null in all {len(reward):,} hand-overs of the window; ask for a "
            "metric that the log tells, or a window in which it does"
        )
    mine = [_Mine.of(setting, one, metric, reward, judge, groups) for one in asked]
    terms: list[Terms] = [Mean().terms(mine[0].rounds)]
    owner: list[tuple[int, str]] = [(-1, "")]
    for i, one in enumerate(mine):
        for name, estimator in one.allowed.items():
            owner.append((i, name))
            terms.append(estimator.terms(one.rounds))
    asked_for = [k for k, (_, name) in enumerate(owner) if name == spec.estimator]
    pairs = [(k, 0) for k in range(1, len(terms))] + [(k, asked_for[0]) for k in asked_for[1:]]
    values, less = estimates(terms, pairs, mine[0].rounds.cluster, spec.confidence, spec.draws, spec.seed)
    ahead = {owner[k][0]: one for k, one in zip(asked_for[1:], less[len(terms) - 1 :], strict=True)}
    found = []
    for i, one in enumerate(mine):
        own = {name: k for k, (j, name) in enumerate(owner) if j == i}
        found.append(
            replace(
                one.answer,
                estimates={name: values[k] for name, k in own.items()},
                less_logged={name: less[k - 1] for name, k in own.items()},
                less_first=ahead.get(i),
            )
        )
    return found, Logging(values[0], len(known))


@dataclass(frozen=True)
class _Mine:
    """One policy and one metric before anything is estimated."""

    rounds: Rounds
    allowed: Mapping[str, Estimator]
    answer: Answer

    @classmethod
    def of(
        cls,
        setting: Setting,
        asked: Asked,
        metric: str,
        reward: Floats,
        judge: Judged | None,
        groups: Sequence[Ints],
    ) -> _Mine:
        """Gates, and the estimators that pass them."""
        marginal = _marginal(setting, asked, reward, groups)
        rounds = rounds_of(setting, asked, reward, judge, marginal)
        seen = overlap(rounds.weight, rounds.cluster, asked.unsupported)
        coarse = None if marginal is None else _coarse(rounds, marginal)
        made = estimators(rounds, _reach(metric, rounds.reward))
        why = _blocked(setting, asked, metric, made, seen, coarse)
        refused = why.get(setting.spec.estimator, ())
        allowed = {} if refused else {name: one for name, one in made.items() if name not in why}
        switch = allowed.get("switch-dr")
        answer = Answer(
            policy=asked.target.name,
            metric=metric,
            refused=tuple(refused),
            overlap=seen,
            withheld={name: reasons[0] for name, reasons in why.items()},
            threshold=switch.threshold if isinstance(switch, SwitchDR) else None,
            groups=(marginal.groups, marginal.csas) if marginal is not None and "mips" in allowed else None,
            marginal=coarse,
            notes=() if refused else tuple(_notes(setting, asked, metric, reward)),
        )
        if setting.estimated and allowed and setting.spec.estimator != "mips":
            answer = replace(answer, sensitivity=_bounded(setting, rounds))
        return cls(rounds, allowed, answer)


def rounds_of(
    setting: Setting, asked: Asked, reward: Floats, judge: Judged | None, marginal: Marginal | None
) -> Rounds:
    """The rounds whose reward is known, for one policy."""
    pairs, known = setting.logged.pairs, np.flatnonzero(np.isfinite(reward))
    return Rounds(
        reward=reward[known],
        propensity=setting.propensity[known],
        target=np.clip(asked.probability[pairs.own][known], 0.0, 1.0),
        q_logged=None if judge is None else judge.expected[pairs.own][known],
        q_target=None if judge is None else pairs.total(asked.probability * judge.expected)[known],
        marginal=None if marginal is None else marginal.weight[known],
        cluster=None if setting.cluster is None else setting.cluster[known],
    )


def _marginal(setting: Setting, asked: Asked, reward: Floats, groups: Sequence[Ints]) -> Marginal | None:
    if setting.chances is None or not groups:
        return None
    return chosen_marginal(
        setting.logged.pairs, asked.probability, setting.chances, groups, reward, setting.cluster,
        setting.gates.least_propensity,
    )  # fmt: skip


def _coarse(rounds: Rounds, marginal: Marginal) -> Overlap | None:
    """What the weights of groups are like."""
    return None if rounds.marginal is None else overlap(rounds.marginal, rounds.cluster, marginal.unsupported)


def _reach(metric: str, reward: Floats) -> float:
    """How far a judge can be off at most: the range of the metric, or of what was seen where it has none."""
    low, high = METRICS[metric].low, METRICS[metric].high
    return float(high - low) if np.isfinite(high) else float(reward.max() - reward.min())


def _blocked(
    setting: Setting,
    asked: Asked,
    metric: str,
    made: Mapping[str, Estimator],
    seen: Overlap,
    coarse: Overlap | None,
) -> dict[str, list[str]]:
    """Why an estimator does not answer; those that do are not in it."""
    why = [*refusals(seen, setting.gates), *asked.why]
    found = {name: why for name in made if name != "mips" and why}
    if coarse is not None and (of_groups := [*refusals(coarse, setting.gates), *setting.why]):
        found["mips"] = of_groups
    for name in TITLES:
        if name in made:
            continue
        if name in JUDGED:
            found[name] = [f"fewer than {LEAST} hand-overs tell {metric}, too few for a model of it; ask for SNIPS"]
        else:
            found[name] = [
                "needs a bundle, whose vectors group CSAs, and the chances of everybody who could have been chosen, "
                "logged (decisions.parquet) or estimated from lists of who was eligible"
            ]
    return found


def _bounded(setting: Setting, rounds: Rounds) -> Sensitivity:
    spec = setting.spec
    return sensitivity(
        rounds, spec.strengths, spec.estimator in JUDGED, spec.confidence, spec.sensitivity_draws, spec.seed
    )


def _notes(setting: Setting, asked: Asked, metric: str, reward: Floats) -> list[str]:
    """What a reader of the number should know."""
    notes = []
    reach = METRICS[metric].high - METRICS[metric].low
    if asked.unsupported > 0 and np.isfinite(reach):
        notes.append(
            f"{asked.unsupported:.2%} of what {asked.target.name} would choose is never chosen in the log: the value "
            f"can be off by {asked.unsupported * reach:.4f} beyond the interval"
        )
    known = np.isfinite(reward).astype(np.float64)
    if known.all() or not asked.weight.sum():
        return notes
    ratio, mean = Terms(asked.weight * known, asked.weight), Terms(known, np.ones(len(known)))
    error = standard_error(influence(ratio) - influence(mean), Clusters(len(known), setting.cluster))
    gap = ratio.value - mean.value
    if abs(gap) - Z * error > UNLIKE:
        notes.append(
            f"{metric} is known of {mean.value:.1%} of the hand-overs and would be of {ratio.value:.1%} under "
            f"{asked.target.name}: who is left out differs, and the value is of those who are known"
        )
    return notes
