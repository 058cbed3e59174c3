"""A log as arrays, and everything that can be wrong with one or with its mapping, in one line each."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evaluation.simulate.calls import UNKNOWN, Calls, calls_of, read_calls
from evaluation.simulate.mapping import mapping_of, read_mapping
from tests.evaluation.simulate.call_logs import MAPPING, mapping
from twotower.errors import ConfigError, DataError

CONFIG = Path(__file__).parents[3] / "configs" / "anonymousbank.yaml"


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "day": ["2026-01-06", "2026-01-05", "2026-01-05", "2026-01-10", "2026-01-05"],
            "came": ["09:00:00", "10:00:30", "09:30:00", "07:59:59", "11:00:00"],
            "waited": [0, 12.5, 30, 0, 0],
            "took": [100, 0, 60, 10, 10],
            "how": ["served", "lost", "served", "served", "test"],
            "who": ["A", "", "B", "A", "A"],
            "about": ["bill", "loan", "bill", "bill", "bill"],
            "rank": [0, 1, 1, 0, 0],
        }
    )


def with_(**fields: Any) -> dict[str, Any]:
    return deepcopy(MAPPING) | fields


def test_calls_are_ordered_and_what_is_left_out_is_counted() -> None:
    calls = calls_of(rows(), mapping())
    assert [one.isoformat() for one in calls.dates] == ["2026-01-05", "2026-01-06", "2026-01-10"]
    assert calls.day.tolist() == [0, 0, 1]
    assert calls.arrival.tolist() == [34200.0, 36030.0, 32400.0]
    assert calls.wait.tolist() == [30.0, 12.5, 0.0]
    assert calls.lost.tolist() == [False, True, False]
    assert [calls.csas[one] if one != UNKNOWN else "" for one in calls.csa] == ["B", "", "A"]
    assert calls.high.tolist() == [1, 1, 0]
    assert calls.hours_of(2).name == "end"
    expected = {"rows": 5, "on days of failure": 0, "ignored": 1, "left before the queue": 0, "closed": 1}
    assert calls.left_out == expected


def test_a_priority_that_only_queued_calls_tell_is_not_read_of_others() -> None:
    calls = calls_of(rows(), mapping_of(with_(priority_of_queued_only=True)))
    assert calls.high.tolist() == [1, 1, UNKNOWN]


def test_durations_may_be_two_times_and_go_over_midnight() -> None:
    frame = rows().assign(begin="23:59:50", end="00:00:20")
    columns = MAPPING["columns"] | {"handled": ["begin", "end"]}
    assert calls_of(frame, mapping_of(with_(columns=columns))).handle.tolist() == [30.0, 0.0, 30.0]


def test_days_of_failure_calls_that_left_before_and_nobody_are_as_the_mapping_says() -> None:
    left = {"column": "waited", "values": ["12.5"]}
    calls = calls_of(rows(), mapping_of(with_(failed=["2026-01-06"], left_before=left, nobody=["B"])))
    assert len(calls) == 1
    assert calls.csas == ("A",)
    assert not calls.named.any()
    assert calls.left_out["left before the queue"] == calls.left_out["on days of failure"] == 1


def test_parquet_and_csv_tell_the_same(tmp_path: Path) -> None:
    rows().to_parquet(tmp_path / "log.parquet")
    rows().to_csv(tmp_path / "log.csv", index=False)
    one, two = (read_calls(tmp_path / f"log.{suffix}", mapping()) for suffix in ("parquet", "csv"))
    for name in ("day", "arrival", "type", "high", "wait", "lost", "handle", "csa"):
        assert getattr(one, name).tolist() == getattr(two, name).tolist()
    assert isinstance(one, Calls)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"how": "gone"}, r"log, row 1: how: 'gone'; one of served, lost, test expected; correct the 5 such rows"),
        ({"day": "5.1.2026"}, "row 1: day: '5.1.2026'; a date of the form %Y-%m-%d expected"),
        ({"came": "9 o'clock"}, 'came: "9 o\'clock"; a time of the form %H:%M:%S'),
        ({"waited": [0, 1, -3, 0, 0]}, "row 3: waited: -3; seconds of 0 to less than a day expected; correct the row,"),
        ({"took": "long"}, "took: 'long'; seconds of 0"),
    ],
)
def test_a_row_that_cannot_be_is_named_in_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        calls_of(rows().assign(**change), mapping())
    assert "\n" not in str(error.value)


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'who'; name the right one"):
        calls_of(rows().drop(columns="who"), mapping())
    with pytest.raises(DataError, match="no rows"):
        calls_of(rows().iloc[:0], mapping())
    with pytest.raises(ConfigError, match=r"a .parquet or .csv file"):
        read_calls("log.xlsx", mapping())
    with pytest.raises(DataError, match="cannot be read"):
        read_calls(tmp_path / "none.csv", mapping())
    (tmp_path / "log.parquet").write_text("no")
    with pytest.raises(DataError, match="is no parquet table"):
        read_calls(tmp_path / "log.parquet", mapping())
    week = {"week": MAPPING["days"]["week"]}
    with pytest.raises(DataError, match="on a weekday of none of the mapping's `days`"):
        calls_of(rows(), mapping_of(with_(days=week)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"column": {}}, "'column' is no field"),
        ({"columns": {"date": "day"}}, "columns: 'arrival' is missing"),
        ({"columns": MAPPING["columns"] | {"csa": 5}}, "columns.csa: 5; text expected"),
        ({"columns": MAPPING["columns"] | {"waited": ["a"]}}, "columns.waited: .*two of times"),
        ({"outcomes": {"served": "served", "abandoned": []}}, "outcomes.served: 'served'; a list"),
        ({"days": {}}, "days: {}; kinds of days"),
        ({"days": {"x": {"of": ["someday"], "open": ["8:00", "9:00"]}}}, "days.x.of: 'someday'; weekdays"),
        ({"days": {"x": {"of": ["monday"], "open": ["9:00", "8:00"]}}}, "an opening before the closing"),
        ({"days": {"x": {"of": ["monday"], "open": [480, "8:00"]}}}, "days.x.open: 480; a time in quotes"),
        ({"days": {"x": {"of": ["monday"], "open": ["8:00", "25:00"]}}}, "24:00 at most"),
        ({"high": None}, "high: None; a list"),
        ({"priority_of_queued_only": "yes"}, "true or false expected"),
    ],
)
def test_a_mapping_that_cannot_be_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        mapping_of(with_(**change))


def test_files_of_mappings(tmp_path: Path) -> None:
    assert read_mapping(CONFIG).high == ("2",)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mapping(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="is no YAML file"):
        read_mapping(tmp_path / "bad.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"empty.yaml: the file: None; a mapping of"):
        read_mapping(tmp_path / "empty.yaml")
