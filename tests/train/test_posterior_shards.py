"""Processes that sample one chain together: the same chain but for the order of sums and who draws what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.train.processes import one_of, start
from tests.train.test_posterior import CSAS, run, world
from train.posterior import CHAIN, PosteriorSampler

ROWS, SWEEPS = 6000, 60
ASCENT = 6


def chains(shard: tuple[int, int]) -> dict[str, Tensor]:
    """Where a chain stands after the sweeps that take means, and its means after all of them."""
    sampler = PosteriorSampler(world(ROWS)[0], 3, SWEEPS, 0, shard)
    assert sampler.ascent == ASCENT
    run(sampler, ASCENT)
    found = {name: sampler.get_buffer(name).clone() for name in CHAIN}
    run(sampler, SWEEPS - ASCENT)
    after = {f"after {name}": sampler.get_buffer(name).clone() for name in CHAIN}
    return found | after | {"mean vectors": sampler.means().vectors}


def process(rank: int, place: str) -> None:
    """One of three."""
    with one_of(3, rank, place):
        torch.save(chains((rank, 3)), Path(place) / f"{rank}.pt")


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[dict[str, Tensor]]:
    place = tmp_path_factory.mktemp("shards")
    start(process, 3, place)
    return [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(3)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    """The chain of one process."""
    return chains((0, 1))


def test_parts_share_the_hand_overs_and_all_csas() -> None:
    design = world(ROWS)[0]
    parts = [design.part(rank, 3) for rank in range(3)]
    assert [csa for _, csas in parts for csa in csas] == list(range(CSAS))
    assert torch.equal(torch.cat([part.csa for part, _ in parts]), design.csa)
    assert torch.equal(torch.cat([part.about for part, _ in parts]), design.about)
    assert all(set(part.csa.tolist()) <= set(csas) for part, csas in parts)
    assert max(len(part.csa) for part, _ in parts) < 1.2 * ROWS / 3


def test_every_process_stands_where_the_others_stand(shards) -> None:
    for other in shards[1:]:
        assert all(torch.equal(value, other[name]) for name, value in shards[0].items())


def test_means_are_those_of_one_process(shards, alone) -> None:
    for name in CHAIN:
        assert torch.allclose(shards[0][name], alone[name], atol=1e-5), name


def test_the_posterior_means_are_those_of_one_process(shards, alone) -> None:
    gap, size = shards[0]["mean vectors"] - alone["mean vectors"], alone["mean vectors"].std()
    assert float(gap.std() / size) < 0.15  # two seeds of one process differ as much
    assert not torch.equal(shards[0]["after skills"], alone["after skills"])
