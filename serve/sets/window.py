"""One window: the contacts that wait and the CSAs with room, matched together under strict precedence.

Order of precedence, each exact before the next is asked: **deadline** (contacts past their wait guarantee are taken up,
of these the oldest first), **rest** (as few of them as possible meet a CSA who should rest), **cap** (as few as
possible meet a CSA at their cap), **priority** (as many contacts as possible of the highest, of these as many of the
next, …), then, where `fill` asks for it, as many contacts as possible, then **value**. Only a contact past its
guarantee may break rest or cap; others wait.

Notable: precedence is no weight. Who is overdue and can be taken up is a basis of a transversal matroid (Edmonds and
Fulkerson, 1965), and weights 1, 2, 3 … by age find the basis that takes the oldest first, as any weights of that order
do; likewise weights by priority find the most of the highest first. After that each stage narrows the graph to its
optimal face (`serve/sets/duals.py`), from which the next one chooses, so no value, however large or small, meets a
number that stands for a rank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from serve.sets.duals import bound, narrowed, prices, total
from serve.sets.given import Candidates, Pairs, Window, places
from serve.sets.graph import WAITS, Array, Bools, Doubles, Graph, Longs, Task

REASONS = ("taken up", "nobody may", "full", "rest", "cap", "worth less than waiting", "others gain more")
TAKEN, NOBODY, FULL, REST, CAP, LESS, OTHERS = range(len(REASONS))
UNTOLD = -1


@dataclass(frozen=True)
class Settled:
    """What a window comes to, for W contacts and F CSAs."""

    csa: Longs
    """(W,) position of who takes each contact, −1: it waits."""
    value: float
    """The sum over pairs of value + age − price."""
    contact_price: Doubles
    """(W,) what the window would be worth less without the contact: dual prices, in units of value."""
    csa_price: Doubles
    """(F,) what a further place with each CSA would at least be worth to the contacts here: dual prices."""
    gap: float
    """How far the value may lie below the best under the same precedence, proven by the prices; 0 but for rounding,
    except where CSAs who are nobody's candidate were asked afterwards."""
    broke_rest: Bools
    """(W,) taken by a CSA who should rest, for a deadline."""
    broke_cap: Bools
    """(W,) likewise of a cap."""
    reason: Longs
    """(W,) why a contact waits, as positions in `REASONS`; −1: nobody asked."""

    @property
    def pairs(self) -> Longs:
        """(n, 2) contact and CSA."""
        taken = np.flatnonzero(self.csa >= 0)
        return np.column_stack([taken, self.csa[taken]])

    def why(self, contact: int) -> str:
        """Why a contact waits, or that it is taken up."""
        place = int(self.reason[contact])
        return "not asked for" if place == UNTOLD else REASONS[place]


@dataclass(frozen=True)
class _Rules:
    """A window over a graph: may: with room and not forbidden; free: without breaking anything (both E)."""

    graph: Graph
    gain: Doubles
    room: Longs
    may: Bools
    rest: Bools
    cap: Bools
    overdue_s: Doubles

    @property
    def free(self) -> Bools:
        return self.may & ~self.rest & ~self.cap

    def task(self, usable: Bools, must: Bools) -> Task:
        """To be covered: `must` (W,); nobody need be full."""
        return Task(self.gain, usable, must, np.zeros(self.graph.shape[1], np.bool_), self.room)


def settle(window: Window | Candidates, prove: bool = True) -> Settled:
    """Who takes whom. Exact for a `Window`, and for `Candidates` among these, after which contacts who are left ask
    whoever has room. prove: False leaves out prices and gap (NaN) and why contacts wait (−1), for who settles many
    small windows. Raises ConfigError for arrays that do not fit or are not numbers, as `Window` and `Candidates` do.
    """
    given = window.pairs()
    waiting, csas = given.graph.shape
    room = np.minimum(given.room, waiting)
    may = given.can & given.graph.of_csas(room > 0)
    overdue_s = np.zeros(waiting) if given.overdue_s is None else given.overdue_s
    rules = _Rules(given.graph, given.gain, room, may, given.rest, given.cap, overdue_s)
    if not waiting or not csas or not may.any():
        chosen, task = np.full(waiting, WAITS), rules.task(may, np.zeros(waiting, np.bool_))
    else:
        task = _preferred(rules, _precedence(rules), given.priority)
        task = _filled(rules, task) if given.fill else task
        chosen = given.graph.solve(task)
    keeps, price, gap = np.full(waiting, np.nan), np.full(csas, np.nan), np.nan
    broke = np.zeros((2, waiting), np.bool_)
    broke[:, chosen >= 0] = [given.graph.at(one, chosen) for one in (given.rest, given.cap)]
    value = total(given.graph, task, chosen)
    if prove:
        keeps, price = prices(given.graph, task, chosen)
        gap = max(0.0, bound(task, keeps, price) - value)
    more = isinstance(window, Candidates) and window.more is not None
    reason = np.where(chosen >= 0, TAKEN, UNTOLD)
    if (prove or more) and (chosen < 0).any():
        reason = _reasons(given, rules, chosen)
    found = Settled(chosen, value, keeps, price, gap, broke[0], broke[1], reason)
    return _completed(window, found, prove) if isinstance(window, Candidates) and more else found


