"""The schedule against what its plan draws: as it was written it always passes, and whatever is changed is named."""

from __future__ import annotations

import argparse
import json
from importlib.metadata import EntryPoint

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.experiment.analyse_verb import analyse_action, configure_analyse
from evaluation.experiment.drawn import of_draw
from evaluation.experiment.plan import Plan, read_plan, write_plan
from evaluation.experiment.schedule import draw
from evaluation.experiment.spans import read_schedule
from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from tests.evaluation.experiment.made import SITES, World, make, plan_of
from tests.evaluation.experiment.made_tables import write
from twotower.cli import run_verb
from twotower.errors import DataError

VERB = EntryPoint("experiment", "evaluation.experiment.verb:VERB", "twotower.verbs")
PAUSES = [{"begins": "2026-03-05T06:00:00Z", "ends": "2026-03-06T00:00:00Z"}]
SHUFFLED = tuple(np.random.default_rng(0).permutation(SITES).tolist())
CSAS = tuple(f"csa {i}" for i in np.random.default_rng(1).permutation(21))
OF_SITES = {"unit": "site", "block_hours": 24.0}
PLANS = {
    "switchback": (plan_of(), ("centre",)),
    "blocks that are cut short": (plan_of(block_hours=5.0, ends="2026-03-11T07:30:00Z"), ("centre",)),
    "most in a row": (plan_of(most_in_a_row=2), ("centre",)),
    "pauses": (plan_of(pauses=PAUSES), ("centre",)),
    "no pairs": (plan_of(balance="none", share=0.3), ("centre",)),
    "switchback of sites": (plan_of(**OF_SITES, pauses=PAUSES), SHUFFLED),
    "cluster": (plan_of("cluster"), SHUFFLED),
    "cluster, one left over": (plan_of("cluster"), SHUFFLED[:7]),
    "cluster, no pairs": (plan_of("cluster", balance="none"), SHUFFLED),
    "customer": (plan_of("customer", balance="pairs"), CSAS),
    "customer, no pairs": (plan_of("customer", share=0.4), CSAS),
    "customer, pauses": (plan_of("customer", balance="pairs", block_hours=8.0, pauses=PAUSES), CSAS),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_schedule_as_it_was_written_passes(name, seed, tmp_path):
    """Through the files, rows in any order, times of any zone and unit."""
    plan, units = PLANS[name]
    write_plan(plan.model_copy(update={"seed": seed}), tmp_path / "plan.yaml")
    plan = read_plan(tmp_path / "plan.yaml")
    draw(plan, units).to_parquet(tmp_path / "schedule.parquet", index=False)
    schedule = read_schedule(tmp_path / "schedule.parquet")
    assert of_draw(plan, schedule).status == "passed"
    other = schedule.sample(frac=1, random_state=seed)
    for column in ("begins_at", "ends_at"):
        other[column] = other[column].dt.tz_convert("Asia/Tokyo").dt.as_unit("ns")
    assert of_draw(plan, other.assign(more=1)).status == "passed"


def half(schedule: pd.DataFrame) -> pd.DataFrame:
    """Every other pair."""
    return schedule[schedule["pair"] % 2 == 0].reset_index(drop=True)


def exchanged(schedule: pd.DataFrame) -> pd.DataFrame:
    """The arms of one pair."""
    mine = schedule["pair"] == schedule["pair"].iloc[-1]
    return schedule.assign(
        arm=schedule["arm"].where(~mine, schedule["arm"].map({"queue": "matched", "matched": "queue"}))
    )


CHANGES = {
    "half of the pairs": half,
    "arms of a pair": exchanged,
    "all arms": lambda s: s.assign(arm=s["arm"].map({"queue": "matched", "matched": "queue"})),
    "drawn alone": lambda s: s.assign(pair=-1),
    "other pairs": lambda s: s.assign(
        pair=s["pair"].where(~s["pair"].isin([0, 1]) | (s["arm"] == "queue"), 1 - s["pair"])
    ),
    "shorter": lambda s: s.assign(ends_at=s["ends_at"] - pd.Timedelta("1h")),
    "later": lambda s: s.assign(**{name: s[name] + pd.Timedelta("1D") for name in ("begins_at", "ends_at")}),
    "another unit": lambda s: s.assign(unit=s["unit"].where(s.index != len(s) - 1, "zz")),
    "one gone": lambda s: s.assign(pair=-1).iloc[:-1],
    "one more": lambda s: pd.concat(
        [s, s.iloc[-1:].assign(pair=-1, begins_at=s["ends_at"].max(), ends_at=s["ends_at"].max() + pd.Timedelta("1h"))],
        ignore_index=True,
    ),
}


UNTOLD = [("cluster", "other pairs"), ("cluster", "another unit")]
"""Which sites there are and who is paired stands in the schedule alone, whose first block is all of it."""


@pytest.mark.parametrize(
    ("design", "change"),
    [(a, b) for a in ("switchback", "cluster", "customer") for b in CHANGES if (a, b) not in UNTOLD],
)
def test_a_schedule_that_was_changed_is_refused_in_one_line(design, change):
    plan, units = PLANS[design]
    found = of_draw(plan, CHANGES[change](draw(plan, units)))
    assert found.status == "refused"
    assert "\n" not in found.said
    assert found.said.endswith("give the schedule.parquet that was written with this plan")


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4}, {"block_hours": 2.0}, {"balance": "none"}, {"most_in_a_row": 2}, {"pauses": PAUSES},
        {"begins": "2026-03-03T00:00:00Z"}, {"ends": "2026-03-17T00:00:00Z"},
    ],
)  # fmt: skip
def test_the_schedule_of_another_plan_is_refused(other):
    plan, units = PLANS["switchback"]
    assert of_draw(plan, draw(plan_of(**other), units)).status == "refused"


