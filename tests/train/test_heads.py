"""Complexity heads: what they recover, what they may not know yet, when they say nothing; the facts of a log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import at, minutes, replaced
from train import heads
from train.heads import BLOCKS, LEAST_FACTS, RIDGE, Fitted, Target, complexity_heads, repeats, targets
from twotower.clock import DAY, NEVER
from twotower.features.complexity import COMPLEXITY
from twotower.tables.log import Log

Longs = npt.NDArray[np.int64]
TIME, SPREAD, TRANSFER, REPEAT, FAILURE = range(len(COMPLEXITY))
NONE = Target(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
NOTHING = dict.fromkeys(("handle_time", "transfer_risk", "repeat_risk", "failure_risk"), NONE)
SPLIT = 3200


class Past:
    """4,000 contacts, one a tick, and a hand-over of each, known ten ticks later; three inputs."""

    def __init__(self, seed: int = 0, count: int = 4000) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.arrived_at = rng, np.arange(count)
        self.inputs = rng.standard_normal((count, 3)).astype(np.float32)

    def rows(self, contacts: Longs) -> npt.NDArray[np.float32]:
        assert len(contacts) <= heads.CHUNK
        return self.inputs[contacts]

    def told_of(self, value: npt.NDArray[np.float64]) -> Target:
        return Target(self.arrived_at, self.arrived_at + 10, value)

    def facts(self) -> dict[str, Target]:
        """Noisy facts of every kind; half of the outcomes are null."""
        x, some = self.inputs.astype(np.float64), np.arange(0, len(self.inputs), 2)
        noise = self.rng.standard_normal(len(x))
        outcome = self.told_of((x[:, 2] + noise > 0).astype(np.float64))
        half = Target(outcome.contact[some], outcome.known_at[some], outcome.value[some])
        again = Target(self.arrived_at, self.arrived_at + 40, (noise > 0.5).astype(np.float64))
        time = self.told_of(6 + 0.5 * x[:, 0] + 0.3 * noise)
        return {"handle_time": time, "transfer_risk": outcome, "repeat_risk": again, "failure_risk": half}

    def fit(self, facts: dict[str, Target], split: int = SPLIT) -> Fitted:
        return complexity_heads(self.rows, self.arrived_at, NOTHING | facts, split)


def sorted_target(contact: Longs, known_at: Longs, value: npt.NDArray[np.float64]) -> Target:
    order = np.argsort(known_at, kind="stable")
    return Target(contact[order], known_at[order], value[order])


@pytest.fixture
def gentle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prior that hardly shrinks."""
    monkeypatch.setattr(heads, "RIDGE", 1e-3)


# Complexity heads


@pytest.mark.usefixtures("gentle")
def test_a_planted_linear_relation_is_recovered():
    past = Past()
    value = 6 + past.inputs @ np.array([0.5, -0.25, 0.0])
    found = past.fit({"handle_time": past.told_of(value)})
    assert found.weight[TIME] == pytest.approx([0.5, -0.25, 0], abs=1e-4)
    assert found.bias[TIME] == pytest.approx(6, abs=1e-3)
    assert found.told[500:, TIME] == pytest.approx(value[500:], abs=1e-3)
    assert found.weight.dtype == found.bias.dtype == found.told.dtype == np.float32


def test_the_prior_shrinks_weights_and_spares_the_bias():
    past = Past()
    value = 6 + 0.5 * past.inputs[:, 0].astype(np.float64)
    found = past.fit({"handle_time": past.told_of(value)})
    seen = past.inputs[: SPLIT - 10].astype(np.float64)
    centred = seen - seen.mean(axis=0)
    weight = np.linalg.solve(centred.T @ centred + RIDGE * np.eye(3), centred.T @ value[: SPLIT - 10])
    assert found.weight[TIME] == pytest.approx(weight, abs=1e-5)
    assert found.bias[TIME] == pytest.approx(value[: SPLIT - 10].mean() - seen.mean(axis=0) @ weight, abs=1e-5)


@pytest.mark.usefixtures("gentle")
def test_the_spread_is_the_expected_error_of_what_was_told():
    past = Past(count=20_000)
    size = np.where(past.inputs[:, 1] > 0, 0.6, 0.2)  # of the noise
    past.inputs[:, 2] = past.inputs[:, 1] > 0
    value = 6 + 0.5 * past.inputs[:, 0] + size * past.rng.choice([-1.0, 1.0], len(size))
    found = past.fit({"handle_time": past.told_of(value)}, split=18_000)
    assert found.told[18_000:, SPREAD] == pytest.approx(size[18_000:], abs=0.05)


