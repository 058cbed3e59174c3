"""Between the towers and the sampler: which of their inputs it reads, and its posterior means put into them.

Notable: the towers stay what they were, so export, join and router know nothing of how they were learnt. The contact
tower's profile becomes the very inputs that the sampler read (topics, then what is plain), the CSA tower's vector its
mean over draws: what is declared through a linear map, and what only own hand-overs tell as the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.gather import profile_batch
from train.posterior import Design, PosteriorSampler
from train.prepare import TrainingSet
from train.start import CONSTANT, Names
from twotower.features.complexity import COMPLEXITY
from twotower.features.csa import CSA
from twotower.features.feature import Feature
from twotower.features.schema import FeatureSchema
from twotower.towers.config import TowerConfig
from twotower.towers.spread import of_covariance
from twotower.towers.two_tower import KINDS_MET, TwoTower

Longs = npt.NDArray[np.int64]
Replayed = Callable[[TrainingSet, Longs], tuple[Longs, npt.NDArray[np.float32]]]
DECLARED = ("profile", "skills", "roster")  # families that do not move with the hand-overs
LEVEL, INDICATOR = "level", "0 or 1"  # units of what is declared by name
LEVEL_SPREAD = 0.25  # of declared levels, so that they weigh about as much as a team's indicator
CHUNK = 8192


@dataclass(frozen=True)
class Columns:
    """Where the sampler's inputs are among the towers'.

    Of the contact tower's fused columns: `about`, `plain` with the `scale` that brings them to unit size, and `level`
    (first, one past the last). Of the CSA features that are not signatures: `declared` with the `size` that brings them
    from unit spread to their own, `group` the feature that each of these belongs to, and `moving`, those that move.
    `names` of what the sampler reads.
    """

    about: Longs
    plain: Longs
    scale: Tensor
    level: tuple[int, int]
    declared: Longs
    size: Tensor
    group: Longs
    moving: Longs
    names: Names

    @classmethod
    def of(cls, towers: TwoTower, data: TrainingSet) -> Columns:
        """The columns of towers that were built for `data`."""
        tower, sizes = towers.contact_tower, towers.contact_tower.heads.sizes
        end = tower.width - tower.topic_count
        about, known = np.arange(end, tower.width), tower.backbone.width
        plain: list[int] = []
        if tower.labels:
            starts = known + np.concatenate([[0], np.cumsum(sizes)])
            # Code 0 is unknown and says nothing; the intent is what topics are about.
            plain = [
                int(column)
                for i, size in enumerate(sizes)
                if i != tower.heads.intent
                for column in starts[i] + np.arange(1, size)
            ]
            known = int(starts[-1])
        scale = [1 / tower.config.category_gain] * len(plain) + [1.0] * tower.plain
        plain += list(range(known, known + tower.plain))
        features = [f for f in data.schema.chosen(CSA) for _ in data.schema.columns_of(f)][: towers.csa_tower.plain]
        declared = declared_columns(features)
        own = towers.csa_tower.standardise.scale.cpu()[torch.from_numpy(declared)]
        levels = torch.tensor([features[i].unit == LEVEL for i in declared])
        groups, group = np.unique([features[i].name for i in declared], return_inverse=True)
        moving = np.flatnonzero([f.family not in DECLARED for f in features])
        fused, of_csas = fused_names(towers, data.schema), data.schema.csa_numbers
        names = Names(
            (*(fused[i - tower.backbone.width] for i in plain), CONSTANT),
            (*fused, *(of_csas[i] for i in moving), *_met(towers), CONSTANT),
            tuple(of_csas[i] for i in declared), tuple(str(one) for one in groups),
        )  # fmt: skip
        return cls(
            about, np.array(plain, np.int64), torch.tensor(scale), (tower.backbone.width, end), declared,
            torch.where(levels, own / LEVEL_SPREAD, own), group, moving, names,
        )  # fmt: skip


def fused_names(towers: TwoTower, schema: FeatureSchema) -> list[str]:
    """Names of the contact tower's fused columns between text and topics, in the order of `ContactTower.fuse`."""
    tower, names = towers.contact_tower, []
    if tower.labels:
        names += [f"{name}: {value}" for name, values in schema.categories.items() for value in ("", *values)]
    names += schema.numbers[: tower.plain]
    return names + ([one.name for one in COMPLEXITY] if tower.complexity else [])


