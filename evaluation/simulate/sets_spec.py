"""The set-based policy as a file names it, and the oracle: the same with the truth in place of beliefs."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from evaluation.simulate.centre import HOUR
from evaluation.simulate.described import MINUTE, NotNegative, Positive, Share
from evaluation.simulate.policies import Rule
from evaluation.simulate.policy_base import Beliefs, Named
from evaluation.simulate.sets import Asked, Believed, sets
from serve.sets.sustain import Limits
from serve.sets.wait import Waiting


class _Together(Named):
    age_per_minute: NotNegative = 0.02
    """Resolutions that ending a minute's wait is worth."""
    guarantee_minutes: Positive | None = None
    """A contact that has waited so long is taken up before anything else counts."""
    prices: NotNegative = 1.0
    """CSA time has a price, by interval, so that who is scarce is kept for who needs them: this share of what the fluid
    model says. 0: none."""
    fill: bool = False
    """As many contacts as possible are taken up at once, whatever CSA time is worth."""
    window_s: NotNegative = 0.0
    """The longest that contacts are gathered before they are matched; how long it is follows traffic. 0: never."""
    least_window_s: NotNegative = 0.0
    """The shortest; as long as `window_s`: the same at any time."""

    @model_validator(mode="after")
    def _windows(self) -> _Together:
        if self.least_window_s > self.window_s:
            raise ValueError(f"least_window_s of {self.least_window_s:g} is above window_s of {self.window_s:g}")
        return self

    def waiting(self) -> Waiting:
        """For `serve.sets`."""
        guarantee = np.inf if self.guarantee_minutes is None else self.guarantee_minutes * MINUTE
        return Waiting(self.age_per_minute / MINUTE, guarantee)

    def clock(self) -> tuple[float, float, float] | None:
        """For `serve.sets`: what a second of waiting costs, the shortest and the longest window."""
        cost = max(self.age_per_minute, 1e-6) / MINUTE
        return (cost, self.least_window_s, self.window_s) if self.window_s else None


class SetsSpec(_Together):
    """Who waits and who is free, matched together under promises to both (docs/sets.md)."""

    policy: Literal["sets"]
    bundle: str | None = None
    """Of a centre of tables: the bundle whose P(resolved) of each pair is believed, relative to the working directory;
    default: what is believed by class."""
    cap: Share | None = None
    """Occupancy, faded over `over_minutes`, at which a CSA gets no further contact."""
    over_minutes: Positive = 60.0
    rest_minutes: NotNegative = 0.0
    """After a hard contact."""
    in_a_row: Annotated[int, Field(ge=1)] | None = None
    """Hard contacts in a row, at most."""
    spread_hard: NotNegative = 0.0
    """Resolutions that a hard contact loses for each one that a CSA has had above everybody's share."""
    exposure_an_hour: NotNegative = 0.0
    """Contacts that each CSA should get at least."""
    exposure: NotNegative = 0.0
    """Resolutions that a contact gains for each one that a CSA is short of."""
    fades_hours: Positive = 8.0

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator. Raises ConfigError and BundleError for a bundle that does not fit."""
        limits = Limits(
            self.cap, self.over_minutes * MINUTE, self.rest_minutes * MINUTE, self.in_a_row, self.spread_hard,
            exposure_h=self.exposure_an_hour, exposure=self.exposure, fades_s=self.fades_hours * HOUR,
        )  # fmt: skip
        asked = Asked(self.waiting(), limits, self.prices, self.clock(), self.fill)
        pairs = None if self.bundle is None else of.pair_values(self.bundle, self.called("sets"))
        return sets(
            of.centre, Believed(of.success, of.centre.handle_s, pairs), asked, self.called("sets"), of.contacts()
        )


class OracleSpec(_Together):
    """The same without promises to CSAs, told the truth of every pair: what no policy can be expected to reach."""

    policy: Literal["oracle"]

    def rule(self, of: Beliefs) -> Rule:
        """For the simulator."""
        asked = Asked(self.waiting(), None, self.prices, self.clock(), self.fill)
        truth = Believed(of.centre.success, of.centre.handle_s, of.true_pairs())
        return sets(of.centre, truth, asked, self.called("oracle"), of.contacts())
