"""Tables as a frame: what was drawn is read back, and nothing is known before it was."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from evaluation.experiment.analyse import analyse
from evaluation.experiment.frame import FRAME, FROM_TABLES
from evaluation.experiment.history import expected, groups_of, rates
from evaluation.experiment.measured import measured, read
from tests.evaluation.experiment.made import World, make, plan_of
from tests.evaluation.experiment.made_tables import tables_in, write
from tests.support import replaced
from twotower.clock import DAY, HOUR, parse_time
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Log

WORLD = World(contacts=2500, abandoned=(0.08, 0.08), effect=0.1)
SAME = ("unit", "block", "arm", "washed", "resolved", "abandoned", "policy", "language", "intent", "customer_id")


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    """A switchback, and the folder of its tables."""
    made = make(plan_of(repeat_days=2), WORLD)
    return made, write(made, tmp_path_factory.mktemp("measured") / "data")


@pytest.fixture(scope="module")
def frame(centre):
    made, folder = centre
    return measured(made.plan, made.schedule, Log.load(folder)).frame


def test_the_frame_has_its_columns_and_types(frame):
    assert list(frame) == [*FRAME, *FROM_TABLES]
    assert str(frame["arrived_at"].dtype) == "datetime64[us, UTC]"
    assert frame["arm"].dtype == np.int8
    assert frame["washed"].dtype == np.bool_
    assert frame["arrived_at"].is_monotonic_increasing
    numbers = [name for name, said in FRAME.items() if said.startswith("float64")]
    assert all(frame[name].dtype == np.float64 for name in numbers)


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_what_was_drawn_is_read_back(design, tmp_path):
    made = make(plan_of(design), WORLD)
    folder = write(made, tmp_path / "data")
    found = measured(made.plan, made.schedule, Log.load(folder))
    one, two = (each.set_index("contact_id").sort_index() for each in (found.frame, made.frame))
    for name in SAME:
        mine, theirs = one[name].to_numpy(object), two[name].to_numpy(object)
        assert (pd.isna(mine) == pd.isna(theirs)).all(), name
        assert (mine[~pd.isna(mine)] == theirs[~pd.isna(theirs)]).all(), name
    assert one["wait_s"].to_numpy() == pytest.approx(two["wait_s"].to_numpy(), abs=1e-3)
    assert one["handle_minutes"].to_numpy() == pytest.approx(two["handle_minutes"].to_numpy(), abs=1e-3, nan_ok=True)
    assert found.notes == ()


def test_tables_are_analysed_as_the_frame_that_they_were_made_of(centre):
    made, folder = centre
    data, blocks = read(made.plan, made.schedule, folder, None)
    assert blocks is None
    found = analyse(made.plan, made.schedule, data.frame, data_end=data.data_end, draws=200)
    other = analyse(made.plan, made.schedule, made.frame.assign(covariate=data.frame["covariate"]), draws=200)
    assert found.refusals == ()
    assert found.found.estimate.effect.value == pytest.approx(other.found.estimate.effect.value)


# Nothing is known before it was


def test_covariates_know_nothing_from_after_the_beginning(centre, tmp_path):
    """Outcomes of the experiment turned round change no covariate and no CSA's past mean."""
    made, folder = centre
    log = Log.load(folder)
    before = measured(made.plan, made.schedule, log).frame
    tables = tables_in(folder)
    inside = pc.starts_with(tables["interactions"]["contact_id"], "c")
    turned = pc.if_else(inside, pc.invert(tables["interactions"]["resolved"]), tables["interactions"]["resolved"])
    other = write(made, tmp_path / "other", interactions=replaced(tables["interactions"], "resolved", turned))
    after = measured(made.plan, made.schedule, Log.load(other)).frame
    assert (after["resolved"] != before["resolved"]).any()
    for name in ("covariate", "csa_rate"):
        assert after[name].to_numpy() == pytest.approx(before[name].to_numpy(), nan_ok=True)


