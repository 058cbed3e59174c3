"""What CSAs can keep up: occupancy, rest after hard contacts, hard ones in a row, shares of both kinds, practice.

Notable: rest and caps are constraints, and come before any value; fair shares and practice are long-run means, for
which one window is too short. These are virtual queues: what a CSA is short of piles up, and is worth `weight` times
the pile to put right, which is the gradient of ½·weight·Σ pile², and keeps the mean wherever it can be kept (Neely,
Stochastic Network Optimization, 2010). A pile times its weight is thus a shadow price: what an answer gives up to put
it right.

Occupancy is work over time on shift, both fading by e in `over_s` (a rolling window without an edge, two numbers a
CSA): after a busy stretch it falls below the cap after a time that is known, so a window can be asked again just then.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from serve.sets.given import flags, numbers
from serve.sets.graph import Bools, Doubles, Longs
from twotower.errors import ConfigError

SLACK = 1e-9  # s, and share of the time: what rounding may do


@dataclass(frozen=True)
class Limits:
    """What is asked for CSAs; None or 0: not asked."""

    occupancy: float | None = None
    """Share of the time on shift, from 0 to 1, at which a CSA gets no further contact."""
    over_s: float = 3600.0
    """s in which the occupancy's past fades by e."""
    rest_s: float = 0.0
    """s without a contact after a hard one."""
    in_a_row: int | None = None
    """Hard contacts in a row, at most."""
    spread_hard: float = 0.0
    """Value that a hard contact loses for each one that a CSA has above their fair share."""
    spread_pleasant: float = 0.0
    """Likewise of pleasant contacts."""
    exposure_h: float = 0.0
    """Contacts an hour on shift that each CSA gets at least, to stay in practice and be learnt about."""
    exposure: float = 0.0
    """Value of a contact for each one that a CSA is short of."""
    fades_s: float = 8 * 3600.0
    """s in which fair shares and practice fade by e."""

    def __post_init__(self) -> None:
        for field in fields(self):
            one = getattr(self, field.name)
            if one is not None and not (np.isfinite(one) and one >= 0):
                raise ConfigError(f"{field.name}: {one}; a finite number of 0 or more expected")
        if self.occupancy is not None and self.occupancy > 1:
            raise ConfigError(f"occupancy: {self.occupancy}; a share from 0 to 1 expected")
        if not (self.over_s > 0 and self.fades_s > 0):
            raise ConfigError("over_s and fades_s: more than 0 s expected")
        if self.in_a_row is not None and self.in_a_row != int(self.in_a_row):
            raise ConfigError(f"in_a_row: {self.in_a_row}; a whole number expected")


NOTHING = Limits()


@dataclass(frozen=True)
class Terms:
    """What limits make of a window of W contacts and F CSAs."""

    rest: Bools
    """(F,) who should rest."""
    cap: Bools
    """(W, F) pairs that break a cap."""
    value: Doubles
    """(W, F) of fair shares and practice, to be added."""
    again_s: float
    """Until the first of the CSAs may be asked again, infinite where nobody rests or is at a cap."""


