"""The history engine: any number of steps come to the same, and what is not known yet does not count."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.clock import DAY, NULL_TIME
from twotower.errors import BundleError
from twotower.features.history import PRIOR, HistoryEngine, KnownHandovers, history_names, snapshot_times

CSAS, WIDTH = 4, 3
HALF_LIFE_S = 10 * 86400.0
END = 40 * DAY


@st.composite
def handovers(draw: st.DrawFn) -> KnownHandovers:
    """Up to thirty hand-overs in forty days, some known in the same microsecond."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 30))
    known_at = np.sort(rng.integers(0, END, n))
    if n > 1:
        known_at[1] = known_at[0]
    return KnownHandovers(
        csa=rng.integers(0, CSAS, n).astype(np.int32),
        known_at=known_at,
        resolved=rng.integers(-1, 2, n).astype(np.int8),
        handle_time_s=np.where(rng.random(n) < 0.3, np.nan, rng.uniform(0, 3600, n)).astype(np.float32),
        base=rng.standard_normal((n, WIDTH)).astype(np.float32),
    )


def engine(moment: int = 0) -> HistoryEngine:
    return HistoryEngine(CSAS, WIDTH, HALF_LIFE_S, moment)


def reference(past: KnownHandovers, moment: int) -> npt.NDArray[np.float64]:
    """The features one hand-over after another, from their definition."""
    sums = [dict.fromkeys(("handled", "outcomes", "resolved", "timed", "seconds"), 0.0) for _ in range(CSAS)]
    good, bad = np.zeros((CSAS, WIDTH)), np.zeros((CSAS, WIDTH))
    last: list[int | None] = [None] * CSAS
    for csa, known, resolved, seconds, base in zip(
        past.csa, past.known_at, past.resolved, past.handle_time_s, past.base, strict=True
    ):
        if known >= moment:
            continue
        weight = 0.5 ** ((moment - known) / 1e6 / HALF_LIFE_S)
        of = sums[csa]
        of["handled"] += weight
        if resolved >= 0:
            of["outcomes"] += weight
            of["resolved"] += weight * resolved
        if not math.isnan(seconds):
            of["timed"] += weight
            of["seconds"] += weight * math.log1p(seconds)
        (bad if resolved == 0 else good)[csa] += weight * base.astype(float)
        last[csa] = int(known)
    total = {name: sum(of[name] for of in sums) for name in sums[0]}
    rate = (total["resolved"] + 1) / (total["outcomes"] + 2)
    pace = total["seconds"] / max(total["timed"], 1e-9)
    rows = []
    for csa, of in enumerate(sums):
        known_last = last[csa]
        idle = 3650.0 if known_last is None or known_last <= 0 else (moment - known_last) / DAY
        numbers = [
            math.log1p(of["handled"]),
            math.log1p(of["outcomes"]),
            (of["resolved"] + PRIOR * rate) / (of["outcomes"] + PRIOR) - rate,
            (of["seconds"] + PRIOR * pace) / (of["timed"] + PRIOR) - pace,
            math.log1p(idle),
        ]
        shrunk = of["handled"] + PRIOR
        rows.append([*numbers, *(good[csa] / shrunk), *(bad[csa] / shrunk)])
    return np.array(rows)


def state(of: HistoryEngine) -> npt.NDArray[np.float64]:
    return np.column_stack([of.sums, of.good, of.bad, of.last.astype(np.float64)])


@given(handovers(), st.lists(st.integers(1, END + DAY), max_size=12))
def test_one_step_and_many_come_to_the_same(past, stops):
    once, often = engine(), engine()
    for moment in sorted(stops):
        often.advance(past, moment)
    for one in (once, often):
        one.advance(past, END + DAY)
    assert np.allclose(state(once), state(often), rtol=1e-9, atol=1e-9)


@given(handovers(), st.integers(1, END + DAY))
def test_features_are_those_of_their_definition(past, moment):
    found = engine()
    found.advance(past, moment)
    assert np.allclose(found.features(), reference(past, moment), rtol=1e-5, atol=1e-6)