def test_an_outcome_that_became_known_later_is_no_history(centre, tmp_path):
    """All of history becomes known an hour after the beginning: there is nothing to adjust for, and that is said."""
    made, folder = centre
    moves = tables_in(folder)["interactions"]
    late = pa.array(np.full(len(moves), parse_time(made.plan.begins) + HOUR), pa.timestamp("us", "UTC"))
    known = pc.if_else(pc.starts_with(moves["contact_id"], "h"), late, moves["ended_at"])
    other = write(made, tmp_path / "late", interactions=moves.append_column("known_at", known))
    found = measured(made.plan, made.schedule, Log.load(other))
    assert found.frame["covariate"].isna().all()
    assert any("no contact before 2026-03-02T00:00:00Z has a known resolved" in line for line in found.notes)


def test_only_so_many_days_of_history_are_read(centre):
    made, folder = centre
    log = Log.load(folder)
    short = made.plan.model_copy(update={"history_days": 2.0})
    one, two = (measured(plan, made.schedule, log).frame["covariate"] for plan in (made.plan, short))
    assert one.nunique() > 20
    assert (one - one.mean()).abs().mean() > (two - two.mean()).abs().mean()


def test_a_look_sees_what_was_known_then(centre):
    made, folder = centre
    at = parse_time("2026-03-08T00:00:00Z")
    found, _ = read(made.plan, made.schedule, folder, at)
    assert (found.frame["arrived_at"] < pd.Timestamp("2026-03-08T00:00:00Z")).all()
    assert found.data_end < at
    last = found.frame.iloc[-1]
    assert np.isnan(last["repeat"])
    # What was still going on had no outcome then.
    whole = measured(made.plan, made.schedule, Log.load(folder)).frame.set_index("contact_id")
    open_ = found.frame.set_index("contact_id")["resolved"].isna()
    assert open_.sum() > 0
    assert whole.loc[open_.index[open_], "resolved"].notna().all()


# What a contact is


def test_the_covariate_knows_intents_and_the_rate_knows_csas(frame):
    by_intent = frame.groupby("intent")["covariate"].mean()
    assert by_intent.to_numpy() == pytest.approx(0.62 + 0.16 * np.arange(6) / 5, abs=0.05)
    by_csa = frame.dropna(subset="csa_id").groupby("csa_id")["csa_rate"].first()
    assert np.corrcoef(by_csa, np.arange(20))[0, 1] > 0.8
    assert frame["csa_rate"].isna().sum() == (frame["csa_id"].isna()).sum()


def test_the_covariate_says_something_of_outcomes(frame):
    known = frame[["resolved", "covariate"]].dropna()
    taken = known[frame.loc[known.index, "abandoned"] == 0]
    assert np.corrcoef(taken["resolved"], taken["covariate"])[0, 1] > 0.05


def test_tenure_and_load_are_bands(frame):
    assert set(frame["tenure"].dropna()) == {"below 90 days", "one to three years"}
    assert frame["tenure"].isna().sum() == frame["csa_id"].isna().sum()
    share = frame["load"].value_counts(normalize=True)
    assert set(share.index) == {"quiet", "usual", "busy"}
    assert share.min() > 0.2
    hours = frame["arrived_at"].dt.hour
    assert hours[frame["load"] == "busy"].between(8, 20).mean() > 0.9


def test_who_comes_back_soon_is_a_repeat(centre, frame):
    _, folder = centre
    customers = frame.assign(next=frame.groupby("customer_id")["arrived_at"].shift(-1))
    soon = (customers["next"] - customers["arrived_at"]) <= pd.Timedelta(days=2)
    known = frame["repeat"].notna()
    assert (frame.loc[known, "repeat"] == soon[known]).all()
    assert known.any()
    end = Log.load(folder)
    last = max(end.handovers.ended_at.max(), end.contacts.arrived_at.max())
    early = frame["arrived_at"] <= pd.Timestamp(last - 2 * DAY, unit="us", tz="UTC")
    assert (known == (early & frame["customer_id"].notna())).all()


