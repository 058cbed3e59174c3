"""Scenarios as files: what is read, what is refused in one line, and what the verb prints and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from evaluation.simulate.frontier import FrontierSpec
from evaluation.simulate.mapping import read_mapping
from evaluation.simulate.scenario import ScenarioSpec, read, scenario_of
from evaluation.simulate.staffing_spec import StaffingSpec
from twotower.cli import main
from twotower.errors import ConfigError

CENTRE: dict[str, Any] = {
    "interval_minutes": 60,
    "classes": [
        {"name": "cards", "an_hour": 20, "handle_minutes": 5, "language": "en", "patience": {"mean_minutes": 5}},
        {"name": "fraud", "an_hour": 6, "handle_minutes": 9, "hard": 1, "resolved": 0.5, "language": "es"},
    ],
    "groups": [
        {"name": "all", "csas": 3, "skills": {"cards": None, "fraud": None}},
        {"name": "some", "csas": 1, "skills": {"cards": {"after_s": 30, "resolved": 0.9}}, "shifts": ["08:00-12:00"]},
    ],
    "spread": {"resolved": 0.5, "handle": 0.1},
}


def scenario(**changes: Any) -> dict[str, Any]:
    return {"name": "small", "centre": CENTRE, "policies": ["fifo", "skills"], "replications": 3, **changes}


def written(folder: Path, spec: dict[str, Any]) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_a_file_becomes_a_centre(tmp_path: Path) -> None:
    found = scenario_of(read(written(tmp_path, scenario()), ScenarioSpec))
    centre = found.trial.centre
    assert centre.classes == ("cards", "fraud")
    assert centre.csas == ("all 1", "all 2", "all 3", "some 1")
    assert centre.rates.shape == (2, 24)
    assert set(centre.rates[0]) == {20.0}
    assert not centre.can[1, 3]
    assert centre.can[0].all()
    assert centre.staffed_s(0, 24 * 3600).tolist() == [86400, 86400, 86400, 4 * 3600]
    # Nobody of a group is like another, but on average they are as the file says.
    assert len(set(centre.handle_s[0])) == 4
    assert found.trial.rules[1].after_s == (0.0, 30.0)
    assert found.trial.rules[1].level is not None
    assert found.trial.rules[1].level.tolist() == [
        [0, 0, 0, 1],
        [0, 0, 0, -1],
    ]


def test_the_spread_changes_no_mean(tmp_path: Path) -> None:
    many = {**CENTRE, "groups": [{"name": "all", "csas": 4000, "skills": {"cards": None, "fraud": None}}]}
    centre = scenario_of(read(written(tmp_path, scenario(centre=many)), ScenarioSpec)).trial.centre
    assert np.mean(centre.handle_s[0]) == pytest.approx(300, rel=0.01)
    logit = np.log(centre.success[1] / (1 - centre.success[1]))
    assert np.mean(logit) == pytest.approx(0, abs=0.03)
    assert np.std(logit) == pytest.approx(0.5, rel=0.05)


def test_a_load_scales_arrivals(tmp_path: Path) -> None:
    found = scenario_of(read(written(tmp_path, scenario(centre={**CENTRE, "load": 0.8})), ScenarioSpec))
    assert found.trial.centre.load() == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"replication": 3}, "replication: no such field; did you mean replications?"),
        ({"replications": 0}, "replications: Input should be greater than or equal to 1; given was '0'"),
        ({"policies": ["fifi"]}, "'fifi'"),
        ({"policies": []}, "policies: Tuple should have at least 1 item"),
        ({"policies": ["fifo", "fifo"]}, "two policies are called 'FIFO, longest idle'; name them apart"),
        ({"policies": [{"policy": "c_mu", "cost": {"card": 1}}]}, "c_mu: cost: no class is called 'card'"),
        ({"policies": [{"policy": "sets", "cap": 1.5}]}, "cap: Input should be less than or equal to 1"),
        (
            {"policies": [{"policy": "sets", "window_s": 5, "least_window_s": 9}]},
            "least_window_s of 9 is above window_s of 5",
        ),
        ({"warm_up_hours": 30}, "a warm-up of 108000 s; 0 to less than the horizon of 86400 s expected"),
        ({"centre": {**CENTRE, "interval_minutes": 7}}, "centre.interval_minutes: 7; a part of a day expected"),
        ({"centre": {**CENTRE, "groups": []}}, "centre.groups: Tuple should have at least 1 item"),
        ({"centre": {**CENTRE, "groups": [{"name": "a", "csas": 0, "skills": {}}]}}, "no CSA in any"),
        ({"centre": {**CENTRE, "groups": [{"name": "a", "csas": -1, "skills": {}}]}}, "csas: Input should be greater"),
        (
            {"centre": {**CENTRE, "groups": [{"name": "a", "csas": 1, "skills": {"loans": None}}]}},
            "centre.groups 'a': skills: no class is called 'loans'; there are cards, fraud",
        ),
        (
            {
                "centre": {
                    **CENTRE,
                    "classes": [CENTRE["classes"][0], {"name": "fraud", "an_hour": [1, 2], "handle_minutes": 1}],
                }
            },
            "centre.classes 'fraud': an_hour of 2 intervals; 24 in a day expected",
        ),
        (
            {"centre": {**CENTRE, "classes": [{"name": "a", "an_hour": -1, "handle_minutes": 1}]}},
            "Input should be greater than or equal to 0",
        ),
        (
            {"centre": {**CENTRE, "classes": [{"name": "a", "an_hour": 1, "handle_minutes": 0}]}},
            "handle_minutes: Input should be greater than 0",
        ),
        ({"policies": [{"policy": "bundle", "bundle": "x"}]}, "needs contacts with texts; give the centre `tables`"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    path = written(tmp_path, scenario(**change))
    assert main(["simulate", "--config", str(path), "--output", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_what_is_no_file_of_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        read(tmp_path / "none.yaml", ScenarioSpec)
    (tmp_path / "bad.yaml").write_text("centre: [")
    with pytest.raises(ConfigError, match=r"bad\.yaml: not YAML"):
        read(tmp_path / "bad.yaml", ScenarioSpec)
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match=r"list\.yaml: the file: Input should be a valid dictionary"):
        read(tmp_path / "list.yaml", ScenarioSpec)


def test_the_verb_prints_a_table_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, scenario())
    assert main(["simulate", "--config", str(path), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "small: 2 classes, 4 CSAs, 24 h" in printed
    assert "skills with overflow" in printed
    page = (tmp_path / "out" / "report.html").read_text()
    for title in ("What each policy reaches", "Who waits longer than", "Fairness by CSA", "Through the day"):
        assert title in page
    assert "Fairness by the customer&#x27;s language" in page
    assert page.count("<svg") == 5
    assert "<script" not in page
    assert "http-equiv" not in page
    assert 'src="' not in page
    figures = json.loads((tmp_path / "out" / "simulation.json").read_text())
    fifo, skills = figures["policies"].values()
    assert figures["replications"] == 3
    more = skills["more than FIFO, longest idle"]["resolved"]["mean"]
    assert more == pytest.approx(skills["figures"]["resolved"]["mean"] - fifo["figures"]["resolved"]["mean"])
    assert main(["simulate", "--config", str(path), "--output", str(tmp_path / "out")]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_seed_and_a_number_of_replications_are_those_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, found = written(tmp_path, scenario()), []
    for words in (["--seed", "0"], ["--seed", "0"], ["--seed", "1"]):
        assert main(["simulate", "--config", str(path), "--replications", "2", "--json", *words]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] != found[2]
    assert found[0]["replications"] == 2


def test_the_warnings_name_who_nobody_can_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lone = {"name": "loans", "an_hour": 1, "handle_minutes": 5, "patience": {"mean_minutes": 3}}
    path = written(tmp_path, scenario(centre={**CENTRE, "classes": [*CENTRE["classes"], lone]}))
    assert main(["simulate", "--config", str(path), "--replications", "1"]) == 0
    assert "nobody can take loans: such contacts wait until they abandon" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "spec"),
    [("simulate", ScenarioSpec), ("replay", ScenarioSpec), ("staffing", StaffingSpec), ("frontier", FrontierSpec)],
)
def test_what_ships_is_read(name: str, spec: type[BaseModel]) -> None:
    found = read(Path(__file__).parents[3] / "configs" / f"{name}.yaml", spec)
    assert found.model_dump()["centre"]


def test_a_mapping_that_ships_is_read() -> None:
    assert read_mapping(Path(__file__).parents[3] / "configs" / "anonymousbank.yaml")
