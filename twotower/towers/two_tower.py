"""The towers: contact → (profile, memory, level, base), CSA → vector.

Notable: several small *members* of the profile part train side by side, each on its own loss; what is served is their
mean, folded into one inner product, `profile · vector + level`, so an ensemble costs one FAISS search. The CSA
vector is a map of the CSA's features plus an identity embedding with a Gaussian prior: features carry the stranger,
identity carries what only their own hand-overs tell. Standardisation of raw features lives inside the towers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from twotower.towers.backbones import Backbone, StaticBackbone, unit
from twotower.towers.config import TowerConfig


class ContactOutput(NamedTuple):
    """`members` (B, M, d), scaled; `memory` (B, Q) unit; `level` (B,); `base` (B, K) unit."""

    members: Tensor
    memory: Tensor
    level: Tensor
    base: Tensor


class Standardise(nn.Module):
    """(x − mean) / scale with fitted buffers, clipped to ±8 so that one wild value cannot carry a score."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, values: Tensor) -> None:
        """Take mean and standard deviation of values (N, width); a constant column is only centred."""
        flat = values.reshape(-1, values.shape[-1]).double()
        deviation = flat.std(dim=0, unbiased=False)
        self.mean.copy_(flat.mean(dim=0))
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, values: Tensor) -> Tensor:
        return ((values - self.mean) / self.scale).clamp(-8.0, 8.0)


class ContactTower(nn.Module):
    """Text, categories and numbers of a contact to its vectors.

    base: a frozen static backbone of width K. category_sizes: codes of each category (with unknown).
    """

    def __init__(
        self, config: TowerConfig, backbone: Backbone, base: StaticBackbone, category_sizes: list[int], numbers: int
    ) -> None:
        super().__init__()
        self.config, self.backbone, self.base = config, backbone, base.requires_grad_(False)
        self.categories = nn.ModuleList(nn.Embedding(n, config.category_dim) for n in category_sizes)
        self.standardise = Standardise(numbers)
        width = backbone.width + config.category_dim * len(category_sizes) + numbers
        self.dropout = nn.Dropout(config.dropout)
        self.to_profile = nn.Linear(width, config.members * config.profile_dim)
        self.to_memory = nn.Linear(width, config.memory_dim, bias=False)
        self.to_level = nn.Sequential(nn.Linear(width, config.hidden_dim), nn.GELU(), nn.Linear(config.hidden_dim, 1))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self._start()

    def _start(self) -> None:
        for table in self.categories:
            nn.init.normal_(table.weight, std=0.1)  # type: ignore[union-attr]
        # Memory starts as the pretrained text similarity itself: the leading principal components, nothing else.
        nn.init.zeros_(self.to_memory.weight)
        side = min(self.config.memory_dim, self.backbone.width)
        with torch.no_grad():
            self.to_memory.weight[:side, :side] = torch.eye(side)
        last = self.to_level[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]

    def outputs(self, tokens: Tensor, categories: Tensor, numbers: Tensor) -> ContactOutput:
        """Vectors of B contacts: tokens (B, L), categories (B, C) int64, numbers (B, F) float32."""
        return self.head(self.backbone(tokens), self.base(tokens), categories, numbers)

    def head(self, text: Tensor, base: Tensor, categories: Tensor, numbers: Tensor) -> ContactOutput:
        """The same from text vectors (B, width) and base vectors (B, K), for backbones computed beforehand."""
        if self.training and self.config.category_dropout:
            keep = torch.rand(categories.shape, device=categories.device) >= self.config.category_dropout
            categories = categories * keep
        parts = [table(categories[:, i]) for i, table in enumerate(self.categories)]
        fused = torch.cat([text * text.shape[-1] ** 0.5, *parts, self.standardise(numbers)], dim=-1)
        # Dropout once per member, so that members differ where the data leave them free.
        members = self.config.members
        dropped = self.dropout(fused.unsqueeze(1).expand(-1, members, -1))
        weight = self.to_profile.weight.view(members, self.config.profile_dim, -1)
        bias = self.to_profile.bias.view(members, self.config.profile_dim)
        profile = unit(torch.einsum("bmw,mdw->bmd", dropped, weight) + bias) * self.log_scale.exp()
        return ContactOutput(profile, unit(self.to_memory(fused)), self.to_level(self.dropout(fused)).squeeze(-1), base)

    def forward(self, tokens: Tensor, categories: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(profile (B, P), memory (B, Q), level (B,), base (B, K)); P = M·d + 1, the last component constant 1."""
        out = self.outputs(tokens, categories, numbers)
        profile = torch.cat([out.members.flatten(1) / self.config.members, torch.ones_like(out.level).unsqueeze(-1)], 1)
        return profile, out.memory, out.level, out.base


class CsaTower(nn.Module):
    """Features (B, G) and identity codes (B,) of CSAs to members (B, M, d) and biases (B, M)."""

    def __init__(self, config: TowerConfig, features: int, identities: int) -> None:
        super().__init__()
        self.config = config
        out = config.members * (config.profile_dim + 1)
        self.standardise = Standardise(features)
        self.dropout = nn.Dropout(config.dropout)
        self.to_vector = nn.Sequential(
            nn.Linear(features, config.hidden_dim), nn.GELU(), nn.Linear(config.hidden_dim, out)
        )
        self.identity = nn.Embedding(identities + 1, out, padding_idx=0)
        with torch.no_grad():
            self.to_vector[2].weight.mul_(0.1)  # type: ignore[operator]
            self.to_vector[2].bias.zero_()  # type: ignore[operator]
            self.identity.weight.mul_(0.05)

    def members(self, features: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, M, d) and biases (B, M) of every member."""
        if self.training and self.config.identity_dropout:
            identity = identity * (torch.rand(identity.shape, device=identity.device) >= self.config.identity_dropout)
        both = self.to_vector(self.dropout(self.standardise(features))) + self.identity(identity)
        both = both.view(-1, self.config.members, self.config.profile_dim + 1)
        return both[..., :-1], both[..., -1]

    def forward(self, features: Tensor, identity: Tensor) -> Tensor:
        """Vector (B, P): the members side by side, then the mean bias."""
        vectors, bias = self.members(features, identity)
        return torch.cat([vectors.flatten(1), bias.mean(dim=1, keepdim=True)], dim=1)


class TwoTower(nn.Module):
    """Both towers. Member m's logit of success is `u_m · v_m + b_m + level`."""

    def __init__(self, contact_tower: ContactTower, csa_tower: CsaTower) -> None:
        super().__init__()
        self.contact_tower, self.csa_tower = contact_tower, csa_tower

    def prior(self) -> Tensor:
        """−log of the standard Gaussian prior on the identity embeddings, up to a constant: ½ Σ (scale·v)² / members.

        The contact side's learned scale is inside, so that the prior bounds the logit rather than its factors.
        """
        table = self.csa_tower.identity.weight.view(-1, self.csa_tower.config.members, self.csa_tower.config.profile_dim + 1)
        scaled = torch.cat([table[..., :-1] * self.contact_tower.log_scale.exp(), table[..., -1:]], dim=-1)
        return 0.5 * (scaled**2).sum() / self.csa_tower.config.members
