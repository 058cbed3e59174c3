"""Contacts by what was drawn: spans, cells, clusters, and what contradicts itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.experiment.cells import cells_of
from evaluation.experiment.spans import micros, read_schedule, spans_of
from evaluation.experiment.stats.permute import ALWAYS
from tests.evaluation.experiment.made import make, plan_of
from twotower.clock import HOUR
from twotower.errors import DataError


def test_a_cell_is_a_span_and_a_pair_is_a_cluster():
    made = make(plan_of())
    cells = cells_of(made.plan, spans_of(made.plan, made.schedule), made.frame)
    assert len(cells) == len(made.schedule) == 84
    assert len(np.unique(cells.cluster)) == 42
    assert (np.bincount(cells.cluster) == 2).all()
    treated = np.bincount(cells.cluster, cells.arm)
    assert (treated == 1).all()


def test_every_contact_is_in_the_cell_of_its_time():
    made = make(plan_of())
    cells = cells_of(made.plan, spans_of(made.plan, made.schedule), made.frame)
    assert (cells.begins[cells.of] <= cells.arrived).all()
    assert (cells.arrived < cells.ends[cells.of]).all()
    assert (cells.arm[cells.of] == made.frame["arm"]).all()


def test_sums_leave_out_what_is_washed_or_not_known():
    made = make(plan_of())
    cells = cells_of(made.plan, spans_of(made.plan, made.schedule), made.frame)
    values = made.frame["resolved"].to_numpy().copy()
    values[:100] = np.nan
    n, s = cells.sums(values)
    expected = made.frame.assign(of=cells.of, y=values)[~made.frame["washed"]].groupby("of")["y"].agg(["count", "sum"])
    assert n[expected.index] == pytest.approx(expected["count"])
    assert s[expected.index] == pytest.approx(expected["sum"])


def test_what_counts_under_the_lots_that_were_is_what_counts():
    """The early minutes that randomisation inference adds are those that the schedule's own washing leaves."""
    made = make(plan_of())
    cells = cells_of(made.plan, spans_of(made.plan, made.schedule), made.frame)
    values = made.frame["resolved"].to_numpy()
    sums = cells.for_lots(values)
    counted = sums.counted(cells.arm[None, :])[0]
    n, s = cells.sums(values)
    assert sums.n + counted * sums.early_n == pytest.approx(n)
    assert sums.s + counted * sums.early_s == pytest.approx(s)


def test_a_block_after_a_pause_follows_the_control():
    pause = {"begins": "2026-03-05T00:00:00Z", "ends": "2026-03-06T00:00:00Z"}
    made = make(plan_of(pauses=[pause], balance="none"))
    spans = spans_of(made.plan, made.schedule)
    cells = cells_of(made.plan, spans, made.frame)
    after = int(np.flatnonzero(cells.begins == micros(pd.Series(pd.to_datetime([pause["ends"]])))[0])[0])
    assert cells.before[after] == -1
    assert cells.before[after + 1] == after
    sums = cells.for_lots(made.frame["resolved"].to_numpy())
    counted = sums.counted(cells.arm[None, :])[0]
    assert sums.n + counted * sums.early_n == pytest.approx(cells.sums(made.frame["resolved"].to_numpy())[0])


def test_clusters_and_pools_always_change_when_they_begin():
    for design in ("cluster", "customer"):
        made = make(plan_of(design, wash_out_minutes=60))
        cells = cells_of(made.plan, spans_of(made.plan, made.schedule), made.frame)
        assert (cells.before == ALWAYS).all()
        assert made.frame["washed"].any()


