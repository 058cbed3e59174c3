"""What processes that train together draw for themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.train.test_posterior import world
from train.posterior import PosteriorSampler
from train.together import seed_of


def drawn(seed: int) -> tuple[float, ...]:
    """Some numbers of a CPU's generator."""
    return tuple(torch.rand(4, generator=torch.Generator().manual_seed(seed)).tolist())


def test_a_seed_is_another_one_for_every_process_on_a_cpu_too():
    """Its generator reads the low 32 bits."""
    assert drawn(7) == drawn(7 + (1 << 40))
    assert len({drawn(seed_of(shared, process)) for shared in (7, 8) for process in range(4)}) == 8
    assert seed_of(7, 0) == 7


def test_processes_that_sample_together_draw_for_their_hand_overs_what_no_other_draws(monkeypatch):
    seen: list[tuple[Tensor, Tensor]] = []

    def everything(self: PosteriorSampler, generator: torch.Generator, own: torch.Generator, noise: float) -> None:
        seen.append((torch.rand(4, generator=generator), torch.rand(4, generator=own)))

    monkeypatch.setattr(PosteriorSampler, "_summed", lambda self, own: own)
    monkeypatch.setattr(PosteriorSampler, "_everything", everything)
    for rank in range(2):
        PosteriorSampler(world(600)[0], 3, 10, 0, (rank, 2)).sweep()
    (shared, first), (shared_too, second) = seen
    assert torch.equal(shared, shared_too)
    assert not any(torch.equal(*pair) for pair in ((first, second), (shared, first), (shared, second)))
