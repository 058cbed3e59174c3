"""What the router reads while it matches: one immutable view of roster, indexes and memory.

Notable: candidates are the union of three searches (profile vectors, recent like work, and the CSAs that are strong
whatever the contact is), each under the eligibility mask, so nobody eligible is lost to somebody who is not. Where few
are eligible, no search decides anything: everyone eligible is scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twotower.bundle.bundle import Bundle
from twotower.errors import BundleError
from twotower.index.vectors import VectorIndex
from twotower.scoring.join import ContactVectors, Join, Rank
from twotower.scoring.memory import Memory

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Everyone is scored up to this many CSAs and remembered hand-overs: about half a millisecond of arithmetic.
EXACT_CSAS = 256
EXACT_HISTORY = 8_192
# Sizes of the three searches; `benchmarks/retrieval.py` prints the recall of the joint ranking that they reach.
FROM_PROFILES = 48
FROM_HISTORY_ROWS = 96
FROM_PRIOR = 16


@dataclass(frozen=True)
class Snapshot:
    """Roster, indexes and memory of one moment; never changed, only replaced.

    `ids` (J) with `codes` their positions; `active` bool[J]; `profiles` and `history` indexes; `starts` i8[J + 1] the
    run of every CSA in the history; `prior` for each rank the codes of all CSAs, strongest first, by what does not
    depend on the contact's text.
    """

    ids: tuple[str, ...]
    codes: dict[str, int]
    active: Mask
    profiles: VectorIndex
    history: VectorIndex
    memory: Memory
    starts: npt.NDArray[np.int64]
    prior: dict[Rank, Codes]

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
            prior={rank: _prior(bundle.join, rank, memory, moment) for rank in bundle.join.ranks},
        )

    def candidates(self, contact: ContactVectors, rank: Rank, k: int, eligible: Codes | None = None) -> Codes:
        """Codes, ascending, of the CSAs worth an exact score; at least min(k, eligible) of them.

        contact: ContactVectors of length 1; eligible: distinct codes, or None for everyone active.
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
        best, _ = self.profiles.search(contact.profile, max(FROM_PROFILES, 2 * k), allowed)
        return np.unique(np.concatenate([best[0], self._like_work(contact, allowed), self._strong(rank, allowed)]))

    def _rows_of(self, eligible: Codes | None) -> int:
        if eligible is None:
            return int(self.starts[-1])
        return int(np.sum(self.starts[eligible + 1] - self.starts[eligible]))

    def _like_work(self, contact: ContactVectors, allowed: Mask | None) -> Codes:
        """CSAs behind the nearest remembered hand-overs that did not fail."""
        mask = None if allowed is None else np.repeat(allowed, np.diff(self.starts))
        rows, _ = self.history.search(contact.memory, FROM_HISTORY_ROWS, mask)
        good = rows[0][self.memory.rows.weight[rows[0]] > 0]
        return np.asarray(self.memory.rows.csa[good], dtype=np.int64)

    def _strong(self, rank: Rank, allowed: Mask | None) -> Codes:
        order = self.prior[rank]
        return order[:FROM_PRIOR] if allowed is None else order[allowed[order]][:FROM_PRIOR]


def _prior(join: Join, rank: Rank, memory: Memory, moment: int) -> Codes:
    """CSAs by the weighted sum of the kernels that do not look at the contact (sharpness 0), strongest first."""
    weights = join.ranks[rank]
    plain = [i for i, kernel in enumerate(weights.kernels) if kernel.scope == "csa" and kernel.sharpness == 0]
    everyone = np.arange(memory.roster)
    if not plain or not len(memory.rows):
        return everyone[:0]
    vector = np.zeros(memory.rows.vector.shape[1], dtype=np.float32)
    parts = memory.parts([weights.kernels[i] for i in plain], vector, -1, moment, everyone)
    strength = parts @ np.array([weights.kernel_weights[i] for i in plain], dtype=np.float32)
    return np.argsort(-strength, kind="stable").astype(np.int64)
