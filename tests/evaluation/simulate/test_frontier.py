"""Points of a sweep: which no other beats, which a rule takes, and what is said where it takes none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from evaluation.simulate.figures import NAMES
from evaluation.simulate.frontier import ChoiceSpec, Frontier, FrontierSpec, choose, dominates, frontier, points_of
from evaluation.simulate.frontier_report import html_report, json_of, outer, text_report
from evaluation.simulate.replicate import Comparison
from evaluation.simulate.scenario import read
from twotower.cli import main
from twotower.errors import ConfigError

PATIENCE = {"mean_minutes": 4}
CENTRE = {
    "classes": [
        {"name": "en", "an_hour": 40, "handle_minutes": 5, "language": "en", "patience": PATIENCE},
        {"name": "es", "an_hour": 20, "handle_minutes": 7, "language": "es", "patience": PATIENCE, "hard": 1},
    ],
    "groups": [
        {"name": "english", "csas": 4, "shifts": ["08:00-14:00"], "skills": {"en": None}},
        {"name": "both", "csas": 4, "shifts": ["08:00-14:00"], "skills": {"en": {"resolved": 0.5}, "es": None}},
    ],
    "spread": {"resolved": 1.0},
}  # fmt: skip
ALIKE = [{"name": name, "an_hour": 10, "handle_minutes": 5} for name in ("en", "es")]
SWEEPS = [{"base": "fifo"}, {"base": {"policy": "greedy"}, "vary": {"age_per_minute": [0, 0.05], "scanned": [1, 4]}}]
RULES = {
    "customers": {"maximise": "resolved", "subject to": {"mean_wait_s": "<= 900"}},
    "csas": {"minimise": "gini_hard", "subject to": {"busiest": "<= 0.01", "level": ">= 0.1"}},
}


def asked(**more: Any) -> FrontierSpec:
    given = {"centre": CENTRE, "sweeps": SWEEPS, "rules": RULES, "replications": 4}
    return FrontierSpec.model_validate(given | more)


@pytest.fixture(scope="module")
def found() -> Frontier:
    return frontier(asked())


def made(**figures: list[list[float]]) -> Comparison:
    """A comparison of points A, B, … by figures of (points, replications)."""
    points = len(next(iter(figures.values())))
    values = np.full((points, len(next(iter(figures.values()))[0]), len(NAMES)), np.nan)
    for name, of in figures.items():
        values[:, :, NAMES.index(name)] = of
    return Comparison(tuple("ABCDE"[:points]), values, ())


def test_the_frontier_is_what_nothing_beats() -> None:
    worth = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.4, 0.5], [0.5, 0.5], [np.nan, 0.2]])
    better = dominates(worth)
    assert (~better.any(axis=0)).tolist() == [True, True, True, False, True, False]
    assert better[2, 3]
    assert not better[2, 4]


def test_points_are_all_combinations_and_say_their_options() -> None:
    names = [one.called("?") for one in points_of(asked())]
    assert names == ["?"] + [f"greedy, age_per_minute {a}, scanned {s}" for a in ("0", "0.05") for s in (1, 4)]


def test_the_frontier_of_a_sweep(found: Frontier) -> None:
    assert found.found.values.shape[:2] == (5, 4)
    assert found.on.any()
    for p in np.flatnonzero(~found.on):
        assert any(
            all(found.means(o)[q] >= found.means(o)[p] if o == "resolved" else found.means(o)[q] <= found.means(o)[p]
                for o in found.objectives)
            for q in range(5) if q != p
        )  # fmt: skip
    assert np.all(~found.on | (found.beaten_by < 0))


def test_a_rule_takes_the_best_within_its_limits(found: Frontier) -> None:
    customers = found.chosen[0]
    assert found.means("resolved")[customers.point] == found.means("resolved").max()
    assert customers.point > 0


def test_a_rule_takes_what_its_limits_leave() -> None:
    of = made(resolved=[[0.8, 0.8], [0.7, 0.7], [0.6, 0.6]], mean_wait_s=[[90.0, 91.0], [50.0, 52.0], [20.0, 22.0]])
    rule = {"maximise": "resolved", "subject to": {"mean_wait_s": "<= 60"}}
    assert choose("who", ChoiceSpec.model_validate(rule), of).point == 1
    rule = {"minimise": "mean_wait_s", "subject_to": {"resolved": ">= 0.7"}}
    assert choose("who", ChoiceSpec.model_validate(rule), of).point == 1
    assert choose("who", ChoiceSpec(minimise="mean_wait_s"), of).point == 2


def test_points_that_are_not_told_apart_are_named() -> None:
    of = made(resolved=[[0.8, 0.7, 0.9], [0.79, 0.72, 0.88], [0.5, 0.4, 0.6]])
    assert choose("who", ChoiceSpec(maximise="resolved"), of).alike == (1,)


def test_a_rule_that_admits_nothing_says_what_is_nearest() -> None:
    of = made(resolved=[[0.8, 0.8], [0.7, 0.7]], mean_wait_s=[[90.0, 90.0], [66.0, 66.0]])
    rule = {"maximise": "resolved", "subject to": {"mean_wait_s": "<= 60", "resolved": ">= 0.6"}}
    none = choose("customers", ChoiceSpec.model_validate(rule), of)
    assert none.point == -1
    assert none.why == (
        "rules 'customers': no point keeps all limits; the nearest is B, whose mean_wait_s of 66 is 6 above the limit "
        "of 60"
    )
    assert "nothing to measure of csat" in choose("who", ChoiceSpec(maximise="csat"), of).why


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sweeps": [{"base": "greedy", "vary": {"agee": [1]}}]}, "sweeps.0: agee"),
        ({"sweeps": [{"base": "greedy", "vary": {"age_per_minute": [-1]}}]}, "age_per_minute: .* was -1"),
        ({"sweeps": [{"base": "nobody"}]}, "sweeps.0: policy"),
        ({"objectives": ["resolvd"]}, "objectives: no figure is called 'resolvd'"),
        ({"sweeps": [{"base": "fifo"}, {"base": "fifo"}]}, "two policies are called"),
        ({"objectives": ["gap_wait_s"], "centre": CENTRE | {"classes": ALIKE}}, "nothing to measure of gap_wait_s"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        frontier(asked(**more))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({}, "maximise or minimise one figure"),
        ({"maximise": "resolved", "minimise": "csat"}, "maximise or minimise one figure"),
        ({"maximise": "resolvd"}, "no figure is called 'resolvd'; did you mean resolved?"),
        ({"maximise": "resolved", "subject to": {"csat": "about 4"}}, "a limit like '<= 60'"),
    ],
)
def test_rules_that_cannot_be_are_refused(tmp_path: Path, rule: dict[str, Any], said: str) -> None:
    config = tmp_path / "frontier.yaml"
    config.write_text(yaml.safe_dump({"centre": CENTRE, "sweeps": SWEEPS, "rules": {"who": rule}}))
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        read(config, FrontierSpec)


def test_the_line_of_the_picture() -> None:
    assert outer(np.array([1.0, 2.0, 3.0, 1.0]), np.array([0.5, 0.4, 0.7, 0.6])) == [3, 2]


def test_the_page_and_the_tables_tell_what_was_found(found: Frontier) -> None:
    text, html, data = text_report(found), html_report(found), json_of(found)
    assert "maximise resolved with mean_wait_s <= 900" in text
    assert "rules 'csas': no point keeps all limits" in text
    assert html.count("<svg") == 1
    assert "customers" in html
    assert data["rules"]["csas"]["takes"] is None
    assert data["rules"]["customers"]["takes"] in data["policies"]
    json.dumps(data, allow_nan=False)


def test_the_verb_writes_and_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = tmp_path / "frontier.yaml", tmp_path / "out"
    given = {"centre": CENTRE, "sweeps": SWEEPS, "rules": {"customers": RULES["customers"]}}
    config.write_text(yaml.safe_dump(given))
    asks = ["simulate", "frontier", "--config", str(config), "--replications", "2"]
    assert main([*asks, "--output", str(out)]) == 0
    assert "report: " in capsys.readouterr().out
    assert json.loads((out / "frontier.json").read_text())["replications"] == 2
    config.write_text(yaml.safe_dump(given | {"rules": RULES}))
    assert main(asks) == 1
    assert "no point keeps all limits" in capsys.readouterr().out


def test_the_example_is_a_question() -> None:
    assert len(points_of(read("configs/frontier.yaml", FrontierSpec))) > 5
