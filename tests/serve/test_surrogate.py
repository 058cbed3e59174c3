"""The linear stand-in nominates whom the join would choose."""

from __future__ import annotations

import numpy as np
import pytest

from serve.surrogate import Surrogate
from twotower.clock import DAY, NEVER
from twotower.index.standins import compressed
from twotower.scoring.join import ContactVectors, Join, RankWeights
from twotower.scoring.kernels import Kernel
from twotower.scoring.memory import Memory
from twotower.scoring.rows import HistoryRows
from twotower.scoring.standin import surrogate_queries, surrogate_vectors

CSAS, WIDTH, NOW = 200, 8, 1000 * DAY


def centre(same_work: bool) -> tuple[HistoryRows, np.ndarray, np.random.Generator]:
    """CSAs who each do one kind of work (always the very same contact, or variations of it), and their profiles."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(CSAS), rng.integers(0, 30, CSAS))
    kind = rng.standard_normal((CSAS, WIDTH))
    vector = kind[owner] + (0 if same_work else 0.7) * rng.standard_normal((len(owner), WIDTH))
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    known = NOW - rng.integers(1, 200 * DAY, len(owner))
    order = np.lexsort((known, owner))
    resolved = rng.random(len(owner)) < 0.6
    rows = HistoryRows.of(
        csa=owner.astype(np.int32)[order],
        known_at=known[order],
        until=np.full(len(owner), NEVER),
        vector=vector.astype(np.float32)[order],
        residual=(resolved - 0.6).astype(np.float32)[order],
        outcome=np.ones(len(owner), np.float32),
        weight=resolved.astype(np.float32)[order],
        customer=np.full(len(owner), -1, np.int32),
        contact=np.arange(len(owner)),
    )
    return rows, rng.standard_normal((CSAS, 3)).astype(np.float32), rng


def contacts(count: int, rng: np.random.Generator) -> ContactVectors:
    memory = rng.standard_normal((count, WIDTH))
    memory /= np.linalg.norm(memory, axis=1, keepdims=True)
    profile = np.column_stack([rng.standard_normal((count, 2)), np.ones(count)])
    none = np.zeros(count, np.float32)
    return ContactVectors(
        profile.astype(np.float32), memory.astype(np.float32), none, none[:, None],
        np.full(count, NOW), np.full(count, -1, np.int32),
    )  # fmt: skip


MASSES = RankWeights(
    kernels=(Kernel("csa", "mass", 0.0, 50 * 86400.0), Kernel("csa", "mass", 4.0, 20 * 86400.0)),
    profile=0.3,
    kernel_weights=(0.4, 0.8),
)
RESIDUALS = RankWeights(
    kernels=(Kernel("csa", "residual", 2.0, None, 4.0), Kernel("pair", "residual", 0.0, None, 4.0)),
    profile=0.5,
    level=1.0,
    kernel_weights=(2.0, 1.0),
)


def standing(profiles: np.ndarray, rows: HistoryRows) -> Surrogate:
    """The stand-in of the masses, as it is searched."""
    return Surrogate(compressed(surrogate_vectors(MASSES, profiles, rows, NOW)))


def test_for_one_kind_of_work_the_bound_is_the_score() -> None:
    """Where a CSA's rows are one vector, Jensen's inequality is an equality (but for ε)."""
    rows, profiles, rng = centre(same_work=True)
    known = np.flatnonzero(np.bincount(rows.csa, rows.weight, CSAS) > 0)
    join, memory = Join({"handled": MASSES}, "handled", False), Memory(rows, CSAS)
    one = contacts(1, rng)
    found = surrogate_vectors(MASSES, profiles, rows, NOW)[known] @ surrogate_queries(one)[0]
    score = join.score("handled", one, memory, known, profiles[known]).score
    # ε is felt where the mass is tiny: rows of a kind far from the contact.
    assert np.corrcoef(found, score)[0, 1] > 0.98
    near = score > np.median(score)
    np.testing.assert_allclose(found[near], score[near], atol=0.15)


@pytest.mark.parametrize(("rank", "weights"), [("handled", MASSES), ("success", RESIDUALS)])
def test_the_best_by_the_join_are_nominated(rank: str, weights: RankWeights) -> None:
    rows, profiles, rng = centre(same_work=False)
    join, memory = Join({rank: weights}, rank, rank == "success"), Memory(rows, CSAS)  # type: ignore[dict-item,arg-type]
    vectors, many = surrogate_vectors(weights, profiles, rows, NOW), contacts(40, rng)
    queries = surrogate_queries(many)
    kept = []
    for i in range(40):
        score = join.score(rank, many.take(np.array([i])), memory, np.arange(CSAS), profiles).score  # type: ignore
        best, nominated = np.argsort(-score)[:5], np.argsort(-(vectors @ queries[i]))[:40]
        kept.append(np.isin(best, nominated).mean())
    assert float(np.mean(kept)) > 0.95


def test_only_rows_that_count_at_the_moment_speak() -> None:
    rows, profiles, _ = centre(same_work=False)
    early = surrogate_vectors(RESIDUALS, profiles, rows, NOW - 300 * DAY)
    none = surrogate_vectors(RESIDUALS, profiles, rows.take(np.zeros(0, np.int64)), NOW)
    np.testing.assert_array_equal(early, none)


def test_searching_keeps_the_order_of_the_products() -> None:
    """Centring and dropping the last of the variance moves few among the nominated."""
    rows, profiles, rng = centre(same_work=False)
    many = contacts(20, rng)
    products = surrogate_queries(many) @ surrogate_vectors(MASSES, profiles, rows, NOW).T
    found = standing(profiles, rows).search(many, 30)
    for i in range(20):
        assert len(np.intersect1d(found[i], np.argsort(-products[i])[:30])) >= 28


def test_searching_keeps_to_the_mask_and_its_size() -> None:
    rows, profiles, rng = centre(same_work=False)
    allowed = np.arange(CSAS) % 50 == 3
    found = standing(profiles, rows).search(contacts(3, rng), 30, allowed)
    assert sorted(found[0].tolist()) == [3, 53, 103, 153]


def test_a_roster_without_any_history_can_be_searched() -> None:
    rows, profiles, rng = centre(same_work=False)
    empty = rows.take(np.zeros(0, np.int64))
    assert standing(profiles, empty).search(contacts(1, rng), 5).shape == (1, 5)
    alone = standing(profiles[:1], empty)
    assert alone.search(contacts(1, rng), 5).tolist() == [[0]]
