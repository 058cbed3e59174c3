"""Policies: who gets whom. All answer the same two questions, for a contact that arrives and a CSA who gets free.

Notable: a rule is data, so that the loop stays compiled. One that needs Python (a matcher's bundle, sets of contacts
and CSAs at once) gives `decide`, which is asked at every event that allows a decision, or by a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre
from evaluation.simulate.world import DECIDED, INDEX, LEVELS, LONGEST_IDLE, RANDOM, Policy
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """What a rule sees when it decides. W contacts that wait, by arrival; F CSAs with room, the longest idle first."""

    now: float
    """Seconds from the start."""
    contact: Longs
    """(W,) positions, in the run's order of arrival."""
    kind: Longs
    """(W,) class."""
    row: Longs
    """(W,) the first contact of which it is, or comes, for its vectors and text."""
    waited: Doubles
    """(W,) s."""
    barred: Longs
    """(W,) a CSA who must not take it, −1: none."""
    csa: Longs
    """(F,)."""
    room: Longs
    """(F,) contacts that each can take now."""
    idle: Doubles
    """(F,) s since the last contact began or ended."""
    busy: Doubles
    """(J,) s of work so far."""
    staffed: Doubles
    """(J,) s on shift so far."""
    taken: Longs
    """(J,) contacts so far."""


@dataclass(frozen=True)
class Choice:
    """Pairs (n, 2) of positions in `View.contact` and of CSAs; `again_s`: ask after so many seconds even if nothing
    happens until then (infinite: not)."""

    pairs: Longs
    again_s: float = np.inf


class Decide(Protocol):
    """A rule in Python."""

    def __call__(self, view: View) -> Choice:
        """Who gets whom now."""
        ...


@dataclass(frozen=True)
class Vectors:
    """A score of pairs as inner products, x·y: contacts (N, D), CSAs (J, D)."""

    contacts: Singles
    csas: Singles


@dataclass(frozen=True)
class Rule:
    """A policy. Fields as in `world.Policy`; `start` makes a rule in Python anew for every replication."""

    name: str
    kind: int
    value: Doubles | None = None
    age: Doubles | None = None
    price: Doubles | None = None
    hold_s: float = 0.0
    level: npt.NDArray[np.int8] | None = None
    after_s: tuple[float, ...] = (0.0,)
    vectors: Vectors | None = None
    scanned: int = 1
    pairs: Singles | None = None
    start: Callable[[], Decide] | None = None
    clock_s: float = 0.0

    def arrays(self, centre: Centre) -> Policy:
        """For the compiled loop. Raises ConfigError where it does not fit the centre."""
        k, j = len(centre.classes), len(centre.csas)

        def of(values: npt.NDArray[np.float64] | None, shape: tuple[int, ...], name: str) -> Doubles:
            if values is None:
                return np.zeros(shape)
            if values.shape != shape or np.any(np.isnan(values)):
                raise ConfigError(f"policy {self.name}: {name} of shape {values.shape}; numbers of {shape} expected")
            return np.ascontiguousarray(values, np.float64)

        steps = np.asarray(self.after_s, np.float64)
        if not len(steps) or steps[0] != 0 or np.any(np.diff(steps) <= 0):
            raise ConfigError(f"policy {self.name}: after_s: ascending seconds from 0 on expected")
        level = np.zeros((k, j), np.int8) if self.level is None else self.level
        if level.shape != (k, j) or np.any(level >= len(steps)):
            raise ConfigError(f"policy {self.name}: level: steps below {len(steps)} of shape {(k, j)} expected")
        vectors = self.vectors or Vectors(np.zeros((0, 0), np.float32), np.zeros((j, 0), np.float32))
        if len(vectors.csas) != j:
            raise ConfigError(f"policy {self.name}: vectors of {len(vectors.csas)} CSAs; {j} expected")
        return Policy(
            np.array([self.kind]), of(self.value, (k, j), "value"), of(self.age, (k,), "age"),
            of(self.price, (j,), "price"), np.array([float(self.hold_s)]), np.ascontiguousarray(level, np.int8), steps,
            np.ascontiguousarray(vectors.contacts, np.float32), np.ascontiguousarray(vectors.csas, np.float32),
            pairs_of(self.pairs, j, f"policy {self.name}"), np.array([self.scanned]), np.array([float(self.clock_s)]),
        )  # fmt: skip


def pairs_of(given: Singles | None, csas: int, whose: str) -> Singles:
    """Numbers of pairs (N, J) for the compiled loop, (0, J) where there are none. Raises ConfigError."""
    pairs = np.zeros((0, csas), np.float32) if given is None else given
    if pairs.ndim != 2 or pairs.shape[1] != csas or not np.all(np.isfinite(pairs)):
        raise ConfigError(f"{whose}: pairs of shape {pairs.shape}; finite numbers of (contacts, {csas}) expected")
    return np.ascontiguousarray(pairs, np.float32)


def fifo(name: str = "FIFO, longest idle") -> Rule:
    """Who waits longest gets who is idle longest, of those who can: what most centres do."""
    return Rule(name, LONGEST_IDLE)


def random(name: str = "random") -> Rule:
    """Anybody who can, drawn with equal chances; a CSA who gets free takes any contact that waits."""
    return Rule(name, RANDOM)


def skills(level: npt.NDArray[np.int8], after_s: tuple[float, ...], name: str = "skills with overflow") -> Rule:
    """Skills-based routing with steps of overflow: level (K, J) tells from which step on a CSA may take a class
    (0: at once, negative: never), step l is open after `after_s[l]` seconds."""
    return Rule(name, LEVELS, level=level, after_s=after_s)


def p_mu(centre: Centre, success: Doubles | None = None, name: str = "pμ") -> Rule:
    """The pair that resolves the most a second: p·μ (Mehrotra, Ross, Ryder and Zhou, 2012). success (K, J): what is
    believed; default: the truth."""
    p = centre.success if success is None else success
    return Rule(name, INDEX, value=p / np.where(centre.can, centre.handle_s, np.inf))


def c_mu(centre: Centre, cost: Doubles, name: str = "cμ") -> Rule:
    """cμ generalised: cost (K,) of a second that a class waits, times how fast the pair works, times the seconds waited
    (Van Mieghem, 1995, for a cost that grows with the square of the wait)."""
    mean = np.where(centre.can, centre.handle_s, np.inf)
    rate = cost[:, None] / mean
    return Rule(name, INDEX, value=rate, age=rate.max(axis=1))


def greedy(
    value: Doubles,
    age_per_s: float = 0.0,
    vectors: Vectors | None = None,
    scanned: int = 16,
    name: str = "greedy match",
    pairs: Singles | None = None,
) -> Rule:
    """The pair of the highest value (K, J), plus x·y where vectors and its own (N, J) where pairs are given; a second's
    wait counts `age_per_s`."""
    age = np.full(len(value), age_per_s)
    return Rule(name, INDEX, value=value, age=age, vectors=vectors, scanned=scanned, pairs=pairs)


def decided(start: Callable[[], Decide], clock_s: float = 0.0, name: str = "decided") -> Rule:
    """A rule in Python; `clock_s` seconds between its decisions, 0: whenever one is possible."""
    if not clock_s >= 0:
        raise ConfigError(f"policy {name}: clock_s of {clock_s} seconds; 0 or more expected")
    return Rule(name, DECIDED, start=start, clock_s=clock_s)
