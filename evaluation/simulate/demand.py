"""First contacts of a replication: a Poisson stream, or the moments and classes that a log tells.

Notable: arrivals, classes and patience come from one numpy generator per purpose, spawned from (seed, replication), so
that a change of patience moves no arrival, and every policy meets the same contacts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import HOUR, Centre
from evaluation.simulate.draws import keys_of
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Demand:
    """First contacts (N,), ascending by arrival; seconds."""

    arrival: Doubles
    kind: npt.NDArray[np.int32]
    patience: Doubles
    key: npt.NDArray[np.uint64]
    logit: Doubles
    row: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.arrival)


def poisson(centre: Centre, seed: int, replication: int) -> Demand:
    """A replication's contacts by the centre's rates."""
    chance, classes = _generators(seed, replication)[:2]
    mean = centre.rates * (centre.interval_s / HOUR)
    counts = chance.poisson(mean)
    kind, interval = np.nonzero(counts)
    many = counts[kind, interval]
    kind, interval = np.repeat(kind, many), np.repeat(interval, many)
    arrival = (interval + classes.random(len(interval))) * centre.interval_s
    order = np.lexsort((kind, arrival))
    return at(centre, arrival[order], kind[order], seed, replication)


def at(centre: Centre, arrival: Doubles, kind: npt.ArrayLike, seed: int, replication: int = 0) -> Demand:
    """Contacts at given moments (N,) s, ascending, of given classes (N,). Raises ConfigError for what cannot be."""
    kinds = np.asarray(kind, np.int32)
    if len(arrival) and (not np.all(np.isfinite(arrival)) or arrival[0] < 0 or np.any(np.diff(arrival) < 0)):
        raise ConfigError("demand: arrivals of 0 s or more in ascending order expected")
    if len(kinds) != len(arrival) or np.any((kinds < 0) | (kinds >= len(centre.classes))):
        raise ConfigError(f"demand: one class of 0 to {len(centre.classes) - 1} for each arrival expected")
    luck, bell = _generators(seed, replication)[2:4]
    uniform, normal = luck.random(len(kinds)), bell.standard_normal(len(kinds))
    patience = np.full(len(kinds), np.inf)
    for k in range(len(centre.classes)):
        of = kinds == k
        patience[of] = centre.patience_of(k).seconds(1.0 - uniform[of], normal[of])
    start = np.random.SeedSequence((seed, replication, 5)).generate_state(1, np.uint64)[0]
    rows = np.arange(len(kinds), dtype=np.int32)
    return Demand(arrival, kinds, patience, keys_of(start, len(kinds)), np.zeros(len(kinds)), rows)


def _generators(seed: int, replication: int) -> list[np.random.Generator]:
    if seed < 0 or replication < 0:
        raise ConfigError(f"seed {seed}, replication {replication}: 0 or more expected")
    return [np.random.default_rng((seed, replication, purpose)) for purpose in range(4)]
