"""The registry: every feature is declared once, and what follows from a declaration is held to it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import at, minutes, replaced
from tests.twotower.features.random_logs import TEXTS, random_tables, random_told
from twotower.clock import DAY
from twotower.features import contact
from twotower.features.contact import ContactRows
from twotower.features.csa import CsaFeatures
from twotower.features.engine.csa import CsaHistory
from twotower.features.feature import AS_OF, table
from twotower.features.registry import BY_CHOICE, DEFAULT, FAMILIES, FEATURES, page, suggested
from twotower.features.schema import CSA_VALUES, GROUPS, FeatureSchema, in_order, log_columns
from twotower.features.streams import CustomerPast, csa_streams
from twotower.tables.log import Log

ROOT = Path(__file__).parents[3]
ENDS = (-math.inf, math.inf)
SCHEMA = FeatureSchema(
    families=list(FAMILIES),
    categories={"channel": ["call", "chat"], "queue": [], "language": ["de", "en"], "intent": ["card", "refund"]},
    csa_values={name: ["a", "b"] for name in CSA_VALUES},
    groups={name: ["de", "en"] if name == "language" else ["x"] for name in GROUPS},
    bands=[3.0, 5.0],
    heads=[],
    identities=[],
    base_dim=4,
    max_tokens=16,
    granularity_us=DAY,
)


@dataclass
class Tensors:
    """Everything that the towers are given of a random log: columns by name, several rows of each."""

    schema: FeatureSchema
    categories: npt.NDArray[np.int64]
    numbers: dict[str, npt.NDArray[np.float32]]
    csa_numbers: dict[str, npt.NDArray[np.float32]]

    def columns(self, level: str) -> dict[str, npt.NDArray[Any]]:
        """Those of a level by name, codes among them."""
        codes = dict(zip(self.schema.categories, self.categories.T, strict=True))
        return self.csa_numbers if level == "csa" else {**self.numbers, **codes}


def tensors(log: Log, seed: int) -> Tensors:
    """As training makes them, every family on; CSAs at nine moments, the first before anything was known."""
    schema = replace(FeatureSchema.fit(log, base_dim=4, max_tokens=16, families=list(FAMILIES)), bands=[3.0, 5.0])
    rows = schema.rows(log_columns(log))
    past = CustomerPast(log, schema, rows).at(log.contacts.customer, log.contacts.arrived_at)
    categories, numbers = schema.contact_inputs(rows, past)
    known, work = csa_streams(log, schema, random_told(seed, schema, categories, rows.text.to_pylist()))
    history = CsaHistory(schema.csa_settings, len(log.csas.ids))
    features = CsaFeatures(log.csas, schema, lambda texts: np.full((len(texts), 4), 0.5, np.float32))
    found = []
    for moment in np.linspace(log.contacts.arrived_at[0], log.contacts.arrived_at[-1] + 400 * DAY, 9).astype(np.int64):
        history.advance(known, int(moment), work)
        found.append(features.at(int(moment), history))
    named = [dict(zip(names, values.T, strict=True)) for names, values in (
        (schema.numbers, numbers), (schema.csa_numbers, np.concatenate(found)))]  # fmt: skip
    return Tensors(schema, categories, *named)


@pytest.mark.parametrize("seed", range(5))
def test_every_feature_is_a_finite_number_within_its_bounds(save, seed):
    """Of each level, over logs with nulls, empty texts, single characters and emoji."""
    found = tensors(Log.load(save(random_tables(seed))), seed)
    moved: set[str] = set()
    for feature in found.schema.described():
        low, high = (bound if bound is not None else side for bound, side in zip(feature["range"], ENDS, strict=True))
        for name in feature["columns"] if feature["family"] != "complexity" else ():  # the heads clip what they tell
            values = found.columns(feature["level"])[name]
            assert np.isfinite(values).all(), name
            assert values.min() >= low, name
            assert values.max() <= high, name
            moved |= {feature["name"]} if np.ptp(values) > 0 else set()
    declared = {feature.name for feature in FEATURES if feature.family != "complexity"}
    assert moved == declared - {"queue"}  # else nothing was tried of it


Text = st.one_of(st.none(), st.sampled_from(TEXTS), st.text(max_size=12))
Contact = st.fixed_dictionaries(
    {
        "intent_text": Text,
        "transcript": Text,
        "language": st.one_of(st.none(), st.sampled_from(["en", "de-AT", "xx", "und", ""])),
        "priority": st.one_of(st.none(), st.floats(), st.integers(-(10**6), 10**6)),
        "arrived_at": st.one_of(st.none(), st.integers(-(2**62), 2**62).map(float)),
        "customer_since": st.one_of(st.none(), st.integers(-(2**62), 2**62).map(float)),
        "customer_id": st.one_of(st.none(), st.just("anna")),
        "customer_language": st.one_of(st.none(), st.sampled_from(["en", "de-AT", "und", ""]), st.text(max_size=3)),
    }
)


@given(st.lists(Contact, min_size=1, max_size=4))
def test_no_contact_leaves_the_bounds(contacts):
    columns = {name: [one[name] for one in contacts] for name in contacts[0]}
    found = table(contact.NUMBERS, ContactRows(columns), len(contacts), None)
    assert np.isfinite(found).all()
    for feature, values in zip(contact.NUMBERS, found.T, strict=True):
        assert values.min() >= np.float32(feature.low), feature.name
        assert values.max() <= np.float32(feature.high), feature.name


def test_what_is_not_known_reads_as_the_default(tables, save):
    tables["csas"] = replaced(tables["csas"], "valid_from", minutes(60, 120, 60, 60))
    log = Log.load(save(tables))
    features = CsaFeatures(log.csas, SCHEMA, lambda texts: np.ones((len(texts), 4), np.float32))
    contacts = SCHEMA.contact_inputs({"channel": [None]})[1]
    csas = features.at(at(59), CsaHistory(SCHEMA.csa_settings, len(log.csas)))
    found = dict(zip((*SCHEMA.numbers, *SCHEMA.csa_numbers), (*contacts[0], *csas[0]), strict=True))
    told = [feature for feature in SCHEMA.described() if feature["as_of"] not in ("heads", "never")]
    for feature in told:
        for name in feature["columns"] if feature["family"] != "labels" else ():
            assert found[name] == pytest.approx(feature["default"]), name


def test_names_are_distinct_over_each_tensor():
    for names in (SCHEMA.numbers, SCHEMA.csa_numbers, [feature.name for feature in FEATURES if feature.level != "csa"]):
        assert [name for name, count in Counter(names).items() if count > 1] == []


def test_features_of_a_level_have_names_of_their_own():
    # `skills` names a family's two kinds of columns: vectors, and levels by name.
    several = Counter((feature.level, feature.name) for feature in FEATURES)
    assert [of for of, count in several.items() if count > 1] == []


def test_every_family_has_features_and_every_feature_a_family():
    assert {feature.family for feature in FEATURES} == set(FAMILIES)
    assert set(DEFAULT) <= set(FAMILIES)
    assert list(DEFAULT) == in_order(DEFAULT)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: f"{feature.level}-{feature.name}")
def test_each_declares_what_a_reader_needs(feature):
    assert feature.as_of in AS_OF
    assert feature.level in ("contact", "customer", "csa")
    assert feature.unit
    assert feature.meaning
    assert feature.low < feature.high
    assert feature.low <= feature.default <= feature.high


def test_every_rule_is_used():
    assert {feature.as_of for feature in FEATURES} == set(AS_OF)


@given(st.sets(st.sampled_from(list(FAMILIES)), min_size=1))
def test_the_tensors_have_the_order_of_the_registry(families):
    chosen = replace(SCHEMA, families=in_order(sorted(families)))
    on = [feature for feature in chosen.described() if feature["family"] not in ("labels", "complexity")]
    assert {feature["family"] for feature in chosen.described()} == families
    for level, names in ((("contact", "customer"), chosen.numbers), (("csa",), chosen.csa_numbers)):
        assert names == [name for feature in on if feature["level"] in level for name in feature["columns"]]
    place = {feature.name + feature.level: i for i, feature in enumerate(FEATURES)}
    order = [place[feature["name"] + feature["level"]] for feature in chosen.described()]
    assert order == sorted(order)


COLUMNS = {
    "intent_text": ["Where is my card?", ""], "priority": [2.0, None], "arrived_at": [3e15, None],
    "customer_id": ["anna", None], "language": [None, "de"], "transcript": [None, "DANKE 12!"],
    "customer_language": ["de", None],
}  # fmt: skip
WHOLE = dict(zip(SCHEMA.numbers, SCHEMA.contact_inputs(COLUMNS)[1].T, strict=True))


@given(st.sets(st.sampled_from(list(FAMILIES)), min_size=1))
def test_a_column_is_the_same_whatever_else_is_on(families):
    chosen = replace(SCHEMA, families=in_order(sorted(families)))
    found = chosen.contact_inputs(COLUMNS)[1]
    assert found.shape == (2, len(chosen.numbers))
    for name, values in zip(chosen.numbers, found.T, strict=True):
        assert np.array_equal(values, WHOLE[name]), name


def test_what_is_described_covers_every_column_once():
    described = [name for feature in SCHEMA.described() for name in feature["columns"]]
    complexity = [feature.name for feature in FEATURES if feature.family == "complexity"]
    assert Counter(described) == Counter([*contact.CATEGORIES, *SCHEMA.numbers, *complexity, *SCHEMA.csa_numbers])


def test_what_is_monitored_is_all_but_components_of_vectors():
    monitored = SCHEMA.monitored()
    vectors = ("met_together", "met_good", "met_bad", "signature", "profile", "skills", "good", "bad")
    left_out = [name for feature in SCHEMA.described() if feature["name"] in vectors for name in feature["columns"]]
    described = [name for feature in SCHEMA.described() for name in feature["columns"]]
    assert set(left_out).isdisjoint(monitored)
    assert Counter([*monitored, *left_out]) == Counter(described)
    assert [name for name in described if name in set(monitored)] == monitored


def test_features_json_says_of_every_feature_what_was_declared():
    told = {(one["level"], one["name"]): one for one in json.loads(SCHEMA.to_json())["features"]}
    assert len(told) == len(FEATURES)
    for feature in FEATURES:
        one = told[feature.level, feature.name]
        assert (one["family"], one["unit"], one["meaning"]) == (feature.family, feature.unit, feature.meaning)
        assert (one["as_of"], one["default"], one["watched"]) == (feature.as_of, feature.default, feature.watched)
        bounds = [bound if bound is not None else side for bound, side in zip(one["range"], ENDS, strict=True)]
        assert bounds == [feature.low, feature.high]


def test_complexity_is_read_off_what_the_tower_said():
    said: Any = SimpleNamespace(complexity=np.arange(10.0).reshape(2, 5))
    found = [feature.compute(said).tolist() for feature in FEATURES if feature.family == "complexity"]
    assert found == said.complexity.T.tolist()


def test_the_page_is_the_registrys():
    assert (ROOT / "docs" / "features.md").read_text(encoding="utf-8") == page()


def test_the_page_names_every_feature_once_in_rows_that_are_whole():
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) == len(FEATURES)
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}
    assert Counter(row.split("`")[1] for row in rows) == Counter(feature.name for feature in FEATURES)
    bold = [line.strip("#* ") for line in page().splitlines() if line.startswith("## **")]
    assert set(bold) == set(DEFAULT)
    slanted = [line.strip("#* ") for line in page().splitlines() if line.startswith("## *") and "**" not in line]
    assert set(slanted) == set(BY_CHOICE)


def test_where_people_chose_their_work_more_is_read():
    assert suggested(by_choice=False) == DEFAULT
    assert set(suggested(by_choice=True)) == {*DEFAULT, *BY_CHOICE}
    assert set(BY_CHOICE) <= set(FAMILIES) - set(DEFAULT)


ADDED = """
import json, numpy
from dataclasses import asdict
from twotower.features import contact
from twotower.features.feature import Feature
vowels = Feature("vowels", "contact", "form", "n", 0, 9, "vowels of the need", "arrival",
                 lambda rows: numpy.array([sum(c in "aeiou" for c in text) for text in rows.text.to_pylist()]))
contact.NUMBERS = (vowels, *contact.NUMBERS)
from tests.twotower.features.test_registry import SCHEMA
from twotower.features.registry import page
told = json.loads(SCHEMA.to_json())
print(json.dumps({
    "place": SCHEMA.numbers.index("vowels"),
    "value": SCHEMA.contact_inputs({"intent_text": ["banana"]})[1][0, 0].item(),
    "order": told["order"]["numbers"][0], "told": [one for one in told["features"] if one["name"] == "vowels"],
    "watched": "vowels" in SCHEMA.monitored(), "page": "| `vowels` | contact | n | 0 … 9 |" in page(),
}))
"""


def test_a_feature_is_added_in_one_place():
    """One more declaration in the list of the contact's numbers, before anything reads it: nothing else is touched."""
    run = subprocess.run([sys.executable, "-c", ADDED], capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(run.stdout)
    assert (found["place"], found["value"], found["order"]) == (0, 3, "vowels")
    assert [one["meaning"] for one in found["told"]] == ["vowels of the need"]
    assert found["watched"]
    assert found["page"]
