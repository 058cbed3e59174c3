"""The mapping file: what it may say, and the line for what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from twotower.errors import ConfigError
from twotower.imports.mapping import Field, map_of, read_map

TABLES: dict[str, Any] = {
    "contacts": {"columns": {"contact_id": "id", "arrived_at": "start"}},
    "interactions": {"columns": {"contact_id": "id", "csa_id": "agent", "assigned_at": "start"}},
}
GOOD: dict[str, Any] = {"version": 1, "source": "csv", "zone": "Europe/Madrid", "tables": TABLES}


def with_field(field: Any, column: str = "resolved") -> dict[str, Any]:
    columns = TABLES["interactions"]["columns"] | {column: field}
    return GOOD | {"tables": TABLES | {"interactions": {"columns": columns}}}


def read_field(text: str, column: str = "resolved") -> Field:
    return map_of(with_field(yaml.safe_load(text), column)).tables["interactions"].columns[column]


def test_a_name_alone_is_where_a_column_comes_from() -> None:
    assert read_field("Outcome") == Field(("Outcome",))
    assert read_field("27642") == Field(("27642",))


def test_everything_a_field_can_say() -> None:
    assert read_field(
        "{from: [Date, Time], format: '%d/%m/%Y %H:%M', zone: UTC, plus: {from: Wait, unit: min}}"
    ) == Field(("Date", "Time"), format="%d/%m/%Y %H:%M", zone="UTC", plus=(Field(("Wait",), unit="min"),))
    assert read_field("{from: Outcome, true: [OK], false: KO, values: {done: ok}}") == Field(
        ("Outcome",), yes=("ok",), no=("ko",), values={"done": "ok"}
    )
    assert read_field("{from: Rating, scale: [0, 10]}").scale == (0.0, 10.0)
    assert read_field("{value: call}") == Field(value="call")
    assert read_field("{from: id, hash: false}").hash == "no"


def test_words_that_yaml_takes_for_its_own_are_texts_again() -> None:
    field = read_field("{from: Outcome, true: [yes, 1, ok], false: [no, 0]}")
    assert field.yes == ("true", "yes", "on", "1", "ok")
    assert field.no == ("false", "no", "off", "0")


def test_options_of_the_formats() -> None:
    connect = map_of(
        {"version": 1, "source": "connect", "connect": {"csa_id": "username", "resolved_without_contact_h": 168,
         "attributes": {"intent": "reason"}}}
    ).connect  # fmt: skip
    assert (connect.csa_id, connect.resolved_without_contact_h) == ("username", 168.0)
    assert connect.attributes == {"intent": Field(("reason",))}
    zendesk = map_of({"version": 1, "source": "zendesk", "zendesk": {"reopen_days": 0, "fields": {"intent": 27642}}})
    assert zendesk.zendesk.reopen_days == 0
    assert zendesk.zendesk.fields == {"intent": Field(("27642",))}


BAD: dict[str, tuple[Any, str]] = {
    "no mapping": (["a"], "the file: expected names with values"),
    "another version": (GOOD | {"version": 2}, "version: 2 is not known"),
    "an unknown name": (GOOD | {"sauce": 1}, "'sauce' is not known; there are version, source"),
    "an unknown source": (GOOD | {"source": "excel"}, "source: 'excel' is not known"),
    "an unknown zone": (GOOD | {"zone": "Mars"}, "zone: 'Mars' is no time zone"),
    "an unknown region": (GOOD | {"region": "XX"}, "region: 'XX' is no region"),
    "an unknown table": (GOOD | {"tables": TABLES | {"calls": {}}}, "tables: 'calls' is not known"),
    "no interactions": (GOOD | {"tables": {"contacts": TABLES["contacts"]}}, "contacts and interactions are needed"),
    "tables elsewhere": ({"version": 1, "source": "connect", "tables": TABLES}, "tables: belongs to `source: csv`"),
    "an unknown column": (with_field("x", "mood"), "tables.interactions.columns: 'mood' is not known"),
    "a needed column": (GOOD | {"tables": TABLES | {"contacts": {"columns": {"contact_id": "id"}}}},
                        "tables.contacts.columns: arrived_at is missing"),
    "still to do": (with_field("TODO"), "tables.interactions.columns.resolved.from: says TODO"),
    "an unknown option": (with_field({"from": "x", "formt": "%Y"}), "'formt' is not known"),
    "nothing to take": (with_field({"format": "%Y"}), "expected `from`"),
    "two things to take": (with_field({"from": "x", "value": "y"}), "expected `from`"),
    "a scale upside down": (with_field({"from": "x", "scale": [10, 0]}), "scale: expected the lowest and the highest"),
    "an unknown unit": (with_field({"from": "x", "unit": "days"}), "unit: 'days' is not known"),
    "an unknown hash": (with_field({"from": "x", "hash": "md5"}), "hash: 'md5' is not known"),
    "a row elsewhere": (with_field({"row": True}), "row: expected true, for a contact_id"),
    "an unknown encoding": (GOOD | {"csv": {"encoding": "utf-9"}}, "csv.encoding: 'utf-9' is not known"),
    "an unknown decimal": (GOOD | {"csv": {"decimal": ";"}}, "csv.decimal: ';' is not known"),
    "hours below zero": ({"version": 1, "source": "connect", "connect": {"resolved_without_contact_h": -1}},
                         "connect.resolved_without_contact_h: expected a number of zero or more"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_a_map_may_not_say_is_one_line(name: str, tmp_path: Path) -> None:
    content, line = BAD[name]
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as raised:
        read_map(tmp_path / "mapping.yaml")
    assert str(raised.value).startswith(f"{tmp_path}/mapping.yaml: ")
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text("a: [b")
    with pytest.raises(ConfigError, match=r"mapping\.yaml: is no YAML file"):
        read_map(tmp_path / "mapping.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_map(tmp_path / "nowhere.yaml")