def _met(towers: TwoTower) -> list[str]:
    """Of the kinds of meeting whose signatures are compared."""
    return [] if towers.contact_tower.gain is None else [f"met {kind}" for kind in range(KINDS_MET)]


def declared_columns(features: Sequence[Feature[Any]]) -> Longs:
    """What is declared of a CSA, as columns: levels and indicators; components of texts where there are no others.

    Many components of unit spread tell any CSA from all others and so drown the few that foretell something.
    """
    named = np.flatnonzero([f.family in DECLARED and f.unit in (LEVEL, INDICATOR) for f in features])
    return named if len(named) else np.flatnonzero([f.family in DECLARED for f in features])


def profile_width(config: TowerConfig, data: TrainingSet) -> int:
    """Width of the profile vector that the sampler's means need."""
    topics = 0 if data.topics is None else data.topics.count
    intent = list(data.schema.categories).index("intent")
    others = sum(size - 1 for i, size in enumerate(data.heads.sizes) if i != intent) if data.schema.has("labels") else 0
    return topics + others + len(data.schema.numbers) - data.schema.relationship


@torch.no_grad()
def design_of(
    towers: TwoTower, data: TrainingSet, positions: Longs, replayed: Replayed | None = None
) -> tuple[Design, Columns]:
    """What the sampler reads of hand-overs (n,) with outcomes; replayed: which of them, sorted by CSA and time, and of
    how many each stands for; None: all."""
    positions = positions[data.resolved[positions] >= 0]
    positions = positions[np.argsort(data.csa[positions], kind="stable")]
    weight = np.ones(len(positions), np.float32)
    if replayed is not None:
        positions, weight = replayed(data, positions)
    columns, was_training = Columns.of(towers, data), towers.training
    towers.eval()
    parts = [_part(towers, data, rows, columns) for rows in np.split(positions, range(CHUNK, len(positions), CHUNK))]
    towers.train(was_training)
    about, plain, level = (torch.cat(values) for values in zip(*parts, strict=True))
    latest = int(data.snapshot[data.contact[positions]].max(initial=0))
    declared = _standard(towers, torch.from_numpy(data.csa_features[latest]))[:, columns.declared] * columns.size
    resolved = torch.from_numpy(data.resolved[positions].astype(np.float32))
    return Design(
        about, plain, level, resolved, torch.from_numpy(data.csa[positions]), declared,
        torch.from_numpy(columns.group), torch.from_numpy(weight),
    ), columns  # fmt: skip


def _part(towers: TwoTower, data: TrainingSet, rows: Longs, columns: Columns) -> tuple[Tensor, Tensor, Tensor]:
    """(about, plain, level) of some hand-overs."""
    tower, batch = towers.contact_tower, profile_batch(data, rows, False)
    said = batch.contacts
    text = towers.contact_tower.backbone(said.tokens) if said.text is None else said.text
    fused = tower.fused(text, text if said.read is None else said.read, said.categories, said.numbers, said.told)
    ones = torch.ones(len(rows), 1)
    level = [fused[:, slice(*columns.level)], _standard(towers, batch.features)[:, columns.moving]]
    if tower.gain is not None:
        signature = batch.features[:, towers.csa_tower.plain :]
        met = batch.contacts.numbers[:, tower.plain :].view(len(rows), KINDS_MET, -1)
        level.append((met * signature[:, None]).sum(dim=-1))
    plain = torch.cat([fused[:, columns.plain] * columns.scale, ones], dim=1)
    return fused[:, columns.about], plain, torch.cat([*level, ones], dim=1)


def _standard(towers: TwoTower, features: Tensor) -> Tensor:
    tower = towers.csa_tower
    standard: Tensor = tower.standardise(features[:, : tower.plain])
    return standard


