"""`twotower features`: one contact or one CSA in lines and as JSON, and one clear line for everything that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serve import fakes
from tests.support import minutes, replaced
from tests.twotower.features.provenance_cases import full_bundle
from twotower.bundle.bundle import Bundle
from twotower.cli import run_verb
from twotower.clock import parse_time
from twotower.features.provenance_csa import CsaCase
from twotower.features.schema import log_columns
from twotower.features.streams import CustomerPast
from twotower.features.verb import VERB, nearest
from twotower.tables import Log

TIME = "2026-01-22T12:00:00Z"


class Entry:
    """An installed entry point."""

    value = "twotower.features.verb:VERB"

    def load(self) -> Any:
        return VERB


def run(*argv: Any) -> int:
    return run_verb("features", [str(a) for a in argv], Entry())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of thirty days."""
    return fakes.write_tables(fakes.tables(), tmp_path_factory.mktemp("centre"))


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that reads every family."""
    return full_bundle(data, tmp_path_factory.mktemp("full"))


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the verb, which must go well, and gives its JSON."""

    def tell(*argv: Any) -> dict[str, Any]:
        assert run(*argv, "--json") == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return tell


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the verb, which must refuse in one line, and gives that."""

    def tell(*argv: Any) -> str:
        assert run(*argv) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        return said.err.strip()

    return tell


def values(found: dict[str, Any]) -> dict[str, Any]:
    """Value by column."""
    return {one["name"]: one["value"] for feature in found["features"] for one in feature["columns"]}


def test_json_of_a_csa_holds_the_tensor_and_the_bundles_id(data, bundle, told):
    opened = Bundle.open(bundle)
    found = told(data, "--csa", "csa-03", "--at", TIME, "--bundle", bundle)
    case = CsaCase(Log.load(data), 3, parse_time(TIME), opened.schema, encoder=opened.contact_encoder)
    assert list(values(found)) == opened.schema.csa_numbers
    assert np.array_equal(np.array(list(values(found).values()), np.float32), case.values)
    assert found["bundle"] == opened.manifest.id
    assert found["subject"] == {"csa": "csa-03"}
    assert found["rows"] == {"csas.parquet": 3}
    assert found["at"] == TIME


def test_json_of_a_contact_holds_the_tensor(data, bundle, told):
    schema, log = Bundle.open(bundle).schema, Log.load(data)
    found = told(data, "--contact", "c0120", "--bundle", bundle)
    place = log.contacts.ids.to_pylist().index("c0120")
    known = CustomerPast(log, schema, schema.rows(log_columns(log)))
    past = known.at(log.contacts.customer[[place]], log.contacts.arrived_at[[place]])
    _, numbers = schema.contact_inputs(log_columns(log, np.array([place])), past)
    assert np.array_equal(np.array([values(found)[name] for name in schema.numbers], np.float32), numbers[0])
    assert found["rows"] == {"contacts.parquet": 120, "customers.parquet": None}


def test_every_column_says_its_feature_unit_meaning_and_origin(data, told):
    for found in (told(data, "--csa", "csa-03", "--at", TIME), told(data, "--contact", "c0100")):
        for feature in found["features"]:
            assert {"name", "unit", "meaning", "family", "level", "as_of", "range"} <= feature.keys()
            assert all(one["from"] for one in feature["columns"])
            assert all(one["evidence"] in (None, *found["evidence"]) for one in feature["columns"])


def test_lines_of_a_csa_say_what_was_left_out_and_which_snapshot_is_read(data, bundle, capsys):
    assert run(data, "--csa", "csa-03", "--at", TIME, "--bundle", bundle) == 0
    lines = capsys.readouterr().out.splitlines()
    late = Log.load(data).handovers
    later = int(((late.csa == 3) & (late.known_at >= parse_time(TIME))).sum())
    assert lines[0] == f"csa csa-03: features as of {TIME}, from what was known before"
    assert lines[1] == f"{later} hand-overs not counted: known at {TIME} or later"
    assert any("reads the snapshot of 2026-01-22T00:00:00Z" in line for line in lines)
    assert not any("the bundle was trained on" in line for line in lines)


def test_a_moment_inside_the_bundles_window_is_warned_of(data, bundle, told):
    notes = told(data, "--csa", "csa-03", "--at", "2026-01-10T00:00:00Z", "--bundle", bundle)["notes"]
    assert any("the bundle was trained on what was known before 2026-01-21T00:00:00Z" in note for note in notes)


def test_all_prints_every_column(data, capsys):
    assert run(data, "--csa", "csa-03", "--at", TIME) == 0
    short = capsys.readouterr().out
    assert run(data, "--csa", "csa-03", "--at", TIME, "--all") == 0
    long = capsys.readouterr().out
    assert "skills=password" not in short
    assert "skills=password" in long
    assert "signature_31" not in short
    assert "signature_31" in long


def test_a_later_moment_leaves_a_contacts_features_alone(data, told):
    first, later = told(data, "--contact", "c0100"), told(data, "--contact", "c0100", "--at", "2026-02-01T00:00:00Z")
    assert later["notes"] == [
        *first["notes"], "asked for at 2026-02-01T00:00:00Z: a contact's features stay those of its arrival",
    ]  # fmt: skip
    assert {**later, "notes": []} == {**first, "notes": []}


def test_a_contact_may_be_asked_for_at_its_arrival(data, told):
    arrival = told(data, "--contact", "c0100")["at"]
    assert told(data, "--contact", "c0100", "--at", arrival) == told(data, "--contact", "c0100")


def test_rows_are_those_of_the_files_not_of_the_log(tables, save, told):
    tables["customers"] = pa.table({"customer_id": ["bert", "anna"], "since": minutes(-9000, -100_000)})
    data = save(tables)
    assert told(data, "--contact", "c3")["rows"] == {"contacts.parquet": 0, "customers.parquet": 1}
    for time, row in (("00:19", 3), ("00:20", 1)):
        assert told(data, "--csa", "ada", "--at", f"2026-01-01T{time}:00Z")["rows"] == {"csas.parquet": row}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--csa", "csa-3", "--at", TIME), "csas.parquet: no CSA 'csa-3'; is it 'csa-03'?"),
        (("--csa", "CSA-03", "--at", TIME), "csas.parquet: no CSA 'CSA-03'; is it 'csa-03'?"),
        (("--contact", "c010"), "contacts.parquet: no contact 'c010'; is it 'c010"),
        (("--contact", "weird"), "contacts.parquet: no contact 'weird'"),
        (("--csa", "csa-03\udcff", "--at", TIME), "csas.parquet: no CSA 'csa-03?'; is it 'csa-03'?"),
        (("--csa", "csa-03"), "--csa needs --at TIME: a CSA's features are those of a moment"),
        (("--csa", "csa-03", "--at", "2026-01-22T12:00:00"), "'2026-01-22T12:00:00' names no time zone; add Z for UTC"),
        (("--csa", "csa-03", "--at", "tomorrow"), "--at: 'tomorrow' is no time"),
        (("--contact", "c0159", "--at", "2026-01-01T00:00:00Z"), "contact 'c0159' arrives at 2026-01-30T"),
        (("--csa", "csa-03", "--at", TIME, "--bundle", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_what_is_wrong_is_one_line(data, refused, options, said):
    assert said in refused(data, *options)


def test_a_csa_before_their_first_row_is_one_line(tables, save, refused):
    tables["csas"] = replaced(tables["csas"], "valid_from", minutes(35, 20, None, None))
    said = refused(save(tables), "--csa", "cy", "--at", "2026-01-01T00:30:00Z")
    assert said.endswith("CSA 'cy' has no row before 2026-01-01T00:35:00Z; ask from then on")


def test_a_folder_without_tables_is_one_line(tmp_path, refused):
    assert "csas.parquet: no such file" in refused(tmp_path, "--csa", "ada", "--at", TIME)


def test_a_csa_of_no_hand_over_has_features_and_a_note(tables, save, told):
    tables["interactions"] = tables["interactions"].filter(pa.array([True, True, True, True, False]))
    found = told(save(tables), "--csa", "cy", "--at", "2026-01-01T01:00:00Z")
    assert "no hand-over was known before: everything of the past is a newcomer's" in found["notes"]
    assert values(found)["languages=es"] == 1


def test_one_of_contact_and_csa_is_asked_for(data, capsys):
    for options in ((), ("--csa", "csa-03", "--contact", "c0100")):
        with pytest.raises(SystemExit):
            run(data, *options)
        assert "--contact" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "near"), [("adam", "ada"), ("ADA", "ada"), ("bo", "bob"), ("x", None), ("b*", "bob"), ("", None)]
)
def test_the_nearest_id_begins_alike(name, near):
    assert nearest(pa.array(["ada", "bob", "cyd"]), name) == near


def test_the_installed_verb_runs_without_what_trains(data):
    """As `python -m twotower.features`, with every module blocked that an extra brings."""
    blocked = {"torch", "lightning", "transformers", "sentence_transformers", "numba", "pandas", "pandera", "scipy"}
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {blocked}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        f"sys.argv = ['features', {str(data)!r}, '--contact', 'c0100']\n"
        "import runpy; runpy.run_module('twotower.features', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=data, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("contact c0100, customer ")


def test_files_are_left_as_they_were(data):
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    assert run(data, "--csa", "csa-03", "--at", TIME) == 0
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    assert pq.read_table(data / "csas.parquet").num_rows == 12
