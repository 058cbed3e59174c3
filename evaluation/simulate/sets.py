"""Sets of contacts and CSAs in the simulator: the router's own rule over time (`serve/sets`), asked at every event.

Notable: the rule that is simulated is the one that is served, not a copy of it. Prices of CSA time come from the fluid
model of each interval: the classes' arrivals and who is on shift then, every CSA a group of their own, since no two
do the same work alike. What the rule believes of pairs is given; the truth stays with the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre
from evaluation.simulate.policies import Choice, Decide, Rule, View, decided
from evaluation.simulate.told import Ended
from serve.sets.clock import Clock
from serve.sets.policy import Rules, SetPolicy, Waitlist
from serve.sets.prices import Demand, Prices, fluid
from serve.sets.sustain import Limits, Load
from serve.sets.wait import Waiting

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Believed:
    """What a rule knows of pairs: probabilities of success by class (K, J), or of each first contact (N, J) by its row,
    and mean handling times (K, J) s."""

    success: Doubles
    handle_s: Doubles
    pairs: Singles | None = None

    def of(self, view: View) -> Doubles:
        """(W, F)."""
        if self.pairs is None:
            return np.asarray(self.success[np.ix_(view.kind, view.csa)])
        return np.asarray(self.pairs[np.ix_(view.row, view.csa)], np.float64)


@dataclass(frozen=True)
class Asked:
    """The parts of a rule, as `serve.sets` has them."""

    waiting: Waiting = field(default_factory=Waiting)
    limits: Limits | None = None
    prices: bool = False
    clock: tuple[float, float] | None = None
    """What a second of waiting costs, and the longest window in s; None: matched at every event."""
    fill: bool = False


@dataclass(frozen=True)
class Start:
    """Makes the rule anew for each replication; travels to other processes."""

    centre: Centre
    believed: Believed
    asked: Asked
    price: Doubles | None
    """(I, J) value of an hour of each CSA in each interval."""

    def __call__(self) -> Decide:
        """A rule of its own."""
        return Sets(self)


def sets(centre: Centre, believed: Believed, asked: Asked | None = None, name: str = "sets") -> Rule:
    """The set-based rule for a centre."""
    asked = asked or Asked()
    price = prices_of(centre, believed) if asked.prices else None
    return decided(Start(centre, believed, asked, price), name=name)


def prices_of(centre: Centre, believed: Believed) -> Doubles:
    """(I, J) value of one more hour of each CSA, from each interval's fluid model."""
    can, intervals = centre.can, centre.rates.shape[1]
    found = np.zeros((intervals, len(centre.csas)))
    value = class_values(believed, centre)
    before: dict[bytes, Doubles] = {}
    for i in range(intervals):
        begin = i * centre.interval_s
        share = centre.staffed_s(begin, begin + centre.interval_s) / centre.interval_s
        key = centre.rates[:, i].tobytes() + share.tobytes()
        if key not in before:  # days repeat
            places = share * (1 if centre.capacity is None else centre.capacity)
            demand = Demand(centre.rates[:, i], value, np.where(can, believed.handle_s, 0.0), can, places)
            before[key] = fluid(demand).per_h
        found[i] = before[key]
    return found


def class_values(believed: Believed, centre: Centre) -> Doubles:
    """(K, J) what a contact of each class is worth with each CSA."""
    return np.where(centre.can, believed.success, 0.0)


class Sets:
    """The rule of one replication."""

    def __init__(self, start: Start) -> None:
        centre, asked = start.centre, start.asked
        csas = len(centre.csas)
        self._centre, self._believed, self._price = centre, start.believed, start.price
        self._hard = np.zeros(len(centre.classes), np.bool_) if centre.hard is None else centre.hard > 0
        self._can = centre.can
        prices = None if start.price is None else _priced(csas)
        clock = None if asked.clock is None else Clock(asked.clock[0], most_s=asked.clock[1])
        rules = Rules(asked.waiting, asked.limits, prices, clock, asked.fill, prove=False)
        load = Load(csas, asked.limits or Limits(), centre.capacity)
        self._prices, self._policy = prices, SetPolicy(csas, rules, load)
        self._events = _shift_events(centre)
        self._next = 0
        self._ended: list[Ended] = []
        load.shift(np.arange(csas), 0.0, centre.shifts is None)

    def ended(self, handover: Ended) -> None:
        """A hand-over has ended; it is told to the load with the shifts, in order of time."""
        self._ended.append(handover)

    def __call__(self, view: View) -> Choice:
        """Who gets whom now."""
        self._catch_up(view.now)
        if self._prices is not None and self._price is not None:
            interval = min(int(view.now / self._centre.interval_s), len(self._price) - 1)
            self._prices.per_h = self._price[interval]
        can = self._can[np.ix_(view.kind, view.csa)] & (view.barred[:, None] != view.csa)
        handle = self._believed.handle_s[np.ix_(view.kind, view.csa)]
        asked = Waitlist(
            view.now, view.waited, self._believed.of(view), can, view.csa, view.room, self._hard[view.kind],
            handle_s=np.where(can, handle, 0.0),
        )  # fmt: skip
        found = self._policy.decide(asked, begin=True)
        pairs = np.column_stack([found.pairs[:, 0], view.csa[found.pairs[:, 1]]])
        return Choice(pairs, found.again_s)

    def _catch_up(self, now: float) -> None:
        """Tell the load what ended and whose shifts began or ended by now, in order of time."""
        told = sorted(self._ended, key=lambda one: one.end)
        self._ended = []
        events, place = self._events, 0
        while place < len(told) or (self._next < len(events) and events[self._next][0] <= now):
            shift = events[self._next] if self._next < len(events) and events[self._next][0] <= now else None
            if shift is not None and (place == len(told) or shift[0] <= told[place].end):
                self._policy.load.shift(shift[1], shift[0], shift[2])
                self._next += 1
            else:
                self._policy.load.ended(told[place].csa, told[place].end)
                place += 1


def _shift_events(centre: Centre) -> list[tuple[float, int, bool]]:
    """(time, CSA, whether it begins), in order of time; who ends one and begins another at once does both."""
    if centre.shifts is None:
        return []
    shifts = centre.shifts.joined()
    begins = [(float(at), int(csa), True) for at, csa in zip(shifts.starts, shifts.csa, strict=True)]
    ends = [(float(at), int(csa), False) for at, csa in zip(shifts.ends, shifts.csa, strict=True)]
    return sorted(begins + ends)


def _priced(csas: int) -> Prices:
    """Prices that the simulation sets by interval: every CSA a group."""
    none = np.zeros((1, csas))
    nothing = Demand(np.zeros(1), none, none, none > 0, np.ones(csas))
    return Prices(nothing, np.arange(csas))
