"""What a queue could see is counted one hand-over after another, and nothing of it is from the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from tests.train.runs import cut
from train.propensity import Propensities
from train.propensity_features import (
    HALF_LIFE,
    LONGEST,
    PRIOR,
    Events,
    Pairs,
    QueueState,
    Shifts,
    accumulate,
    listed_pairs,
    read_shifts,
)
from twotower.clock import DAY, HOUR, NEVER, parse_time
from twotower.tables.log import Log

MINUTE = HOUR // 60
Doubles = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,500 contacts, 15 CSAs; hand-overs wait for their outcome."""
    made = tmp_path_factory.mktemp("centres") / "small"
    generate(Settings(contacts=1500, csas=15, languages=("en",), seed=7, days=40, eligible=6, propensities=True), made)
    return made


@pytest.fixture(scope="module")
def log(folder: Path) -> Log:
    return Log.load(folder)


@pytest.fixture(scope="module")
def state(folder: Path, log: Log) -> QueueState:
    return QueueState(log, read_shifts(folder, log))


class ByHand:
    """The features of one pair from lists of hand-overs."""

    def __init__(self, log: Log, shifts: Shifts) -> None:
        self.log, self.shifts, moves = log, shifts, log.handovers
        self.moves = [
            (
                int(moves.csa[i]),
                int(moves.assigned_at[i]),
                min(int(moves.ended_at[i]), int(moves.assigned_at[i]) + LONGEST),
            )
            for i in range(len(moves))
            if moves.known_at[i] < NEVER
        ]
        first: dict[int, int] = {}
        for i in range(len(moves)):
            contact = int(moves.contact[i])
            earlier = contact not in first or moves.assigned_at[i] < moves.assigned_at[first[contact]]
            if moves.known_at[i] < NEVER and earlier:
                first[contact] = i
        self.first = [
            (c, int(moves.csa[i]), int(moves.assigned_at[i]), float(moves.propensity[i])) for c, i in first.items()
        ]
        self.queue = log.contacts.queue.to_pylist()

    def day(self, moment: int) -> int:
        return (moment - int(self.log.contacts.arrived_at[0])) // DAY

    def sums(self, contact: int, csa: int, queue: bool) -> tuple[float, float, float, float]:
        """Taken, expected, sum of log(p · n) and how many of these."""
        taken = expected = logged = logs = 0.0
        today = self.day(int(self.log.contacts.arrived_at[contact]))
        assert self.log.contacts.eligible is not None
        for other, chosen, assigned_at, p in self.first:
            listed = self.log.contacts.eligible.row(other)
            if self.day(assigned_at) >= today or listed is None or (queue and self.queue[other] != self.queue[contact]):
                continue
            weight = 0.5 ** ((today - self.day(assigned_at)) * DAY / HALF_LIFE)
            taken += weight * (chosen == csa)
            expected += weight / len(listed) * (csa in listed)
            if chosen == csa and p < 1:
                logged, logs = logged + weight * np.log(p * len(listed)), logs + weight
        return taken, expected, logged, logs

    def of(self, contact: int, csa: int) -> dict[str, float]:
        moment = int(self.log.contacts.arrived_at[contact])
        taken, expected, logged, logs = self.sums(contact, csa, queue=False)
        taken_q, expected_q, _, _ = self.sums(contact, csa, queue=True)
        begun = sum(a == csa and at < moment for a, at, _ in self.moves)
        ends = [end for a, _, end in self.moves if a == csa and end < moment]
        on = [
            int(start)
            for a, start, end in zip(self.shifts.csa, self.shifts.starts_at, self.shifts.ends_at, strict=True)
            if a == csa and start <= moment < end
        ]
        open_ = begun - len(ends)
        idle = min(moment - max(ends, default=moment - LONGEST), LONGEST)
        return {
            "share": np.log(taken + 0.5),
            "share_in_queue": np.log(taken_q + 0.5),
            "rate": np.log((taken + PRIOR) / (expected + PRIOR)),
            "rate_in_queue": np.log((taken_q + PRIOR) / (expected_q + PRIOR)),
            "propensity_before": logged / (logs + 1),
            "open": open_,
            "idle_minutes": 0.0 if open_ else np.log1p(idle / MINUTE),
            "on_shift": float(bool(on)),
            "shift_hours": np.log1p((moment - max(on)) / HOUR) if on else 0.0,
        }