def small(save, tables, **columns):
    """The house's four contacts, as an experiment of one day."""
    for name, values in columns.items():
        table = "contacts" if name in ("abandoned_at",) else "interactions"
        tables[table] = (
            replaced(tables[table], name, values)
            if name in tables[table].column_names
            else tables[table].append_column(name, values)
        )
    plan = plan_of(begins="2026-01-01T00:00:00Z", ends="2026-01-01T02:00:00Z", block_hours=1.0)
    from evaluation.experiment.schedule import draw

    return measured(plan, draw(plan, ["centre"]), Log.load(save(tables))).frame.set_index("contact_id")


def test_a_contact_of_several_hand_overs(save, tables):
    found = small(
        save, tables, handle_time_s=pa.array([60.0, 120.0, 180.0, 240.0, None]),
        transferred=pa.array([False, None, True, False, False]), quality_score=pa.array([0.2, None, 0.4, 0.8, None]),
        policy=pa.array(["a", "b", "c", "d", "e"]),
    )  # fmt: skip
    # c3 went from ada, who did not resolve it, to bob, who did.
    three = found.loc["c3"]
    assert (three["csa_id"], three["policy"], three["resolved"]) == ("ada", "c", 1.0)
    assert three["handle_minutes"] == pytest.approx(7.0)
    assert (three["transferred"], three["csat"]) == (1.0, 4.0)
    assert three["quality"] == pytest.approx(0.6)
    assert three["wait_s"] == 60.0
    assert found.loc["c2", "resolved"] == 0.0
    four = found.loc["c4"]
    assert np.isnan(four["resolved"])
    assert np.isnan(four["handle_minutes"])
    assert np.isnan(found.loc["c2", "transferred"])


def test_who_gave_up_before_anybody_took_it_is_abandoned(save, tables):
    from tests.support import minutes

    # In the order of the table: c3, c1, c2, c4; c1 was taken at minute 11, c4 at minute 61.
    found = small(save, tables, abandoned_at=minutes(None, 10.5, 20, None))
    assert found.loc["c1", ["abandoned", "resolved", "wait_s"]].tolist() == [1.0, 0.0, 30.0]
    assert found.loc["c2", ["abandoned", "wait_s"]].tolist() == [0.0, 120.0]


# Units


def test_contacts_that_nobody_took_belong_to_where_their_queue_goes(tmp_path):
    made = make(plan_of("cluster"), WORLD)
    folder = write(made, tmp_path / "data")
    found = measured(made.plan, made.schedule, Log.load(folder)).frame.set_index("contact_id")
    lost = made.frame[made.frame["abandoned"] == 1].set_index("contact_id")
    assert len(lost) > 50
    assert (found.loc[lost.index, "unit"] == lost["unit"]).all()


def test_eligible_lists_of_one_site_say_where_a_contact_belongs(tmp_path):
    made = make(plan_of("cluster"), WORLD)
    folder = write(made, tmp_path / "data")
    contacts = tables_in(folder)["contacts"]
    unit = dict(zip(made.frame["contact_id"], made.frame["unit"], strict=True))
    lists = [[f"of {unit[one]}"] if one in unit else None for one in contacts["contact_id"].to_pylist()]
    contacts = replaced(contacts.append_column("eligible", pa.array(lists)), "queue", ["all"] * len(contacts))
    pq.write_table(contacts, folder / "contacts.parquet")
    found = measured(made.plan, made.schedule, Log.load(folder)).frame
    assert found["unit"].tolist() == made.frame.sort_values(["arrived_at", "contact_id"])["unit"].tolist()


