"""For whom the effect is larger or smaller: by intent, language, load and the CSA's tenure.

Notable: many bands are looked at, so each is tested against the rest (not against zero), the tests share a
false-discovery rate, and the effects that are shown are shrunk to their common mean. Intent, language and load are the
contact's own, known before an arm could touch them. Tenure is of the CSA who took it, whom the arm chose: such a
difference is one of mix as well, and says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.experiment.effects import Means, Setting
from evaluation.experiment.outcomes import Outcome
from evaluation.experiment.stats.multiple import discoveries, shrunk

Doubles = npt.NDArray[np.float64]

KINDS = {"intent": "intent", "language": "language", "load": "load on arrival", "tenure": "tenure of the CSA"}
CHOSEN_BY_ARM = ("tenure",)
LEAST = 100
"""Contacts of each arm that a band needs; smaller ones are put together."""
MOST = 12
"""Bands of a kind; the largest."""
OTHERS, NONE = "(others)", "(none)"


@dataclass(frozen=True)
class Band:
    """The effect on contacts of one kind."""

    kind: str
    value: str
    contacts: int
    share: tuple[float, float]
    """Of the control's contacts and of the treatment's."""
    effect: float
    low: float
    high: float
    """At the primary's level, of this band alone."""
    shrunk: float
    shrunk_se: float
    apart: float
    """Effect less that on all other contacts."""
    p: float
    q: float
    """Adjusted p of `apart` over all bands of all kinds."""
    found: bool


def bands(setting: Setting, outcome: Outcome) -> tuple[Band, ...]:
    """Effects by band; none for metrics that single contacts do not have."""
    if outcome.values is None:
        return ()
    rough = [one for kind in KINDS for one in _of_kind(setting, outcome, kind)]
    q = discoveries([one.p for one in rough])
    fdr = setting.plan.fdr
    return tuple(
        Band(**{**vars(one), "q": float(each), "found": bool(each <= fdr)}) for one, each in zip(rough, q, strict=True)
    )


def _of_kind(setting: Setting, outcome: Outcome, kind: str) -> list[Band]:
    """Bands of one kind, shrunk together; none where there is only one."""
    column = setting.frame[kind].astype(object)
    names = column.where(column.notna(), NONE).astype(str).to_numpy(object)
    found = []
    for name, kept in _members(setting, outcome, names):
        inside, rest = Means(setting, outcome, kept), Means(setting, outcome, ~kept)
        if inside.there and rest.there:
            found.append((name, inside, inside.difference(), inside.apart(rest)))
    if len(found) < 2:
        return []
    values, errors = (np.array([getattr(told, each) for _, _, told, _ in found]) for each in ("value", "se"))
    pulled = shrunk(values, np.maximum(errors, 1e-12))
    alpha, out = setting.plan.primary.alpha, []
    totals = [outcome.n[setting.cells.arm == a].sum() for a in (0, 1)]
    for i, (name, inside, told, apart) in enumerate(found):
        low, high = told.interval(alpha)
        count = [inside.n[inside.arm == a].sum() for a in (0, 1)]
        share = (float(count[0] / totals[0]), float(count[1] / totals[1]))
        out.append(
            Band(
                kind, name, int(sum(count)), share, told.value, low, high, float(pulled.value[i]), float(pulled.se[i]),
                apart.value, apart.p(), math.nan, False,
            )
        )  # fmt: skip
    return out


def _members(
    setting: Setting, outcome: Outcome, names: npt.NDArray[np.object_]
) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Large bands, and what is left over as one, if that is large."""
    cells, values = setting.cells, outcome.values
    known = cells.counted & ~np.isnan(values)  # type: ignore[arg-type]
    codes, kinds = pd.factorize(names)
    arm = cells.arm[cells.of]
    count = np.stack([np.bincount(codes[known & (arm == a)], minlength=len(kinds)) for a in (0, 1)])
    large = np.flatnonzero(count.min(axis=0) >= LEAST)
    large = large[np.argsort(-count.sum(axis=0)[large], kind="stable")][:MOST]
    found = [(str(kinds[i]), codes == i) for i in large]
    others = ~np.isin(codes, large)
    if min(int((known & others & (arm == a)).sum()) for a in (0, 1)) >= LEAST:
        found.append((OTHERS, others))
    return found