def test_features_are_counts_of_what_was_before(state, log):
    contacts = np.sort(np.random.default_rng(0).choice(len(log.contacts), 40, replace=False))
    assert state.counts.width == DAY
    pairs, by_hand = listed_pairs(log, contacts), ByHand(log, state.shifts)
    features = state.at(pairs)
    assert features.shape == (len(pairs.csa), len(state.names))
    for row, csa, found in zip(pairs.row, pairs.csa, features, strict=True):
        expected = by_hand.of(int(contacts[row]), int(csa))
        assert list(expected) == list(state.names)
        assert found == pytest.approx(list(expected.values()), abs=1e-4)
    assert (features.std(axis=0)[[0, 1, 2, 3, 4, 5, 6, 8]] > 0.01).all()


def test_pairs_that_are_not_listed_can_be_asked_for(state, log):
    """Somebody off shift, and a contact before all others."""
    off = Pairs(np.array([0, 700]), np.array([0, 1, 1]), np.array([3, 0, 14]), np.array([0, 1, 3]))
    by_hand = ByHand(log, state.shifts)
    for found, (contact, csa) in zip(state.at(off), [(0, 3), (700, 0), (700, 14)], strict=True):
        assert found == pytest.approx(list(by_hand.of(contact, csa).values()), abs=1e-4)


def changed_from(log: Log, moment: int) -> Log:
    """Another future: who takes what from `moment` on, with which propensity, and until when all that is open lasts."""
    moves, random = log.handovers, np.random.default_rng(1)
    later = moves.assigned_at >= moment
    ended = (moves.ended_at >= moment) & (moves.ended_at < NEVER)
    eligible = log.contacts.eligible
    assert eligible is not None
    values, future = eligible.values.copy(), log.contacts.arrived_at[eligible.rows] >= moment
    values[future] = random.integers(0, len(log.csas), int(future.sum()))
    return replace(
        log,
        contacts=replace(log.contacts, eligible=replace(eligible, values=values)),
        handovers=replace(
            moves,
            csa=np.where(later, random.integers(0, len(log.csas), len(moves)), moves.csa).astype(np.int32),
            propensity=np.where(later, np.float32(0.01), moves.propensity),
            ended_at=np.where(ended, moves.ended_at + 3 * HOUR, moves.ended_at),
            resolved=np.where(moves.known_at >= moment, np.int8(0), moves.resolved),
        ),
    )


def test_no_future_fact_changes_what_a_contact_sees(folder, log):
    """Hand-overs from the arrival on, that very moment included, ends, shifts and lists: nothing moves. The same
    change a day earlier does."""
    middle = 1000
    moment = int(log.contacts.arrived_at[middle])
    shifts = read_shifts(folder, log)
    assert shifts is not None
    late = shifts.starts_at > moment
    other = Shifts(shifts.csa, shifts.starts_at, np.where(late, shifts.starts_at + HOUR, shifts.ends_at))
    seen = np.arange(middle)[log.contacts.arrived_at[:middle] <= moment]
    pairs = listed_pairs(log, seen)
    expected = QueueState(log, shifts).at(pairs)
    changed = changed_from(log, moment)
    assert (changed.handovers.csa != log.handovers.csa).sum() > 300
    assert np.array_equal(QueueState(changed, other).at(pairs), expected)
    assert not np.array_equal(QueueState(changed_from(log, moment - DAY), other).at(pairs), expected)


@pytest.mark.parametrize("column", ["assigned_at", "ended_at"])
def test_what_happens_at_the_arrival_itself_was_not_before(column, log):
    """To the microsecond: a hand-over of an eligible CSA that begins, or ends, just then, or one before, or after."""
    contact = int(np.flatnonzero(log.contacts.eligible.lengths > 3)[-200])
    moment, pairs = int(log.contacts.arrived_at[contact]), listed_pairs(log, np.array([contact]))
    row = int(np.flatnonzero(np.isin(log.handovers.csa, pairs.csa) & (log.handovers.assigned_at > moment))[0])

    def seen(when: int) -> Doubles:
        times = {"assigned_at": moment - HOUR, "ended_at": moment + HOUR, column: when}
        columns = {name: getattr(log.handovers, name).copy() for name in times}
        for name, time in times.items():
            columns[name][row] = time
        return QueueState(replace(log, handovers=replace(log.handovers, **columns)), None).at(pairs)

    before, at, after = (seen(moment + step) for step in (-1, 0, 1))
    assert np.array_equal(at, after)
    assert not np.array_equal(at, before)


