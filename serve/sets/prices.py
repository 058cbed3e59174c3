"""What an hour of CSA time is worth, by skill: so that a scarce specialist is kept for who needs one.

The fluid model of a centre: classes of contacts k with λ_k an hour, groups of CSAs g with H_g hours on shift an hour
(that is: CSAs), a pair worth v_kg and taking t_kg hours:

    max Σ v_kg·x_kg   with   Σ_g x_kg ≤ λ_k   and   Σ_k t_kg·x_kg ≤ H_g,   x ≥ 0.

The dual π_g of a group's hours is what one more hour of them would bring; a pair is then worth v_kg − π_g·t_kg to the
centre, and who has less to give than their time costs leaves them free (a bid price: Talluri and van Ryzin, 1998; in
matching: Ashlagi et al., 2019; Vera and Banerjee, 2021, for solving anew as demand goes on).

Notable: duals jump when demand crosses a corner, so they are smoothed between two solutions; and demand that is only
seen as it comes moves them by dual subgradients, with no program to solve (Devanur and Hayes, 2009; Agrawal, Wang and
Ye, 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from serve.sets.given import flags, numbers, seconds
from serve.sets.graph import Bools, Doubles, Longs
from twotower.errors import ConfigError

SCARCE = 1e-9  # a price above it is one


@dataclass(frozen=True)
class Demand:
    """What a centre is asked for: K classes of contacts, G groups of CSAs who are alike."""

    arrivals_h: Doubles
    """(K,) contacts an hour."""
    value: Doubles
    """(K, G) of a contact that such a CSA takes."""
    handle_s: Doubles
    """(K, G)."""
    can: Bools
    """(K, G)."""
    csas: Doubles
    """(G,) on shift; a part of one counts as that part of the time."""

    def __post_init__(self) -> None:
        shape = (len(self.arrivals_h), len(self.csas))
        can = flags(self.can, shape, "can")
        for name, of in (("arrivals_h", shape[:1]), ("csas", shape[1:])):
            if numbers(getattr(self, name), of, name).min(initial=0.0) < 0:
                raise ConfigError(f"{name}: 0 or more expected")
        numbers(self.value, shape, "value")
        if np.any(seconds(self.handle_s, shape, "handle_s")[can] <= 0):
            raise ConfigError("handle_s: more than 0 s expected of every pair that can be")

    def arriving(self, counts: Longs, hours: float) -> Demand:
        """With the arrivals of recent or simulated hours: counts (K,) of contacts in so many of them. Raises
        ConfigError."""
        if not (np.isfinite(hours) and hours > 0):
            raise ConfigError(f"hours: {hours}; a finite number above 0 expected")
        return replace(self, arrivals_h=numbers(counts, (len(self.arrivals_h),), "counts") / hours)


@dataclass(frozen=True)
class Fluid:
    """The solution of the fluid model."""

    per_h: Doubles
    """(G,) value of one more hour of each group: π."""
    contact: Doubles
    """(K,) value of one more contact of each class."""
    taken_h: Doubles
    """(K, G) contacts an hour: x."""
    value_h: float
    """Value an hour."""


def fluid(demand: Demand) -> Fluid:
    """Solve the fluid model, by HiGHS. A centre without classes or groups is worth nothing."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array, vstack

    kind, group = np.nonzero(demand.can)
    shape = demand.can.shape
    if not len(kind):
        return Fluid(np.zeros(shape[1]), np.zeros(shape[0]), np.zeros(shape), 0.0)
    pair = np.arange(len(kind))
    arrivals = coo_array((np.ones(len(kind)), (kind, pair)), shape=(shape[0], len(kind)))
    hours = coo_array((demand.handle_s[kind, group] / 3600, (group, pair)), shape=(shape[1], len(kind)))
    limits = np.concatenate([demand.arrivals_h, demand.csas])
    done = linprog(-demand.value[kind, group], A_ub=vstack([arrivals, hours]).tocsr(), b_ub=limits, method="highs")
    if done.x is None:
        raise ConfigError(f"prices: the fluid model has no solution ({done.message})")
    duals = np.maximum(-np.asarray(done.ineqlin.marginals, np.float64), 0.0)
    taken = np.zeros(shape)
    taken[kind, group] = done.x
    return Fluid(duals[shape[0] :], duals[: shape[0]], taken, float(-done.fun))


