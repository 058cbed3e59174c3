"""What nominates candidates, built of what is known of a roster: indexes of vectors and of hand-overs, and stand-ins.

Notable: to build takes seconds for thousands of CSAs, so a writer only copies the material (`Material`), and
somebody builds from that, while contacts are matched, hand-overs end and the roster changes. What has come meanwhile
is scanned beside the new structures, as it was beside the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from serve.snapshot import Searched, Snapshot, surrogates
from serve.surrogate import Surrogate
from twotower.index.build import QUERIES, build_history_index, build_profile_index
from twotower.index.history import StaleVectors, history_queries, history_vectors
from twotower.index.vectors import VectorIndex
from twotower.scoring.join import Join, Rank
from twotower.scoring.rows import HistoryRows

Floats = npt.NDArray[np.float32]
Asked = tuple[Floats, Floats]


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
class Searches:
    """What nominates, as in `Snapshot`."""

    profiles: VectorIndex
    history: Searched
    surrogates: dict[Rank, Surrogate]


def build_searches(join: Join, made_of: Material, asked: Sequence[Asked], before: Snapshot) -> Searches:
    """Indexes and stand-ins as good as late contacts tell.

    asked: vectors (P,) and (Q,) of late contacts, by which searches are tuned; before: whose searches these replace,
    which they look no less far than.
    """
    vectors, rows, rate = made_of.vectors, made_of.rows, made_of.rate
    stand_ins = surrogates(join, vectors, rows, made_of.moment)
    history = history_vectors(rows, made_of.indexed_at, rate)
    profile, queries = vectors[:0], history[:0]
    if asked:
        profile, memory = (np.stack(part) for part in zip(*asked, strict=True))
        queries = history_queries(memory, join.default)
    profiles = as_deep(build_profile_index(vectors, profile), before.profiles, len(asked))
    built = as_deep(build_history_index(history, queries), before.history.index, len(asked))
    # Its vectors are made when they are asked for.
    lazy = VectorIndex(built.index, StaleVectors(rows, made_of.indexed_at, rate), built.choice)
    return Searches(profiles, Searched.of(lazy, rows, len(vectors)), stand_ins)


def as_deep(built: VectorIndex, before: VectorIndex, asked: int) -> VectorIndex:
    """An index that looks no less far than the one before, where few contacts told how far is needed."""
    if asked >= QUERIES or built.choice.kind != before.choice.kind or built.choice.effort >= before.choice.effort:
        return built
    return VectorIndex(built.index, built.vectors, replace(built.choice, effort=before.choice.effort))