def test_contacts_of_no_unit_are_counted_and_too_many_refused(tmp_path):
    made = make(plan_of("cluster"), World(contacts=2500, abandoned=(0.01, 0.01)))
    folder = write(made, tmp_path / "few")
    contacts = replaced(tables_in(folder)["contacts"], "queue", ["all"] * 5500)
    found = measured(made.plan, made.schedule, Log.load(write(made, tmp_path / "few", contacts=contacts)))
    lost = int(made.frame["abandoned"].sum())
    assert found.notes[0] == f"{lost} contacts belong to no site that is known, and are left out"
    assert (found.frame["arm"] == -1).sum() == lost
    many = make(plan_of("cluster"), WORLD)
    folder = write(many, tmp_path / "many")
    contacts = replaced(tables_in(folder)["contacts"], "queue", ["all"] * 5500)
    with pytest.raises(DataError, match="of contacts belong to no site: neither eligible"):
        measured(many.plan, many.schedule, Log.load(write(many, tmp_path / "many", contacts=contacts)))


def test_an_experiment_by_team_needs_teams(tmp_path):
    made = make(plan_of("cluster"), WORLD)
    log = Log.load(write(made, tmp_path / "data"))
    with pytest.raises(DataError, match="column team: nobody has one"):
        measured(made.plan.model_copy(update={"unit": "team"}), made.schedule, log)


def test_units_that_the_schedule_does_not_have_are_counted(tmp_path):
    made = make(plan_of("cluster"), WORLD)
    log = Log.load(write(made, tmp_path / "data"))
    pair = made.schedule["pair"] == made.schedule["pair"].iloc[0]
    found = measured(made.plan, made.schedule[~pair], log)
    gone = made.frame["unit"].isin(made.schedule.loc[pair, "unit"]).sum()
    assert found.notes == (f"{gone:,} contacts of units, or at times, that the schedule does not have are left out",)


def test_data_without_a_contact_in_the_plans_time_are_refused(centre):
    made, folder = centre
    later = made.plan.model_copy(update={"begins": "2027-01-01T00:00:00Z", "ends": "2027-01-02T00:00:00Z"})
    with pytest.raises(DataError, match="none arrived from 2027-01-01T00:00:00Z to 2027-01-02T00:00:00Z; the log has"):
        measured(later, made.schedule, Log.load(folder))


@pytest.mark.parametrize(
    ("at", "error", "said"),
    [
        (
            "2026-02-20T00:00:00Z",
            ConfigError,
            "^--at 2026-02-20T00:00:00Z: the experiment begins at 2026-03-02T00:00:00Z",
        ),
        ("2026-03-02T00:00:00Z", ConfigError, "nothing is known before; give a later --at"),
        (
            "2026-03-02T00:00:01Z",
            DataError,
            "none arrived from 2026-03-02T00:00:00Z until --at 2026-03-02T00:00:01Z; give",
        ),
    ],
)
def test_a_look_before_the_first_contact_names_the_option(centre, at, error, said):
    made, folder = centre
    with pytest.raises(error, match=said):
        read(made.plan, made.schedule, folder, parse_time(at))


# History's parts


def test_means_of_few_contacts_are_shrunk_to_the_one_above():
    intent = np.array([0] * 1000 + [1] * 4)
    y = np.array([1.0, 0.0] * 500 + [1.0] * 4)
    groups, sizes = groups_of(intent, np.zeros(1004, np.int64), np.zeros(1004, np.int64))
    found = expected(y, groups, sizes).of(groups)
    assert found[0] == pytest.approx(0.5, abs=0.01)
    assert 0.5 < found[-1] < 0.8


def test_groups_without_history_expect_the_mean():
    y = np.array([1.0, 0.0, 1.0, np.nan])
    groups, sizes = groups_of(np.zeros(4, np.int64), np.zeros(4, np.int64), np.arange(4) * HOUR)
    told = expected(y, groups, sizes)
    assert told.mean == pytest.approx(2 / 3)
    assert told.of(tuple(np.full(2, -1) for _ in groups)) == pytest.approx([2 / 3, 2 / 3])
    assert np.isnan(expected(np.full(4, np.nan), groups, sizes).of(groups)).all()


def test_past_means_of_csas_are_shrunk_and_nan_without_a_past():
    found = rates(np.array([0.3] * 20 + [np.nan]), np.array([0] * 20 + [1]), 3, 0.7)
    assert found[0] == pytest.approx(0.7 + 0.15)
    assert np.isnan(found[1:]).all()
