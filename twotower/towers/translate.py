"""Words of several languages brought together by what they are used for.

Notable: no dictionary and no parallel text. The intent labels of a log are the same in every language, and every
word has a profile over them: how much more often than usual each intent is meant where the word is said. Words of two
languages with like profiles are used for the same things. Each token of a smaller language is read as a mixture of
tokens of the largest one, so that what is learnt from contacts in one language serves the others. A small centre's
second language has too few hand-overs to learn its words anew.

Profiles are counted, so they are noisy; likeness is the Gaussian likelihood of their difference under the counts' own
variance. Related: pivot-based induction of dictionaries (Tanaka and Umemura, COLING 1994), here with labels as pivots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
LEAST_LABELLED = 500  # labelled contacts of a language; fewer say little about its words
LEAST_LABELS = 8  # labels to tell words apart by
MOST_LABELS = 128  # the most frequent; rarer ones add noise and time
LEAST_SEEN = 10  # labelled contacts of a language in which a token occurs, to be translated
LEAST_TARGET = 150  # the same for a token that others are translated to
PSEUDO = 5.0  # pseudo-contacts of the usual mix behind every profile
SLACK = 0.03  # variance between profiles of equal meaning: languages cut the world differently
TEMPER = 0.5  # of the likelihood: a token's contacts are not independent draws
FAINT = 1e-3  # shares of a mixture below this are left out
BLOCK = 32


@dataclass(frozen=True)
class Pivot:
    """What languages share: `language` i8[N] and `label` i8[N], codes of each contact, −1 unknown."""

    language: Codes
    label: Codes


@dataclass(frozen=True)
class Profiles:
    """Of every token in one language: `log_ratio` (T, C), its `variance` (T, C), and `seen` (T,) contacts."""

    log_ratio: Doubles
    variance: Doubles
    seen: Doubles


def translation(counts: csr_matrix, pivot: Pivot) -> csr_matrix:
    """Mixtures (T, T), rows summing to 1, that read tokens as tokens of the largest language.

    counts (N, T): token counts of the contacts. The identity where there are fewer than two languages or
    `LEAST_LABELS` labels with enough contacts. A token that several languages share is split by where it occurs.
    """
    from scipy import sparse

    width = counts.shape[1]
    languages, labels = frequent(pivot)
    if len(languages) < 2 or len(labels) < LEAST_LABELS:
        return sparse.identity(width, format="csr")
    found = [profiles(counts, pivot, language, labels) for language in languages]
    target, total = found[0], np.sum([p.seen for p in found], axis=0)
    share = [np.where(total > 0, p.seen / np.maximum(total, 1), 0.0) for p in found]
    goal = np.flatnonzero((target.seen >= LEAST_TARGET) & (share[0] > 1 / len(found)))
    kept = np.where(total > 0, share[0], 1.0)
    parts = []
    for own, part in zip(found[1:], share[1:], strict=True):
        moved = np.flatnonzero((own.seen >= LEAST_SEEN) & (part > 0)) if len(goal) else np.zeros(0, np.int64)
        stays = np.ones(width, bool)
        stays[moved] = False
        kept = kept + part * stays
        mixture = sparse.csr_matrix(mixtures(own, target, moved, goal) * part[moved, None])
        spread = sparse.csr_matrix((mixture.data, goal[mixture.indices], mixture.indptr), shape=(len(moved), width))
        rows = sparse.csr_matrix((np.ones(len(moved)), (moved, np.arange(len(moved)))), shape=(width, len(moved)))
        parts.append(rows @ spread)
    return sparse.csr_matrix(sum(parts, sparse.diags(kept)))


def frequent(pivot: Pivot) -> tuple[Codes, Codes]:
    """Languages with enough labelled contacts, the largest first, and the labels by frequency."""
    both = (pivot.language >= 0) & (pivot.label >= 0)
    by_language = np.bincount(pivot.language[both], minlength=1)
    by_label = np.bincount(pivot.label[both], minlength=1)
    languages = np.argsort(-by_language, kind="stable")
    labels = np.argsort(-by_label, kind="stable")[:MOST_LABELS]
    return languages[by_language[languages] >= LEAST_LABELLED], labels[by_label[labels] >= LEAST_SEEN]


def profiles(counts: csr_matrix, pivot: Pivot, language: int, labels: Codes) -> Profiles:
    """log P(label | token) / P(label) within one language, with the delta-method variance of a Poisson count."""
    from scipy import sparse

    place = np.full(int(pivot.label.max(initial=0)) + 2, -1)
    place[labels] = np.arange(len(labels))
    column = place[pivot.label]  # −1 reads the last entry, which is −1
    rows = np.flatnonzero((pivot.language == language) & (column >= 0))
    member = sparse.csr_matrix(
        (np.ones(len(rows)), (np.arange(len(rows)), column[rows])), shape=(len(rows), len(labels))
    )
    joint = ((counts[rows] > 0).astype(np.float64).T @ member).toarray()
    usual = (np.bincount(column[rows], minlength=len(labels)) + 0.5) / (len(rows) + 0.5 * len(labels))
    seen = joint.sum(axis=1)
    smoothed = joint + PSEUDO * usual
    return Profiles(np.log(smoothed / (seen[:, None] + PSEUDO) / usual), 1 / smoothed, seen)


def mixtures(own: Profiles, target: Profiles, moved: Codes, goal: Codes) -> Doubles:
    """(len(moved), len(goal)) how much each target token takes of each moved one; rows sum to 1."""
    out = np.zeros((len(moved), len(goal)))
    reference, reference_variance = target.log_ratio[goal], target.variance[goal]
    for start in range(0, len(moved), BLOCK):
        block = moved[start : start + BLOCK]
        variance = SLACK + own.variance[block][:, None] + reference_variance[None]
        gap = own.log_ratio[block][:, None] - reference[None]
        log_likelihood = -0.5 * TEMPER * (gap**2 / variance + np.log(variance)).sum(axis=-1)
        weight = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        weight = np.where(weight >= FAINT, weight, 0)
        out[start : start + BLOCK] = weight / weight.sum(axis=1, keepdims=True)
    return out
