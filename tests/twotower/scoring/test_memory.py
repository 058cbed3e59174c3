"""The memory's parts: equal to their definition, and deaf to what was not known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twotower.scoring import memories
from tests.twotower.scoring.memories import CSAS, CUSTOMERS, DAYS, KERNELS, WIDTH, by_definition, unit
from twotower.clock import NEVER, SECOND
from twotower.errors import ConfigError
from twotower.scoring.kernels import Kernel, empty_value, segment_sums
from twotower.scoring.memory import PER_CUSTOMER, Memory
from twotower.scoring.rows import HistoryRows, build_rows

DAY = 86400 * SECOND
Seeds = st.integers(0, 2**32 - 1)
Candidates = st.lists(st.integers(0, CSAS - 1), unique=True, max_size=CSAS).map(lambda c: np.array(c, dtype=np.int64))


@given(Seeds, st.integers(0, 60), st.integers(1, 8), Candidates, st.integers(-1, CUSTOMERS), st.integers(0, DAYS))
def test_every_kernel_is_its_definition(seed, n, per_csa, candidates, customer, day):
    rows, pairs, vector, memory = built(seed, n, per_csa)
    found = memory.parts(KERNELS, vector, customer, day * DAY, candidates)
    assert found.shape == (len(candidates), len(KERNELS))
    assert found.dtype == np.float32
    for k, kernel in enumerate(KERNELS):
        source = rows if kernel.scope == "csa" else pairs
        expected = [by_definition(kernel, source, int(c), vector, customer, day * DAY) for c in candidates]
        assert np.allclose(found[:, k], expected, rtol=2e-5, atol=2e-5), kernel.name


@given(Seeds, st.integers(0, 60), st.integers(1, 8), st.integers(-1, CUSTOMERS - 1), st.integers(0, DAYS))
def test_what_is_known_at_the_moment_or_later_changes_no_bit(seed, n, per_csa, customer, day):
    moment = day * DAY
    before, later = memories.handovers(seed, n), memories.handovers(seed + 1, 30)
    before["known_at"] = np.minimum(before["known_at"], moment - 1)
    later["known_at"] = np.maximum(later["known_at"], moment)
    later["known_at"][:3] = moment  # in that very microsecond
    both = {k: np.concatenate([before[k], later[k]]) for k in before}
    vector = a_vector(seed)
    everyone = np.arange(CSAS)
    values = []
    for rows in (before, both):
        memory = Memory(build_rows(**rows, per_csa=per_csa), CSAS, build_rows(**rows, per_csa=10**6))
        values.append(memory.parts(KERNELS, vector, customer, moment, everyone))
    assert (values[0] == values[1]).all()


@given(Seeds, st.integers(1, 60), Candidates, st.integers(-1, CUSTOMERS - 1))
def test_a_candidate_has_the_same_value_whoever_else_is_one(seed, n, candidates, customer):
    _, _, vector, memory = built(seed, n, 8)
    everyone = memory.parts(KERNELS, vector, customer, DAYS * DAY, np.arange(CSAS))
    some = memory.parts(KERNELS, vector, customer, DAYS * DAY, candidates)
    assert np.allclose(some, everyone[candidates], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_without_any_row_a_part_is_its_empty_value(kernel):
    rows = memories.rows(0, 0, 4)
    for memory in (Memory(rows, CSAS), Memory(rows, CSAS, rows)):
        found = memory.parts([kernel], a_vector(0), 0, DAY, np.arange(CSAS))
        assert found.tolist() == [[pytest.approx(empty_value(kernel))]] * CSAS


def test_a_null_customer_has_no_pairing_memory():
    _, _, vector, memory = built(3, 60, 8)
    pairing = [k for k in KERNELS if k.scope == "pair"]
    known = memory.parts(pairing, vector, 0, NEVER, np.arange(CSAS))
    for unknown in (-1, CUSTOMERS, CUSTOMERS + 5):
        nothing = memory.parts(pairing, vector, unknown, NEVER, np.arange(CSAS))
        assert nothing.tolist() == [pytest.approx([empty_value(k) for k in pairing])] * CSAS
    assert not np.allclose(known, nothing)


def test_a_pairing_remembers_the_latest_hand_overs_of_a_customer():
    n = PER_CUSTOMER + 10
    older = HistoryRows.of(
        csa=np.repeat([0, 1], [10, PER_CUSTOMER]).astype(np.int32),
        known_at=np.arange(n, dtype=np.int64),
        until=np.full(n, NEVER),
        vector=np.ones((n, 1), np.float32),
        residual=np.zeros(n, np.float32),
        outcome=np.ones(n, np.float32),
        weight=np.ones(n, np.float32),
        customer=np.zeros(n, np.int32),
        contact=np.arange(n),
    )
    memory = Memory(older, 2, older)
    mass = memory.parts([Kernel("pair", "mass", 0.0)], np.ones(1, np.float32), 0, n, np.arange(2))
    assert np.exp(mass[:, 0]).tolist() == pytest.approx([0.001, PER_CUSTOMER + 0.001], rel=1e-4)
    assert [len(memory.gather_pairs(0, np.ones(1, np.float32), t, np.arange(2)).index) for t in (5, n)] == [5, 64]


def test_what_is_gathered_is_sorted_by_candidate_with_its_cosine_and_age():
    rows, _, vector, memory = built(5, 60, 8)
    candidates = np.array([3, 0])
    found = memory.gather(vector, 40 * DAY, candidates)
    assert (np.diff(found.owner) >= 0).all()
    assert np.array_equal(candidates[found.owner], rows.csa[found.index])
    assert np.allclose(found.cosine, rows.vectors(found.index) @ vector)
    assert found.age_s.tolist() == [(40 * DAY - t) / SECOND for t in rows.known_at[found.index].tolist()]


@given(Seeds, st.lists(st.integers(0, 5), max_size=10), st.integers(1, 3))
def test_sums_over_runs_are_sums_over_slices(seed, lengths, batch):
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.random.default_rng(seed).standard_normal((batch, int(starts[-1]) + 3)).astype(np.float32)
    expected = [[row[a:b].sum() for a, b in pairwise(starts)] for row in values]
    assert np.allclose(segment_sums(values, starts), np.array(expected).reshape(batch, len(lengths)), atol=1e-5)


@pytest.mark.parametrize(
    "bad", [{"sharpness": -1.0}, {"prior": 0.0}, {"prior": -2.0}, {"half_life_s": 0.0}, {"half_life_s": -1.0}]
)
def test_a_kernel_that_cannot_be_is_refused(bad):
    fields: dict[str, Any] = {"scope": "csa", "statistic": "mass", "sharpness": 1.0, **bad}
    with pytest.raises(ConfigError, match="sharpness must be >= 0, prior and half_life_s > 0"):
        Kernel(**fields)


@pytest.mark.parametrize("bad", [{"scope": "team"}, {"statistic": "median"}, {"sharpness": float("nan")}])
def test_a_kernel_of_no_kind_is_refused(bad):
    fields: dict[str, Any] = {"scope": "csa", "statistic": "mass", "sharpness": 1.0, **bad}
    with pytest.raises(ConfigError):
        Kernel(**fields)


def test_names_say_what_a_kernel_is():
    assert Kernel("csa", "mass", 8.0, 30 * 86400.0).name == "csa mass β=8 h=30d"
    assert Kernel("pair", "residual", 0.0, None, 4.0).name == "pair residual β=0 h=∞ κ=4"
    assert len({k.name for k in KERNELS}) == len(KERNELS)


def a_vector(seed: int) -> Any:
    return unit(np.random.default_rng([seed, 1]).standard_normal(WIDTH))


def built(seed: int, n: int, per_csa: int) -> tuple[HistoryRows, HistoryRows, Any, Memory]:
    """Bounded rows, the pairing's unbounded ones, a contact's vector, and the memory of both."""
    rows, pairs = memories.rows(seed, n, per_csa), memories.rows(seed, n, 10**6)
    return rows, pairs, a_vector(seed), Memory(rows, CSAS, pairs)
