"""Expected outcomes of pairs, and one ranking from stated weights: sums, bounds, and one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from twotower.errors import BundleError, ConfigError
from twotower.scoring.outcomes import NAMES, Head, Outcomes
from twotower.scoring.utility import Utility, from_mapping, read_utility

EXAMPLE = Path(__file__).parents[3] / "configs" / "utility.yaml"
HEADS = Outcomes((Head(0.3, 0.8), Head(0.02, 0.01), Head(-0.1, 0.4), Head(-0.05, 0.1)))
LEVEL = np.array([3.9, 0.7, 6.0, 0.1], np.float32)


def pairs(count: int = 50, seed: int = 0) -> tuple[Any, Any]:
    """Own parts and fits of some CSAs."""
    rng = np.random.default_rng(seed)
    own = (rng.standard_normal((count, 4)) * [0.3, 0.05, 0.3, 0.05]).astype(np.float32)
    return own, rng.standard_normal(count).astype(np.float32)


def test_what_is_expected_is_the_sum_of_its_parts():
    own, fit = pairs()
    found = HEADS.expected(LEVEL, own, fit)
    for i in range(50):
        for t in (0, 1, 3):
            head = HEADS.heads[t]
            assert head is not None
            low, high = (1, 5) if t == 0 else (0, 1)
            value = float(LEVEL[t]) + float(own[i, t]) + head.fit * float(fit[i])
            assert found[i, t] == pytest.approx(min(max(value, low), high), rel=1e-5)


def test_the_mean_of_log_normal_times_is_expected_not_their_median():
    rng, outcomes = np.random.default_rng(0), Outcomes((None, None, Head(0.0, 0.36), None))
    times = np.exp(rng.normal(6.0, 0.6, 400_000)) - 1
    found = outcomes.expected(LEVEL, np.zeros((1, 4), np.float32), np.zeros(1, np.float32))[0]
    assert found[2] == pytest.approx(times.mean(), rel=0.01)
    assert np.isnan(found[[0, 1, 3]]).all()


def test_no_expectation_leaves_its_bounds():
    extreme = np.array([[100.0] * 4, [-100.0] * 4], np.float32)
    found = HEADS.expected(LEVEL, extreme, np.zeros(2, np.float32))
    assert found[:, 0].tolist() == [5, 1]
    assert found[:, 1].tolist() == found[:, 3].tolist() == [1, 0]
    assert found[:, 2] == pytest.approx([365 * 86_400, 0], rel=1e-4)


def test_heads_are_read_as_they_were_written():
    some = Outcomes((Head(0.25, 0.5), None, None, Head(-0.125, 0.0)))
    assert Outcomes.from_json(json.loads(json.dumps(some.to_json()))) == some
    assert some.named == ("csat", "transferred")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order": ["csat"]}, "outcomes are csat, expected csat, quality_score, handle_time_s, transferred"),
        ({"heads": {**HEADS.to_json()["heads"], "csat": {"fit": 0.0, "variance": -1.0}}}, "variance -1.0"),
    ],
)
def test_a_section_of_something_else_is_refused(change, said):
    with pytest.raises(BundleError, match=said):
        Outcomes.from_json({**HEADS.to_json(), **change})


def test_as_many_heads_as_targets():
    with pytest.raises(BundleError, match="1 outcome heads, expected 4"):
        Outcomes((None,))


def test_the_utility_is_the_sum_of_what_is_weighed():
    own, fit = pairs()
    expected, p = HEADS.expected(LEVEL, own, fit), np.linspace(0.1, 0.9, 50).astype(np.float32)
    utility = Utility(resolved=2.0, csat=0.5, quality_score=0.25, handle_minutes=-0.1, transferred=-1.5)
    parts, names = utility.parts(p, expected)
    assert names == ("resolved", "csat", "quality_score", "handle_minutes", "transferred")
    for i in range(50):
        csat, quality, seconds, transferred = (float(value) for value in expected[i])
        wanted = 2.0 * float(p[i]) + 0.5 * csat + 0.25 * quality - 0.1 * seconds / 60 - 1.5 * transferred
        assert float(parts[i].sum()) == pytest.approx(wanted, rel=1e-5)


def test_only_what_has_a_weight_is_a_part():
    parts, names = Utility(resolved=0, handle_minutes=-1).parts(None, np.full((3, 4), 120.0, np.float32))
    assert names == ("handle_minutes",)
    assert parts.tolist() == [[-2.0]] * 3


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("resolved=1,csat=0.1,handle_minutes=-0.02", Utility(1.0, 0.1, 0.0, -0.02)),
        (" csat = 2 ", Utility(csat=2.0)),
        ("resolved=0, transferred=-1e-1", Utility(resolved=0.0, transferred=-0.1)),
    ],
)
def test_weights_are_read_from_a_command_line(text, wanted):
    assert read_utility(text) == wanted


def test_the_example_is_read_and_names_every_weight():
    found = read_utility(str(EXAMPLE))
    assert found == Utility(1.0, 0.1, 0.0, -0.02, -0.1)
    assert list(yaml.safe_load(EXAMPLE.read_text())) == list(vars(found))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("csat", "'csat': name=weight was expected"),
        ("csat=0.1,,resolved=1", "'': name=weight was expected"),
        ("=1", "'=1': name=weight was expected"),
        ("csat=high", "csat: a number was expected, got 'high'"),
        ("csat=nan", "csat: a number was expected, at most 1e[+]12, got nan"),
        ("csat=1e30", "csat: a number was expected, at most 1e[+]12, got 1e[+]30"),
        ("csat=1,csat=2", "csat is given twice"),
        ("handle_time=-1", "'handle_time' is not known; there are resolved, csat, quality_score, handle_minutes"),
        ("handle_minutes=0.02", "handle_minutes: 0.02 would prefer more of it"),
        ("transferred=1", "transferred: 1 would prefer more of it"),
        ("csat=-1", "csat: -1 would prefer less of it"),
        ("resolved=0", "all weights are 0"),
        ("nowhere.yaml", r"nowhere.yaml: cannot be read \(No such file"),
    ],
)
def test_weights_that_cannot_be_are_refused_in_a_line(text, said):
    with pytest.raises(ConfigError, match=said):
        read_utility(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- csat", "expected name: weight"),
        ("csat: '1'", "csat: a number was expected, at most 1e[+]12, got '1'"),
        (
            "csat: 1" + 400 * "0",
            "csat: a number was expected, at most 1e[+]12, got a whole number of more than 60 digits",
        ),
        ("csat: true", "csat: a number was expected, at most 1e[+]12, got True"),
        ("1: 2", "1 is not known"),
        ("csat: [", "is no YAML file"),
    ],
)
def test_a_bad_file_is_named(content, said, tmp_path):
    (tmp_path / "mine.yml").write_text(content)
    with pytest.raises(ConfigError, match=said) as refused:
        read_utility(str(tmp_path / "mine.yml"))
    assert str(refused.value).startswith(str(tmp_path / "mine.yml"))
    assert "\n" not in str(refused.value)


def test_an_empty_file_is_success(tmp_path):
    (tmp_path / "none.yaml").write_text("")
    assert read_utility(str(tmp_path / "none.yaml")) == Utility() == from_mapping({})
    assert Utility().by_success_alone
    assert Utility(resolved=3).by_success_alone
    assert not Utility(csat=1e-9).by_success_alone


def test_a_bundle_must_tell_what_is_weighed():
    few = Outcomes((Head(0.3, 0.8), None, None, None))
    Utility(csat=1).check(few, calibrated=True)
    Utility(resolved=0, csat=1).check(few, calibrated=False)
    with pytest.raises(
        BundleError, match=r"handle_minutes has a weight, but .* no head for handle_time_s \(it has csat\)"
    ):
        Utility(handle_minutes=-1).check(few, calibrated=True)
    with pytest.raises(BundleError, match=r"csat has a weight, .* \(it has none\)"):
        Utility(csat=1).check(Outcomes(), calibrated=True)
    with pytest.raises(BundleError, match="resolved has a weight, but this bundle's log had no failures"):
        Utility().check(HEADS, calibrated=False)


def test_the_names_of_targets_are_the_columns_of_the_contract():
    assert NAMES == ("csat", "quality_score", "handle_time_s", "transferred")
