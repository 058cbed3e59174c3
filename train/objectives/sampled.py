"""Sampled softmax: the corrected softmax where the roster does not fit, against a sample of it with logQ correction.

The corrected softmax (`corrected_softmax.py`) divides by Z = Σ_{a ∈ eligible(x)} σ(z(x, a)) π₀(a | x). Here a step
draws a sample S of the roster, one for all its contacts, in which CSA a lies with probability q_a, and estimates

    Ẑ = σ(z(x, t)) π₀(t | x) + Σ_{a ∈ S, a ≠ t, a eligible} σ(z(x, a)) π₀(a | x) / q_a,
    L = − mean log [ σ(z(x, t)) π₀(t | x) / Ẑ ]       for the CSA t who resolved it.

In logits, at level `SUCCESS_LEVEL`: log q_a is subtracted from every sampled CSA (Yi et al., RecSys 2019, whose
expected count is this inclusion probability); t is always there, so its own is 1, and it is never there twice.
E[Ẑ] = Z for any sample with q > 0 (Horvitz and Thompson, 1952). The gradient of log Ẑ is that of log Z up to
Var(Ẑ) / Z²; with q ∝ the mass that a CSA has in the step's own contacts (`train.sampling.draw`) the terms are alike and
that is small, and where everybody is drawn, q = 1, and the loss is the corrected softmax itself. Use where a log of
successes only has a roster that steps cannot afford; elsewhere the whole roster has less variance.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from train.batches import ProfileBatch
from train.draws import Sampling
from train.objectives.base import by_rows, level_of_success, mean_of, rows_of, steady
from twotower.towers.two_tower import TwoTower


class SampledSoftmax:
    """Corrected softmax against sampled CSAs, on resolved hand-overs."""

    name: ClassVar[str] = "sampled_softmax"
    sampling: ClassVar[Sampling] = "sampled"
    needs_failures: ClassVar[bool] = False

    def __call__(self, model: TwoTower, batch: ProfileBatch) -> Tensor:
        """Mean loss over the hand-overs not known to be unresolved."""
        sample, counts = batch.sampled_roster(), batch.resolved != 0
        contacts = batch.contacts.outputs(model)
        own = model.pair_logits(contacts, model.csa_tower.members(batch.features, batch.identity))
        level = level_of_success(contacts, batch)
        own = own + level[:, None]
        csas = model.csa_tower.members(sample.features, sample.identity)

        def total(rows: slice) -> Tensor:
            logits = model.cross_logits(rows_of(contacts, rows), csas) + level[rows, None, None]
            mask, log_pi0 = sample.lists.cells(rows)
            mask = mask & (batch.csa[rows, None] != sample.csa[None, :])
            log_weight = log_pi0 - sample.log_inclusion
            return sampled_sum(own[rows], logits, sample.own_log_exposure[rows], log_weight, mask, counts[rows])

        members = contacts.members.shape[1]
        return mean_of(by_rows(total, len(counts), members * (1 + len(sample.csa)), level), counts.sum() * members)


def sampled_softmax(
    own: Tensor, logits: Tensor, own_log_pi0: Tensor, log_weight: Tensor, mask: Tensor, counts: Tensor
) -> Tensor:
    """Mean loss of logits of the CSA who resolved it, `own` (B, M), and of the sampled, `logits` (B, M, S).

    own_log_pi0 (B,); log_weight (B, S): log π₀ − log q of the sampled; mask (B, S): who is eligible and not who
    resolved it; counts (B,): which rows count.
    """
    total = sampled_sum(own, logits, own_log_pi0, log_weight, mask, counts)
    return mean_of(total, counts.sum() * own.shape[1])


def sampled_sum(
    own: Tensor, logits: Tensor, own_log_pi0: Tensor, log_weight: Tensor, mask: Tensor, counts: Tensor
) -> Tensor:
    """Sum of the losses over rows that count and members; arguments as those of `sampled_softmax`."""
    mine = functional.logsigmoid(steady(own)) + own_log_pi0[:, None]
    others = functional.logsigmoid(steady(logits)) + log_weight.masked_fill(~mask, 0)[:, None, :]
    others = others.masked_fill(~mask[:, None, :], -torch.inf)
    log_z = torch.cat([mine[..., None], others], dim=-1).logsumexp(dim=-1)
    return ((log_z - mine) * counts[:, None]).sum()
