"""What nominates candidates, built of what is known of a roster: indexes of vectors and of hand-overs, and stand-ins.

Notable: to build takes seconds for thousands of CSAs, so a writer only copies the material (`Material`), and
somebody builds from that, while contacts are matched, hand-overs end and the roster changes. What has come meanwhile
is scanned beside the new structures, as it was beside the old ones. Where it is done says `searches_apart.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from serve.snapshot import Searched
from serve.surrogate import Surrogate
from twotower.index.build import QUERIES, build_history_index, build_profile_index
from twotower.index.history import StaleVectors, history_queries, history_vectors
from twotower.index.standins import StandIn, fit_standins
from twotower.index.vectors import IndexChoice, VectorIndex
from twotower.scoring.join import Join, Rank
from twotower.scoring.rows import HistoryRows

Floats = npt.NDArray[np.float32]
Late = tuple[Floats, Floats]
"""Vectors (P,) and (Q,) of a late contact."""
Asked = tuple[Floats, Floats]
"""Of late contacts: (n, P) and (n, Q)."""


@dataclass(frozen=True)
class Material:
    """Profile vectors (J, P) and what is remembered of J CSAs, sorted by CSA, as of a moment; `indexed_at` from which
    the staleness of rows counts, by `rate`; both moments in µs. Nobody changes it."""

    vectors: Floats
    rows: HistoryRows
    moment: int
    indexed_at: int
    rate: float


@dataclass(frozen=True)
class Built:
    """Indexes of profile vectors and of what is remembered, and stand-ins, as they can be written."""

    profiles: VectorIndex
    history: VectorIndex
    standins: dict[Rank, StandIn]


@dataclass(frozen=True)
class Searches:
    """What nominates, as in `Snapshot`."""

    profiles: VectorIndex
    history: Searched
    surrogates: dict[Rank, Surrogate]

    @classmethod
    def of(cls, built: Built, made_of: Material) -> Searches:
        """Ready to be searched. Vectors of what is remembered are made when they are asked for."""
        rows = made_of.rows
        lazy = StaleVectors(rows, made_of.indexed_at, made_of.rate)
        history = VectorIndex(built.history.index, lazy, built.history.choice)
        surrogates = {rank: Surrogate(one) for rank, one in built.standins.items()}
        return cls(built.profiles, Searched.of(history, rows, len(made_of.vectors)), surrogates)


def build(join: Join, made_of: Material, asked: Asked, before: tuple[IndexChoice, IndexChoice]) -> Built:
    """Indexes and stand-ins as good as late contacts tell.

    asked: by which searches are tuned; before: how the indexes of profiles and of history that these replace were
    searched, which they look no less far than.
    """
    vectors, rows = made_of.vectors, made_of.rows
    standins = fit_standins(join, vectors, rows, made_of.moment)
    history = history_vectors(rows, made_of.indexed_at, made_of.rate)
    profile, memory = asked
    queries = history_queries(memory, join.default) if len(memory) else history[:0]
    profiles = as_deep(build_profile_index(vectors, profile), before[0], len(profile))
    return Built(profiles, as_deep(build_history_index(history, queries), before[1], len(profile)), standins)


def as_deep(built: VectorIndex, before: IndexChoice, asked: int) -> VectorIndex:
    """An index that looks no less far than the one before, where few contacts told how far is needed."""
    if asked >= QUERIES or built.choice.kind != before.kind or built.choice.effort >= before.effort:
        return built
    return VectorIndex(built.index, built.vectors, replace(built.choice, effort=before.effort))
