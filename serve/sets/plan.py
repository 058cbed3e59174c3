"""Limits against demand, before the day begins: whether they can hold together, and what each of them costs.

The fluid model of `serve/sets/prices.py` with the limits of `serve/sets/sustain.py` as rows over x_kg contacts an hour:

    hours        Σ_k t_kg·x_kg ≤ H_g                      occupancy    Σ_k t_kg·x_kg ≤ cap·H_g
    rest         Σ_k (t_kg + rest·hard_k)·x_kg ≤ H_g      in a row     Σ_k hard_k·x_kg ≤ r/(r + 1)·Σ_k x_kg
    exposure     Σ_k x_kg ≥ e·H_g                         demand       Σ_g x_kg ≥ λ_k, where all are to be served

Notable: the same rows answer both questions. As constraints that may contradict each other they give the minimal set
(`serve/sets/conflict.py`); as limits of the program their duals are shadow prices: what a planner gains who relaxes
one by an hour, or by a contact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from serve.sets.conflict import Conflict, Named, conflict
from serve.sets.given import numbers
from serve.sets.graph import Doubles
from serve.sets.prices import Demand
from serve.sets.sustain import Limits
from serve.sets.wait import Waiting
from twotower.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """Demand and what is promised beside it."""

    demand: Demand
    limits: Limits
    hard: Doubles
    """(K,) share of each class that is hard."""
    waiting: Waiting | None = None
    names: tuple[str, ...] = ()
    """(G,) of the groups."""
    classes: tuple[str, ...] = ()
    """(K,)."""

    def conflict(self) -> Conflict | None:
        """The minimal set of promises that cannot all hold if everyone is to be served; None: they can."""
        kinds, groups = self._names()
        may = [
            Named(f"who may take {kind}", self._row(k, None, (~self.demand.can[k]).astype(np.float64)), np.zeros(1))
            for k, kind in enumerate(kinds)
            if not self.demand.can[k].all()
        ]
        asked = [
            Named(f"demand of {kind}", -self._row(k, None, 1.0), -self.demand.arrivals_h[[k]])
            for k, kind in enumerate(kinds)
            if self.demand.arrivals_h[k] > 0
        ]
        return conflict([*may, *self._limits(groups), *asked, *self._guarantees(kinds)])

    def shadow_prices(self) -> list[dict[str, Any]]:
        """What each limit costs at the best plan, the dearest first: `constraint`, `unit` and `value_h`, the value an
        hour that one unit more would bring. Raises ConfigError with the minimal conflict where there is no plan.
        """
        from scipy.optimize import linprog

        kinds, groups = self._names()
        size = self.demand.can.size
        most = [
            Named(f"demand of {kind}", self._row(k, None, 1.0), self.demand.arrivals_h[[k]])
            for k, kind in enumerate(kinds)
        ]
        limits = [*most, *self._limits(groups)]
        rows, bounds = np.concatenate([one.rows for one in limits]), np.concatenate([one.bounds for one in limits])
        gain = np.where(self.demand.can, self.demand.value, 0.0).reshape(-1)
        upper = np.where(self.demand.can.reshape(-1), np.inf, 0.0)
        worth = np.append(gain, 0.0)
        edges = list(zip(np.zeros(size + 1), np.append(upper, np.inf), strict=True))
        done = linprog(-worth, A_ub=rows, b_ub=bounds, bounds=edges, method="highs")
        if done.x is None:
            found = conflict(limits)
            raise ConfigError(f"plan: {done.message}") if found is None else found.refused()
        duals = np.maximum(-np.asarray(done.ineqlin.marginals, np.float64), 0.0)
        units = {"demand": "contact an hour", "exposure": "contact an hour less", "hard": "contact an hour"}
        found_rows = [
            {"constraint": one.name, "unit": units.get(one.name.partition(" ")[0], "hour"), "value_h": float(dual)}
            for one, dual in zip(limits, duals, strict=True)
        ]
        return sorted(found_rows, key=lambda row: -row["value_h"])

    def _limits(self, groups: list[str]) -> list[Named]:
        """The rows of each group."""
        demand, limits, found = self.demand, self.limits, []
        hours, hard = demand.handle_s / 3600, numbers(self.hard, demand.arrivals_h.shape, "hard")
        for g, group in enumerate(groups):
            had = demand.csas[[g]]
            found.append(Named(f"hours of {group}", self._row(None, g, hours[:, g]), had))
            if limits.occupancy is not None:
                row = self._row(None, g, hours[:, g])
                found.append(Named(f"occupancy cap of {group}", row, limits.occupancy * had))
            if limits.rest_s > 0:
                row = self._row(None, g, hours[:, g] + hard * limits.rest_s / 3600)
                found.append(Named(f"rest of {group}", row, had))
            if limits.in_a_row is not None:
                share = limits.in_a_row / (limits.in_a_row + 1)
                found.append(Named(f"hard in a row of {group}", self._row(None, g, hard - share), np.zeros(1)))
            if limits.exposure_h > 0:
                row = -self._row(None, g, 1.0)
                found.append(Named(f"exposure of {group}", row, -limits.exposure_h * had))
        return found

    def _guarantees(self, kinds: list[str]) -> list[Named]:
        """A class that one CSA alone may take waits through their rest: both as bounds of one pause (s), the last
        column."""
        if self.waiting is None or not self.limits.rest_s or not np.any(self.hard > 0):
            return []
        alone = [k for k in range(len(kinds)) if 0 < self.demand.csas[self.demand.can[k]].sum() <= 1]
        if not alone:
            return []
        pause = np.zeros((1, self.demand.can.size + 1))
        pause[0, -1] = 1.0
        return [
            Named(f"rest of {self.limits.rest_s:g} s", -pause, -np.array([self.limits.rest_s])),
            *(
                Named(f"wait guarantee of {self.waiting.guarantee_s:g} s for {kinds[k]}, whom one CSA may take", pause,
                      np.array([min(self.waiting.guarantee_s, 1e12)]))
                for k in alone
            ),
        ]  # fmt: skip

    def _row(self, kind: int | None, group: int | None, of: Doubles | float) -> Doubles:
        """A row over x (K, G) and the pause, with some numbers in a class's row or a group's column."""
        found = np.zeros(self.demand.can.shape)
        found[slice(None) if kind is None else kind, slice(None) if group is None else group] = of
        return np.append(found.reshape(-1), 0.0)[None, :]

    def _names(self) -> tuple[list[str], list[str]]:
        shape = self.demand.can.shape
        kinds = list(self.classes) or [f"class {k}" for k in range(shape[0])]
        groups = list(self.names) or [f"group {g}" for g in range(shape[1])]
        if (len(kinds), len(groups)) != shape:
            raise ConfigError(f"{len(kinds)} classes and {len(groups)} groups named; {shape} expected")
        return kinds, groups