def test_the_spread_is_measured_against_heads_that_had_not_seen_the_fact(monkeypatch):
    monkeypatch.setattr(heads, "RIDGE", 1e-3)
    past = Past(count=2400)
    past.inputs = past.rng.standard_normal((2400, 150)).astype(np.float32)  # room enough to fit noise
    value = 8 + past.rng.standard_normal(2400)
    found = past.fit({"handle_time": past.told_of(value)}, split=2100)
    error = np.abs(value - found.told[:, TIME])
    assert found.told[2100:, SPREAD].mean() == pytest.approx(error[600:2100].mean(), rel=0.1)


def test_targets_with_other_rows_and_nulls_are_as_if_alone():
    past = Past()
    facts = past.facts()
    together = past.fit(facts)
    for name, column in (("transfer_risk", TRANSFER), ("repeat_risk", REPEAT), ("failure_risk", FAILURE)):
        alone = past.fit({name: facts[name]})
        assert together.weight[column] == pytest.approx(alone.weight[column], abs=1e-6)
        assert np.abs(alone.weight[column]).max() > 1e-3
    nulled = replace(facts["transfer_risk"], value=facts["transfer_risk"].value.copy())
    nulled.value[1::2] = np.nan
    assert past.fit({"transfer_risk": nulled}).weight[TRANSFER] == pytest.approx(together.weight[FAILURE], abs=1e-6)


def test_every_fact_of_a_contact_counts():
    past = Past()
    facts = past.told_of(6 + past.inputs[:, 0].astype(np.float64))
    twice = Target(*(np.repeat(column, 2) for column in (facts.contact, facts.known_at, facts.value)))
    other = replace(twice, value=twice.value + np.tile([1.0, -1.0], len(facts)))
    once, both = past.fit({"handle_time": facts}), past.fit({"handle_time": other})
    n = SPLIT - 10
    assert both.weight[TIME, 0] / once.weight[TIME, 0] == pytest.approx(
        (2 * n / (2 * n + RIDGE)) * (n + RIDGE) / n, 0.02
    )


def test_what_is_told_keeps_its_bounds():
    past = Past()
    past.inputs *= 100
    facts = past.facts()
    facts["handle_time"] = past.told_of(6 + past.inputs[:, 0].astype(np.float64))
    found = past.fit(facts)
    for column, complexity in enumerate(COMPLEXITY):
        told = found.told[~np.isnan(found.told[:, column]), column]
        assert told.min() >= complexity.low
        assert told.max() <= np.float32(complexity.high)
    assert (found.told[500:, TIME] == 0).any()
    assert (found.told[500:, TRANSFER] == 1).any()


