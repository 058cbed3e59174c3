"""Figures of a replication, made from its records: service, outcomes, load and fairness.

Notable: contacts that arrive before the warm-up's end or after the horizon are in no figure, and occupancy counts the
same stretch of time. A wait is the time until somebody takes the contact or it abandons; what is left over at the end
counts as not served. The Gini coefficient is that of Gini (1912), 0 where all have the same.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre
from evaluation.simulate.run import Records
from evaluation.simulate.state import ABANDONED, NOBODY, OPEN, RESOLVED, UNRESOLVED

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
TARGET_S = 20.0


@dataclass(frozen=True)
class Figures:
    """Of one replication; NaN where there is nothing to make a figure of."""

    contacts: float
    """Attempts: first contacts, repeats and transfers."""
    resolved: float
    """Share of attempts that were resolved; transfers, which go on as another attempt, are not among them."""
    first_resolved: float
    """Share of first contacts that were resolved without a repeat."""
    csat: float
    """Mean rating that those who were served, and not handed on, would give (`centre.Csat`)."""
    level: float
    """Share of attempts taken up within `target_s`."""
    waits: float
    """Share that found nobody at once."""
    mean_wait_s: float
    p90_wait_s: float
    abandoned: float
    left_over: float
    """Share that nobody had taken two weeks after the horizon."""
    handle_s: float
    """Mean of those that were taken."""
    occupancy: float
    """Share of time on shift with work in hand, over everyone; overtime counts as work, not as time on shift."""
    busiest: float
    """The same of the CSA of whom it is highest."""
    gini_load: float
    """Of occupancy over CSAs."""
    gini_hard: float
    """Of hard contacts for each hour on shift."""
    gap_resolved: float
    """Between the languages that are resolved most and least often; NaN of fewer than two."""
    gap_wait_s: float
    """Between the mean waits of the languages that wait longest and shortest."""

    def as_row(self) -> dict[str, float]:
        """By name."""
        return {one.name: float(getattr(self, one.name)) for one in fields(self)}


NAMES = tuple(one.name for one in fields(Figures))


def figures(centre: Centre, records: Records, warm_up_s: float = 0.0, target_s: float = TARGET_S) -> Figures:
    """What a replication came to, from `warm_up_s` to the horizon."""
    end = centre.horizon_s
    counted = (records.arrival >= warm_up_s) & (records.arrival < end)
    taken = counted & (records.csa != NOBODY)
    lost = counted & (records.status == ABANDONED)
    wait = waits(records)
    served = counted & ((records.status == RESOLVED) | (records.status == UNRESOLVED) | lost | (records.status == OPEN))
    good = counted & (records.status == RESOLVED)
    first = counted & (records.parent == NOBODY)
    known = wait[counted & ~np.isnan(wait)]
    load = occupancy(centre, records, warm_up_s, end)
    gap_resolved, gap_wait = _gaps(centre, records, counted, served, good, wait)
    return Figures(
        contacts=float(counted.sum()),
        resolved=_share(good, served),
        first_resolved=_share(good & first, first),
        csat=_csat(centre, records, taken, wait),
        level=_share(taken & (wait <= target_s), counted),
        waits=_share(counted & ~(wait <= 0), counted),
        mean_wait_s=float(known.mean()) if len(known) else np.nan,
        p90_wait_s=float(np.quantile(known, 0.9)) if len(known) else np.nan,
        abandoned=_share(lost, counted),
        left_over=_share(counted & (records.status == OPEN), counted),
        handle_s=float((records.end - records.start)[taken].mean()) if taken.any() else np.nan,
        occupancy=_pooled(centre, load, warm_up_s, end),
        busiest=float(np.nanmax(load)) if np.any(~np.isnan(load)) else np.nan,
        gini_load=gini(load[~np.isnan(load)]),
        gini_hard=gini(hard_an_hour(centre, records, counted, warm_up_s, end)),
        gap_resolved=gap_resolved,
        gap_wait_s=gap_wait,
    )


def _csat(centre: Centre, records: Records, taken: Flags, wait: Doubles) -> float:
    rated = taken & ((records.status == RESOLVED) | (records.status == UNRESOLVED))
    rating = ratings(centre, records, wait)[rated]
    return float(rating.mean()) if len(rating) else float("nan")


def ratings(centre: Centre, records: Records, wait: Doubles) -> Doubles:
    """(M,) what customers would give, for those who were served."""
    csat = centre.csat
    given = np.where(records.status == RESOLVED, csat.resolved, csat.unresolved)
    found: Doubles = np.clip(given - csat.a_minute * wait / 60.0, 1.0, 5.0)
    return found


def _gaps(
    centre: Centre, records: Records, counted: Flags, served: Flags, good: Flags, wait: Doubles
) -> tuple[float, float]:
    """How far languages are apart, in the share resolved and in seconds waited."""
    names = sorted(set(centre.language))
    if len(names) < 2:
        return float("nan"), float("nan")
    of = np.array([names.index(one) for one in centre.language])[records.kind]
    shares, means = [], []
    for place in range(len(names)):
        mine = of == place
        if (served & mine).any():
            shares.append(_share(good & mine, served & mine))
        known = wait[counted & mine & ~np.isnan(wait)]
        if len(known):
            means.append(float(known.mean()))
    return _range(shares), _range(means)


def _range(values: list[float]) -> float:
    return max(values) - min(values) if len(values) > 1 else float("nan")


def waits(records: Records) -> Doubles:
    """Seconds (M,) until a contact was taken or abandoned, NaN where neither."""
    until = np.where(records.status == ABANDONED, records.end, records.start)
    found: Doubles = until - records.arrival
    return found


def occupancy(centre: Centre, records: Records, begin: float, end: float) -> Doubles:
    """Share (J,) of each CSA's time on shift within [begin, end) with work in hand; NaN where there is no shift."""
    csas, staffed = len(centre.csas), centre.staffed_s(begin, end)
    taken = np.flatnonzero(records.csa != NOBODY)
    csa = records.csa[taken]
    starts, ends = np.clip(records.start[taken], begin, end), np.clip(records.end[taken], begin, end)
    if centre.capacity is None or centre.capacity.max(initial=1) <= 1:
        busy = np.bincount(csa, ends - starts, minlength=csas).astype(np.float64)
    else:
        busy = _covered(csa, starts, ends, csas)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(staffed > 0, busy / staffed, np.nan)


