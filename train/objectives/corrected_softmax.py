"""Corrected softmax over the eligible roster: the logit of success from successes alone.

Given that x was resolved, P(a | x, resolved) ∝ P(resolved | x, a) · π₀(a | x) = σ(z(x, a)) · π₀(a | x), so

    L = − mean log softmax_{a ∈ eligible(x)} [ log σ(z(x, a)) + log π₀(a | x) ]_{the CSA who resolved it}.

With π₀ in the logits the model need not explain why the queue chose; what is left is success, up to a constant per
contact. Where lists tell π₀ that constant is set, not learnt: z is what the towers say at level `SUCCESS_LEVEL`, where
log σ(z) is z but for a constant, and the softmax is that of an exponential family. π₀(a | x) is estimated for each
contact and CSA where the log has eligible lists (`train/propensity.py`), else by each CSA's decayed share of recent
hand-overs; within the eligible set its normaliser cancels. Compare logQ correction (Yi et al., RecSys 2019). Use where
the log holds successes only.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from train.batches import ProfileBatch
from train.draws import Sampling
from train.objectives.base import by_blocks, level_of_success, mean_of, rows_of, steady
from twotower.towers.two_tower import CsaOutput, TwoTower


class CorrectedSoftmax:
    """Softmax of log σ(z) + log π₀ over the eligible roster, on resolved hand-overs."""

    name: ClassVar[str] = "corrected_softmax"
    sampling: ClassVar[Sampling] = "by_snapshot"
    needs_failures: ClassVar[bool] = False

    def __call__(self, model: TwoTower, batch: ProfileBatch) -> Tensor:
        """Mean loss over the hand-overs not known to be unresolved."""
        roster, counts, contacts = batch.whole_roster(), batch.resolved != 0, batch.contacts.outputs(model)
        level, members = level_of_success(contacts, batch), contacts.members.shape[1]

        def encoded(csas: slice) -> CsaOutput:
            return model.csa_tower.members(roster.features[csas], roster.identity[csas])

        def block(rows: slice, csas: slice, its: CsaOutput) -> tuple[Tensor, Tensor]:
            logits = model.cross_logits(rows_of(contacts, rows), its) + level[rows, None, None]
            mask, log_pi0 = roster.lists.cells(rows, csas)
            return normaliser_and_own(logits, log_pi0, mask, batch.csa[rows] - csas.start)

        normaliser, own = by_blocks(encoded, block, len(counts), len(roster.identity), members, level)
        return mean_of((normaliser - own).masked_fill(~counts[:, None], 0).sum(), counts.sum() * members)


def corrected_softmax(logits: Tensor, log_pi0: Tensor, mask: Tensor, csa: Tensor, counts: Tensor) -> Tensor:
    """Mean loss of logits (B, M, J): log π₀ (J,) or (B, J), eligibility (B, J), who resolved it (B,), which rows
    count (B,)."""
    normaliser, own = normaliser_and_own(logits, log_pi0, mask, csa)
    return mean_of((normaliser - own).masked_fill(~counts[:, None], 0).sum(), counts.sum() * logits.shape[1])


def normaliser_and_own(logits: Tensor, log_pi0: Tensor, mask: Tensor, csa: Tensor) -> tuple[Tensor, Tensor]:
    """Over J CSAs: log Σ exp of the scores of those eligible (B, M), −∞ where nobody is, and the score of who resolved
    each contact (B, M), 0 where that is none of them. Arguments as those of `corrected_softmax`."""
    # π₀ is masked first: where it is unknown, it is −inf or worse, and nothing of it may reach a gradient.
    log_pi0 = log_pi0.expand_as(mask).masked_fill(~mask, 0)
    scores = functional.logsigmoid(steady(logits)) + log_pi0[:, None, :]
    scores = scores.masked_fill(~mask[:, None, :], -torch.inf)
    elsewhere = (csa < 0) | (csa >= mask.shape[1])
    index = csa.masked_fill(elsewhere, 0)[:, None, None].expand(-1, scores.shape[1], 1)
    return scores.logsumexp(dim=-1), scores.gather(2, index).squeeze(-1).masked_fill(elsewhere[:, None], 0)
