"""A window in which things move, week by week: what contacts are about, and what CSAs are good at.

Notable: a skill's individual part is a stationary autoregression about the mean of team and site, so that the prior of
`truth.npz` holds in every week and the drift alone says how much of the past still counts:

    x_{w+1} = ρ·x_w + √(1 − ρ²)·√0.8·N(0, I),    ρ^(W − 1) = 1 − drift  over W weeks

Quality and the way with upset customers stay. The log of an intent's weight walks at random beside its slow wave.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.generate.settings import Settings
from twotower.clock import DAY

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Ints = npt.NDArray[Any]

INTENT_SD = 2.0
"""Standard deviation of the log of an intent's weight after a whole window at drift 1."""


def weeks(settings: Settings) -> int:
    """Weeks of the window, the last perhaps a part of one."""
    return -(-settings.days // 7)


def week_of(settings: Settings, moment: Ints) -> Ints:
    """(n,) the week in which moments (µs UTC) lie, those outside of the window in its first or last."""
    return np.asarray(np.clip((moment - settings.begins) // (7 * DAY), 0, weeks(settings) - 1))


def walked_shares(settings: Settings, weekly: Floats) -> Floats:
    """(weeks, intents) probabilities after a random walk in their logs; as they were without drift."""
    if not settings.drift:
        return weekly
    step = INTENT_SD * settings.drift / np.sqrt(len(weekly))
    weights = weekly * np.exp(settings.random("drift of intents").normal(0, step, weekly.shape).cumsum(axis=0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def walked_skills(settings: Settings, theta: Floats, mean: Floats, spread: float) -> Single | None:
    """(weeks, J, D) skills week by week from `theta` (J, D) in the first, about `mean` (J, D); None without drift."""
    if not settings.drift:
        return None
    random, count = settings.random("drift of skills"), weeks(settings)
    stays = (1 - settings.drift) ** (1 / (count - 1))
    skills = np.empty((count, *theta.shape), dtype=np.float32)
    own = theta - mean
    for week in range(count):
        skills[week] = mean + own
        own = stays * own + np.sqrt(1 - stays**2) * spread * random.normal(0, 1, own.shape)
    return skills
