"""What the router reads while it matches: one immutable view of roster, indexes and memory.

Notable: candidates are the union of two searches: a linear stand-in for the whole score (the profile vectors, where
the roster is too large for that), and single hand-overs of like work. Both look under the eligibility mask only, so
nobody eligible is lost to somebody who is not. Where few are eligible, no search decides: all of them are scored. CSAs
who served the customer before are scored whatever the searches find, as these know nothing of pairings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve.surrogate import Surrogate
from twotower.bundle.bundle import Bundle
from twotower.errors import BundleError
from twotower.index.history import history_queries
from twotower.index.vectors import SELECTIVITY, VectorIndex, exact_search
from twotower.scoring.join import ContactVectors, Join, Rank
from twotower.scoring.memory import Memory, ranges
from twotower.scoring.rows import HistoryRows

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

# Everyone is scored up to this many CSAs and remembered hand-overs: about half a millisecond of arithmetic.
EXACT_CSAS = 256
EXACT_HISTORY = 8_192
# Sizes of the two searches; `benchmarks/retrieval.py` prints the recall of the joint ranking that they reach.
FROM_SURROGATE, WIDE = 64, 192
FROM_HISTORY_ROWS = 96
# Components (CSAs × width) up to which the stand-in is scanned: about half a millisecond.
SURROGATE_COMPONENTS = 6_000_000


@dataclass(frozen=True)
class Snapshot:
    """Roster, indexes and memory of one moment; never changed, only replaced.

    `ids` (J) with `codes` their positions; `active` bool[J]; `profiles` and `history` indexes; `starts` i8[J + 1] the
    run of every CSA in the history; `surrogates` the linear stand-in for each rank's score, empty for a
    large roster.
    """

    ids: tuple[str, ...]
    codes: dict[str, int]
    active: Mask
    profiles: VectorIndex
    history: VectorIndex
    memory: Memory
    starts: npt.NDArray[np.int64]
    surrogates: dict[Rank, Surrogate]

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Snapshot:
        """The view of a bundle as of the end of its data window. Raises BundleError where its parts do not fit."""
        roster, rows = bundle.roster, bundle.history
        if np.any(np.diff(rows.csa) < 0):
            raise BundleError(f"{bundle.path}: history.parquet is not sorted by CSA; export the bundle again")
        memory = Memory(rows, len(roster))
        moment = int(bundle.manifest.window["until"])
        return cls(
            ids=roster.ids,
            codes={csa_id: code for code, csa_id in enumerate(roster.ids)},
            active=roster.active,
            profiles=bundle.index("profiles"),
            history=bundle.index("history"),
            memory=memory,
            starts=np.searchsorted(rows.csa, np.arange(len(roster) + 1)).astype(np.int64),
            surrogates=surrogates(bundle.join, roster.vectors, rows, moment),
        )

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
        if many <= max(k, EXACT_CSAS) and self._rows_of(eligible) <= EXACT_HISTORY:
            return np.flatnonzero(self.active) if eligible is None else np.sort(eligible)
        if eligible is not None:
            allowed = np.zeros(len(self.ids), dtype=np.bool_)
            allowed[eligible] = True
        named = np.empty(0, np.int64) if also is None else also if allowed is None else also[allowed[also]]
        most = max(FROM_SURROGATE, 2 * k)
        if rank not in self.surrogates:
            best, _ = self.profiles.search(contact.profile, most, allowed)
            return self._union(best[0], self._like_work(contact, rank, allowed), named)
        # Under a tight mask the history of the nominated few is scanned: cheaper than searching it all under the mask.
        tight = self._rows_of(eligible) < SELECTIVITY * len(self.history)
        near = self.surrogates[rank].search(contact, max(most, WIDE) if tight else most, allowed)
        like = self._like_work_of(contact, rank, near[0]) if tight else self._like_work(contact, rank, allowed)
        return self._union(near[0][:most], like, named)

    def _union(self, *parts: Codes) -> Codes:
        """Distinct codes, ascending; by a mask, several times faster than sorting."""
        named = np.zeros(len(self.ids), dtype=np.bool_)
        for part in parts:
            named[part] = True
        return np.flatnonzero(named)

    def _rows_of(self, eligible: Codes | None) -> int:
        if eligible is None:
            return int(self.starts[-1])
        return int(np.sum(self.starts[eligible + 1] - self.starts[eligible]))

    def _like_work(self, contact: ContactVectors, rank: Rank, allowed: Mask | None) -> Codes:
        """CSAs behind the nearest remembered hand-overs that did not fail."""
        mask = None if allowed is None else np.repeat(allowed, np.diff(self.starts))
        rows, _ = self.history.search(history_queries(contact.memory, rank), FROM_HISTORY_ROWS, mask)
        return self._owners(rows[0])

    def _like_work_of(self, contact: ContactVectors, rank: Rank, codes: Codes) -> Codes:
        """The same among the hand-overs of some CSAs."""
        rows, _ = ranges(self.starts, np.sort(codes))
        k = min(FROM_HISTORY_ROWS, len(rows))
        if not k:
            return rows
        found, _ = exact_search(self.history.vectors, history_queries(contact.memory, rank), k, rows)
        return self._owners(found[0])

    def _owners(self, rows: npt.NDArray[np.int64]) -> Codes:
        good = rows[self.memory.rows.weight[rows] > 0]
        return np.asarray(self.memory.rows.csa[good], dtype=np.int64)


def surrogates(join: Join, profiles: Floats, rows: HistoryRows, moment: int) -> dict[Rank, Surrogate]:
    """The linear stand-in for every rank's score as of a moment; none where the roster is too large to scan."""
    if len(profiles) * (profiles.shape[1] + rows.vector.shape[1] + 1) > SURROGATE_COMPONENTS:
        return {}
    return {rank: Surrogate(weights, profiles, rows, moment) for rank, weights in join.ranks.items()}
