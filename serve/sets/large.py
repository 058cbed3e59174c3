"""Large windows: prices from an auction say which candidates can matter, an exact method decides among these.

Notable: the auction is a guess and decides nothing. Its prices leave about one candidate a contact; the assignment
among those is held against all candidates: where prices exist that bound every assignment of the whole window by its
value, it is exact, as if all had taken part, several times sooner. Else more candidates take part, in the end all.

Source: Bertsekas (1988), the auction in which all contacts without a CSA bid at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from serve.sets.duals import bound, prices, total
from serve.sets.graph import WAITS, Bools, Doubles, Infeasible, Longs, Sparse, Task

MANY = 20_000  # candidates, from which on the auction saves more than it takes
STEPS = (
    8.0,
    2.0,
    0.5,
    0.12,
    0.03,
    0.008,
    0.002,
)  # by how much a bid rises at least, in standard deviations of the gain
BACK = 2.0  # former steps that prices go back when a smaller one begins, since bids of a kind overshoot
ROUNDS = 200  # of bids with one step: few contacts may outbid each other for long
NEAR = (50.0, 100.0, 400.0)  # last steps that a candidate may be off the prices to take part
PROVEN = 1e-6  # steps that a bound may lie above the value: rounding, of sums over all contacts
ROUNDS, BIDS = (
    600,
    40,
)  # and bids a contact, at most: where the bidding takes longer, the exact method alone is as quick


@dataclass(frozen=True)
class Large(Sparse):
    """Candidates of many contacts; the same answers as `Sparse`, but for ties."""

    def solve(self, task: Task) -> Longs:
        """As `Graph`."""
        if task.usable.sum() < max(MANY, 1) or task.full.any() or np.any(task.room > 1):
            return super().solve(task)
        step = STEPS[-1] * float(task.gain[task.usable].std()) or 1.0
        price = auction(self, task, step)
        keeps = self.best_csa(np.where(task.usable, task.gain, -np.inf), price)
        keeps = np.where(task.must, keeps, np.maximum(keeps, 0.0))
        short = keeps[self.contact] + price[self.csa] - task.gain
        for near in NEAR:
            try:
                chosen = self._few(replace(task, usable=task.usable & (short <= near * step)))
            except Infeasible:
                continue
            if bound(task, *prices(self, task, chosen)) - total(self, task, chosen) <= PROVEN * step:
                return chosen
        return super().solve(task)

    def _few(self, task: Task) -> Longs:
        """`Sparse.solve` over those contacts and CSAs alone who have usable candidates."""
        edges = np.flatnonzero(task.usable)
        contacts = np.unique(np.concatenate([self.contact[edges], np.flatnonzero(task.must)]))
        csas, across = np.unique(self.csa[edges], return_inverse=True)
        down = np.searchsorted(contacts, self.contact[edges])
        start = np.concatenate([[0], np.cumsum(np.bincount(down, minlength=len(contacts)))])
        small = Sparse((len(contacts), len(csas)), start, across)
        usable = np.ones(len(edges), np.bool_)
        found = small.solve(
            Task(task.gain[edges], usable, task.must[contacts], np.zeros(len(csas), np.bool_), task.room[csas])
        )
        chosen = np.full(self.shape[0], WAITS)
        taken = found >= 0
        chosen[contacts[taken]] = csas[found[taken]]
        return chosen


def auction(graph: Sparse, task: Task, step: float) -> Doubles:
    """Prices (F,) at which nearly every contact has, within `step`, what it likes best; of CSAs who take one contact.

    With one step after the other, the last of them `step`: the first bids find the level of prices, the last ones who
    is worth a little more (Bertsekas' scaling).
    """
    csa, gain = _table(graph, task)
    price = np.zeros(graph.shape[1])
    least = np.where(task.must, -np.inf, 0.0)
    former = 0.0
    for one in STEPS:
        now = step * one / STEPS[-1]
        price = _bid(csa, gain, least, np.maximum(price - BACK * former, 0.0), now)
        former = now
    return price


def _bid(csa: Longs, gain: Doubles, least: Doubles, price: Doubles, step: float) -> Doubles:
    """Prices (F,) after an auction that begins at some. csa, gain (W, most): candidates; least (W,): what a contact
    must have left to bid.

    All contacts without a CSA bid at once, each for who leaves them the most, as much as leaves them what the second
    best does, less the step; the highest bid for a CSA wins. It ends when nobody bids, or after `ROUNDS`.
    """
    price, owner, bidding = price.copy(), np.full(len(price), -1), np.arange(len(csa))
    for _ in range(ROUNDS):
        left = gain[bidding] - price[csa[bidding]]
        best = left.argmax(axis=1)
        rows = np.arange(len(bidding))
        most = left[rows, best]
        left[rows, best] = -np.inf
        second = np.maximum(left.max(axis=1, initial=-np.inf), least[bidding])
        second = np.where(np.isfinite(second), second, most - step)
        willing = np.isfinite(most) & (most >= least[bidding])
        target = csa[bidding, best][willing]
        bid = price[target] + (most - second)[willing] + step
        bidder, order = bidding[willing], np.argsort(bid, kind="stable")
        if not len(order):
            break
        winner = np.full(len(price), -1)
        winner[target[order]] = bidder[order]  # the last one written is the highest
        price[target[order]] = bid[order]
        won = np.flatnonzero(winner >= 0)
        outbid = owner[won]
        owner[won] = winner[won]
        bidding = np.concatenate([bidder[winner[target] != bidder], outbid[outbid >= 0]])
    return price


def _table(graph: Sparse, task: Task) -> tuple[Longs, Doubles]:
    """CSAs and gains of each contact's candidates (W, most of one), the gain −inf where there is none."""
    many = np.diff(graph.start)
    place: Longs = np.arange(len(graph.csa)) - graph.start[graph.contact]
    csa = np.zeros((graph.shape[0], int(many.max())), np.int64)
    gain = np.full(csa.shape, -np.inf)
    usable: Bools = task.usable
    csa[graph.contact, place] = graph.csa
    gain[graph.contact[usable], place[usable]] = task.gain[usable]
    return csa, gain
