"""Pairs of their own, in the truth and in a policy, do what inner products do; a rule that learns hears what ended."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from evaluation.simulate import policies
from evaluation.simulate.demand import poisson
from evaluation.simulate.policies import Choice, Vectors, View
from evaluation.simulate.run import Truth, simulate
from evaluation.simulate.state import RESOLVED
from evaluation.simulate.told import Ended
from tests.evaluation.simulate.centres import skilled
from twotower.errors import ConfigError

CENTRE = skilled(hours=4.0)
DEMAND = poisson(CENTRE, 3, 0)
RNG = np.random.default_rng(0)
CONTACTS, CSAS = RNG.normal(0, 1, (len(DEMAND), 3)).astype(np.float32), RNG.normal(0, 1, (10, 3)).astype(np.float32)
NONE = Vectors(np.zeros((0, 0), np.float32), np.zeros((10, 0), np.float32))


def test_pairs_are_as_inner_products() -> None:
    vectors, pairs, flat = Vectors(CONTACTS, CSAS), CONTACTS @ CSAS.T, np.zeros((3, 10))
    one = simulate(CENTRE, policies.greedy(flat, vectors=vectors), 3, 0, DEMAND, Truth(vectors))
    other = simulate(CENTRE, policies.greedy(flat, pairs=pairs), 3, 0, DEMAND, Truth(NONE, pairs=pairs))
    assert (one.csa == other.csa).mean() > 0.999
    assert (one.status == other.status).mean() > 0.999


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (np.zeros((4, 10), np.float32), "pairs of 4 contacts"),
        (np.zeros((len(DEMAND), 9), np.float32), "shape"),
        (np.full((len(DEMAND), 10), np.nan, np.float32), "finite"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(pairs: np.ndarray, told: str) -> None:
    with pytest.raises(ConfigError, match=f"policy greedy match: .*{told}"):
        simulate(CENTRE, policies.greedy(np.zeros((3, 10)), pairs=pairs), 3, 0, DEMAND)
    with pytest.raises(ConfigError, match=f"truth: .*{told}"):
        simulate(CENTRE, policies.fifo(), 3, 0, DEMAND, Truth(NONE, pairs=pairs))


class Listener:
    """The first contact to the first CSA who can; keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Ended] = []
        self.moments: list[float] = []

    def ended(self, handover: Ended) -> None:
        self.heard.append(handover)

    def __call__(self, view: View) -> Choice:
        assert all(one.end <= view.now for one in self.heard)
        for place, kind in enumerate(view.kind.tolist()):
            for csa in view.csa.tolist():
                if CENTRE.can[kind, csa]:
                    return Choice(np.array([[place, csa]]))
        return Choice(np.zeros((0, 2), np.int64))


def test_a_rule_hears_what_ended_in_order() -> None:
    listeners: list[Listener] = []

    def start() -> Listener:
        listeners.append(Listener())
        return listeners[-1]

    made: Callable[[], Listener] = start
    records = simulate(CENTRE, policies.decided(made), 3, 0, DEMAND)
    heard = listeners[0].heard
    ends = [one.end for one in heard]
    assert ends == sorted(ends)
    assert len(heard) > 0.8 * len(records)
    for one in heard[:50]:
        assert records.csa[one.row] == one.csa
        assert (records.status[one.row] == RESOLVED) == one.resolved
        assert records.start[one.row] == one.start
