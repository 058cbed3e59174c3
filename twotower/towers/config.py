"""Sizes and rates of the towers, one field a decision."""

from __future__ import annotations

from dataclasses import dataclass

from twotower.errors import ConfigError


@dataclass(frozen=True)
class TowerConfig:
    """What a `TwoTower` is built from, beside the fitted feature schema."""

    backbone: str = "static"
    """`static` (token embeddings, pooled) or `transformer` (any sentence-transformers encoder)."""
    encoder: str = "minilm"
    """The sentence-transformers encoder: weights of `transformer`, teacher of the static table."""
    text_dim: int = 128
    """Width of the static token embeddings."""
    base_dim: int = 48
    """Width of the frozen base embedding that history features average."""
    profile_dim: int = 32
    """Width of one member's profile vector."""
    members: int = 4
    """Profile members trained side by side with their own dropout and averaged: they agree where the data decide."""
    memory_dim: int = 64
    """Width of the memory vectors."""
    category_dim: int = 8
    """Width of each contact category's embedding."""
    hidden_dim: int = 64
    """Hidden width of the small perceptrons."""
    dropout: float = 0.2
    """Dropout on the fused contact vector and on CSA features, while training."""
    identity_dropout: float = 0.1
    """Share of training rows that see a CSA as a stranger, so that strangers have a sensible vector."""
    category_dropout: float = 0.1
    """Share of category codes read as unknown while training."""
    max_tokens: int = 128
    """Tokens read of a text."""

    def __post_init__(self) -> None:
        if self.backbone not in ("static", "transformer"):
            raise ConfigError(f"backbone {self.backbone!r}: 'static' or 'transformer' was expected")
        if not 0 < self.base_dim <= self.text_dim or self.memory_dim <= 0 or self.members <= 0 or self.profile_dim <= 0:
            raise ConfigError("dimensions must be positive, and base_dim at most text_dim")
        for name in ("dropout", "identity_dropout", "category_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)}: a share in [0, 1) was expected")
