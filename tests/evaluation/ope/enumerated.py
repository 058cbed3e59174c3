"""A bandit so small that all of its logs can be written down: two contexts, three actions, rewards of 0 and 1.

Every (context, action, reward) is a row as often as it is likely, so the mean over the rows is an expectation, exactly.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from evaluation.ope.rounds import Pairs, Rounds

CONTEXTS = np.array([0.4, 0.6])
LOGGING = np.array([[0.5, 0.3, 0.2], [0.1, 0.4, 0.5]])
TARGET = np.array([[0.0, 0.9, 0.1], [0.6, 0.2, 0.2]])
REWARD = np.array([[0.8, 0.5, 0.2], [0.4, 0.6, 0.5]])
MODEL = np.array([[0.6, 0.7, 0.1], [0.3, 0.9, 0.5]])
"""q̂, wrong."""
VALUE = float((CONTEXTS[:, None] * TARGET * REWARD).sum())
MANY = 1000
"""Rows of a probability of 1."""


def outcomes(reward: np.ndarray = REWARD) -> list[tuple[int, int, int]]:
    """(context, action, reward) of every row."""
    rows = []
    for x, a, r in product(range(2), range(3), range(2)):
        p = CONTEXTS[x] * LOGGING[x, a] * (reward[x, a] if r else 1 - reward[x, a])
        assert abs(p * MANY - round(p * MANY)) < 1e-9
        rows += [(x, a, r)] * round(p * MANY)
    return rows


def population(reward: np.ndarray = REWARD, groups: np.ndarray | None = None) -> tuple[Rounds, Pairs, np.ndarray]:
    """All rows as rounds, as pairs, and π₀ of these pairs; groups: of actions, for marginal weights."""
    x, a, r = np.array(outcomes(reward)).T
    marginal = None
    if groups is not None:
        same = groups[None] == groups[a][:, None]
        marginal = (TARGET[x] * same).sum(axis=1) / (LOGGING[x] * same).sum(axis=1)
    rounds = Rounds(
        r.astype(float), LOGGING[x, a], TARGET[x, a], MODEL[x, a], (TARGET * MODEL).sum(axis=1)[x], marginal
    )
    offsets = np.arange(len(x) + 1) * 3
    return rounds, Pairs(offsets, np.tile(np.arange(3), len(x)), offsets[:-1] + a), LOGGING[x].ravel()
