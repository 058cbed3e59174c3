"""The simulated centre is the generated one, nobody learns what is not known yet, and figures are what they say."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from sklearn.linear_model import Ridge

from evaluation.generate.latents import sigmoid
from serve.explore import Explorer
from serve.explore_options import Exploration

KEY = bytes(32)
SMALL = {"contacts": 2_500, "csas": 24, "eligible": 6.0, "joiners": 0.4, "days": 20}


@pytest.fixture(scope="module")
def modules() -> Any:
    """The benchmark's modules, imported as scripts beside each other are."""
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    yield import_module("exploration_centre"), import_module("exploration")
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def world(modules: tuple[ModuleType, ModuleType]) -> ModuleType:
    return modules[0]


@pytest.fixture(scope="module")
def script(modules: tuple[ModuleType, ModuleType]) -> ModuleType:
    return modules[1]


@pytest.fixture(scope="module")
def centre(world: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return world.Centre.draw(tmp_path_factory.mktemp("world") / "centre", **SMALL, seed=3)


@pytest.fixture(scope="module")
def start(world: ModuleType, centre: Any) -> Any:
    return world.Learner.experienced(centre)


def run(world: ModuleType, centre: Any, start: Any, **options: Any) -> Any:
    return world.simulate(centre, start, Explorer(Exploration(**options), KEY))


def test_joiners_have_no_history_and_are_hired_when_it_ends(centre: Any) -> None:
    there = np.unique(np.concatenate([centre.eligible.row(i) for i in [*np.concatenate(centre.days), *centre.after]]))
    assert centre.joiner[there].sum() == round(SMALL["joiners"] * len(there))
    assert not centre.joiner[centre.csa].any()
    first = centre.latents.arrived_at[centre.days[0][0]]
    assert (centre.latents.hired_at[centre.joiner] > centre.latents.arrived_at[centre.contact[-1]]).all()
    assert centre.latents.arrived_at[centre.contact].max() < first
    assert len(centre.days) == SMALL["days"]


def test_one_outcome_moves_beliefs_to_the_moments_of_the_posterior(centre: Any, start: Any) -> None:
    contact, csa = int(centre.days[0][0]), int(np.flatnonzero(centre.joiner)[0])
    for resolved in (True, False):
        learner = start.copy()
        [mean], [sd] = learner.predict(contact, np.array([csa]))

        def weight(z: float, power: int, resolved: bool = resolved, mean: float = mean, sd: float = sd) -> float:
            likelihood = float(sigmoid(np.array(z if resolved else -z)))
            return likelihood * z**power * float(np.exp(-0.5 * ((z - mean) / sd) ** 2))

        moments = [quad(weight, mean - 9 * sd, mean + 9 * sd, args=(k,))[0] for k in range(3)]
        learner.learn(contact, csa, resolved)
        [after], [left] = learner.predict(contact, np.array([csa]))
        expected = moments[1] / moments[0]
        assert after == pytest.approx(expected, abs=1e-6)
        assert left**2 == pytest.approx(moments[2] / moments[0] - expected**2, abs=1e-6)
        others = np.arange(len(start.mean)) != csa
        assert (learner.mean[others] == start.mean[others]).all()


def test_the_history_tells_who_is_good_at_what(centre: Any, start: Any) -> None:
    seen = np.unique(centre.csa)
    truth = centre.latents.unknowns()[seen]
    error = ((start.mean[seen] - truth) ** 2).mean()
    assert error < ((truth.mean(axis=0) - truth) ** 2).mean()
    narrower = np.linalg.slogdet(start.covariance[seen])[1].max()
    assert narrower < np.linalg.slogdet(start.covariance[centre.joiner])[1].min()


def test_ridge_takes_the_penalty_that_predicts_who_is_left_out(world: ModuleType) -> None:
    random = np.random.default_rng(0)
    inputs = np.column_stack([random.normal(size=(30, 6)), np.ones(30)])
    targets = inputs @ random.normal(size=(7, 2)) + random.normal(0, 2, (30, 2))

    def error(penalty: float) -> float:
        left = []
        for i in range(30):
            rest = np.arange(30) != i
            model = Ridge(alpha=penalty).fit(inputs[rest, :-1], targets[rest])
            left.append(((model.predict(inputs[i : i + 1, :-1]) - targets[i]) ** 2).mean())
        return float(np.mean(left))

    best = min(world.PENALTIES, key=error)
    expected = Ridge(alpha=best).fit(inputs[:, :-1], targets)
    found = world.ridge(inputs, targets)
    assert np.abs(found[:-1].T - expected.coef_).max() < 1e-5
    assert np.abs(found[-1] - expected.intercept_).max() < 1e-5


def test_who_knows_the_truth_loses_nothing(world: ModuleType, centre: Any, start: Any) -> None:
    knowing = start.copy()
    knowing.mean, knowing.covariance = centre.latents.unknowns(), 1e-12 * start.covariance
    found = run(world, centre, knowing, policy="greedy", share=0, uniform=0)
    assert found.regret.max() == pytest.approx(0, abs=1e-6)
    assert found.after.max() == pytest.approx(0, abs=1e-6)
    assert (found.cold == found.newly).all()


def test_nobody_learns_what_is_not_known_yet(
    world: ModuleType, centre: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def learn(self: Any, contact: int, csa: int, resolved: bool) -> None:
        told.append(contact)

    def predict(self: Any, contact: int, csas: Any, original: Any = world.Learner.predict) -> Any:
        if contact < centre.after[0]:
            now = centre.latents.arrived_at[contact]
            assert (centre.known_at[told] < now).all()
            earlier = [c for c in np.concatenate(centre.days) if centre.known_at[c] < now]
            assert sorted(told) == sorted(earlier)
        return original(self, contact, csas)

    monkeypatch.setattr(world.Learner, "learn", learn)
    monkeypatch.setattr(world.Learner, "predict", predict)
    run(world, centre, start, policy="greedy", share=0, uniform=0)
    assert len(told) > 300


def test_a_budget_is_kept_and_the_same_run_is_the_same(world: ModuleType, centre: Any, start: Any) -> None:
    before = start.mean.copy(), start.covariance.copy()
    one, two = (run(world, centre, start, policy="thompson", share=0.3, most_loss=0.05) for _ in range(2))
    for name in ("regret", "cold", "newly", "loss", "other", "drawn", "after"):
        assert (getattr(one, name) == getattr(two, name)).all()
    assert (start.mean == before[0]).all()
    assert (start.covariance == before[1]).all()
    assert 0 < one.loss.max() <= 0.05
    assert not one.other[~one.drawn].any()
    assert one.drawn.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / len(one.drawn)))
    assert (one.regret >= 0).all()
    assert len(one.regret) == sum(len(day) for day in centre.days)