@torch.no_grad()
def write_means(towers: TwoTower, sampler: PosteriorSampler, columns: Columns, data: TrainingSet) -> None:
    """Put the means over the draws so far into the towers, in place."""
    means = sampler.means()
    _write_contact(towers, means.common, means.pair, columns)
    tower = towers.csa_tower
    tower.to_vector.weight.zero_()
    tower.to_vector.weight[:, columns.declared] = means.side.T.float() * columns.size.to(tower.to_vector.weight)
    first = columns.level[1] - columns.level[0]
    tower.to_vector.weight[-1, columns.moving] = means.pair[first : first + len(columns.moving)].float()
    own = means.vectors - sampler.design.declared.double().to(means.side) @ means.side
    tower.identities.zero_()
    tower.identities[torch.from_numpy(data.identity).to(own.device)] = own.to(tower.identities)
    _write_memory(towers, means.metric, sampler.design)


@torch.no_grad()
def write_spread(towers: TwoTower, sampler: PosteriorSampler, data: TrainingSet) -> None:
    """Put the factors of what outcomes leave open into the CSA tower; a stranger's covariance is that of CSAs at large.

    They are those given the maps: what is open about these is common to all CSAs, and so tells nobody apart.
    """
    tower, design = towers.csa_tower, sampler.design
    some = torch.linspace(0, len(design.about) - 1, min(len(design.about), CHUNK)).long()
    inputs = torch.cat([design.about[some], design.plain[some]], dim=1).double()
    moment, rank = inputs.T @ inputs / len(inputs), tower.config.spread
    tower.factors.copy_(of_covariance(sampler.means().metric, moment, rank).expand_as(tower.factors))
    factors = sampler.factors(moment, rank).to(tower.factors)
    tower.factors[torch.from_numpy(data.identity).to(factors.device)] = factors


def _write_contact(towers: TwoTower, common: Tensor, pair: Tensor, columns: Columns) -> None:
    """Profile: the inputs themselves; level: what is common to all CSAs."""
    tower = towers.contact_tower
    read = np.concatenate([columns.about, columns.plain])
    tower.weight.zero_()
    size = torch.cat([torch.ones(len(columns.about)), columns.scale])
    tower.weight[torch.arange(len(read)), torch.from_numpy(read)] = size.to(tower.weight)
    tower.to_level.weight.zero_()
    first, last = columns.level
    tower.to_level.weight[0, first:last] = pair[: last - first].float()
    tower.to_level.weight[0, columns.about] = common.float()
    tower.to_level.bias.fill_(float(pair[-1]))
    if tower.gain is not None:
        start = last - first + len(columns.moving)
        tower.gain.copy_(pair[start : start + KINDS_MET])


def _write_memory(towers: TwoTower, metric: Tensor, design: Design) -> None:
    """The memory's space: two contacts are alike if CSAs do equally well on them.

    Under the CSAs' own spread Σ, logits of x and y covary as xᵀΣy: the leading principal components of Lᵀx, Σ = LLᵀ.
    """
    tower = towers.contact_tower
    inputs = torch.cat([design.about, design.plain[:, :-1]], dim=1).double()
    width = inputs.shape[1]
    values, axes = torch.linalg.eigh(metric[:width, :width])
    root = axes * values.clamp_min(0).sqrt()
    centre = inputs.mean(dim=0)
    spread = root.T @ torch.cov(inputs.T).to(root) @ root
    _, vectors = torch.linalg.eigh(spread)
    side = min(tower.config.memory_dim, width)
    basis = vectors.flip(1)[:, :side]
    basis = basis * torch.sign(basis[basis.abs().argmax(dim=0), torch.arange(side)])
    rotation = (root @ basis).T.to(tower.weight)
    tower.to_memory.weight.zero_()
    tower.to_memory.bias.zero_()
    tower.to_memory.weight[:side] = rotation @ tower.weight
    tower.to_memory.bias[:side] = -rotation @ centre.to(rotation)
