"""Small towers over a small schema."""

from __future__ import annotations

import pytest
import torch

from twotower.features.registry import FAMILIES
from twotower.features.schema import CSA_VALUES, GROUPS, FeatureSchema
from twotower.towers.config import TowerConfig
from twotower.towers.heads import Heads
from twotower.towers.store import build, heads_for
from twotower.towers.two_tower import TwoTower

WORDS, WIDTH, PAD = 50, 12, 0
CONFIG = TowerConfig(
    text_dim=8, view_dim=4, base_dim=6, profile_dim=5, members=3, memory_dim=7, max_tokens=16, families=tuple(FAMILIES)
)
SCHEMA = FeatureSchema(
    families=list(FAMILIES),
    categories={"channel": ["call", "chat"], "queue": [], "language": ["en"], "intent": ["a", "b", "c"]},
    csa_values={name: ["en", "es"] if name == "languages" else [] for name in CSA_VALUES},
    groups={name: ["en"] if name == "language" else [] for name in GROUPS},
    bands=[3.0, 5.0],
    heads=[],
    identities=["ada", "bob", "cy"],
    base_dim=CONFIG.base_dim,
    max_tokens=16,
    granularity_us=86_400_000_000,
)


def fitted_heads(config: TowerConfig = CONFIG, schema: FeatureSchema = SCHEMA) -> Heads:
    """Heads with random weights, as if they had been fitted."""
    heads = heads_for(config, schema, WIDTH)
    heads.set_intent(torch.randn_like(heads.intent_weight), torch.randn_like(heads.intent_bias))
    heads.set_complexity(torch.randn_like(heads.weight) * 0.1, torch.rand_like(heads.bias))
    return heads


def random_model(config: TowerConfig = CONFIG, schema: FeatureSchema = SCHEMA) -> TwoTower:
    """Random weights everywhere, in evaluation mode; the reader has those of the frozen text."""
    torch.manual_seed(0)
    table, weights = torch.randn(WORDS, WIDTH).numpy(), torch.randn(WORDS).numpy()
    made = build(config, schema, table, weights, PAD, fitted_heads(config, schema))
    text = {id(parameter) for part in (made.contact_tower.backbone, made.contact_tower.reader)
            for parameter in part.parameters()}  # fmt: skip
    for tower in (made.contact_tower, made.csa_tower):
        for values in tower.outcomes.buffers():
            values.copy_(torch.randn_like(values))
        tower.outcomes.own[0] = 0  # a stranger
    with torch.no_grad():
        for parameter in made.parameters():
            if id(parameter) not in text:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return made.eval()


@pytest.fixture
def model() -> TwoTower:
    """Every family of features on."""
    return random_model()


Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture
def contacts() -> Inputs:
    """Tokens, categories and numbers of five contacts of different length."""
    rng = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, WORDS, (5, 9), generator=rng)
    for row, length in enumerate((9, 4, 1, 6, 2)):
        tokens[row, length:] = PAD
    sizes = [1 + len(values) for values in SCHEMA.categories.values()]
    categories = torch.stack([torch.randint(size, (5,), generator=rng) for size in sizes], dim=1)
    return tokens, categories, torch.randn(5, len(SCHEMA.numbers), generator=rng)


@pytest.fixture
def csas() -> tuple[torch.Tensor, torch.Tensor]:
    """Features and identities of four CSAs, the last one a stranger."""
    rng = torch.Generator().manual_seed(2)
    return torch.randn(4, len(SCHEMA.csa_numbers), generator=rng), torch.tensor([1, 2, 3, 0])
