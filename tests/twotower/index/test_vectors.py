"""Masked search: equal to brute force where it is exact, never outside the mask, never short."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.index import vectors as module
from twotower.index.build import build_history_index, build_profile_index
from twotower.index.vectors import IndexChoice, VectorIndex, exact_search, faiss

Floats = npt.NDArray[np.float32]


def clustered(rows: int, width: int = 16, seed: int = 0) -> Floats:
    """Unit vectors around a few centres, as texts of a few kinds of work are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((24, width))
    found = centres[rng.integers(0, 24, rows)] + 0.5 * rng.standard_normal((rows, width))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def indexes() -> dict[str, VectorIndex]:
    """One index of each kind over the same 6,000 vectors."""
    found, queries = clustered(6000), clustered(64, seed=1)
    return {
        "flat": build_profile_index(found, queries),
        "hnsw": build_profile_index(found, queries, flat_components=0),
        "ivf": build_history_index(found, queries, flat_components=0),
    }


def brute_force(index: VectorIndex, query: Floats, k: int, allowed: npt.NDArray[np.bool_]) -> Floats:
    """The k largest products over the allowed rows, sorted."""
    return np.sort(index.vectors[allowed] @ query)[::-1][:k]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_each_structure_is_the_one_asked_for(indexes: dict[str, VectorIndex], kind: str) -> None:
    assert indexes[kind].choice.kind == kind


def test_flat_equals_brute_force(indexes: dict[str, VectorIndex]) -> None:
    index = indexes["flat"]
    queries = clustered(20, seed=2)
    rows, products = index.search(queries, 10)
    for i, query in enumerate(queries):
        np.testing.assert_allclose(products[i], brute_force(index, query, 10, np.ones(len(index), bool)), rtol=1e-5)
        np.testing.assert_allclose(index.vectors[rows[i]] @ query, products[i], rtol=1e-5)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("share", [0.002, 0.02, 0.06])
def test_a_tight_mask_is_searched_exactly(indexes: dict[str, VectorIndex], kind: str, share: float) -> None:
    index = indexes[kind]
    allowed = np.random.default_rng(3).random(len(index)) < share
    for query in clustered(10, seed=4):
        _, products = index.search(query[None], 8, allowed)
        np.testing.assert_allclose(products[0], brute_force(index, query, 8, allowed), rtol=1e-5)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["flat", "hnsw", "ivf"]),
    share=st.sampled_from([0.0, 0.0003, 0.003, 0.05, 0.15, 0.5, 0.9, 1.0]),
    k=st.integers(1, 200),
    seed=st.integers(0, 10_000),
)
def test_nobody_outside_the_mask_and_never_short(
    indexes: dict[str, VectorIndex], kind: str, share: float, k: int, seed: int
) -> None:
    index = indexes[kind]
    rng = np.random.default_rng(seed)
    allowed = rng.random(len(index)) < share
    rows, products = index.search(clustered(2, seed=seed), k, allowed)
    assert rows.shape == products.shape == (2, min(k, allowed.sum()))
    assert allowed[rows].all()
    assert all(len(np.unique(row)) == rows.shape[1] for row in rows)
    assert (np.diff(products, axis=1) <= 1e-6).all()


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_masked_approximate_search_keeps_its_recall(
    indexes: dict[str, VectorIndex], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXACT_ROWS", 0)
    index, queries = indexes[kind], clustered(40, seed=5)
    allowed = np.random.default_rng(6).random(len(index)) < 0.3
    rows, _ = index.search(queries, 20, allowed)
    true = [brute_force(index, query, 20, allowed)[-1] for query in queries]
    products = np.einsum("bkd,bd->bk", index.vectors[rows], queries)
    assert float(np.mean(products >= np.array(true)[:, None] - 1e-5)) >= 0.95


def test_a_search_that_comes_back_short_is_repeated_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inverted lists probed once cannot fill 500 answers; the exact scan does."""
    monkeypatch.setattr(module, "EXACT_ROWS", 0)
    found = clustered(6000)
    built = build_history_index(found, clustered(64, seed=1), flat_components=0)
    narrow = VectorIndex(built.index, found, IndexChoice("ivf", effort=1))
    query = clustered(1, seed=8)
    short, _ = narrow.index.search(query, 2900, params=faiss.SearchParametersIVF(nprobe=1))
    assert (short < 0).any()
    rows, products = narrow.search(query, 2900)
    assert (rows >= 0).all()
    np.testing.assert_allclose(products[0], brute_force(narrow, query[0], 2900, np.ones(6000, bool)), rtol=1e-4)


def test_the_bitmap_outlives_the_call_that_made_it(indexes: dict[str, VectorIndex]) -> None:
    """FAISS borrows the bitmap; collecting garbage in between must not change an answer."""
    index = indexes["hnsw"]
    allowed = np.arange(len(index)) % 2 == 0
    parameters: Any = index._parameters(int(allowed.sum()), 5, allowed)
    gc.collect()
    _, rows = index.index.search(clustered(3, seed=7), 5, params=parameters)
    assert (rows % 2 == 0).all()


def test_exact_search_breaks_ties_by_row() -> None:
    same = np.ones((6, 3), dtype=np.float32)
    rows, _ = exact_search(same, same[:1], 6, np.arange(6))
    assert rows[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_searching_nothing_gives_nothing() -> None:
    index = build_profile_index(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    rows, products = index.search(np.ones((2, 4), np.float32), 5)
    assert rows.shape == products.shape == (2, 0)