def test_of_customers_a_cell_is_a_pool_in_a_window_and_both_pools_are_a_cluster():
    made = make(plan_of("customer"))
    cells = cells_of(made.plan, spans_of(made.plan, made.schedule), made.frame)
    assert len(cells) == 28
    assert cells.unit[:2].tolist() == ["queue", "matched"]
    assert cells.cluster.tolist() == [i // 2 for i in range(28)]
    assert (cells.arm[cells.of] == made.frame["arm"]).all()


def test_contacts_outside_of_the_schedule_are_in_no_cell():
    made = make(plan_of())
    frame = made.frame.assign(arm=np.where(np.arange(len(made.frame)) < 50, -1, made.frame["arm"]).astype(np.int8))
    cells = cells_of(made.plan, spans_of(made.plan, made.schedule), frame)
    assert (cells.of[:50] == -1).all()
    assert not cells.counted[:50].any()


def test_a_frame_that_contradicts_the_schedule_is_refused():
    made = make(plan_of())
    wrong = made.frame.assign(arm=(1 - made.frame["arm"]).astype(np.int8))
    with pytest.raises(DataError, match=r"frame, row 0, column arm: \d, where the schedule has arm \d"):
        cells_of(made.plan, spans_of(made.plan, made.schedule), wrong)
    elsewhere = made.frame.assign(unit="another centre")
    with pytest.raises(DataError, match="where the schedule has no span"):
        cells_of(made.plan, spans_of(made.plan, made.schedule), elsewhere)


def test_times_without_a_zone_are_refused():
    made = make(plan_of())
    naive = made.frame.assign(arrived_at=made.frame["arrived_at"].dt.tz_localize(None))
    with pytest.raises(DataError, match=r"column arrived_at: .*times with a zone expected"):
        cells_of(made.plan, spans_of(made.plan, made.schedule), naive)


def test_times_of_any_unit_and_zone_are_the_same_moments():
    schedule = make(plan_of()).schedule["begins_at"]
    other = schedule.dt.as_unit("ns").dt.tz_convert("Asia/Tokyo")
    assert (micros(schedule) == micros(other)).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.drop(columns="pair"), "column pair is missing"),
        (lambda s: s.iloc[:0], "it is empty"),
        (lambda s: s.assign(arm=s["arm"].where(s.index != 3)), "row 3, column arm: null"),
        (
            lambda s: s.assign(arm=s["arm"].where(s.index != 5, "third")),
            "row 5, column arm: 'third'; the plan has 'queue'",
        ),
        (
            lambda s: s.assign(ends_at=s["ends_at"].where(s.index != 2, s["begins_at"])),
            "row 2: it ends before it begins",
        ),
        (lambda s: s.assign(pair=s["pair"].where(s.index != 7, 900)), "is no pair of spans, one of each arm"),
        (lambda s: s.assign(pair=s["pair"].astype(str)), r"column pair: str; whole numbers \(int64\) expected"),
        (lambda s: s.assign(pair=s["pair"] + 0.4), r"column pair: float64; whole numbers \(int64\) expected"),
    ],
)
def test_a_schedule_that_is_none_is_refused_in_one_line(change, said):
    made = make(plan_of())
    with pytest.raises(DataError, match=said) as error:
        spans_of(made.plan, change(made.schedule))
    assert "\n" not in str(error.value)


def test_overlaps_are_found_and_named():
    made = make(plan_of())
    longer = made.schedule.assign(ends_at=made.schedule["ends_at"] + pd.Timedelta(minutes=1))
    assert spans_of(made.plan, made.schedule).overlap() is None
    assert spans_of(made.plan, longer).overlap() == (
        "unit 'centre': the span until 2026-03-02T04:01:00Z overlaps that from 2026-03-02T04:00:00Z"
    )


def test_spans_at_a_moment_are_half_open():
    made = make(plan_of())
    spans = spans_of(made.plan, made.schedule)
    begins = spans.begins[0]
    unit = np.full(4, "centre", object)
    found = spans.at(unit, np.array([begins - 1, begins, begins + 4 * HOUR - 1, begins + 4 * HOUR]))
    assert found.tolist() == [-1, 0, 0, 1]
    assert spans.at(np.array(["elsewhere", None], object), np.array([begins, begins])).tolist() == [-1, -1]


def test_a_schedule_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "schedule.parquet").write_text("no Parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_schedule(tmp_path / "schedule.parquet")