def test_the_first_block_reads_nothing_and_the_spread_learns_a_block_later():
    found = Past().fit(Past().facts())
    empty = np.isnan(found.told)
    assert np.flatnonzero(~empty[:, TIME])[0] == SPLIT / BLOCKS
    assert np.flatnonzero(~empty[:, SPREAD])[0] == 2 * SPLIT / BLOCKS
    assert not empty[SPLIT // BLOCKS :, [TIME, TRANSFER, REPEAT]].any()
    assert empty[: 2 * SPLIT // BLOCKS, FAILURE].all()  # half of the outcomes are null: 195 facts of the first block
    assert not empty[2 * SPLIT // BLOCKS :].any()


def test_validation_reads_the_heads_that_are_returned():
    past = Past()
    found = past.fit(past.facts())
    low, high = (np.array([getattr(c, side) for c in COMPLEXITY], np.float32) for side in ("low", "high"))
    assert found.told[SPLIT:] == pytest.approx((past.inputs[SPLIT:] @ found.weight.T + found.bias).clip(low, high))
    assert np.abs(found.weight).max(axis=1).min() > 1e-3


@pytest.mark.parametrize("block", [1, 4, BLOCKS])
def test_a_fact_known_at_the_very_start_of_a_block_moves_nothing_in_it(block):
    past, size = Past(), SPLIT // BLOCKS
    facts, start = past.facts(), block * SPLIT // BLOCKS
    time = facts["handle_time"]

    def with_one(known_at: int) -> npt.NDArray[np.float32]:
        more = sorted_target(
            np.append(time.contact, 0), np.append(time.known_at, known_at), np.append(time.value, 15.0)
        )
        return past.fit(facts | {"handle_time": more}).told[start : start + size]

    without = past.fit(facts).told[start : start + size]
    assert with_one(start).tobytes() == without.tobytes()
    assert with_one(start - 1).tobytes() != without.tobytes()


@pytest.mark.parametrize("instant", [300, 1000])  # the 400th contact arrived with the 300th, or with the first
def test_contacts_of_one_instant_share_a_block(instant):
    past = Past()
    past.arrived_at = past.arrived_at // instant * instant
    found = past.fit(Past().facts())
    starts = np.unique(past.arrived_at)
    empty = np.isnan(found.told[:, TIME])
    assert [len(set(empty[past.arrived_at == start])) for start in starts] == [1] * len(starts)
    assert np.flatnonzero(~empty)[0] == instant


@st.composite
def changes(draw: st.DrawFn) -> tuple[int, int, Callable[[Target, np.random.Generator], Target]]:
    """A seed, a moment, and something that happens to the facts known at that moment or later."""
    moment = draw(st.sampled_from([0, 75, 150, 151, 300, 525, 600, 700]))
    kind = draw(st.sampled_from(["add", "alter", "null", "drop", "shuffle"]))

    def change(fact: Target, rng: np.random.Generator) -> Target:
        late = fact.known_at >= moment
        if kind == "add":
            known_at = np.concatenate([fact.known_at, rng.integers(moment, 900, 50)])
            contact = np.concatenate([fact.contact, rng.integers(0, 800, 50)])
            return sorted_target(contact, known_at, np.concatenate([fact.value, rng.random(50)]))
        if kind == "drop":
            return Target(fact.contact[~late], fact.known_at[~late], fact.value[~late])
        if kind == "shuffle":
            order = rng.permutation(len(fact))
            return Target(fact.contact[order], fact.known_at[order], fact.value[order])
        other = np.full(len(fact), np.nan) if kind == "null" else rng.random(len(fact))
        return replace(fact, value=np.where(late, other, fact.value))

    return draw(st.integers(0, 50)), moment, change


@settings(max_examples=40)
@given(changes())
def test_what_was_known_later_changes_no_bit(drawn):
    seed, moment, change = drawn
    past = Past(seed, count=800)
    facts, rng = past.facts(), np.random.default_rng(seed)
    before = past.fit(facts, split=600)
    after = past.fit({name: change(fact, rng) for name, fact in facts.items()}, split=600)
    start = np.where(past.arrived_at < 600, past.arrived_at // 75 * 75, 600)  # of each contact's block
    assert before.told[start <= moment].tobytes() == after.told[start <= moment].tobytes()
    if moment >= 600:
        assert (before.weight.tobytes(), before.bias.tobytes()) == (after.weight.tobytes(), after.bias.tobytes())


def test_the_order_of_facts_changes_nothing_and_a_second_run_gives_the_same_bits():
    past, rng = Past(), np.random.default_rng(5)
    facts = past.facts()
    time = facts["handle_time"]  # and another hand-over of each contact that ended in the same moment
    doubled = [np.append(*pair) for pair in ((time.contact,) * 2, (time.known_at,) * 2, (time.value, time.value[::-1]))]
    facts["handle_time"] = sorted_target(*doubled)
    mixed = {}
    for name, fact in facts.items():
        order = rng.permutation(len(fact))
        mixed[name] = Target(fact.contact[order], fact.known_at[order], fact.value[order])
    once, again, other = past.fit(facts), past.fit(facts), past.fit(mixed)
    for name in ("weight", "bias", "told"):
        assert getattr(once, name).tobytes() == getattr(again, name).tobytes()
        assert getattr(once, name).tobytes() == getattr(other, name).tobytes()


def test_few_facts_say_nothing_until_there_are_enough():
    past = Past()
    step = SPLIT // (LEAST_FACTS + 20)
    facts = past.told_of(np.full(len(past.inputs), 6.0))
    few = Target(facts.contact[::step], facts.known_at[::step], facts.value[::step])
    found = past.fit({"handle_time": few})
    known = np.searchsorted(few.known_at, np.arange(BLOCKS + 1) * SPLIT // BLOCKS)
    told = found.told[np.arange(BLOCKS + 1) * SPLIT // BLOCKS, TIME]
    assert told[1:] == pytest.approx(np.where(known[1:] >= LEAST_FACTS, 6, np.nan), nan_ok=True)
    assert np.isnan(told[1:]).any()
    assert found.bias[TIME] == pytest.approx(6)


def test_a_target_without_facts_tells_nothing_of_anybody():
    found = Past().fit({"handle_time": Past().facts()["handle_time"]})
    silent = [TRANSFER, REPEAT, FAILURE]
    assert not found.weight[silent].any()
    assert not found.bias[silent].any()
    assert np.isnan(found.told[:, silent]).all()
    assert not np.isnan(found.told[SPLIT // BLOCKS :, TIME]).any()


@pytest.mark.parametrize(("count", "split"), [(0, 0), (1, 0), (1, 5), (3, 2), (9, 8)])
def test_tiny_logs(count, split):
    past = Past(count=count)
    found = past.fit({}, split=split)
    assert found.told.shape == (count, len(COMPLEXITY))
    assert not found.weight.any()
    assert not found.bias.any()
    assert np.isnan(found.told).all()


def test_inputs_come_in_chunks(monkeypatch):
    past = Past()
    whole = past.fit(past.facts())
    monkeypatch.setattr(heads, "CHUNK", 64)  # `rows` looks at it
    parts = Past().fit(Past().facts())
    assert parts.weight == pytest.approx(whole.weight, abs=1e-6)
    assert parts.told == pytest.approx(whole.told, abs=1e-5, nan_ok=True)


# Facts of a log


@pytest.fixture
def log(tables, save) -> Log:
    """The small data set with handle times and transfers: hand-overs by known_at c1, c3·ada, c3·bob, c2, c4 (never)."""
    done = tables["interactions"].append_column("handle_time_s", pa.array([99.0, None, 0.0, 9.0, 5.0], pa.float32()))
    tables["interactions"] = done.append_column("transferred", pa.array([False, None, True, False, True]))
    return Log.load(save(tables))


def test_facts_of_hand_overs_are_those_that_are_written_down_and_known(log):
    found = targets(log)
    name = log.contacts.ids.to_pylist().__getitem__
    time, moved, failed = found["handle_time"], found["transfer_risk"], found["failure_risk"]
    assert [name(c) for c in time.contact] == ["c1", "c3", "c3"]
    assert time.value == pytest.approx(np.log([100, 1, 10]))
    assert time.known_at.tolist() == [at(15), at(33), at(45)]
    assert [(name(c), v) for c, v in zip(moved.contact, moved.value, strict=True)] == [("c1", 0), ("c3", 1), ("c3", 0)]
    assert [name(c) for c in failed.contact] == ["c1", "c3", "c3", "c2"]
    assert failed.value.tolist() == [0, 1, 0, 1]
    assert all(fact.known_at.max(initial=0) < NEVER for fact in found.values())
    assert len(found["repeat_risk"]) == 0


def test_the_facts_are_all_that_a_fit_needs(log):
    found = complexity_heads(lambda c: np.ones((len(c), 2), np.float32), log.contacts.arrived_at, targets(log), at(60))
    assert found.told.shape == (4, len(COMPLEXITY))


def test_a_log_of_eight_days_knows_who_came_back(tables, save):
    tables["contacts"] = replaced(tables["contacts"], "arrived_at", minutes(60, 10, 10, 9 * 1440))
    log = Log.load(save(tables))
    found = targets(log)["repeat_risk"]
    assert [log.contacts.ids.to_pylist()[c] for c in found.contact] == ["c1", "c3"]
    assert found.value.tolist() == [1, 0]
    assert found.known_at.tolist() == [at(10) + 7 * DAY, at(60) + 7 * DAY]


def again(*contacts: tuple[int, int], last: int = 100 * DAY) -> dict[int, float]:
    """Facts of (customer, arrival) pairs in order, and of a stranger who comes last, by position."""
    customer, arrived_at = np.array([*contacts, (-1, last)]).T
    fact = repeats(customer.astype(np.int32), arrived_at)
    assert fact.known_at.tolist() == (arrived_at[fact.contact] + 7 * DAY).tolist()
    return dict(zip(fact.contact.tolist(), fact.value.tolist(), strict=True))


def test_the_window_is_open_at_the_arrival_and_closed_at_its_end():
    assert again((1, 0), (1, 7 * DAY)) == {0: 1, 1: 0}
    assert again((1, 0), (1, 7 * DAY + 1)) == {0: 0, 1: 0}
    assert again((1, 0), (1, 0)) == {0: 0, 1: 0}
    assert again((1, 0), (1, 0), (1, 1)) == {0: 1, 1: 1, 2: 0}


def test_other_customers_and_strangers_are_nobodys_return():
    assert again((1, 0), (2, 1), (-1, 2), (-1, 3)) == {0: 0, 1: 0}
    assert again((2, 0), (1, 1), (2, 2)) == {0: 1, 1: 0, 2: 0}


def test_a_window_that_the_log_did_not_watch_to_its_end_is_no_fact():
    assert again((1, 0), (1, 1), last=7 * DAY) == {0: 1}
    assert again((1, 0), last=7 * DAY - 1) == {}
    assert len(repeats(np.zeros(0, np.int32), np.zeros(0, np.int64))) == 0
