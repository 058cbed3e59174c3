"""The CSAs' history equals its definition in pandas, and does not depend on how it was brought to a moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twotower.features.engine.histories import BEGIN, CSAS, END, FAMILIES, SETTINGS, WIDTH, draw_table, tables
from twotower.clock import DAY, NEVER, NULL_TIME
from twotower.errors import DataError
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.events import Work, between, take
from twotower.features.engine.values import COUNTS, GROUP_SUMS, SQUARES, SUMS

NAMES = [name for name, _ in FAMILIES]
moments = st.integers(BEGIN, END + 10 * DAY)


def built(table, moment, stops=()):
    history, handovers, work = CsaHistory(SETTINGS, CSAS), table.handovers(), table.work()
    for stop in [*sorted(stops), moment]:
        history.advance(handovers, stop, work)
    return history


def bits(reading):
    arrays = [v for v in vars(reading).values() if isinstance(v, np.ndarray)]
    arrays += [array for group in reading.groups.values() for array in (group.csa, group.code, group.sums)]
    return b"".join(array.tobytes() for array in arrays)


def frame(table, moment):
    """The hand-overs known before a moment, with what each adds to every sum."""
    data = pd.DataFrame(
        {name: getattr(table, name) for name in ("csa", "known_at", "resolved", "transferred", "csat", "upset")}
    )
    data["seconds"], data["expected_was"] = table.handle_time_s.astype(float), table.expected.astype(float)
    data[NAMES] = table.codes
    data[[f"base_{i}" for i in range(WIDTH)]] = table.base.astype(float)
    data = data[data.known_at < moment]
    data["age"] = moment - data.known_at
    data["handled"] = 1.0
    data["outcomes"] = (data.resolved >= 0).astype(float)
    data["resolved"] = (data.resolved == 1).astype(float) + 0 * data.outcomes
    data["failed"] = data.outcomes - data.resolved
    data["timed"] = data.seconds.notna().astype(float)
    data["log_seconds"] = np.log1p(data.seconds).fillna(0)
    data["log_seconds_squared"] = data.log_seconds**2
    data["transfers_known"], data["transfers"] = (data.transferred >= 0) * 1.0, (data.transferred == 1) * 1.0
    data["ratings"], data["csat"] = data.csat.notna() * 1.0, data.csat.astype(float).fillna(0)
    data["csat_squared"] = data.csat**2
    judged = (data.outcomes > 0) & data.expected_was.notna()
    data["expected"], data["residual"] = judged * 1.0, (data.resolved - data.expected_was).where(judged, 0)
    data["upset"] = (judged & data.upset) * 1.0
    data["upset_residual"] = data.residual * data.upset
    data["upset_residual_squared"] = data.upset_residual**2
    return data


def summed(data, columns, by, power=1.0, half_life=None):
    weight = 1.0 if half_life is None else 0.5 ** (power * data.age / half_life)
    return data[list(columns)].mul(weight, axis=0).groupby([data[name] for name in by]).sum()


@given(tables(), moments)
def test_counts_are_those_of_pandas_to_the_bit(table, moment):
    found = built(table, moment).read().counts
    expected = summed(frame(table, moment), COUNTS, ["csa"]).reindex(range(CSAS), fill_value=0)
    assert found.tolist() == expected.to_numpy().astype(int).tolist()


@given(tables(), moments)
def test_decayed_sums_are_those_of_pandas(table, moment):
    found, data = built(table, moment).read(), frame(table, moment)
    for h, half_life in enumerate(SETTINGS.half_lives_us):
        sums = summed(data, SUMS, ["csa"], half_life=half_life).reindex(range(CSAS), fill_value=0)
        squares = summed(data, SQUARES, ["csa"], 2.0, half_life).reindex(range(CSAS), fill_value=0)
        np.testing.assert_allclose(found.sums[:, h], sums, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.squares[:, h], squares, rtol=1e-9, atol=1e-12)


@given(tables(), moments)
def test_embeddings_are_those_of_pandas(table, moment):
    found, data = built(table, moment).read(), frame(table, moment)
    vectors = [f"base_{i}" for i in range(WIDTH)]
    for h, half_life in enumerate(SETTINGS.half_lives_us):
        for which, part in enumerate((data[data.failed == 0], data[data.failed == 1])):
            expected = summed(part, vectors, ["csa"], half_life=half_life).reindex(range(CSAS), fill_value=0)
            np.testing.assert_allclose(found.embeddings[:, which, h], expected, rtol=1e-9, atol=1e-9)


@given(tables(), moments)
def test_groups_are_those_of_pandas(table, moment):
    found, data = built(table, moment).read(families=NAMES), frame(table, moment)
    half_life = SETTINGS.half_lives_us[SETTINGS.group_half_life]
    for name in NAMES:
        seen = data[data[name] >= 0]
        linear = summed(seen, GROUP_SUMS[:6], ["csa", name], half_life=half_life)
        squares = summed(seen, ["outcomes", "timed"], ["csa", name], 2.0, half_life)
        group = found.groups[name]
        assert list(zip(group.csa, group.code, strict=True)) == list(linear.index)
        np.testing.assert_allclose(group.sums[:, :6], linear, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(group.sums[:, 6:], squares, rtol=1e-9, atol=1e-12)


@given(tables(), moments)
def test_load_is_what_was_assigned_and_has_not_ended(table, moment):
    found = built(table, moment).read()
    begun, over = table.assigned_at < moment, table.ended_at < moment
    assert found.work[:, 0].tolist() == np.bincount(table.csa[begun], minlength=CSAS).tolist()
    assert found.open.tolist() == np.bincount(table.csa[begun & ~over], minlength=CSAS).tolist()
    for a, half_life in enumerate(SETTINGS.activity_us):
        weight = 0.5 ** ((moment - table.assigned_at[begun]) / half_life)
        expected = np.bincount(table.csa[begun], weight, minlength=CSAS)
        np.testing.assert_allclose(found.load[:, a], expected, rtol=1e-9, atol=1e-12)


@given(tables(), moments)
def test_first_and_last_are_those_known_before(table, moment):
    found, known = built(table, moment).read(), frame(table, moment).groupby("csa").known_at
    assert found.first.tolist() == known.min().reindex(range(CSAS), fill_value=NEVER).tolist()
    assert found.last.tolist() == known.max().reindex(range(CSAS), fill_value=NULL_TIME).tolist()


@given(tables(), moments, st.lists(st.integers(BEGIN, BEGIN + 20 * DAY), max_size=5))
def test_steps_change_no_bit(table, moment, stops):
    once = built(table, moment)
    often = built(table, moment, [stop for stop in stops if stop < moment])
    assert bits(once.read(families=NAMES)) == bits(often.read(families=NAMES))


@given(tables(), moments)
def test_one_hand_over_at_a_time_changes_no_bit(table, moment):
    """What the router does when a hand-over ends is what training did in one go."""
    whole, single = built(table, moment), CsaHistory(SETTINGS, CSAS)
    handovers = between(table.handovers(), table.handovers().known_at, NULL_TIME, moment)
    for i in range(len(handovers)):
        single.update(take(handovers, slice(i, i + 1)))
    work = between(table.work(), table.work().at, NULL_TIME, moment)
    for i in range(len(work)):
        single.update_work(take(work, slice(i, i + 1)))
    assert bits(single.read(moment, NAMES)) == bits(whole.read(families=NAMES))


@given(tables(most=12), st.integers(0, 3000), st.lists(st.integers(0, 400), max_size=3))
def test_steps_change_no_bit_when_all_but_nothing_is_left(table, days, stops):
    """Three thousand half-lives later there are doubles that lose bits; where they begin depends on the steps."""
    moment = END + days * DAY
    once, often = built(table, moment), built(table, moment, [END + min(stop, days) * DAY for stop in stops])
    often.state()  # moves the origin
    assert bits(once.read(families=NAMES)) == bits(often.read(families=NAMES))


@given(tables(), st.permutations(range(CSAS)), st.integers(1, CSAS))
def test_some_csas_read_alone_are_those_of_all(table, order, count):
    history, who = built(table, END), np.array(order[:count])
    part, whole = history.read(END + DAY, NAMES, who), history.read(END + DAY, NAMES)
    for name in ("counts", "sums", "squares", "embeddings", "load", "work", "first", "last"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[who])
    for name in NAMES:
        few, all_ = part.groups[name], whole.groups[name]
        mine = [(int(c), int(k), *sums) for c, k, sums in zip(who[few.csa], few.code, few.sums.tolist(), strict=True)]
        theirs = zip(all_.csa.tolist(), all_.code.tolist(), all_.sums.tolist(), strict=True)
        assert sorted(mine) == [(c, k, *sums) for c, k, sums in theirs if c in who]


def test_an_update_moves_the_moment_just_behind_itself():
    handovers, history = draw_table(np.random.default_rng(0), 9).handovers(), CsaHistory(SETTINGS, CSAS)
    history.update(handovers)
    assert history.moment == int(handovers.known_at[-1]) + 1


def test_a_late_hand_over_counts_with_its_own_age():
    handovers = draw_table(np.random.default_rng(0), 9).handovers()
    late, history, on_time = take(handovers, slice(0, 1)), CsaHistory(SETTINGS, CSAS), CsaHistory(SETTINGS, CSAS)
    history.update(take(handovers, slice(1, 9)))
    history.update(late)
    on_time.update(handovers)
    assert history.moment == on_time.moment
    np.testing.assert_allclose(history.read().sums, on_time.read().sums, rtol=1e-12)
    assert history.read().last.tolist() == on_time.read().last.tolist()


def test_the_past_of_a_state_cannot_be_read():
    history = built(draw_table(np.random.default_rng(0), 9), END)
    with pytest.raises(ValueError, match="does not know what it was at"):
        history.read(END - 1)
    with pytest.raises(ValueError, match="cannot go back"):
        history.advance(draw_table(np.random.default_rng(0), 9).handovers(), END - 1)


def test_a_reading_does_not_move_with_the_state():
    table = draw_table(np.random.default_rng(0), 40)
    history = built(table, BEGIN + DAY)
    reading = history.read(families=NAMES)
    before = bits(reading)
    history.advance(table.handovers(), END + DAY, table.work())
    assert bits(reading) == before


def test_what_may_be_absent_is_not_known():
    full = draw_table(np.random.default_rng(0), 30).handovers()
    history = CsaHistory(SETTINGS, CSAS)
    history.update(replace(full, transferred=None, csat=None, expected=None, upset=None, codes=None, customer=None))
    reading = history.read(families=NAMES)
    assert reading.sums[:, :, SUMS.index("transfers_known") :].tolist() == np.zeros((CSAS, 3, 10)).tolist()
    assert len(reading.groups["intent"].csa) == 0


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("csa", CSAS, "hand-overs: csa: 5 in row 2; 0 to 4 are expected"),
        ("resolved", 2, "hand-overs: resolved: 2 in row 2"),
        ("transferred", -2, "hand-overs: transferred: -2 in row 2"),
        ("handle_time_s", -1, r"hand-overs: handle_time_s -1.0 in row 2; 0 or more, or NaN is expected"),
        ("csat", np.inf, "hand-overs: csat inf in row 2"),
        ("expected", 1.5, "hand-overs: expected 1.5 in row 2; 0 to 1, or NaN is expected"),
        ("base", np.nan, "hand-overs: base .* in row 2; finite numbers is expected"),
        ("codes", 9, "hand-overs: codes of intent: 9 in row 2; -1 to 3 are expected"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_row(column, value, message):
    handovers = draw_table(np.random.default_rng(0), 9).handovers()
    spoiled = getattr(handovers, column).copy()
    spoiled[2] = value
    with pytest.raises(DataError, match=message):
        CsaHistory(SETTINGS, CSAS).update(replace(handovers, **{column: spoiled}))


def test_embeddings_of_another_width_are_refused():
    handovers = draw_table(np.random.default_rng(0), 9).handovers()
    with pytest.raises(DataError, match=r"base has the shape \(\d, 1\); \(M, 3\) is expected"):
        CsaHistory(SETTINGS, CSAS).update(replace(handovers, base=handovers.base[:, :1]))


def test_groups_of_other_families_are_refused():
    handovers = draw_table(np.random.default_rng(0), 9).handovers()
    with pytest.raises(DataError, match=r"codes \(\d, 1\); \(M, 2\) is expected"):
        CsaHistory(SETTINGS, CSAS).update(replace(handovers, codes=handovers.codes[:, :1]))


def test_work_must_begin_or_end():
    with pytest.raises(DataError, match="work: change 0 in row 0"):
        CsaHistory(SETTINGS, CSAS).update_work(Work(np.zeros(1, np.int32), np.array([1]), np.zeros(1, np.int8)))


def test_a_refused_batch_leaves_no_trace():
    handovers = draw_table(np.random.default_rng(0), 9).handovers()
    history, bad = CsaHistory(SETTINGS, CSAS), replace(handovers, csa=np.full(len(handovers), CSAS, np.int32))
    with pytest.raises(DataError):
        history.update(bad)
    assert history.moment == NULL_TIME
    assert not history.read(END).counts.any()
