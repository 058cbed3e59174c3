"""Distillation: a student's loss beside its own objectives, for what a teacher says of the same contacts.

Two things are matched, over what a step has drawn for the objectives anyway.

*Scores* (Hinton, Vinyals and Dean, arXiv 1503.02531), with temperature τ, teacher t, student s, per contact x:

    profile, over the eligible roster, or a sample of it: τ² KL( softmax(ℓ_t / τ) ‖ softmax(ℓ_s / τ) ),
        ℓ(a) = log σ(z(x, a)) + log π₀(a | x), at level `SUCCESS_LEVEL` where lists tell π₀, as the objectives are;
    profile, where a step has pairs alone: τ² KL( Bernoulli(σ(z_t / τ)) ‖ Bernoulli(σ(z_s / τ)) );
    memory, over the visible rows of recent history: τ² KL( softmax(log K_t / τ) ‖ softmax(log K_s / τ) ).

z is the logit as it is served, the members' mean; log K is the kernel of `objectives/memory.py`, for the teacher with
its own scalars.

*Embeddings*: 1 − cos(A u_s, u_t) of memory vectors and of the members' profile vectors u. The maps A are learnt beside
the towers, start as the identity and are thrown away: neither space has preferred axes, and widths may differ.

Notable: all of it is zero where student and teacher are one, and nothing of it reaches the teacher. The student's
contact tower runs once a step: objectives and matching read the same outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.batches import MemoryBatch, ProfileBatch, Step, Texts
from train.data import MatcherData
from train.distil_teacher import Teacher, load_teacher
from train.objectives.base import SUCCESS_LEVEL, by_rows, mean_of, rows_of, steady
from train.objectives.memory import MemoryMixture
from train.together import gathered
from twotower.errors import ConfigError
from twotower.towers.config import TowerConfig
from twotower.towers.two_tower import ContactOutput, CsaOutput, CsaTower, TwoTower


@dataclass(frozen=True)
class Matching:
    """Weights of score matching and of embedding matching beside the run's own objectives, and the temperature."""

    scores: float = 1.0
    embeddings: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if min(self.scores, self.embeddings) < 0 or self.temperature <= 0:
            raise ConfigError("model: score_matching and embedding_matching must not be negative, temperature positive")


@dataclass
class Spoken(Texts):
    """Contacts of which the student has spoken already."""

    output: ContactOutput | None = None

    def outputs(self, model: TwoTower) -> ContactOutput:
        """What was said, with its gradients."""
        return super().outputs(model) if self.output is None else self.output


def spoken(texts: Texts, model: TwoTower) -> Spoken:
    """The contacts with the student's outputs of this step."""
    return Spoken(**{f.name: getattr(texts, f.name) for f in fields(Texts)}, output=texts.outputs(model))


