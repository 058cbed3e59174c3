"""Sizes and rates of the towers, one field a decision."""

from __future__ import annotations

from dataclasses import dataclass

from twotower.errors import ConfigError
from twotower.features.registry import FAMILIES

TOPICS = 80  # where a queue chose: 50 to 120 were tried on generated centres, and fewer lost more than more
VIEW_DIM = 384  # of the embeddings fitted on the log, where the text is not trained


@dataclass(frozen=True)
class TowerConfig:
    """What a `TwoTower` is built from, beside the fitted feature schema."""

    backbone: str = "static"
    """`static` (token embeddings, pooled) or `transformer` (any sentence-transformers encoder)."""
    encoder: str = "minilm"
    """The sentence-transformers encoder: weights of `transformer`, teacher of the static table."""
    text_dim: int = 64
    """Width of the static token embeddings distilled from the encoder."""
    view_dim: int | None = None
    """Width of the token embeddings fitted on the log's own texts (`views`); 0: none; null: as the log suggests."""
    topics: int | None = None
    """Topics of clauses that the contact tower reads beside the text (`train/topics.py`); 0: none; null: as the log
    suggests."""
    base_dim: int = 48
    """Width of the frozen base embedding that history features average."""
    profile_dim: int = 16
    """Width of one member's profile vector."""
    members: int = 8
    """Profile members trained side by side with their own noise and averaged: they agree where the data decide."""
    memory_dim: int = 64
    """Width of the memory vectors."""
    spread: int = 0
    """Rows of the factor of each CSA's posterior covariance, where that is sampled; 0: it follows from the members."""
    category_gain: float = 4.0
    """Scale of a category's indicator beside text components of unit spread."""
    identity_std: float = 1.0
    """Prior standard deviation of a CSA's identity vector."""
    bias_std: float = 0.5
    """Prior standard deviation of a CSA's bias."""
    map_std: float = 0.05
    """Prior standard deviation of the contact side's weights."""
    feature_std: float = 0.05
    """Prior standard deviation of the CSA features' weights."""
    families: tuple[str, ...] | None = None
    """Families of features that the towers read (docs/features.md); null: as the log suggests."""
    identity_dropout: float = 0.0
    """Share of training rows that see a CSA as a stranger.

    The identity's prior does the same in expectation, at less noise.
    """
    category_dropout: float = 0.0
    """Share of category codes read as unknown while training."""
    max_tokens: int = 256
    """Tokens read of a text."""

    def __post_init__(self) -> None:
        if self.backbone not in ("static", "transformer"):
            raise ConfigError(f"backbone {self.backbone!r}: 'static' or 'transformer' was expected")
        if unknown := [name for name in self.families or () if name not in FAMILIES]:
            raise ConfigError(f"families: {unknown[0]!r} is unknown: {', '.join(FAMILIES)} were expected")
        if not 0 < self.base_dim <= self.text_dim or self.memory_dim <= 0 or self.members <= 0 or self.profile_dim <= 0:
            raise ConfigError("dimensions must be positive, and base_dim at most text_dim")
        deviations = self.identity_std, self.bias_std, self.map_std, self.feature_std
        if min(self.view_dim or 0, self.topics or 0, self.spread) < 0 or min(deviations) <= 0:
            raise ConfigError(
                "view_dim, topics and spread must not be negative, prior standard deviations must be positive"
            )
        for name in ("identity_dropout", "category_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)}: a share in [0, 1) was expected")