class Load:
    """What J CSAs have had, kept as arrays; CSAs are positions from 0, times in seconds, never going back."""

    def __init__(self, csas: int, limits: Limits, places: npt.ArrayLike | None = None, start_s: float = 0.0) -> None:
        """places (J,): contacts at once, 1. All are on shift from `start_s` until `shift` says otherwise."""
        self.limits = limits
        self.places = np.ones(csas) if places is None else numbers(places, (csas,), "places")
        if np.any(self.places < 1):
            raise ConfigError("places: 1 or more contacts at once expected")
        self.in_hand = np.zeros(csas, np.int64)
        self.streak = np.zeros(csas, np.int64)
        self.rest_until = np.full(csas, -np.inf)
        self.on = np.ones(csas, np.bool_)
        self.at = np.full(csas, float(start_s))
        # Fading: s of work and on shift (within over_s), hours and contacts (within fades_s).
        self.work, self.shifted, self.hours = np.zeros(csas), np.zeros(csas), np.zeros(csas)
        self.taken, self.hard, self.pleasant = np.zeros(csas), np.zeros(csas), np.zeros(csas)
        self._hard_last = np.zeros(csas, np.bool_)

    def begun(
        self, csa: npt.ArrayLike, time_s: float, hard: npt.ArrayLike = False, pleasant: npt.ArrayLike = False
    ) -> None:
        """CSAs (n,) begin a contact each; hard, pleasant (n,): what is expected of it. Raises ConfigError for CSAs that
        are not, and times before what was told."""
        who = self._moved(csa, time_s)
        hard, pleasant = (np.broadcast_to(np.asarray(one, np.bool_), who.shape) for one in (hard, pleasant))
        np.add.at(self.in_hand, who, 1)
        for of, many in ((self.taken, 1.0), (self.hard, hard), (self.pleasant, pleasant)):
            np.add.at(of, who, many)
        self.streak[who[~hard]] = 0
        np.add.at(self.streak, who[hard], 1)
        self._hard_last[who] = hard

    def ended(self, csa: npt.ArrayLike, time_s: float, hard: npt.ArrayLike | None = None) -> None:
        """CSAs (n,) end a contact each, hard (n,) or not, None: as was expected of what they began last. Raises
        ConfigError as `begun`, and for who has none in hand."""
        who = self._moved(csa, time_s)
        if np.any(np.bincount(who, minlength=len(self.in_hand)) > self.in_hand):
            raise ConfigError(f"ended: a CSA of {shown_ids(who)} has no contact in hand")
        was_hard = self._hard_last[who] if hard is None else np.broadcast_to(np.asarray(hard, np.bool_), who.shape)
        np.subtract.at(self.in_hand, who, 1)
        tired = who[was_hard]
        self.rest_until[tired] = np.maximum(self.rest_until[tired], time_s + self.limits.rest_s)

    def shift(self, csa: npt.ArrayLike, time_s: float, on: bool) -> None:
        """CSAs (n,) come on shift, or leave it. Raises ConfigError as `begun`."""
        self.on[self._moved(csa, time_s)] = on

    def occupancy(self, now_s: float) -> Doubles:
        """Share (J,) of the time on shift that is work, of those who were never on shift 0. Raises ConfigError."""
        self._moved(np.arange(len(self.at)), now_s)
        return np.divide(self.work, self.shifted, out=np.zeros_like(self.work), where=self.shifted > 0)

    def terms(self, now_s: float, csa: Longs, hard: npt.ArrayLike, pleasant: npt.ArrayLike | None = None) -> Terms:
        """Masks and values for CSAs (F,) and contacts that are expected to be hard, or pleasant (W,). Raises
        ConfigError for what does not fit and a time before what was told."""
        limits, waiting, csa = self.limits, np.size(hard), self._who(csa)
        hard = flags(hard, (waiting,), "hard")
        pleasant = np.zeros(waiting, np.bool_) if pleasant is None else flags(pleasant, (waiting,), "pleasant")
        if limits == NOTHING:
            self._later(csa, now_s)
            nothing = np.zeros((waiting, len(csa)))
            return Terms(np.zeros(len(csa), np.bool_), nothing > 0, nothing, np.inf)
        # Shares of a kind are of everybody; without them, only who is asked about need be brought to now.
        spread = bool(limits.spread_hard or limits.spread_pleasant)
        self._moved(np.arange(len(self.at)) if spread else csa, now_s)
        work, shifted = self.work[csa], self.shifted[csa]
        share = np.divide(work, shifted, out=np.zeros_like(work), where=shifted > 0)
        rest = self.rest_until[csa] > now_s + SLACK
        again = np.where(rest, self.rest_until[csa] - now_s, np.inf)
        cap = np.zeros((waiting, len(csa)), np.bool_)
        if limits.occupancy is not None:
            full = (share > limits.occupancy + SLACK) if limits.occupancy else np.ones(len(csa), np.bool_)
            cap |= full
            if full.any():
                again = np.minimum(again, np.where(full, self._cools_s(csa), np.inf))
        if limits.in_a_row is not None:
            cap |= hard[:, None] & (self.streak[csa] >= limits.in_a_row)
        value = np.zeros(cap.shape)
        if limits.spread_hard:
            value -= limits.spread_hard * hard[:, None] * self.above(self.hard)[csa]
        if limits.spread_pleasant:
            value -= limits.spread_pleasant * pleasant[:, None] * self.above(self.pleasant)[csa]
        if limits.exposure:
            value += limits.exposure * self.short()[csa]
        return Terms(rest, cap, value, float(again.min(initial=np.inf)))

    def above(self, had: Doubles) -> Doubles:
        """How many of a kind (J,) each has had above their fair share: as many as everybody for each hour on shift. Not
        for each contact, since who is quick would get as many more of the hard ones."""
        whole = float(self.hours.sum())
        return had - self.hours * (float(had.sum()) / whole) if whole > 0 else np.zeros_like(had)

    def short(self) -> Doubles:
        """Contacts (J,) that each is short of by `exposure_h`, 0 or more."""
        return np.maximum(0.0, self.limits.exposure_h * self.hours - self.taken)

    def _cools_s(self, csa: Longs) -> Doubles:
        """s (F,) of idleness until the occupancy is at the cap c: work·e^(−t/τ) = c·(shifted·e^(−t/τ) + τ·(1 −
        e^(−t/τ)))."""
        cap, tau = self.limits.occupancy, self.limits.over_s
        if not cap:
            return np.full(len(csa), np.inf)
        over = np.maximum(self.work[csa] - cap * self.shifted[csa], 0.0)
        return np.asarray(tau * np.log1p(over / (cap * tau)))

    def _moved(self, csa: npt.ArrayLike, time_s: float) -> Longs:
        """CSAs (n,), whose time has gone on to this moment."""
        who = self._who(csa)
        each = who if len(who) < 2 else np.unique(who)
        passed = self._later(each, time_s)
        on, limits = self.on[each], self.limits
        share = np.minimum(self.in_hand[each] / self.places[each], 1.0)
        near, far = np.exp(-passed / limits.over_s), np.exp(-passed / limits.fades_s)
        self.work[each] = self.work[each] * near + share * limits.over_s * (1 - near)
        self.shifted[each] = self.shifted[each] * near + np.maximum(on, share > 0) * limits.over_s * (1 - near)
        self.hours[each] = self.hours[each] * far + on * limits.fades_s / 3600 * (1 - far)
        for of in (self.taken, self.hard, self.pleasant):
            of[each] *= far
        self.at[each] = np.maximum(self.at[each], time_s)
        return who

    def _later(self, csa: Longs, time_s: float) -> Doubles:
        """s (n,) from what is known of CSAs until then. Raises ConfigError for a time before that."""
        passed = time_s - self.at[csa]
        if not np.isfinite(time_s) or np.any(passed < -SLACK):
            raise ConfigError(f"time: {time_s} s is before what is known, or no number; tell events in their order")
        return np.maximum(passed, 0.0)

    def _who(self, csa: npt.ArrayLike) -> Longs:
        """CSAs (n,) as positions. Raises ConfigError for what is none."""
        who = np.atleast_1d(np.asarray(csa))
        if who.size and (who.dtype.kind not in "iu" or who.min() < 0 or who.max() >= len(self.at)):
            raise ConfigError(f"csa: positions from 0 to {len(self.at) - 1} expected, got {shown_ids(who)}")
        return who.astype(np.int64)


def shown_ids(who: npt.NDArray[np.generic]) -> str:
    """The first few positions, for a line."""
    return ", ".join(map(str, who[:5].tolist())) + (" …" if len(who) > 5 else "")
