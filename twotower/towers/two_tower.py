"""The towers: contact → (profile, memory, level, base), CSA → vector.

Notable: the profile part is a bilinear logit u(x)·v(a) in which *both* factors are random while training. Weights and
identities have Gaussian posteriors under Gaussian priors (variational Bayes), so what the data do not decide is
averaged over rather than fitted, and training longer does not make it worse. Several small *members* train side by
side; what is served is their posterior mean, folded into one inner product, `profile · vector + level`, so an ensemble
costs one FAISS search. The CSA vector is a linear map of the CSA's features plus an identity: features carry the
stranger, identity what only their own hand-overs tell. Standardisation of raw features lives inside the towers.
Beside the members, both vectors can carry who met whom: sums of the signatures of a customer's earlier CSAs, weighed by
three learned gains, meet the CSA's own signature in the same inner product (`features/customer.py`).

Sources: Blundell et al., "Weight uncertainty in neural networks", 2015; Kingma, Salimans and Welling, "Variational
dropout and the local reparameterization trick", 2015, whose trick samples logits instead of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from twotower.features.customer import RELATIONSHIP
from twotower.towers.backbones import Backbone, StaticBackbone, Words, unit
from twotower.towers.config import TowerConfig
from twotower.towers.divergence import kl_gaussian
from twotower.towers.heads import Heads
from twotower.towers.outcomes import OutcomeHeads
from twotower.towers.spread import of_members
from twotower.towers.topics import Topics

START_LOG_STD = -4.0  # of weights; small, so that training starts as plain optimisation
IDENTITY_LOG_STD = -1.0
ROWS_AT_ONCE = 1 << 16  # of what is standardised: sums in double precision are taken part by part
KINDS_MET = len(RELATIONSHIP)  # kinds of earlier meetings, each with a gain


class ContactOutput(NamedTuple):
    """`members` (B, M, d), sampled while training; `met` (B, R) signatures of earlier CSAs, weighed; `memory` (B, Q)
    unit; `level` (B,)."""

    members: Tensor
    met: Tensor
    memory: Tensor
    level: Tensor


class CsaOutput(NamedTuple):
    """Posterior means `vectors` (B, M, d) and `bias` (B, M), and variances of both in the same shapes; `signature`
    (B, R)."""

    vectors: Tensor
    bias: Tensor
    vector_var: Tensor
    bias_var: Tensor
    signature: Tensor


class Standardise(nn.Module):
    """(x − mean) / scale with fitted buffers, clipped to ±8 so that one wild value cannot carry a score."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, values: Tensor) -> None:
        """Take mean and standard deviation of values (N, width); NaN is missing, a constant column is only centred."""
        parts = torch.split(values.reshape(-1, values.shape[-1]), ROWS_AT_ONCE)
        count = torch.stack([(~part.isnan()).sum(dim=0) for part in parts]).sum(dim=0).clamp_min(1)
        mean = torch.stack([part.double().nansum(dim=0) for part in parts]).sum(dim=0) / count
        squares = [(part.double() - mean).square().nansum(dim=0) for part in parts]
        deviation = (torch.stack(squares).sum(dim=0) / count).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, values: Tensor) -> Tensor:
        return ((values - self.mean) / self.scale).clamp(-8.0, 8.0).nan_to_num()  # what is missing reads as the mean


