"""Topics of clauses, found by what the contacts that say them are labelled.

Notable: people say one thing in many ways, and in several languages; what two ways of saying it share is not words but
company: they occur with the same intents, equally more or less often than by chance. Clauses that recur are units,
a unit's signature is its log ratio of observed to expected counts over the intent labels, within its language, and
units of like signature are one topic (Ward, 1963). Nothing is translated, and no label names a topic: a cause that
stands across all intents is found as well as an intent. The classifier then learns each topic's words, so that a clause
that was never seen is told too.

The signature is a pointwise mutual information with Dirichlet smoothing (Church and Hanks, 1990); its length is
bounded, since what belongs to one intent alone has a signature as long as its counts are large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from twotower.text.tokens import TokenArrays, Tokenizer
from twotower.towers.topics import MOST_CLAUSES, Topics

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

BREAKS = ".!?:,;\u2026\u3002\uff01\uff1f\uff0c\u060c\u0964"  # and their like in other scripts
LEAST_SEEN = 10  # contacts that say a clause, to make it a unit
MOST_UNITS = 4096  # the most frequent; Ward's distances are dense
LEAST_UNITS = 4  # per topic; fewer make no topics worth the name
SMOOTHING = 1.0  # pseudo-counts on both sides of a ratio
LONGEST = 3.0  # a signature's length
RIDGE = 0.03  # of the classifier, on unit counts
STEPS = 200
CHUNK = 2048


@dataclass(frozen=True)
class Units:
    """Recurring clauses: tokens of each, ragged `ids` and `offsets` (U + 1,); which contacts say which, `contact` and
    `unit` (n,), each pair once; `language` (U,) the code in which it is said most."""

    ids: npt.NDArray[np.int32]
    offsets: Longs
    contact: Longs
    unit: Longs
    language: Longs

    def __len__(self) -> int:
        return len(self.offsets) - 1


def fit_topics(tokens: TokenArrays, tokenizer: Tokenizer, label: Longs, language: Longs, count: int) -> Topics | None:
    """Topics of N contacts, or None where their texts and labels have none to show.

    label, language (N,): codes, −1 unknown; count: topics wanted, fewer where there are fewer than `LEAST_UNITS` units
    for each.
    """
    breaks = break_ids(tokenizer)
    silent = np.array([*tokenizer.special_ids(), *breaks])
    units = find_units(tokens, breaks, silent, language)
    labels = np.unique(label[label >= 0])
    count = min(count, len(units) // LEAST_UNITS)
    if len(labels) < 3 or count < 2:
        return None
    topic = group(signatures(units, label, language), count)
    topics = Topics(tokenizer.size, count)
    weight, bias = classifier(units, topic, tokenizer.size)
    topics.weight.copy_(torch.from_numpy(weight).half())  # which is what an exported graph keeps
    topics.bias.copy_(torch.from_numpy(bias))
    topics.breaks[torch.from_numpy(np.asarray(breaks, np.int64))] = 1
    presence = presence_of(topics, tokens)
    spread = np.maximum(presence.std(axis=0), 1e-2)
    topics.centre.copy_(torch.from_numpy(presence.mean(axis=0)))
    # Between raw presence and unit spread: the rare count less, but not by as much as they are rare.
    topics.scale.copy_(torch.from_numpy(spread**-0.5))
    return topics


def break_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of tokens that end a clause."""
    return sorted({i for mark in BREAKS if (i := tokenizer.id_of(mark)) is not None})


def find_units(tokens: TokenArrays, breaks: list[int], silent: npt.NDArray[np.int64], language: Longs) -> Units:
    """The clauses that at least `LEAST_SEEN` contacts say, at most `MOST_UNITS` of them."""
    ids = np.asarray(tokens.ids).astype(np.int64)
    row = np.repeat(np.arange(len(tokens)), np.diff(tokens.offsets))
    ends = np.isin(ids, breaks)
    number = np.cumsum(ends) - np.concatenate([[0], np.cumsum(ends)])[tokens.offsets[:-1]][row]
    kept = ~np.isin(ids, silent) & (number < MOST_CLAUSES)
    ids, row, number = ids[kept], row[kept], number[kept]
    if not len(ids):
        return Units(np.zeros(0, np.int32), np.zeros(1, np.int64), *(np.zeros(0, np.int64),) * 3)
    first = np.flatnonzero(np.r_[True, (np.diff(row) != 0) | (np.diff(number) != 0)])
    length = np.diff(np.r_[first, len(ids)])
    said = _hashes(ids, first, length)
    _, example, code = np.unique(said, return_index=True, return_inverse=True)
    pairs = np.unique(row[first] * len(example) + code)
    contact, code = pairs // len(example), pairs % len(example)
    seen = np.bincount(code, minlength=len(example))
    often = np.flatnonzero(seen >= LEAST_SEEN)
    often = np.sort(often[np.argsort(-seen[often], kind="stable")][:MOST_UNITS])
    place = np.full(len(example), -1)
    place[often] = np.arange(len(often))
    inside = place[code] >= 0
    contact, unit = contact[inside], place[code[inside]]
    spoken = np.zeros((len(often), int(language.max(initial=0)) + 2))
    np.add.at(spoken, (unit, language[contact] + 1), 1)
    start, span = first[example[often]], length[example[often]]
    offsets = np.concatenate([[0], np.cumsum(span)])
    flat = np.repeat(start - offsets[:-1], span) + np.arange(offsets[-1])
    return Units(ids[flat].astype(np.int32), offsets, contact, unit, spoken.argmax(axis=1) - 1)


