"""The sampler: its draws against their closed form, and what it recovers where the truth is known."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from train.polya_gamma import mean_polya_gamma, polya_gamma
from train.posterior import Design, PosteriorSampler, gaussian

CSAS, ABOUT, TRUE_RANK = 40, 10, 2


def world(rows: int, seed: int = 0) -> tuple[Design, Tensor, Tensor]:
    """Hand-overs of CSAs whose skills differ in two directions, with their true logits and vectors (J, K)."""
    random = torch.Generator().manual_seed(seed)
    maps = torch.randn(ABOUT, TRUE_RANK, generator=random) * 0.7
    vectors = torch.randn(CSAS, TRUE_RANK, generator=random) @ maps.T
    about = torch.randn(rows, ABOUT, generator=random)
    csa = torch.sort(torch.randint(0, CSAS, (rows,), generator=random)).values
    logit = 0.5 + (about * vectors[csa]).sum(dim=1) + 0.3 * about[:, 0]
    resolved = (torch.rand(rows, generator=random) < torch.sigmoid(logit)).float()
    ones = torch.ones(rows, 1)
    declared = torch.randn(CSAS, 3, generator=random)
    group = torch.zeros(3, dtype=torch.int64)
    return Design(about, ones, ones, resolved, csa, declared, group, torch.ones(rows)), logit, vectors


def run(sampler: PosteriorSampler, sweeps: int) -> PosteriorSampler:
    for _ in range(sweeps):
        sampler.sweep()
    return sampler


@pytest.mark.parametrize("logit", [0.0, 0.7, -2.5, 6.0])
def test_polya_gamma_has_the_moments_of_its_closed_form(logit: float) -> None:
    draws = polya_gamma(torch.full((200_000,), logit), torch.Generator().manual_seed(1)).double()
    mean = 0.25 if logit == 0 else math.tanh(logit / 2) / (2 * logit)
    variance = 1 / 24 if logit == 0 else (math.sinh(logit) - logit) / (4 * logit**3 * math.cosh(logit / 2) ** 2)
    assert float(draws.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / len(draws)) + 1e-5)
    assert float(draws.var()) == pytest.approx(variance, rel=0.03)
    assert float(mean_polya_gamma(torch.tensor([logit]))[0]) == pytest.approx(mean, abs=1e-5)
    assert float(draws.min()) > 0


def test_gaussian_draws_have_the_precision_that_was_asked_for() -> None:
    precision = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    right = torch.tensor([1.0, -1.0], dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    draws = gaussian(precision.expand(100_000, 2, 2), right.expand(100_000, 2), random, 1.0)
    assert torch.allclose(draws.mean(dim=0), torch.linalg.solve(precision, right), atol=0.01)
    assert torch.allclose(torch.cov(draws.T), torch.linalg.inv(precision), atol=0.01)
    assert torch.equal(
        gaussian(precision[None], right[None], random, 0.0)[0],
        torch.cholesky_solve(right[:, None], torch.linalg.cholesky(precision))[:, 0],
    )


def test_it_recovers_who_is_good_at_what() -> None:
    design, _, vectors = world(16_000)
    means = run(PosteriorSampler(design, rank=4, sweeps=120, seed=0), 120).means()
    fresh = torch.randn(500, ABOUT, generator=torch.Generator().manual_seed(9))
    true, found = fresh @ vectors.T, fresh @ means.vectors[:, :ABOUT].T.float()
    true, found = true - true.mean(dim=1, keepdim=True), found - found.mean(dim=1, keepdim=True)
    correlation = np.corrcoef(true.ravel(), found.ravel())[0, 1]
    assert correlation > 0.9
    # Shrunken, not stretched: a posterior mean is no wider than the truth it stands for.
    assert 0.8 < float((true * found).sum() / (found**2).sum()) < 1.25
    assert float(means.common[0]) == pytest.approx(0.3, abs=0.15)


def test_what_few_outcomes_cannot_decide_stays_near_the_prior_and_its_spread_says_so() -> None:
    many, _, _ = world(16_000)
    few = torch.arange(len(many.csa)) % 40 == 0
    few |= many.csa >= CSAS // 2  # the first half of the CSAs hardly took anything
    design = Design(many.about[few], many.plain[few], many.level[few], many.resolved[few], many.csa[few],
                    many.declared, many.group, many.weight[few])  # fmt: skip
    sampler = run(PosteriorSampler(design, rank=4, sweeps=120, seed=0), 120)
    length = sampler.means().vectors[:, :ABOUT].norm(dim=1)
    assert length[: CSAS // 2].mean() < 0.7 * length[CSAS // 2 :].mean()
    width = design.about.shape[1] + design.plain.shape[1]
    spread = sampler.factors(torch.eye(width, dtype=torch.float64), width)[:, :, :ABOUT].norm(dim=(1, 2))
    assert spread[: CSAS // 2].mean() > 1.2 * spread[CSAS // 2 :].mean()


def test_factors_are_those_of_the_skills_posterior_given_the_maps() -> None:
    """By the formula, CSA by CSA, and as wide as draws of the skills alone are."""
    design, _, _ = world(4_000)
    sampler = run(PosteriorSampler(design, rank=3, sweeps=60, seed=1), 60)
    k, q = design.about.shape[1], design.plain.shape[1]
    out = torch.block_diag(sampler.maps, torch.eye(q, dtype=torch.float64))
    prior = torch.block_diag(torch.eye(3, dtype=torch.float64), torch.linalg.inv(sampler.plain_cov))
    inputs = torch.cat([design.about, design.plain], dim=1).double()
    logit = design.about.double() @ sampler.common + design.level.double() @ sampler.pair
    logit = logit + ((inputs @ out) * sampler.skills[design.csa]).sum(dim=1)
    omega = torch.tanh(logit / 2) / (2 * logit)
    found = sampler.factors(torch.eye(k + q, dtype=torch.float64), k + q)
    for csa in (0, 7, CSAS - 1):
        mine = design.csa == csa
        precision = out.T @ (inputs[mine].T * omega[mine]) @ inputs[mine] @ out + prior
        wanted = out @ torch.linalg.inv(precision) @ out.T
        torch.testing.assert_close(found[csa].T @ found[csa], wanted, rtol=1e-3, atol=1e-4)


def test_a_chain_that_was_stopped_goes_on_as_if_it_had_not_been() -> None:
    design, _, _ = world(2_000)
    whole = run(PosteriorSampler(design, 3, 30, seed=5), 30)
    half = run(PosteriorSampler(design, 3, 30, seed=5), 17)
    resumed = PosteriorSampler(design, 3, 30, seed=5)
    resumed.load_state_dict(copy.deepcopy(half.state_dict()))
    run(resumed, 13)
    assert resumed.sweeps == whole.sweeps == 30
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    other = run(PosteriorSampler(design, 3, 30, seed=6), 30)
    assert not torch.equal(other.sum_vectors, whole.sum_vectors)


@pytest.mark.parametrize("declared", [torch.zeros(CSAS, 0), torch.zeros(CSAS, 3)])
def test_nothing_declared_a_csa_without_hand_overs_and_one_direction_are_allowed(declared: Tensor) -> None:
    design, _, _ = world(1_000)
    there = design.csa != 3
    design = Design(design.about[there], design.plain[there], design.level[there], design.resolved[there],
                    design.csa[there], declared, design.group[: declared.shape[1]],
                    design.weight[there])  # fmt: skip
    means = run(PosteriorSampler(design, rank=1, sweeps=10, seed=0), 10).means()
    assert all(bool(torch.isfinite(getattr(means, name)).all()) for name in means.__dataclass_fields__)


def test_a_chain_lies_where_its_design_does_whatever_device_is_the_default_and_moves_with_it() -> None:
    design = world(500)[0]
    with torch.device("meta"):  # as Lightning makes a GPU the default
        chain = PosteriorSampler(design, rank=2, sweeps=10, seed=0)
    alike = run(PosteriorSampler(design, rank=2, sweeps=10, seed=0), 2)
    assert all(torch.equal(value, alike.get_buffer(name)) for name, value in run(chain, 2).named_buffers())
    chain.to("meta")
    assert {getattr(chain.design, name).device.type for name in Design.__dataclass_fields__} == {"meta"}
