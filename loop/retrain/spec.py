"""What a retraining is, as a file says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from loop.gate.rules import GateSpec, Strict

Whole = Annotated[int, Field(ge=1)]


class Training(Strict):
    """How the challenger is trained: as `twotower train` takes it."""

    configs: tuple[str, ...] = ()
    """Files, relative to the working directory."""
    options: tuple[str, ...] = ()
    """Such as `--trainer.max_epochs=4`."""


class RetrainSpec(Strict):
    """The file of `twotower retrain`."""

    window_days: Whole = 7
    """The newest days, which neither bundle has seen, and on which both are judged."""
    train: Training = Training()
    in_a_row: Annotated[int, Field(ge=0)] = 6
    """Turns in a row that may go on from the run of the champion (`train.start`), before one starts from nothing."""
    drift: Literal["stops", "told"] = "told"
    """An alarm of drift: stops the turn before training, or stands in the report."""
    gate: GateSpec = GateSpec()
    first: Literal["promote", "wait"] = "promote"
    """A bundle that there is no champion to compare with: is promoted, or waits for `twotower models promote`."""
    alias: Literal["champion", "challenger"] = "champion"
    """Who passes the gate becomes the champion, or the challenger, for a rollout that goes on from there."""
    keep: Whole = 3
    """Outputs of each step that stay."""
    seed: Annotated[int, Field(ge=0)] = 0
