"""The benchmark of off-policy evaluation in small: logs come from the truth they are judged by, rows are written."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from evaluation.generate.latents import sigmoid


@pytest.fixture(scope="module")
def modules() -> Any:
    """The benchmark's modules, imported as scripts beside each other are."""
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    yield import_module("ope_centre"), import_module("ope")
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def centre(modules: tuple[ModuleType, ModuleType]) -> Any:
    return modules[0].Centre.draw(2000, 20, 4.0, 1)


def test_logs_are_drawn_from_the_truth(centre: Any) -> None:
    drawn = centre.log(0)
    logged = drawn.logged
    assert logged.pairs.total(drawn.queue) == pytest.approx(np.ones(len(logged)))
    assert logged.propensity == pytest.approx(drawn.queue[logged.pairs.own])
    assert (logged.pairs.csa[logged.pairs.own] == logged.log.handovers.csa[logged.handover]).all()
    assert (logged.log.handovers.contact[logged.handover] == logged.contact).all()
    n = len(logged)
    expected = (drawn.queue * sigmoid(centre.logit[0])).sum() / n
    assert np.nanmean(logged.reward("resolved")) == pytest.approx(expected, abs=4 / np.sqrt(4 * n))
    again, other = centre.log(0), centre.log(1)
    assert np.array_equal(again.logged.pairs.own, logged.pairs.own)
    assert not np.array_equal(other.logged.pairs.own, logged.pairs.own)


def test_what_is_logged_can_be_wrong(centre: Any) -> None:
    drawn = centre.log(0, falsified=1.0)
    logged = drawn.logged
    assert not np.allclose(logged.propensity, drawn.queue[logged.pairs.own])
    assert logged.pairs.total(logged.chances) == pytest.approx(np.ones(len(logged)))


def test_a_queue_may_know_more(centre: Any) -> None:
    plain, hidden = (centre.log(0, hidden=h).queue @ sigmoid(centre.logit[0]) for h in (0.0, 1.0))
    assert hidden > plain * 1.05


def test_policies_are_worth_what_they_choose(centre: Any) -> None:
    uniform, soft, greedy = centre.policies(0.5)
    assert centre.worth(uniform) < centre.worth(soft) < centre.worth(greedy)
    pairs = centre.window.pairs
    oracle = pairs.largest(sigmoid(centre.logit[0])).mean()
    [*_, best] = centre.policies(0.0)
    assert centre.worth(best) == pytest.approx(oracle)


def test_all_parts_are_measured_and_written(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules[1], "worth_of", lambda bandit: bandit.true_value(50_000))
    output = tmp_path / "ope.json"
    small = (
        "--rounds 2000 --logs 3 --replications 20 --draws 20 --contacts 1500 --csas 16 --eligible 4 --centre-logs 1 "
        f"--strengths 1 3 --seed 2 --output {output}"
    )
    assert modules[1].main(small.split()) == 0
    rows = json.loads(output.read_text())["rows"]
    assert {row["part"] for row in rows} == {"error", "coverage", "centre"}
    covered = [row for row in rows if row["part"] == "coverage"]
    assert {(row["world"], row["estimator"]) for row in covered} == {
        (world, name) for world in ("softmax", "greedy", "customers") for name in ("IPS", "SNIPS", "DR")
    }
    logs = [row for row in rows if row["part"] == "centre"]
    assert {row["log"] for row in logs} == {"logged", "estimated", "falsified", "hidden"}
    known = [row for row in logs if row["log"] == "logged" and row["policy"] == "uniform"]
    assert {row["estimator"] for row in known} >= {"ips", "snips", "dm", "dr", "switch-dr"}
    for row in known:
        assert abs(row["bias"]) < 0.1
        assert row["answered"] + row["refused"] == 1
    said = capsys.readouterr().out
    assert "95 % intervals, 20 logs" in said
    assert "95 % interval holds" in said
