"""Where a log has failures, sigmoid contrast and corrected softmax learn the same; the in-batch softmax does not.

A world of 8 kinds of contacts and 6 CSAs, each pair with a logit of its own, and a queue that favours the CSAs who are
worse: what an objective learns of it with a free table of logits is what it learns at all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from train.objectives.corrected_softmax import corrected_softmax
from train.objectives.in_batch import in_batch_softmax
from train.objectives.sigmoid import sigmoid_contrast

KINDS, CSAS, HANDOVERS = 8, 6, 240_000


class World:
    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.z = torch.randn(KINDS, CSAS, generator=random, dtype=torch.float64)
        self.exposure = (-1.2 * self.z.mean(dim=0)).softmax(dim=0)
        self.kind = torch.randint(KINDS, (HANDOVERS,), generator=random)
        self.csa = torch.multinomial(self.exposure, HANDOVERS, replacement=True, generator=random)
        chance = torch.rand(HANDOVERS, generator=random, dtype=torch.float64)
        self.resolved = (chance < self.z[self.kind, self.csa].sigmoid()).double()

    def fit(self, loss: Callable[[Tensor], Tensor]) -> Tensor:
        table = torch.zeros(KINDS, CSAS, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([table], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

        def closure() -> Tensor:
            optimiser.zero_grad()
            value = loss(table) + 1e-7 * (table**2).sum()
            value.backward()
            return value

        optimiser.step(closure)
        return table.detach()


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def by_outcomes(world: World) -> Tensor:
    return world.fit(lambda z: sigmoid_contrast(z[world.kind, world.csa][:, None], world.resolved))


def by_successes(world: World, log_exposure: Tensor) -> Tensor:
    """From resolved hand-overs alone, those of a pair taken together."""
    mask = torch.ones(KINDS, CSAS, dtype=torch.bool)
    share = torch.zeros(KINDS, CSAS, dtype=torch.float64)
    share.index_put_((world.kind, world.csa), world.resolved / world.resolved.sum(), accumulate=True)

    def loss(z: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for csa in range(CSAS):
            took = torch.full((KINDS,), csa)
            for kind in range(KINDS):
                only = torch.arange(KINDS) == kind
                total = total + share[kind, csa] * corrected_softmax(z[:, None], log_exposure, mask, took, only)
        return total

    return world.fit(loss)


def centred(log_p: Tensor) -> np.ndarray:
    return (log_p - log_p.mean(dim=1, keepdim=True)).numpy().ravel()


def likeness(one: Tensor, other: Tensor) -> float:
    """Correlation of log P(resolved), up to a constant for each kind of contact."""
    pair = [centred(torch.nn.functional.logsigmoid(z)) for z in (one, other)]
    return float(np.corrcoef(*pair)[0, 1])


def test_outcomes_and_successes_teach_the_same_logits(world: World, by_outcomes: Tensor) -> None:
    successes = by_successes(world, world.exposure.log())
    assert likeness(by_outcomes, world.z) > 0.995
    assert likeness(successes, world.z) > 0.99
    assert likeness(by_outcomes, successes) > 0.99


def test_successes_without_the_queues_propensity_teach_the_queue(world: World) -> None:
    uncorrected = by_successes(world, torch.zeros(CSAS, dtype=torch.float64))
    assert likeness(uncorrected, world.z) < 0.9


def test_assigned_pairs_teach_the_queue_and_nothing_else(world: World) -> None:
    rows = torch.arange(2048)
    kind, csa = world.kind[rows], world.csa[rows]
    learnt = world.fit(lambda z: in_batch_softmax(z[kind][:, csa][:, None], csa))
    best = world.z.argmax(dim=1)
    assert float((learnt.argmax(dim=1) == best).double().mean()) < 0.5
    assert abs(likeness(learnt, world.z)) < 0.5
