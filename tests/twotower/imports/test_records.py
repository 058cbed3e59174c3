"""JSON objects out of a stream: every way to string them together, every place to cut, and damage."""

from __future__ import annotations

import json
import random
import time
from itertools import pairwise

import pytest

from twotower.imports import records
from twotower.imports.records import Cursor, Found, Records

PAGES = frozenset({"tickets", "users"})
OBJECTS = [{"id": n, "t": 'x}{ " \\ é\n' * (n % 3), "n": {"a": [{"b": n}]}} for n in range(12)]
TEXTS = [json.dumps(one) for one in OBJECTS]
FORMS = {
    "lines": "\n".join(TEXTS),
    "lines with a mark and \\r": "\ufeff" + "\r\n".join(TEXTS) + "\r\n",
    "one behind the other, as Firehose writes": "".join(TEXTS),
    "a list in one line": json.dumps(OBJECTS),
    "an indented list": json.dumps(OBJECTS, indent=1),
    "a list, an entry a line": "[\n" + ",\n".join(TEXTS) + "\n]\n",
    "indented objects": "\n".join(json.dumps(one, indent=2) for one in OBJECTS),
    "sequences with a separator": "".join(f"\x1e{text}\n" for text in TEXTS),
    "a page": json.dumps({"count": 12, "tickets": OBJECTS, "meta": {"tickets": [1]}, "end": None}),
    "a page a line": "\n".join(json.dumps({"tickets": OBJECTS[n : n + 4]}) for n in (0, 4, 8)),
}


def read(
    data: bytes, block: int | None = None, cursor: Cursor | None = None, largest: int = records.LARGEST
) -> list[Found]:
    cursor = cursor or Cursor()
    data = data[cursor.offset :]
    step = block or max(1, len(data))
    blocks = iter([data[n : n + step] for n in range(0, len(data), step)])
    return list(Records(lambda: next(blocks, b""), lambda value, page: "id" in value, PAGES, cursor, largest))


def signature(found: list[Found]) -> list[tuple[object, ...]]:
    return [(one.value, one.line, one.byte, one.page, one.after, one.why) for one in found]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_objects(form: str) -> None:
    assert [one.value for one in read(FORMS[form].encode())] == OBJECTS


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1000])
def test_the_size_of_blocks_changes_nothing(form: str, block: int) -> None:
    data = FORMS[form].encode()
    assert signature(read(data, block)) == signature(read(data))


@pytest.mark.parametrize("form", FORMS)
def test_reading_goes_on_behind_any_record(form: str) -> None:
    data = FORMS[form].encode()
    whole = read(data)
    for n, one in enumerate(whole):
        assert signature(read(data, 5, one.after)) == signature(whole[n + 1 :])


def test_a_page_names_the_list_that_a_record_stands_in() -> None:
    page = {"count": 1, "tickets": [{"id": 1}], "links": {"next": None}, "users": [{"id": 2}, {"id": 3}]}
    assert [(one.page, one.value) for one in read(json.dumps(page).encode(), 3)] == [
        ("tickets", {"id": 1}),
        ("users", {"id": 2}),
        ("users", {"id": 3}),
    ]


def test_an_object_with_an_id_is_a_record_and_no_page() -> None:
    ticket = {"id": 7, "users": [{"id": 1}]}
    assert [one.value for one in read(json.dumps(ticket).encode())] == [ticket]


def test_places_are_lines_and_bytes_where_a_line_holds_several() -> None:
    lines = b'{"id": 1}\n\n  {"id": 2}{"id": 3}\n[{"id": 4},\n{"id": 5}]'
    assert [(one.line, one.byte) for one in read(lines)] == [(1, None), (3, None), (3, 22), (4, None), (5, None)]


@pytest.mark.parametrize("form", FORMS)
def test_damage_costs_the_record_it_is_in(form: str) -> None:
    """A byte lost, put in or changed anywhere: at most two records are lost, but for the words that make a page one."""
    data, rng, lost = FORMS[form].encode(), random.Random(form), []
    for _ in range(120):
        spoilt = bytearray(data)
        at = rng.randrange(len(spoilt))
        how = rng.randrange(3)
        if how == 0:
            del spoilt[at : at + rng.choice([1, 1, 2, 20])]
        elif how == 1:
            spoilt[at:at] = rng.choice([b'"', b"{", b"}", b"\0", b"\xff", b",", b"[", b"]", b"\n"])
        else:
            spoilt[at] = rng.randrange(256)
        found = read(bytes(spoilt), rng.choice([None, 40]))
        assert signature(found) == signature(read(bytes(spoilt), 3))
        lost.append(len(OBJECTS) - sum(one.value in OBJECTS for one in found))
    assert sorted(lost)[-6:][0] <= 2
    assert "page" in form or max(lost) <= 2


