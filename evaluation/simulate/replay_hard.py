"""Hard contacts of a replay: the share that is least likely to be resolved by whoever may take it, in classes apart.

Notable: what makes a contact hard is what decides its outcome, averaged over people, so who is good at its kind does
not make it easy. A policy is told which ones they are: a router would say it by its own forecast.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre
from evaluation.simulate.demand import Demand

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


def hardest(pairs: Singles, can: npt.NDArray[np.bool_], share: float) -> npt.NDArray[np.bool_]:
    """(N,) the share of contacts with the lowest mean log-odds (N, J) over who may take them (N, J); those whom nobody
    may take are not hard."""
    many = can.sum(axis=1)
    mean = np.where(many > 0, np.where(can, pairs, 0.0).sum(axis=1) / np.maximum(many, 1), np.inf)
    found = np.zeros(len(pairs), np.bool_)
    found[np.argsort(mean, kind="stable")[: round(share * len(pairs))]] = True
    return found & (many > 0)


def split(
    centre: Centre, demand: Demand, known: Doubles, hard: npt.NDArray[np.bool_]
) -> tuple[Centre, Demand, Doubles]:
    """The centre with every class twice (2K): easy ones, then hard ones, without rates; hard (N,) by `Demand.row`."""
    k = len(centre.classes)
    kind = demand.kind + (k * hard[demand.row]).astype(np.int32)

    def twice(values: Doubles | None) -> Doubles | None:
        return None if values is None else np.concatenate([values, values])

    found = replace(
        centre,
        classes=(*centre.classes, *(f"{name}, hard" for name in centre.classes)),
        rates=np.zeros((2 * k, centre.rates.shape[1])),
        handle_s=np.concatenate([centre.handle_s, centre.handle_s]),
        success=np.concatenate([centre.success, centre.success]),
        sigma=twice(centre.sigma),
        patience=centre.patience * 2 if len(centre.patience) == k else centre.patience,
        language=centre.language * 2,
        hard=np.repeat([0.0, 1.0], k),
    )
    return found, replace(demand, kind=kind), np.concatenate([known, known])
