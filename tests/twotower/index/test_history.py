"""Freshness inside the inner product."""

from __future__ import annotations

import numpy as np
import pytest

from tests.serve import fakes
from twotower.clock import DAY, NEVER
from twotower.index.history import MOST_STALE, history_queries, history_vectors, staleness_rate
from twotower.scoring.join import Join, RankWeights
from twotower.scoring.kernels import Kernel
from twotower.scoring.rows import HistoryRows

NOW = 500 * DAY


def rows(ages_days: list[float], vectors: np.ndarray) -> HistoryRows:
    count = len(ages_days)
    return HistoryRows.of(
        csa=np.arange(count, dtype=np.int32),
        known_at=np.array([NOW - int(a * DAY) for a in ages_days]),
        until=np.full(count, NEVER),
        vector=vectors.astype(np.float32),
        residual=np.zeros(count, np.float32),
        outcome=np.zeros(count, np.float32),
        weight=np.ones(count, np.float32),
        customer=np.full(count, -1, np.int32),
        contact=np.arange(count),
    )


def one_kernel(beta: float, days: float | None, weight: float = 1.0) -> Join:
    kernel = Kernel("csa", "mass", beta, None if days is None else days * 86400)
    return Join({"handled": RankWeights((kernel,), profile=0.0, kernel_weights=(weight,))}, "handled", False)


def test_rows_rank_by_what_they_add_to_the_mass() -> None:
    """With one kernel, the order of products is the order of e^(β (cos − 1)) 2^(−age / h)."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ages = rng.uniform(0, 40, 50)
    query = vectors[7] * 0.6 + vectors[9] * 0.5
    query /= np.linalg.norm(query)
    rate = staleness_rate(one_kernel(8.0, 20.0))
    remembered = rows(list(ages), vectors)
    found = history_vectors(remembered, NOW, rate) @ history_queries(query[None].astype("f4"), "handled")[0]
    expected = np.exp(8 * (remembered.vectors() @ query - 1)) * 2 ** (-ages / 20)
    np.testing.assert_array_equal(np.argsort(-found), np.argsort(-expected))


def test_success_asks_for_likeness_alone() -> None:
    vectors = np.eye(4)
    held = history_vectors(rows([0, 1, 10, 100], vectors), NOW, 1e-6)
    np.testing.assert_allclose(held @ history_queries(np.eye(4, dtype=np.float32), "success").T, np.eye(4), atol=1e-6)


def test_staleness_is_bounded_and_padding_is_silent() -> None:
    held = history_vectors(rows([1e4], np.eye(1, 4)), NOW, 1.0)
    assert held.shape == (1, 16)
    assert held[0, 4] == -MOST_STALE
    assert not held[0, 5:].any()


@pytest.mark.parametrize(
    "join", [one_kernel(0.0, 20.0), one_kernel(8.0, None), one_kernel(8.0, 20.0, -0.3), fakes.join(handled=False)]
)
def test_a_join_that_does_not_weigh_likeness_by_age_knows_no_staleness(join: Join) -> None:
    assert staleness_rate(join) == 0.0
