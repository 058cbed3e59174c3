"""`twotower experiment design` end to end: the plan, the schedule, the page, and one line for what cannot be."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.experiment.design_history import read_history
from evaluation.experiment.plan import read_plan
from evaluation.experiment.schedule import draw
from evaluation.experiment.spans import spans_of
from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from twotower.cli import run_verb
from twotower.clock import DAY, format_time, parse_time
from twotower.errors import ConfigError

ROOT = Path(__file__).parents[3]
VERB = EntryPoint("experiment", "evaluation.experiment.verb:VERB", "")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A generated centre of six weeks."""
    folder = tmp_path_factory.mktemp("made") / "centre"
    generate(Settings(12_000, 40, ("en",), 3, days=42), folder)
    return folder


def run(*words: object) -> int:
    """The verb."""
    return run_verb("experiment", [str(word) for word in words], VERB)


def quick(folder: Path, **more: object) -> Path:
    """A file without the simulated centre, which takes seconds."""
    path = folder / "asked.yaml"
    path.write_text(json.dumps({"effect": 0.06, "show": None, **more}))
    return path


@pytest.fixture(scope="module")
def planned(made, tmp_path_factory):
    """A folder that the verb wrote, and its file."""
    folder = tmp_path_factory.mktemp("planned")
    config = quick(folder, name="matcher or queue", show={"replications": 2, "days": 1, "loads": [0.9]}, seed=4)
    assert run("design", "--data", made, "--config", config, "--output", folder / "plan") == 0
    return folder / "plan", config


def test_a_plan_and_its_schedule_are_written(made, planned):
    output = planned[0]
    names = sorted(path.name for path in output.iterdir())
    assert names == ["design.json", "plan.yaml", "report.html", "schedule.parquet"]
    plan = read_plan(output / "plan.yaml")
    assert (plan.name, plan.design, plan.seed) == ("matcher or queue", "switchback", 4)
    assert parse_time(plan.begins) > read_history(made).data_end
    assert pd.Timestamp(plan.begins).day_of_week == 0
    assert plan.expected["power"] >= 0.8
    assert plan.primary.smallest_effect == 0.06
    assert {one.metric for one in plan.guardrails} == {"wait_s", "abandoned", "csat", "occupancy", "gini_load"}
    schedule = pd.read_parquet(output / "schedule.parquet")
    pd.testing.assert_frame_equal(schedule, draw(plan, ("centre",)))
    kinds = {field.name: str(field.type) for field in pq.read_schema(output / "schedule.parquet")}
    assert kinds["begins_at"] == "timestamp[us, tz=UTC]"
    assert kinds["pair"] == "int64"
    assert spans_of(plan, schedule).overlap() is None


def test_a_page_is_written_that_needs_nothing_beside_it(planned):
    page = (planned[0] / "report.html").read_text()
    assert "<script" not in page
    assert 'src="http' not in page
    assert page.count("<svg") == 5
    assert "by trying, in the days needed" in page
    assert "guardrails: margins that were widened" in page
    for heading in (
        "Why this design", "How long", "Blocks and wash-out", "Why not an A/B test of contacts",
        "What must not get worse", "What the history says", "The schedule", "What to do, and what not",
    ):  # fmt: skip
        assert f"<h2>{heading}</h2>" in page


