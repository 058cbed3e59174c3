"""Every objective equals its formula, computed one example after another in float64, and so do its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from train.objectives.choose import PROFILE, WHOLE_ROSTER, choose, refuse_failures_alone
from train.objectives.corrected_softmax import corrected_softmax
from train.objectives.in_batch import in_batch_softmax
from train.objectives.memory import MemoryMixture, mixture_loss
from train.objectives.sampled import sampled_softmax
from train.objectives.sigmoid import sigmoid_contrast
from twotower.errors import ConfigError, DataError

Sizes = st.tuples(st.integers(0, 2**31), st.integers(1, 7), st.integers(1, 3), st.integers(1, 6))


class Drawn:
    """B examples, M members, J CSAs."""

    def __init__(self, seed: int, b: int, m: int, j: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.b, self.m, self.j = b, m, j

        def normal(*shape: int) -> Tensor:
            return (torch.randn(shape, generator=rng, dtype=torch.float64) * 2).requires_grad_()

        self.pairs, self.roster, self.batch, self.kernel = normal(b, m), normal(b, m, j), normal(b, m, b), normal(b, j)
        self.log_exposure = torch.randn(j, generator=rng, dtype=torch.float64)
        self.log_pi0, self.log_weight = (torch.randn(b, j, generator=rng, dtype=torch.float64) for _ in range(2))
        self.csa = torch.randint(j, (b,), generator=rng)
        self.row_csa = torch.randint(max(j // 2, 1), (j,), generator=rng)
        self.visible = torch.rand(b, j, generator=rng) < 0.6
        self.own = self.csa[:, None] == self.row_csa[None, :]
        self.mask = (torch.rand(b, j, generator=rng) < 0.5).index_put((torch.arange(b), self.csa), torch.tensor(True))
        self.counts = torch.rand(b, generator=rng) < 0.7
        outcome = torch.randint(3, (b,), generator=rng).double()
        self.resolved = torch.where(outcome == 2, torch.nan, outcome)


def log_sigmoid(z: float) -> float:
    return -math.log1p(math.exp(-z))


def mean(losses: list[float]) -> float:
    return sum(losses) / len(losses) if losses else 0.0


@given(Sizes)
def test_sigmoid_contrast_is_the_likelihood_of_the_outcomes(sizes):
    d = Drawn(*sizes)
    losses = [
        -log_sigmoid(z if r == 1 else -z)
        for row, r in zip(d.pairs.tolist(), d.resolved.tolist(), strict=True)
        for z in row
        if not math.isnan(r)
    ]
    assert sigmoid_contrast(d.pairs, d.resolved).item() == pytest.approx(mean(losses), abs=1e-12)


@given(Sizes, st.booleans())
def test_corrected_softmax_is_the_posterior_of_who_resolved_it(sizes, by_contact):
    """With log π₀ of CSAs, and of pairs: minus infinity, or nothing at all, where somebody is not eligible."""
    d = Drawn(*sizes)
    log_pi0 = d.log_pi0 if by_contact else d.log_exposure.expand_as(d.mask)
    losses = []
    for i in range(d.b):
        for m in range(d.m if d.counts[i] else 0):
            scores = {
                j: log_sigmoid(d.roster[i, m, j].item()) + log_pi0[i, j].item() for j in range(d.j) if d.mask[i, j]
            }
            losses.append(math.log(sum(map(math.exp, scores.values()))) - scores[int(d.csa[i])])
    given = log_pi0.masked_fill(~d.mask, -torch.inf) if by_contact else d.log_exposure
    found = corrected_softmax(d.roster, given, d.mask, d.csa, d.counts)
    assert found.item() == pytest.approx(mean(losses), abs=1e-12)


@given(Sizes)
def test_a_constant_for_each_contact_cancels(sizes):
    d = Drawn(*sizes)
    moved = d.log_pi0 + torch.randn(d.b, 1, dtype=torch.float64)
    one, other = (corrected_softmax(d.roster, values, d.mask, d.csa, d.counts) for values in (d.log_pi0, moved))
    assert one.item() == pytest.approx(other.item(), abs=1e-12)


@given(Sizes)
def test_sampled_softmax_weighs_who_was_drawn_and_not_who_was_there_anyway(sizes):
    d = Drawn(*sizes)
    losses = []
    for i in range(d.b):
        for m in range(d.m if d.counts[i] else 0):
            own = math.exp(log_sigmoid(d.pairs[i, m].item()) + d.log_pi0[i, 0].item())
            z = own + sum(
                math.exp(log_sigmoid(d.roster[i, m, j].item()) + d.log_weight[i, j].item())
                for j in range(d.j)
                if d.mask[i, j]
            )
            losses.append(-math.log(own / z))
    found = sampled_softmax(d.pairs, d.roster, d.log_pi0[:, 0], d.log_weight, d.mask, d.counts)
    assert found.item() == pytest.approx(mean(losses), abs=1e-12)


@given(Sizes)
def test_who_is_masked_in_a_sample_has_no_gradient(sizes):
    """Whoever took the contact stands there as themselves; as a sampled CSA they are masked and never pushed down."""
    d = Drawn(*sizes)
    weight = d.log_weight.masked_fill(~d.mask, -torch.inf)
    sampled_softmax(d.pairs, d.roster, d.log_pi0[:, 0], weight, d.mask, torch.ones(d.b, dtype=torch.bool)).backward()
    assert (d.roster.grad.transpose(1, 2)[~d.mask] == 0).all()
    assert (d.roster.grad.transpose(1, 2)[d.mask] > 0).all()
    assert (d.pairs.grad < 0).all()


@given(Sizes)
def test_in_batch_softmax_leaves_out_the_same_csa(sizes):
    d = Drawn(*sizes)
    losses = []
    for i in range(d.b):
        for m in range(d.m):
            others = [d.batch[i, m, j].item() for j in range(d.b) if j == i or d.csa[j] != d.csa[i]]
            losses.append(math.log(sum(map(math.exp, others))) - d.batch[i, m, i].item())
    assert in_batch_softmax(d.batch, d.csa).item() == pytest.approx(mean(losses), abs=1e-12)


@given(Sizes)
def test_a_repeated_csa_never_acts_as_a_negative(sizes):
    d = Drawn(*sizes)
    in_batch_softmax(d.batch, d.csa).backward()
    repeated = (d.csa[:, None] == d.csa[None, :]) & ~torch.eye(d.b, dtype=torch.bool)
    assert (d.batch.grad.transpose(1, 2)[repeated] == 0).all()
    different = d.csa[:, None] != d.csa[None, :]
    assert (d.batch.grad.transpose(1, 2)[different] > 0).all()


@given(Sizes)
def test_the_mixture_is_the_share_of_the_votes_for_who_took_it(sizes):
    d = Drawn(*sizes)
    losses = []
    for i in range(d.b):
        votes = [(math.exp(d.kernel[i, h].item()), bool(d.own[i, h])) for h in range(d.j) if d.visible[i, h]]
        own = sum(k for k, mine in votes if mine)
        if own:
            losses.append(-math.log(own / sum(k for k, _ in votes)))
    assert mixture_loss(d.kernel, d.visible, d.own).item() == pytest.approx(mean(losses), abs=1e-12)


@given(Sizes)
def test_what_is_not_eligible_or_not_visible_has_no_gradient(sizes):
    d = Drawn(*sizes)
    corrected_softmax(d.roster, d.log_exposure, d.mask, d.csa, d.counts).backward()
    mixture_loss(d.kernel, d.visible, d.own).backward()
    assert (d.roster.grad.transpose(1, 2)[~d.mask] == 0).all()
    assert (d.kernel.grad[~d.visible] == 0).all()
    for grad in (d.roster.grad, d.kernel.grad):
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_the_numbers(seed):
    d = Drawn(seed, 5, 2, 4)
    assert gradcheck(lambda z: sigmoid_contrast(z, d.resolved), d.pairs)
    for log_pi0 in (d.log_exposure, d.log_pi0):
        assert gradcheck(lambda z, given=log_pi0: corrected_softmax(z, given, d.mask, d.csa, d.counts), d.roster)
    assert gradcheck(
        lambda own, z: sampled_softmax(own, z, d.log_pi0[:, 0], d.log_weight, d.mask, d.counts), (d.pairs, d.roster)
    )
    assert gradcheck(lambda z: in_batch_softmax(z, d.csa), d.batch)
    assert gradcheck(lambda k: mixture_loss(k, d.visible, d.own), d.kernel)


class Loss(torch.nn.Module):
    """The mixture's loss as a function of its own numbers."""

    def __init__(self, drawn: Drawn) -> None:
        super().__init__()
        self.mixture, self.drawn = MemoryMixture(span_days=100.0).double(), drawn

    def forward(self) -> Tensor:
        d = self.drawn
        kernel = self.mixture.log_kernel(d.kernel.detach().tanh(), d.kernel.detach().abs() * 30, d.visible.double())
        return mixture_loss(kernel, torch.ones_like(d.visible), d.own)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_the_mixtures_own_numbers(seed):
    loss = Loss(Drawn(seed, 5, 2, 4))
    names = [name for name, _ in loss.named_parameters()]
    assert len(names) == 5
    values = tuple(p.detach().clone().requires_grad_() for p in loss.parameters())
    assert gradcheck(lambda *v: functional_call(loss, dict(zip(names, v, strict=True)), ()), values)


