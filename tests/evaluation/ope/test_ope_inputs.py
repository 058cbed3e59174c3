"""What `twotower ope` cannot answer, and bad input in one line."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pyarrow as pa
import pytest

from tests.evaluation.ope import worlds
from tests.evaluation.ope.called import LATE, WINDOW, answer, ope
from twotower.cli import GROUP, run_verb
from twotower.errors import BundleError, ConfigError, DataError, OutputError, TwoTowerError


def test_an_outcome_that_is_never_told(tmp_path: Path) -> None:
    content = worlds.tables(400)
    content = worlds.with_column(content, "interactions", "resolved", pa.nulls(400, pa.bool_()))
    with pytest.raises(
        DataError, match=r"interactions.parquet, column resolved: null in all \d+ hand-overs of the window"
    ):
        ope("--data", worlds.write(content, tmp_path / "d"), "--policy", "uniform", *WINDOW)


def test_an_outcome_that_few_tell(tmp_path: Path) -> None:
    content = worlds.tables()
    few = [3.0 if i % 40 == 0 else None for i in range(2400)]
    data = worlds.write(worlds.with_column(content, "interactions", "csat", few), tmp_path / "d")
    found = answer(ope("--data", data, "--policy", "uniform", "--metric", "csat", *WINDOW), "uniform", "csat")
    assert any("fewer than 100 hand-overs tell csat" in line for line in found["refused"])


def test_outcomes_that_are_known_of_other_contacts_are_told(tmp_path: Path) -> None:
    content = worlds.tables()
    moves = content["interactions"].to_pylist()
    told = [row["resolved"] if row["csa_id"] > "csa-05" or i % 10 < 5 else None for i, row in enumerate(moves)]
    data = worlds.write(worlds.with_column(content, "interactions", "resolved", told), tmp_path / "d")
    notes = answer(ope("--data", data, "--policy", "uniform", *WINDOW), "uniform")["notes"]
    assert any("who is left out differs" in line for line in notes)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ("", ConfigError, "--policy BUNDLE, or --config FILE"),
        ("--policy nobody", ConfigError, "policy 'nobody': is not known; give a bundle's folder, or one of uniform"),
        ("--policy uniform --metric happiness", ConfigError, "metric 'happiness': is not known; there are resolved"),
        ("--policy uniform --estimator magic", ConfigError, "estimator 'magic': is not known; there are ips"),
        ("--policy uniform --draws -1", ConfigError, "draws: Input should be greater than or equal to 0"),
        ("--temperature 1", ConfigError, "--temperature: is of bundles that --policy names"),
        ("--policy uniform --from yesterday", ConfigError, "--from: 'yesterday' is no time"),
        (f"--policy uniform --from {LATE} --to 2028-01-01T00:00:00Z", ConfigError, "no contact from"),
        (f"--policy uniform --from {LATE} --to {worlds.FROM}", ConfigError, "no contact from"),
        ("--policy uniform --logged robot", ConfigError, "--logged 'robot': no hand-over"),
        (f"--policy scores --from {worlds.FROM}", ConfigError, "policy scores: the log has no scores"),
        ("--config nowhere.yaml", ConfigError, "nowhere.yaml: cannot be read"),
    ],
)
def test_bad_input_is_one_line(ope_data: Path, words: str, error: type[TwoTowerError], said: str) -> None:
    with pytest.raises(error, match=said):
        ope("--data", ope_data, *words.split())


def test_a_propensity_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = worlds.tables(300)
    column = content["interactions"]["propensity"].to_pylist()
    column[41] = -0.2
    data = worlds.write(worlds.with_column(content, "interactions", "propensity", column), tmp_path / "d")
    status = run_verb(
        "ope", ["--data", str(data), "--policy", "uniform"], EntryPoint("ope", "evaluation.ope.verb:VERB", GROUP)
    )
    said = capsys.readouterr()
    assert (status, said.out) == (1, "")
    assert said.err.startswith(
        f"twotower ope: {data}/interactions.parquet, row 41, column propensity: is no probability"
    )
    assert said.err.count("\n") == 1


def test_an_output_that_exists(ope_data: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        ope("--data", ope_data, "--policy", "uniform", "--output", tmp_path)


def test_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        ope("--data", tmp_path, "--policy", "uniform")


def test_a_bundle_that_is_not_trusted(ope_data: Path, ope_bundle: Path) -> None:
    with pytest.raises(BundleError):
        ope("--data", ope_data, "--policy", ope_bundle, "--expect-digest", "0" * 64)