def _covered(csa: npt.NDArray[np.int32], starts: Doubles, ends: Doubles, csas: int) -> Doubles:
    """Seconds (J,) in which at least one of a CSA's stretches, which may overlap, is going on."""
    order = np.lexsort((starts, csa))
    csa, starts, ends = csa[order], starts[order], ends[order]
    busy, until, who = np.zeros(csas), 0.0, NOBODY
    for i in range(len(csa)):
        if csa[i] != who:
            who, until = int(csa[i]), -np.inf
        busy[who] += max(0.0, ends[i] - max(starts[i], until))
        until = max(until, float(ends[i]))
    return busy


def hard_an_hour(centre: Centre, records: Records, counted: Flags, begin: float, end: float) -> Doubles:
    """Hard contacts for each hour on shift, of the CSAs who have shifts and can take one; empty where none is hard."""
    if centre.hard is None or not np.any(centre.hard > 0):
        return np.zeros(0)
    hard = counted & (centre.hard[records.kind] > 0) & (records.csa != NOBODY)
    many = np.bincount(records.csa[hard], minlength=len(centre.csas))
    hours = centre.staffed_s(begin, end) / 3600.0
    who = (hours > 0) & centre.can[centre.hard > 0].any(axis=0)
    found: Doubles = many[who] / hours[who]
    return found


def gini(values: Doubles) -> float:
    """Of values >= 0; NaN of none, 0 where all are 0."""
    if not len(values):
        return float("nan")
    total = float(values.sum())
    if total <= 0:
        return 0.0
    place = np.arange(1, len(values) + 1)
    return float((2 * place - len(values) - 1) @ np.sort(values) / (len(values) * total))


def _pooled(centre: Centre, load: Doubles, begin: float, end: float) -> float:
    staffed = centre.staffed_s(begin, end)
    return float(np.nansum(load * staffed) / staffed.sum()) if staffed.sum() > 0 else float("nan")


def _share(part: Flags, of: Flags) -> float:
    return float(part.sum() / of.sum()) if of.any() else float("nan")
