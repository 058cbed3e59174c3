"""The feature schema: fitted on a log, written, read back, refused where it is another's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support import minutes, replaced
from twotower.errors import BundleError
from twotower.features.contact import CATEGORIES, NUMBERS
from twotower.features.csa import CsaFeatures
from twotower.features.history import HistoryEngine, history_names
from twotower.features.schema import CSA_VALUES, MOST_VALUES, FeatureSchema, log_columns
from twotower.tables import Log

DAY_S = 86400


@pytest.fixture
def schema(tables, save) -> FeatureSchema:
    """Fitted on the small data set."""
    return FeatureSchema.fit(Log.load(save(tables)), base_dim=3, max_tokens=16, half_life_days=30.0)


@pytest.fixture
def written(schema, tmp_path) -> Path:
    """`features.json`."""
    path: Path = tmp_path / "features.json"
    path.write_text(schema.to_json(), encoding="utf-8")
    return path


def test_vocabularies_are_those_of_the_log(schema):
    assert schema.categories == {
        "channel": ["call", "chat", "e-mail"],
        "queue": [],
        "language": ["en", "es", "pt-BR"],
        "intent": [],
    }
    assert schema.csa_values == {
        "languages": ["en", "es", "fr"],
        "skills": ["cards", "refunds"],
        "site": [],
        "team": [],
        "kind": ["csa"],
    }
    assert schema.identities == ["ada", "bob", "cy"]
    assert schema.history_half_life_s == 30 * DAY_S
    assert schema.granularity_us == DAY_S * 1_000_000


def test_a_round_trip_keeps_everything_and_the_order_of_columns(schema, written):
    loaded = FeatureSchema.load(written)
    assert loaded == schema
    assert loaded.to_json() == schema.to_json()
    assert loaded.digest == schema.digest
    assert list(loaded.categories) == list(schema.categories) == list(CATEGORIES)
    assert list(loaded.csa_values) == list(schema.csa_values) == list(CSA_VALUES)
    assert loaded.csa_numbers == schema.csa_numbers


def test_the_loaded_schema_gives_the_same_tensors(schema, written, tables, save):
    columns = log_columns(Log.load(save(tables, "again")))
    for ours, theirs in zip(
        schema.contact_inputs(columns), FeatureSchema.load(written).contact_inputs(columns), strict=True
    ):
        assert np.array_equal(ours, theirs)


def test_names_and_tensors_are_equally_wide(schema, tables, save):
    log = Log.load(save(tables, "again"))
    assert len(set(schema.csa_numbers)) == len(schema.csa_numbers)
    features = CsaFeatures(log.csas, schema, lambda texts: np.ones((len(texts), 3), np.float32))
    history = HistoryEngine(3, 3, DAY_S, 0).features()
    assert features.at(0, history).shape == (3, len(schema.csa_numbers))
    categories, numbers = schema.contact_inputs(log_columns(log))
    assert categories.shape == (4, len(CATEGORIES))
    assert numbers.shape == (4, len(NUMBERS))
    described = json.loads(schema.to_json())
    assert list(described["contact"]["categories"]) == list(CATEGORIES)
    assert set(described["contact"]["numbers"]) == set(NUMBERS)
    assert described["csa"]["numbers"] == schema.csa_numbers


@pytest.mark.parametrize(("history", "read"), [("none", 0), ("rates", 5), ("all", 5 + 2 * 3)])
def test_the_schema_says_how_much_of_the_history_is_read(schema, tables, save, history, read):
    chosen = replace(schema, history=history)
    assert chosen.csa_numbers[len(replace(schema, history="none").csa_numbers) :] == history_names(3)[:read]
    engine = HistoryEngine(3, 3, DAY_S, 0)
    features = CsaFeatures(
        Log.load(save(tables, "again")).csas, chosen, lambda texts: np.ones((len(texts), 3), np.float32)
    )
    found = features.at(0, engine.features())
    assert found.shape == (3, len(chosen.csa_numbers))
    assert np.array_equal(found[:, found.shape[1] - read :], engine.features()[:, :read])


def test_identities_start_at_one_and_a_stranger_is_zero(schema):
    assert schema.identity_of(["cy", "nobody", "ada"]).tolist() == [3, 0, 1]
    assert schema.identity_of(pa.array(["bob"], pa.large_string())).tolist() == [2]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"version": 2}, "feature schema 2, this program reads 1"),
        ({"version": 99, "granularity_us": None}, "feature schema 99, this program reads 1"),
        ({"numbers": ["priority", "mood"]}, "unknown feature 'mood'"),
        ({"history": "some"}, "unknown feature 'some'"),
        ({"numbers": None}, "not a features.json"),
        ({"categories": None}, "not a features.json"),
        ({"contact": None}, "not a features.json"),
    ],
)
def test_another_schema_is_refused_in_one_line(written, change, line):
    data = {**json.loads(written.read_text()), **change}
    refused(written, json.dumps(data), line)


def test_an_unknown_category_is_refused(written):
    data = json.loads(written.read_text())
    data["categories"]["mood"] = ["sad"]
    data["contact"]["categories"].append("mood")
    refused(written, json.dumps(data), "unknown feature 'mood'")


def test_a_newer_schema_with_other_fields_is_called_newer(written):
    refused(written, json.dumps({"version": 7}), "feature schema 7")


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"version": 1}', "\ufeff"])
def test_what_is_no_schema_is_refused_in_one_line(written, content):
    refused(written, content, "not a features.json")


def test_a_missing_schema_is_refused_in_one_line(tmp_path):
    with pytest.raises(BundleError, match=r"nowhere/features\.json: not a features\.json"):
        FeatureSchema.load(tmp_path / "nowhere" / "features.json")


def test_rare_values_beyond_the_limit_read_as_unknown(tables, save):
    names = [f"intent-{i:04}" for i in range(MOST_VALUES + 3)]
    contacts = tables["contacts"]
    many = pa.concat_tables([contacts.slice(0, 1)] * (len(names) + 1))
    many = replaced(many, "contact_id", [f"n{i}" for i in range(len(many))])
    many = many.append_column("intent", pa.array([*names, names[-1]]))
    tables["contacts"] = pa.concat_tables([contacts, many], promote_options="default")
    schema = FeatureSchema.fit(Log.load(save(tables)), 3, 16)
    assert len(schema.categories["intent"]) == MOST_VALUES
    assert names[-1] in schema.categories["intent"]  # seen twice
    assert names[MOST_VALUES - 2] in schema.categories["intent"]  # then the first by name
    assert names[MOST_VALUES - 1] not in schema.categories["intent"]


@pytest.mark.parametrize(("days", "granularity"), [(0, 1), (128, 1), (129, 2), (1280, 10)])
def test_snapshots_are_days_apart_or_as_many_days_as_a_long_log_needs(tables, save, days, granularity):
    tables["contacts"] = replaced(tables["contacts"], "arrived_at", minutes(0, 1, 2, days * 1440))
    tables["interactions"] = pa.table(
        {"contact_id": ["c1"], "csa_id": ["ada"], "assigned_at": minutes(3), "resolved": [True]}
    )
    schema = FeatureSchema.fit(Log.load(save(tables)), 3, 16)
    assert schema.granularity_us == granularity * DAY_S * 1_000_000


def refused(path: Path, content: str, line: str) -> None:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=line) as error:
        FeatureSchema.load(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
