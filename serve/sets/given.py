"""What a window is given: arrays of contacts, CSAs and pairs, checked once, for every pair or for candidates alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve.sets.graph import Array, Bools, Dense, Doubles, Graph, Longs
from serve.sets.large import Large
from twotower.errors import ConfigError, shown

More = Callable[[Longs, Longs], Doubles]


@dataclass(frozen=True)
class Pairs:
    """What both kinds of window come to: a graph and arrays of its shape E, with those of CSAs and contacts."""

    graph: Graph
    gain: Doubles
    can: Bools
    rest: Bools
    cap: Bools
    room: Longs
    overdue_s: Doubles | None
    priority: Doubles
    fill: bool


@dataclass(frozen=True)
class Window:
    """W contacts that wait and F CSAs, every pair of them. Nothing but `value` and `can` need be given."""

    value: Doubles
    """(W, F) what a pair is worth, above a contact who is not served now: a calibrated outcome or a utility."""
    can: Bools
    """(W, F) who may take whom."""
    room: Longs | None = None
    """(F,) contacts that each can take now, 1."""
    age: Doubles | None = None
    """(W,) what it is worth, in units of value, that the contact waits no longer (`serve/sets/wait.py`), 0."""
    price: Doubles | None = None
    """(F,) or (W, F) what the CSA's time is worth to contacts that are still to come (`serve/sets/prices.py`), 0."""
    overdue_s: Doubles | None = None
    """(W,) s past the wait guarantee; 0 or below: not yet."""
    rest: Bools | None = None
    """(F,) or (W, F) pairs that break a CSA's rest."""
    cap: Bools | None = None
    """(F,) or (W, F) pairs that break a cap."""
    forbidden: Longs | None = None
    """(n, 2) contact and CSA who must not meet."""
    priority: Doubles | None = None
    """(W,) of contacts, 0: whoever has more is taken up before who has less, whatever their value, as many as can be
    without breaking rest or cap; 0 or below: none."""
    fill: bool = False
    """As many contacts as possible are taken up, whatever their value; else those alone of whom the CSA's time is worth
    it (value + age − price ≥ 0)."""

    def pairs(self) -> Pairs:
        """As arrays that fit. Raises ConfigError naming what does not."""
        value = np.asarray(self.value, np.float64)
        if value.ndim != 2:
            raise ConfigError(f"value: shape {value.shape}; (contacts, CSAs) expected")
        waiting, csas = shape = value.shape
        can = flags(self.can, shape, "can").copy()
        if self.forbidden is not None and np.size(self.forbidden):
            contact, csa = _pairs(self.forbidden, shape).T
            can[contact, csa] = False
        gain = finite(value, can, "value") + numbers(self.age, (waiting,), "age")[:, None]
        gain -= numbers(self.price, (csas,) if self.price is None or np.ndim(self.price) < 2 else shape, "price")
        rest, cap = (_broad(one, shape, name) for one, name in ((self.rest, "rest"), (self.cap, "cap")))
        late = None if self.overdue_s is None else numbers(self.overdue_s, (waiting,), "overdue_s")
        room, priority = places(self.room, csas), numbers(self.priority, (waiting,), "priority")
        return Pairs(Dense(shape), gain, can, rest, cap, room, late, priority, self.fill)


