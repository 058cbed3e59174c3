"""An off-policy evaluation from tables to answers.

Notable: the model that judges (outcome.py) is none of the policies: it is fitted here, to the log, by folds. All
estimates of a metric, of all policies, are taken over the same rounds and resampled by the same draws, so their
differences are paired.
"""

from __future__ import annotations

from pathlib import Path

from evaluation.ope.answers import answers_of
from evaluation.ope.folds import folds_of
from evaluation.ope.found import Found, Policy
from evaluation.ope.intervals import Clusters
from evaluation.ope.logged import read_logged
from evaluation.ope.outcome import Features, judged
from evaluation.ope.setting import Setting, asked_of, groups_of, queue_of, setting_of, targets_of, window_of_test
from evaluation.ope.spec import OpeSpec
from twotower.clock import format_time
from twotower.tables.log import Log

JUDGE = (
    "the judge is not a policy: what the doubly robust estimates expect of a hand-over comes from a model of the log's "
    "own, fitted to other {by}s' contacts and to nothing that a bundle says"
)
ALONE = (
    "one contact at a time: the value is of giving each contact, with those who were eligible then, to whom the policy "
    "names; a policy that ran would change who is free, and waits, which `twotower simulate` tells"
)


def evaluate(
    data: str | Path, spec: OpeSpec, begin: int | None = None, end: int | None = None, digest: str | None = None
) -> Found:
    """Judge policies on the contacts of a log that arrived in [begin, end), µs.

    begin: None: when the last of the bundles' data ends, or the whole log; digest: that the first bundle must have.

    Raises:
        TwoTowerError: tables or a bundle cannot be read, do not fit, or leave nothing to judge on. What the log cannot
            tell is no error but a refusal (`Found.answers`).
    """
    log = Log.load(data)
    targets = targets_of(spec, log, digest)
    begin, end = window_of_test(log, targets, begin, end)
    logged, told = read_logged(data, log, begin, end, spec.logged, spec.propensities)
    fold = folds_of(log, spec.folds, spec.folds_by, spec.seed)
    model, seen = queue_of(data, spec, logged, told, fold, targets)
    setting = setting_of(spec, logged, told, model, seen)
    asked = [asked_of(setting, target) for target in targets]
    features = Features.of(logged, spec.folds, spec.folds_by, spec.seed)
    judges = {name: judged(logged, features, name, spec.seed) for name in spec.metrics}
    groups = groups_of(setting, targets)
    made = {name: answers_of(setting, asked, name, judges[name], groups) for name in spec.metrics}
    return Found(
        data=str(data),
        begin=format_time(begin),
        end=format_time(end),
        rounds=len(logged),
        clusters=Clusters(len(logged), setting.cluster).count,
        cluster=spec.cluster,
        candidates=float(logged.pairs.lengths.mean()),
        left_out=logged.left_out,
        decided_by=logged.policies,
        source="logged" if told else "estimated",
        estimator=spec.estimator,
        confidence=spec.confidence,
        gates=setting.gates,
        policies=tuple(Policy(a.target.name, a.target.described, tuple(a.balances), a.weight) for a in asked),
        logging={name: logging for name, (_, logging) in made.items()},
        judges={name: one.quality for name, one in judges.items() if one is not None},
        queue=None if model is None else model.checked,
        answers=tuple(answer for answers, _ in made.values() for answer in answers),
        notes=_notes(setting),
    )


def _notes(setting: Setting) -> tuple[str, ...]:
    """What holds of all answers."""
    spec, logged, left = setting.spec, setting.logged, setting.logged.left_out
    notes = [JUDGE.format(by=spec.folds_by), ALONE]
    for count, said in (
        (left.nobody, "contacts that nobody took are no rounds"),
        (left.other_policy, "contacts were decided by other policies and do not count"),
        (left.outside, "contacts went to somebody who was not among those eligible and do not count"),
        (left.without_propensity, "contacts have no propensity and do not count"),
        (
            left.unknown,
            "rounds were offered to CSAs whom csas.parquet does not hold: what these would have brought is not "
            "known, and the chances of such a round count as not told but for that of the chosen",
        ),
        (left.unfollowed, "decisions were followed by no first hand-over and do not count"),
        (left.later, "later hand-overs are decisions of their own and do not count"),
    ):
        if count:
            notes.append(f"{count:,} {said}")
    alone = float((logged.pairs.lengths == 1).mean())
    if alone:
        notes.append(f"{alone:.1%} of the rounds had one CSA who could take them: every policy is alike there")
    certain = float((setting.propensity >= 1).mean()) - alone
    if certain > 0 and not setting.estimated:
        notes.append(
            f"{certain:.1%} of the choices among several were certain (propensity 1): they tell nothing of others"
        )
    if setting.estimated:
        notes.append(
            "propensities are estimated: what the queue knew and no table holds is not in them; the sensitivity curve "
            "says how much of that would change a conclusion"
        )
    return tuple(notes)
