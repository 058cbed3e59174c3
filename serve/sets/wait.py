"""Wait guarantees: waiting is worth more and more to end, and after the guarantee it is no longer a matter of worth.

Notable: nobody starves. A contact past its guarantee is left in a window only where every CSA with room who may take it
takes up one who is longer past theirs (else taking it up as well would have been better, an augmenting path). So each
window in which somebody who may take it has room brings it forward by one at least, and it is taken up within `ahead` +
1 such windows, where `ahead` counts who was longer past their guarantee when it passed its own (a property test runs
hostile sequences of windows). Who comes after that is never ahead of it, whatever their own guarantee.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from serve.sets.given import seconds
from serve.sets.graph import Doubles
from twotower.errors import ConfigError

Order = Literal["higher", "lower"]
ORDERS: tuple[Order, ...] = ("higher", "lower")
NEVER_S = 1e18  # s until a guarantee is over that nobody gave


@dataclass(frozen=True)
class Waiting:
    """What a contact's wait is worth, and how long it may be at most."""

    per_s: float = 0.0
    """Worth of ending a wait, per second waited, in units of value."""
    guarantee_s: float = np.inf
    """After so many seconds a contact is taken up before anything else counts."""
    power: float = 1.0
    """1: each second counts alike; above: later ones count more, as where patience runs out."""
    priority: Order | None = None
    """Which of the contacts' own priorities are taken up first, after guarantees and before value; None: they do not
    count, since numbers mean the one here and the other there."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.per_s) and self.per_s >= 0):
            raise ConfigError(f"per_s: {self.per_s} a second waited; a finite number of 0 or more expected")
        if not self.guarantee_s >= 0:
            raise ConfigError(f"guarantee_s: {self.guarantee_s} s; 0 or more expected")
        if not (np.isfinite(self.power) and self.power >= 1):
            raise ConfigError(f"power: {self.power}; 1 (linear) or more expected")
        if self.power > 1 and not 0 < self.guarantee_s < np.inf:
            raise ConfigError("power above 1 needs a guarantee_s above 0, in which the wait is measured")
        if self.priority not in (None, *ORDERS):
            raise ConfigError(f"priority: {self.priority!r}; {' or '.join(ORDERS)} expected")

    def age(self, waited_s: npt.ArrayLike) -> Doubles:
        """Worth (W,) of ending waits of so many seconds (W,) now: per_s · w · (w / guarantee)^(power − 1). Raises
        ConfigError for times that are negative or no numbers."""
        waited = seconds(waited_s, np.shape(waited_s), "waited_s")
        if self.power == 1:
            return self.per_s * waited
        return np.asarray(self.per_s * waited * (waited / self.guarantee_s) ** (self.power - 1))

    def ranks(self, priority: npt.ArrayLike) -> Doubles:
        """The contacts' own priorities (W,) as `Window` has them: more is first, 0 without one (NaN)."""
        own = np.asarray(priority, np.float64) * (-1.0 if self.priority == "lower" else 1.0)
        known = ~np.isnan(own)
        if self.priority is None or not known.any():
            return np.zeros(own.shape)
        return np.where(known, 1.0 + np.searchsorted(np.unique(own[known]), own), 0.0)

    def overdue_s(self, waited_s: npt.ArrayLike, guarantee_s: npt.ArrayLike | None = None) -> Doubles:
        """Seconds (W,) past the guarantee, negative before; guarantee_s (W,): of each contact in place of the common
        one. A guarantee that is just over counts as over: 1e-9 s. Raises ConfigError as `age`."""
        waited = seconds(waited_s, np.shape(waited_s), "waited_s")
        if guarantee_s is None:
            own = np.full(waited.shape, self.guarantee_s)
        else:
            own = np.asarray(guarantee_s, np.float64)
            if own.shape != waited.shape or np.any(np.isnan(own)) or np.any(own < 0):
                raise ConfigError(f"guarantee_s: 0 or more for each of {len(waited)} contacts expected")
        over = waited - own
        over[np.isneginf(over)] = -NEVER_S
        return np.where((over >= -1e-9) & (over <= 0), 1e-9, over)
