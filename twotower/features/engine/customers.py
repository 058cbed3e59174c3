"""What is known of customers as of a moment: how often they come, how they write, and who served them with what end.

Notable: a customer who calls back within the hour is the case that matters, so their state is read as it stood just
before each contact, not at snapshots: `along` walks two streams (contacts when they arrived, hand-overs when their
outcome was known) and reads on the way. Contacts of one microsecond do not see each other. Customers are positions
here; whose they are, under keyed hashes, is the business of `engine/store.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.clock import NULL_TIME
from twotower.errors import DataError
from twotower.features.engine.core import PAIR_SUMS, TWIN, Core
from twotower.features.engine.decay import Decay, faded, moved
from twotower.features.engine.events import Arrivals, KnownHandovers, between, check_codes
from twotower.features.engine.settings import CustomerSettings

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

PER_CUSTOMER = ("count", "last", "style", "pair_csa", "pair_last", "pair_end", "pair_sums")
LONG_DAYS = 3650.0  # since the last contact of a customer who never came


@dataclass(frozen=True)
class CustomerReading:
    """Q customers, each as of a moment i8[Q] (µs), strictly before it.

    `count` i8[Q] contacts; `last` i8[Q] µs of the last one, `NULL_TIME` where there is none; `style` f8[Q, 2, 2 + S],
    fast and slow decayed sums of contacts, of contacts that show style, and of the signals; `pair_csa` i4[Q, P], −1
    empty; `pair_last` i8[Q, P] µs; `pair_end` i1[Q, P] the last outcome (−1 not known); `pair_sums` f8[Q, P, 3] by
    `PAIR_SUMS`: hand-overs together, those that went well, those that did not, decayed.
    """

    moment: Longs
    count: Longs
    last: Longs
    style: Doubles
    pair_csa: npt.NDArray[np.int32]
    pair_last: Longs
    pair_end: npt.NDArray[np.int8]
    pair_sums: Doubles

    def take(self, rows: npt.NDArray[np.signedinteger[Any]]) -> CustomerReading:
        """Some of the customers, in that order."""
        return CustomerReading(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


class CustomerHistory:
    """State for C customers as of `moment` (µs). Arguments as of `CsaHistory`."""

    def __init__(self, settings: CustomerSettings, customers: int, moment: int = NULL_TIME, core: Core = TWIN) -> None:
        self.settings, self.moment, self.core = settings, moment, core
        self.decay, self.pair_decay = Decay(settings.style_us, moment), Decay((settings.pair_us,), moment)
        for name, array in _empty(settings, customers).items():
            setattr(self, name, array)

    count: Longs
    last: Longs
    style: Doubles
    pair_csa: npt.NDArray[np.int32]
    pair_last: Longs
    pair_end: npt.NDArray[np.int8]
    pair_sums: Doubles

    @property
    def customers(self) -> int:
        """How many customers there is room for."""
        return len(self.count)

    def advance(self, arrivals: Arrivals, handovers: KnownHandovers, moment: int) -> None:
        """Bring the state to `moment` with what was known in [self.moment, moment). Errors as `CsaHistory.advance`."""
        self._advance(arrivals, handovers, moment, np.empty(0, np.int64), np.empty(0, np.int64))

    def along(
        self, arrivals: Arrivals, handovers: KnownHandovers, customers: npt.NDArray[Any], moments: Longs
    ) -> CustomerReading:
        """Customers (Q,), −1 nobody, each as of its own moment (ascending); the state is left at the last of them.

        Raises ValueError where moments go back, DataError for values that cannot be.
        """
        if len(moments) > 1 and (moments[1:] < moments[:-1]).any():
            raise ValueError("moments must be ascending")
        check_codes("customers asked for", customers, self.customers, -1)
        end = int(moments[-1]) if len(moments) else self.moment
        return self._advance(arrivals, handovers, end, customers.astype(np.int64), moments)

    def read(self, customers: Sequence[int] | npt.NDArray[Any], moment: int | None = None) -> CustomerReading:
        """Customers (Q,), −1 nobody, as of `moment`, the state's own where None; never an earlier one."""
        at = self.moment if moment is None else moment
        if at < self.moment:
            raise ValueError(f"the history stands at {self.moment} and does not know what it was at {at}")
        codes = np.asarray(customers, dtype=np.int64)
        check_codes("customers asked for", codes, self.customers, -1)
        moments = np.full(len(codes), at)
        rows, there = _empty(self.settings, len(codes)), np.flatnonzero(codes >= 0)
        for name in PER_CUSTOMER:
            rows[name][there] = getattr(self, name)[codes[there]]
        rows["style"] = faded(rows["style"], self.decay.fade(moments))
        rows["pair_sums"] = faded(rows["pair_sums"], self.pair_decay.fade(moments))
        return CustomerReading(moments, **rows)

    def update(self, arrivals: Arrivals | None = None, handovers: KnownHandovers | None = None) -> None:
        """Add what has just become known; the state then stands just after it. Late facts count from now on."""
        none = np.empty(0, np.int64)
        if arrivals is not None and len(arrivals):
            self._meet(arrivals, none, none, _empty(self.settings, 0))
            self.moment = max(self.moment, int(arrivals.arrived_at[-1]) + 1)
        if handovers is not None and len(handovers):
            self._remember(handovers, none, none, _empty(self.settings, 0))
            self.moment = max(self.moment, int(handovers.known_at[-1]) + 1)

    def grow(self, customers: int) -> None:
        """Make room for so many customers; those there keep their positions."""
        more = _empty(self.settings, max(0, customers - self.customers))
        for name in PER_CUSTOMER:
            setattr(self, name, np.concatenate([getattr(self, name), more[name]]))

    def forget(self, customer: int) -> None:
        """Leave nothing of the customer at a position."""
        for name, blank in _empty(self.settings, 1).items():
            getattr(self, name)[customer] = blank[0]

    def _advance(
        self, arrivals: Arrivals, handovers: KnownHandovers, moment: int, customers: Longs, moments: Longs
    ) -> CustomerReading:
        if moment < self.moment or (len(moments) and moments[0] < self.moment):
            raise ValueError(f"the history stands at {self.moment} and cannot go back to {moment}")
        out = _empty(self.settings, len(customers))
        self._meet(between(arrivals, arrivals.arrived_at, self.moment, moment), customers, moments, out)
        self._remember(between(handovers, handovers.known_at, self.moment, moment), customers, moments, out)
        self.moment = moment
        return CustomerReading(moments, **out)

    def _meet(self, arrivals: Arrivals, asked: Longs, moments: Longs, out: dict[str, npt.NDArray[Any]]) -> None:
        check_codes("arrivals: customer", arrivals.customer, self.customers, -1)
        values = _style_values(arrivals, len(self.settings.signals))
        who, at = arrivals.customer.astype(np.int64), arrivals.arrived_at
        stops = np.searchsorted(at, moments)
        for part, weights in self.decay.pieces(at, lambda shift: moved(self.style, shift)):
            q = _asked_in(part, stops, len(at))
            self.core.meet(
                who[part], at[part], weights, values[part], self.count, self.last, self.style,
                stops[q] - part.start, asked[q], out["count"][q], out["last"][q], out["style"][q],
            )  # fmt: skip
            faded(out["style"][q], self.decay.fade(moments[q]), out=out["style"][q])

    def _remember(
        self, handovers: KnownHandovers, asked: Longs, moments: Longs, out: dict[str, npt.NDArray[Any]]
    ) -> None:
        at = handovers.known_at
        if handovers.customer is None:
            raise DataError("hand-overs: customer is missing; −1 is expected where there is none")
        check_codes("hand-overs: customer", handovers.customer, self.customers, -1)
        check_codes("hand-overs: csa", handovers.csa, np.iinfo(np.int32).max, 0)
        check_codes("hand-overs: resolved", handovers.resolved, 2, -1)
        who, csa = handovers.customer.astype(np.int64), handovers.csa.astype(np.int32)
        stops = np.searchsorted(at, moments)
        for part, weights in self.pair_decay.pieces(at, lambda shift: moved(self.pair_sums, shift)):
            q = _asked_in(part, stops, len(at))
            self.core.remember(
                who[part], csa[part], at[part], handovers.resolved[part], weights,
                self.pair_csa, self.pair_last, self.pair_end, self.pair_sums, stops[q] - part.start, asked[q],
                out["pair_csa"][q], out["pair_last"][q], out["pair_end"][q], out["pair_sums"][q],
            )  # fmt: skip
            faded(out["pair_sums"][q], self.pair_decay.fade(moments[q]), out=out["pair_sums"][q])

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that `restored` needs, as arrays without objects; the same history gives the same arrays."""
        moved(self.style, self.decay.move_to(self.moment))
        moved(self.pair_sums, self.pair_decay.move_to(self.moment))
        return {
            "moment": np.array(self.moment),
            "origin": self.decay.origin,
            "pair_origin": self.pair_decay.origin,
            **{name: getattr(self, name) for name in PER_CUSTOMER},
        }

    @classmethod
    def restored(
        cls, settings: CustomerSettings, state: dict[str, npt.NDArray[Any]], core: Core = TWIN
    ) -> CustomerHistory:
        """The inverse of `state`. Raises KeyError or DataError where the arrays are not such a state."""
        history = cls(settings, len(state["count"]), int(state["moment"]), core)
        history.decay.origin = state["origin"].astype(np.int64)
        history.pair_decay.origin = state["pair_origin"].astype(np.int64)
        for name in PER_CUSTOMER:
            mine, given = getattr(history, name), state[name]
            if given.shape != mine.shape or given.dtype != mine.dtype:
                raise DataError(f"{name}: {given.dtype}{given.shape} where {mine.dtype}{mine.shape} is expected")
            mine[...] = given
        return history


def _style_values(arrivals: Arrivals, signals: int) -> Doubles:
    """(N, 2 + S): one contact, one that shows style, and its signals."""
    out = np.zeros((len(arrivals), 2 + signals))
    out[:, 0] = 1
    if arrivals.signals is None:
        return out
    if arrivals.signals.shape != (len(arrivals), signals):
        raise DataError(f"arrivals: signals {arrivals.signals.shape}; {(len(arrivals), signals)} is expected")
    shown = np.isfinite(arrivals.signals)
    odd = ~(shown.all(axis=1) | np.isnan(arrivals.signals).all(axis=1))
    if odd.any():
        raise DataError(f"arrivals: signals of row {int(np.argmax(odd))}; all numbers or all NaN are expected")
    out[:, 1], out[:, 2:] = shown.all(axis=1) if signals else 0, np.where(shown, arrivals.signals, 0)
    return out


def _asked_in(part: slice, stops: Longs, events: int) -> slice:
    """Which questions are answered within a run of events; those after the last event belong to the last run."""
    begin, end = np.searchsorted(stops, [part.start, part.stop])
    return slice(int(begin), len(stops) if part.stop == events else int(end))


def _empty(settings: CustomerSettings, customers: int) -> dict[str, npt.NDArray[Any]]:
    pairs = (customers, settings.pairs)
    return {
        "count": np.zeros(customers, np.int64),
        "last": np.full(customers, NULL_TIME),
        "style": np.zeros((customers, len(settings.style_us), 2 + len(settings.signals))),
        "pair_csa": np.full(pairs, -1, np.int32),
        "pair_last": np.full(pairs, NULL_TIME),
        "pair_end": np.full(pairs, -1, np.int8),
        "pair_sums": np.zeros((*pairs, len(PAIR_SUMS))),
    }