def test_the_kernel_is_likeness_and_recency_and_the_customer():
    mixture = MemoryMixture(span_days=200.0).double()
    beta, decay, drift = (p.exp().item() for p in (mixture.log_sharpness, mixture.log_decay, mixture.log_drift))
    floor, same = mixture.log_floor.item(), mixture.same.item()
    assert (beta, decay, drift) == pytest.approx((8.0, 0.1, 0.3))
    for cosine, age, customer in [(1.0, 0.0, True), (0.3, 12.0, False), (-0.5, 200.0, True)]:
        expected = math.log(
            math.exp(beta * (cosine - 1) - decay * age + same * customer) + math.exp(floor - drift * age)
        )
        found = mixture.log_kernel(*(torch.tensor([[v]], dtype=torch.float64) for v in (cosine, age, customer)))
        assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_batch_that_teaches_nothing_has_no_loss_and_no_gradient():
    logits = torch.zeros(3, 2, requires_grad=True)
    loss = sigmoid_contrast(logits, torch.full((3,), torch.nan))
    loss.backward()
    assert (loss.item(), logits.grad.abs().sum().item()) == (0, 0)
    roster = torch.zeros(3, 2, 4, requires_grad=True)
    nobody = torch.zeros(3, dtype=torch.bool)
    everyone = torch.ones(3, 4, dtype=torch.bool)
    for mask in (everyone, everyone.index_fill(1, torch.tensor([0]), 0)):  # also where nobody knows who took it
        loss = corrected_softmax(roster, torch.zeros(4), mask, torch.zeros(3).long(), nobody)
        loss.backward()
        assert (loss.item(), roster.grad.abs().sum().item()) == (0, 0)
    loss = sampled_softmax(logits, roster, torch.zeros(3), torch.zeros(3, 4), everyone, nobody)
    loss.backward()
    assert (loss.item(), roster.grad.abs().sum().item()) == (0, 0)
    kernel = torch.zeros(3, 4, requires_grad=True)
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    loss = mixture_loss(kernel, nothing, ~nothing)
    loss.backward()
    assert (loss.item(), kernel.grad.abs().sum().item()) == (0, 0)
    before_all = torch.zeros(3, 0, requires_grad=True)
    assert mixture_loss(before_all, before_all > 0, before_all > 0).item() == 0


