"""What a page shows of a run beyond its figures: how waits are spread, who works how much, how a day goes.

Notable: everything is sums of one replication, in arrays of the same shape for all, so that those of replications add
up, wherever they ran.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre
from evaluation.simulate.figures import occupancy, waits
from evaluation.simulate.run import Records
from evaluation.simulate.state import ABANDONED, NOBODY, RESOLVED, TRANSFERRED

Doubles = npt.NDArray[np.float64]
GRID_S = np.unique(np.round(np.concatenate([[0.0], np.geomspace(1, 14 * 24 * 3600, 120)]), 3))


@dataclass(frozen=True)
class Details:
    """Sums over replications, of contacts between the warm-up and the horizon. J CSAs, I intervals, L languages."""

    longer: Doubles
    """(len(GRID_S),) contacts that waited longer than each moment of the grid."""
    load: Doubles
    """(J,) occupancy; NaN off shift."""
    hard: Doubles
    """(J,) hard contacts taken."""
    resolved: Doubles
    """(J,) contacts resolved."""
    taken: Doubles
    """(J,) contacts taken."""
    series: Doubles
    """(4, I) by interval of arrival: contacts, abandoned, resolved, seconds waited."""
    languages: Doubles
    """(4, L) by language: contacts, abandoned, resolved, seconds waited; L is that of `languages_of`."""
    runs: int = 1

    def __add__(self, other: Details) -> Details:
        return Details(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def languages_of(centre: Centre) -> tuple[str, ...]:
    """In the order of `Details.languages`."""
    return tuple(sorted(set(centre.language)))


def details(centre: Centre, records: Records, warm_up_s: float = 0.0) -> Details:
    """Of one replication."""
    end, csas = centre.horizon_s, len(centre.csas)
    counted = (records.arrival >= warm_up_s) & (records.arrival < end)
    taken = counted & (records.csa != NOBODY)
    good, wait = counted & (records.status == RESOLVED), waits(records)
    waited = np.where(np.isnan(wait), np.inf, wait)[counted]
    hard = np.zeros(len(centre.classes)) if centre.hard is None else centre.hard
    names = languages_of(centre)
    of = np.array([names.index(one) for one in centre.language], np.int64)[records.kind] if names else None
    interval = np.clip((records.arrival / centre.interval_s).astype(np.int64), 0, centre.rates.shape[1] - 1)

    def by(group: npt.NDArray[np.int64], size: int) -> Doubles:
        known = counted & ~np.isnan(wait)
        lost = counted & (records.status == ABANDONED)
        ended = [np.bincount(group[who], minlength=size) for who in (counted, lost, good)]
        return np.array([*ended, np.bincount(group[known], wait[known], minlength=size)], np.float64)

    def of_csas(who: npt.NDArray[np.bool_]) -> Doubles:
        return np.bincount(records.csa[who], minlength=csas).astype(np.float64)

    return Details(
        longer=len(waited) - np.searchsorted(np.sort(waited), GRID_S, side="right").astype(np.float64),
        load=occupancy(centre, records, warm_up_s, end),
        hard=of_csas(taken & (hard[records.kind] > 0)),
        resolved=of_csas(good),
        taken=of_csas(taken & (records.status != TRANSFERRED)),
        series=by(interval, centre.rates.shape[1]),
        languages=np.zeros((4, 0)) if of is None else by(of, len(names)),
    )