class Distillation(nn.Module):
    """The matching loss against one teacher.

    student: its configuration; memory: whether memories are trained, and matched.
    """

    def __init__(self, teacher: Teacher, student: TowerConfig, matching: Matching, memory: bool) -> None:
        super().__init__()
        self.facts, self.matching = teacher.facts, matching
        self.csa_tower: CsaTower = teacher.csa_tower.eval().requires_grad_(False)
        self.profile: Tensor
        self.memory: Tensor
        self.level: Tensor
        for name, values in teacher.said._asdict().items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.kernel = MemoryMixture(1.0).requires_grad_(False) if memory else None
        if self.kernel is not None:
            self.kernel.load_state_dict({name: torch.tensor(value) for name, value in teacher.kernel.items()})
        self.members = members_width(self.csa_tower.config)
        self.to_profile = identity_map(members_width(student), self.members) if matching.embeddings else None
        mapped = memory and matching.embeddings > 0
        self.to_memory = identity_map(student.memory_dim, self.memory.shape[1]) if mapped else None

    def train(self, mode: bool = True) -> Distillation:
        """The teacher stays in evaluation mode."""
        super().train(mode)
        self.csa_tower.eval()
        return self

    def read(self, model: TwoTower, step: Step) -> Step:
        """The step with the student's outputs in it, so that everything after reads the same ones."""
        profile, memory = step.profile, step.memory
        if profile is not None:
            profile = replace(profile, contacts=spoken(profile.contacts, model))
        if memory is not None and self.kernel is not None:
            memory = replace(memory, contacts=spoken(memory.contacts, model), rows=spoken(memory.rows, model))
        return Step(profile, memory)

    def forward(self, model: TwoTower, step: Step, memory: MemoryMixture | None) -> Tensor:
        """The matching loss (scalar, nats) of a step that `read` has seen; memory: the student's kernel."""
        total = torch.zeros((), device=self.level.device)
        if step.profile is not None:
            total = total + self.of_profile(model, step.profile)
        if step.memory is not None and memory is not None and self.kernel is not None:
            total = total + self.of_memory(model, step.memory, memory, self.kernel)
        return total

    def of_profile(self, model: TwoTower, batch: ProfileBatch) -> Tensor:
        """Weighted score and embedding matching of a profile step."""
        mine, rows = batch.contacts.outputs(model), contact_rows(batch.contacts)
        loss = self.matching.scores * self.profile_scores(model, batch, mine)
        if self.to_profile is not None:
            vectors = mine.members.flatten(1)
            loss = loss + self.matching.embeddings * apart(self.to_profile(vectors), self.profile[rows, : self.members])
        return loss

    def profile_scores(self, model: TwoTower, batch: ProfileBatch, mine: ContactOutput) -> Tensor:
        """Score matching of a profile step: over the roster, a sample of it, or the pairs, whichever it carries."""
        rows = contact_rows(batch.contacts)
        if batch.roster is not None:
            features, identity, lists = batch.roster
            weight = torch.zeros_like(lists.exposure)
        elif batch.sample is not None:
            features, identity, lists = batch.sample.features, batch.sample.identity, batch.sample.lists
            weight = -batch.sample.log_inclusion
        else:
            csas = model.csa_tower.members(batch.features, batch.identity)
            z = pair_logit(mine, csas)
            its = (self.profile[rows] * self.vectors(batch.features, batch.identity)).sum(dim=1) + self.level[rows]
            return bernoulli_kl(z, its, self.matching.temperature)
        csas, vectors = model.csa_tower.members(features, identity), self.vectors(features, identity)
        counts = lists.counts()

        def total(part: slice) -> Tensor:
            mask, log_pi0 = lists.cells(part)
            log_pi0 = torch.where(mask, log_pi0 + weight, 0)
            z = cross_logit(rows_of(mine, part), csas)
            its = self.profile[rows[part]] @ vectors.T + self.level[rows[part], None]
            if batch.listed:  # as the objectives of successes have it: no level is learnt there
                z = z - mine.level[part, None] + SUCCESS_LEVEL
                its = its - self.level[rows[part], None] + SUCCESS_LEVEL
            scores = (functional.logsigmoid(steady(z)) + log_pi0, functional.logsigmoid(steady(its)) + log_pi0)
            return kl_sum(*scores, mask, self.matching.temperature)

        return mean_of(by_rows(total, len(lists), len(identity), identity), counts.sum())

    def of_memory(
        self, model: TwoTower, batch: MemoryBatch, memory: MemoryMixture, its_kernel: MemoryMixture
    ) -> Tensor:
        """Weighted score and embedding matching of a memory step; memory: the student's kernel."""
        vector, past = batch.contacts.outputs(model).memory, batch.rows.outputs(model).memory
        its, its_past = self.memory[contact_rows(batch.contacts)], self.memory[contact_rows(batch.rows)]
        everyones, its_whole = gathered(past, batch.shares), gathered(its_past, batch.shares)
        scores = (
            memory.log_kernel(steady(vector) @ steady(everyones).T, batch.age, batch.same),
            its_kernel.log_kernel(its @ its_whole.T, batch.age, batch.same),
        )
        loss = self.matching.scores * softmax_kl(*scores, batch.visible, self.matching.temperature)
        if self.to_memory is not None:
            mapped = self.to_memory(torch.cat([vector, past]))
            loss = loss + self.matching.embeddings * apart(mapped, torch.cat([its, its_past]))
        return loss

    @torch.no_grad()
    def vectors(self, features: Tensor, identity: Tensor) -> Tensor:
        """The teacher's vectors (J, P) of CSAs."""
        return self.csa_tower.vector(self.csa_tower.members(features, identity))