class Prices:
    """Prices of CSA time that follow demand. CSAs are J, each of one of G groups."""

    def __init__(self, demand: Demand, group: Longs, names: Sequence[str] | None = None, step: float = 0.3) -> None:
        """group (J,): of each CSA; names (G,): of the groups, as planners know them. step: how far a new solution moves
        the prices, 1: at once. Begins at the solution for `demand`. Raises ConfigError."""
        groups = len(demand.csas)
        self.group = np.asarray(group, np.int64)
        if self.group.size and not 0 <= self.group.min() <= self.group.max() < groups:
            raise ConfigError(f"group: 0 to {groups - 1} expected")
        if not 0 < step <= 1:
            raise ConfigError(f"step: {step}; above 0, at most 1 expected")
        self.names = [f"group {g}" for g in range(groups)] if names is None else list(names)
        if len(self.names) != groups:
            raise ConfigError(f"names: {len(self.names)} for {groups} groups")
        self.step, self.demand, self.solution = step, demand, fluid(demand)
        self.per_h: Doubles = self.solution.per_h.copy()

    def update(self, demand: Demand) -> None:
        """Move towards the prices of another demand, by `step`. Raises ConfigError for other classes or groups."""
        if demand.can.shape != self.demand.can.shape:
            raise ConfigError(f"demand: of shape {demand.can.shape}; {self.demand.can.shape} expected")
        self.demand, self.solution = demand, fluid(demand)
        self.per_h += self.step * (self.solution.per_h - self.per_h)

    def realised(self, worked_h: Doubles, on_shift_h: Doubles, rate: float) -> None:
        """Move by what happened, without solving anything: π_g += rate·(worked_g − shift_g), at least 0. A group
        becomes dearer where more was asked of them than they had, cheaper where less.

        worked_h (G,): hours of work that was asked of each group at these prices, which may exceed on_shift_h (G,).
        rate: value of an hour, for each hour too many; one that falls as 1/√n finds the duals. Raises ConfigError.
        """
        shape = self.per_h.shape
        asked, had = numbers(worked_h, shape, "worked_h"), numbers(on_shift_h, shape, "on_shift_h")
        if not (np.isfinite(rate) and rate >= 0):
            raise ConfigError(f"rate: {rate}; a finite number of 0 or more expected")
        self.per_h = np.maximum(0.0, self.per_h + rate * (asked - had))

    def of(
        self,
        csa: Longs,
        kind: Longs | None = None,
        handle_s: Doubles | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Doubles:
        """Price of pairs: the group's hour times the hours that it takes: (W, F), or (F,) where nothing is told of
        contacts.

        csa (F,): among J. kind (W,): classes, of which the handle times are known. handle_s (W, F) or (F,): in place of
        these. Without either, a class's mean over what the solution gives to the group, else over who can.
        """
        group = self.group[csa]
        if handle_s is not None:
            wanted = (len(csa),) if np.ndim(handle_s) == 1 or shape is None else shape
            return np.asarray(self.per_h[group] / 3600 * seconds(handle_s, wanted, "handle_s"))
        if kind is not None:
            return np.asarray(self.per_h[group] / 3600 * self.demand.handle_s[kind][:, group])
        return np.asarray(self.per_h[group] / 3600 * self._mean_s()[group])

    def table(self) -> list[dict[str, Any]]:
        """For planners, a row a group: `skill`, `csas` on shift, `price_h` (value of one more hour), `used` (share of
        the time, in the fluid model), `scarce` (whether the time has a price), the dearest first."""
        hours = (self.solution.taken_h * self.demand.handle_s / 3600).sum(axis=0)
        rows = [
            {
                "skill": name,
                "csas": float(self.demand.csas[g]),
                "price_h": float(self.per_h[g]),
                "used": float(hours[g] / self.demand.csas[g]) if self.demand.csas[g] > 0 else 0.0,
                "scarce": bool(self.per_h[g] > SCARCE),
            }
            for g, name in enumerate(self.names)
        ]
        return sorted(rows, key=lambda row: (-row["price_h"], -row["used"]))

    def text(self) -> str:
        """`table` as lines."""
        width = max([len(name) for name in self.names] + [5])
        lines = [f"{'skill':<{width}}   CSAs  price/h   used  scarce"]
        for row in self.table():
            scarce = "yes" if row["scarce"] else "no"
            lines.append(
                f"{row['skill']:<{width}} {row['csas']:6.1f} {row['price_h']:8.3f} {row['used']:6.1%}  {scarce}"
            )
        return "\n".join(lines)

    def _mean_s(self) -> Doubles:
        weight = np.where(self.demand.can, self.solution.taken_h + 1e-9, 0.0)
        whole = weight.sum(axis=0)
        return np.asarray((weight * self.demand.handle_s).sum(axis=0) / np.where(whole > 0, whole, 1.0))
