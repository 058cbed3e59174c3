"""Samples of a roster: drawn with just the probability that is written down, so that sums over all are unbiased."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.draws import StepDataset
from train.gather import profile_batch, sampled_batch
from train.objectives.corrected_softmax import corrected_softmax
from train.objectives.sampled import sampled_softmax
from train.prepare import TrainingSet
from train.sampling import EQUAL, Chances, chances, draw, inclusion, over_sample, systematic

Doubles = npt.NDArray[np.float64]


def weights(seed: int, n: int) -> Doubles:
    """Positive, of very different size."""
    found: Doubles = np.exp(np.random.default_rng(seed).normal(0, 2, n))
    return found


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 45))
def test_inclusion_is_in_proportion_and_certain_for_who_outweighs_a_place(seed, n, size):
    weight = weights(seed, n)
    probability = inclusion(weight, size)
    assert probability.sum() == pytest.approx(min(n, size))
    assert ((probability > 0) & (probability <= 1)).all()
    open_ = probability < 1
    if open_.any():
        ratio = probability[open_] / weight[open_]
        assert ratio == pytest.approx(ratio[0])
        # Nobody is certain whose share of the places that are left would be less than one.
        assert (weight[~open_] * ratio[0] >= 1 - 1e-9).all()
    else:
        assert size >= n


class OneStart(np.random.Generator):
    """Draws one given start, on a line in a given order."""

    def __init__(self, start: float, order: npt.NDArray[np.int64]) -> None:
        super().__init__(np.random.PCG64(0))
        self.start, self.order = start, order

    def random(self, *_: object) -> float:  # type: ignore[override]
        return self.start

    def permutation(self, units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:  # type: ignore[override]
        return units[self.order]


@pytest.mark.parametrize("seed", range(4))
def test_every_start_counted_once_gives_the_probabilities_exactly(seed):
    """Over a fine grid of starts on one order of the line: systematic sampling leaves nothing to chance but that."""
    probability = inclusion(weights(seed, 12), 5)
    order = np.random.default_rng(seed).permutation((probability < 1).sum())
    grid = 20_000
    found = np.zeros(12)
    for start in (np.arange(grid) + 0.5) / grid:
        drawn = systematic(probability, OneStart(start, order))
        assert len(drawn) == len(set(drawn.tolist())) == 5
        found[drawn] += 1 / grid
    assert found == pytest.approx(probability, abs=2 / grid)


def test_no_start_falls_off_the_line():
    probability = inclusion(np.full(7, 1.0), 3)
    for start in (0.0, np.nextafter(1, 0)):
        assert len(systematic(probability, OneStart(start, np.arange(7)))) == 3
    assert systematic(np.ones(4), np.random.default_rng(0)).tolist() == [0, 1, 2, 3]
    assert systematic(np.zeros(0), np.random.default_rng(0)).tolist() == []


def test_any_two_may_be_drawn_together():
    """On a line in one and the same order neighbours never are: each has half a place."""
    together, random = np.zeros((6, 6)), np.random.default_rng(0)
    for _ in range(400):
        sample = systematic(np.full(6, 0.5), random)
        together[np.ix_(sample, sample)] += 1
    assert together.min() > 30


def lists(seed: int, contacts: int = 9, csas: int = 30) -> Chances:
    """Contacts with lists of about a third of the roster, one with everybody."""
    random = np.random.default_rng(seed)
    mask = random.random((contacts, csas)) < 0.3
    mask[:, 0] = True
    everyone = np.arange(contacts) == contacts - 1
    row, csa = np.nonzero(mask & ~everyone[:, None])
    log_pi0, exposure = (random.normal(0, 1.5, n).astype(np.float32) for n in (len(row), csas))
    return Chances(row, csa, log_pi0, everyone, exposure, None)


def test_a_sample_holds_each_csa_as_often_as_it_says():
    found, random, draws = lists(0), np.random.default_rng(1), 20_000
    mass = found.mass()
    assert mass.sum() == pytest.approx(9)
    weight = (1 - EQUAL) * mass / mass.sum() + EQUAL / 30
    expected = inclusion(weight, 8)
    count = np.zeros(30)
    for _ in range(draws):
        sample, log_q = draw(found, 8, random)
        assert len(sample) == 8
        assert np.allclose(np.exp(log_q), expected[sample], rtol=1e-5)
        count[sample] += 1
    error = np.sqrt(expected * (1 - expected) / draws)
    assert ((expected == 1) <= (count == draws)).all()
    assert (np.abs(count / draws - expected) <= 4.5 * error + 1e-9).all()


def test_the_sampled_normaliser_is_unbiased():
    """Mean of Ẑ over samples against Z of all, contact by contact; without the correction it is far off."""
    found, random, draws = lists(2), np.random.default_rng(3), 20_000
    z = random.normal(0, 2, (9, 30))
    mask, log_pi0 = over_sample(found, np.arange(30)).cells()
    value = np.where(mask, np.exp(log_pi0) / (1 + np.exp(-z)), 0)
    taker = np.array([random.choice(np.flatnonzero(row)) for row in mask])
    exact, estimates, plain = value.sum(axis=1), np.zeros((draws, 9)), np.zeros(9)
    own = value[np.arange(9), taker]
    for i in range(draws):
        sample, log_q = draw(found, 8, random)
        others = value[:, sample] * (sample[None, :] != taker[:, None])
        estimates[i] = own + (others / np.exp(log_q)).sum(axis=1)
        plain += (own + others.sum(axis=1)) / draws
    error = estimates.std(axis=0) / np.sqrt(draws)
    assert (np.abs(estimates.mean(axis=0) - exact) < 4.5 * error).all()
    assert (np.abs(estimates.mean(axis=0) / exact - 1) < 0.02).all()
    assert plain.sum() < 0.8 * exact.sum()


def test_the_loss_comes_to_that_of_the_whole_roster():
    """Mean over samples of the sampled loss, and of its gradient: the more are drawn, the closer, and equal at all."""
    found, random = lists(4), np.random.default_rng(5)
    mask, log_pi0 = over_sample(found, np.arange(30)).cells()
    taker = np.array([random.choice(np.flatnonzero(row)) for row in mask])
    z = torch.from_numpy(random.normal(0, 1.5, (9, 1, 30))).requires_grad_()
    every, counts = torch.arange(9), torch.ones(9, dtype=torch.bool)
    csa, all_mask, all_pi0 = (torch.from_numpy(values) for values in (taker, mask, log_pi0))
    whole = corrected_softmax(z, all_pi0, all_mask, csa, counts)
    exact = torch.autograd.grad(whole, z)[0]

    def sampled(size: int) -> tuple[float, float]:
        sample, log_q = draw(found, size, random)
        part = torch.from_numpy(sample)
        allowed = all_mask[:, part] & (part[None, :] != csa[:, None])
        log_weight = all_pi0[:, part] - torch.from_numpy(log_q)
        loss = sampled_softmax(z[every, :, csa], z[:, :, part], all_pi0[every, csa], log_weight, allowed, counts)
        return loss.item(), float((torch.autograd.grad(loss, z)[0] - exact).norm() / exact.norm())

    errors = []
    for size in (4, 8, 16, 24, 30):
        losses, gradients = np.array([sampled(size) for _ in range(200)]).T
        errors.append((abs(losses.mean() - whole.item()), np.abs(losses - whole.item()).mean(), gradients.mean()))
    for error in zip(*errors, strict=True):
        assert list(error) == sorted(error, reverse=True)
        assert error[0] > 4 * error[3] > 0
    assert max(errors[-1]) < 1e-6


@pytest.mark.parametrize("size", [1, 5, 10, 1000])
def test_a_sampled_step_tells_who_is_in_it(prepared, size):
    chunk = StepDataset(prepared, prepared.training(), "sampled", False, 32, 32, 100, seed=5)._profile[0]
    batch = sampled_batch(prepared, chunk, size, np.random.default_rng(0))
    whole = profile_batch(prepared, chunk, over_roster=True)
    sample = batch.sampled_roster()
    csa, contacts = sample.csa.numpy(), prepared.contact[chunk]
    moment = int(prepared.snapshot[contacts[0]])
    candidates = np.unique(np.concatenate([prepared.eligible.row(int(c)) for c in contacts]))
    assert set(csa) <= set(candidates)
    assert len(csa) == len(set(csa)) == min(size, len(candidates))
    assert (sample.log_inclusion <= 0).all()
    assert bool((sample.log_inclusion == 0).all()) == (size >= len(candidates))
    assert np.array_equal(sample.features.numpy(), prepared.csa_features[moment][csa])
    assert np.array_equal(sample.identity.numpy(), prepared.identity[csa])
    mask, log_pi0 = sample.lists.cells(slice(0, len(chunk)))
    over_all = whole.whole_roster().lists.cells(slice(0, len(chunk)))[1]
    for i, contact in enumerate(contacts):
        eligible = set(prepared.eligible.row(int(contact)).tolist())
        assert mask[i].tolist() == [int(one) in eligible for one in csa]
        held = sample.csa[mask[i]]
        assert torch.equal(log_pi0[i][mask[i]], over_all[i, held])
        assert sample.own_log_exposure[i] == over_all[i, batch.csa[i]]
    assert batch.roster is None


def test_contacts_of_everybody_are_sampled_by_exposure(open_prepared):
    chunk = StepDataset(open_prepared, open_prepared.training(), "sampled", False, 32, 32, 100, seed=5)._profile[0]
    contacts = open_prepared.contact[chunk]
    moment = int(open_prepared.snapshot[contacts[0]])
    found = chances(open_prepared, contacts, moment, None)
    share = open_prepared.exposure[moment] + 0.5
    assert found.mass() == pytest.approx(len(chunk) * share / share.sum(), rel=1e-5)
    batch = sampled_batch(open_prepared, chunk, 6, np.random.default_rng(1))
    assert batch.sampled_roster().lists.cells(slice(0, len(chunk)))[0].all()


def test_who_is_drawn_depends_on_seed_epoch_and_step_alone(prepared):
    def drawn(seed: int, epoch: int, rank: int = 0, world: int = 1) -> list[list[int]]:
        dataset = StepDataset(
            prepared, prepared.training(), "sampled", False, 32, 32, 100, seed=seed, rank=rank, world=world, sampled=5
        )
        dataset.set_epoch(epoch)
        return [dataset[i].profile.sample.csa.tolist() for i in (2, 0)]  # type: ignore[union-attr]

    assert drawn(1, 3) == drawn(1, 3)
    assert drawn(1, 3) != drawn(1, 4)
    assert drawn(1, 3) != drawn(2, 3)
    assert drawn(1, 3, 1, 2) == drawn(1, 3, 0, 2) == drawn(1, 3)  # processes take shares of one step


def test_who_took_a_contact_without_being_listed_still_stands_there(prepared: TrainingSet):
    """By exposure: their own share, in a sample as over the roster."""
    chunk = StepDataset(prepared, prepared.training(), "sampled", False, 32, 32, 100, seed=5)._profile[0][:1]
    contact = int(prepared.contact[chunk[0]])
    stranger = next(j for j in range(len(prepared.identity)) if j not in prepared.eligible.row(contact))
    csa = prepared.csa.copy()
    csa[chunk] = stranger
    odd = replace(prepared, csa=csa)
    sample = sampled_batch(odd, chunk, 5, np.random.default_rng(0)).sampled_roster()
    whole = profile_batch(odd, chunk, over_roster=True)
    mask, log_pi0 = whole.whole_roster().lists.cells(slice(0, 1))
    assert mask[0, stranger]
    assert sample.own_log_exposure[0] == log_pi0[0, stranger]
    assert not (sample.csa == stranger).any()
