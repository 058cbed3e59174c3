"""Customers' past as of a moment: the sums of what was counted, and each customer's latest contact beside them.

Notable: stored sums stand relative to an origin that follows what is told, and that lies outside time until something
is (`engine/decay.py`). They are therefore never read relative to it: both are taken to the asked moment first, by whole
half-lives, a power of two that changes no other bit. So a customer whose first contact is all that the store was told
is read like any other, and to the same bits as from a store that was built later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.customers_languages import Languages
from twotower.clock import NULL_TIME
from twotower.features.customer import SETTINGS
from twotower.features.engine.customers import CustomerHistory
from twotower.features.engine.decay import Decay, faded
from twotower.features.engine.store import Room

Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

COLUMNS = ("at", "style", "since")


@dataclass
class Latest:
    """Each customer's latest contact, which the sums do not hold: `at` i8[C] µs (`NULL_TIME` none), `style` f4[C, S]
    (NaN where it shows none); and what is told of them once: `since` i8[C], when they became a customer (`NULL_TIME`
    unknown), and their `language`."""

    at: Longs
    style: Floats
    since: Longs
    language: Languages
    _room: Room = field(default_factory=lambda: Room(COLUMNS), init=False, repr=False, compare=False)

    @classmethod
    def none(cls, customers: int) -> Latest:
        """Of customers who never came."""
        style = np.full((customers, len(SETTINGS.signals)), np.nan, np.float32)
        return cls(np.full(customers, NULL_TIME), style, np.full(customers, NULL_TIME), Languages())

    def take(self, rows: Longs) -> Latest:
        """Some of the customers."""
        return Latest(self.at[rows], self.style[rows], self.since[rows], self.language.take(rows))

    def copy(self) -> Latest:
        """The same, which goes its own way."""
        return Latest(self.at.copy(), self.style.copy(), self.since.copy(), self.language.copy())

    def spare(self) -> None:
        """Leave room, so that `grow` need not move what is there."""
        self._room.spare(self)

    def grow(self, customers: int) -> None:
        """Make room for more customers, of whom nothing is known."""
        self._room.add(self, Latest.none(max(0, customers - len(self.at))))

    def forget(self, customer: int) -> None:
        """Leave nothing of a customer."""
        self.at[customer], self.style[customer], self.since[customer] = NULL_TIME, np.nan, NULL_TIME
        self.language.keep(customer, None)


def met(history: CustomerHistory, latest: Latest, who: Longs, arrived_at: Longs) -> dict[str, npt.NDArray[Any]]:
    """Contacts, the last one, and faded style sums of customers (N,), strictly before an arrival i8[N] µs: the columns
    `count`, `last` and `style` of a `CustomerReading`."""
    count, last, style = history.count[who], history.last[who], history.style[who]
    gone = last >= arrived_at
    count[gone], last[gone], style[gone] = 0, NULL_TIME, 0
    style, fade = _as_of(style, history.decay, arrived_at)
    at = latest.at[who]
    new = np.flatnonzero((at != NULL_TIME) & (at < arrived_at) & ~gone)
    if len(new):
        signals = latest.style[who[new]]
        shown = np.isfinite(signals).all(axis=1, keepdims=True)
        values = np.concatenate([np.ones((len(new), 1)), shown, np.where(shown, signals, 0)], axis=1)
        style[new] += _weights(history.decay, at[new], arrived_at[new])[:, :, None] * values[:, None, :]
        count[new] += 1
        last[new] = np.maximum(last[new], at[new])
    return {"count": count, "last": last, "style": faded(style, fade, out=style)}


def pairings(history: CustomerHistory, who: Longs, moments: Longs) -> dict[str, npt.NDArray[Any]]:
    """The CSAs met last by customers (N,), with faded sums, strictly before moments i8[N] µs; one who was met since is
    left out: the columns of a `CustomerReading` that begin with `pair`."""
    csa, last, end = history.pair_csa[who], history.pair_last[who], history.pair_end[who]
    sums, gone = history.pair_sums[who], last >= moments[:, None]
    csa[gone], last[gone], end[gone], sums[gone] = -1, NULL_TIME, -1, 0
    sums, fade = _as_of(sums, history.pair_decay, moments)
    return {"pair_csa": csa, "pair_last": last, "pair_end": end, "pair_sums": faded(sums, fade, out=sums)}


def _as_of(sums: Doubles, decay: Decay, moments: Longs) -> tuple[Doubles, Doubles]:
    """Sums (N, ., W) from the decay's origin to the whole half-life that holds each row's moment, and what is left to
    fade them by (N, H). Nothing in a sum may be later than its moment: it could overflow."""
    whole, rest = _split(decay, moments)
    return np.asarray(np.ldexp(sums, (decay.origin - whole)[:, :, None])), np.exp2(-rest)


def _weights(decay: Decay, times: Longs, moments: Longs) -> Doubles:
    """Weights (N, H) of events, each before its moment, in sums as of `_as_of`."""
    whole, rest = _split(decay, times)
    return np.asarray(np.ldexp(np.exp2(rest), whole - _split(decay, moments)[0]))


def _split(decay: Decay, times: Longs) -> tuple[Longs, Doubles]:
    """Times (N,) in half-lives (N, H): whole ones, and the rest in [0, 1)."""
    whole = times[:, None] // decay.half_lives
    return whole, (times[:, None] - whole * decay.half_lives) / decay.half_lives