def test_the_same_question_has_the_same_answer(made, planned, capsys):
    output, config = planned
    assert run("design", "--data", made, "--config", config, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads((output / "design.json").read_text())
    assert {one["design"] for one in data["options"]} == {"switchback", "cluster", "customer"}
    assert data["history"]["days"] >= 41
    assert data["sure"][0]["days"] == 14
    assert data["biases"][0]["way"] == "contact"
    assert data["carry_over"]["tau"] > 0
    busy = {one["metric"]: one for one in data["guardrails"]}["occupancy"]
    assert 0 < busy["now"] < 1
    assert 0 <= busy["held"] <= 1
    assert 0 < busy["smallest"] < 0.5


def test_json_says_it_all_for_machines(made, tmp_path, capsys):
    assert run("design", "--data", made, "--config", quick(tmp_path), "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["plan"]["primary"]["metric"] == "resolved"
    assert data["like"] is None
    for one in data["options"]:
        assert (one["tried"] is None) == (one["impossible"] is not None)
    [chosen] = [one for one in data["options"] if one["chosen"]]
    [end] = [one for one in data["sure"] if one["days"] == chosen["tried"]["days"]]
    assert end["tried"]["found"] == chosen["tried"]["found"]
    # Margins that nobody gave: in 80 % of experiments that change nothing they are held, and what was widened is said.
    for one in data["guardrails"]:
        assert one["held"] is None or one["held"] >= 0.8
    assert any(one["default_margin"] for one in data["guardrails"])
    assert data["guardrails_said"][0].startswith("margins that were widened")
    margins = {one["metric"]: one["margin"] for one in data["plan"]["guardrails"]}
    assert margins == {one["metric"]: one["margin"] for one in data["guardrails"]}
    assert "output" not in data


def test_options_replace_what_the_file_says(made, tmp_path, capsys):
    config = quick(tmp_path, metric="resolved", alpha=0.1)
    words = ["--metric", "wait_s", "--effect", "900", "--alpha", "0.01", "--design", "switchback", "--days", "28",
             "--block-hours", "6", "--wash-out", "30", "--stopping", "always_valid", "--power", "0.5",
             "--begins", "2026-09-01T06:00:00Z"]  # fmt: skip
    config = quick(tmp_path, metric="resolved", alpha=0.1, first_look="2026-09-08T06:00:00Z", stopping="always_valid")
    assert run("design", "--data", made, "--config", config, "--json", *words) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["primary"]["metric"], plan["primary"]["better"], plan["primary"]["alpha"]) == ("wait_s", "lower", 0.01)
    assert (plan["block_hours"], plan["wash_out_minutes"], plan["begins"]) == (6.0, 30.0, "2026-09-01T06:00:00Z")
    assert plan["stopping"] == {"rule": "always_valid", "first_look": "2026-09-08T06:00:00Z", "tuned": 0.5}


@pytest.fixture(scope="module")
def teams(made, tmp_path_factory):
    """The same with everybody in one of eight teams."""
    folder = tmp_path_factory.mktemp("teams") / "centre"
    shutil.copytree(made, folder)
    csas = pq.read_table(folder / "csas.parquet").to_pandas()
    csas["team"] = [f"team {int(name[1:]) % 8}" for name in csas["csa_id"]]
    schema = pq.read_schema(folder / "csas.parquet")
    pq.write_table(pa.Table.from_pandas(csas, schema, preserve_index=False), folder / "csas.parquet")
    return folder


@pytest.mark.parametrize("design", ["cluster", "customer"])
def test_other_designs_have_plans_too(teams, tmp_path, capsys, design):
    output = tmp_path / design
    words = ["--design", design, "--effect", "0.2", "--days", "28"]
    assert run("design", "--data", teams, "--config", quick(tmp_path, unit="team"), *words, "--output", output) == 0
    capsys.readouterr()
    plan, schedule = read_plan(output / "plan.yaml"), pd.read_parquet(output / "schedule.parquet")
    assert (plan.design, plan.unit) == (design, {"cluster": "team", "customer": "csa"}[design])
    assert schedule["unit"].nunique() == 8 if design == "cluster" else schedule["unit"].nunique() > 20
    assert spans_of(plan, schedule).overlap() is None
    assert (output / "report.html").stat().st_size > 20_000


def test_the_example_is_understood(made, capsys):
    config = ROOT / "configs" / "experiment.yaml"
    run("design", "--data", made, "--config", config, "--effect", "0.08", "--begins", "2027-01-04T00:00:00Z")
    said = capsys.readouterr()
    assert said.err == ""
    assert "2027-01-04T00:00:00Z" in said.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "design: --data is missing"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--data", "{made}"], "design: --effect is missing: the least difference worth having"),
        (["--data", "{made}", "--effect", "0.0001"], "is too small for any duration up to 84 days"),
        (["--data", "{made}", "--effect", "0.9"], "effect: 0.9 is too large"),
        (["--data", "{made}", "--effect", "0.1", "--days", "0"], "design: the file: Value error, days: 0; more than 0"),
        (["--data", "{made}", "--effect", "0.1", "--days", "-3"], "days: -3; more than 0 expected"),
        (["--data", "{made}", "--effect", "0.1", "--days", "soon"], "design: days"),
        (["--data", "{made}", "--effect", "0.1", "--metric", "joy"], "design: metric: Input should be 'resolved'"),
        (["--data", "{made}", "--effect", "0.1", "--design", "ab"], "design: design: Input should be 'auto'"),
        (["--data", "{made}", "--effect", "0.1", "--metric", "gini_load"], "gini_load: no single contact has it"),
        (["--data", "{made}", "--effect", "0.1", "--begins", "2026-01-01T00:00:00Z"], "is before the data end"),
        (["--data", "{made}", "--effect", "0.1", "--begins", "monday"], "begins: 'monday' is no time"),
        (["--data", "{made}", "--effect", "0.1", "--plan", "p.yaml"], "design: --plan does not belong to it"),
        (["--data", "{made}", "--config", "none.yaml"], "none.yaml: cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_a_status(made, capsys, words, said):
    status = run("design", *[word.replace("{made}", str(made)) for word in words])
    found = capsys.readouterr()
    assert status == 1
    assert said in found.err
    assert found.err.count("\n") == 1
    assert found.out == ""


def test_a_place_that_is_taken_is_said_before_the_work(made, tmp_path, capsys):
    assert run("design", "--data", made, "--effect", "0.1", "--output", tmp_path) == 1
    assert "exists already; name a new --output" in capsys.readouterr().err


def test_a_history_too_short_is_one_line(made, tmp_path):
    first = read_history(made).begins
    with pytest.raises(ConfigError, match=r"history of 9 whole days, .*; 14 or more are needed"):
        read_history(made, until=first + 10 * DAY - 1)


def test_a_history_is_whole_days_of_what_the_tables_say(made):
    found = read_history(made)
    assert found.begins % DAY == found.ends % DAY == 0
    assert found.arrived.min() >= found.begins
    assert found.arrived.max() < found.ends
    contacts = pq.read_table(made / "contacts.parquet").to_pandas().set_index("contact_id")
    moves = pq.read_table(made / "interactions.parquet").to_pandas()
    begins, ends = format_time(found.begins), format_time(found.ends)
    inside = contacts[(contacts["arrived_at"] >= begins) & (contacts["arrived_at"] < ends)]
    assert len(found) == len(inside)
    good = moves.groupby("contact_id")["resolved"].max().reindex(inside.index)
    gone = inside["abandoned_at"].notna() & ~inside.index.isin(moves["contact_id"])
    mean = good.astype(float).where(~gone, 0.0).mean()
    assert np.nanmean(found.metric("resolved")) == pytest.approx(mean)
    assert (found.left >= found.arrived).all()
    assert set(found.units) == {"site", "team"}
    assert 0 < found.units["site"].alone <= 1


def test_a_plan_that_cannot_be_is_one_plain_line(made, tmp_path, capsys):
    pause = {"begins": "2026-09-03T00:00:00Z", "ends": "2026-09-02T00:00:00Z"}
    words = ["--begins", "2026-09-01T00:00:00Z", "--days", "28", "--design", "switchback"]
    assert run("design", "--data", made, "--config", quick(tmp_path, pauses=[pause]), *words) == 1
    line = capsys.readouterr().err
    assert "is not before" in line
    assert line.count("\n") == 1
    assert "pydantic" not in line
