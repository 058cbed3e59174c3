"""Folds for cross-fitting: what is judged was never seen by the model that judges it.

Notable: folds are of customers, so that nobody is judged by what came of their own other contacts, or of days, so that
nothing is judged by what happened on the same day, which is the stricter where outcomes drift or come in waves.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from evaluation.ope.rounds import Ints
from twotower.clock import DAY
from twotower.errors import ConfigError
from twotower.tables.log import Log

By = Literal["customer", "day"]


def folds_of(log: Log, folds: int, by: By = "customer", seed: int = 0) -> Ints:
    """(contacts of the log,) fold 0 … folds − 1 of each. Contacts without a customer stand alone.

    Raises ConfigError for fewer than two folds, or more than there is to deal out.
    """
    contacts = log.contacts
    if by == "day":
        unit = np.unique(contacts.arrived_at // DAY, return_inverse=True)[1].reshape(-1).astype(np.int64)
    else:
        unit = contacts.customer.astype(np.int64)
        alone = unit < 0
        unit[alone] = unit.max(initial=-1) + 1 + np.arange(alone.sum())
        unit = np.unique(unit, return_inverse=True)[1].reshape(-1).astype(np.int64)
    count = int(unit.max()) + 1
    if not 2 <= folds <= count:
        raise ConfigError(f"folds: {folds}; 2 or more are expected, and at most one for each {by} ({count:,} here)")
    dealt = np.random.default_rng((seed, 81)).permutation(count) % folds
    return np.asarray(dealt[unit], np.int64)
