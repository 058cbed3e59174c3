"""`twotower evaluate` on a small bundle: options, warnings, errors, and the model's ranks against the router's own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.ranking import candidate_mask
from evaluation.ranking_model import ModelRanker
from evaluation.verb import VERB
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from tests.serve import fakes
from twotower.cli import Report
from twotower.errors import BundleError, ConfigError, OutputError
from twotower.tables.log import Log


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of thirty days."""
    return fakes.write_tables(fakes.tables(), tmp_path_factory.mktemp("evaluated") / "data")


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle made of the first twenty."""
    place = tmp_path_factory.mktemp("judged")
    return fakes.fake_bundle(fakes.write_run(data, place / "run"), place / "bundle")


def evaluate(*argv: object) -> Report:
    parser = argparse.ArgumentParser()
    VERB.configure(parser)
    return VERB.run(parser.parse_args([str(word) for word in argv]))


def test_the_model_stands_beside_the_baselines(bundle: Path, data: Path, tmp_path: Path) -> None:
    report = evaluate(
        bundle, "--data", data, "--from", "2026-01-22T00:00:00Z", "--rank", "handled", "--output", tmp_path / "r"
    )
    assert list(report.data["metrics"])[:5] == ["bundle", "popularity", "tfidf-knn", "customer", "blend"]
    assert report.data["from"].startswith("2026-01-22")
    assert report.data["rank"] == "handled"
    assert report.data["outcomes"]["bundle"]["auc"]["value"] > 0
    assert not [line for line in report.data["warnings"] if "has seen" in line]
    assert report.ok
    written = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert written["metrics"]["bundle"] == report.data["metrics"]["bundle"]
    assert str(tmp_path / "r") in report.text


def test_the_last_tenth_and_the_bundles_own_rank_are_the_defaults(bundle: Path, data: Path) -> None:
    report = evaluate(bundle, "--data", data)
    assert report.data["contacts"] + report.data["without"] == 16
    assert report.data["rank"] == "success"


def test_a_bundle_that_has_seen_the_test_is_said_to_have(bundle: Path, data: Path) -> None:
    report = evaluate(bundle, "--data", data, "--from", "2026-01-10T00:00:00Z")
    assert report.data["warnings"][0].startswith(
        "bundle was made from data up to 2026-01-21T00:00:00Z, the test begins"
    )
    assert "note: bundle was made from data up to" in report.text


def test_peers_stand_beside_it_under_names_of_their_own(bundle: Path, data: Path) -> None:
    report = evaluate(bundle, "--data", data, "--rank", "handled", "--peer", bundle)
    assert list(report.data["metrics"])[:2] == ["bundle", "bundle (2)"]
    assert report.data["metrics"]["bundle"] == report.data["metrics"]["bundle (2)"]
    assert report.data["ahead"]["bundle (2)"] == {"value": 0, "low": 0, "high": 0}


def test_the_same_input_gives_the_same_report(bundle: Path, data: Path) -> None:
    assert evaluate(bundle, "--data", data).data == evaluate(bundle, "--data", data).data


def test_bad_options_are_one_line_each(bundle: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--from: 'yesterday' is no time"):
        evaluate(bundle, "--data", data, "--from", "yesterday")
    with pytest.raises(ConfigError, match="no contact arrived then or later"):
        evaluate(bundle, "--data", data, "--from", "2030-01-01T00:00:00Z")
    with pytest.raises(BundleError, match="not a bundle"):
        evaluate(tmp_path, "--data", data)
    with pytest.raises(OutputError, match="exists already"):
        evaluate(bundle, "--data", data, "--output", tmp_path)


@pytest.mark.parametrize("rank", ["success", "handled"])
def test_the_ranker_says_what_the_rolling_matcher_says(bundle: Path, data: Path, rank: str) -> None:
    log = Log.load(data)
    positions = np.arange(120, 160)
    model = ModelRanker.load(bundle, log, rank)
    rolling = RollingMatcher(Matcher.load(bundle), log)
    assert np.array_equal(model.scores(log, positions), rolling.scores(positions, rank))
    p, expected = model.p_resolved(log, positions), rolling.p_resolved(positions)
    assert p is not None
    assert expected is not None
    assert np.array_equal(p, expected, equal_nan=True)


def test_model_and_baselines_have_the_same_candidates(bundle: Path, data: Path) -> None:
    log = Log.load(data)
    positions = np.arange(100, 160)
    mask = candidate_mask(log, positions)
    assert mask is not None
    assert np.array_equal(np.isfinite(ModelRanker.load(bundle, log).scores(log, positions)), mask)


def test_the_bundle_is_the_expected_one_and_peers_are_not_asked(bundle: Path, data: Path) -> None:
    digest = Matcher.load(bundle).bundle.manifest.id
    with pytest.raises(BundleError, match="expected 000000000000"):
        evaluate(bundle, "--data", data, "--expect-digest", "0" * 64)
    with pytest.raises(ConfigError, match="whose"):
        evaluate(bundle, "--data", data, "--signature", "none", "--public-key", "")
    report = evaluate(bundle, "--data", data, "--peer", bundle, "--expect-digest", digest)
    assert report.data["contacts"] + report.data["without"] == 16
