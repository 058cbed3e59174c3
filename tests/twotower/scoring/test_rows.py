"""History rows: which count at which moment."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.twotower.scoring import memories
from twotower.clock import NEVER, SECOND
from twotower.scoring.rows import HistoryRows, build_rows, expiry, merge_rows, quantised

DAY = 86400 * SECOND
Seeds = st.integers(0, 2**32 - 1)


@given(Seeds, st.integers(0, 40), st.integers(1, 6), st.integers(0, memories.DAYS))
def test_at_any_moment_a_csa_keeps_the_most_recent_hand_overs_known_before_it(seed, n, per_csa, day):
    given_rows = memories.handovers(seed, n)
    moment = day * DAY
    kept = build_rows(**given_rows, per_csa=per_csa)
    visible = kept.take(kept.visible(moment))
    for csa in range(memories.CSAS):
        known = sorted(
            (int(t), int(c))
            for a, t, c in zip(given_rows["csa"], given_rows["known_at"], given_rows["contact"], strict=True)
            if a == csa and t < moment
        )
        mine = visible.csa == csa
        found = list(zip(visible.known_at[mine].tolist(), visible.contact[mine].tolist(), strict=True))
        assert found == known[-per_csa:]


@given(Seeds, st.integers(0, 40), st.integers(1, 6))
def test_expiry_is_when_so_many_newer_ones_were_known(seed, n, per_csa):
    rows = memories.rows(seed, n, per_csa)
    for i in range(len(rows)):
        newer = rows.known_at[i + 1 :][rows.csa[i + 1 :] == rows.csa[i]]
        assert rows.until[i] == (newer[per_csa - 1] if len(newer) >= per_csa else NEVER)


def test_a_row_counts_after_it_was_known_until_it_is_pushed_out():
    rows = build_rows(**handovers(known_at=[10, 20, 30]), per_csa=2)
    assert rows.until.tolist() == [30, NEVER, NEVER]
    for moment, counted in [(10, []), (11, [10]), (20, [10]), (21, [10, 20]), (30, [10, 20]), (31, [20, 30])]:
        assert rows.known_at[rows.visible(moment)].tolist() == counted


def test_rows_say_what_came_of_the_hand_over():
    rows = build_rows(**handovers(known_at=[10, 20, 30, NEVER], resolved=[1, 0, -1, 1]), per_csa=9)
    assert rows.outcome.tolist() == [True, True, False]
    assert rows.weight.tolist() == [1, 0, 1]
    assert rows.residual.tolist() == [0.5, 0.5, 0]


def test_rows_are_sorted_by_csa_then_time_then_contact():
    rows = build_rows(**handovers(known_at=[30, 20, 20, 10], csa=[0, 1, 1, 1], contact=[0, 2, 1, 3]), per_csa=9)
    assert rows.contact.tolist() == [0, 3, 1, 2]


@given(Seeds, st.integers(0, 30), st.integers(0, 30), st.integers(1, 6))
def test_merging_two_memories_is_building_one(seed, first, second, per_csa):
    both = memories.handovers(seed, first + second)
    parts = [{k: v[part] for k, v in both.items()} for part in (slice(first), slice(first, None))]
    merged = merge_rows(*(build_rows(**part, per_csa=per_csa) for part in parts), per_csa=per_csa)
    same(merged, build_rows(**both, per_csa=per_csa))


@given(Seeds, st.integers(0, 40), st.integers(1, 6), st.integers(0, memories.DAYS))
def test_the_bound_never_looks_ahead(seed, n, per_csa, day):
    """What was visible at a moment does not depend on what became known at it or later."""
    whole = memories.handovers(seed, n)
    before = {k: v[whole["known_at"] < day * DAY] for k, v in whole.items()}
    late, early = (build_rows(**rows, per_csa=per_csa) for rows in (whole, before))
    a, b = (rows.take(rows.visible(day * DAY)) for rows in (late, early))
    for name in HistoryRows.__dataclass_fields__:
        if name != "until":
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes()


def test_expiry_of_nothing():
    assert expiry(np.zeros(0, np.int32), np.zeros(0, np.int64), 3).tolist() == []


def handovers(known_at: list[int], **more: list[int]) -> dict[str, Any]:
    """One CSA's hand-overs, residual one half, as `build_rows` takes them."""
    n = len(known_at)
    return {
        "csa": np.array(more.get("csa", [0] * n), np.int32),
        "known_at": np.array(known_at, np.int64),
        "vector": np.ones((n, 1), np.float32),
        "residual": np.full(n, 0.5, np.float32),
        "resolved": np.array(more.get("resolved", [1] * n), np.int8),
        "customer": np.full(n, -1, np.int32),
        "contact": np.array(more.get("contact", range(n)), np.int64),
    }


def same(a: HistoryRows, b: HistoryRows) -> None:
    for name in HistoryRows.__dataclass_fields__:
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 70))
def test_codes_are_near_the_vectors_and_products_are_those_of_codes(seed: int, count: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, width)).astype(np.float32)
    vectors[0] = 0
    code, scale = quantised(vectors)
    assert np.abs(code * scale[:, None] - vectors).max() <= scale.max() / 2 * 1.001
    assert np.array_equal(quantised(code * scale[:, None])[0], code)
    assert not code[0].any()
    assert scale[0] == 0
    rows = HistoryRows.of(
        vector=vectors, csa=np.zeros(count, np.int32), known_at=np.arange(count), until=np.full(count, NEVER),
        residual=scale, outcome=scale, weight=scale, customer=np.zeros(count, np.int32), contact=np.arange(count),
    )  # fmt: skip
    some, query = rng.integers(0, count, 9), rng.standard_normal(width).astype(np.float32)
    np.testing.assert_allclose(rows.products(some, query), rows.vectors(some) @ query, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows.vectors()[some], rows.vectors(some))
    assert rows.width == width
