"""An objective whose logits do not fit is computed some rows at a time: the same loss, the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.train.drawn import CSAS, assert_alike, gradients, part_of, profile_step, towers
from train.batches import ProfileBatch
from train.objectives import base
from train.objectives.base import ProfileObjective
from train.objectives.corrected_softmax import CorrectedSoftmax, corrected_softmax
from train.objectives.in_batch import InBatchSoftmax, in_batch_softmax
from train.objectives.sampled import SampledSoftmax, sampled_softmax
from train.objectives.sigmoid import SigmoidContrast, sigmoid_contrast
from twotower.errors import ConfigError
from twotower.towers.two_tower import TwoTower

OVER_MANY = [CorrectedSoftmax, SampledSoftmax, InBatchSoftmax]
ROWS = 16
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
Precision = Callable[[], AbstractContextManager[object]]
bfloat16 = partial(torch.autocast, "cpu", dtype=torch.bfloat16)


def learnt(objective: ProfileObjective, step: ProfileBatch, precision: Precision) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a training step, noise and dropout on."""
    model = towers(dropout=0.3).train()
    torch.manual_seed(7)
    with precision():
        loss = objective(model, step)
    loss.backward()
    assert loss.dtype == torch.float32
    return loss.item(), gradients(model)


@pytest.fixture
def noise_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in the order of rows, whatever the order in memory: then parts draw what the whole draws."""
    monkeypatch.setattr(torch, "randn_like", lambda values: torch.randn(values.shape, dtype=values.dtype))


@pytest.mark.usefixtures("noise_in_order")
@pytest.mark.parametrize("precision", [nullcontext, bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("objective", OVER_MANY)
@pytest.mark.parametrize("rows", [1, 3, 15])
def test_rows_at_a_time_are_the_whole(objective, rows, precision, monkeypatch):
    step = profile_step(ROWS, size=16)
    loss, whole = learnt(objective(), step, precision)
    cells = {CorrectedSoftmax: CSAS, SampledSoftmax: 17, InBatchSoftmax: ROWS}[objective] * 2
    calls: list[int] = []
    kept = base.checkpoint
    monkeypatch.setattr(base, "MOST_CELLS", rows * cells + 1)
    monkeypatch.setattr(base, "checkpoint", lambda *args, **options: calls.append(1) or kept(*args, **options))
    in_parts, parts = learnt(objective(), step, precision)
    assert len(calls) == -(-ROWS // rows)
    assert in_parts == pytest.approx(loss, rel=1e-6)
    # In bfloat16 the sum over parts is rounded after each of them.
    assert_alike(parts, whole, 1e-5 if precision is nullcontext else 2e-2)


@pytest.mark.parametrize("at_once", [5, 8, 11])
@pytest.mark.parametrize("rows", [3, ROWS])
def test_parts_of_the_roster_are_the_whole(rows, at_once, monkeypatch):
    """Without noise, which is drawn for a part at a time. Some contacts have nobody eligible in a part."""
    step, model, parted = profile_step(ROWS, size=16), towers(), towers()
    whole = CorrectedSoftmax()(model, step)
    whole.backward()
    encoded: list[int] = []
    kept = parted.csa_tower.members
    monkeypatch.setattr(parted.csa_tower, "members", lambda *args: encoded.append(len(args[1])) or kept(*args))
    monkeypatch.setattr(base, "CSAS_AT_ONCE", at_once)
    monkeypatch.setattr(base, "MOST_CELLS", rows * 2 * at_once)
    loss = CorrectedSoftmax()(parted, step)
    loss.backward()
    assert max(encoded) == at_once
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
    assert_alike(gradients(parted), gradients(model), 1e-5)


def test_what_a_part_of_the_roster_draws_is_drawn_once(monkeypatch):
    monkeypatch.setattr(base, "CSAS_AT_ONCE", 7)
    first, second = (learnt(CorrectedSoftmax(), profile_step(ROWS), nullcontext) for _ in range(2))
    assert first[0] == second[0]
    assert_alike(first[1], second[1], 1e-6)


def test_the_noise_of_a_part_is_drawn_once(monkeypatch):
    """Computed again in the backward pass it is the same, or gradients would be of another loss."""
    monkeypatch.setattr(base, "MOST_CELLS", 1)
    first, second = (learnt(CorrectedSoftmax(), profile_step(ROWS), nullcontext) for _ in range(2))
    assert first[0] == second[0]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_the_backward_pass_meets_the_noise_of_the_forward_pass(device, monkeypatch):
    monkeypatch.setattr(base, "MOST_CELLS", 1)
    weight = torch.ones(3, requires_grad=True, device=device)
    total = base.by_rows(lambda rows: (weight[rows] * torch.randn(1, device=device)).sum(), 3, 1, weight)
    total.backward()
    assert weight.grad is not None
    assert weight.grad.abs().min() > 0
    assert weight.grad.sum().item() == pytest.approx(total.item())


def by_formula(name: str, model: TwoTower, step: ProfileBatch) -> Tensor:
    """The loss from logits of all pairs, by the formulas that other tests hold; their level is that of each contact."""
    contacts = step.contacts.outputs(model)
    sample, roster = step.sampled_roster(), step.whole_roster()
    everyone = model.cross_logits(contacts, model.csa_tower.members(roster.features, roster.identity))
    if name == "in_batch":  # the level is nobody's
        return in_batch_softmax(everyone[:, :, step.csa], step.csa)
    everyone = everyone + (contacts.level[:, None, None] if name == "sigmoid" else base.SUCCESS_LEVEL)
    own = everyone.gather(2, step.csa[:, None, None].expand(-1, 2, 1)).squeeze(2)
    counts = step.resolved != 0
    if name == "sigmoid":
        return sigmoid_contrast(own, step.resolved)
    if name == "corrected_softmax":
        mask, log_pi0 = roster.lists.cells(slice(0, ROWS))
        return corrected_softmax(everyone, log_pi0, mask, step.csa, counts)
    mask, log_pi0 = sample.lists.cells(slice(0, ROWS))
    others = mask & (sample.csa[None, :] != step.csa[:, None])
    logits = everyone[:, :, sample.csa]
    return sampled_softmax(own, logits, sample.own_log_exposure, log_pi0 - sample.log_inclusion, others, counts)


@pytest.mark.parametrize("objective", [*OVER_MANY, SigmoidContrast])
def test_an_objective_is_its_formula_on_the_towers_logits(objective):
    step, found = profile_step(ROWS, size=10), []
    for loss in (objective(), partial(by_formula, objective.name)):
        model = towers()
        value = loss(model, step)
        value.backward()
        found.append((value.item(), gradients(model)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert_alike(found[0][1], found[1][1], 1e-4)


@pytest.mark.parametrize("objective", [CorrectedSoftmax, SampledSoftmax])
def test_no_shift_of_all_logits_pays(objective):
    """Or the model would rather flee to where log σ is flat than learn: successes do not know the level."""
    model, step = towers(), profile_step(ROWS, size=12)
    losses = []
    for shift in (-2.0, 2.0, 2.0):
        with torch.no_grad():
            model.contact_tower.weight.zero_()
            model.csa_tower.to_vector.weight.zero_()
            model.csa_tower.identities[1:].view(CSAS, 2, -1)[..., -1] += shift
        loss = objective()(model, step)
        losses.append(loss.item())
    loss.backward()
    assert np.ptp(losses) < 0.05
    assert all(p.grad is None for p in model.contact_tower.to_level.parameters())


@pytest.mark.parametrize("objective", [CorrectedSoftmax, SampledSoftmax])
def test_where_nothing_is_listed_the_level_is_learnt(objective):
    model, step = towers(), replace(profile_step(ROWS, size=12), listed=False)
    with torch.no_grad():
        model.contact_tower.to_level.weight.zero_()
        model.contact_tower.to_level.bias.fill_(base.SUCCESS_LEVEL)
    same, held = objective()(model, step), objective()(model, replace(step, listed=True))
    assert same.item() == pytest.approx(held.item(), rel=1e-5)
    same.backward()
    assert model.contact_tower.to_level.bias.grad is not None


@pytest.mark.parametrize("objective", [*OVER_MANY, SigmoidContrast])
def test_half_precision_sums_in_full(objective):
    """Autocast costs digits of the logits, none of the sums over a roster: mean losses agree to a percent."""
    model, step = towers(), profile_step(ROWS, size=12)
    exact = objective()(model, step).item()
    with bfloat16():
        rough = objective()(model, step)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact, rel=1e-2)


def test_a_sample_that_holds_everyone_is_the_corrected_softmax():
    """So whoever took the contact is not counted a second time where they are in the sample."""
    step = profile_step(ROWS)
    assert step.sample is not None
    found = []
    for objective in (CorrectedSoftmax(), SampledSoftmax()):
        model = towers()
        loss = objective(model, step)
        loss.backward()
        found.append((loss.item(), gradients(model)))
    (corrected, theirs), (sampled, ours) = found
    assert sampled == pytest.approx(corrected, rel=1e-6)
    assert_alike(ours, theirs)
    step.sample.csa = step.sample.csa + CSAS  # strangers to the takers
    assert SampledSoftmax()(towers(), step).item() > corrected + 0.01


@pytest.mark.parametrize("objective", [CorrectedSoftmax, SampledSoftmax])
def test_hand_overs_that_failed_teach_nothing(objective):
    step = profile_step(ROWS, size=12)
    failed = step.resolved == 0
    assert 0 < int(failed.sum()) < ROWS
    model = towers()
    objective()(model, step).backward()
    whole = gradients(model)
    rest = towers()
    kept = [part_of(step, slice(i, i + 1)) for i in range(ROWS) if not failed[i]]
    torch.stack([objective()(rest, one) for one in kept]).mean().backward()
    assert_alike(whole, gradients(rest))


def test_a_step_without_what_an_objective_reads_is_refused():
    step = profile_step(4)
    with pytest.raises(ConfigError, match=r"without the roster.*needs sampling 'by_snapshot'"):
        step.roster = None
        CorrectedSoftmax()(towers(), step)
    with pytest.raises(ConfigError, match=r"without a sample.*needs sampling 'sampled'"):
        step.sample = None
        SampledSoftmax()(towers(), step)
