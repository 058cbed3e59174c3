"""Objectives by name, and the choice that the log itself suggests."""

from __future__ import annotations

from collections.abc import Callable

from train.objectives.base import ProfileObjective
from train.objectives.corrected_softmax import CorrectedSoftmax
from train.objectives.in_batch import InBatchSoftmax
from train.objectives.sigmoid import SigmoidContrast
from twotower.errors import ConfigError, DataError

PROFILE: dict[str, Callable[[], ProfileObjective]] = {
    SigmoidContrast.name: SigmoidContrast,
    CorrectedSoftmax.name: CorrectedSoftmax,
    InBatchSoftmax.name: InBatchSoftmax,
}


def choose(name: str, has_failures: bool) -> ProfileObjective:
    """The profile objective called `name`; `auto` takes the sigmoid contrast where the log has failures.

    Raises ConfigError for an unknown name, DataError where the objective needs failures and the log has none.
    """
    if name == "auto":
        name = SigmoidContrast.name if has_failures else CorrectedSoftmax.name
    if name not in PROFILE:
        raise ConfigError(f"objective {name!r} is unknown: 'auto', {', '.join(map(repr, PROFILE))} were expected")
    objective = PROFILE[name]()
    if objective.needs_failures and not has_failures:
        raise DataError(
            f"interactions.parquet: no hand-over has resolved = false, which objective {name!r} needs: "
            f"use --data.objective {CorrectedSoftmax.name}, which learns from successes only"
        )
    return objective
