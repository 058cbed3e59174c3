"""Where the effect comes from: from who took the contacts, or from how well they fitted.

Notable: a policy can look good by sending more to the best CSAs. That part of an effect is not a better match: it ends
where their time ends, and it wears them out. With q the past mean of the CSA who took a contact (from before the
experiment, so that no outcome explains itself), p the share that somebody took and m the mean over these, p m is split
exactly:

    Δ(p m + (1 − p) m′) = p̄ Δ(mean q)  +  p̄ Δ(mean of y − q)  +  the rest, from contacts that nobody took,

bars being means of both arms (Kitagawa 1955; Oaxaca 1973; the symmetric weights are Shapley's). Past means are noisy,
so the first part is told too small rather than too large. Errors are the jackknife's over what was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.experiment.effects import Setting, more_by_customers
from evaluation.experiment.outcomes import Outcome
from evaluation.experiment.stats.linear import Told
from evaluation.experiment.stats.multiple import Jackknifed, jackknife
from evaluation.experiment.through_time import Asked

Doubles = npt.NDArray[np.float64]

FIFTHS = 5
EXACT = 1e-12
"""Below it a part is nothing but rounding."""
PRIOR = 20.0
"""Contacts at the mean that every CSA is given, where rates come from the experiment's control."""


@dataclass(frozen=True)
class Taken:
    """The effect in parts that add up to it, and who took contacts."""

    source: str
    """Where CSAs' past means come from."""
    who: Asked
    """From better, or worse, CSAs taking more."""
    match: Asked
    """From how contacts went beyond their CSA's past mean."""
    nobody: Asked
    """From contacts that nobody took."""
    best: Asked
    """Change of the share of contacts that the best fifth of CSAs take."""
    fifths: tuple[tuple[float, float], ...]
    """Share of taken contacts of each fifth of CSAs, worst first: of the control and of the treatment."""

    @property
    def by_who(self) -> bool:
        """Whether more of the effect is surely by who than by match."""
        same = self.who.value * (self.who.value + self.match.value + self.nobody.value) > 0
        return same and self.who.p < 0.05 and abs(self.who.value) > abs(self.match.value)


def taken(setting: Setting, outcome: Outcome) -> Taken | None:
    """None where contacts do not have the metric, or nobody took any in one of the arms."""
    if outcome.values is None:
        return None
    cells, values = setting.cells, outcome.values
    csa, names = pd.factorize(setting.frame["csa_id"])
    rows = np.flatnonzero(cells.counted & ~np.isnan(values))
    rate, source = _rates(setting, values, rows, csa, len(names))
    rows_taken = rows[csa[rows] >= 0]
    arm = cells.arm[cells.of[rows_taken]]
    if min(int((arm == a).sum()) for a in (0, 1)) == 0 or np.isnan(rate).all():
        return None
    fifth = _fifths(rate, csa[rows_taken])
    q = np.where(np.isnan(rate), np.nanmean(rate[csa[rows_taken]]), rate)[csa[rows_taken]]
    best = (fifth[csa[rows_taken]] == FIFTHS - 1).astype(np.float64)
    parts = [cells.total(rows), cells.total(rows, values[rows]), cells.total(rows_taken)]
    parts += [cells.total(rows_taken, each) for each in (values[rows_taken], q, best)]
    found = jackknife(np.stack(parts, axis=1), cells.arm, cells.cluster, _split)
    found = found.wider(more_by_customers(setting, outcome))
    alpha = setting.plan.primary.alpha
    shares = [np.bincount(fifth[csa[rows_taken[arm == a]]], minlength=FIFTHS) for a in (0, 1)]
    shares = [one / one.sum() for one in shares]
    who, match, nobody, more = (_asked(found, place, alpha) for place in range(4))
    return Taken(source, who, match, nobody, more, tuple((float(a), float(b)) for a, b in zip(*shares, strict=True)))


def _split(control: Doubles, treatment: Doubles) -> Doubles:
    """Parts (…, 4) of sums (…, 6): contacts, y, taken, y of these, q of these, of the best fifth."""
    (n0, y0, t0, m0, q0, b0), (n1, y1, t1, m1, q1, b1) = (np.moveaxis(one, -1, 0) for one in (control, treatment))
    share = (t0 / n0 + t1 / n1) / 2
    who = share * (q1 / t1 - q0 / t0)
    match = share * ((m1 - q1) / t1 - (m0 - q0) / t0)
    whole = y1 / n1 - y0 / n0
    return np.stack([who, match, whole - who - match, b1 / t1 - b0 / t0], axis=-1)


def _rates(
    setting: Setting, values: Doubles, rows: npt.NDArray[np.int64], csa: npt.NDArray[np.int64], many: int
) -> tuple[Doubles, str]:
    """Past means of CSAs, NaN where there is none, and where they come from."""
    if "csa_rate" in setting.frame:
        told = setting.column("csa_rate")
        rate = np.full(many, np.nan)
        known = (csa >= 0) & ~np.isnan(told)
        rate[csa[known]] = told[known]
        if not np.isnan(rate).all():
            return rate, "from before the experiment"
    of = rows[(csa[rows] >= 0) & (setting.cells.arm[setting.cells.of[rows]] == 0)]
    count = np.bincount(csa[of], minlength=many)
    mean = values[of].mean() if len(of) else np.nan
    sums = np.bincount(csa[of], values[of], minlength=many)
    return (sums + PRIOR * mean) / (count + PRIOR), "from the control's contacts: no history of CSAs was given"


def _fifths(rate: Doubles, csa: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The fifth (J,) of every CSA, among those who took contacts, worst first; unknown rates are in the middle."""
    there = np.unique(csa)
    filled = np.where(np.isnan(rate), np.nanmedian(rate[there]), rate)
    place = np.zeros(len(rate), np.int64)
    place[there[np.argsort(filled[there], kind="stable")]] = np.arange(len(there)) * FIFTHS // len(there)
    return place


def _asked(found: Jackknifed, place: int, alpha: float) -> Asked:
    told: Told = found.told(place)
    if told.se < EXACT and abs(told.value) < EXACT:
        return Asked(0.0, 0.0, 0.0, 1.0)
    low, high = told.interval(alpha)
    return Asked(told.value, low, high, told.p())