def test_the_first_row_that_differs_is_named_with_what_the_seed_draws():
    plan, units = PLANS["switchback"]
    schedule = draw(plan, units)
    rest = schedule.drop(index=2).assign(pair=-1).reset_index(drop=True)
    shorter = rest["begins_at"][2] - pd.Timedelta("1h")
    changed = schedule.assign(ends_at=schedule["ends_at"].where(schedule.index != 2, shorter))
    assert of_draw(plan, changed).said == (
        "the schedule is not the one that the plan draws: row 2 is centre from 2026-03-02T08:00:00Z to "
        f"2026-03-02T11:00:00Z: '{schedule['arm'][2]}', pair 2; the seed 3 draws centre from 2026-03-02T08:00:00Z to "
        f"2026-03-02T12:00:00Z: '{schedule['arm'][2]}', pair 2 there; give the schedule.parquet that was written with "
        "this plan"
    )
    backwards = exchanged(schedule).iloc[::-1].reset_index(drop=True)
    first = np.flatnonzero(backwards["arm"].to_numpy() != schedule["arm"].to_numpy()[::-1]).max()
    assert f"row {first} is centre" in of_draw(plan, backwards).said


def test_units_that_cannot_be_drawn_are_refused():
    plan, units = PLANS["cluster"]
    alone = draw(plan, units).iloc[:1].assign(pair=-1)
    assert "a single site cannot be in two arms" in of_draw(plan, alone).said


def test_what_is_no_schedule_is_an_error():
    plan, units = PLANS["switchback"]
    with pytest.raises(DataError, match="column arm is missing"):
        of_draw(plan, draw(plan, units).drop(columns="arm"))


# The verb


def analysed(plan: str, data: str):
    parser = argparse.ArgumentParser()
    configure_analyse(parser)
    parser.add_argument("--output")
    return analyse_action(parser.parse_args(["--plan", plan, "--data", data]))


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_the_verb_answers_as_drawn_and_refuses_half_of_the_pairs(design, tmp_path):
    made = make(plan_of(design, **({"balance": "pairs"} if design == "customer" else {})), World(contacts=2500))
    write_plan(made.plan, tmp_path / "plan.yaml")
    made.schedule.to_parquet(tmp_path / "schedule.parquet", index=False)
    write(made, tmp_path / "data")
    found = analysed(f"{tmp_path}/plan.yaml", f"{tmp_path}/data")
    assert found.data["refusals"] == ()
    assert {"name": "schedule drawn", "status": "passed"} in found.data["checks"]
    half(made.schedule).to_parquet(tmp_path / "schedule.parquet", index=False)
    found = analysed(f"{tmp_path}/plan.yaml", f"{tmp_path}/data")
    assert not found.ok
    assert found.data["found"] is None
    assert found.data["refusals"][0].startswith("the schedule is not the one that the plan draws: row ")


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    """Six weeks, everybody in one of eight teams."""
    folder = tmp_path_factory.mktemp("centre") / "data"
    generate(Settings(12_000, 40, ("en",), 3, days=42), folder)
    csas = pq.read_table(folder / "csas.parquet").to_pandas()
    csas["team"] = [f"team {int(name[1:]) % 8}" for name in csas["csa_id"]]
    schema = pq.read_schema(folder / "csas.parquet")
    pq.write_table(pa.Table.from_pandas(csas, schema, preserve_index=False), folder / "csas.parquet")
    return folder


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_what_the_design_wrote_is_what_the_analysis_draws(centre, tmp_path, capsys, design):
    """A plan for the last two weeks, made before them; that no policy of it ever chose is another matter."""
    last = pq.read_table(centre / "contacts.parquet", columns=["arrived_at"]).to_pandas()["arrived_at"].max()
    begins = (last - pd.Timedelta("14D")).floor("D")
    (tmp_path / "asked.yaml").write_text(json.dumps({
        "effect": 0.2, "show": None, "unit": "team", "design": design, "days": 14, "guardrails": [], "seed": 5,
        "until": (begins - pd.Timedelta("1s")).isoformat(), "begins": begins.isoformat(),
    }))  # fmt: skip
    words = ["design", "--data", centre, "--config", tmp_path / "asked.yaml", "--output", tmp_path / "plan"]
    assert run_verb("experiment", [str(word) for word in words], VERB) == 0
    capsys.readouterr()
    plan: Plan = read_plan(tmp_path / "plan" / "plan.yaml")
    assert plan.design == design
    found = of_draw(plan, read_schedule(tmp_path / "plan" / "schedule.parquet"))
    assert (found.status, plan.seed) == ("passed", 5)
    told = analysed(f"{tmp_path}/plan/plan.yaml", str(centre)).data
    assert {"name": "schedule drawn", "status": "passed"} in told["checks"]
    assert not any("the plan draws" in line for line in told["refusals"])
