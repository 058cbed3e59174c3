"""A plan rehearsed on tables of its own time: what is written is a data set, and says what happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from evaluation.experiment.analyse import analyse
from evaluation.experiment.measured import read
from evaluation.experiment.plan import Plan
from evaluation.experiment.rehearse import Rehearsed, rehearse
from evaluation.experiment.schedule import draw
from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.simulate.policies import fifo, greedy
from evaluation.simulate.replay import Replay, ReplaySpec, replay
from twotower.clock import DAY, format_time, parse_time
from twotower.errors import ConfigError, OutputError
from twotower.tables.check import check
from twotower.tables.log import Log

LOAD = 0.5


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "centre"
    generate(Settings(3_000, 20, ("en",), 2, days=28), folder)
    return folder


@pytest.fixture(scope="module")
def plan(centre: Path) -> Plan:
    """The last four whole days."""
    ends = int(Log.load(centre).contacts.arrived_at[-1]) // DAY * DAY
    return Plan.model_validate({
        "name": "tried", "hypothesis": "", "design": "switchback", "unit": "centre", "block_hours": 4.0,
        "wash_out_minutes": 10.0, "begins": format_time(ends - 4 * DAY), "ends": format_time(ends),
        "control": {"name": "queue", "policies": ["queue"]},
        "treatment": {"name": "matcher", "policies": ["matcher"]}, "primary": {"smallest_effect": 0.1},
    })  # fmt: skip


@pytest.fixture(scope="module")
def of(centre: Path, plan: Plan) -> Replay:
    given = {"tables": str(centre), "from": plan.begins, "to": plan.ends, "outcomes": "truth", "load": LOAD,
             "patience": {"mean_minutes": 20}, "interval_minutes": 120}  # fmt: skip
    return replay(ReplaySpec.model_validate(given))


def run(plan: Plan, of: Replay, centre: Path, output: Path, schedule=None) -> Rehearsed:
    drawn = draw(plan, ("centre",)) if schedule is None else schedule
    return rehearse(plan, drawn, of, fifo("queue"), greedy(of.known, 1e-4, name="matcher"), centre, output)


@pytest.fixture(scope="module")
def done(plan: Plan, of: Replay, centre: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rehearsed, Path]:
    folder = tmp_path_factory.mktemp("rehearsed") / "tables"
    return run(plan, of, centre, folder), folder


def test_what_it_leaves_is_a_data_set_with_the_history_as_it_was(done, centre, plan):
    _, folder = done
    assert not len(check(folder)[0])
    begins = parse_time(plan.begins)
    old, new = (Log.load(place).cut(begins) for place in (centre, folder))
    assert new.contacts.ids.equals(old.contacts.ids)
    assert np.array_equal(new.handovers.assigned_at, old.handovers.assigned_at)
    assert (folder / "shifts.parquet").read_bytes() == (centre / "shifts.parquet").read_bytes()


def test_copies_of_contacts_are_contacts_of_nobody_known(done, of, plan, centre):
    tried, folder = done
    contacts = pq.read_table(folder / "contacts.parquet")
    inside = contacts.filter(pc.greater_equal(contacts["arrived_at"].cast("int64"), parse_time(plan.begins)))
    assert len(inside) == tried.contacts == len(of.demand)
    assert len(of.demand) > len(of.window), "the load puts contacts in again"
    copy = pc.match_substring(inside["contact_id"], "~")
    assert pc.sum(copy).as_py() == len(inside) - len(np.unique(of.demand.row))
    assert inside.filter(copy)["customer_id"].null_count == pc.sum(copy).as_py()
    first, log = inside.filter(pc.invert(copy)), pq.read_table(centre / "contacts.parquet")
    same = log.take(pc.index_in(first["contact_id"], log["contact_id"].combine_chunks()).combine_chunks())
    assert first["customer_id"].to_pylist() == same["customer_id"].to_pylist()


def test_hand_overs_are_by_the_policy_that_held(done, plan):
    _, folder = done
    moves = pq.read_table(folder / "interactions.parquet").to_pandas()
    schedule = draw(plan, ("centre",))
    begins = schedule["begins_at"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    at = moves["assigned_at"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    policies = {plan.control.name: "queue", plan.treatment.name: "matcher"}
    mine = (at >= begins[0]) & (at < parse_time(plan.ends)) & moves["contact_id"].notna()
    after = moves[mine]
    expected = schedule["arm"].to_numpy()[np.searchsorted(begins, at[mine], side="right") - 1]
    told = after["policy"].to_numpy()
    of_history = told != [policies[arm] for arm in expected]
    # Who had arrived before the first block is history, whenever they were taken up.
    assert of_history.mean() < 0.05
    assert set(told) == {"queue", "matcher"}
    assert (after["ended_at"] >= after["assigned_at"]).all()


def test_it_is_read_out_as_any_experiment_and_the_truth_stands_beside(done, plan):
    tried, folder = done
    schedule = draw(plan, ("centre",))
    data, blocks = read(plan, schedule, folder, None)
    found = analyse(plan, schedule, data.frame, blocks, None, data.data_end, data.notes)
    assert found.refusals == ()
    assert found.found is not None
    effect, (queue, matcher) = found.found.estimate.effect, tried.truth["resolved"]
    assert 0.3 < queue < matcher < 1
    assert effect.value == pytest.approx(matcher - queue, abs=0.12)
    inside = data.frame["arm"] >= 0
    assert data.frame.loc[inside, "abandoned"].sum() > 0
    assert data.frame.loc[inside, "wait_s"].mean() == pytest.approx(np.mean(tried.truth["wait_s"]), rel=0.5)


def test_the_same_seed_leaves_the_same_bytes(done, plan, of, centre, tmp_path):
    assert run(plan, of, centre, tmp_path / "again") == done[0]
    for name in ("contacts.parquet", "interactions.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (done[1] / name).read_bytes()


def test_what_does_not_fit_is_one_line_and_leaves_nothing(plan, of, centre, tmp_path):
    later = plan.model_copy(update={"ends": format_time(parse_time(plan.ends) + DAY)})
    with pytest.raises(ConfigError, match=r"contacts of .* to .*; the plan is from"):
        run(later, of, centre, tmp_path / "tables")
    with pytest.raises(ConfigError, match="only a switchback of the whole centre can be tried; the plan is customer"):
        run(plan.model_copy(update={"design": "customer", "unit": "csa"}), of, centre, tmp_path / "tables",
            draw(plan, ("centre",)))  # fmt: skip
    with pytest.raises(ConfigError, match="the schedule has other blocks than the plan"):
        run(plan, of, centre, tmp_path / "tables", draw(plan, ("centre",)).query("pair != 0"))
    (tmp_path / "tables").mkdir()
    with pytest.raises(OutputError, match="tables"):
        run(plan, of, centre, tmp_path / "tables")
    assert list((tmp_path / "tables").iterdir()) == []
