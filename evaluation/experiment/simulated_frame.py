"""The frame of a simulated experiment, as `measured.py` makes one of tables.

Notable: for what is run by the thousand, text columns are categories, which nobody writes out; `text=True` writes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.experiment.frame import CONTROL, FRAME
from evaluation.experiment.schedule import place
from evaluation.experiment.simulated import Experiment, Ran, Testbed, alone, arrived
from evaluation.experiment.simulated_contacts import Seen, came_back, seen
from evaluation.simulate.state import NOBODY
from twotower.clock import SECOND

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

LOADS = ("quiet", "usual", "busy")
LOAD_S = 1800.0
"""As in `measured.py`: by thirds of contacts that had arrived in the half hour before."""


def past_means(bed: Testbed, replication: int, until_s: float, metric: str) -> Doubles:
    """(K,) mean of a metric by class in a replication that is all control: history, from which covariates are taken."""
    past = seen(bed.centre, alone(bed, arrived(bed, replication), CONTROL, replication), until_s)
    y, classes = past.metrics[metric], len(bed.centre.classes)
    known = ~np.isnan(y)
    count = np.bincount(past.kind[known], minlength=classes)
    total = np.bincount(past.kind[known], y[known], classes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def frame_of(experiment: Experiment, ran: Ran, past: Doubles | None = None, text: bool = False) -> pd.DataFrame:
    """Columns of `frame.FRAME`, in order of arrival. past (K,): the covariate of each class (`past_means`)."""
    bed, plan = experiment.bed, experiment.plan
    of = seen(bed.centre, ran.records, experiment.seconds)
    moment = experiment.begins + (of.arrival * SECOND).astype(np.int64)
    units = _named(*_units(experiment, ran, of), True)
    placed = place(plan, experiment.schedule(ran.arms), moment, units)
    customer = ran.customer[of.row]
    nothing = np.full(len(of), np.nan)
    policies = [one.policies[0] for one in (plan.control, plan.treatment)]
    followed = np.where(of.csa == NOBODY, -1, _policy(experiment, ran, of))
    language = bed.centre.language or ("",) * len(bed.centre.classes)
    columns: dict[str, Any] = {
        "contact_id": _numbered("c", np.arange(len(of)), text),
        "customer_id": _numbered("k", customer, text),
        "arrived_at": pd.to_datetime(moment, unit="us", utc=True),
        "unit": units if text else _named(*_units(experiment, ran, of), False),
        "block": placed.block,
        "arm": placed.arm,
        "washed": placed.washed,
        "csa_id": _named(list(bed.centre.csas), of.csa, text),
        "policy": _named(policies, followed, text),
        "quality": nothing,
        "repeat": came_back(of, customer, plan.repeat_days, experiment.seconds),
        "covariate": nothing if past is None else past[of.kind],
        "language": _named(list(language), of.kind, text),
        "intent": _named(list(bed.centre.classes), of.kind, text),
        "tenure": _named(["≥ 1 year"], np.where(of.csa == NOBODY, -1, 0), text),
        "load": _named(list(LOADS), _load(of.arrival), text),
        **of.metrics,
    }
    frame = pd.DataFrame({name: columns[name] for name in FRAME})
    return frame.assign(arrived_at=frame["arrived_at"].dt.as_unit("us"))


def _units(experiment: Experiment, ran: Ran, of: Seen) -> tuple[list[str], Longs]:
    """Names of units, and which is each contact's."""
    plan = experiment.plan
    if plan.design == "customer":
        return [plan.control.name, plan.treatment.name], ran.customer_arm[of.row].astype(np.int64)
    return sorted(experiment.units), experiment.column_of(of.kind).astype(np.int64)


def _policy(experiment: Experiment, ran: Ran, of: Seen) -> Longs:
    """Whose policy chose the first CSA: the arm of the moment at which they took it."""
    taken = of.arrival + np.nan_to_num(of.metrics["wait_s"])
    arms: Longs = ran.assigned.arm[ran.assigned.block_at(taken), ran.assigned.unit[of.row]].astype(np.int64)
    return arms


def _load(arrival: Doubles) -> Longs:
    before = np.arange(len(arrival)) - np.searchsorted(arrival, arrival - LOAD_S)
    return np.searchsorted(np.quantile(before, (1 / 3, 2 / 3)), before, side="left")


def _named(names: list[str], code: npt.NDArray[Any], text: bool) -> Any:
    """Names (N,) by position, null at −1."""
    if text:
        return np.array([*names, None], object)[code]
    unique = list(dict.fromkeys(names))
    if len(unique) < len(names):
        code = np.where(code < 0, -1, np.array([unique.index(name) for name in names])[code])
    return pd.Categorical.from_codes(code, unique)  # type: ignore[call-overload]


def _numbered(letter: str, number: Longs, text: bool) -> Any:
    """`c7`; as numbers where nobody reads them."""
    return np.array([f"{letter}{i}" for i in number.tolist()], object) if text else number
