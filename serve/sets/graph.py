"""Who may meet whom, as a matrix or as lists of candidates, and one assignment over it, solved exactly.

Notable: waiting costs nothing and is always possible, unless a contact `must` be taken up or a CSA must be `full`; both
are written into the graph and no large number stands for them, so a difference of 1e-12 in value decides as one of 1
does. Prices are the least ones that support an assignment (the fixed point of "a CSA costs at least what another
contact would give for them", Bellman and Ford), and bound the value from above, so every answer comes with its own
proof.

Sources: Jonker and Volgenant (1987), as in SciPy; Crouse (2016); Mendelsohn and Dulmage (1958) for who must be covered
on both sides; Demange, Gale and Sotomayor (1986) for least prices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
WAITS = -1


class Infeasible(Exception):
    """Not all who must be covered can be."""


@dataclass(frozen=True)
class Task:
    """What is asked of a graph: E is its shape of edges, W contacts, F CSAs.

    gain E: of a pair above waiting. usable E: who may be paired. must (W,): may not wait. full (F,): all their room
    must be used. room (F,): contacts that each can take, at most W.
    """

    gain: Doubles
    usable: Bools
    must: Bools
    full: Bools
    room: Longs


class Graph(Protocol):
    """Pairs of W contacts and F CSAs, as edges in the graph's own shape E."""

    @property
    def shape(self) -> tuple[int, int]:
        """W and F."""
        ...

    def of_contacts(self, what: Array) -> Array:
        """Something of the contacts (W,), as it goes along with arrays of shape E."""
        ...

    def of_csas(self, what: Array) -> Array:
        """Something of the CSAs (F,), as it goes along with arrays of shape E."""
        ...

    def solve(self, task: Task) -> Longs:
        """The CSA of each contact (W,), −1: waits, of the largest sum of gains. Raises Infeasible."""
        ...

    def coverable(self, task: Task) -> bool:
        """Whether all who must be covered can be, whatever the gains."""
        ...

    def at(self, edges: Array, chosen: Longs) -> Array:
        """What the chosen pairs have in an array of shape E (n,), in the order of the contacts who are taken."""
        ...

    def best_csa(self, gain: Doubles, price: Doubles) -> Doubles:
        """The most that each contact has left (W,) of an array E once a CSA's price (F,) is paid; −inf without
        edges."""
        ...

    def best_contact(self, gain: Doubles, keeps: Doubles, contacts: Longs) -> Doubles:
        """The most that some of the contacts would give for each CSA (F,), if they keep so much (W,) of an array E."""
        ...


@dataclass(frozen=True)
class Dense:
    """Every pair: edges are a matrix (W, F)."""

    shape: tuple[int, int]

    def of_contacts(self, what: Array) -> Array:
        """As `Graph`."""
        return what[:, None]

    def of_csas(self, what: Array) -> Array:
        """As `Graph`."""
        return what[None, :]

    def solve(self, task: Task) -> Longs:
        """As `Graph`, by `scipy.optimize.linear_sum_assignment` over places: a CSA stands once for each contact they
        can take, and who need not be paired may share a cell of cost 0, which pairs nobody."""
        from scipy.optimize import linear_sum_assignment

        waiting = len(task.must)
        place = np.repeat(np.arange(self.shape[1]), task.room)
        size = max(waiting, len(place))
        cost = np.zeros((size if task.full.any() else waiting, size))
        pairs = np.where(task.usable, -task.gain, np.inf)
        if task.must.any() or task.full.any():
            pairs = np.where(task.must[:, None] | task.full[None, :], pairs, np.minimum(pairs, 0.0))
        else:
            np.minimum(pairs, 0.0, out=pairs)
        cost[:waiting, : len(place)] = pairs if (task.room == 1).all() else pairs[:, place]
        cost[:waiting, len(place) :] = np.where(task.must, np.inf, 0.0)[:, None]
        cost[waiting:, : len(place)] = np.where(task.full, np.inf, 0.0)[place]
        try:
            rows, columns = linear_sum_assignment(cost)
        except ValueError as error:
            raise Infeasible from error
        chosen = np.full(waiting, WAITS)
        real = (rows < waiting) & (columns < len(place))
        chosen[rows[real]] = place[columns[real]]
        return paired(self, task, chosen)

    def coverable(self, task: Task) -> bool:
        """As `Graph`."""
        try:
            self.solve(replace(task, gain=np.zeros(self.shape)))
        except Infeasible:
            return False
        return True

    def at(self, edges: Array, chosen: Longs) -> Array:
        """As `Graph`."""
        taken = np.flatnonzero(chosen >= 0)
        return np.asarray(np.broadcast_to(edges, self.shape)[taken, chosen[taken]])

    def best_csa(self, gain: Doubles, price: Doubles) -> Doubles:
        """As `Graph`."""
        return np.asarray((gain - price).max(axis=1, initial=-np.inf))

    def best_contact(self, gain: Doubles, keeps: Doubles, contacts: Longs) -> Doubles:
        """As `Graph`."""
        return np.asarray((gain[contacts] - keeps[contacts, None]).max(axis=0, initial=-np.inf))


