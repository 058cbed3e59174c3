"""Building: the structure is chosen by measured recall, and the same vectors give the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.twotower.index.test_vectors import clustered
from twotower.errors import BundleError
from twotower.index import build
from twotower.index.build import build_history_index, build_profile_index, read_index, recall, write_index
from twotower.index.vectors import VectorIndex


def both(vectors: np.ndarray, queries: np.ndarray) -> list[VectorIndex]:
    return [
        build_profile_index(vectors, queries, flat_components=0),
        build_history_index(vectors, queries, flat_components=0),
    ]


def test_few_vectors_stay_exact() -> None:
    index = build_profile_index(clustered(500), clustered(50, seed=1))
    assert index.choice.kind == "flat"
    assert index.choice.recall == 1.0


def test_without_queries_nothing_can_be_measured_and_the_index_stays_exact() -> None:
    index = build_profile_index(clustered(500), np.zeros((0, 16), np.float32), flat_components=0)
    assert index.choice.kind == "flat"


def test_the_recorded_recall_holds_on_other_queries() -> None:
    for index in both(clustered(5000), clustered(128, seed=1)):
        assert index.choice.recall >= build.RECALL_GOAL
        assert recall(index, clustered(128, seed=2), index.choice.at) >= 0.985


def test_where_no_effort_reaches_the_goal_the_index_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "RECALL_GOAL", 1.1)
    for index in both(clustered(5000), clustered(32, seed=1)):
        assert index.choice.kind == "flat"


def test_the_smallest_effort_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "RECALL_GOAL", 0.0)
    assert both(clustered(5000), clustered(32, seed=1))[0].choice.effort == build.HNSW_EFFORTS[0]


def test_the_same_vectors_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for kind, index in zip(("hnsw", "ivf"), both(clustered(3000), clustered(32, seed=1)), strict=True):
            write_index(index, tmp_path / f"{kind}.{name}")
    for kind in ("hnsw", "ivf"):
        assert (tmp_path / f"{kind}.a").read_bytes() == (tmp_path / f"{kind}.b").read_bytes()


def test_what_is_read_answers_as_what_was_written(tmp_path: Path) -> None:
    queries = clustered(10, seed=3)
    for index in both(clustered(5000), clustered(32, seed=1)):
        path = tmp_path / index.choice.kind
        write_index(index, path)
        again = read_index(path, index.vectors, index.choice)
        np.testing.assert_array_equal(index.search(queries, 10)[0], again.search(queries, 10)[0])


def test_an_index_of_other_rows_is_refused(tmp_path: Path) -> None:
    index = build_profile_index(clustered(100), clustered(10, seed=1))
    write_index(index, tmp_path / "index")
    with pytest.raises(BundleError, match="holds 100 rows"):
        read_index(tmp_path / "index", clustered(99), index.choice)


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"IxF")
    with pytest.raises(BundleError, match="not a readable FAISS index"):
        read_index(tmp_path / "index", clustered(99), build_profile_index(clustered(9), clustered(9)).choice)