def test_no_future_fact_changes_the_estimate(folder, log):
    """Fitted before a moment: the same weights, and the same π₀ of all who arrived by then, whatever came later."""
    moment = int(log.contacts.arrived_at[1000])
    shifts = read_shifts(folder, log)
    before = np.flatnonzero(log.contacts.arrived_at < moment)
    one, other = (Propensities.fit(table, moment, shifts) for table in (log, changed_from(log, moment)))
    assert np.array_equal(one.weights, other.weights)
    assert np.array_equal(one.log_pi0(before, logged=False), other.log_pi0(before, logged=False))
    earlier = Propensities.fit(changed_from(log, moment - DAY), moment, shifts)
    assert not np.array_equal(one.weights, earlier.weights)


def test_a_table_that_was_cut_and_a_cut_option_give_the_same(folder, tmp_path):
    when = "2026-06-22T12:34:56Z"
    whole, part = Log.load(folder, parse_time(when)), Log.load(cut(folder, tmp_path / "cut", pd.Timestamp(when)))
    until = int(whole.contacts.arrived_at[int(0.9 * len(whole.contacts))])
    one = Propensities.fit(whole, until, read_shifts(folder, whole))
    other = Propensities.fit(part, until, read_shifts(tmp_path / "cut", part))
    contacts = np.arange(len(whole.contacts))
    assert np.array_equal(one.weights, other.weights)
    assert np.array_equal(one.log_pi0(contacts), other.log_pi0(contacts))
    assert one.diagnostics() == other.diagnostics()


@given(st.integers(0, 2**31), st.integers(0, 30), st.integers(1, 5))
def test_events_before_a_moment_are_counted(seed, count, groups):
    random = np.random.default_rng(seed)
    group, time = random.integers(0, groups, count), random.integers(0, 12, count)
    events = Events(group, time, groups)
    asked, moment = random.integers(0, groups, 50), random.integers(-1, 14, 50)
    found, last = events.before(asked, moment)
    for g, t, n, place in zip(asked, moment, found, last, strict=True):
        earlier = time[(group == g) & (time < t)]
        assert n == len(earlier)
        if n:
            assert events.time[place] == earlier.max()
            assert group[events.order[place]] == g


def test_what_was_decays_and_what_is_happening_is_not_there_yet():
    sums = np.array([[8.0], [0.0], [4.0], [0.0]], np.float32)
    accumulate(sums, np.float32(0.5))
    assert sums.ravel().tolist() == [0, 4, 2, 3]


def test_large_tables_take_longer_days(folder, log, state, monkeypatch):
    """Bins grow where a day would need more cells than there may be, and say nearly the same."""
    monkeypatch.setattr("train.propensity_features.MOST_CELLS", 15 * 8 * 10)
    coarse = QueueState(log, read_shifts(folder, log))
    assert coarse.counts.width > DAY
    assert coarse.counts.taken.shape[0] <= 40
    assert coarse.counts.taken.shape[0] < state.counts.taken.shape[0]
    assert log.contacts.eligible is not None
    late = np.flatnonzero(log.contacts.eligible.lengths > 1)[-50:]
    one, other = (s.at(listed_pairs(log, late))[:, 0] for s in (coarse, state))
    assert 0 < np.abs(one - other).mean() < 0.3


def test_a_log_without_propensities_or_shifts_has_fewer_features(log):
    bare = replace(log, handovers=replace(log.handovers, propensity=np.full(len(log.handovers), np.nan, np.float32)))
    state = QueueState(bare, None)
    assert state.names == ("share", "share_in_queue", "rate", "rate_in_queue", "open", "idle_minutes")
    pairs = listed_pairs(bare, np.array([900]))
    assert state.at(pairs).shape == (len(pairs.csa), 6)
    none = np.zeros(0, np.int64)
    nobody = QueueState(bare, Shifts(none, none, none))
    assert (nobody.at(pairs)[:, -2:] == 0).all()


def test_shifts_of_people_the_log_does_not_know_are_left_out(folder, log):
    fewer = replace(log, csas=replace(log.csas, ids=log.csas.ids[1:]))
    whole, part = read_shifts(folder, log), read_shifts(folder, fewer)
    assert whole is not None
    assert part is not None
    assert len(part.csa) == (whole.csa > 0).sum()
    assert np.array_equal(part.csa, whole.csa[whole.csa > 0] - 1)
    order = np.lexsort((part.starts_at, part.csa))
    assert np.array_equal(order, np.arange(len(order)))
