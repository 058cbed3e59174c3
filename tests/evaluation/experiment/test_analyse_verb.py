"""`twotower experiment analyse` as its action: files in, a report out, one line for what is wrong."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from evaluation.experiment.analyse_verb import OPTIONS, analyse_action, configure_analyse
from evaluation.experiment.plan import write_plan
from tests.evaluation.experiment.made import World, make, plan_of
from tests.evaluation.experiment.made_tables import write
from twotower.errors import ConfigError, DataError, OutputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """plan.yaml, schedule.parquet beside it, and tables."""
    made = make(plan_of(), World(contacts=4000, effect=0.15))
    root = tmp_path_factory.mktemp("verb")
    write_plan(made.plan, root / "plan.yaml")
    made.schedule.to_parquet(root / "schedule.parquet")
    write(made, root / "data")
    return root


def args(folder, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    configure_analyse(parser)
    parser.add_argument("--output")
    return parser.parse_args(["--plan", f"{folder}/plan.yaml", "--data", f"{folder}/data", *more])


def test_the_options_are_those_that_it_declares(folder):
    assert set(vars(args(folder))) == set(OPTIONS)
    assert [name for name, needed in OPTIONS.items() if needed] == ["plan", "data"]


def test_it_writes_a_report_and_says_what_to_do(folder, tmp_path):
    found = analyse_action(args(folder, "--output", f"{tmp_path}/out"))
    assert found.ok
    assert "Resolution was" in found.text
    assert found.text.endswith(f"report: {tmp_path}/out/report.html")
    assert found.data["output"] == f"{tmp_path}/out"
    assert json.loads((tmp_path / "out" / "analysis.json").read_text())["verdict"] == found.data["verdict"]
    assert (tmp_path / "out" / "report.html").stat().st_size > 50_000


def test_an_interim_look_is_asked_for_by_its_moment(folder):
    found = analyse_action(args(folder, "--at", "2026-03-09T00:00:00Z"))
    assert found.data["look"] == "2026-03-09T00:00:00Z"
    whole = analyse_action(args(folder))
    assert found.data["found"]["primary"]["contacts"] < whole.data["found"]["primary"]["contacts"]


def test_another_schedule_may_be_named(folder, tmp_path):
    (folder / "schedule.parquet").rename(tmp_path / "other.parquet")
    try:
        with pytest.raises(DataError, match=r"schedule\.parquet: cannot be read as Parquet .*give --schedule"):
            analyse_action(args(folder))
        assert analyse_action(args(folder, "--schedule", f"{tmp_path}/other.parquet")).ok
    finally:
        (tmp_path / "other.parquet").rename(folder / "schedule.parquet")


def test_a_refusal_is_a_report_that_is_not_ok(folder, tmp_path):
    text = (folder / "plan.yaml").read_text().replace("- fifo", "- another")
    (tmp_path / "plan.yaml").write_text(text)
    given = args(folder, "--schedule", f"{folder}/schedule.parquet", "--output", f"{tmp_path}/out")
    given.plan = f"{tmp_path}/plan.yaml"
    found = analyse_action(given)
    assert not found.ok
    assert found.data["found"] is None
    assert found.data["refusals"] == (
        "no hand-over in arm 'queue' is by another; there are fifo; correct the arm's policies in the plan",
    )
    assert "No answer: " in found.text
    assert "points" not in found.text
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        (("--at", "yesterday"), ConfigError, "--at: 'yesterday' is no time"),
        (("--plan", "nowhere.yaml"), ConfigError, "nowhere.yaml: cannot be read"),
        (("--data", "nowhere"), DataError, "nowhere"),
    ],
)
def test_bad_input_is_one_line(folder, more, error, said):
    with pytest.raises(error, match=said) as raised:
        analyse_action(args(folder, *more))
    assert "\n" not in str(raised.value)


def test_a_report_is_not_written_over(folder, tmp_path):
    with pytest.raises(OutputError, match="exists already"):
        analyse_action(args(folder, "--output", str(tmp_path)))


def test_the_module_of_the_options_loads_nothing_heavy():
    loaded = (
        "import sys; import evaluation.experiment.analyse_verb\n"
        "heavy = {'pandas', 'scipy', 'statsmodels', 'tea_tasting', 'matplotlib', 'pydantic', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