@dataclass(frozen=True)
class Candidates:
    """W contacts with some CSAs each, of F, as an index finds them; fields that are not named here as in `Window`."""

    start: Longs
    """(W + 1,) the candidates of contact i are at `start[i]` … `start[i + 1]`."""
    csa: Longs
    """(n,) positions of CSAs, of one contact none twice."""
    value: Doubles
    """(n,)."""
    csas: int
    """F."""
    room: Longs | None = None
    age: Doubles | None = None
    price: Doubles | None = None
    """(F,)."""
    overdue_s: Doubles | None = None
    rest: Bools | None = None
    """(F,)."""
    cap: Bools | None = None
    """(F,)."""
    priority: Doubles | None = None
    fill: bool = False
    more: More | None = None
    """For contacts (m,) whose candidates are all taken: the values (m, q) of CSAs (q,) with room, NaN: may not."""

    def pairs(self) -> Pairs:
        """As arrays that fit. Raises ConfigError naming what does not."""
        start, csa = np.asarray(self.start, np.int64), np.asarray(self.csa, np.int64)
        if start.ndim != 1 or not len(start) or start[0] != 0 or np.any(np.diff(start) < 0) or start[-1] != len(csa):
            raise ConfigError(f"start: ascending from 0 to the {len(csa)} candidates expected")
        if len(csa) and not 0 <= csa.min() <= csa.max() < self.csas:
            raise ConfigError(f"csa: positions from 0 to {self.csas - 1} expected, got {csa.min()} … {csa.max()}")
        waiting, n = len(start) - 1, len(csa)
        graph = Large((waiting, self.csas), start, csa)
        keys = np.sort(graph.contact * self.csas + csa)
        if np.any(keys[1:] == keys[:-1]):
            raise ConfigError("csa: a contact has the same candidate twice")
        can = np.ones(n, np.bool_)
        gain = finite(np.asarray(self.value, np.float64), can, "value")
        if gain.shape != (n,):
            raise ConfigError(f"value: shape {gain.shape}; {(n,)} expected")
        gain = gain + graph.of_contacts(numbers(self.age, (waiting,), "age"))
        gain -= graph.of_csas(numbers(self.price, (self.csas,), "price"))
        rest, cap = (
            graph.of_csas(np.zeros(self.csas, np.bool_) if one is None else flags(one, (self.csas,), name))
            for one, name in ((self.rest, "rest"), (self.cap, "cap"))
        )
        late = None if self.overdue_s is None else numbers(self.overdue_s, (waiting,), "overdue_s")
        room, priority = places(self.room, self.csas), numbers(self.priority, (waiting,), "priority")
        return Pairs(graph, gain, can, rest, cap, room, late, priority, self.fill)


def numbers(given: npt.ArrayLike | None, shape: tuple[int, ...], name: str) -> Doubles:
    """Finite numbers of a shape; None: zeros. Raises ConfigError."""
    found = np.zeros(shape) if given is None else np.asarray(given, np.float64)
    if found.shape != shape:
        raise ConfigError(f"{name}: shape {found.shape}; {shape} expected")
    return finite(found, np.ones(shape, np.bool_), name)


def finite(given: Doubles, needed: Bools, name: str) -> Doubles:
    """Numbers, 0 where none is needed. Raises ConfigError naming the first that is needed and not finite."""
    if given.shape != needed.shape:
        raise ConfigError(f"{name}: shape {given.shape}; {needed.shape} expected")
    known = np.isfinite(given)
    bad = needed & ~known
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ConfigError(f"{name}: {given[where]} at {', '.join(map(str, where))}; finite numbers expected")
    return given.copy() if known.all() else np.where(needed, given, 0.0)


def seconds(given: npt.ArrayLike | None, shape: tuple[int, ...], name: str) -> Doubles:
    """Times (s), finite and not negative; None: zeros. Raises ConfigError."""
    found = numbers(given, shape, name)
    if found.size and found.min() < 0:
        raise ConfigError(f"{name}: {shown(float(found.min()))} s; 0 or more expected")
    return found


def flags(given: npt.ArrayLike, shape: tuple[int, ...], name: str) -> Bools:
    """Truth values of a shape. Raises ConfigError."""
    found = np.asarray(given)
    if found.shape != shape or found.dtype != np.bool_:
        raise ConfigError(f"{name}: {found.dtype} of shape {found.shape}; bool of {shape} expected")
    return found


def places(given: npt.ArrayLike | None, csas: int) -> Longs:
    """Room (F,), None: 1 each. Raises ConfigError for what is no whole number of 0 or more."""
    found = np.ones(csas, np.int64) if given is None else np.asarray(given)
    if found.shape != (csas,):
        raise ConfigError(f"room: shape {found.shape}; {(csas,)} expected")
    whole = found.astype(np.int64) if np.isfinite(found).all() else np.full(csas, -1)
    if np.any(whole != found) or np.any(whole < 0):
        raise ConfigError("room: whole numbers of 0 or more expected")
    return whole


def _broad(given: npt.ArrayLike | None, shape: tuple[int, int], name: str) -> Bools:
    if given is None:
        return np.zeros(shape, np.bool_)
    if np.ndim(given) == 1:
        return np.broadcast_to(flags(given, shape[1:], name), shape)
    return flags(given, shape, name)


def _pairs(given: npt.ArrayLike, shape: tuple[int, int]) -> Array:
    found = np.asarray(given)
    if found.ndim != 2 or found.shape[1] != 2 or np.any(found < 0) or np.any(found >= shape):
        raise ConfigError(f"forbidden: pairs (n, 2) of contacts below {shape[0]} and CSAs below {shape[1]} expected")
    return found.astype(np.int64)
