"""Whether a staffing meets its targets: counts of replications, by interval, class and group, and what they show.

Notable: a target on a ratio is a target on a sum, as in Atlason, Epelman and Henderson (2004): E[within − α·contacts]
≥ 0 and the like, whose replications are independent, so Student's t applies to each. A contact that nobody had taken
at the end has waited until the end. Work after a shift's end is work of the interval in which it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre, Shifts
from evaluation.simulate.demand import Demand, poisson
from evaluation.simulate.described import DAY
from evaluation.simulate.figures import waits
from evaluation.simulate.policies import Rule
from evaluation.simulate.run import Records, simulate
from evaluation.simulate.staffing_spec import Problem, TargetsSpec
from evaluation.simulate.state import ABANDONED, NOBODY

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
CONTACTS, WITHIN, LOST, WAITED = range(4)
BUSY, STAFFED = range(2)
KEPT = 256  # replications whose contacts are kept
_KEPT: dict[object, Demand] = {}


@dataclass(frozen=True)
class Case:
    """A centre under a policy, of which shifts vary. Sent to other processes."""

    centre: Centre
    group: Longs
    """(J,)."""
    groups: int
    rule: Rule
    seed: int
    warm_up_s: float
    target_s: float

    @property
    def intervals(self) -> int:
        """Of a day."""
        return round(DAY / self.centre.interval_s)


@dataclass(frozen=True)
class Target:
    """One thing that must hold: `metric` at least (sign 1) or at most (−1) `goal`."""

    scope: str
    """interval, day, each_class or each_group."""
    place: int
    """Of the interval, the class or the group."""
    metric: str
    goal: float

    @property
    def sign(self) -> float:
        """1: at least, −1: at most."""
        return 1.0 if self.metric == "service_level" else -1.0


@dataclass(frozen=True)
class Counts:
    """Of R replications: contacts (R, 4, T, K) and seconds (R, 2, T, G), by interval of a day."""

    contacts: Doubles
    seconds: Doubles

    def __len__(self) -> int:
        return len(self.contacts)

    def and_(self, other: Counts) -> Counts:
        """Both."""
        return Counts(np.concatenate([self.contacts, other.contacts]), np.concatenate([self.seconds, other.seconds]))


def staffed(case: Case, staff: Longs) -> Case:
    """With staff (G, T) at work: the first so many of each group, as shifts of one interval, joined."""
    before = np.concatenate([[0], np.cumsum(np.bincount(case.group, minlength=case.groups))])
    rank = np.arange(len(case.group)) - before[case.group]
    csa, interval = np.nonzero(rank[:, None] < staff[case.group])
    days = round(case.centre.horizon_s / DAY)
    starts = (np.arange(days)[:, None] * DAY + interval * case.centre.interval_s).ravel()
    shifts = Shifts(np.tile(csa, days), starts, starts + case.centre.interval_s).joined()
    return replace(case, centre=replace(case.centre, shifts=shifts))


def counts_of(case: Case, number: int) -> Counts:
    """Of one replication."""
    records = simulate(case.centre, case.rule, case.seed, number, _demand(case, number))
    return Counts(_contacts(case, records)[None], _seconds(case, records)[None])


def _demand(case: Case, number: int) -> Demand:
    """A replication's first contacts, which are the same for all candidates, so some are kept."""
    centre = case.centre
    key = (case.seed, number, centre.rates.tobytes(), centre.rates.shape, centre.interval_s, centre.patience)
    if key not in _KEPT:
        if len(_KEPT) >= KEPT:
            _KEPT.clear()
        _KEPT[key] = poisson(centre, case.seed, number)
    return _KEPT[key]


def _contacts(case: Case, records: Records) -> Doubles:
    """(4, T, K)."""
    centre, slots, classes = case.centre, case.intervals, len(case.centre.classes)
    counted = (records.arrival >= case.warm_up_s) & (records.arrival < centre.horizon_s)
    wait = waits(records)[counted]
    arrival, lost = records.arrival[counted], records.status[counted] == ABANDONED
    within = (records.csa[counted] != NOBODY) & (wait <= case.target_s)
    waited = np.where(np.isnan(wait), centre.horizon_s - arrival, wait)
    interval = np.minimum((arrival % DAY / centre.interval_s).astype(np.int64), slots - 1)
    cell = interval * classes + records.kind[counted]
    found = [np.bincount(cell, weights, slots * classes) for weights in (None, within, lost, waited)]
    return np.array(found, np.float64).reshape(4, slots, classes)


def _seconds(case: Case, records: Records) -> Doubles:
    """(2, T, G): with work in hand, and on shift."""
    centre, shifts = case.centre, case.centre.shifts
    taken = records.csa != NOBODY
    busy = _union(records.csa[taken].astype(np.int64), records.start[taken], records.end[taken])
    on = (
        (np.arange(len(case.group)), np.zeros(len(case.group)), np.full(len(case.group), centre.horizon_s))
        if shifts is None
        else (shifts.csa, shifts.starts, shifts.ends)
    )
    return np.array([_by_interval(case, *busy), _by_interval(case, *on)])


def _union(csa: Longs, starts: Doubles, ends: Doubles) -> tuple[Longs, Doubles, Doubles]:
    """Stretches in which a CSA has at least one contact in hand."""
    if not len(csa):
        return csa, starts, ends
    far = float(ends.max()) + 1.0
    order = np.lexsort((starts, csa))
    csa, starts, ends = csa[order], starts[order], ends[order]
    until = np.maximum.accumulate(ends + csa * far)
    first = np.append(True, (starts + csa * far)[1:] > until[:-1])
    last = np.append(np.flatnonzero(first)[1:] - 1, len(csa) - 1)
    return csa[first], starts[first], until[last] - csa[first] * far


