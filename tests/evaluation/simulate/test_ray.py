"""Replications as tasks of Ray: the same figures as here, and one line where Ray is not there."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from evaluation.simulate.policies import fifo, random
from evaluation.simulate.replicate import Trial, compare
from evaluation.simulate.sets import Asked, Believed, sets
from tests.evaluation.simulate.centres import skilled
from twotower.errors import MissingExtraError


def trial() -> Trial:
    centre = skilled(0.8, 2.0)
    together = sets(centre, Believed(centre.success, centre.handle_s), Asked(prices=1.0))
    return Trial(centre, (fifo(), random(), together))


def test_ray_changes_nothing() -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'twotower-matcher[cluster]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        there = compare(trial(), 3, on_ray=True)
    finally:
        ray.shutdown()
    np.testing.assert_array_equal(there.values, compare(trial(), 3).values)


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"twotower-matcher\[cluster\]"):
        compare(trial(), 2, on_ray=True)
