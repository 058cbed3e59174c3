"""Times are microseconds in UTC, and a time without a zone is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.clock import DAY, NEVER, NULL_TIME, format_time, from_arrow, now, parse_time, to_arrow
from twotower.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    ["2026-01-31T00:00:00Z", "2026-01-31T02:00:00+02:00", "2026-01-30T19:00:00.000000-05:00", "20260131T000000Z"],
)
def test_a_time_with_a_zone_is_a_moment(text):
    assert parse_time(text) == 1_769_817_600_000_000


def test_the_present_is_the_machines():
    before = datetime.now(UTC) - timedelta(microseconds=1)  # a clock of floats may round up
    moment = now()
    assert parse_time(before.isoformat()) <= moment <= parse_time(datetime.now(UTC).isoformat()) + 1


@pytest.mark.parametrize("text", ["2026-01-31", "2026-01-31T00:00:00", "2026-01-31 10:00"])
def test_a_time_without_a_zone_is_refused(text):
    with pytest.raises(ConfigError, match=f"--until: '{text}' names no time zone; add Z for UTC"):
        parse_time(text, "--until")


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30T00:00:00Z", "1769817600"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ConfigError, match="is no time; write it like 2026-01-31T00:00:00Z"):
        parse_time(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_survives_being_written(moment):
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_time(format_time(microseconds)) == microseconds


def test_what_stands_outside_time_has_a_name():
    assert format_time(NEVER) == "never"
    assert format_time(NULL_TIME) == "unknown"
    assert format_time(NEVER - 1).endswith("µs after 1970")


@pytest.mark.parametrize(("unit", "scale"), [("s", 1_000_000), ("ms", 1000), ("us", 1)])
def test_every_unit_and_zone_of_arrow_is_read(unit, scale):
    column = pa.chunked_array([[1, None], [3]], pa.timestamp(unit, tz="America/New_York"))
    assert from_arrow(column, NEVER).tolist() == [scale, NEVER, 3 * scale]


def test_to_arrow_is_the_inverse():
    times = np.array([0, DAY, NEVER, -DAY, NULL_TIME])
    column = to_arrow(times)
    assert column.null_count == 2
    assert from_arrow(column, NEVER).tolist() == [0, DAY, NEVER, -DAY, NEVER]
