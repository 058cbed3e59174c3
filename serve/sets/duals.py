"""What a place with each CSA is worth in a window: least dual prices, the proof that goes with them, and what is
optimal.

Notable: prices are found after the assignment, by letting contacts who are taken bid for others until nobody would
rather change: p_j ≥ g_ij − w_i, where w_i = g_ij′ − p_j′ is what contact i keeps of their own CSA j′. Whatever rounding
does on the way, what contacts keep is computed last, so that prices and keepings are always a valid bound from above:
Σ w_i + Σ room_j·p_j ≥ the value of every assignment (weak duality). The gap to the value is therefore honest.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from serve.sets.graph import Doubles, Graph, Longs, Task

ROUNDING = 1e-12  # of the largest gain: a change of a price that is none


def prices(graph: Graph, task: Task, chosen: Longs, exact: bool = False) -> tuple[Doubles, Doubles]:
    """What each contact keeps (W,) and what a place with each CSA costs (F,), in units of gain.

    chosen (W,): an optimal assignment, as from `Graph.solve`. exact: gains are whole numbers, and so are the prices.
    Of CSAs who need not be full the price is 0 or above, and 0 where they have room left; what a contact keeps is 0 or
    above where they may wait. Sources: see `serve/sets/graph.py`.
    """
    gain = np.where(task.usable, task.gain, -np.inf)
    most = float(np.abs(task.gain[task.usable]).max(initial=0.0))
    far = -2.0 * most * (len(chosen) + 1) - 1
    floors = [far] if exact else [0.0, far]
    for floor in floors:  # who must be full may have a price below 0, which is rarely needed
        price = _least(graph, task, chosen, gain, floor, 0.0 if exact else ROUNDING * most)
        keeps = _kept(graph, task, gain, price)
        if not task.full.any() or bound(task, keeps, price) - total(graph, task, chosen) <= 1e-9 * (1 + most):
            break
    return keeps, price


def _least(graph: Graph, task: Task, chosen: Longs, gain: Doubles, floor: float, rounding: float) -> Doubles:
    taken = np.flatnonzero(chosen >= 0)
    mine, own = chosen[taken], graph.at(gain, chosen)
    price = np.where(task.full, floor, 0.0)
    keeps = np.zeros(len(chosen))
    waiting = np.flatnonzero((chosen < 0) & ~task.must)
    price = np.maximum(price, graph.best_contact(gain, keeps, waiting))
    changed = np.arange(len(taken))
    for _ in range(len(chosen) + len(price) + 1):
        if not len(changed):
            break
        keeps[taken] = own - price[mine]
        if np.any((keeps[taken] < -rounding)[~task.must[taken]]):
            break  # somebody would rather wait: no prices support this assignment, and the bound will say so
        offer = graph.best_contact(gain, keeps, taken[changed])
        moved = offer > price + rounding
        price = np.where(moved, offer, price)
        changed = np.flatnonzero(moved[mine])
    used = np.bincount(mine, minlength=len(price))
    price[(used < task.room) & ~task.full] = 0.0
    return price


def _kept(graph: Graph, task: Task, gain: Doubles, price: Doubles) -> Doubles:
    keeps = graph.best_csa(gain, price)
    keeps = np.where(task.must, keeps, np.maximum(keeps, 0.0))
    return np.where(np.isfinite(keeps), keeps, 0.0)


def bound(task: Task, keeps: Doubles, price: Doubles) -> float:
    """The most that any assignment could be worth: Σ keeps (W,) + Σ room·price (F,)."""
    return float(keeps.sum() + (task.room * price).sum())


def total(graph: Graph, task: Task, chosen: Longs) -> float:
    """What an assignment (W,) is worth: the sum of its gains."""
    return float(graph.at(task.gain, chosen).sum())


def narrowed(graph: Graph, task: Task) -> Task:
    """A task whose assignments are exactly the optimal ones of this one, for a next order of precedence to choose from.

    The gains must be whole numbers. By complementary slackness an assignment is optimal if and only if it uses none but
    tight pairs (g = w + p), takes up every contact with w > 0 and fills every CSA with p > 0; so these pairs are
    what is usable, and these must be covered. Raises Infeasible where the task has no assignment.
    """
    keeps, price = prices(graph, task, graph.solve(task), exact=True)
    tight = task.usable & (task.gain == graph.of_contacts(keeps) + graph.of_csas(price))
    return replace(task, usable=tight, must=task.must | (keeps > 0), full=task.full | (price > 0))