def test_large_logits_do_not_overflow():
    large = torch.tensor([[300.0], [-300.0]])
    assert sigmoid_contrast(large, torch.tensor([1.0, 0.0])).item() == 0
    assert sigmoid_contrast(large, torch.tensor([0.0, 1.0])).item() == pytest.approx(300)
    everyone = torch.ones(2, 2, dtype=torch.bool)
    both = torch.tensor([[[300.0, -300.0]], [[-300.0, 300.0]]])
    csa = torch.tensor([0, 1])
    assert corrected_softmax(both, torch.zeros(2), everyone, csa, csa >= 0).item() == pytest.approx(0)


@pytest.mark.parametrize(("has_failures", "expected"), [(True, "sigmoid"), (False, "corrected_softmax")])
def test_the_log_chooses_the_objective(has_failures, expected):
    assert choose("auto", has_failures).name == expected


@pytest.mark.parametrize(
    ("roster", "expected"), [(WHOLE_ROSTER, "corrected_softmax"), (WHOLE_ROSTER + 1, "sampled_softmax")]
)
def test_a_large_roster_is_sampled(roster, expected):
    assert choose("auto", False, roster).name == expected
    assert choose("auto", True, roster).name == "sigmoid"
    assert choose("corrected_softmax", False, roster).name == "corrected_softmax"


def test_failures_alone_are_refused():
    for outcomes in ([0, 0, 0], [0, -1, -1]):
        with pytest.raises(DataError, match=r"of 3 hand-overs .* have resolved = false and none has true.*write true"):
            refuse_failures_alone(np.array(outcomes, np.int8))
    for outcomes in ([], [-1, -1], [1, 1], [0, 1], [1, -1]):
        refuse_failures_alone(np.array(outcomes, np.int8))


@pytest.mark.parametrize("name", [n for n in PROFILE if n != "sigmoid"])
@pytest.mark.parametrize("has_failures", [True, False])
def test_objectives_that_need_no_failures_take_any_log(name, has_failures):
    assert choose(name, has_failures).name == name


def test_outcomes_that_never_failed_cannot_be_contrasted():
    with pytest.raises(
        DataError, match=r"no hand-over has resolved = false.*use --data.objective corrected_softmax"
    ) as e:
        choose("sigmoid", has_failures=False)
    assert "\n" not in str(e.value)


def test_an_unknown_objective_is_refused_with_those_there_are():
    with pytest.raises(
        ConfigError,
        match="objective 'bpr' is unknown: 'auto', 'sigmoid', 'corrected_softmax', 'sampled_softmax', 'in_batch'",
    ):
        choose("bpr", has_failures=True)
