"""What contacts of a log are about, in a few columns: queue, language, channel, intent, latent topics of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.simulate.replay_window import Coded, Window

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]

COLUMNS = 64
"""Latent topics."""
BUCKETS = 1 << 16
KEPT = 60
"""Values of a property that have a column of their own, the most frequent; the others share none."""
LONGEST = 4000
"""Characters of a text that are read."""


@dataclass(frozen=True)
class Topics:
    """Columns of contacts: 1, indicators, and last `text` latent topics of unit variance; `size` in all."""

    labels: tuple[Longs, ...]
    """Columns (contacts of the log,) of each property, −1 where it has none."""
    row: Longs
    """(contacts of the log,) of `latent`, −1 where the contact was not read."""
    latent: Singles
    """(contacts read, text)."""
    size: int

    @property
    def text(self) -> int:
        """Latent topics."""
        return int(self.latent.shape[1])

    def of(self, contact: Longs) -> Doubles:
        """(n, size)."""
        found = np.zeros((len(contact), self.size))
        found[:, 0] = 1.0
        for codes in self.labels:
            there = codes[contact] >= 0
            found[np.flatnonzero(there), codes[contact][there]] = 1.0
        found[:, self.size - self.text :] = self.latent[self.row[contact]]
        return found


def topics_of(window: Window, contact: Longs, seed: int) -> Topics:
    """Of some contacts of the log (ascending positions); no outcome is looked at."""
    labels, size = [], 1
    intent = window.log.contacts.intent
    names = pc.unique(intent.drop_null())
    coded = pc.fill_null(pc.index_in(intent, value_set=names), -1).to_numpy(zero_copy_only=False)
    for codes, many in (
        *(_column(one) for one in (window.queue, window.language, window.channel)),
        (coded, len(names)),
    ):
        column, own = _frequent(codes.astype(np.int64), many, contact)
        labels.append(np.where(column >= 0, column + size, -1))
        size += own
    latent = _latent(window, contact, seed)
    row = np.full(len(window.log.contacts), -1, np.int64)
    row[contact] = np.arange(len(contact))
    return Topics(tuple(labels), row, latent, size + latent.shape[1])


def _column(of: Coded) -> tuple[Longs, int]:
    return of.code, len(of.names)


def _frequent(code: Longs, values: int, contact: Longs) -> tuple[Longs, int]:
    """Codes renumbered, those of rare values −1; how many are left. A property of one value tells nothing."""
    many = np.bincount(code[contact][code[contact] >= 0], minlength=values)
    kept = np.sort(np.argsort(-many, kind="stable")[:KEPT])
    kept = kept[many[kept] > 0]
    if len(kept) < 2:
        return np.full(len(code), -1), 0
    place = np.full(values + 1, -1)  # the last one answers for −1
    place[kept] = np.arange(len(kept))
    return place[code], len(kept)


def _latent(window: Window, contact: Longs, seed: int) -> Singles:
    """Truncated singular vectors of hashed words and pairs of words, by TF-IDF (latent semantic analysis)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    rows = pa.array(contact)
    parts = [getattr(window.log.contacts, name).take(rows) for name in ("intent_text", "transcript")]
    parts = [pc.utf8_slice_codeunits(pc.fill_null(part, ""), 0, LONGEST) for part in parts]
    texts = pc.binary_join_element_wise(*parts, pa.scalar("\n", pa.large_string())).to_pylist()
    hashed: Any = HashingVectorizer(n_features=BUCKETS, ngram_range=(1, 2), alternate_sign=False, norm=None)
    counts = hashed.transform(texts)
    counts = counts[:, np.unique(counts.indices)]
    if not counts.nnz:
        return np.zeros((len(contact), 0), np.float32)
    weighed = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    columns = min(COLUMNS, *counts.shape)
    latent = TruncatedSVD(columns, random_state=seed, n_iter=3).fit_transform(weighed)
    spread = latent.std(axis=0)
    return np.asarray(((latent - latent.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)), np.float32)
