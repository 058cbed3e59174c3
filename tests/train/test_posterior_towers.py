"""What the sampler learnt, put into the towers: both say the same of every pair, and so does the exported graph."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from train.gather import profile_batch
from train.posterior import Design, PosteriorSampler
from train.posterior_towers import Columns, design_of, profile_width, write_means, write_spread
from train.prepare import TrainingSet, prepare
from train.run import run_training
from twotower.errors import ConfigError
from twotower.features.registry import FAMILIES
from twotower.scoring.spread import deviations
from twotower.tables.log import Log
from twotower.towers.config import TowerConfig
from twotower.towers.store import build, load
from twotower.towers.store import save as save_towers
from twotower.towers.two_tower import TwoTower

SWEEPS = 12
SMALL = TowerConfig(max_tokens=48, view_dim=32, families=tuple(FAMILIES))


@dataclass
class Sampled:
    data: TrainingSet
    towers: TwoTower
    sampler: PosteriorSampler
    design: Design
    columns: Columns


def towers_for(data: TrainingSet) -> TwoTower:
    config = replace(SMALL, members=1, profile_dim=profile_width(SMALL, data), topics=12, spread=4)
    return build(
        config, data.schema, data.table, data.log_weight, data.tokenizer.pad_id, deepcopy(data.heads),
        deepcopy(data.topics),
    )  # fmt: skip


@pytest.fixture(scope="module")
def sampled(centre: Path) -> Sampled:
    """Twelve sweeps with every family of features on, so that every column is somewhere."""
    data = prepare(Log.load(centre), replace(SMALL, topics=12), 0.1)
    assert data.topics is not None
    data = replace(data, frozen_text=data.read)
    towers = towers_for(data)
    towers.contact_tower.fit_standardise(*(torch.from_numpy(values) for values in (data.numbers, data.told)))
    towers.csa_tower.standardise.fit(torch.from_numpy(data.csa_features)[..., : towers.csa_tower.plain])
    design, columns = design_of(towers, data, data.training())
    sampler = PosteriorSampler(design, 4, SWEEPS, seed=0)
    for _ in range(SWEEPS):
        sampler.sweep()
    write_means(towers, sampler, columns, data)
    write_spread(towers, sampler, data)
    return Sampled(data, towers.eval(), sampler, design, columns)


@torch.inference_mode()
def test_the_towers_say_what_the_sampler_means(sampled: Sampled) -> None:
    data, design, means = sampled.data, sampled.design, sampled.sampler.means()
    inputs = torch.cat([design.about, design.plain], dim=1).double()
    wanted = design.about.double() @ means.common + design.level.double() @ means.pair
    wanted = wanted + (inputs * means.vectors[design.csa]).sum(dim=1)

    rows = data.training()
    rows = rows[data.resolved[rows] >= 0]
    rows = rows[np.argsort(data.csa[rows], kind="stable")]
    batch = profile_batch(data, rows, False)
    latest = int(data.snapshot[data.contact[rows]].max())
    # What is declared was read as of the latest snapshot, what moves as of each hand-over's own.
    features = batch.features.clone()
    declared = torch.from_numpy(sampled.columns.declared)
    features[:, declared] = torch.from_numpy(data.csa_features[latest][data.csa[rows]])[:, declared]
    contacts = batch.contacts.outputs(sampled.towers)
    found = sampled.towers.pair_logits(contacts, sampled.towers.csa_tower.members(features, batch.identity))[:, 0]
    assert torch.allclose(found.double() + contacts.level, wanted, atol=2e-3)
    assert wanted.std() > 0.1


@torch.inference_mode()
def test_a_stranger_is_what_is_declared_of_them(sampled: Sampled) -> None:
    towers, means = sampled.towers, sampled.sampler.means()
    features = torch.from_numpy(sampled.data.csa_features[-1])
    zero = torch.zeros(len(features), dtype=torch.int64)
    vectors = towers.csa_tower.members(features, zero).vectors[:, 0]
    standard = towers.csa_tower.standardise(features[:, : towers.csa_tower.plain])[:, sampled.columns.declared]
    standard = standard * sampled.columns.size
    assert torch.allclose(vectors.double(), (standard.double() @ means.side)[:, :-1], atol=1e-4)


@torch.inference_mode()
def test_the_memory_measures_contacts_as_csas_tell_them_apart(sampled: Sampled) -> None:
    design, metric = sampled.design, sampled.sampler.means().metric
    inputs = torch.cat([design.about, design.plain[:, :-1]], dim=1).double()
    inputs = inputs - inputs.mean(dim=0)
    width = inputs.shape[1]
    root_of = inputs @ metric[:width, :width] @ inputs.T
    tower = sampled.towers.contact_tower
    side = min(tower.config.memory_dim, width)
    mapped = inputs @ (tower.to_memory.weight[:side].double() @ torch.linalg.pinv(tower.weight.double())).T
    kept = (mapped @ mapped.T).diagonal().sum() / root_of.diagonal().sum()
    assert 0.99 < float(kept) < 1.01


@torch.inference_mode()
def test_the_spread_of_known_csas_is_theirs_and_of_strangers_that_of_csas_at_large(sampled: Sampled) -> None:
    towers, data, sampler = sampled.towers, sampled.data, sampled.sampler
    features, identity = torch.from_numpy(data.csa_features[-1]), torch.from_numpy(data.identity)
    inputs = torch.cat([sampled.design.about, sampled.design.plain], dim=1)
    vectors, spread, _ = towers.csa_tower(features, identity)
    stranger = towers.csa_tower(features[:1], identity[:1] * 0)[1]
    width = vectors.shape[1]
    signature = width - inputs.shape[1]
    profile = torch.cat([inputs[:, :-1], torch.ones(len(inputs), signature), inputs[:, -1:]], dim=1)[:300].numpy()

    def variance(rows: torch.Tensor) -> np.ndarray:
        return np.array([deviations(one, rows.reshape(len(rows), -1, width).numpy()) ** 2 for one in profile])

    metric = sampler.means().metric
    at_large = ((inputs[:300].double() @ metric) * inputs[:300]).sum(dim=1).numpy()
    assert variance(stranger)[:, 0].mean() == pytest.approx(at_large.mean(), rel=0.25)  # of 300 contacts, not of all
    known = variance(spread)
    count = torch.bincount(sampled.design.csa, minlength=len(identity)).numpy()
    assert known[:, count == count.max()].mean() < known[:, count == count.min()].mean() <= 1.05 * at_large.mean()
    assert np.corrcoef(known.mean(axis=0), -count)[0, 1] > 0.5


def test_sampled_towers_are_saved_and_loaded_with_their_topics(sampled: Sampled, tmp_path: Path) -> None:
    config = sampled.towers.contact_tower.config
    save_towers(sampled.towers, config, tmp_path)
    (tmp_path / "features.json").write_text(sampled.data.schema.to_json(), encoding="utf-8")
    again = load(tmp_path)
    tokens = torch.from_numpy(sampled.data.tokens.pad(np.arange(5)))
    inputs = (tokens, torch.from_numpy(sampled.data.categories[:5]), torch.from_numpy(sampled.data.numbers[:5]))
    with torch.inference_mode():
        for mine, its in zip(sampled.towers.contact_tower(*inputs), again.contact_tower(*inputs), strict=True):
            assert torch.equal(mine, its)


def test_sampling_is_refused_where_it_cannot_be(tiny_open: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.solver sampling: needs .* use --model\.solver gradient"):
        run_training(tiny_open, tmp_path / "run", options=["--model.solver=sampling"])
    assert not (tmp_path / "run").exists()