@given(handovers(), st.integers(1, END))
def test_what_is_known_at_the_moment_or_later_changes_no_bit(past, moment):
    """Strictly before: a hand-over known in that very microsecond is not there."""
    cut = int(np.searchsorted(past.known_at, moment))
    only = KnownHandovers(
        past.csa[:cut], past.known_at[:cut], past.resolved[:cut], past.handle_time_s[:cut], past.base[:cut]
    )
    whole, known = engine(), engine()
    whole.advance(past, moment)
    known.advance(only, moment)
    assert whole.features().tobytes() == known.features().tobytes()


def test_a_hand_over_counts_from_the_microsecond_after_it_was_known():
    past = one_handover(known_at=5 * DAY)
    at_it, after_it = engine(), engine()
    at_it.advance(past, 5 * DAY)
    after_it.advance(past, 5 * DAY + 1)
    assert at_it.sums[0, 0] == 0
    assert after_it.sums[0, 0] == pytest.approx(1)
    at_it.advance(past, 5 * DAY + 1)
    assert state(at_it).tobytes() == state(after_it).tobytes()


def test_a_sum_halves_in_a_half_life():
    past = one_handover(known_at=5 * DAY)
    found = engine()
    found.advance(past, 15 * DAY)
    assert found.sums[0].tolist() == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.5 * math.log1p(60)])
    assert found.good[0].tolist() == pytest.approx([0.5, 0, -0.5])
    found.advance(past, 25 * DAY)
    assert found.sums[0, 0] == pytest.approx(0.25)
    assert found.last.tolist() == [5 * DAY, *[NULL_TIME] * 3]


def test_nobody_has_a_past_at_first():
    found = engine().features()
    assert found.shape == (CSAS, len(history_names(WIDTH))) == (CSAS, 5 + 2 * WIDTH)
    assert found.tolist() == [pytest.approx([0, 0, 0, 0, math.log1p(3650), *[0] * 6])] * CSAS


@given(handovers(), st.integers(1, END))
def test_a_saved_state_goes_on_to_the_bit(tmp_path_factory, past, moment):
    path = tmp_path_factory.mktemp("state") / "features.state"
    on = engine()
    on.advance(past, moment)
    on.save(path)
    resumed = HistoryEngine.load(path)
    assert (resumed.moment, resumed.half_life_s) == (moment, HALF_LIFE_S)
    for one in (on, resumed):
        one.advance(past, END + DAY)
    assert state(on).tobytes() == state(resumed).tobytes()
    assert on.features().tobytes() == resumed.features().tobytes()


def test_the_same_state_is_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        found = engine()
        found.advance(one_handover(known_at=5 * DAY), 15 * DAY)
        found.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"no state", b"PK\x03\x04 cut short"])
def test_what_is_no_state_is_refused_in_one_line(tmp_path, content):
    path: Path = tmp_path / "features.state"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"features\.state: not a saved history state") as error:
        HistoryEngine.load(path)
    assert "\n" not in str(error.value)


def test_a_changed_roster_keeps_everyone_their_own_past():
    past = one_handover(known_at=5 * DAY)
    found = engine()
    found.advance(past, 15 * DAY)
    moved = found.resized(np.array([2, 0, 1, 4]), 5)
    assert state(moved)[[2, 0, 1, 4]].tobytes() == state(found).tobytes()
    assert moved.sums[3].tolist() == [0] * 5
    assert moved.last[3] == NULL_TIME
    assert moved.moment == found.moment


@given(st.integers(0, 10**6), st.integers(0, 10**5), st.integers(1, 5000))
def test_every_arrival_has_a_snapshot_at_or_before_it(first, span, granularity):
    moments = snapshot_times(first, first + span, granularity)
    assert (np.diff(moments) == granularity).all()
    assert moments[0] <= first < moments[0] + granularity
    assert moments[-1] <= first + span < moments[-1] + granularity


def one_handover(known_at: int) -> KnownHandovers:
    """CSA 0 resolved one contact in a minute."""
    return KnownHandovers(
        np.array([0], np.int32),
        np.array([known_at], np.int64),
        np.array([1], np.int8),
        np.array([60], np.float32),
        np.array([[1, 0, -1]], np.float32),
    )
