"""Times, numbers, flags, languages, durations and customers, as exports write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from twotower.errors import ConfigError
from twotower.imports.customers import CustomerKeys, check_region, plain_form
from twotower.imports.times import NO_TIME, NO_ZONE, OUTSIDE, Times, Unread, zone_of
from twotower.imports.values import clean, flag_of, language_of, list_of, number_of, seconds_of, skills_of, text_of
from twotower.tables.schema import is_language_tag

NOON = 1_767_614_400_000_000  # 2026-01-05T12:00:00Z


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-05T12:00:00Z", "2026-01-05T12:00:00.000Z", "2026-01-05 12:00:00+00:00", "2026-01-05T13:00:00+01:00",
        "20260105T120000Z", " 2026-01-05T12:00:00Z ", "2026-01-05 12:00:00 UTC", "1767614400", "1767614400000",
        "1767614400000000", "1767614400.0", 1767614400, 1767614400.0, 1767614400000, 1767614400000000000,
        datetime(2026, 1, 5, 12, tzinfo=UTC),
    ],
)  # fmt: skip
def test_times_of_every_kind(written: Any) -> None:
    assert Times().read(written) == NOON


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("2026-01-05T12:00:00", NO_ZONE), (datetime(2026, 1, 5), NO_ZONE), (date(2026, 1, 5), NO_ZONE),
        ("yesterday", NO_TIME), ("", NO_TIME), (True, NO_TIME), (["x"], NO_TIME), ("2026-13-01T00:00:00Z", NO_TIME),
        ("9999-12-31T00:00:00Z", OUTSIDE), ("0001-01-01T00:00:00Z", OUTSIDE), ("1969-12-31T00:00:00Z", OUTSIDE),
        (-5, OUTSIDE), (0, OUTSIDE), (17, OUTSIDE), (float("nan"), OUTSIDE), (10**30, OUTSIDE), ("9" * 400, OUTSIDE),
        ("²", NO_TIME),
    ],
)  # fmt: skip
def test_what_is_no_time(written: Any, why: str) -> None:
    with pytest.raises(Unread) as raised:
        Times().read(written)
    assert str(raised.value) == why


def test_a_zone_is_that_of_times_without_one_alone() -> None:
    madrid = Times(None, zone_of("Europe/Madrid", "zone"))
    assert madrid.read("2026-01-05T13:00:00") == NOON
    assert madrid.read("2026-01-05T12:00:00Z") == NOON
    assert madrid.read("2026-07-05T14:00:00") - madrid.read("2026-07-05T12:00:00Z") == 0


def test_local_times_at_a_change_of_clocks_are_told() -> None:
    told: list[str] = []
    madrid = Times(None, zone_of("Europe/Madrid", "zone"), told.append)
    twice = madrid.read("2026-10-25T02:30:00")
    assert twice == Times().read("2026-10-25T02:30:00+02:00")
    madrid.read("2026-10-25T04:30:00")
    assert len(told) == 1
    madrid.read("2026-03-29T02:30:00")
    assert len(told) == 2


def test_formats_and_their_zones() -> None:
    assert Times("%d/%m/%Y %H:%M", UTC).read("05/01/2026 12:00") == NOON
    assert Times("%d/%m/%Y %H:%M %z").read("05/01/2026 13:00 +0100") == NOON
    with pytest.raises(Unread, match="is no time like %d/%m/%Y"):
        Times("%d/%m/%Y", UTC).read("2026-01-05")


def test_an_unknown_zone_is_one_line() -> None:
    with pytest.raises(ConfigError, match="zone: 'Mars/Base' is no time zone"):
        zone_of("Mars/Base", "zone")


def test_text_is_cleaned_of_what_no_table_holds() -> None:
    assert clean("a\0b\ud800c é") == "ab\ufffdc é"
    assert text_of("  x ") == "x"
    assert text_of("  ") is None
    assert text_of(7.0) == "7"
    assert text_of(Decimal("7.5")) == "7.5"
    assert text_of(True) == "true"
    with pytest.raises(Unread):
        text_of({"a": 1})


@pytest.mark.parametrize(
    ("written", "decimal", "number"),
    [("1,5", ",", 1.5), ("1.234,5", ",", 1234.5), ("1234", ",", 1234), ("85 %", ".", 85), (" 7 ", ".", 7),
     ("1'000", ".", 1000), ("n/a", ".", None), (None, ".", None), (3, ",", 3)],
)  # fmt: skip
def test_numbers(written: Any, decimal: str, number: float | None) -> None:
    assert number_of(written, decimal) == number


@pytest.mark.parametrize(("written", "decimal"), [("x", "."), ("1.5", ","), ("inf", "."), ("nan!", "."), ([1], "."),
                                                 ("9" * 100, "."), (10**400, ".")])  # fmt: skip
def test_what_is_no_number(written: Any, decimal: str) -> None:
    with pytest.raises(Unread):
        number_of(written, decimal)


@pytest.mark.parametrize(
    ("written", "unit", "seconds"),
    [(90, "s", 90), (1.5, "min", 90), ("1:02:03", "s", 3723), ("02:03", "s", 123), ("250", "ms", 0.25),
     (timedelta(minutes=2), "s", 120), ("", "s", None)],
)  # fmt: skip
def test_durations(written: Any, unit: str, seconds: float | None) -> None:
    assert seconds_of(written, unit) == seconds


@pytest.mark.parametrize("written", [-1, "-0:30", timedelta(seconds=-1)])
def test_negative_durations_are_none(written: Any) -> None:
    with pytest.raises(Unread, match="is a negative duration"):
        seconds_of(written)


def test_flags() -> None:
    assert flag_of("Resuelto") is True
    assert flag_of("nein") is False
    assert flag_of(True) is True
    assert flag_of("") is None
    assert flag_of("OK", yes=["ok"]) is True
    assert flag_of("anything", yes=["ok"]) is False
    assert flag_of("anything", no=["ko"]) is True
    with pytest.raises(Unread):
        flag_of("perhaps")
    with pytest.raises(Unread):
        flag_of("perhaps", yes=["ok"], no=["ko"])


@pytest.mark.parametrize(
    ("written", "tag"),
    [("en_US", "en-US"), ("EN", "en"), ("pt-br", "pt-BR"), ("zh-Hant-TW", "zh-Hant-TW"), ("Español", "es"),
     ("German", "de"), ("en_GB.UTF-8", "en-GB"), ("", None)],
)  # fmt: skip
def test_languages(written: str, tag: str | None) -> None:
    assert language_of(written) == tag
    assert tag is None or is_language_tag(tag)


def test_what_is_no_language() -> None:
    with pytest.raises(Unread):
        language_of("12345")


def test_lists_and_skills() -> None:
    assert list_of("a| b |", "|") == ["a", "b"]
    assert list_of(["a", 7], "|") == ["a", "7"]
    assert skills_of("billing:0.5|cards|re:zero", "|") == [
        {"name": "billing", "level": 0.5},
        {"name": "cards", "level": 1.0},
        {"name": "re:zero", "level": 1.0},
    ]
    with pytest.raises(Unread):
        skills_of("billing:7", "|")


@pytest.mark.parametrize("written", ["+34 600 11 22 33", "0034600112233", "tel:+34600112233", "+34-600-11-22-33"])
def test_a_telephone_number_has_one_form(written: str) -> None:
    assert plain_form(written) == "phone:+34600112233"


def test_forms_of_other_customers() -> None:
    assert plain_form(" Ana.B@Example.COM ") == "email:ana.b@example.com"
    assert plain_form("600112233", "phone", "ES") == "phone:+34600112233"
    assert plain_form("600 112 233", "phone") == "phone:600112233"
    assert plain_form("4711") == "id:4711"


def test_a_key_says_nothing_and_is_the_same_for_one_secret() -> None:
    keys, others = CustomerKeys(b"x" * 16), CustomerKeys(b"y" * 16)
    key = keys.key("+34600112233")
    assert key == CustomerKeys(b"x" * 16).key("0034 600 11 22 33")
    assert key != others.key("+34600112233")
    assert key is not None
    assert len(key) == 32
    assert "600112233" not in key


@pytest.mark.parametrize("hidden", ["anonymous", "Restricted", "+266696687", None])
def test_who_shows_no_number_is_nobody(hidden: str | None) -> None:
    assert CustomerKeys(b"x" * 16).key(hidden) is None


def test_without_a_secret_nobody_is_identified() -> None:
    keys = CustomerKeys(None)
    assert not keys.identifies
    assert keys.key("+34600112233") is None


def test_an_unknown_region_is_one_line() -> None:
    with pytest.raises(ConfigError, match="region: 'XX' is no region"):
        check_region("XX", "region")
