"""What all policies are judged on: the rounds of a log with their propensities, and each policy's weights on them.

Notable: a bundle whose data reach into the window is not judged, as it chose knowing how these contacts ended. Where
nothing was written down the queue's propensities are estimated; where only those of the chosen were, and a bundle's
vectors can group CSAs, the model says how the others share what is left, which MIPS alone asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.ope.balance import Balance, Covariates, balances, covariates, imbalances
from evaluation.ope.logged import Logged, read_logged
from evaluation.ope.marginal import groupings
from evaluation.ope.overlap import Gates, never_chosen_mass, unsupported_mass
from evaluation.ope.queue_features import QueueState
from evaluation.ope.queue_model import Estimated, completed, estimated
from evaluation.ope.rounds import Floats, Ints
from evaluation.ope.spec import OpeSpec
from evaluation.ope.targets import Target
from twotower.clock import DAY, format_time
from twotower.errors import ConfigError
from twotower.tables.log import Log


@dataclass(frozen=True)
class Setting:
    """The rounds, and what is known of how they were decided."""

    spec: OpeSpec
    gates: Gates
    logged: Logged
    propensity: Floats
    """(n,) of who was chosen, logged or estimated."""
    chances: Floats | None
    """(P,) of everybody who could have been; None where they are not known."""
    exact: bool
    """`chances` are the router's own."""
    estimated: bool
    cluster: Ints | None
    covariates: Covariates
    why: tuple[str, ...]
    """What is wrong with the log, whatever the policy."""


@dataclass(frozen=True)
class Asked:
    """One policy on these rounds."""

    target: Target
    probability: Floats
    """π (P,)"""
    weight: Floats
    """(n,)"""
    balances: list[Balance]
    unsupported: float
    why: tuple[str, ...]
    """What is wrong with it, whatever the metric."""


def targets_of(spec: OpeSpec, log: Log, digest: str | None = None) -> list[Target]:
    """Policies beside a log, told apart by number where their names are alike. digest: that the first bundle must
    have."""
    found: list[Target] = []
    for one in spec.policies:
        name = one.label
        taken = [other.name for other in found]
        first = not any(other.bundle is not None for other in spec.policies[: len(found)])
        found.append(
            one.target(log, name if name not in taken else f"{name} ({len(found) + 1})", digest if first else None)
        )
    return found


def window_of_test(log: Log, targets: list[Target], begin: int | None, end: int | None) -> tuple[int, int]:
    """From when to when contacts are looked at, µs: by default from where the last bundle's data end, to the log's end.

    Raises ConfigError where a bundle knows outcomes of the window.
    """
    arrived = log.contacts.arrived_at
    known = [(target.until, target.name) for target in targets if target.until is not None]
    latest, name = max(known, default=(int(arrived[0]), ""))
    begin = latest if begin is None else begin
    if known and latest > begin:
        raise ConfigError(
            f"policy {name}: its bundle was made from data until {format_time(latest)}, the window begins "
            f"{format_time(begin)}: it knows how these contacts ended, so nothing would be told; give "
            f"--from {format_time(latest)} or later"
        )
    return begin, int(arrived[-1]) + 1 if end is None else end


def queue_of(
    data: str | Path, spec: OpeSpec, logged: Logged, told: bool, fold: Ints, targets: list[Target]
) -> tuple[Estimated | None, Floats]:
    """The model of the queue where it is needed, and what the queue could see of the rounds' pairs (P, `NAMES`). Raises
    ConfigError where it is needed and the log tells too little."""
    listed = logged.log.contacts.eligible is not None
    since = logged.begin - round(spec.history_days * DAY)
    past = logged
    if listed:
        past, _ = read_logged(data, logged.log, since, logged.end, spec.logged, "estimated")
    whole = bool(np.isfinite(logged.chances).all())
    grouped = any(target.until is not None for target in targets)
    if not told or (listed and grouped and not whole):
        try:
            model = estimated(logged, past, fold)
            return model, model.features
        except ConfigError:
            if not told:
                raise  # else only MIPS asked for it
    return None, QueueState.of(past).features(logged.contact, logged.pairs)


def setting_of(
    spec: OpeSpec, logged: Logged, told: bool, model: Estimated | None, features: Floats | None = None
) -> Setting:
    """The rounds with propensities; told: these are logged; features: (P, `NAMES`), whose balance is looked at, too."""
    gates, why = spec.thresholds, []
    if not told and model is not None and model.checked.error > gates.most_miscalibrated:
        why.append(
            f"estimated propensities are not calibrated: chances are off by {model.checked.error:.1%} of the mean "
            f"({gates.most_miscalibrated:.1%} at most): log them (docs/feedback.md)"
        )
    outside, taken = logged.left_out.outside, len(logged) + logged.left_out.outside
    if outside > gates.most_outside * taken:
        why.append(
            f"{outside:,} of {taken:,} contacts went to somebody who was not among those eligible "
            f"({gates.most_outside:.1%} at most): `eligible` does not tell who could have been chosen"
        )
    propensity, chances = logged.propensity, completed(logged, model)
    if not told and model is not None:
        propensity, chances = model.chances[logged.pairs.own], model.chances
    exact = told and bool(np.isfinite(logged.chances).all())
    known = covariates(logged, features)
    return Setting(
        spec, gates, logged, propensity, chances, exact, not told, logged.cluster(spec.cluster), known, tuple(why)
    )


def asked_of(setting: Setting, target: Target) -> Asked:
    """One policy on the rounds."""
    pairs = setting.logged.pairs
    probability = target.probabilities(setting.logged)
    if setting.exact and setting.chances is not None:
        unsupported = unsupported_mass(pairs, probability, setting.chances, setting.gates.least_propensity)
    else:
        unsupported = never_chosen_mass(pairs, probability, setting.propensity)
    found = balances(setting.covariates, pairs, probability, setting.propensity, setting.cluster)
    why = (*setting.why, *imbalances(found, setting.gates))
    return Asked(target, probability, probability[pairs.own] / setting.propensity, found, unsupported, why)


def groups_of(setting: Setting, targets: list[Target]) -> list[Ints]:
    """Groups of CSAs by the first bundle's vectors, from fine to coarse; none where there is no bundle, or the chances
    of all are not known."""
    for target in targets if setting.chances is not None else ():
        vectors = target.vectors(setting.logged)
        if vectors is not None:
            return groupings(vectors, setting.spec.seed)
    return []
