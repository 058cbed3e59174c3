"""The planned experiment on the user's own last days, played again."""

from __future__ import annotations

import json

import pytest

from evaluation.experiment.design import designed
from evaluation.experiment.design_history import read_history
from evaluation.experiment.design_html import html_report
from evaluation.experiment.design_replay import replayed
from evaluation.experiment.design_spec import Asked
from evaluation.experiment.design_text import json_report
from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from twotower.errors import BundleError, ConfigError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A generated centre, whose truth is known."""
    folder = tmp_path_factory.mktemp("made") / "centre"
    generate(Settings(3_000, 20, ("en",), 2, days=28), folder)
    return folder


def asked(**replay) -> Asked:
    """Two days of it."""
    again = {"days": 2, "replications": 2, **replay}
    return Asked.model_validate({"effect": 0.1, "show": None, "design": "switchback", "days": 28, "replay": again})


@pytest.fixture(scope="module")
def found(made):
    """A design with them."""
    return designed(asked(outcomes="truth"), made)


def test_the_last_days_are_tried_with_the_truth_beside(found):
    again = found.replayed
    assert again is not None
    assert again.policies == ("first come, longest idle", "best pair by class")
    assert {row.way for row in again.biases} == {"contact", "switchback"}
    resolved = [row for row in again.biases if row.metric == "resolved"]
    assert all(row.truth.mean == resolved[0].truth.mean > 0 for row in resolved)
    assert [one.metric for one in again.carried] == ["resolved", "wait_s", "abandoned"]
    assert any("truth" in line for line in again.notes)
    data = json.loads(json.dumps(json_report(found)))
    assert data["replayed"]["days"] == 2
    assert data["replayed"]["biases"][0]["truth"]["mean"] == resolved[0].truth.mean
    page = html_report(found)
    assert "Your own 2 days" in page
    assert "Why not an A/B test of contacts" in page


def test_outcomes_may_be_a_model_and_patience_as_stated(made, found):
    again = asked(patience_minutes=10).replay
    assert any("patience: as stated" in line for line in replayed(again, found.plan, read_history(made), made).notes)


def test_what_cannot_be_played_is_one_line(made, found):
    history = read_history(made)
    for wrong, kind, said in (
        ({"bundle": "no-such-bundle"}, BundleError, "no-such-bundle"),
        ({"days": 400}, ConfigError, "replay.days: 400; the history has"),
    ):
        with pytest.raises(kind, match=said) as told:
            replayed(asked(**wrong).replay, found.plan, history, made)
        assert "\n" not in str(told.value)
