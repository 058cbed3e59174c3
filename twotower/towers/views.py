"""Token embeddings from a log's own texts, by what its two views share.

Notable: the stated need and the transcript are two tellings of one contact. What they share is what the contact is
about; what they do not share, greetings and turns of phrase, is noise to a matcher. Canonical correlation analysis of
the two bags of words finds the shared directions without a label; each token's row in those directions, scaled by its
canonical correlation, is its embedding. A static backbone then reads a text by summing rows, as with any token table.
Where contacts come in several languages and carry intent labels, words are first brought together across languages
(`translate`).

Sources: Hotelling, "Relations between two sets of variates", 1936; for text, Dhillon, Foster and Ungar, "Eigenwords",
2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from twotower.text.tokens import TokenArrays
from twotower.towers.translate import Pivot, translation

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Doubles = npt.NDArray[np.float64]
LEAST_TEXTS = 500  # contacts with both views; fewer say little about what is shared
LEAST_SEEN = 10  # texts a token must occur in
MOST_TOKENS = 4096  # the most frequent that qualify; the covariances are dense
RIDGE = 1e-4  # on covariances of unit-length bags


def view_table(
    needs: TokenArrays,
    transcripts: TokenArrays,
    log_weight: npt.NDArray[np.float32],
    dim: int,
    pivot: Pivot | None = None,
) -> npt.NDArray[np.float32]:
    """Token embeddings (V, dim) float32 of the canonical directions of two views of N contacts.

    log_weight (V,): SIF log-weights; pivot: languages and labels of the N contacts, None: all are of one language.
    Columns beyond the number of tokens, and rows of rare tokens, are zero; everything is zero where fewer than
    `LEAST_TEXTS` contacts have both views. Columns have the spread over texts that equals their canonical correlation,
    in decreasing order.
    """
    from scipy import sparse

    vocabulary = len(log_weight)
    table = np.zeros((vocabulary, dim), dtype=np.float32)
    both = (needs.lengths(np.arange(len(needs))) > 2) & (transcripts.lengths(np.arange(len(transcripts))) > 2)
    if both.sum() < LEAST_TEXTS or dim == 0:
        return table
    first, second = (bag_of_words(tokens, vocabulary)[both] for tokens in (needs, transcripts))
    seen = np.asarray(((first + second) > 0).sum(axis=0)).ravel()
    kept = np.flatnonzero((seen >= LEAST_SEEN) & (log_weight > -9))
    kept = np.sort(kept[np.argsort(-seen[kept], kind="stable")][:MOST_TOKENS])
    weight = sparse.diags(np.exp(log_weight[kept].astype(np.float64)))
    counts = [m[:, kept] for m in (first, second, first + second)]
    meaning = sparse.identity(len(kept)) if pivot is None else translation(counts[2], _of(pivot, both))
    bags = [unit_rows(m @ weight @ meaning) for m in counts]
    directions, correlation = canonical(bags[0], bags[1], dim)
    spread = np.asarray(bags[2] @ directions).std(axis=0)
    embedding = np.asarray(meaning @ (directions * (correlation / np.maximum(spread, 1e-9))))
    table[kept, : embedding.shape[1]] = embedding
    return table


def _of(pivot: Pivot, rows: npt.NDArray[np.bool_]) -> Pivot:
    return Pivot(pivot.language[rows], pivot.label[rows])


def bag_of_words(tokens: TokenArrays, vocabulary: int) -> csr_matrix:
    """Counts (N, V) of ragged tokens, as a scipy CSR matrix."""
    from scipy import sparse

    shape = (len(tokens), vocabulary)
    counts = sparse.csr_matrix((np.ones(len(tokens.ids)), tokens.ids, tokens.offsets), shape=shape)
    counts.sum_duplicates()
    return counts


def unit_rows(bags: csr_matrix) -> csr_matrix:
    """Rows scaled to length 1; empty rows stay empty."""
    from scipy import sparse

    norm = np.sqrt(np.asarray(bags.multiply(bags).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(norm, 1e-9)) @ bags)


def canonical(first: csr_matrix, second: csr_matrix, dim: int) -> tuple[Doubles, Doubles]:
    """Shared directions (T, k) of two views (N, T), the mean of both sides', and their canonical correlations (k,)."""
    count = first.shape[0]
    means = [np.asarray(m.mean(axis=0)).ravel() for m in (first, second)]
    within = [(m.T @ m).toarray() / count - np.outer(c, c) for m, c in zip((first, second), means, strict=True)]
    between = (first.T @ second).toarray() / count - np.outer(*means)
    left, right = (inverse_root(c) for c in within)
    u, correlation, v = np.linalg.svd(left @ between @ right)
    k = min(dim, len(correlation))
    directions = (left @ u[:, :k] + right @ v[:k].T) / 2
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(k)]
    return directions * np.sign(largest), correlation[:k]


def inverse_root(covariance: Doubles) -> Doubles:
    """Symmetric inverse square root (T, T) of a covariance with `RIDGE` added."""
    values, vectors = np.linalg.eigh(covariance + RIDGE * np.eye(len(covariance)))
    root: Doubles = (vectors / np.sqrt(values)) @ vectors.T
    return root
