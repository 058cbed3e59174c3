"""Replications as tasks of Ray: to the bit the same figures as here, for each thing that is simulated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.simulate.policies import fifo, random
from evaluation.simulate.replicate import Trial, compare
from evaluation.simulate.sets import Asked, Believed, sets
from evaluation.simulate.staffing import runner
from evaluation.simulate.staffing_measure import staffed
from tests.evaluation.simulate.centres import skilled
from tests.evaluation.simulate.test_frontier import CENTRE, SWEEPS
from tests.evaluation.simulate.test_staffing import search, two
from twotower.cli import main
from twotower.engines import Engine

RAY = Engine("ray")


def test_ray_changes_nothing(cluster: str) -> None:
    centre = skilled(0.8, 2.0)
    together = sets(centre, Believed(centre.success, centre.handle_s), Asked(prices=1.0))
    trial = Trial(centre, (fifo(), random(), together))
    here = compare(trial, 3)  # first: what it compiles, Ray's workers find
    there = compare(trial, 3, RAY)
    assert there.values.tobytes() == here.values.tobytes()
    for mine, its in zip(here.details, there.details, strict=True):
        assert all(np.array_equal(value, vars(its)[name], equal_nan=True) for name, value in vars(mine).items())


def test_a_search_for_staff_meets_the_same_contacts(cluster: str) -> None:
    judge = search(two())
    case = staffed(judge.case, judge.problem.most)
    with runner(RAY, lambda n: None) as simulations:
        there, here = simulations(case, range(5)), judge.run(case, range(5))
    assert there.contacts.tobytes() == here.contacts.tobytes()
    assert there.seconds.tobytes() == here.seconds.tobytes()


def test_the_verb_says_the_same_of_a_frontier(cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.yaml").write_text(json.dumps({"centre": CENTRE, "sweeps": SWEEPS, "replications": 3}))
    said = []
    for engine in ("local", "ray"):
        assert main(["simulate", "frontier", "--config", str(tmp_path / "f.yaml"), "--engine", engine, "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    assert "greedy" in json.dumps(said[0])
