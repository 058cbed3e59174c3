"""How long a centre remembers, from its log alone: a queue that is longer than usual, and how much of it is left later.

Notable: no arm ever changed in such a log, but what an arm leaves behind is a state of the centre (who waits, who is
busy), and how fast a state is forgotten shows in any log. Local projections (Jordà 2005, American Economic Review 95)
regress the contacts in the system after h minutes, beyond the usual of that slot of the week, on those now, given how
many arrived in between; without the arrivals a busy day would pass for memory. What is left of the state bounds what is
left of an effect: contacts that arrive later are touched by the earlier arm through nothing else, but for people's
fatigue and customers who come again.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from evaluation.experiment.carry import Decay, fitted
from evaluation.experiment.design_history import History
from evaluation.experiment.schedule import MONDAY, WEEK
from twotower.clock import DAY, NEVER, SECOND
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]

STEP_MINUTES = 5
HORIZONS = (5, 10, 15, 20, 30, 40, 50, 60, 75, 90, 120, 150, 180, 240, 300, 360)
"""Minutes."""
PARTS = 4
"""Stretches between now and then whose arrivals count apart."""
SOURCE = "log: contacts in the system"


def relaxation(history: History) -> Decay:
    """What is left of a queue longer than usual, fitted. Raises ConfigError where the log does not tell when contacts
    left."""
    known = history.left != NEVER
    if known.mean() < 0.5:
        raise ConfigError(
            f"interactions.parquet: ended_at is known of {known.mean():.0%} of contacts, too few to see how long the "
            "centre remembers; give --wash-out"
        )
    step = STEP_MINUTES * 60 * SECOND
    many = (history.ends - history.begins) // step
    came = np.bincount((history.arrived[known] - history.begins) // step, minlength=many)[:many].astype(np.float64)
    gone = np.clip((history.left[known] - history.begins) // step, 0, many)
    went = np.bincount(gone, minlength=many + 1)[:many]
    inside = np.cumsum(came - went)
    usual = (history.begins + np.arange(many) * step - MONDAY) % WEEK // step
    state, arrivals = _beyond(inside, usual), _beyond(came, usual)
    day = np.arange(many) * step // DAY
    left, half = np.full(len(HORIZONS), np.nan), np.full(len(HORIZONS), np.nan)
    for place, minutes in enumerate(HORIZONS):
        left[place], half[place] = _projected(state, arrivals, day, minutes // STEP_MINUTES)
    return fitted(np.array(HORIZONS, np.float64), left, half, SOURCE)


def _beyond(values: Doubles, slot: npt.NDArray[np.int64]) -> Doubles:
    """Less the mean of their slot of the week."""
    count = np.bincount(slot)
    mean = np.bincount(slot, values) / np.maximum(count, 1)
    return np.asarray(values - mean[slot], np.float64)


def _projected(state: Doubles, arrivals: Doubles, day: npt.NDArray[np.int64], ahead: int) -> tuple[float, float]:
    """Share of the state that is left after so many steps, and half of its 95 % interval, by the jackknife over days;
    neighbouring moments are no evidence of their own."""
    edges = np.unique(np.round(np.linspace(0, ahead, min(PARTS, ahead) + 1)).astype(np.int64))
    total = np.concatenate([[0.0], np.cumsum(arrivals)])
    now = np.arange(len(state) - ahead)
    between = [total[now + high + 1] - total[now + low + 1] for low, high in pairwise(edges)]
    columns = [state[now], *between]
    x, y = np.stack(columns, axis=1), state[ahead:]
    days = int(day.max()) + 1
    products = np.stack([np.bincount(day[now], a * b, days) for a in columns for b in columns], axis=1)
    right = np.stack([np.bincount(day[now], a * y, days) for a in columns], axis=1)
    width = x.shape[1]
    products = products.reshape(days, width, width)
    ridge = 1e-9 * np.eye(width) * max(float(np.trace(products.sum(axis=0))), 1e-300)
    whole = np.linalg.solve(products.sum(axis=0) + ridge, right.sum(axis=0))
    without = np.linalg.solve(products.sum(axis=0) - products + ridge, (right.sum(axis=0) - right)[:, :, None])[:, 0, 0]
    spread = np.sqrt((days - 1) / days * ((without - without.mean()) ** 2).sum())
    return float(whole[0]), float(1.96 * spread)
