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
from evaluation.simulate.demand import Demand as Contacts
from evaluation.simulate.policies import Choice, Decide, Rule, View, decided
from evaluation.simulate.told import Ended
from serve.sets.clock import Clock
from serve.sets.policy import Rules, SetPolicy, Waitlist
from serve.sets.prices import Demand, Prices, fluid
from serve.sets.sustain import Limits, Load
from serve.sets.wait import Waiting

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
TYPES = 8  # that a class is split into for prices


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
    prices: float = 0.0
    """Share of the fluid model's prices that is charged; 0: CSA time is free. In a small centre, unlike in a fluid,
    who is kept may be kept for nobody."""
    clock: tuple[float, float, float] | None = None
    """What a second of waiting costs, the shortest and the longest window in s; None: matched at every event."""
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


def sets(
    centre: Centre, believed: Believed, asked: Asked | None = None, name: str = "sets", demand: Contacts | None = None
) -> Rule:
    """The set-based rule for a centre. demand: the contacts whose pairs are believed apart."""
    asked = asked or Asked()
    contacts = (None, None) if demand is None else (demand.kind, demand.row)
    price = asked.prices * prices_of(centre, believed, *contacts) if asked.prices else None
    return decided(Start(centre, believed, asked, price), name=name)


def prices_of(centre: Centre, believed: Believed, kind: Ints | None = None, row: Ints | None = None) -> Doubles:
    """(I, J) value of one more hour of each CSA, from each interval's fluid model. kind, row (N,): classes and rows of
    the contacts whose pairs are believed apart, by which a class is split into types of contacts alike."""
    can, intervals = centre.can, centre.rates.shape[1]
    of, weight, value = types_of(centre, believed, kind, row)
    found = np.zeros((intervals, len(centre.csas)))
    before: dict[bytes, Doubles] = {}
    for i in range(intervals):
        begin = i * centre.interval_s
        share = centre.staffed_s(begin, begin + centre.interval_s) / centre.interval_s
        key = centre.rates[:, i].tobytes() + share.tobytes()
        if key not in before:  # days repeat
            places = share * (1 if centre.capacity is None else centre.capacity)
            handle = np.where(can, believed.handle_s, 0.0)[of]
            before[key] = fluid(Demand(centre.rates[of, i] * weight, value, handle, can[of], places)).per_h
        found[i] = before[key]
    return found


def types_of(centre: Centre, believed: Believed, kind: Ints | None, row: Ints | None) -> tuple[Longs, Doubles, Doubles]:
    """Types of contacts (T): their class (T,), share of it (T,), and mean value with each CSA (T, J). Contacts of one
    class differ in who is good for them, and a mean over all of them would leave nothing to choose: k-means of their
    values (Lloyd, 1982) tells them apart."""
    k = len(centre.classes)
    if believed.pairs is None or kind is None or row is None:
        return np.arange(k), np.ones(k), np.where(centre.can, believed.success, 0.0)
    from sklearn.cluster import KMeans

    of, weight, value = [], [], []
    for one in range(k):
        mine = np.where(centre.can[one], believed.pairs[row[kind == one]], 0.0)
        if not len(mine):
            continue
        types = min(TYPES, len(np.unique(mine, axis=0)))
        found = KMeans(types, n_init=1, random_state=0).fit(mine)
        of += [one] * types
        weight.append(np.bincount(found.labels_, minlength=types) / len(mine))
        value.append(found.cluster_centers_)
    return np.array(of), np.concatenate(weight), np.concatenate(value).astype(np.float64)


class Sets:
    """The rule of one replication."""

    def __init__(self, start: Start) -> None:
        centre, asked = start.centre, start.asked
        csas = len(centre.csas)
        self._centre, self._believed, self._price = centre, start.believed, start.price
        self._hard = np.zeros(len(centre.classes), np.bool_) if centre.hard is None else centre.hard > 0
        self._can = centre.can
        prices = None if start.price is None else _priced(csas)
        clock = None if asked.clock is None else Clock(*asked.clock)
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