class ContactTower(nn.Module):
    """Text, categories and numbers of a contact to its vectors.

    reader: a frozen static backbone, which the heads and the base embedding (its first components) read; None: the
    backbone itself, where that is frozen. topics: of its clauses, frozen, or None. numbers: width F, of which the last
    `relationship` code who met whom. labels, complexity: whether the category indicators, and what the heads say of
    complexity, are read.

    `encoding`: how `outputs` encodes texts, where not all at once (`train.cached_text`).
    """

    def __init__(
        self,
        config: TowerConfig,
        backbone: Backbone,
        reader: StaticBackbone | None,
        heads: Heads,
        topics: Topics | None,
        numbers: int,
        relationship: int,
        labels: bool,
        complexity: bool,
    ) -> None:
        super().__init__()
        self.config, self.backbone, self.heads, self.topics = config, backbone, heads, topics
        self.encoding: Callable[[Backbone, Words], Tensor] | None = None
        self.reader = None if reader is None else reader.requires_grad_(False)
        self.plain, self.labels, self.complexity = numbers - relationship, labels, complexity
        told = len(heads.bias) if complexity else 0
        self.standardise = Standardise(self.plain + told)
        self.topic_count = 0 if topics is None else topics.count
        self.width = backbone.width + labels * sum(heads.sizes) + self.plain + told + self.topic_count
        out = config.members * config.profile_dim
        self.weight = nn.Parameter(torch.randn(out, self.width) * 0.3 / self.width**0.5)
        self.log_std = nn.Parameter(torch.full((out, self.width), START_LOG_STD))
        self.gain = nn.Parameter(torch.zeros(KINDS_MET)) if relationship else None
        self.to_memory = nn.Linear(self.width, config.memory_dim)
        self.to_level = nn.Linear(self.width, 1)
        self.outcomes = OutcomeHeads(self.width)
        self._start()

    def _start(self) -> None:
        """Memory starts as the text's own similarity, in leading components; level as a constant."""
        side = min(self.config.memory_dim, self.backbone.width)
        with torch.no_grad():
            for layer in (self.to_memory, self.to_level):
                layer.weight.zero_()
                layer.bias.zero_()
            self.to_memory.weight[:side, :side] = torch.eye(side)

    def read(self, tokens: Tensor | Words, text: Tensor) -> Tensor:
        """What is read of tokens (B, L) without being trained: text vectors (B, W), then topics (B, T); `text` are the
        backbone's vectors."""
        padded = tokens.tokens if isinstance(tokens, Words) else tokens
        if self.reader is None:
            read = text
        else:
            read = self.reader.encode(tokens) if isinstance(tokens, Words) else self.reader(tokens)
        return read if self.topics is None else torch.cat([read, self.topics(padded)], dim=-1)

    def fit_standardise(self, numbers: Tensor, told: Tensor) -> None:
        """Take means and scales of numbers (N, F) and of what the heads told (N, T)."""
        plain = numbers[:, : self.plain]
        self.standardise.fit(torch.cat([plain, told], dim=-1) if self.complexity else plain)

    def fuse(self, text: Tensor, known: Tensor, numbers: Tensor, told: Tensor, topics: Tensor) -> Tensor:
        """(B, width): text of unit spread, category indicators, standardised numbers, topics."""
        plain = numbers[:, : self.plain]
        plain = torch.cat([plain, told], dim=-1) if self.complexity else plain
        parts = [text * text.shape[-1] ** 0.5, *([known] if self.labels else []), self.standardise(plain)]
        if self.topics is not None:
            parts.append(topics)
        return torch.cat(parts, dim=-1)

    def outputs(
        self,
        tokens: Tensor | Words,
        categories: Tensor,
        numbers: Tensor,
        told: Tensor | None = None,
        read: Tensor | None = None,
    ) -> ContactOutput:
        """Vectors of B contacts: tokens (B, L), categories (B, C) int64, numbers (B, F) float32; `read` (B, W + T) as
        `read` gives it, where it was computed beforehand."""
        words = Words.of(tokens, self.backbone.pad_id)
        text = self.backbone.encode(words) if self.encoding is None else self.encoding(self.backbone, words)
        read = self.read(words, text) if read is None else read
        return self.head(text, read, categories, numbers, told)

    def head(
        self, text: Tensor, read: Tensor, categories: Tensor, numbers: Tensor, told: Tensor | None = None
    ) -> ContactOutput:
        """The same from text vectors and from what `read` gives (B, W + T), both computed beforehand.

        text (B, backbone.width), further columns are not looked at; told (B, C): complexity as it was known when the
        contact arrived, None: as the heads say.
        """
        if self.training and self.config.category_dropout:
            keep = torch.rand(categories.shape, device=categories.device) >= self.config.category_dropout
            categories = categories * keep
        return self._head(self.fused(text, read, categories, numbers, told), numbers)

    def fused(
        self, text: Tensor, read: Tensor, categories: Tensor, numbers: Tensor, told: Tensor | None = None
    ) -> Tensor:
        """Everything that the linear maps read (B, width); arguments as those of `head`."""
        said = self.heads(read, categories)
        told = said.complexity if told is None else told
        return self.fuse(text[:, : self.backbone.width], said.known, numbers, told, self._topics(read))

    def _topics(self, read: Tensor) -> Tensor:
        return read[:, read.shape[1] - self.topic_count :]

    def _head(self, fused: Tensor, numbers: Tensor) -> ContactOutput:
        profile = functional.linear(fused, self.weight)
        if self.training:
            variance = functional.linear(fused**2, (2 * self.log_std).exp())
            profile = profile + torch.randn_like(profile) * (variance + 1e-9).sqrt()
        members = profile.view(-1, self.config.members, self.config.profile_dim)
        return ContactOutput(members, self._met(numbers), unit(self.to_memory(fused)), self.to_level(fused).squeeze(-1))

    def _met(self, numbers: Tensor) -> Tensor:
        """Signatures (B, R) of earlier CSAs, the kinds of meeting weighed."""
        met = numbers[:, self.plain :]
        if self.gain is None:
            return met
        kinds = met.view(-1, KINDS_MET, met.shape[1] // KINDS_MET)
        return (kinds * self.gain[:, None]).sum(dim=1)

    def forward(self, tokens: Tensor, categories: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        """(profile (B, P), memory (B, Q), level (B,), base (B, K), intent (B,), intent_p (B,), complexity (B, C),
        outcomes (B, T)).

        P = M·d + R + 1, the last component constant 1. outcomes: levels, by `scoring.outcomes.TARGETS`.
        """
        text = self.backbone(tokens)
        return self.speak(text, self.read(tokens, text), categories, numbers)

    def speak(self, text: Tensor, read: Tensor, categories: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        """The same from text vectors (B, W) and from what `read` gives, both computed beforehand."""
        said = self.heads(read, categories)
        fused = self.fuse(text, said.known, numbers, said.complexity, self._topics(read))
        out, base = self._head(fused, numbers), unit(read[:, : self.config.base_dim])
        told = said.intent, said.intent_p, said.complexity
        return self.profile(out), out.memory, out.level, base, *told, self.outcomes(fused)

    def profile(self, out: ContactOutput) -> Tensor:
        """The profile (B, P) that is served."""
        parts = [out.members.flatten(1) / self.config.members, torch.ones_like(out.level).unsqueeze(-1)]
        if self.gain is not None:
            parts.insert(1, out.met)
        return torch.cat(parts, dim=1)


class CsaTower(nn.Module):
    """Features (B, G) and identity codes (B,) of CSAs to vectors and biases of every member.

    signature: how many of the last features are passed on as they are. `factors`, where the configuration has `spread`
    rows of them, are those of each identity's covariance; else they follow from the members.
    """

    factors: Tensor

    def __init__(self, config: TowerConfig, features: int, identities: int, signature: int) -> None:
        super().__init__()
        self.config, self.plain = config, features - signature
        if config.spread:
            width = config.members * config.profile_dim + 1
            self.register_buffer("factors", torch.zeros(identities + 1, config.spread + 1, width))
        out = config.members * (config.profile_dim + 1)
        self.standardise = Standardise(self.plain)
        self.outcomes = OutcomeHeads(self.plain, identities)
        self.to_vector = nn.Linear(self.plain, out, bias=False)
        self.identities = nn.Parameter(torch.randn(identities + 1, out) * 0.05)
        self.log_std = nn.Parameter(torch.full((identities + 1, out), IDENTITY_LOG_STD))
        with torch.no_grad():
            self.to_vector.weight.zero_()
            self.identities[0] = 0  # a stranger is what their features say

    def members(self, features: Tensor, identity: Tensor) -> CsaOutput:
        """Means and variances of every member's vector and bias."""
        known = (identity > 0).unsqueeze(-1)
        if self.training and self.config.identity_dropout:
            chance = torch.rand(known.shape, device=known.device)
            known = known & (chance >= self.config.identity_dropout)
        shape = (-1, self.config.members, self.config.profile_dim + 1)
        own = functional.embedding(identity, self.identities) * known
        mean = (self.to_vector(self.standardise(features[:, : self.plain])) + own).view(shape)
        # A stranger's spread is the prior's.
        variance = (2 * functional.embedding(identity, self.log_std)).exp().view(shape)
        vectors = torch.full_like(variance[..., :-1], self.config.identity_std**2)
        biases = torch.full_like(variance[..., -1:], self.config.bias_std**2)
        variance = torch.where(known.unsqueeze(-1), variance, torch.cat([vectors, biases], dim=-1))
        signature = features[:, self.plain :]
        return CsaOutput(mean[..., :-1], mean[..., -1], variance[..., :-1], variance[..., -1], signature)

    def vector(self, out: CsaOutput) -> Tensor:
        """Vector (B, P): the members' means side by side, the signature, then the mean bias."""
        parts = [out.vectors.flatten(1), out.bias.mean(dim=1, keepdim=True)]
        if out.signature.shape[-1]:
            parts.insert(1, out.signature)
        return torch.cat(parts, dim=1)

    def own(self, features: Tensor, identity: Tensor) -> Tensor:
        """What CSAs add to the outcomes (B, T), by `scoring.outcomes.TARGETS`."""
        found: Tensor = self.outcomes(self.standardise(features[:, : self.plain]), identity)
        return found

    def forward(self, features: Tensor, identity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The vector (B, P), S factors of its posterior covariance side by side (B, S·P), and outcomes (B, T)."""
        out = self.members(features, identity)
        if self.config.spread:
            shape = (-1, *self.factors.shape[1:])
            factors = functional.embedding(identity, self.factors.flatten(1)).view(shape)
        else:
            factors = of_members(out.vectors, out.bias, out.vector_var, out.bias_var)
        if out.signature.shape[-1]:  # it says who met whom, which is known
            known = torch.zeros_like(factors[..., :1]).expand(-1, -1, out.signature.shape[-1])
            factors = torch.cat([factors[..., :-1], known, factors[..., -1:]], dim=-1)
        return self.vector(out), factors.flatten(1), self.own(features, identity)


class TwoTower(nn.Module):
    """Both towers. Member m's logit of success is `u_m · v_m + b_m + met · signature + level`."""

    def __init__(self, contact_tower: ContactTower, csa_tower: CsaTower) -> None:
        super().__init__()
        self.contact_tower, self.csa_tower = contact_tower, csa_tower

    def pair_logits(self, contacts: ContactOutput, csas: CsaOutput) -> Tensor:
        """Logits (B, M) of B pairs without the level; while training, sampled from their posterior."""
        mean = (contacts.members * csas.vectors).sum(dim=-1) + csas.bias
        mean = mean + (contacts.met * csas.signature).sum(dim=-1, keepdim=True)
        if not self.training:
            return mean
        variance = (contacts.members**2 * csas.vector_var).sum(dim=-1) + csas.bias_var
        return mean + torch.randn_like(mean) * (variance + 1e-9).sqrt()

    def cross_logits(self, contacts: ContactOutput, csas: CsaOutput) -> Tensor:
        """Logits (B, M, J) of every contact with every CSA without the level; sampled while training."""
        mean = torch.einsum("bmd,jmd->bmj", contacts.members, csas.vectors) + csas.bias.T
        mean = mean + (contacts.met @ csas.signature.T)[:, None]
        if not self.training:
            return mean
        variance = torch.einsum("bmd,jmd->bmj", contacts.members**2, csas.vector_var) + csas.bias_var.T
        return mean + torch.randn_like(mean) * (variance + 1e-9).sqrt()

    def divergence(self) -> Tensor:
        """KL of all posteriors from their priors, and −log prior of the feature map, per member (scalar, nats)."""
        contact, csa, config = self.contact_tower, self.csa_tower, self.csa_tower.config
        shape = (-1, config.members, config.profile_dim + 1)
        mean, log_std = csa.identities[1:].view(shape), csa.log_std[1:].view(shape)
        prior = mean.new_full((config.profile_dim + 1,), config.identity_std)
        prior[-1].fill_(config.bias_std)
        total = (
            kl_gaussian(contact.weight, contact.log_std, config.map_std)
            + kl_gaussian(mean, log_std, prior)
            + (csa.to_vector.weight**2).sum() / (2 * config.feature_std**2)
        )
        return total / config.members