def members_width(config: TowerConfig) -> int:
    """Width of all members' profile vectors side by side."""
    return config.members * config.profile_dim


def identity_map(width: int, to: int) -> nn.Linear:
    """A linear map without bias that starts as the identity on what both sides have."""
    layer = nn.Linear(width, to, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(to, width))
    return layer


def contact_rows(texts: Texts) -> Tensor:
    """Positions (B,) of a batch's contacts in the log. Raises ConfigError where the batch does not tell them."""
    if texts.contact is None:
        raise ConfigError("a batch without the contacts' positions cannot be held against a teacher")
    return texts.contact


def cross_logit(contacts: ContactOutput, csas: CsaOutput) -> Tensor:
    """Served logits (B, J), the members' mean, of every contact with every CSA; without the CSAs' noise."""
    z: Tensor = torch.einsum("bmd,jmd->bj", contacts.members, csas.vectors) / contacts.members.shape[1]
    return z + contacts.met @ csas.signature.T + csas.bias.mean(dim=1) + contacts.level[:, None]


def pair_logit(contacts: ContactOutput, csas: CsaOutput) -> Tensor:
    """Served logits (B,) of B pairs; without the CSAs' noise."""
    z: Tensor = (contacts.members * csas.vectors).sum(dim=(1, 2)) / contacts.members.shape[1]
    return z + (contacts.met * csas.signature).sum(dim=-1) + csas.bias.mean(dim=1) + contacts.level


def softmax_kl(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """τ² KL(teacher ‖ student) of scores (B, J) under a mask (B, J), mean over the rows in which something is left."""
    return mean_of(kl_sum(student, teacher, mask, temperature), mask.any(dim=1).sum())


def kl_sum(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """The same, summed over the rows."""
    counts = mask.any(dim=1)
    mask = mask | ~counts[:, None]  # an empty row would be −∞ − ∞; it weighs nothing below
    log_p, log_q = (
        (steady(scores) / temperature).masked_fill(~mask, -torch.inf).log_softmax(dim=1)
        for scores in (teacher.detach(), student)
    )
    terms = (log_p.exp() * (log_p - log_q).masked_fill(~mask, 0)).sum(dim=1)
    return temperature**2 * (terms * counts).sum()


def bernoulli_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """τ² KL(teacher ‖ student) of logits (B,), mean over the rows."""
    s, t = steady(student) / temperature, steady(teacher.detach()) / temperature
    p = t.sigmoid()
    terms = p * (functional.logsigmoid(t) - functional.logsigmoid(s))
    terms = terms + (1 - p) * (functional.logsigmoid(-t) - functional.logsigmoid(-s))
    return temperature**2 * mean_of(terms.sum(), torch.full((), len(terms), device=terms.device))


def apart(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − mean cosine of vectors (B, Q)."""
    cosine: Tensor = functional.cosine_similarity(steady(student), steady(teacher.detach()), dim=1)
    return mean_of((1 - cosine).sum(), torch.full((), len(cosine), device=cosine.device))


def distillation(
    teacher: str | None, matching: Matching, data: MatcherData, kept: Path, device: torch.device
) -> Distillation | None:
    """The matching against the run in the folder `teacher`, None where none is named; see `load_teacher`."""
    if teacher is None:
        return None
    return Distillation(load_teacher(Path(teacher), data, kept, device), data.towers, matching, data.with_memory)


def learnt(text_lr: float | None, memory: MemoryMixture | None, taught: Distillation | None) -> dict[str, Any]:
    """What run.json says: how the text was learnt, the memory's kernel, the teacher; None where there is none."""
    kernel = None if memory is None else {name: float(value) for name, value in memory.state_dict().items()}
    text = "trained" if text_lr else "frozen"
    return {"text": text, "kernel": kernel, "teacher": None if taught is None else taught.facts}