def _by_interval(case: Case, csa: Longs, starts: Doubles, ends: Doubles) -> Doubles:
    """Seconds (T, G) of stretches of CSAs, from the warm-up to the horizon."""
    groups, slots = case.groups, case.intervals
    edges = np.arange(case.centre.rates.shape[1] + 1) * case.centre.interval_s
    starts, ends = np.maximum(starts, case.warm_up_s), np.maximum(ends, case.warm_up_s)
    of = case.group[csa]
    found = [np.diff(_past(starts[of == g], edges) - _past(ends[of == g], edges)) for g in range(groups)]
    return np.array(found).reshape(groups, -1, slots).sum(axis=1).T


def _past(points: Doubles, edges: Doubles) -> Doubles:
    """Σ max(0, edge − point) at each edge."""
    points = np.sort(points)
    before = np.concatenate([[0.0], np.cumsum(points)])
    place = np.searchsorted(points, edges, side="right")
    return edges * place - before[place]


def targets_of(problem: Problem, spec: TargetsSpec, least_contacts: float) -> tuple[Target, ...]:
    """All that must hold. By interval only where contacts are expected, and more than so few."""
    expected = problem.arrivals.sum(axis=0)
    busy = np.flatnonzero((expected > 0) & (expected >= least_contacts)).tolist()
    classes = np.flatnonzero(problem.arrivals.sum(axis=1) > 0).tolist()
    groups = np.flatnonzero(problem.most.any(axis=1)).tolist()
    places = {"interval": busy, "day": [0], "each_class": classes, "each_group": groups}
    return tuple(
        Target(scope, place, metric, goal)
        for scope, of in places.items()
        for metric, goal in getattr(spec, scope).model_dump().items()
        if goal is not None
        for place in of
    )


class Shown:
    """What counts show of targets (C,)."""

    def __init__(self, targets: tuple[Target, ...], counts: Counts) -> None:
        self.targets, self.counts = targets, counts

    @cached_property
    def parts(self) -> tuple[Doubles, Doubles]:
        """Numerators and denominators (R, C) of the metrics."""
        pairs = [_ratio(one, self.counts) for one in self.targets]
        return np.stack([one for one, _ in pairs], axis=1), np.stack([one for _, one in pairs], axis=1)

    @cached_property
    def slack(self) -> Doubles:
        """(R, C); a target holds where its expectation is 0 or more."""
        above, below = self.parts
        return (above - np.array([one.goal for one in self.targets]) * below) * self._sign

    @property
    def _sign(self) -> Doubles:
        return np.array([one.sign for one in self.targets])

    @cached_property
    def values(self) -> Doubles:
        """(C,) estimates of the metrics; NaN where there is nothing to measure."""
        above, below = self.parts
        with np.errstate(invalid="ignore", divide="ignore"):
            return above.sum(axis=0) / below.sum(axis=0)

    def halves(self, quantile: float) -> Doubles:
        """(C,) half intervals of `values`."""
        above, below = self.parts
        rest = above - np.nan_to_num(self.values, posinf=0.0) * below
        with np.errstate(invalid="ignore", divide="ignore"):
            return quantile * rest.std(axis=0, ddof=1) / np.sqrt(len(rest)) / below.mean(axis=0)

    def bounds(self, quantile: float) -> tuple[Doubles, Doubles]:
        """(C,) lower and upper bounds of the expected slack."""
        mean, error = self.slack.mean(axis=0), self.slack.std(axis=0, ddof=1) / np.sqrt(len(self.slack))
        return mean - quantile * error, mean + quantile * error

    def shortfall(self, quantile: float) -> Doubles:
        """(C,) by how much each target is missed, for comparisons: as a share of contacts, of the goal or of time."""
        scale = self.parts[1].mean(axis=0)
        scale = scale * np.array([one.goal if one.metric == "mean_wait_s" else 1.0 for one in self.targets])
        return np.maximum(0.0, -self.bounds(quantile)[0]) / np.maximum(scale, 1e-9)


def _ratio(target: Target, counts: Counts) -> tuple[Doubles, Doubles]:
    """(R,) above and below the line."""
    if target.metric == "occupancy":
        seconds = counts.seconds
        if target.scope == "interval":
            part = seconds[:, :, target.place].sum(axis=-1)
        elif target.scope == "each_group":
            part = seconds[..., target.place].sum(axis=-1)
        else:
            part = seconds.sum(axis=(2, 3))
        return part[:, BUSY], part[:, STAFFED]
    contacts = counts.contacts
    if target.scope == "interval":
        part = contacts[:, :, target.place].sum(axis=-1)
    elif target.scope == "each_class":
        part = contacts[..., target.place].sum(axis=-1)
    else:
        part = contacts.sum(axis=(2, 3))
    column = {"service_level": WITHIN, "abandoned": LOST, "mean_wait_s": WAITED}[target.metric]
    return part[:, column], part[:, CONTACTS]


def by_interval(target: Target, counts: Counts) -> Doubles:
    """(T,) mean slack that each interval adds to a target that spans a day."""
    if target.metric == "occupancy":
        seconds = counts.seconds if target.scope != "each_group" else counts.seconds[..., [target.place]]
        part = seconds.sum(axis=3).mean(axis=0)
        return target.goal * part[STAFFED] - part[BUSY]
    contacts = counts.contacts if target.scope != "each_class" else counts.contacts[..., [target.place]]
    part = contacts.sum(axis=3).mean(axis=0)
    column = {"service_level": WITHIN, "abandoned": LOST, "mean_wait_s": WAITED}[target.metric]
    return target.sign * (part[column] - target.goal * part[CONTACTS])