def test_outcomes_come_as_often_as_the_truth_says(world: ModuleType, centre: Any, start: Any) -> None:
    expected, found = [], []
    for contact in np.concatenate(centre.days):
        _, p = world.pairs(centre, int(contact))
        offset = centre.eligible.offsets[contact]
        expected += p.tolist()
        found += (centre.luck[offset : offset + len(p)] < p).tolist()
    assert np.mean(found) == pytest.approx(np.mean(expected), abs=4 * np.sqrt(0.25 / len(found)))


def test_intervals_are_students(script: ModuleType) -> None:
    centre, half = script.interval([1.0, 2.0, 4.0, 5.0, 8.0])
    assert centre == 4
    assert half == pytest.approx(2.776445 * np.std([1, 2, 4, 5, 8], ddof=1) / np.sqrt(5), rel=1e-5)
    assert np.isnan(script.interval([3.0])[1])


def test_figures_are_printed_written_and_drawn(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    output, plot = tmp_path / "figures.json", tmp_path / "figure.svg"
    words = [*options, "--seeds", "5", "6", "--output", str(output), "--plot", str(plot)]
    monkeypatch.setattr("sys.argv", ["exploration.py", *words])
    script.main()
    found = json.loads(output.read_text())
    assert found["policies"]["Thompson"]["share"] == 0.1
    assert [(row["seed"], row["policy"]) for row in found["rows"]] == [(s, p) for s in (5, 6) for p in script.POLICIES]
    for row in found["rows"]:
        assert sum(row["daily"]) == pytest.approx(row["regret"], abs=0.02)
        assert row["largest_loss"] <= script.POLICIES[row["policy"]].most_loss
        assert row["explored"] <= row["drawn"]
    said = capsys.readouterr().out
    assert "2 worlds" in said
    assert all(name in said for name in script.POLICIES)
    svg = plot.read_text()
    assert svg.startswith("<svg")
    assert all(name in svg for name in script.POLICIES)
    assert svg == import_module("exploration_plot").plot(found["rows"])
