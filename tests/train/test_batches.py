"""Steps: their order is a function of the seed and the epoch, shards are disjoint, and nobody sees the future."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.conftest import SMALL
from train.batches import Lists, Texts
from train.data import FromStep
from train.draws import Sampling, StepDataset, draw_memory
from train.gather import Gather, memory_batch, profile_batch, sampled_batch
from train.prepare import TrainingSet, eligible_mask
from train.propensity import FLOOR, Propensities
from twotower.errors import DataError
from twotower.tables.log import Log
from twotower.towers.store import build
from twotower.towers.two_tower import TwoTower

DAY_US = 86_400_000_000


def steps(
    data: TrainingSet, profile: Sampling | None = "shuffled", memory: bool = False, **options: Any
) -> StepDataset:
    return StepDataset(
        data, data.training(), profile, memory, batch_size=64, memory_batch=32, memory_rows=100, seed=5, **options
    )


def cells(lists: Lists) -> tuple[torch.Tensor, torch.Tensor]:
    """Eligibility and log π₀ of all contacts."""
    return lists.cells(slice(0, len(lists)))


def order(dataset: StepDataset) -> list[list[int]]:
    """Positions of every step: of the profile part, else of the memory part."""
    return [chunk.tolist() for chunk in dataset._profile or dataset._memory]


KINDS: list[tuple[Sampling | None, bool]] = [
    ("shuffled", False), ("by_snapshot", False), ("sampled", False), (None, True)
]  # fmt: skip


@pytest.mark.parametrize(("profile", "memory"), KINDS)
def test_the_order_depends_on_seed_and_epoch_alone(open_prepared, profile, memory):
    first, second = (steps(open_prepared, profile, memory) for _ in range(2))
    for epoch in (4, 1, 4, 2):
        first.set_epoch(epoch)
    second.set_epoch(2)
    assert order(first) == order(second)
    first.set_epoch(3)
    assert order(first) != order(second)
    other = StepDataset(open_prepared, open_prepared.training(), profile, memory, 64, 32, 100, seed=6)
    other.set_epoch(2)
    assert order(other) != order(second)


@pytest.mark.parametrize(("profile", "memory"), KINDS)
def test_an_epoch_holds_every_hand_over_once(open_prepared, profile, memory):
    dataset = steps(open_prepared, profile, memory)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        assert sorted(p for chunk in order(dataset) for p in chunk) == open_prepared.training().tolist()
        assert len(dataset) == len(order(dataset))


@pytest.mark.parametrize(("profile", "memory"), KINDS)
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_every_step_in_their_order(open_prepared, profile, memory, world):
    whole = steps(open_prepared, profile, memory)
    shards = [steps(open_prepared, profile, memory, rank=rank, world=world) for rank in range(world)]
    for dataset in (whole, *shards):
        dataset.set_epoch(1)
    assert {len(shard) for shard in shards} == {len(whole)}
    for index in (0, 1, len(whole) - 1):
        drawn = [getattr(one[index], "memory" if memory else "profile") for one in (whole, *shards)]
        assert np.concatenate([one.positions for one in drawn[1:]]).tolist() == drawn[0].positions.tolist()
        if memory:
            assert np.concatenate([one.own_rows for one in drawn[1:]]).tolist() == drawn[0].rows.tolist()
            assert all(one.rows.tolist() == drawn[0].rows.tolist() for one in drawn)
        else:
            assert {one.shares for one in drawn[1:]} == {tuple(len(one.positions) for one in drawn[1:])}
        if profile == "sampled":
            assert all(one.sample.csa.tolist() == drawn[0].sample.csa.tolist() for one in drawn)


def test_steps_of_the_shorter_part_come_round_again(open_prepared):
    dataset = steps(open_prepared, "shuffled", True)
    assert len(dataset._profile) == len(dataset._memory) == len(dataset)
    profile = {tuple(chunk.tolist()) for chunk in dataset._profile}
    assert sorted(p for chunk in profile for p in chunk) == open_prepared.training().tolist()
    assert all(step.profile is not None and step.memory is not None for step in map(dataset.__getitem__, range(3)))


@pytest.mark.parametrize("profile", ["by_snapshot", "sampled"])
def test_a_step_over_the_roster_lies_in_one_snapshot(prepared, profile):
    dataset = steps(prepared, profile)
    for chunk in dataset._profile:
        assert len(np.unique(prepared.snapshot[prepared.contact[chunk]])) == 1
        assert len(chunk) <= 64


def test_a_profile_step_reads_the_snapshot_at_or_before_the_arrival(prepared):
    positions = np.random.default_rng(0).choice(prepared.training(), 50, replace=False)
    batch = profile_batch(prepared, positions, over_roster=False)
    for i, position in enumerate(positions):
        contact, csa = prepared.contact[position], prepared.csa[position]
        latest = np.flatnonzero(prepared.moments <= prepared.arrived_at[contact])[-1]
        assert np.array_equal(batch.features[i].numpy(), prepared.csa_features[latest, csa])
        assert batch.identity[i] == prepared.identity[csa]
    assert batch.csa.tolist() == prepared.csa[positions].tolist()
    expected = prepared.resolved[positions].astype(float)
    assert np.array_equal(batch.resolved.numpy(), np.where(expected < 0, np.nan, expected), equal_nan=True)
    assert batch.roster is None


def test_a_step_over_the_roster_masks_who_was_not_eligible(prepared):
    dataset = steps(prepared, "by_snapshot")
    chunk = dataset._profile[0]
    batch = profile_batch(prepared, chunk, over_roster=True)
    snapshot = int(prepared.snapshot[prepared.contact[chunk[0]]])
    roster = batch.whole_roster()
    mask, log_pi0 = cells(roster.lists)
    for row, position in zip(mask.numpy(), chunk, strict=True):
        eligible = prepared.eligible.row(int(prepared.contact[position]))
        assert set(np.flatnonzero(row)) == {*eligible.tolist(), int(prepared.csa[position])}
    assert np.array_equal(roster.features.numpy(), prepared.csa_features[snapshot])
    exposure = torch.from_numpy(np.log(prepared.exposure[snapshot] + 0.5)).expand_as(mask)
    assert torch.allclose(log_pi0, torch.where(mask, exposure, 0))


@pytest.fixture(scope="module")
def propensities(centre, prepared) -> Propensities:
    """Those of the centre, as training fits them."""
    return Propensities.fit(Log.load(centre), prepared.split)


def test_propensities_are_those_of_each_contact_and_eligible_csa(prepared, propensities):
    chunk = steps(prepared, "by_snapshot")._profile[0]
    roster = profile_batch(prepared, chunk, True, propensities).whole_roster()
    sample = sampled_batch(prepared, chunk, 1000, np.random.default_rng(0), propensities).sampled_roster()
    log_pi0, (held, of_sample) = cells(roster.lists)[1], cells(sample.lists)
    assert log_pi0.dtype == torch.float32
    for i, position in enumerate(chunk):
        contact = prepared.contact[[position]]
        listed = prepared.eligible.row(int(contact[0]))
        found = log_pi0[i].numpy()
        assert found[listed] == pytest.approx(propensities.log_pi0(contact), abs=1e-5)
        assert np.exp(found[listed]).sum() == pytest.approx(1, abs=1e-4)
        assert sample.own_log_exposure[i] == log_pi0[i, prepared.csa[position]]
    assert torch.equal(of_sample[held], log_pi0[:, sample.csa][held])


def test_who_was_not_listed_has_the_least_there_is(prepared, propensities):
    """Over the roster and in a sample alike; the listed keep what they have."""
    chunk = steps(prepared, "by_snapshot")._profile[0][:2]
    contacts = prepared.contact[chunk]
    listed = [prepared.eligible.row(int(contact)) for contact in contacts]
    csa = prepared.csa.copy()
    csa[chunk[0]] = np.setdiff1d(np.arange(len(prepared.identity)), np.concatenate(listed))[0]
    odd = replace(prepared, csa=csa)
    roster = profile_batch(odd, chunk, True, propensities).whole_roster()
    sample = sampled_batch(odd, chunk, 3, np.random.default_rng(0), propensities).sampled_roster()
    mask, log_pi0 = cells(roster.lists)
    own = log_pi0[[0, 1], csa[chunk]]
    assert own[0].item() == pytest.approx(np.log(FLOOR / len(listed[0])), abs=1e-5)
    assert torch.equal(sample.own_log_exposure, own)
    assert mask[0, csa[chunk[0]]]
    assert log_pi0[0].numpy()[listed[0]] == pytest.approx(propensities.log_pi0(contacts[:1]), abs=1e-5)


def test_a_contact_without_a_list_is_everybodys_by_exposure(centre, prepared):
    log = Log.load(centre)
    chunk = steps(prepared, "by_snapshot")._profile[0][:3]
    contacts = prepared.contact[chunk]
    everyone = prepared.eligible.all_.copy()
    everyone[contacts[1]] = True
    lengths = np.where(everyone, 0, prepared.eligible.lengths)
    kept = np.repeat(~everyone, prepared.eligible.lengths)
    lists = replace(
        prepared.eligible, offsets=np.concatenate(([0], np.cumsum(lengths))), values=prepared.eligible.values[kept],
        all_=everyone,
    )  # fmt: skip
    found = Propensities.fit(replace(log, contacts=replace(log.contacts, eligible=lists)), prepared.split)
    data = replace(prepared, eligible=lists)
    roster = profile_batch(data, chunk, True, found).whole_roster()
    sample = sampled_batch(data, chunk, 1000, np.random.default_rng(0), found).sampled_roster()
    moment = int(data.snapshot[contacts[0]])
    mask, log_pi0 = cells(roster.lists)
    assert mask.sum(dim=1).tolist() == [lengths[contacts[0]], len(data.identity), lengths[contacts[2]]]
    assert np.allclose(log_pi0[1].numpy(), np.log(data.exposure[moment] + 0.5))
    assert np.array_equal(sample.csa.numpy(), np.arange(len(data.identity)))
    assert torch.equal(cells(sample.lists)[1][1], log_pi0[1])
    assert torch.equal(sample.own_log_exposure, log_pi0[[0, 1, 2], data.csa[chunk]])


def test_exposure_counts_what_was_known_before_the_snapshot(prepared):
    for snapshot in (0, 10, len(prepared.moments) - 1):
        moment = prepared.moments[snapshot]
        known = prepared.known_at < moment
        age_s = (moment - prepared.known_at[known]) / 1e6
        longest_s = max(prepared.schema.csa_settings.half_lives_us) / 1e6
        decayed = np.bincount(prepared.csa[known], 0.5 ** (age_s / longest_s), len(prepared.identity))
        assert np.allclose(prepared.exposure[snapshot], decayed, rtol=1e-5)


def test_a_memory_step_sees_exactly_the_past(open_prepared):
    data = open_prepared
    dataset = steps(data, None, True)
    for chunk in dataset._memory[:5]:
        batch = memory_batch(data, chunk, dataset.row_positions, most=100)
        last = data.arrived_at[data.contact[chunk]].max()
        rows = [p for p in dataset.row_positions if data.known_at[p] < last][-100:]
        assert batch.row_csa.tolist() == data.csa[rows].tolist()
        for i, position in enumerate(chunk):
            arrived, customer = data.arrived_at[data.contact[position]], data.customer[data.contact[position]]
            known = data.known_at[rows]
            assert batch.visible[i].tolist() == (known < arrived).tolist()
            assert np.allclose(batch.age[i][batch.visible[i]], ((arrived - known) / DAY_US)[known < arrived])
            theirs = data.customer[data.contact[rows]]
            assert batch.same[i].tolist() == ((theirs == customer) & (customer >= 0)).tolist()


def test_a_row_known_in_the_second_of_the_arrival_is_not_seen(open_prepared):
    data = open_prepared
    one = data.training()[[-1]]
    arrived = int(data.arrived_at[data.contact[one[0]]])
    rows = np.array([0, 1, 2])
    known_at = data.known_at.copy()
    known_at[rows] = arrived - 1, arrived, arrived + 1
    batch = memory_batch(replace(data, known_at=known_at), one, rows, most=10)
    assert batch.visible.sum() == 1
    assert batch.visible[0, 0]
    assert batch.row_csa.tolist() == data.csa[rows[:1]].tolist()


def test_a_memory_step_sees_only_rows_of_the_eligible(prepared):
    positions = prepared.training()[-40:]
    rows = prepared.training()[prepared.resolved[prepared.training()] != 0]
    batch = memory_batch(prepared, positions, rows, most=200)
    eligible = eligible_mask(prepared, prepared.contact[positions])
    assert eligible is not None
    arrived = prepared.arrived_at[prepared.contact[positions]]
    known = prepared.known_at[rows[: np.searchsorted(prepared.known_at[rows], arrived.max())][-200:]]
    expected = eligible[:, batch.row_csa.numpy()] & (known[None, :] < arrived[:, None])
    assert np.array_equal(batch.visible.numpy(), expected)
    assert 0 < batch.visible.float().mean() < 1


def test_a_memory_step_makes_no_cell_for_each_contact_and_csa(prepared):
    """Nor does a roster that is large change what it sees."""
    positions, rows = prepared.training()[-40:], prepared.training()
    small = draw_memory(prepared, positions, rows, most=200)
    large = replace(prepared, identity=np.arange(1_000_000))
    tracemalloc.start()
    drawn = draw_memory(large, positions, rows, most=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(drawn.eligible, small.eligible)
    assert peak < len(positions) * len(large.identity) / 4


def test_no_hand_over_that_failed_is_a_row_of_memory_or_teaches_it(prepared):
    dataset = steps(prepared, None, True)
    assert (prepared.resolved[dataset.row_positions] != 0).all()
    assert (prepared.resolved[dataset.memory_positions] != 0).all()
    assert (np.diff(prepared.arrived_at[prepared.contact[dataset.memory_positions]]) >= 0).all()


def test_training_and_validation_do_not_meet(prepared):
    training, validation = prepared.training(), prepared.validation()
    assert (prepared.known_at[training] < prepared.split).all()
    assert (prepared.arrived_at[prepared.contact[validation]] >= prepared.split).all()
    assert not set(prepared.contact[training]) & set(prepared.contact[validation])
    assert len(training) > 8 * len(validation) > 0


def test_frozen_texts_give_what_their_tokens_give(prepared):
    """Where the backbone is what the heads read, and where the two are apart."""
    pad_id = prepared.tokenizer.pad_id
    model = build(SMALL, prepared.schema, prepared.table, prepared.log_weight, pad_id, prepared.heads).eval()
    contacts = np.array([5, 700, 2999])
    frozen, apart = (replace(prepared, frozen_text=values) for values in (prepared.read, prepared.read.copy()))
    batches = [Gather(data).texts(contacts) for data in (prepared, frozen, apart)]
    assert [(one.tokens is None, one.text is None, one.read is None) for one in batches] == [
        (False, True, False), (True, False, True), (True, False, False)
    ]  # fmt: skip
    assert torch.isnan(batches[0].told[0]).all()
    with torch.inference_mode():
        by_tokens, *others = (one.outputs(model) for one in batches)
    for other in others:
        for name in by_tokens._fields:
            torch.testing.assert_close(getattr(other, name), getattr(by_tokens, name), msg=name)


def test_contacts_without_a_text_are_refused():
    one = torch.zeros(1)
    with pytest.raises(DataError, match="neither tokens nor text vectors are given"):
        Texts(None, one, one, one).outputs(TwoTower(torch.nn.Identity(), torch.nn.Identity()))


@given(st.integers(1, 20), st.data())
def test_a_resumed_epoch_goes_on_where_it_stopped_and_the_next_begins_anew(length, data):
    start = data.draw(st.integers(0, length))
    sampler = FromStep(length, start)
    assert list(sampler) == list(range(start, length))
    assert list(sampler) == list(range(length))
