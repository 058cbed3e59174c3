"""What the router reads while it matches: one immutable view of roster, indexes and memory.

Notable: candidates are the union of two searches: a linear stand-in for the whole score (the profile vectors, where
the roster is too large for that), and single hand-overs of like work. Both look under the eligibility mask only, so
nobody eligible is lost to somebody who is not. Where few are eligible, no search decides: all of them are scored. CSAs
who served the customer before are scored whatever the searches find, as these know nothing of pairings. What has come
since the indexes were built is scanned beside them; the scores always come from what is known now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from serve.beliefs import Spread
from serve.roster.eligibility import Bitmaps
from serve.surrogate import Surrogate
from twotower.bundle.bundle import Bundle
from twotower.errors import BundleError
from twotower.index.history import history_queries
from twotower.index.vectors import SELECTIVITY, VectorIndex
from twotower.scoring.join import ContactVectors, Rank
from twotower.scoring.memory import Memory
from twotower.scoring.rows import HistoryRows
from twotower.scoring.spread import Factors

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

# Everyone is scored up to this many CSAs and remembered hand-overs: about half a millisecond of arithmetic.
EXACT_CSAS = 256
EXACT_HISTORY = 8_192
# Sizes of the two searches; `benchmarks/retrieval.py` prints the recall of the joint ranking that they reach.
# At least so many, and so many for each CSA that is asked for: of everyone, and under a tight mask.
FROM_SURROGATE, NOMINATED = 64, 4
TIGHT, TIGHT_NOMINATED = 128, 3
FROM_HISTORY_ROWS = 96
# CSAs whom the searches do not know as they are, and hand-overs that came since, up to which they are looked at beside.
MOST_UNINDEXED, MOST_BESIDE = 256, 4_096
# Components (CSAs × width) up to which the stand-in of everyone is scanned: about half a millisecond.
SCANNED_COMPONENTS = 6_000_000


@dataclass(frozen=True)
class Searched:
    """An index of remembered hand-overs, as of when it was built: whose each row is i4[H], whether it did not fail
    bool[H], and where every CSA's rows begin i8[J + 1]."""

    index: VectorIndex
    csa: npt.NDArray[np.int32]
    good: Mask
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, index: VectorIndex, rows: HistoryRows, csas: int) -> Searched:
        """An index over rows that are sorted by CSA."""
        starts = np.searchsorted(rows.csa, np.arange(csas + 1)).astype(np.int64)
        return cls(index, rows.csa, rows.weight > 0, starts)


