"""Objectives by name, and the choice that the log itself suggests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from train.objectives.base import ProfileObjective
from train.objectives.corrected_softmax import CorrectedSoftmax
from train.objectives.in_batch import InBatchSoftmax
from train.objectives.sampled import SampledSoftmax
from train.objectives.sigmoid import SigmoidContrast
from twotower.errors import ConfigError, DataError

PROFILE: dict[str, Callable[[], ProfileObjective]] = {
    SigmoidContrast.name: SigmoidContrast,
    CorrectedSoftmax.name: CorrectedSoftmax,
    SampledSoftmax.name: SampledSoftmax,
    InBatchSoftmax.name: InBatchSoftmax,
}
WHOLE_ROSTER = 10_000
"""CSAs up to whom `auto` contrasts the whole roster."""


def choose(name: str, has_failures: bool, roster: int | None = None) -> ProfileObjective:
    """The profile objective called `name`.

    `auto` takes the sigmoid contrast where the log has failures, else the corrected softmax, against a sample where
    `roster`, the number of CSAs, is known and above `WHOLE_ROSTER`. Raises ConfigError for an unknown name, DataError
    where the objective needs failures and the log has none.
    """
    if name == "auto":
        large = roster is not None and roster > WHOLE_ROSTER
        successes = SampledSoftmax.name if large else CorrectedSoftmax.name
        name = SigmoidContrast.name if has_failures else successes
    if name not in PROFILE:
        raise ConfigError(f"objective {name!r} is unknown: 'auto', {', '.join(map(repr, PROFILE))} were expected")
    objective = PROFILE[name]()
    if objective.needs_failures and not has_failures:
        raise DataError(
            f"interactions.parquet: no hand-over has resolved = false (always true, null or no such column), which "
            f"objective {name!r} needs: use --data.objective {CorrectedSoftmax.name}, which learns from successes only"
        )
    return objective


def refuse_failures_alone(resolved: npt.NDArray[np.int8]) -> None:
    """Raises DataError where outcomes (n,), −1 unknown, are known and none of them is a success."""
    failed = int((resolved == 0).sum())
    if failed and not (resolved == 1).any():
        raise DataError(
            f"interactions.parquet: of {len(resolved):,} hand-overs to train on {failed:,} have resolved = false and "
            "none has true, so there is no success to learn from: write true where the need was met"
        )