def paired(graph: Graph, task: Task, chosen: Longs) -> Longs:
    """Without the cells that pair nobody: those of who may wait, with a CSA who may idle, and nothing to gain."""
    taken = np.flatnonzero(chosen >= 0)
    csa = chosen[taken]
    usable = graph.at(task.usable, chosen).astype(np.bool_)
    gains = graph.at(task.gain, chosen).astype(np.float64) >= 0
    chosen[taken[~(usable & (gains | task.must[taken] | task.full[csa]))]] = WAITS
    return chosen


@dataclass(frozen=True)
class Sparse:
    """Candidates of each contact: edges (n,), those of contact i at `start[i]` … `start[i + 1]`, of CSAs `csa` (n,)."""

    shape: tuple[int, int]
    start: Longs
    csa: Longs

    @cached_property
    def contact(self) -> Longs:
        """(n,) whose candidate."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.start))

    def of_contacts(self, what: Array) -> Array:
        """As `Graph`."""
        return what[self.contact]

    def of_csas(self, what: Array) -> Array:
        """As `Graph`."""
        return what[self.csa]

    def solve(self, task: Task) -> Longs:
        """As `Graph`, by `scipy.sparse.csgraph.min_weight_full_bipartite_matching`, in which every contact who may wait
        has a place of their own to wait in, and, where some CSAs must be full, every other one a contact of their own.
        """
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import min_weight_full_bipartite_matching

        waiting = self.shape[0]
        rows, columns, costs = self._places(task)
        places = int(task.room.sum())
        may_wait = np.flatnonzero(~task.must)
        parts = [(rows, columns, costs), (may_wait, places + may_wait, np.zeros(len(may_wait)))]
        height = waiting
        if task.full.any():
            idle = np.flatnonzero(~np.repeat(task.full, task.room))
            parts += [
                (waiting + idle, idle, np.zeros(len(idle))),
                (waiting + columns, places + rows, np.zeros(len(rows))),
            ]
            height += places
        if not waiting:
            return np.zeros(0, np.int64)
        down, across, cost = (np.concatenate(one) for one in zip(*parts, strict=True))
        shift = 1.0 - cost.min(initial=0.0)  # a zero would be no edge; each row is matched once, so nothing changes
        table = csr_array((cost + shift, (down, across)), shape=(height, places + waiting))
        try:
            found_rows, found = min_weight_full_bipartite_matching(table)
        except ValueError as error:
            raise Infeasible from error
        chosen = np.full(waiting, WAITS)
        real = (found_rows < waiting) & (found < places)
        chosen[found_rows[real]] = np.repeat(np.arange(self.shape[1]), task.room)[found[real]]
        return paired(self, task, chosen)

    def coverable(self, task: Task) -> bool:
        """As `Graph`: both sides can be covered together where each can be alone (Mendelsohn and Dulmage, 1958)."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_bipartite_matching

        rows, columns, _ = self._places(task)
        places = np.repeat(task.full, task.room)
        for needed, of_edges in ((task.must, task.must[rows]), (places, places[columns])):
            edges = (np.ones(int(of_edges.sum()), np.int8), (rows[of_edges], columns[of_edges]))
            table = csr_array(edges, shape=(self.shape[0], len(places)))
            if needed.any() and (maximum_bipartite_matching(table) >= 0).sum() < needed.sum():
                return False
        return True

    def _places(self, task: Task) -> tuple[Longs, Longs, Doubles]:
        """Contacts, places and costs of the usable edges: a CSA stands once for each contact they can take."""
        first = np.cumsum(task.room) - task.room
        edges = np.flatnonzero(task.usable)
        many = task.room[self.csa[edges]]
        columns = np.repeat(first[self.csa[edges]], many) + _counting(many)
        return np.repeat(self.contact[edges], many), columns, np.repeat(-task.gain[edges], many)

    def at(self, edges: Array, chosen: Longs) -> Array:
        """As `Graph`."""
        return edges[self._edges(chosen)]

    def _edges(self, chosen: Longs) -> Longs:
        """The edges (n,) of the chosen pairs."""
        return np.flatnonzero(chosen[self.contact] == self.csa)

    def best_csa(self, gain: Doubles, price: Doubles) -> Doubles:
        """As `Graph`."""
        found = np.full(self.shape[0], -np.inf)
        some = np.flatnonzero(np.diff(self.start))
        if len(some):
            found[some] = np.maximum.reduceat(gain - price[self.csa], self.start[some])
        return found

    def best_contact(self, gain: Doubles, keeps: Doubles, contacts: Longs) -> Doubles:
        """As `Graph`."""
        many = np.diff(self.start)[contacts]
        edges = np.repeat(self.start[contacts], many) + _counting(many)
        found = np.full(self.shape[1], -np.inf)
        np.maximum.at(found, self.csa[edges], gain[edges] - np.repeat(keeps[contacts], many))
        return found


def _counting(many: Longs) -> Longs:
    """0 … many[0] − 1, 0 … many[1] − 1, and so on."""
    ends = np.cumsum(many)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - many, many)