@dataclass(frozen=True)
class Snapshot:
    """Roster, indexes and memory of one moment; never changed, only replaced.

    `ids` (J) with `codes` their positions; `active` bool[J]; `vectors` (V, P) of which row `places[j]` is the profile
    vector of CSA j, and `own` (V, T) what they add to outcomes (`scoring/outcomes.py`); `spread` how far the vectors
    may be off (`beliefs.py`); `memory` what is remembered of everyone; `profiles` and `history` indexes; `surrogates`
    the linear stand-in for each rank's score, empty for a large roster; `fresh` vectors (F, W) of good hand-overs that
    came since the indexes were built, and whose they are i8[F]. Indexes, stand-ins and `fresh` nominate, and may be
    older; `unindexed` i8[U] are CSAs whom they do not know as they are. Arrays over CSAs may have places for some who
    are not there yet. `bitmaps` tell who could take a contact (None until somebody asks), `blocked` by keyed customer
    whom they must not meet, `left` i8[L] are ascending codes of who was told to have left, `version` counts the changes
    of the roster.
    """

    ids: Sequence[str]
    codes: dict[str, int]
    active: Mask
    vectors: Floats
    spread: Spread
    own: Floats
    places: Codes
    memory: Memory
    profiles: VectorIndex
    history: Searched
    surrogates: dict[Rank, Surrogate]
    fresh: tuple[Floats, Codes]
    unindexed: Codes = field(default_factory=lambda: np.empty(0, np.int64))
    bitmaps: Bitmaps | None = None
    blocked: Mapping[bytes, frozenset[int]] = field(default_factory=dict)
    left: Codes = field(default_factory=lambda: np.empty(0, np.int64))
    version: int = 0

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Snapshot:
        """The view of a bundle as of the end of its data window. Raises BundleError where its parts do not fit."""
        roster, rows = bundle.roster, bundle.history
        if np.any(np.diff(rows.csa) < 0):
            raise BundleError(f"{bundle.path}: history.parquet is not sorted by CSA; export the bundle again")
        return cls.of(
            roster.ids,
            roster.active,
            roster.vectors,
            roster.spread,
            roster.own,
            rows,
            bundle.index("profiles"),
            bundle.index("history"),
            {rank: Surrogate(bundle.standins[rank]) for rank in bundle.join.ranks if rank in bundle.standins},
        )

    @classmethod
    def of(
        cls,
        ids: tuple[str, ...],
        active: Mask,
        vectors: Floats,
        spread: Factors,
        own: Floats,
        rows: HistoryRows,
        profiles: VectorIndex,
        history: VectorIndex,
        stand_ins: dict[Rank, Surrogate],
    ) -> Snapshot:
        """The view of a roster (J) whose every part is of one moment; rows sorted by (csa, known_at)."""
        return cls(
            ids=ids,
            codes={csa_id: code for code, csa_id in enumerate(ids)},
            active=active,
            vectors=vectors,
            spread=Spread.of(spread),
            own=own,
            places=np.arange(len(ids)),
            memory=Memory(rows, len(ids)),
            profiles=profiles,
            history=Searched.of(history, rows, len(ids)),
            surrogates=stand_ins,
            fresh=(np.empty((0, history.vectors.shape[1]), np.float32), np.empty(0, np.int64)),
        )

    @property
    def due(self) -> bool:
        """Whether so much is looked at beside the searches that they are worth building anew (`Matcher.rebuild`)."""
        return len(self.unindexed) > MOST_UNINDEXED or len(self.fresh[1]) > MOST_BESIDE

    def vectors_of(self, codes: Codes) -> Floats:
        """Profile vectors (C, P) of CSAs."""
        return self.vectors[self.places[codes]]

    def own_of(self, codes: Codes) -> Floats:
        """What CSAs add to outcomes (C, T)."""
        return self.own[self.places[codes]]

    def deviations(self, contact: ContactVectors, codes: Codes) -> Floats:
        """Posterior standard deviations (C,) of profile · vector for a contact (of length 1) and CSAs."""
        return self.spread.deviations(contact.profile[0], codes)

    def candidates(
        self, contact: ContactVectors, rank: Rank, k: int, eligible: Codes | None = None, also: Codes | None = None
    ) -> Codes:
        """Codes, ascending, of the CSAs worth an exact score; at least min(k, eligible) of them.

        contact: ContactVectors of length 1; eligible: distinct codes, or None for everyone active; also: those who are
        among them in any case, if they are eligible.
        """
        if eligible is None:
            allowed = None if bool(self.active.all()) else self.active
            many = int(np.count_nonzero(self.active))
        else:
            allowed, many = None, len(eligible)
        rows = self._rows_of(eligible)
        if many <= max(k, EXACT_CSAS) and rows <= EXACT_HISTORY:
            return np.flatnonzero(self.active) if eligible is None else np.sort(eligible)
        if eligible is not None:
            allowed = np.zeros(len(self.active), dtype=np.bool_)
            allowed[eligible] = True
        named = self.unindexed if also is None else np.concatenate([self.unindexed, also])
        named = named if allowed is None else named[allowed[named]]
        tight = rows < SELECTIVITY * len(self.history.index)
        most = max(TIGHT, TIGHT_NOMINATED * k) if tight else max(FROM_SURROGATE, NOMINATED * k)
        stand_in = self.surrogates.get(rank)
        if stand_in is None or (stand_in.components > SCANNED_COMPONENTS and not tight):
            best, _ = self.profiles.search(contact.profile, most, _part(allowed, len(self.profiles)))
            return self._union(best[0], self._like_work(contact, rank, allowed), named)
        # Under a tight mask to score some more costs less than to search what they remember.
        near = stand_in.search(contact, most, _part(allowed, len(stand_in)))[0]
        if tight:
            return self._union(near, self._fresh(history_queries(contact.memory, rank), allowed), named)
        like = self._like_work(contact, rank, allowed)
        return self._union(near, like, named)

    def _union(self, *parts: Codes) -> Codes:
        """Distinct codes, ascending; by a mask, several times faster than sorting."""
        named = np.zeros(len(self.active), dtype=np.bool_)
        for part in parts:
            named[part] = True
        return np.flatnonzero(named)

    def _rows_of(self, eligible: Codes | None) -> int:
        """How many hand-overs are remembered of some, or about how many of everyone."""
        if eligible is None:
            return int(self.history.starts[-1]) + len(self.fresh[1])
        return int(np.sum(self.memory.end[eligible] - self.memory.begin[eligible]))

    def _like_work(self, contact: ContactVectors, rank: Rank, allowed: Mask | None) -> Codes:
        """CSAs behind the nearest remembered hand-overs that did not fail."""
        found, queries = self.history, history_queries(contact.memory, rank)
        mask = None if allowed is None else np.repeat(allowed[: len(found.starts) - 1], np.diff(found.starts))
        rows, _ = found.index.search(queries, FROM_HISTORY_ROWS, mask)
        return np.concatenate([self._owners(rows[0]), self._fresh(queries, allowed)])

    def _owners(self, rows: npt.NDArray[np.int64]) -> Codes:
        return self.history.csa[rows[self.history.good[rows]]].astype(np.int64)

    def _fresh(self, queries: Floats, allowed: Mask | None) -> Codes:
        """CSAs behind the nearest hand-overs that came since the index was built."""
        vectors, csa = self.fresh
        if not len(csa):
            return csa
        products = vectors @ queries[0]
        if allowed is not None:
            products[~allowed[csa]] = -np.inf
        # Far more rows than are wanted, of which each CSA's best counts: one busy CSA must not crowd out the others.
        rows = _largest(products, 16 * FROM_HISTORY_ROWS)
        who, place = np.unique(csa[rows], return_inverse=True)
        best = np.full(len(who), -np.inf, np.float32)
        np.maximum.at(best, place, products[rows])
        nearest: Codes = who[_largest(best, FROM_HISTORY_ROWS)]
        return nearest


def _part(allowed: Mask | None, rows: int) -> Mask | None:
    """Of a mask of the roster, what an index of its first CSAs takes."""
    return allowed if allowed is None or len(allowed) == rows else allowed[:rows]


def _largest(values: Floats, k: int) -> Codes:
    """Positions of the k largest values that are finite, in any order."""
    k = min(k, len(values))
    best = np.argpartition(-values, k - 1)[:k]
    return best[values[best] > -np.inf]
