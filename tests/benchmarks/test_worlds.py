"""Every objective on every world: what is counted, what is skipped, and an interrupted run that goes on."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.truth import Truth
from twotower.tables.log import Log

NAIVE = Path(__file__).resolve().parents[2] / "configs" / "naive.yaml"
ARGS = Namespace(contacts=800, csas=14, eligible=6.0)


@pytest.fixture
def worlds() -> ModuleType:
    return import_module("worlds")


@pytest.fixture
def tables() -> ModuleType:
    return import_module("worlds_tables")


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds") / "centre"
    generate(Settings(1500, 30, seed=2, eligible=8, joiners=0.4, joiner_contacts=(0, 20)), folder)
    return folder


def toy() -> Any:
    """Two contacts, CSAs 0 to 2; the second contact could not be given to CSA 0."""
    return SimpleNamespace(
        csa=np.array([0, 1, 2, 1, 2]),
        rows=np.array([0, 0, 0, 1, 1]),
        p_resolved=np.array([0.9, 0.5, 0.7, 0.2, 0.6]),
        propensity=np.array([0.5, 0.25, 0.25, 0.75, 0.25]),
    )


def test_captured_is_the_share_of_the_oracles_uplift_over_the_queue(worlds):
    everybody = np.ones(3, bool)
    queue = np.array([0.5 * 0.9 + 0.25 * 0.5 + 0.25 * 0.7, 0.75 * 0.2 + 0.25 * 0.6])
    # CSA 2 first for both contacts.
    expected = (np.array([0.7, 0.6]) - queue).mean() / (np.array([0.9, 0.6]) - queue).mean()
    score = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    assert worlds.captured(toy(), score, everybody) == pytest.approx(expected)
    assert worlds.captured(toy(), toy().p_resolved, everybody) == pytest.approx(1)
    assert worlds.captured(toy(), np.zeros(5), everybody) == pytest.approx(
        (np.array([0.9, 0.2]) - queue).mean() / (np.array([0.9, 0.6]) - queue).mean()
    )


def test_captured_among_some_counts_contacts_that_leave_a_choice_among_them(worlds):
    score = np.array([5.0, 1.0, 0.0, 0.0, 1.0])
    only = np.array([True, True, False])
    # The second contact has one such CSA; the queue takes the first's two as 2 to 1.
    queue = (2 * 0.9 + 0.5) / 3
    assert worlds.captured(toy(), score, only) == pytest.approx((0.9 - queue) / (0.9 - queue))
    assert worlds.captured(toy(), -score, only) == pytest.approx((0.5 - queue) / (0.9 - queue))
    assert worlds.captured(toy(), score, np.array([True, False, False])) is None


def test_captured_of_everybody_is_what_the_truth_says(worlds, centre):
    truth = Truth.load(centre)
    score = truth.p_resolved + np.random.default_rng(0).normal(0, 0.1, len(truth.csa))
    found = worlds.figures(truth, score, "captured")
    assert found["captured"]["all"] == pytest.approx(truth.captured_by_pairs(score).captured)
    counts = worlds.handovers_before(truth)
    there = np.unique(truth.csa)
    assert found["csas"] == {
        "all": len(there),
        "warm": (counts[there] > 50).sum(),
        "cold": (counts[there] <= 20).sum(),
        "new": (counts[there] == 0).sum(),
    }
    assert found["csas"]["new"] >= 3


def test_scores_go_to_the_pairs_they_belong_to(worlds, centre):
    log, truth = Log.load(centre), Truth.load(centre)

    class Known:
        """Scores that name their pair."""

        name = "known"
        rolling = SimpleNamespace(log=log)

        def scores(self, log: Log, positions: Any) -> Any:
            return (positions[:, None] * 1000 + np.arange(len(log.csas))).astype(np.float32)

        def p_resolved(self, log: Log, positions: Any) -> Any:
            return self.scores(log, positions) / 1e7

    score, p = worlds.said(Known(), truth)
    contact = log.contacts.ids.take(pa.array(score.astype(np.int64) // 1000)).to_pylist()
    csa = log.csas.ids.take(pa.array(score.astype(np.int64) % 1000)).to_pylist()
    assert contact == truth.latents.contact_id[truth.contact[truth.rows]].tolist()
    assert csa == truth.latents.csa_id[truth.csa].tolist()
    np.testing.assert_allclose(p, score / 1e7, rtol=1e-6)


def test_the_calibration_error_is_against_true_probabilities(worlds):
    true = np.random.default_rng(0).uniform(0.2, 0.8, 5000)
    assert worlds.calibration_error(true, true) == pytest.approx(0, abs=1e-12)
    assert worlds.calibration_error(true + 0.07, true) == pytest.approx(0.07)


def test_where_only_successes_are_logged_the_ceiling_sees_the_failures_too(worlds, tmp_path):
    settings = Settings(1500, 20, seed=1, eligible=8)
    generate(settings, tmp_path / "whole")
    whole = worlds.ceiling_of(settings, tmp_path / "whole")
    only = worlds.replace(settings, resolved_only=True)
    generate(only, tmp_path / "successes")
    np.testing.assert_array_equal(worlds.ceiling_of(only, tmp_path / "successes"), whole)


def test_every_world_differs_from_the_default_in_what_it_says(worlds):
    for seed, world in enumerate(worlds.WORLDS):
        settings = worlds.Cell(world, "sigmoid", seed).settings(Namespace(contacts=15_000, csas=120, eligible=25.0))
        plain = Settings(15_000, 120, seed=seed)
        different = {name for name, value in vars(settings).items() if value != getattr(plain, name)}
        assert different == {name for name in worlds.WORLDS[world] if name != "joiner_contacts"}
    args = Namespace(contacts=15_000, csas=80, eligible=25.0)
    assert worlds.Cell("scarce", "sigmoid", 0).settings(args).contacts == 4000


def test_the_naive_objective_is_the_naive_configuration(worlds):
    naive = yaml.safe_load(NAIVE.read_text())
    own = dict(word.removeprefix("--").split("=") for word in worlds.OBJECTIVES["in_batch"])
    assert own["data.objective"] == naive["data"]["objective"]
    assert int(own["data.batch_size"]) == naive["data"]["batch_size"]
    assert int(own["early_stopping.patience"]) == naive["early_stopping"]["patience"]


def test_an_objective_that_cannot_apply_is_left_out_with_the_reason(worlds):
    [row], text = worlds.measure(worlds.Cell("successes", "sigmoid-gradient", 0), ARGS, [])
    assert "needs" in row["left_out"]
    assert row["automatic"] == "corrected_softmax"
    assert "captured" not in row
    assert text == "successes/sigmoid-gradient/0: left out, the log has successes only"


def test_a_cell_is_generated_trained_exported_and_scored(worlds):
    quick = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.towers.view_dim=32"]
    [row], text = worlds.measure(worlds.Cell("cold", "sigmoid", 1), ARGS, quick)
    assert row["automatic"] == row["run"]["objective"] == "sigmoid"
    assert row["settings"]["centre"]["joiners"] == 0.45
    assert -1 < row["captured"]["all"] < row["ceiling"]["all"] < 1
    assert 0 < row["calibration_error"] < 0.5
    assert text.startswith(f"cold/sigmoid/1: captured {row['captured']['all']:.3f}, calibration error")
    assert json.loads(json.dumps(row)) == row


def run(monkeypatch: pytest.MonkeyPatch, script: ModuleType, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["worlds.py", *words])
    try:
        script.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def fake(script: ModuleType, cell: Any, args: Namespace, options: list[str], value: float) -> tuple[Any, str]:
    groups = {"all": value, "warm": value + 0.1, "cold": None}
    row = {
        "cell": cell.name, **vars(cell), "settings": cell.key(args, options), "automatic": "sigmoid",
        "captured": groups, "ceiling": {"all": 0.8, "warm": 0.9, "cold": None}, "csas": dict.fromkeys(groups, 9),
        "calibration_error": 0.05 if "sigmoid" in cell.objective else None,
    }  # fmt: skip
    return [row], cell.name


def test_an_interrupted_run_goes_on_where_it_was(worlds, monkeypatch, tmp_path, capsys):
    output, done = tmp_path / "worlds.json", []

    def measure(cell: Any, args: Namespace, options: list[str]) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(cell.name)
        return fake(worlds, cell, args, options, 0.4)

    monkeypatch.setattr(worlds, "measure", measure)
    words = ["--worlds", "default", "drift", "--objectives", "sigmoid", "in_batch", "--seeds", "0", "1"]
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, worlds, *words, "--output", str(output))
    assert done == ["default/sigmoid/0", "default/in_batch/0", "drift/sigmoid/0"]
    assert {row["cell"] for row in json.loads(output.read_text())["cells"]} == set(done)
    done.clear()
    done.append("")
    done.append("")
    with pytest.raises(KeyboardInterrupt):  # one further cell
        run(monkeypatch, worlds, *words, "--output", str(output))
    assert done[2:] == ["drift/in_batch/0"]
    assert "3 of 8 cells are in" in capsys.readouterr().err


def test_cells_of_other_settings_are_measured_again_and_others_stay(worlds, monkeypatch, tmp_path, capsys):
    output, seen = tmp_path / "worlds.json", []

    def measure(cell: Any, args: Namespace, options: list[str]) -> Any:
        seen.append((cell.name, args.contacts, tuple(options)))
        return fake(worlds, cell, args, options, 0.4)

    monkeypatch.setattr(worlds, "measure", measure)
    common = ["--objectives", "sigmoid", "--seeds", "0", "--output", str(output)]
    assert run(monkeypatch, worlds, "--worlds", "default", "drift", *common) == 0
    assert run(monkeypatch, worlds, "--worlds", "default", "--contacts", "900", *common) == 0
    assert run(monkeypatch, worlds, "--worlds", "default", "--contacts", "900", "--trainer.max_epochs=2", *common) == 0
    assert run(monkeypatch, worlds, "--worlds", "drift", *common) == 0
    assert seen == [
        ("default/sigmoid/0", 7500, ()),
        ("drift/sigmoid/0", 7500, ()),
        ("default/sigmoid/0", 900, ()),
        ("default/sigmoid/0", 900, ("--trainer.max_epochs=2",)),
    ]
    assert len(json.loads(output.read_text())["cells"]) == 2


def test_a_cell_that_fails_is_told_and_the_others_are_reported(worlds, monkeypatch, capsys):
    def measure(cell: Any, args: Namespace, options: list[str]) -> Any:
        if cell.objective == "in_batch":
            raise ValueError("no such thing")
        return fake(worlds, cell, args, options, 0.4)

    monkeypatch.setattr(worlds, "measure", measure)
    assert run(monkeypatch, worlds, "--worlds", "default", "--seeds", "0", "--objectives", "sigmoid", "in_batch") == 1
    out, err = capsys.readouterr()
    assert err.startswith("cell default/in_batch/0 failed: ValueError: no such thing")
    assert "captured" in out


def test_intervals_are_t_intervals(tables):
    found = tables.over_seeds([1.0, 2.0, 3.0])
    assert (found.value, found.high - found.value) == (2.0, pytest.approx(4.302653 / 3**0.5))
    assert found.value - found.low == pytest.approx(found.high - found.value)
    assert np.isnan(tables.over_seeds([1.0]).low)
    assert np.isnan(tables.over_seeds([]).value)


def example() -> list[dict[str, Any]]:
    """Two worlds, two seeds: b leads in one; in the other a does not apply."""
    rows = []
    for world, objective, values in (
        ("default", "a", (0.4, 0.5)), ("default", "b", (0.5, 0.7)),
        ("hard", "a", None), ("hard", "b", (0.2, 0.4)), ("hard", "c", (0.1, 0.2)), ("default", "c", (0.0, 0.1)),
    ):  # fmt: skip
        for seed in (0, 1):
            chosen = "a" if world == "default" else "b"
            row: dict[str, Any] = {"world": world, "objective": objective, "seed": seed, "automatic": chosen}
            if values is None:
                rows.append(row | {"left_out": "cannot apply"})
                continue
            groups = {"all": values[seed], "warm": None, "cold": values[seed] / 2}
            error = 0.1 if objective == "a" else None
            rest = {"csas": dict.fromkeys(groups, 7), "calibration_error": error}
            rows.append(row | {"captured": groups, "ceiling": {"all": 0.8, "warm": None, "cold": 0.5}} | rest)
    return rows


def test_the_tables_say_what_was_measured_and_a_dash_where_nothing_was(tables):
    text = tables.report(example(), ["default", "hard"], ["a", "b", "c"])
    captured, warm, cold, errors, overall, chosen = text.split("\n\n")
    assert captured.splitlines()[0].split() == ["captured", "a", "b", "c", "ceiling", "CSAs"]
    assert captured.splitlines()[1].startswith("default   0.450 ±0.635  0.600 ±1.271")
    assert captured.splitlines()[2].split()[:2] == ["hard", "–"]
    assert warm.splitlines()[1].split() == ["default", "–", "–", "–", "–", "7"]
    assert "0.225" in cold
    assert [line.split()[-1] for line in errors.splitlines()[1:]] == ["±0.000", "–"]
    # Only the default world has all three: 0.6 / 0.8 and 0.45 / 0.8.
    assert [line.split()[:2] for line in overall.splitlines()[1:]] == [["b", "0.750"], ["a", "0.562"], ["c", "0.062"]]
    default, hard = (line.split() for line in chosen.splitlines()[1:])
    assert default[:2] + default[4:6] == ["default", "a", "b", "-0.150"]
    assert hard[:2] + hard[4:6] == ["hard", "b", "c", "+0.150"]


def test_tables_of_an_unfinished_run(tables):
    rows = [row for row in example() if row["seed"] == 0 and row["objective"] != "c"]
    text = tables.report(rows, ["default", "hard", "later"], ["a", "b", "c"])
    assert "no world in which every objective was measured" in text
    assert "later" not in text
    assert tables.report([], ["default"], ["a"]) == "nothing was measured"
