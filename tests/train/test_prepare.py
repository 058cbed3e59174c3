"""What training reads of a log: nothing of the future, and nothing that a cut would take away."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.train.conftest import SMALL
from train import past as module
from train.past import bands_of, engine_core
from train.prepare import TrainingSet, prepare
from train.token_store import texts_between
from twotower.clock import DAY, HOUR, NEVER
from twotower.errors import DataError
from twotower.features.complexity import COMPLEXITY
from twotower.features.engine.core import TWIN
from twotower.tables.log import Handovers, Log

# Snapshots of the centre: in the first block that the heads tell anything of, and late.
IN_FIRST_BLOCK, LATE = 15, 60


def rewritten(log: Log, from_: int) -> Log:
    """The same log with another future: who takes, what comes of it and when it is known, from a moment on.

    What a hand-over says that was known earlier (that it was assigned, that it ended) stays; of contacts that had
    arrived, more hand-overs become known, at that very moment too; outcomes known before are known again, the other
    way round.
    """
    rng, old = np.random.default_rng(7), log.handovers
    late, begun, ended = (times >= from_ for times in (old.known_at, old.assigned_at, old.ended_at))
    turned: dict[str, Any] = {
        "csa": np.where(begun, (old.csa + 1) % len(log.csas), old.csa).astype(np.int32),
        "ended_at": np.where(ended, old.ended_at + HOUR, old.ended_at),
        "known_at": np.where(late, old.known_at + 3 * DAY, old.known_at),
        "resolved": np.where(late & (old.resolved >= 0), 1 - old.resolved, old.resolved).astype(np.int8),
        "csat": np.where(late, 1, old.csat).astype(np.float32),
        "handle_time_s": np.where(late, 20_000, old.handle_time_s).astype(np.float32),
        "transferred": np.where(late, 1, old.transferred).astype(np.int8),
    }
    arrived = log.contacts.arrived_at[old.contact]
    more = np.concatenate([np.flatnonzero(~late & (old.resolved >= 0)), np.flatnonzero(arrived < from_)[-400:]])
    known_at = from_ + np.sort(rng.integers(0, 3 * DAY, len(more)))
    known_at[:50] = from_
    added: dict[str, Any] = {
        **{field.name: _take(getattr(old, field.name), more) for field in fields(Handovers)},
        "assigned_at": np.full(len(more), from_),
        "ended_at": known_at,
        "known_at": known_at,
        "resolved": np.where(old.resolved[more] == 1, 0, 1).astype(np.int8),
        "handle_time_s": np.full(len(more), 5.0, np.float32),
    }
    both = {
        field.name: _joined(turned.get(field.name, getattr(old, field.name)), added[field.name])
        for field in fields(Handovers)
    }
    order = rng.permutation(len(both["csa"]))
    order = order[np.argsort(both["known_at"][order], kind="stable")]
    return replace(log, handovers=Handovers(**{name: _take(column, order) for name, column in both.items()}))


def _take(column: Any, rows: Any) -> Any:
    return column.take(pa.array(rows)) if isinstance(column, pa.Array | pa.ChunkedArray) else column[rows]


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, np.ndarray):
        return np.concatenate([first, second])
    return pa.concat_arrays(
        [part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in (first, second)]
    )


@pytest.fixture(scope="module")
def with_another_future(centre: Path, prepared: TrainingSet) -> Callable[[int], TrainingSet]:
    """The centre prepared with another future from a snapshot of that number on."""
    log = Log.load(centre)
    return cache(lambda snapshot: prepare(rewritten(log, int(prepared.moments[snapshot])), SMALL, 0.1))


SNAPSHOTS = pytest.mark.parametrize("snapshot", [IN_FIRST_BLOCK, LATE])


@SNAPSHOTS
def test_what_became_known_later_changes_no_bit_of_an_earlier_contact(prepared, with_another_future, snapshot):
    other, before = with_another_future(snapshot), prepared.arrived_at <= prepared.moments[snapshot]
    for name in ("categories", "base", "read"):
        assert getattr(prepared, name).tobytes() == getattr(other, name).tobytes(), name
    for name in ("numbers", "told"):
        assert getattr(prepared, name)[before].tobytes() == getattr(other, name)[before].tobytes(), name
        assert getattr(prepared, name)[~before].tobytes() != getattr(other, name)[~before].tobytes(), name


@SNAPSHOTS
def test_what_became_known_later_changes_no_bit_of_an_earlier_snapshot(prepared, with_another_future, snapshot):
    other, before = with_another_future(snapshot), prepared.moments <= prepared.moments[snapshot]
    assert other.schema == prepared.schema
    for name in ("csa_features", "exposure"):
        assert getattr(prepared, name)[before].tobytes() == getattr(other, name)[before].tobytes(), name
        assert getattr(prepared, name)[~before].tobytes() != getattr(other, name)[~before].tobytes(), name


@SNAPSHOTS
def test_every_family_of_the_past_is_moved_by_another_future(prepared, with_another_future, snapshot):
    """So the two tests above looked at something."""
    other = with_another_future(snapshot)
    families = {one["family"]: one["columns"] for one in prepared.schema.described() if one["as_of"] == "outcomes"}
    for family, columns in families.items():
        mine = [prepared.schema.csa_numbers.index(name) for name in columns]
        late = slice(snapshot + 1, None)
        assert not np.array_equal(prepared.csa_features[late][..., mine], other.csa_features[late][..., mine]), family
    assert set(families) == {"record", "upset", "similarity", "history", "groups"}


def test_the_same_log_is_the_same_numbers_in_whatever_order_its_rows_stand(centre, prepared, tmp_path):
    rng = np.random.default_rng(1)
    for file in centre.glob("*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.take(pa.array(rng.permutation(len(table)))), tmp_path / file.name)
    other = prepare(Log.load(tmp_path), SMALL, 0.1)
    arrays = [field.name for field in fields(TrainingSet) if isinstance(getattr(prepared, field.name), np.ndarray)]
    for name in arrays:
        assert getattr(prepared, name).tobytes() == getattr(other, name).tobytes(), name
    assert len(arrays) > 15
    assert prepared.schema.to_json() == other.schema.to_json()
    for name, array in prepared.engine.state().items():
        assert array.tobytes() == other.engine.state()[name].tobytes(), name


def test_snapshots_hold_the_history_as_of_their_moment(centre, prepared):
    """Counted anew, from the tables alone."""
    log, names = Log.load(centre), prepared.schema.csa_numbers
    moves, (_, month, _) = log.handovers, prepared.schema.csa_settings.half_lives_us
    width = prepared.schema.base_dim

    def by_csa(rows, weight):
        return np.stack([np.bincount(moves.csa[rows], column, len(log.csas)) for column in np.atleast_2d(weight)], 1)

    for snapshot in (1, 33, len(prepared.moments) - 1):
        moment, found = prepared.moments[snapshot], prepared.csa_features[snapshot]
        known = np.flatnonzero(moves.known_at < moment)
        fade = np.exp2((moves.known_at[known] - moment) / month)
        handled = by_csa(known, fade)
        assert np.allclose(found[:, [names.index("handled_30d")]], np.log1p(handled), atol=1e-5)
        went = moves.resolved[known] != 0
        good = by_csa(known[went], prepared.base[moves.contact[known[went]]].T * fade[went]) / (handled + 10)
        first = names.index("good_30d_0")
        assert np.allclose(found[:, first : first + width], good, atol=1e-5)
        begun, ended = np.flatnonzero(moves.assigned_at < moment), np.flatnonzero(moves.ended_at < moment)
        still = by_csa(begun, np.ones(len(begun))) - by_csa(ended, np.ones(len(ended)))
        assert np.allclose(found[:, [names.index("open")]], np.log1p(still), atol=1e-6)
        recent = np.exp2((moves.assigned_at[begun] - moment) / DAY)
        assert np.allclose(found[:, [names.index("assigned_24h")]], np.log1p(by_csa(begun, recent)), atol=1e-5)


def test_contacts_hold_what_was_known_of_their_customer(centre, prepared):
    """Counted anew, from the tables alone."""
    log, names = Log.load(centre), prepared.schema.numbers
    contacts, moves = log.contacts, log.handovers
    met = slice(names.index("met_together_0"), names.index("met_good_0"))
    for i in np.flatnonzero(contacts.customer >= 0)[::97]:
        mine = contacts.customer == contacts.customer[i]
        earlier = np.flatnonzero(mine & (contacts.arrived_at < contacts.arrived_at[i]))
        assert prepared.numbers[i, names.index("contacts")] == pytest.approx(np.log1p(len(earlier)), abs=1e-6)
        days = (contacts.arrived_at[i] - contacts.arrived_at[earlier[-1]]) / DAY if len(earlier) else 3650.0
        assert prepared.numbers[i, names.index("since_last")] == pytest.approx(np.log1p(days), abs=1e-5)
        known = mine[moves.contact] & (moves.known_at < contacts.arrived_at[i])
        assert prepared.numbers[i, met].any() == known.any()


def test_every_contact_reads_the_last_snapshot_before_it(prepared):
    moment = prepared.moments[prepared.snapshot]
    assert (moment <= prepared.arrived_at).all()
    assert (prepared.arrived_at < moment + prepared.schema.granularity_us).all()


def test_the_window_ends_just_after_the_last_thing_known(centre, prepared):
    handovers = Log.load(centre).handovers
    last = handovers.known_at[handovers.known_at < NEVER].max()
    assert prepared.end == 1 + max(last, prepared.arrived_at[-1])
    assert prepared.engine.moment == prepared.end


def test_texts_are_the_need_and_then_the_transcript(centre):
    log = Log.load(centre)
    texts = texts_between(log, 0, len(log.contacts))
    need, said = log.contacts.intent_text[7].as_py(), log.contacts.transcript[7].as_py()
    assert texts[7].startswith((need, said))
    assert len(texts) == len(log.contacts)


def test_a_log_too_small_to_learn_from_is_refused(centre):
    log = Log.load(centre)
    early = int(np.sort(log.handovers.known_at)[40])
    with pytest.raises(DataError, match="40 hand-overs with a known end, 50 are needed to train"):
        prepare(log.cut(early), SMALL, 0.1)


# The engine's loops


def test_few_hand_overs_are_done_before_a_compiler_would_be(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)  # importing it fails, and is not tried
    assert engine_core(module.ENOUGH_TO_COMPILE - 1) is TWIN


def test_without_a_compiler_many_hand_overs_go_the_same_way(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert engine_core(module.ENOUGH_TO_COMPILE) is TWIN


def test_many_hand_overs_are_worth_a_compiler(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", SimpleNamespace(njit=lambda **_: lambda loop: loop))
    assert engine_core(module.ENOUGH_TO_COMPILE) is not TWIN


# Bands of predicted handle time

ARRIVED = np.arange(160)  # eight blocks of ten contacts, then validation, which opens at 80


def bands(**times: Any) -> list[float]:
    """Of contacts whose handle times were told as given, by block: `block_3=6.0`; of others nothing was."""
    complexity = np.full((len(ARRIVED), len(COMPLEXITY)), np.nan, np.float32)
    time = complexity[:, [one.name for one in COMPLEXITY].index("handle_time")]
    for name, told in times.items():
        block = int(name.removeprefix("block_"))
        time[10 * block : 10 * block + (10 if block < 8 else 80)] = told
    return bands_of(complexity, ARRIVED, 80)


def test_bands_are_quarters_of_the_first_block_that_was_told_anything():
    told = np.linspace(5, 6, 10)
    found = bands(block_2=told, block_3=9.0, block_8=1.0)
    assert found == pytest.approx([5.25, 5.5, 5.75])
    assert found == bands(block_2=told)
    assert bands(block_1=told + 1, block_2=told) == pytest.approx([6.25, 6.5, 6.75])


def test_where_heads_were_fitted_for_validation_alone_its_contacts_make_the_bands():
    assert bands(block_8=np.linspace(5, 6, 80)) == pytest.approx([5.25, 5.5, 5.75])


def test_without_a_difference_in_the_first_block_there_are_no_bands():
    assert bands(block_1=6.0, block_2=np.linspace(5, 6, 10)) == []
    assert bands(block_1=6.0 + np.linspace(0, 0.9 * module.LEAST_SPREAD, 10)) == []
    assert bands() == []
    assert bands_of(np.zeros((0, len(COMPLEXITY)), np.float32), np.zeros(0, np.int64), 0) == []
