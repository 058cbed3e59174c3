"""Where a search for staff begins, and how shifts cover what it found: integer programs, solved by HiGHS.

Notable: the start takes each interval for a steady state of its own and its CSAs for one group that can do everything
(Erlang C, or A where customers abandon: a relaxation, so mostly too few), then finds the cheapest groups that hold so
many, with time for the work of each class. It is where the search begins and binds nothing.

Source of the covering program: Dantzig, A comment on Edie's "Traffic delays at toll booths" (1954).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import HOUR
from evaluation.simulate.described import DAY, span
from evaluation.simulate.staffing_spec import Goals, Problem
from evaluation.simulate.theory import erlang_a, erlang_c
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
NEVER_S = 1e7


def start(problem: Problem, goals: Goals, target_s: float) -> Longs:
    """Staff (G, T) to begin with, within bounds."""
    found = np.zeros_like(problem.most)
    for t in range(found.shape[1]):
        if problem.arrivals[:, t].any():
            found[:, t] = _interval(problem, t, goals, target_s)
    return found


def fewest(
    arrivals: float, handle_s: float, patience_s: float, goals: Goals, target_s: float, most: int
) -> int:  # fmt: skip
    """Agents of a steady state that meet the targets, `most` where none do. arrivals: a second; patience_s: mean."""
    load = arrivals * handle_s
    for agents in range(1, most):
        if load * (1 - (goals.abandoned or 0.0)) > (goals.occupancy or math.inf) * agents:
            continue
        level, abandons, wait = _steady(arrivals, handle_s, patience_s, agents, target_s)
        if (
            level >= (goals.service_level or 0.0)
            and abandons <= (1.0 if goals.abandoned is None else goals.abandoned)
            and wait <= (math.inf if goals.mean_wait_s is None else goals.mean_wait_s)
        ):
            return agents
    return most


def _steady(arrivals: float, handle_s: float, patience_s: float, agents: int, target_s: float) -> tuple[float, ...]:
    """Service level, abandonment, mean wait. With abandonment the level's tail is that of the rate of leaving."""
    load = arrivals * handle_s
    if patience_s >= NEVER_S:
        if load >= agents:
            return 0.0, 0.0, math.inf
        exact = erlang_c(arrivals, handle_s, agents, target_s)
        return exact.level, 0.0, exact.mean_wait_s
    of = erlang_a(arrivals, handle_s, agents, patience_s)
    rate = max(0.0, agents / handle_s - arrivals) + 1 / patience_s
    return 1 - of.waits * math.exp(-rate * target_s), of.abandons, of.mean_wait_s


def _interval(problem: Problem, t: int, goals: Goals, target_s: float) -> Longs:
    """(G,) the cheapest for an interval."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    classes = np.flatnonzero(problem.arrivals[:, t] > 0)
    a_second = problem.arrivals[classes, t] / (problem.hours * HOUR)
    can, handle = problem.can[classes], problem.handle_s[classes]
    fastest = np.where(can, handle, np.inf).min(axis=1)
    patience = [problem.centre.patience_of(int(k)) for k in classes]
    mean = [NEVER_S if one.kind == "never" else min(one.mean_s, NEVER_S) for one in patience]
    places = np.array([_places(problem, g) for g in range(len(problem.groups))])
    most, total = problem.most[:, t], a_second.sum()
    agents = fewest(
        total, float(a_second @ fastest / total), float(a_second @ mean / total), goals, target_s,
        int(most @ places),
    )  # fmt: skip
    pairs = np.argwhere(can)
    groups, many = len(most), len(most) + len(pairs)
    # Staff of each group, then the share of each class that each group takes.
    rows = np.zeros((1 + groups + 2 * len(classes), many))
    low, high = np.full(len(rows), -np.inf), np.full(len(rows), np.inf)
    rows[0, :groups], low[0] = places, agents
    load = (a_second[:, None] * handle) * (1 - (goals.abandoned or 0.0)) / (goals.occupancy or 1.0)
    for i, (k, g) in enumerate(pairs):
        rows[1 + g, groups + i] = load[k, g]
        rows[1 + groups + k, groups + i] = 1
    rows[1 + np.arange(groups), np.arange(groups)], high[1 : 1 + groups] = -places, 0
    low[1 + groups : 1 + groups + len(classes)] = high[1 + groups : 1 + groups + len(classes)] = 1
    rows[1 + groups + len(classes) :, :groups], low[1 + groups + len(classes) :] = can, 1
    limits = Bounds(np.append(problem.least[:, t], np.zeros(len(pairs))), np.append(most, np.ones(len(pairs))))
    found = milp(
        np.append(problem.cost, np.zeros(len(pairs))), integrality=np.append(np.ones(groups), np.zeros(len(pairs))),
        bounds=limits, constraints=LinearConstraint(rows, low, high),
    )  # fmt: skip
    return most if found.x is None else np.rint(found.x[:groups]).astype(np.int64)


def _places(problem: Problem, g: int) -> int:
    capacity, of = problem.centre.capacity, np.flatnonzero(problem.group == g)
    return 1 if capacity is None or not len(of) else int(capacity[of[0]])


@dataclass(frozen=True)
class Roster:
    """Shifts that cover requirements. S shifts."""

    names: tuple[str, ...]
    csas: Longs
    """(G, S)."""
    hours: Doubles
    """(S,) of work."""
    spans: tuple[tuple[tuple[float, float], ...], ...]
    """(S,) stretches of work, seconds of the day."""


def covered(problem: Problem, staff: Longs, shifts: dict[str, tuple[str, ...]]) -> Roster:
    """The cheapest shifts with at least `staff` (G, T) on shift throughout each interval.

    Raises ConfigError where no shift covers an interval in which somebody is needed.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    spans = tuple(tuple(span(text, f"shifts {name!r}") for text in of) for name, of in shifts.items())
    starts = np.arange(staff.shape[1]) * problem.centre.interval_s
    covers = np.array([[_within(of, begin, begin + problem.centre.interval_s) for begin in starts] for of in spans])
    bare = (staff.sum(axis=0) > 0) & ~covers.any(axis=0)
    if bare.any():
        at = clock(float(starts[np.flatnonzero(bare)[0]]))
        raise ConfigError(f"shifts: none covers the whole interval from {at} on, in which somebody is needed")
    hours = np.array([sum(end - begin for begin, end in of) / HOUR for of in spans])
    csas = np.zeros((len(staff), len(spans)), np.int64)
    for g in np.flatnonzero(staff.any(axis=1)):
        found = milp(
            hours * problem.cost[g], integrality=np.ones(len(spans)), bounds=Bounds(0, np.inf),
            constraints=LinearConstraint(covers.T.astype(np.float64), staff[g], np.inf),
        )  # fmt: skip
        csas[g] = np.rint(found.x).astype(np.int64)
    return Roster(tuple(shifts), csas, hours, spans)


def _within(spans: tuple[tuple[float, float], ...], begin: float, end: float) -> bool:
    """Whether one stretch covers the interval, on this day or begun the day before."""
    return any(a <= begin + day and end + day <= b for a, b in spans for day in (0.0, DAY))


def clock(seconds: float) -> str:
    """Of a day, like 08:30."""
    minutes = round(seconds / 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
