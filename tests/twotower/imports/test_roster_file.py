"""CSAs as hand-overs show them, dated; and from a file in their place."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.twotower.imports.conftest import Place
from tests.twotower.imports.exports import agent, at, contact, micros
from twotower.errors import DataError
from twotower.imports.roster import read_roster


def queue(name: str, begun: float) -> dict[str, object]:
    return {"Queue": {"Name": name, "EnqueueTimestamp": at(begun + 10)}}


def test_a_skill_is_shown_from_the_first_hand_over_that_needs_it(place: Place) -> None:
    done = place.connect(
        contact("c1", 0, agent("ada", 40), **queue("Cards", 0), LanguageCode="en-GB"),
        contact("c2", 1000, agent("ada", 1040), **queue("Cards", 1000), LanguageCode="en-GB"),
        contact("c3", 2000, agent("ada", 2040), **queue("Loans", 2000), LanguageCode="es-ES"),
    )
    first, later = done.rows("csas")
    assert (first["valid_from"], first["hired_at"]) == (None, micros(40))
    assert ([one["name"] for one in first["skills"]], first["languages"]) == (["Cards"], ["en-GB"])
    assert (later["valid_from"], later["hired_at"]) == (micros(2040), micros(40))
    assert ([one["name"] for one in later["skills"]], later["languages"]) == (["Cards", "Loans"], ["en-GB", "es-ES"])


def test_a_table_of_the_first_half_is_the_first_half_of_the_table(place: Place) -> None:
    """Nothing that is seen later changes what was stated of an earlier time."""
    records = [
        contact(f"c{n}", n * 1000, agent("ada", n * 1000 + 40), **queue(f"q{n % 3}", n * 1000)) for n in range(6)
    ]
    place.output = place.folder / "half"
    half = place.connect(*records[:2]).rows("csas")
    place.output = place.folder / "whole"
    assert place.connect(*records).rows("csas")[: len(half)] == half


def test_several_at_once_are_capacity_from_then_on(place: Place) -> None:
    done = place.connect(*(contact(f"c{n}", n * 10, agent("ada", n * 10 + 40)) for n in range(3)))
    assert [row["capacity"] for row in done.rows("csas")] == [1, 2, 3]


def test_another_team_is_a_row_of_its_own(place: Place) -> None:
    other = {"HierarchyGroups": {"Level1": {"GroupName": "Madrid"}}}
    done = place.connect(contact("c1", 0, agent("ada", 40)), contact("c2", 1000, agent("ada", 1040, **other)))
    assert [(row["team"], row["site"]) for row in done.rows("csas")] == [("Cards", "London"), ("Madrid", "London")]


ROSTER = "csa_id,languages,skills,hired_at,capacity\nada,en|es,cards:0.5,2020-01-01T00:00:00Z,2\n"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_replaces_the_csas_and_leaves_out_others(place: Place, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"team.{kind}"
    if kind == "csv":
        file.write_text(ROSTER)
    else:
        pq.write_table(pa.table({
            "csa_id": ["ada"], "languages": [["en", "es"]], "skills": [[{"name": "cards", "level": 0.5}]],
            "profile": [""],
            "hired_at": pa.array([1_577_836_800_000_000], pa.timestamp("us", "UTC")), "capacity": [2],
        }), file)  # fmt: skip
    done = place.connect(contact("c1", 0, agent("ada", 40)), contact("c2", 900, agent("bob", 940)), csas=file)
    row = done.one("csas")
    assert (row["csa_id"], row["languages"], row["capacity"], row["hired_at"]) == (
        "ada", ["en", "es"], 2, 1_577_836_800_000_000,
    )  # fmt: skip
    assert row["skills"] == [{"name": "cards", "level": 0.5}]
    assert [one["csa_id"] for one in done.rows("interactions")] == ["ada"]
    assert done.notes("left out") == {"hand-overs to CSAs whom --csas does not name": 1}


BAD = {
    "an unknown column": ("csa_id,mood\nada,good\n", "the column 'mood' is none of csas"),
    "no id": ("csa_id,team\n,x\n", "a row without csa_id"),
    "a broken level": ("csa_id,skills\nada,cards:7\n", "skills is no list of skills with levels"),
    "a broken row": ("csa_id,team\nada\n", "rows with another number of cells"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_roster_that_cannot_be_is_one_line_before_anything_is_read(place: Place, tmp_path: Path, name: str) -> None:
    (tmp_path / "team.csv").write_text(BAD[name][0])
    with pytest.raises(DataError, match=BAD[name][1]):
        place.connect(contact("c1", 0, agent("ada", 40)), csas=tmp_path / "team.csv")
    assert not list(tmp_path.glob(".*"))


def test_a_parquet_roster_of_other_types_is_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"csa_id": ["ada"], "languages": ["en"]}), tmp_path / "team.parquet")
    with pytest.raises(DataError, match=r"team\.parquet: column languages: wrong type string"):
        read_roster(tmp_path / "team.parquet")
    with pytest.raises(DataError, match="no such file"):
        read_roster(tmp_path / "nowhere.parquet")
