"""What simple rankers know of the past: who is busy of late, who did like work, whom this customer had before.

Notable: every sum runs over the hand-overs known strictly before the contact arrived, found by one binary search in
known-at order, and forgets with exp(−age / (τ·N)) where age counts the contacts that arrived in between and N is the
log's number of contacts: a quiet night does not age anything. All sums are exact as of each contact, not of its block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.ranking import Positions, Scores
from twotower.tables.log import Log

NEAREST = 200
POOL = 30_000  # neighbours are sought among this many latest hand-overs
MOST_TEXTS = 200_000  # on which the words are weighed
LIKENESS_CELLS = 1 << 24
KEPT_ROWS = 5_000_000


@dataclass(frozen=True)
class Evidence:
    """Past hand-overs that speak for somebody, B contacts: `row` i8[E] of the block, `csa` i4[E], `contact` i8[E]
    (position of the past contact) and `weight` f4[E]."""

    row: npt.NDArray[np.int64]
    csa: npt.NDArray[np.int32]
    contact: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]

    def summed(self, positions: Positions, scale: float, width: int) -> Scores:
        """Float32 (B, J): weights forgotten by age, summed per CSA."""
        fade = forget(positions[self.row] - self.contact, scale)
        size = len(positions) * width
        cells = np.bincount(self.row * width + self.csa, weights=self.weight * fade, minlength=size)
        return cells.reshape(len(positions), width).astype(np.float32)

    def strongest(self, k: int) -> Evidence:
        """At most k hand-overs per contact: those of the greatest weight, of equal ones the latest known."""
        order = np.lexsort((-np.arange(len(self.row)), -self.weight, self.row))
        row = self.row[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kept = order[place < k]
        return Evidence(self.row[kept], self.csa[kept], self.contact[kept], self.weight[kept])


def forget(age: npt.NDArray[np.integer[Any]], scale: float) -> npt.NDArray[np.float64]:
    """exp(−age / scale), for ages >= 0 in contacts."""
    fade: npt.NDArray[np.float64] = np.exp(-np.maximum(age, 0) / scale)
    return fade


def greatest(values: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """The k greatest values > 0 of each row of (B, H), of equal ones the last columns; rows and columns (2, found)."""
    width = values.shape[1]
    kept = values > 0
    if width > k:
        least = np.partition(values, width - k, axis=1)[:, width - k, None]
        kept &= values >= least
        # More ties at the border than places: an arbitrary choice would depend on columns that are not this row's.
        for row in np.flatnonzero(kept.sum(axis=1) > k):
            tied = np.flatnonzero(values[row] == least[row])
            kept[row, tied[: kept[row].sum() - k]] = False
    return np.stack(np.nonzero(kept)).astype(np.int64)


class History:
    """The positive hand-overs of a log in the order they became known.

    Args:
        log: a whole log.
        fit_before: words are weighed (TF-IDF) on the texts of contacts before this position only.
        pool: how many of the latest hand-overs are compared.
    """

    def __init__(self, log: Log, fit_before: int, pool: int = POOL) -> None:
        self.log, self.fit_before, self.pool = log, fit_before, pool
        self._kept: dict[bytes, Evidence] = {}
        good = np.flatnonzero(log.handovers.resolved != 0)
        self.known_at = log.handovers.known_at[good]  # ascending, as the log is sorted by it
        self.contact = log.handovers.contact[good].astype(np.int64)
        self.csa = log.handovers.csa[good]
        customer = log.contacts.customer[self.contact].astype(np.int64)
        # By customer, then in known-at order; strangers are nobody's history.
        order = np.argsort(customer, kind="stable")
        self._by_customer = order[customer[order] >= 0]
        self._customer_key = customer[self._by_customer] * (len(good) + 1) + self._by_customer

    def __len__(self) -> int:
        return len(self.known_at)

    def known(self, positions: Positions) -> npt.NDArray[np.int64]:
        """How many hand-overs were known strictly before each contact arrived; i8 (B,)."""
        return np.searchsorted(self.known_at, self.log.contacts.arrived_at[positions], side="left").astype(np.int64)

    def popularity(self, positions: Positions, scale: float) -> Scores:
        """Σ exp(−age / scale) over each CSA's hand-overs; float32 (B, J). Positions ascend."""
        from scipy.sparse import csr_matrix

        end, width = self.known(positions), len(self.log.csas)
        start, stop = int(end.min()), int(end.max())
        base = np.bincount(self.csa[:start], forget(positions[0] - self.contact[:start], scale), minlength=width)
        out = forget(positions - positions[0], scale)[:, None] * base[None]
        if stop > start:
            # What became known while the block's contacts arrived counts for the later ones only.
            late = np.arange(start, stop)
            fade = forget(positions[:, None] - self.contact[late][None], scale) * (late[None] < end[:, None])
            hot = csr_matrix((np.ones(len(late)), (np.arange(len(late)), self.csa[late])), shape=(len(late), width))
            out += fade @ hot
        return out.astype(np.float32)

    def same_customer(self, positions: Positions) -> Evidence:
        """The hand-overs of each contact's own customer, weight 1; nothing for contacts of unknown customers."""
        customer = self.log.contacts.customer[positions].astype(np.int64)
        base = customer * (len(self) + 1)
        start = np.searchsorted(self._customer_key, base)
        stop = np.searchsorted(self._customer_key, base + self.known(positions))
        count = np.where(customer >= 0, stop - start, 0)
        row = np.repeat(np.arange(len(positions)), count)
        offset = np.cumsum(count) - count
        place = np.arange(len(row)) - offset[row] + start[row]
        found = self._by_customer[place]
        return Evidence(row, self.csa[found], self.contact[found], np.ones(len(row), dtype=np.float32))

    def nearest(self, positions: Positions) -> Evidence:
        """The `NEAREST` past hand-overs whose texts are most alike, weight the cosine of their TF-IDF vectors.

        Some answers are kept, since several baselines ask about the same block.
        """
        key = positions.tobytes()
        if key in self._kept:
            return self._kept[key]
        step = max(1, LIKENESS_CELLS // max(1, min(len(self), self.pool)))
        parts = [self._nearest(positions[i : i + step], i) for i in range(0, len(positions), step)]
        names = ("row", "csa", "contact", "weight")
        found = Evidence(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
        if sum(len(kept.row) for kept in self._kept.values()) + len(found.row) <= KEPT_ROWS:
            self._kept[key] = found
        return found

    def _nearest(self, positions: Positions, first_row: int) -> Evidence:
        end = self.known(positions)
        begin = np.maximum(end - self.pool, 0)
        low, high = int(begin.min()), int(end.max())
        if high == low:
            none = np.zeros(0, dtype=np.int64)
            return Evidence(none, none.astype(np.int32), none, none.astype(np.float32))
        likeness = (self._texts[positions] @ self._texts[self.contact[low:high]].T).toarray()
        column = np.arange(low, high)
        likeness[(column[None] < begin[:, None]) | (column[None] >= end[:, None])] = 0
        row, chosen = greatest(likeness, NEAREST)
        found = chosen + low
        return Evidence(row + first_row, self.csa[found], self.contact[found], likeness[row, chosen])

    @cached_property
    def _texts(self) -> Any:
        """TF-IDF rows of unit length, sparse float32 (N, words)."""
        from scipy.sparse import csr_matrix, vstack
        from sklearn.feature_extraction.text import TfidfVectorizer

        contacts = self.log.contacts
        said = zip(contacts.intent_text.to_pylist(), contacts.transcript.to_pylist(), strict=True)
        texts = [f"{need or ''} {transcript or ''}" for need, transcript in said]
        first = max(0, self.fit_before - MOST_TEXTS)
        fitted = texts[first : self.fit_before]
        fewest = 2 if len(fitted) > 1000 else 1
        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=fewest, dtype=np.float32)
        try:
            known = words.fit_transform(fitted)
        except ValueError:  # no text has a word: nothing is like anything
            return csr_matrix((len(texts), 1), dtype=np.float32)
        rest = [words.transform(part) for part in (texts[:first], texts[self.fit_before :]) if part]
        return vstack([*rest[: first > 0], known, *rest[first > 0 :]], format="csr")
