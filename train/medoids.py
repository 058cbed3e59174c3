"""Long histories in few rows: what is older than the latest hand-overs stands as medoids, apart by outcome.

Notable: a kernel sums over everything a CSA has done, and a bound of the latest rows alone forgets rare work. A medoid
is a hand-over that stands for its cluster: it weighs as many as there are in it, carries their mean residual and
stands at their mean time, so sums over like work are nearly what they were. Clusters never mix outcomes (resolved,
failed, unknown), since a mass counts the one and not the other. Rows keep their order, so newer ones push medoids out
first.

Source: k-medoids as the members nearest to centroids of k-means++ (Arthur and Vassilvitskii, SODA 2007), unit vectors.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from twotower.progress import track
from twotower.scoring.rows import HistoryRows, expiry

Indices = npt.NDArray[np.int64]
MEDOIDS = 0.25
"""Of a CSA's rows, where their history is longer than the bound."""
STEPS = 8
KINDS = 3
"""Successes, hand-overs without an outcome, failures: each has a medoid at least."""


def summarised(rows: HistoryRows, per_csa: int, moment: int) -> HistoryRows:
    """The memory as of a moment (µs): at most `per_csa` rows of what each CSA did before it, and later rows.

    rows: sorted by (csa, known_at), each standing for itself. Contacts are not to be matched before the moment.
    """
    medoids = int(MEDOIDS * per_csa)
    latest = per_csa - medoids
    before = rows.known_at < moment
    counts = np.bincount(rows.csa[before], minlength=int(rows.csa.max(initial=-1)) + 1)
    long = np.flatnonzero(counts > per_csa)
    if medoids < KINDS or not len(long):
        return _bounded(rows, per_csa)
    starts = np.searchsorted(rows.csa, long)
    parts, kept = [], np.ones(len(rows), np.bool_)
    for csa, start in track(list(zip(long.tolist(), starts.tolist(), strict=True)), "medoids"):
        old = np.arange(start, start + int(counts[csa]) - latest)
        kept[old] = False
        parts.append(_medoids(rows.take(old), medoids))
    names = HistoryRows.__dataclass_fields__
    both = HistoryRows(**{n: np.concatenate([getattr(one, n) for one in (rows.take(kept), *parts)]) for n in names})
    return _bounded(both.take(np.lexsort((both.contact, both.known_at, both.csa))), per_csa)


def _bounded(rows: HistoryRows, per_csa: int) -> HistoryRows:
    fields = {name: getattr(rows, name) for name in HistoryRows.__dataclass_fields__}
    return HistoryRows(**{**fields, "until": expiry(rows.csa, rows.known_at, per_csa)})


def _medoids(rows: HistoryRows, most: int) -> HistoryRows:
    """At most `most` rows that stand for all (H ≥ most) of one CSA."""
    kind = np.where(rows.outcome == 0, 2, rows.weight > 0).astype(np.int64)
    kinds, counts = np.unique(kind, return_counts=True)
    # Every kind has one at least; the others go where there is most to tell.
    shares = 1 + np.floor((most - len(kinds)) * counts / counts.sum()).astype(np.int64)
    parts = [_cluster(rows.take(kind == one), int(share)) for one, share in zip(kinds, shares, strict=True)]
    names = HistoryRows.__dataclass_fields__
    return HistoryRows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _cluster(rows: HistoryRows, many: int) -> HistoryRows:
    """`many` medoids of rows of one outcome, in order of time; the rows themselves where they are no more."""
    if len(rows) <= many:
        return rows
    vectors = rows.vectors().astype(np.float64)
    member = _assign(vectors, many)
    names, member = np.unique(member, return_inverse=True)
    size = np.bincount(member).astype(np.float64)
    centre = np.zeros((len(names), rows.width))
    np.add.at(centre, member, vectors)
    likeness = np.einsum("hq,hq->h", vectors, (centre / size[:, None])[member])
    order = np.lexsort((-likeness, member))
    first = order[np.searchsorted(member[order], np.arange(len(names)))]
    chosen = rows.take(first)
    began = int(rows.known_at.min())
    since = np.bincount(member, (rows.known_at - began).astype(np.float64)) / size
    fields = {name: getattr(chosen, name) for name in HistoryRows.__dataclass_fields__}
    found = HistoryRows(
        **{
            **fields,
            "known_at": began + since.astype(np.int64),
            "residual": (np.bincount(member, rows.residual) / size).astype(np.float32),
            "outcome": np.bincount(member, rows.outcome).astype(np.float32),
            "weight": np.bincount(member, rows.weight).astype(np.float32),
        }
    )
    return found.take(np.lexsort((found.contact, found.known_at)))


def _assign(vectors: npt.NDArray[np.float64], many: int) -> Indices:
    """(H,) the cluster of each vector; the same vectors give the same clusters."""
    from scipy.cluster.vq import kmeans2

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty")  # then there is one medoid less
        warnings.filterwarnings("ignore", message="invalid value", category=RuntimeWarning)  # equal rows are one centre
        _, member = kmeans2(vectors, many, iter=STEPS, minit="++", rng=np.random.default_rng(0), missing="warn")
    found: Indices = member.astype(np.int64)
    return found