@pytest.mark.parametrize("form", ["lines", "one behind the other, as Firehose writes", "a list in one line"])
def test_a_damaged_record_is_told_and_the_others_are_read(form: str) -> None:
    broken = FORMS[form].replace('"id": 5,', '"id: 5,', 1).encode()
    found = read(broken, 50)
    assert [one.value for one in found if one.why is None] == OBJECTS[:5] + OBJECTS[6:]
    [damage] = [one for one in found if one.why is not None]
    assert damage.line == (6 if form == "lines" else 1)
    assert damage.why is not None
    assert "no JSON" in damage.why


def test_a_record_that_is_cut_off_is_told() -> None:
    found = read((TEXTS[0] + "\n" + TEXTS[1][:-9]).encode())
    assert [one.why for one in found] == [None, records.CUT_OFF]


def test_a_record_too_large_is_told_and_what_comes_behind_is_read() -> None:
    large = json.dumps({"id": 1, "t": ["y" * 100] * 3000})
    found = read(f'{{"id": 0}}\n{large}\n{{"id": 2}}\n'.encode(), 1000, largest=100_000)
    assert [(one.value or {}).get("id") for one in found] == [0, None, 2]
    assert found[1].why == records.TOO_LARGE
    assert found[1].line == 2


def test_nesting_has_an_end() -> None:
    deep = '{"a":' * 50_000 + "1" + "}" * 50_000
    found = read(f'{{"id": 0}}\n{deep}\n{{"id": 2}}\n'.encode())
    assert [one.why for one in found] == [None, records.TOO_DEEP, None]


def test_bytes_that_are_not_utf8_are_replaced_and_told() -> None:
    [one] = read(b'{"id": 1, "t": "caf\xe9"}')
    assert one.mended
    assert one.value == {"id": 1, "t": "caf\ufffd"}


def test_control_characters_inside_of_strings_are_read() -> None:
    assert read(b'{"id": 1, "t": "a\x00b\tc"}')[0].value == {"id": 1, "t": "a\0b\tc"}


def test_what_is_no_json_between_records_is_told_once() -> None:
    found = read(b'{"id": 1}\n\0\0\0\0\n%PDF-1.4 {"x": 1}\n{"id": 2}\n')
    assert [one.why for one in found] == [None, records.NO_JSON, None]


def test_values_that_are_no_objects_are_told() -> None:
    assert [one.why for one in read(b'{"id": 1}\n17\n"text"\n{"id": 2}\n')] == [None, records.NO_JSON, None]


def test_a_number_of_thousands_of_digits_is_told() -> None:
    [one] = read(b'{"id": ' + b"9" * 5000 + b"}")
    assert one.why == "records with a number of thousands of digits"


HOSTILE = {
    "open objects": b'{"a":' * 12_000,
    "open objects in lines": b'\n{"a":' * 12_000,
    "open lists": b'{"a":' + b"[" * 40_000,
    "an open string": b'{"id":"' + b"x" * 100_000,
    "open strings in lines": b'\n{"id":"xxxx' * 8_000,
    "closed and opened": b"}{" * 20_000,
    "nothing": b"\0" * 100_000,
    "open pages": b'{"tickets":[' * 8_000,
    "quotes": b'{"a":"' * 16_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_take_time_in_proportion(name: str) -> None:
    """Twice as many take no more than five times as long, on a machine where others work."""
    data, took = HOSTILE[name], []
    for part in (data[: len(data) // 2], data):
        begun = time.perf_counter()
        found = read(part, 1 << 14, largest=1 << 16)
        took.append(time.perf_counter() - begun)
        assert all(one.why is not None for one in found)
    assert took[1] < 5 * took[0] + 0.5


def test_cursors_only_go_forward() -> None:
    found = read(FORMS["a page"].encode(), 30)
    assert all(one.after.offset < other.after.offset for one, other in pairwise(found))
