"""A CSA who must not take the first of a queue again passes over those who are gone behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluation.simulate.demand import poisson
from evaluation.simulate.policies import fifo
from evaluation.simulate.run import simulate
from tests.evaluation.simulate.centres import skilled


def test_nobody_is_served_who_has_given_up():
    many = {"transfers": np.array([0.5, 0.0, 0.0]), "transfer_to": np.ones(3, int)}
    centre = skilled(1.3, 24 * 14, **many)
    demand = poisson(centre, 0, 0)
    short = replace(demand, patience=demand.patience / 4)
    found = simulate(centre, fifo(), demand=short)
    waited = (found.start - found.arrival)[: len(short)]
    assert np.nansum(waited > 0) > 1000
    assert not np.any(waited > short.patience)