def _hashes(ids: Longs, first: Longs, length: Longs) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each run of ids: equal runs are equal, others all but never."""
    place = np.arange(len(ids)) - np.repeat(first, length)
    random = np.random.default_rng(0)
    multiplier = random.integers(1, 2**63, int(place.max()) + 1, dtype=np.uint64) | np.uint64(1)
    mixed = ids.astype(np.uint64) + np.uint64(1)
    mixed = (mixed ^ (mixed << np.uint64(21))) * np.uint64(0x9E3779B97F4A7C15)
    return np.add.reduceat(mixed * multiplier[place], first)


def signatures(units: Units, label: Longs, language: Longs) -> Doubles:
    """(U, K) log ratios of how often a unit comes with each label to how often it would by chance, in its language."""
    values, code = np.unique(label, return_inverse=True)
    there = label >= 0
    observed = np.zeros((len(units), len(values)))
    told = there[units.contact]
    np.add.at(observed, (units.unit[told], code[units.contact[told]]), 1)
    share = np.zeros((int(language.max(initial=0)) + 2, len(values)))
    np.add.at(share, (language[there] + 1, code[there]), 1)
    share = (share + share.sum(axis=0) / max(share.sum(), 1)) / (share.sum(axis=1, keepdims=True) + 1)
    expected = observed.sum(axis=1, keepdims=True) * share[units.language + 1]
    ratio: Doubles = np.log((observed + SMOOTHING) / (expected + SMOOTHING))[:, values >= 0]
    length = np.linalg.norm(ratio, axis=1, keepdims=True)
    bounded: Doubles = ratio * np.minimum(1, LONGEST / np.maximum(length, 1e-9))
    return bounded


def group(signature: Doubles, count: int) -> Longs:
    """Topic (U,) of each unit, 0 … count − 1: Ward's tree, cut where `count` are left."""
    from scipy.cluster.hierarchy import fcluster, linkage

    cut = fcluster(linkage(signature, "ward"), count, "maxclust")
    return np.unique(cut, return_inverse=True)[1].astype(np.int64)


def classifier(units: Units, topic: Longs, vocabulary: int) -> tuple[Floats, Floats]:
    """Weights (V, T) and biases (T,) of a softmax regression of topics on the tokens of a unit, each token once."""
    from scipy import sparse
    from scipy.optimize import minimize

    owner = np.repeat(np.arange(len(units)), np.diff(units.offsets))
    words, column = np.unique(units.ids, return_inverse=True)
    bags = sparse.csr_matrix((np.ones(len(owner)), (owner, column)), shape=(len(units), len(words)))
    count, each = int(topic.max()) + 1, np.arange(len(units))
    weight = np.sqrt(np.bincount(units.unit, minlength=len(units)))
    weight /= weight.mean()

    def loss(flat: Doubles) -> tuple[float, Doubles]:
        theta = flat.reshape(len(words) + 1, count)
        logits = bags @ theta[:-1] + theta[-1]
        logits -= logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        error = np.exp(log_p)
        error[each, topic] -= 1
        error *= weight[:, None]
        value = -(weight * log_p[each, topic]).sum() + RIDGE / 2 * (theta[:-1] ** 2).sum()
        gradient = np.concatenate([bags.T @ error + RIDGE * theta[:-1], error.sum(axis=0, keepdims=True)])
        return float(value), gradient.ravel()

    start = np.zeros((len(words) + 1) * count)
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x.reshape(-1, count)
    table = np.zeros((vocabulary, count), np.float32)
    table[words] = theta[:-1]
    return table, theta[-1].astype(np.float32)


def presence_of(topics: Topics, tokens: TokenArrays) -> Floats:
    """Presence (N, T), as `Topics.presence` has it of padded tokens, at the cost of the words that are there.

    The graph spreads every text over all the clauses that it may have; here a clause is a row of a sparse matrix.
    """
    breaks, weight, bias = (part.numpy() for part in (topics.breaks, topics.weight, topics.bias))
    out = np.zeros((len(tokens), topics.count), dtype=np.float32)
    for start in range(0, len(tokens), CHUNK):
        part = tokens.between(start, min(start + CHUNK, len(tokens)))
        out[start : start + len(part)] = _present(part, breaks, weight, bias)
    return out


def _present(tokens: TokenArrays, breaks: Floats, weight: Floats, bias: Floats) -> Floats:
    """The same of some texts at once."""
    from scipy import sparse
    from scipy.special import softmax

    ids = np.asarray(tokens.ids).astype(np.int64)
    row = np.repeat(np.arange(len(tokens)), np.diff(tokens.offsets))
    ends = np.concatenate([[0], np.cumsum(breaks[ids] > 0)])
    number = ends[1:] - ends[tokens.offsets[:-1]][row]
    known = np.flatnonzero((number < MOST_CLAUSES) & np.asarray(weight.any(axis=1))[ids])
    out = np.zeros((len(tokens), weight.shape[1]), dtype=np.float32)
    if not len(known):
        return out
    clause, place = np.unique(row[known] * MOST_CLAUSES + number[known], return_inverse=True)
    bags = sparse.csr_matrix((np.ones(len(known), np.float32), (place, ids[known])), (len(clause), len(weight)))
    logits = bags @ weight
    # A clause whose words cancel says as little as one that has none.
    said = softmax(logits + bias, axis=1) * (np.abs(logits).sum(axis=1, keepdims=True) > 0)
    owner = clause // MOST_CLAUSES
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    out[owner[first]] = np.maximum.reduceat(said, first, axis=0)
    return out


def read_topics(topics: Topics, tokens: TokenArrays) -> Floats:
    """Standardised presence (N, T) in tokenised texts."""
    read: Floats = (presence_of(topics, tokens) - topics.centre.numpy()) * topics.scale.numpy()
    return read
