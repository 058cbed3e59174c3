"""Long histories in few rows: nothing is lost that sums over like work need, and nobody else's rows change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twotower.scoring import memories
from train.medoids import MEDOIDS, summarised
from twotower.clock import DAY, NEVER
from twotower.scoring.kernels import Kernel
from twotower.scoring.memory import Memory
from twotower.scoring.rows import HistoryRows, build_rows

NOW = 400 * DAY
PER_CSA = 160


def history(counts: tuple[int, ...], seed: int = 0, width: int = 8) -> HistoryRows:
    """Unbounded hand-overs of CSAs, of eight sorts of work; sorts differ in how often they are resolved."""
    rng = np.random.default_rng(seed)
    csa = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    size = len(csa)
    sort = rng.integers(0, width, size)
    vector = np.eye(width)[sort] + 0.15 * rng.standard_normal((size, width))
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    resolved = np.where(rng.random(size) < 0.1, -1, rng.random(size) < 0.2 + 0.08 * sort).astype(np.int8)
    known_at = np.sort(rng.integers(0, NOW, size))
    return build_rows(
        csa, known_at, vector.astype(np.float32), (resolved - 0.5).astype(np.float32), resolved,
        np.full(size, -1, np.int32), np.arange(size), max(1, size),
    )  # fmt: skip


def visible(rows: HistoryRows, moment: int = NOW) -> HistoryRows:
    return rows.take(rows.visible(moment))


def test_each_csa_has_as_many_rows_as_the_bound_and_they_stand_for_all() -> None:
    whole = history((1200, 161, 160, 7))
    found = visible(summarised(whole, PER_CSA, NOW))
    count = np.bincount(found.csa)
    assert count[2:].tolist() == [160, 7]
    assert (count[:2] <= PER_CSA).all()
    assert (count[:2] > 0.95 * PER_CSA).all()  # a cluster may lose all its members
    for name in ("weight", "outcome"):
        sums = [np.bincount(rows.csa, getattr(rows, name)) for rows in (found, whole)]
        np.testing.assert_allclose(sums[0], sums[1])
    totals = [np.bincount(rows.csa, rows.residual * rows.outcome) for rows in (found, whole)]
    np.testing.assert_allclose(totals[0], totals[1], atol=1e-3)
    assert (np.diff(found.csa) >= 0).all()
    same = found.csa[1:] == found.csa[:-1]
    assert (np.diff(found.known_at)[same] >= 0).all()


def test_the_latest_stand_as_they_were_and_medoids_are_older() -> None:
    whole = history((1200,))
    found = visible(summarised(whole, PER_CSA, NOW))
    latest = PER_CSA - int(MEDOIDS * PER_CSA)
    for name in HistoryRows.__dataclass_fields__:
        if name != "until":
            np.testing.assert_array_equal(getattr(found, name)[-latest:], getattr(whole, name)[-latest:])
    assert found.known_at[:-latest].max() <= whole.known_at[-latest]
    assert set(found.contact.tolist()) <= set(whole.contact.tolist())  # medoids are hand-overs that were


def test_no_medoid_mixes_outcomes() -> None:
    found = visible(summarised(history((1500,)), PER_CSA, NOW))
    standing = np.maximum(found.weight, found.outcome)
    assert (standing > 1).any()
    failed = (found.outcome > 0) & (found.weight == 0)
    unknown = (found.outcome == 0) & (found.weight > 0)
    resolved = (found.outcome > 0) & (found.outcome == found.weight)
    assert (failed | unknown | resolved).all()
    assert failed.any()
    assert unknown.any()


def test_sums_over_like_work_are_nearer_to_the_whole_than_those_of_the_latest_alone() -> None:
    """Work that was done long ago and no more is what a bound forgets."""
    whole = history((1500,))
    rare = whole.vectors()[:, 0] > 0.7
    late = whole.known_at > NOW // 2
    whole = whole.take(~(rare & late))
    kernels = (Kernel("csa", "residual", 8.0, None, 4.0), Kernel("csa", "mass", 8.0))
    asked = np.eye(8, dtype=np.float32)

    def parts(rows: HistoryRows) -> np.ndarray:
        memory = Memory(rows, 1)
        return np.array([memory.parts(kernels, one, -1, NOW, np.zeros(1, np.int64))[0] for one in asked])

    latest = memories_bounded(whole, PER_CSA)
    exact, summed, cut = parts(whole), parts(summarised(whole, PER_CSA, NOW)), parts(latest)
    error, without = np.abs(summed - exact), np.abs(cut - exact)
    assert (error.mean(axis=0) < 0.35 * without.mean(axis=0)).all()
    assert error[0, 1] < 0.3 < without[0, 1]


def memories_bounded(rows: HistoryRows, per_csa: int) -> HistoryRows:
    """The latest rows alone."""
    return summarised(rows, per_csa, 0)


def test_rows_after_the_moment_push_medoids_out_first() -> None:
    whole = history((1200,))
    moment = int(whole.known_at[800])
    found = summarised(whole, PER_CSA, moment)
    after = whole.known_at >= moment
    assert set(whole.contact[after].tolist()) <= set(found.contact.tolist())
    later = found.take(found.visible(int(whole.known_at[800 + int(MEDOIDS * PER_CSA)]) + 1))
    assert len(later) == PER_CSA
    assert (np.maximum(later.weight, later.outcome) == 1).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 6))
def test_short_histories_are_only_bounded(seed: int, n: int, per_csa: int) -> None:
    unbounded = memories.rows(seed, n, per_csa=max(1, n))
    assert (unbounded.until == NEVER).all()
    found, expected = summarised(unbounded, per_csa, 0), memories.rows(seed, n, per_csa)
    for name in HistoryRows.__dataclass_fields__:
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name


@pytest.mark.parametrize("per_csa", [1, 4, 5, 8, 11, 12, 16])
def test_any_bound_is_kept(per_csa: int) -> None:
    """Where medoids would be fewer than the kinds of outcomes, the latest stand for themselves alone."""
    found = visible(summarised(history((300, 3)), per_csa, NOW))
    assert (np.bincount(found.csa) <= per_csa).all()
    assert np.bincount(found.csa)[0] >= per_csa - 2
    if per_csa >= 12:
        assert found.outcome.sum() > per_csa  # some stand for others


def test_equal_rows_are_one_medoid_and_nobody_is_warned(recwarn: pytest.WarningsRecorder) -> None:
    whole = history((400,))
    whole = replace(whole, code=np.repeat(whole.code[:1], 400, axis=0), scale=np.repeat(whole.scale[:1], 400))
    found = visible(summarised(whole, PER_CSA, NOW))
    assert found.outcome.sum() == whole.outcome.sum()
    assert not [one for one in recwarn if issubclass(one.category, RuntimeWarning | UserWarning)]


def test_the_same_history_gives_the_same_medoids() -> None:
    first, second = (summarised(history((1200,)), PER_CSA, NOW) for _ in range(2))
    for name in HistoryRows.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
