"""The feature schema: fitted on a log, written, read back, refused where it is another's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support import minutes, replaced
from twotower.clock import DAY
from twotower.errors import BundleError, ConfigError
from twotower.features import contact, customer
from twotower.features.contact import CATEGORIES, ContactRows
from twotower.features.csa import CsaFeatures
from twotower.features.customer import SIGNATURE
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.record import RECORD, Record
from twotower.features.feature import table
from twotower.features.registry import DEFAULT, FAMILIES
from twotower.features.schema import CSA_VALUES, GROUPS, HALF_LIVES, MOST_VALUES, FeatureSchema, log_columns
from twotower.tables import Log

PAST = tuple(dict.fromkeys(feature.family for feature in RECORD))


@pytest.fixture
def log(tables, save) -> Log:
    """The small data set."""
    return Log.load(save(tables))


@pytest.fixture
def schema(log) -> FeatureSchema:
    """Fitted on it, every family on."""
    return FeatureSchema.fit(log, base_dim=3, max_tokens=16, families=list(FAMILIES))


def ones(texts: Sequence[str]) -> np.ndarray:
    return np.ones((len(texts), 3), np.float32)


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
        "language": ["en", "es", "pt"],
        "intent": [],
    }
    assert schema.csa_values == {
        "languages": ["en", "es", "fr"],
        "skills": ["cards", "refunds"],
        "site": [],
        "team": [],
        "kind": ["csa"],
    }
    assert schema.groups == {"intent": [], "language": ["en", "es", "pt"], "channel": ["call", "chat", "e-mail"]}
    assert schema.bands == []
    assert schema.identities == ["ada", "bob", "cy"]
    assert schema.granularity_us == DAY
    assert schema.version == 2


def test_languages_of_regions_are_one(tables, save):
    tables["contacts"] = replaced(tables["contacts"], "language", ["pt-BR", "pt", "PT-pt", "en_GB"])
    kind = tables["csas"].schema.field("languages").type
    spoken = [["pt-BR"], ["en-GB", "en-US"], ["und"], ["en"]]
    tables["csas"] = replaced(tables["csas"], "languages", pa.array(spoken, kind))
    schema = FeatureSchema.fit(Log.load(save(tables)), 3, 16)
    assert schema.categories["language"] == schema.groups["language"] == ["en", "pt"]
    assert schema.csa_values["languages"] == ["en", "pt"]


@pytest.mark.parametrize(
    ("guesses", "others", "enters"), [(19, 1, False), (20, 1, True), (20, 19_980, True), (20, 19_981, False)]
)
def test_a_language_that_only_guesses_name_enters_where_they_are_not_few(tables, save, guesses, others, enters):
    schema = FeatureSchema.fit(Log.load(save(spoken(tables, guesses, others))), 3, 16)
    assert schema.categories["language"] == schema.groups["language"] == ["en", *["fr"] * enters]


def test_a_language_that_a_tag_or_a_customer_names_enters_once(tables, save):
    """One tag names Italian, the customer of a contact in English names French, nobody German."""
    made = spoken(tables, 3, 7)
    contacts = replaced(made["contacts"], "language", [*[None] * 4, *["en"] * 5, "it-CH"])
    contacts = replaced(contacts, "customer_id", ["zoe", *[None] * 9])
    texts = contacts["intent_text"].to_pylist()
    contacts = replaced(
        contacts, "intent_text", ["hello, where is my parcel", *texts[1:3], "Wo ist mein Paket?", *texts[4:]]
    )
    customers = pa.table({"customer_id": ["zoe"], "language": ["fr-CA"]})
    log = Log.load(save({**made, "contacts": contacts, "customers": customers}))
    assert ContactRows(log_columns(log)).languages == ["en", "fr", "fr", "de", *["en"] * 5, "it"]
    assert FeatureSchema.fit(log, 3, 16).categories["language"] == ["en", "fr", "it"]


def spoken(tables, guesses: int, others: int):
    """Contacts of which some are in French, which no tag says, and others are said to be in English."""
    contacts = pa.concat_tables([tables["contacts"].slice(0, 1)] * (guesses + others))
    texts = ["Bonjour, où est ma commande"] * guesses + ["hello"] * others
    contacts = replaced(contacts, "contact_id", [f"n{i:05}" for i in range(len(contacts))])
    contacts = replaced(contacts, "language", pa.array([None] * guesses + ["en"] * others, pa.string()))
    contacts = replaced(replaced(contacts, "transcript", [""] * len(contacts)), "intent_text", texts)
    taken = pa.table({"contact_id": ["n00000"], "csa_id": ["ada"], "assigned_at": minutes(90), "resolved": [True]})
    return {**tables, "contacts": contacts, "interactions": taken}


def test_families_are_those_by_default_unless_others_are_asked_for(log):
    assert FeatureSchema.fit(log, 3, 16).families == [name for name in FAMILIES if name in DEFAULT]
    chosen = FeatureSchema.fit(log, 3, 16, families=["profile", "priority", "form", "profile"])
    assert chosen.families == ["form", "priority", "profile"]
    assert chosen.has("groups", "form")
    assert not chosen.has("groups", "labels")


@pytest.mark.parametrize(
    ("families", "line"),
    [
        (("form", "mood"), "family 'mood' is unknown: labels, form,"),
        (("labels", "profile"), "families labels, profile: each tower needs a feature, such as form and profile"),
        (("form", "clock"), "each tower needs a feature"),
        ((), "each tower needs a feature"),
    ],
)
def test_families_that_make_no_tower_are_refused_in_one_line(log, families, line):
    with pytest.raises(ConfigError, match=line) as error:
        FeatureSchema.fit(log, 3, 16, families=families)
    assert "\n" not in str(error.value)


def test_a_round_trip_keeps_everything_and_the_order_of_columns(schema, written):
    schema = replace(schema, bands=[3.5, 4.25, 6.0])
    written.write_text(schema.to_json(), encoding="utf-8")
    loaded = FeatureSchema.load(written)
    assert loaded == schema
    assert loaded.to_json() == schema.to_json()
    assert loaded.digest == schema.digest
    assert list(loaded.categories) == list(schema.categories) == list(CATEGORIES)
    assert list(loaded.csa_values) == list(schema.csa_values) == list(CSA_VALUES)
    assert list(loaded.groups) == list(schema.groups) == list(GROUPS)
    assert loaded.numbers == schema.numbers
    assert loaded.csa_numbers == schema.csa_numbers
    assert loaded.csa_settings == schema.csa_settings


def test_the_digest_tells_schemas_apart(schema):
    others = [replace(schema, families=list(DEFAULT)), replace(schema, bands=[1.0]), replace(schema, max_tokens=17)]
    assert len({schema.digest, *(other.digest for other in others)}) == 4


def test_the_loaded_schema_gives_the_same_tensors(schema, written, log):
    columns = log_columns(log)
    for ours, theirs in zip(
        schema.contact_inputs(columns), FeatureSchema.load(written).contact_inputs(columns), strict=True
    ):
        assert np.array_equal(ours, theirs)


def test_names_and_tensors_are_equally_wide(schema, log):
    assert len(set(schema.csa_numbers)) == len(schema.csa_numbers)
    features = CsaFeatures(log.csas, schema, ones)
    assert features.at(0, CsaHistory(schema.csa_settings, 3)).shape == (3, len(schema.csa_numbers))
    categories, numbers = schema.contact_inputs(log_columns(log))
    assert categories.shape == (4, len(CATEGORIES))
    assert numbers.shape == (4, len(schema.numbers))
    assert numbers.dtype == np.float32
    assert set(schema.numbers) >= {feature.name for feature in (*contact.NUMBERS, *customer.NUMBERS)}
    order = json.loads(schema.to_json())["order"]
    assert order["categories"] == list(CATEGORIES)
    assert order["numbers"] == schema.numbers
    assert order["csa_numbers"] == schema.csa_numbers


@pytest.mark.parametrize("family", PAST)
def test_a_family_of_the_past_adds_its_own_columns(log, family):
    plain = FeatureSchema.fit(log, 3, 16, families=["form", "profile"])
    chosen = replace(plain, families=["form", "profile", family])
    settings = chosen.csa_settings
    features = [feature for feature in RECORD if feature.family == family]
    added = [name for feature in features for name in feature.names(settings)]
    assert added
    assert chosen.csa_numbers == [*plain.csa_numbers, *added]
    history = CsaHistory(settings, 3)
    found = CsaFeatures(log.csas, chosen, ones).at(0, history)
    expected = table(tuple(features), Record(history.read(0, [name for name, _ in settings.families]), settings), 3,
                     settings)  # fmt: skip
    assert np.array_equal(found[:, len(plain.csa_numbers) :], expected)


def test_the_history_keeps_what_some_family_reads(log):
    plain = FeatureSchema.fit(log, 3, 16, families=["form", "record"])
    assert plain.csa_settings.half_lives_us == HALF_LIVES
    assert (plain.csa_settings.width, plain.csa_settings.families) == (0, ())
    assert replace(plain, families=["form", "history"]).csa_settings.width == 3
    assert replace(plain, families=["form", "similarity"]).csa_settings.width == 3
    grouped = replace(plain, families=["form", "groups"])
    assert grouped.csa_settings.families == (("language", 3), ("channel", 3))  # no intent is known
    banded = replace(grouped, bands=[3.0, 4.0, 5.0])
    assert banded.csa_settings.families == (("language", 3), ("channel", 3), ("complexity", 4))


def test_who_met_whom_comes_last_on_either_side(schema):
    assert schema.relationship == 3 * SIGNATURE
    assert schema.numbers[-schema.relationship] == "met_together_0"
    assert schema.numbers[-1] == f"met_bad_{SIGNATURE - 1}"
    assert schema.csa_numbers[-SIGNATURE:] == [f"signature_{i}" for i in range(SIGNATURE)]
    without = replace(schema, families=list(DEFAULT))
    assert without.relationship == 0
    assert not [name for name in (*without.numbers, *without.csa_numbers) if name.startswith(("met_", "signature_"))]


def test_without_labels_codes_are_told_all_the_same(schema, log):
    """The heads and the groups of CSAs need them; the towers leave them out themselves."""
    off = replace(schema, families=[name for name in schema.families if name != "labels"])
    with_labels, numbers = schema.contact_inputs(log_columns(log))
    categories, same = off.contact_inputs(log_columns(log))
    assert (with_labels[:, 0] > 0).all()
    assert np.array_equal(categories, with_labels)
    assert np.array_equal(numbers, same)


def test_contacts_without_customers_read_as_nobodys(schema, log):
    _, numbers = schema.contact_inputs(log_columns(log))
    known = dict(zip(schema.numbers, numbers.T, strict=True))
    assert known["contacts"].tolist() == [0] * 4
    assert known["since_last"].tolist() == pytest.approx([np.log1p(3650)] * 4)
    assert not numbers[:, -schema.relationship :].any()
    assert schema.contact_inputs({})[1].shape == (0, len(schema.numbers))


def test_identities_start_at_one_and_a_stranger_is_zero(schema):
    assert schema.identity_of(["cy", "nobody", "ada"]).tolist() == [3, 0, 1]
    assert schema.identity_of(pa.array(["bob"], pa.large_string())).tolist() == [2]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"version": 1}, "feature schema 1, this program reads 2: export again with it"),
        ({"version": 99, "granularity_us": None}, "feature schema 99, this program reads 2"),
        ({"families": ["form", "mood"]}, "unknown feature 'mood': written by a newer program"),
        ({"families": ["form", "profile"]}, "its features are not those of this program: train and export again"),
        ({"families": None}, "not a features.json"),
        ({"categories": None}, "not a features.json"),
        ({"groups": {}}, "not a features.json"),
        ({"order": None}, "not a features.json"),
        ({"order": {}}, "not a features.json"),
    ],
)
def test_another_schema_is_refused_in_one_line(written, change, line):
    data = {**json.loads(written.read_text()), **change}
    refused(written, json.dumps(data), line)


@pytest.mark.parametrize("part", ["categories", "numbers", "csa_numbers"])
def test_tensors_of_another_order_are_refused(written, part):
    data = json.loads(written.read_text())
    data["order"][part] = data["order"][part][::-1]
    refused(written, json.dumps(data), "its features are not those of this program")


def test_an_unknown_category_is_refused(written):
    data = json.loads(written.read_text())
    data["categories"]["mood"] = ["sad"]
    data["order"]["categories"].append("mood")
    refused(written, json.dumps(data), "its features are not those of this program")


def test_a_newer_schema_with_other_fields_is_called_newer(written):
    refused(written, json.dumps({"version": 7}), "feature schema 7")


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"version": 2}', "\ufeff"])
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
    assert schema.granularity_us == granularity * DAY


def refused(path: Path, content: str, line: str) -> None:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=line) as error:
        FeatureSchema.load(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
