"""Building indexes and choosing their structure by measured recall.

Notable: nothing is assumed about approximate search. The exact structure is kept as long as it is fast enough; past
that size the cheapest search of a grid that reaches the recall goal on held-out queries, against brute force on the
same vectors, is taken, and where none reaches it the index stays exact. Building is single-threaded and seeded, so the
same vectors give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twotower.errors import BundleError
from twotower.index.vectors import Floats, IndexChoice, VectorIndex, Vectors, faiss
from twotower.progress import track

RECALL_GOAL = 0.99
PROFILE_AT = 50
HISTORY_AT = 100
QUERIES = 256
# An exact scan of this many components (rows × width) takes about 0.1 ms on one core.
FLAT_COMPONENTS = 2_000_000
HNSW_NEIGHBOURS, HNSW_BUILD_EFFORT = 32, 80
HNSW_EFFORTS = (64, 96, 128, 192, 256, 384, 512)
IVF_EFFORTS = (4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 128, 144, 160, 192, 256)


def build_profile_index(vectors: Floats, queries: Floats, flat_components: int = FLAT_COMPONENTS) -> VectorIndex:
    """Index CSA vectors (J, P) for inner products with contact vectors; `queries` (M, P) measure the recall."""
    if vectors.size <= flat_components or len(queries) == 0:
        return _flat(vectors)
    index = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_BUILD_EFFORT
    _add(index, vectors, "indexing profiles")
    return _choose(index, vectors, queries, "hnsw", HNSW_EFFORTS, PROFILE_AT)


def build_history_index(vectors: Floats, queries: Floats, flat_components: int = FLAT_COMPONENTS) -> VectorIndex:
    """Index history vectors (H, W) for queries like `queries` (M, W), which measure the recall.

    Past the flat size: inverted lists of half floats. (8-bit codes shuffle near neighbours below the recall goal.)
    """
    if vectors.size <= flat_components or len(queries) == 0:
        return _flat(vectors)
    width = vectors.shape[1]
    # About 1.4 √H, a power of two: building costs as much as there are lists, a search hardly less with more of them.
    lists = 1 << max(4, round(np.log2(len(vectors)) / 2 + 0.5))
    quantiser = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFScalarQuantizer(
        quantiser, width, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter = 8
    index.cp.max_points_per_centroid = 48
    faiss.omp_set_num_threads(1)
    index.train(vectors)
    _add(index, vectors, "indexing history")
    return _choose(index, vectors, queries, "ivf", tuple(e for e in IVF_EFFORTS if e < lists), HISTORY_AT)


def build_half_index(vectors: Floats) -> VectorIndex:
    """Scan all of (J, W) vectors as half floats: half the memory traffic, for searches that only nominate."""
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    if len(vectors):
        index.train(vectors)
    _add(index, vectors, "indexing")
    return VectorIndex(index, vectors, IndexChoice("flat"))


def recall(index: VectorIndex, queries: Floats, k: int) -> float:
    """Share of the k nearest rows by brute force that the index finds, averaged over queries (M, D).

    A found row counts when its product reaches the k-th true one, so ties are not misses.
    """
    k = min(k, len(index))
    if k == 0 or len(queries) == 0:
        return 1.0
    whole = index.vectors if isinstance(index.vectors, np.ndarray) else index.vectors.take(np.arange(len(index)))
    # Not `exact_search`, whose products of all queries with millions of rows fill the memory.
    true, _ = faiss.knn(queries, whole, k, faiss.METRIC_INNER_PRODUCT)
    found, _ = index.search(queries, k)
    near = index.vectors.take(found.ravel(), axis=0).reshape(*found.shape, -1)
    products = np.einsum("bkd,bd->bk", near, queries)
    return float(np.mean(products >= true[:, -1:] - 1e-5))


def _flat(vectors: Floats) -> VectorIndex:
    index = faiss.IndexFlatIP(vectors.shape[1])
    _add(index, vectors, "indexing")
    return VectorIndex(index, vectors, IndexChoice("flat"))


def _add(index: Any, vectors: Floats, what: str, batch: int = 20_000) -> None:
    faiss.omp_set_num_threads(1)
    contiguous = np.ascontiguousarray(vectors, dtype=np.float32)
    for start in track(range(0, len(vectors), batch), what):
        index.add(contiguous[start : start + batch])


def _choose(index: Any, vectors: Floats, queries: Floats, kind: Any, efforts: Sequence[int], at: int) -> VectorIndex:
    """Smallest effort that reaches the goal on the queries, else the flat index."""
    sample = np.ascontiguousarray(queries[:QUERIES], dtype=np.float32)
    for effort in efforts:
        tried = VectorIndex(index, vectors, IndexChoice(kind, effort))
        if (reached := recall(tried, sample, at)) >= RECALL_GOAL:
            return VectorIndex(index, vectors, IndexChoice(kind, effort, round(reached, 4), at))
    return _flat(vectors)


def write_index(index: VectorIndex, path: Path) -> None:
    """Write the FAISS structure; its vectors are written by the caller, its choice goes to the manifest."""
    faiss.write_index(index.index, str(path))


def read_index(path: Path, vectors: Floats | Vectors, choice: IndexChoice) -> VectorIndex:
    """Read what `write_index` wrote. Raises BundleError where it does not hold exactly these vectors' rows."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise BundleError(f"{path}: not a readable FAISS index ({str(error).splitlines()[-1]}): export again") from None
    if index.ntotal != len(vectors) or (len(vectors) and index.d != vectors.shape[1]):
        raise BundleError(
            f"{path}: holds {index.ntotal} rows of width {index.d}, its table {vectors.shape}: export again"
        )
    return VectorIndex(index, vectors, choice)
