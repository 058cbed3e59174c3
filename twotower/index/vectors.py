"""A vector index that searches under a mask.

Notable: eligibility is applied *inside* the search (a bitmap that FAISS consults per row), never after it, so that no
candidate is lost to ineligible neighbours. Approximate structures see few eligible rows when the mask is tight; then
the search is exact over the eligible rows alone, which is cheaper as well. An approximate search that still comes back
short is repeated exactly, so every answer has min(k, eligible) rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import faiss as _faiss
import numpy as np
import numpy.typing as npt

faiss: Any = _faiss  # its stubs lag behind its Python interface

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Up to this many eligible rows an exact scan of 64 to 128 components takes about 0.1 ms.
EXACT_ROWS = 4096
# Under a mask tighter than this a graph walk is mostly dead ends (Patel et al., ACORN, 2024, arXiv 2403.04871) and
# inverted lists are mostly rows to skip; scanning the allowed rows alone is faster than either.
SELECTIVITY = 0.1

# FAISS computes on half floats in blocks of so many components, several times faster than on a width in between.
LANES = 16

# Concurrency comes from the callers: one thread a call.
faiss.omp_set_num_threads(1)


@dataclass(frozen=True)
class IndexChoice:
    """Which structure holds the vectors and how it is searched; recorded in the manifest.

    `kind`: `flat` (exact), `hnsw` (a graph; `effort` is efSearch) or `ivf` (inverted lists of half floats; `effort` is
    nprobe). `recall` is the measured recall at `at` neighbours on held-out queries (1 for `flat`).
    """

    kind: Literal["flat", "hnsw", "ivf"]
    effort: int = 0
    recall: float = 1.0
    at: int = 0

    def to_json(self) -> dict[str, Any]:
        """The choice as plain values."""
        return asdict(self)


class VectorIndex:
    """A FAISS inner-product index beside the exact vectors it was built from.

    `vectors` is (N, D) float32 with row i of the index being row i of the array.
    """

    def __init__(self, index: Any, vectors: Floats, choice: IndexChoice) -> None:
        self.index = index
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.choice = choice

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Floats, k: int, allowed: Mask | None = None) -> tuple[Rows, Floats]:
        """Rows of largest inner product for each query, best first.

        queries (B, D) float32; allowed (N,) bool or None for all. Returns rows int64 (B, k') and products float32
        (B, k') with k' = min(k, allowed rows).
        """
        count = len(self) if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, count)
        if k <= 0:
            return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
        if self._exact_is_better(count, k):
            rows = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
            return exact_search(self.vectors, queries, k, rows)
        products, found = self.index.search(queries, k, params=self._parameters(count, k, allowed))
        if self.choice.kind != "flat" and (short := np.flatnonzero(found[:, -1] < 0)).size:
            rows = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
            found[short], products[short] = exact_search(self.vectors, queries[short], k, rows)
        return found, products

    def _exact_is_better(self, count: int, k: int) -> bool:
        if self.choice.kind == "flat":
            return count < len(self) and count <= EXACT_ROWS
        return count < SELECTIVITY * len(self) or count <= max(EXACT_ROWS, 2 * k)

    def _parameters(self, count: int, k: int, allowed: Mask | None) -> Any:
        """FAISS search parameters; a mask widens an approximate search until it sees as many allowed rows as before."""
        effort = -(-self.choice.effort * len(self) // count)
        selector = None
        if allowed is not None:
            # The bitmap is borrowed, not copied: the parameters keep the array alive for the call.
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self.choice.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(effort, k), sel=selector)
        if self.choice.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=min(effort, self.index.nlist), sel=selector)
        return None if selector is None else faiss.SearchParameters(sel=selector)


def widen(vectors: npt.NDArray[Any]) -> Floats:
    """The vectors (N, D) as float32 with zeros added up to a multiple of `LANES` components."""
    out = np.zeros((len(vectors), -(-vectors.shape[1] // LANES) * LANES), dtype=np.float32)
    out[:, : vectors.shape[1]] = vectors
    return out


def exact_search(vectors: Floats, queries: Floats, k: int, rows: Rows) -> tuple[Rows, Floats]:
    """Brute force over `rows` of `vectors`: the k largest inner products, best first, ties by row.

    vectors (N, D), queries (B, D), rows (M,) ascending with k <= M; returns rows int64 (B, k) and products (B, k).
    """
    part = vectors if len(rows) == len(vectors) else np.take(vectors, rows, axis=0)
    products = queries @ part.T
    best = np.argpartition(products, len(rows) - k, axis=1)[:, len(rows) - k :] if k < len(rows) else None
    places = np.broadcast_to(np.arange(len(rows)), products.shape) if best is None else np.sort(best, axis=1)
    values = np.take_along_axis(products, places, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return rows[np.take_along_axis(places, order, axis=1)], np.take_along_axis(values, order, axis=1)
