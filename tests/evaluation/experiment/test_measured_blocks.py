"""Occupancy and evenness of load by cell, from shifts and hand-overs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from evaluation.experiment.analyse import analyse
from evaluation.experiment.effects import setting_of
from evaluation.experiment.measured import read
from evaluation.experiment.measured_blocks import Spent, measured_blocks
from evaluation.experiment.spans import spans_of
from tests.evaluation.experiment.made import CSAS, World, make, plan_of
from tests.evaluation.experiment.made_tables import tables_in, write
from twotower.clock import HOUR, parse_time
from twotower.errors import DataError
from twotower.tables.log import Log

GUARD = [{"metric": "occupancy", "better": "lower", "margin": 0.05}]


def test_time_in_intervals_counts_once_where_they_overlap():
    csa = np.array([0, 0, 0, 1])
    starts, ends = np.array([0, 1, 5, 2]) * HOUR, np.array([3, 2, 6, 4]) * HOUR
    time = Spent(csa, starts, ends, 3)
    who = np.arange(3)
    assert time.until(who, 10 * HOUR).tolist() == [4.0, 2.0, 0.0]
    assert time.until(who, 0).tolist() == [0.0, 0.0, 0.0]
    assert time.until(who, int(2.5 * HOUR)).tolist() == [2.5, 0.5, 0.0]
    assert time.until(who, int(5.5 * HOUR)).tolist() == [3.5, 2.0, 0.0]


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    made = make(plan_of(guardrails=GUARD, secondary=["gini_load"]), World(contacts=2500))
    return made, write(made, tmp_path_factory.mktemp("blocks") / "data")


def test_occupancy_is_time_in_hand_over_time_on_shift(centre):
    made, folder = centre
    found = measured_blocks(made.plan, made.schedule, Log.load(folder), folder)
    found = found[found["metric"] == "occupancy"].reset_index(drop=True)
    assert len(found) == 84
    # Everybody works from eight to twenty; the first half hour of a block stands apart.
    hours = found["begins_at"].dt.hour
    people = CSAS + 12
    assert found.loc[hours == 12, "n"].to_numpy() == pytest.approx(3.5 * people)
    assert found.loc[hours == 12, "early_n"].to_numpy() == pytest.approx(0.5 * people)
    assert (found.loc[hours == 0, ["n", "s"]] == 0).all().all()
    # By hand, for one block: contacts of a CSA that overlap count once.
    block = found[hours == 12].iloc[3]
    begins = block["begins_at"] + pd.Timedelta(minutes=30)
    ends = block["begins_at"] + pd.Timedelta(hours=4)
    frame = made.frame
    start = frame["arrived_at"] + pd.to_timedelta(frame["wait_s"], unit="s")
    stop = (start + pd.to_timedelta(frame["handle_minutes"], unit="m")).clip(begins, ends)
    start = start.clip(begins, ends)
    busy = 0.0
    for _, part in pd.DataFrame({"csa": frame["csa_id"], "a": start, "b": stop}).sort_values("a").groupby("csa"):
        until = begins
        for a, b in zip(part["a"], part["b"], strict=True):
            busy += max((b - max(a, until)).total_seconds(), 0.0) / 3600
            until = max(until, b)
    assert block["s"] == pytest.approx(busy, rel=1e-4)


def test_the_gini_of_load_is_that_of_csas_occupancy(centre):
    made, folder = centre
    found = measured_blocks(made.plan, made.schedule, Log.load(folder), folder)
    gini = found[(found["metric"] == "gini_load") & (found["n"] > 0)]
    share = gini["s"] / gini["n"]
    # Twelve of 32 take nothing, so it is at least that share.
    assert share.between(12 / 32, 1.0).all()


def test_occupancy_is_a_guardrail_like_any_other(centre):
    made, folder = centre
    data, blocks = read(made.plan, made.schedule, folder, None)
    found = analyse(made.plan, made.schedule, data.frame, blocks, data_end=data.data_end, draws=200)
    assert found.refusals == ()
    [guard] = found.found.guards
    assert guard.state in ("held", "open")
    assert 0.0 < guard.control < 0.3
    assert [one.effect.metric for one in found.found.secondary] == ["gini_load"]


def test_occupancy_may_be_the_primary_metric(centre):
    made, folder = centre
    plan = made.plan.model_copy(
        update={
            "primary": made.plan.primary.model_copy(update={"metric": "occupancy", "better": "lower"}),
            "guardrails": (),
        }
    )
    data, blocks = read(plan, made.schedule, folder, None)
    found = analyse(plan, made.schedule, data.frame, blocks, data_end=data.data_end, draws=200)
    assert found.refusals == ()
    assert found.found.bands == ()
    assert found.found.taken is None
    assert abs(found.found.estimate.effect.value) < 0.05
    effect = found.found.estimate.effect
    assert f"{effect.contacts:,} hours on shift" in found.verdict.paragraph
    assert "adjusted for" not in found.verdict.paragraph


def test_of_customers_a_pools_occupancy_is_that_of_its_csas(tmp_path):
    made = make(plan_of("customer", guardrails=GUARD), World(contacts=2500))
    folder = write(made, tmp_path / "data")
    log = Log.load(folder)
    found = measured_blocks(made.plan, made.schedule, log, folder)
    found = found[found["metric"] == "occupancy"]
    assert set(found["unit"]) == {"queue", "matched"}
    assert len(found) == 28
    assert found["n"].to_numpy() == pytest.approx(12.0 * CSAS / 2)
    of = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, found)
    assert of.outcome("occupancy").n.sum() == pytest.approx(found["n"].sum())


def test_of_sites_it_is_that_of_their_people(tmp_path):
    made = make(plan_of("cluster", guardrails=GUARD), World(contacts=1500))
    folder = write(made, tmp_path / "data")
    found = measured_blocks(made.plan, made.schedule, Log.load(folder), folder)
    assert found[found["metric"] == "occupancy"]["n"].to_numpy() == pytest.approx(14 * 12.0)


def test_without_anybody_on_shift_it_is_an_error(centre, tmp_path):
    made, folder = centre
    moves = tables_in(folder)["interactions"]
    past = moves.filter(pa.array([one.startswith("h") for one in moves["contact_id"].to_pylist()]))
    other = write(made, tmp_path / "nobody", interactions=past)
    (other / "shifts.parquet").unlink()
    with pytest.raises(DataError, match="occupancy: centre: nobody works in the window"):
        measured_blocks(made.plan, made.schedule, Log.load(other), other)


def test_at_an_interim_look_shifts_count_until_then(tmp_path):
    made = make(plan_of("cluster", guardrails=GUARD), World(contacts=1500))
    folder = write(made, tmp_path / "data")
    at = parse_time("2026-03-09T14:00:00Z")
    _, blocks = read(made.plan, made.schedule, folder, at)
    assert blocks is not None
    # Seven days of twelve hours, and six hours of the eighth.
    assert blocks[blocks["metric"] == "occupancy"]["n"].to_numpy() == pytest.approx(7 * 12.0 + 6.0)
