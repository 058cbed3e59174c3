"""Hostile and broken input: each kind has a stated behaviour (docs/import.md, "Odd input")."""

from __future__ import annotations

import gzip
import json
import resource
import time
from typing import Any

import pytest

from tests.twotower.imports.conftest import Place
from tests.twotower.imports.exports import agent, at, chat, contact, lines
from twotower.errors import DataError

ONE = contact("c1", 0, agent("ada", 40))
GOOD = [contact(f"c{n}", n * 500, agent("ada", n * 500 + 40)) for n in range(5)]


def damaged(place: Place, content: bytes, expected: dict[str, int], contacts: int = 5) -> None:
    place.put("records.json", content)
    done = place.run("connect", tolerate=1.0)
    assert done.notes("damaged") == expected
    assert len(done.rows("contacts")) == contacts


def test_a_huge_record(place: Place) -> None:
    huge = json.dumps(ONE | {"Attributes": {"x": "y" * 3_000_000}})
    place.put("records.json", lines(GOOD[:3]) + huge + "\n" + lines(GOOD[3:]))
    done = place.run("connect", tolerate=1.0, largest=1 << 20)
    assert done.notes("damaged") == {"records that are larger than --largest": 1}
    assert done.outcome.notes["damaged"][0]["example"] == "records.json:4"
    assert len(done.rows("contacts")) == 5
    place.output = place.folder / "larger"
    assert len(place.run("connect").rows("contacts")) == 5


def test_deep_json(place: Place) -> None:
    deep = '{"ContactId": "x", "a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    content = (lines(GOOD[:3]) + deep + "\n" + lines(GOOD[3:])).encode()
    damaged(place, content, {"records that are nested too deeply": 1})


def test_nul_bytes_in_a_text_and_between_records(place: Place) -> None:
    spoilt = lines([GOOD[0] | {"Channel": "VO\0ICE"}, *GOOD[1:]]).encode()
    damaged(place, spoilt + b"\0" * 4096, {"bytes between records that are no JSON": 1})


def test_invalid_utf8_and_halves_of_characters(place: Place) -> None:
    raw = json.dumps(ONE).replace("VOICE", "VO@ICE").encode().replace(b"@", b"\xff")
    half = json.dumps(contact("c2", 900, agent("ada", 940), Queue={"Name": "a\ud83db", "EnqueueTimestamp": at(910)}))
    place.put("records.json", raw + b"\n" + half.encode())
    done = place.run("connect")
    assert [row["channel"] for row in done.rows("contacts")] == ["VO\ufffdICE", "VOICE"]
    assert done.rows("contacts")[1]["queue"] == "a\ufffdb"
    assert done.notes("repaired") == {"bytes that are not UTF-8, replaced": 1}


def test_a_mark_of_the_byte_order(place: Place) -> None:
    damaged(place, b"\xef\xbb\xbf" + lines(GOOD).encode(), {})


def test_utf16(place: Place) -> None:
    damaged(place, ("\ufeff" + lines(GOOD)).encode("utf-16-le"), {})


def test_empty_files_and_files_of_blanks(place: Place) -> None:
    place.put("a.json", b"")
    place.put("b.json", b" \n\n ")
    place.put("c.json", lines(GOOD))
    done = place.run("connect", tolerate=1.0)
    assert done.notes("left out") == {"files without a byte": 1}
    assert done.notes("damaged") == {"files without a record": 1}


def test_nothing_but_empty_files(place: Place) -> None:
    place.put("a.json", b"")
    with pytest.raises(DataError, match="holds no file with a byte in it"):
        place.run("connect")


def test_a_gzip_file_that_is_cut_off(place: Place) -> None:
    whole = gzip.compress(lines([contact(f"c{n}", n * 500, agent("ada", n * 500 + 40)) for n in range(500)]).encode())
    place.put("a.json.gz", whole[:-2000])
    done = place.run("connect", tolerate=1.0)
    assert done.notes("damaged").keys() == {
        "gzip files that are cut off: what is there was read",
        "records that are cut off at the end of the file",
    }
    assert 100 < len(done.rows("contacts")) < 500


def test_links_are_not_followed(place: Place) -> None:
    place.put("a.json", lines(GOOD))
    (place.folder / "elsewhere.json").write_text(lines([contact("x", 0, agent("eve", 40))]))
    (place.source / "b.json").symlink_to(place.folder / "elsewhere.json")
    (place.source / "circle").symlink_to(place.source)
    done = place.run("connect")
    assert len(done.rows("contacts")) == 5
    assert done.notes("left out") == {"links, which are not followed": 2}


def test_duplicate_keys_in_an_object(place: Place) -> None:
    """The last one counts, as everywhere in JSON."""
    place.put("a.json", json.dumps(ONE).replace('"Channel": "VOICE"', '"Channel": "VOICE", "Channel": "CHAT"'))
    assert place.run("connect").one()["channel"] == "CHAT"


ODD: list[Any] = [[], {}, 7, True, 1e400, -1, "x" * 100_000, "\0", None, [1, None], [[]], {"a": 1}]


@pytest.mark.parametrize("name", ["Agent", "Queue", "Attributes", "Channel", "Recordings", "LastUpdateTimestamp",
                                  "CustomerEndpoint", "PreviousContactId", "InitiationTimestamp"])  # fmt: skip
def test_fields_of_other_types_cost_themselves(place: Place, name: str) -> None:
    place.put("a.json", lines([*(ONE | {name: value, "ContactId": f"odd{n}"} for n, value in enumerate(ODD)), ONE]))
    done = place.run("connect", tolerate=1.0)
    assert "c1" in [row["contact_id"] for row in done.rows("contacts")]
    assert done.outcome.damaged == 0


@pytest.mark.parametrize("name", ["Transcript", "Participants", "LanguageCode", "JobStatus", "ContentMetadata"])
def test_transcripts_of_other_types(place: Place, name: str) -> None:
    talks = [chat(f"odd{n}", [(5, "CUSTOMER", "my card is lost")]) | {name: value} for n, value in enumerate(ODD)]
    contacts = [ONE | {"ContactId": f"odd{n}"} for n in range(len(ODD))]
    place.put("a.json", lines([*contacts, *talks]))
    done = place.run("connect", redactor=None)
    assert len(done.rows("contacts")) == len(ODD)
    assert done.outcome.damaged == 0


def test_a_small_file_that_swells_takes_no_memory(place: Place) -> None:
    """40 MB of blanks inside of 40 kB; the process grows by less than half of that."""
    place.put("a.json.gz", gzip.compress(b" " * (40 << 20) + lines(GOOD).encode()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(place.run("connect").rows("contacts")) == 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10


def test_thousands_of_damaged_records_take_their_time_in_proportion(place: Place) -> None:
    broken = json.dumps(ONE)[:-40] + "\n"
    place.put("a.json", lines(GOOD) + broken * 3000)
    begun = time.perf_counter()
    done = place.run("connect", tolerate=1.0)
    assert done.outcome.damaged == 3000
    assert len(done.outcome.notes["damaged"]) == 1
    assert time.perf_counter() - begun < 30


def test_reasons_hold_nothing_of_the_data(place: Place) -> None:
    spoilt = [
        ONE | {"ContactId": f"c{n}", "InitiationTimestamp": f"secret-{n}", "LanguageCode": f"secret {n}"}
        for n in range(50)
    ]
    place.put("a.json", lines(spoilt))
    done = place.run("connect")
    assert "secret" not in json.dumps(done.outcome.facts())
    assert done.notes("repaired") == {
        "InitiationTimestamp is no time: left out": 50,
        "LanguageCode is no language: left out": 50,
    }