def _completed(window: Candidates, found: Settled, prove: bool) -> Settled:
    """With those whose candidates were all taken, by whoever has room left: a window of their own."""
    used = np.bincount(found.csa[found.csa >= 0], minlength=window.csas)
    room = places(window.room, window.csas) - used
    contacts = np.flatnonzero((found.csa < 0) & (found.reason != LESS))
    csas = np.flatnonzero(room > 0)
    if window.more is None or not len(contacts) or not len(csas):
        return found
    value = np.asarray(window.more(contacts, csas), np.float64)

    def of(given: Array | None, who: Longs) -> Array | None:
        return None if given is None else np.asarray(given)[who]

    rest = Window(
        value, ~np.isnan(value), room[csas], of(window.age, contacts), of(window.price, csas),
        of(window.overdue_s, contacts), of(window.rest, csas), of(window.cap, csas),
        priority=of(window.priority, contacts), fill=window.fill,
    )  # fmt: skip
    more = settle(rest, prove)
    taken = more.csa >= 0
    csa, reason = found.csa.copy(), found.reason.copy()
    csa[contacts[taken]], reason[contacts] = csas[more.csa[taken]], more.reason
    keeps, price, broke = found.contact_price.copy(), found.csa_price.copy(), [found.broke_rest, found.broke_cap]
    keeps[contacts] += more.contact_price
    price[csas] += more.csa_price
    for one, added in zip(broke, (more.broke_rest, more.broke_cap), strict=True):
        one[contacts] |= added
    # Prices of both windows together support what was a candidate in either, but count room that is used already.
    gap = found.gap + more.gap + float((used[csas] * more.csa_price).sum())
    return Settled(csa, found.value + more.value, keeps, price, gap, broke[0], broke[1], reason)


def _precedence(rules: _Rules) -> Task:
    """What is left to choose once deadlines, rest and caps have had their say."""
    late = rules.overdue_s > 0
    task = rules.task(rules.free, late)
    if not late.any() or rules.graph.coverable(task):
        return task  # nobody's rest or cap need be broken
    served = _oldest(rules, late)
    of_late = rules.graph.of_contacts(late)
    task = rules.task(np.where(of_late, rules.may & rules.graph.of_contacts(served), rules.free), served)
    for broken in (rules.rest, rules.cap):
        kept = replace(task, usable=task.usable & ~(broken & of_late))
        if rules.graph.coverable(kept):
            task = kept
        else:
            breaks = np.where(broken & of_late, -1.0, 0.0)
            task = replace(narrowed(rules.graph, replace(task, gain=breaks)), gain=rules.gain)
    return task


def _oldest(rules: _Rules, late: Bools) -> Bools:
    """Which of the contacts past their guarantee can be taken up, the oldest first (W,); of equals the earlier."""
    order = np.argsort(-rules.overdue_s, kind="stable")
    rank = np.zeros(len(late))
    rank[order] = np.arange(len(late), 0, -1)
    usable = rules.may & rules.graph.of_contacts(late)
    task = replace(rules.task(usable, np.zeros_like(late)), gain=np.where(usable, rules.graph.of_contacts(rank), 0.0))
    return np.asarray(rules.graph.solve(task) >= 0)


def _preferred(rules: _Rules, task: Task, priority: Doubles) -> Task:
    """Of these, what takes up the most contacts of the highest priority, then of the next, …"""
    rank = np.searchsorted(np.unique(priority[priority > 0]), priority, "right").astype(np.float64)
    rank[priority <= 0] = 0.0
    if not rank.any():
        return task
    everyone = replace(task, must=task.must | (rank > 0))
    if rules.graph.coverable(everyone):
        return everyone
    gain = np.broadcast_to(rules.graph.of_contacts(rank), task.gain.shape).copy()
    return replace(narrowed(rules.graph, replace(task, gain=gain)), gain=task.gain)


def _filled(rules: _Rules, task: Task) -> Task:
    """Of these, what leaves as few contacts waiting as can be."""
    everyone, all_room = np.ones_like(task.must), np.ones_like(task.full)
    scarce = len(task.must) > int(rules.room.sum())
    easy = replace(task, full=all_room) if scarce else replace(task, must=everyone)
    if rules.graph.coverable(easy):
        return easy
    return replace(narrowed(rules.graph, replace(task, gain=np.ones_like(task.gain))), gain=task.gain)


def _reasons(given: Pairs, rules: _Rules, chosen: Longs) -> Longs:
    """Why each contact waits (W,): the first thing that keeps it from everybody."""
    graph = rules.graph

    def some(edges: Array) -> Bools:
        found = graph.best_csa(np.where(edges, 1.0, 0.0), np.zeros(graph.shape[1]))
        return np.asarray(found > 0)

    used = np.bincount(chosen[chosen >= 0], minlength=graph.shape[1])
    free, late = rules.free, rules.overdue_s > 0
    open_now = rules.may if late.any() else free
    left = some((np.where(graph.of_contacts(late), open_now, free)) & graph.of_csas(used < rules.room))
    reason = np.full(graph.shape[0], OTHERS)
    reason[left] = LESS
    reason[~some(free) & ~late] = CAP
    reason[~some(rules.may & ~rules.rest) & ~late] = REST
    reason[~some(rules.may)] = FULL
    reason[~some(given.can)] = NOBODY
    reason[chosen >= 0] = TAKEN
    return reason


def warm() -> None:
    """Import what the first window would have to wait for, some tenths of a second: for who has time at the start."""
    one = np.ones((1, 1))
    settle(Window(one, one > 0))
    settle(Candidates(np.array([0, 1]), np.zeros(1, np.int64), np.ones(1), 1))
