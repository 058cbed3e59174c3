"""Provenance: values are those of the towers' tensors, counts the engine's own, nothing known later moves a value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serve import fakes
from tests.support import Tables, at, minutes, replaced
from tests.twotower.features.provenance_cases import CSAS, NOON, column
from twotower.bundle.bundle import Bundle
from twotower.bundle.sessions import ContactEncoder
from twotower.clock import DAY, format_time
from twotower.features.csa import CsaFeatures
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.record import RECORD
from twotower.features.engine.values import COUNTS
from twotower.features.provenance import unfitted
from twotower.features.provenance_contact import ContactCase, explain_contact
from twotower.features.provenance_csa import COUNTED_BY, WHAT, CsaCase, explain_csa
from twotower.features.provenance_text import describe
from twotower.features.registry import FAMILIES, FEATURES
from twotower.features.schema import log_columns
from twotower.features.streams import CustomerPast, Told, csa_streams, told_by
from twotower.tables import Log


def tensor(log: Log, bundle: Bundle, moment: int) -> np.ndarray:
    """CSA features (J, G) with every contact of the log encoded, as rolling forward has them."""
    schema, columns = bundle.schema, log_columns(log)
    past = CustomerPast(log, schema, schema.rows(columns)).at(log.contacts.customer, log.contacts.arrived_at)
    encoded = bundle.contact_encoder.encode(columns, past)
    known, work = csa_streams(log, schema, told_by(schema, schema.rows(columns), encoded))
    history = CsaHistory(schema.csa_settings, len(log.csas))
    history.advance(known, moment, work)
    embed = CsaFeatures(log.csas, schema, lambda texts: bundle.contact_encoder.encode({"intent_text": texts}).base)
    return embed.at(moment, history)


# Values are those of the tensors.


def test_values_of_a_csa_are_the_tensors_that_rolling_forward_gives(log, bundle):
    whole = tensor(log, bundle, NOON)
    for csa in CSAS:
        explained = explain_csa(CsaCase(log, csa, NOON, bundle.schema, encoder=bundle.contact_encoder))
        assert list(explained.values()) == bundle.schema.csa_numbers
        assert np.array_equal(np.array(list(explained.values().values()), np.float32), whole[csa])


def test_values_of_a_csa_are_the_same_where_only_their_own_contacts_are_encoded(log, bundle):
    kept = [name for name in FAMILIES if name not in ("groups", "upset")]
    schema = replace(bundle.schema, families=kept)
    place = [bundle.schema.csa_numbers.index(name) for name in schema.csa_numbers]
    whole = tensor(log, bundle, NOON)
    for csa in CSAS:
        values = CsaCase(log, csa, NOON, schema, encoder=bundle.contact_encoder).values
        assert np.array_equal(values, whole[csa][place])


def test_values_of_a_contact_are_the_tensors_with_everybodys_past(log, bundle):
    schema = bundle.schema
    past = CustomerPast(log, schema, schema.rows(log_columns(log)))
    known = past.at(log.contacts.customer, log.contacts.arrived_at)
    codes, numbers = schema.contact_inputs(log_columns(log), known)
    encoded = bundle.contact_encoder.encode(log_columns(log), known)
    for contact in range(90, 160, 3):
        explained = explain_contact(ContactCase(log, contact, schema, encoder=bundle.contact_encoder))
        values = explained.values()
        assert np.array_equal(np.array([values[name] for name in schema.numbers], np.float32), numbers[contact])
        assert [column(explained, name)["code"] for name in schema.categories] == codes[contact].tolist()
        told = [values[one.name] for one in FEATURES if one.family == "complexity"]
        assert np.array_equal(np.array(told, np.float32), encoded.complexity[contact])


def test_an_intent_without_a_label_is_the_predicted_one(log, bundle):
    blank = replace(log, contacts=replace(log.contacts, intent=pa.nulls(len(log.contacts), pa.string())))
    explained = explain_contact(ContactCase(blank, 120, bundle.schema, encoder=bundle.contact_encoder))
    encoded = bundle.contact_encoder.encode(log_columns(blank, np.array([120])))
    told = column(explained, "intent")
    assert told["value"] == bundle.schema.categories["intent"][int(encoded.intent[0]) - 1]
    assert told["probability"] == float(encoded.intent_p[0])
    assert told["code"] == 0
    assert told["from"] == "the contact tower's head on contacts.parquet: intent_text and transcript"
    assert f"{told['value']} (predicted, p {told['probability']:.2f})" in describe(explained)


def test_values_without_a_bundle_are_the_tensors_of_its_schema(log):
    schema = unfitted(log, NOON)
    categories, _ = schema.contact_inputs(log_columns(log))
    blank = np.zeros((len(log.contacts), 0), np.float32), np.full((len(log.contacts), 5), np.nan, np.float32)
    known, work = csa_streams(log, schema, Told(blank[0], categories, blank[1], None))
    history = CsaHistory(schema.csa_settings, len(log.csas))
    history.advance(known, NOON, work)
    features = CsaFeatures(log.csas, schema, lambda texts: np.zeros((len(texts), 0), np.float32)).at(NOON, history)
    for csa in CSAS:
        assert np.array_equal(CsaCase(log, csa, NOON, schema).values, features[csa])


# What is encoded.


class Counting(ContactEncoder):
    """An encoder that remembers the texts it was given."""

    def __init__(self, inner: ContactEncoder) -> None:
        self.inner, self.texts = inner, []

    def encode(self, columns, past=None, quiet=False):
        texts = columns["intent_text"]
        self.texts += texts if isinstance(texts, list) else texts.to_pylist()
        return self.inner.encode(columns, past, quiet)


def test_only_the_texts_of_a_csas_own_contacts_and_rows_are_encoded(log, bundle):
    encoder = Counting(bundle.contact_encoder)
    schema = replace(bundle.schema, families=["profile", "skills", "record", "history"])
    case = CsaCase(log, 4, NOON, schema, encoder=encoder)
    explain_csa(case)
    handed = np.unique(log.handovers.contact[case.handled])
    own = {log.contacts.intent_text[int(contact)].as_py() for contact in handed} | {"password"}
    assert set(encoder.texts) == own
    assert len(handed) > 2


def test_nothing_is_encoded_where_no_family_reads_texts(log, bundle):
    encoder = Counting(bundle.contact_encoder)
    explain_csa(CsaCase(log, 4, NOON, replace(bundle.schema, families=["record", "load"]), encoder=encoder))
    assert encoder.texts == []


def test_a_contact_alone_is_encoded(log, bundle):
    encoder = Counting(bundle.contact_encoder)
    explain_contact(ContactCase(log, 100, bundle.schema, encoder=encoder))
    assert encoder.texts == [log.contacts.intent_text[100].as_py()]


# Counts are the engine's own.


def test_every_feature_of_the_past_says_what_it_counts():
    assert set(COUNTED_BY) | {"assigned", "open"} == {feature.name for feature in RECORD}
    assert set(COUNTED_BY.values()) == set(WHAT)
    named = {"rate": "outcomes", "log_time": "timed", "transfers": "transfers_known", "csat": "ratings",
             "upset": "upset", "idle": "handled", "good": "good", "bad": "bad", "group_log_time": "timed",
             "group_rate": "outcomes", "work_similarity": "handled"}  # fmt: skip
    assert named.items() <= COUNTED_BY.items()


@pytest.mark.parametrize("csa", CSAS)
def test_counts_of_facts_are_those_of_the_engine(log, bundle, csa):
    case = CsaCase(log, csa, NOON, bundle.schema, encoder=bundle.contact_encoder)
    explained = explain_csa(case)
    counts = dict(zip(COUNTS, case.reading.counts[csa].tolist(), strict=True))
    counts = {name: counts[name] for name in ("handled", "outcomes", "timed", "transfers_known", "ratings")}
    assert {name: explained.evidence[name].count for name in counts} == counts
    assert explained.evidence["good"].count == counts["handled"] - counts["outcomes"] + explained_good(case)
    assert (explained.evidence["assigned"].count, explained.evidence["ended"].count) == tuple(case.reading.work[csa])


def explained_good(case: CsaCase) -> int:
    """Hand-overs that are known to have gone well, by the engine."""
    return int(case.reading.counts[case.csa, COUNTS.index("resolved")])


def test_a_group_names_the_hand_overs_of_its_cell(log, bundle):
    case = CsaCase(log, 4, NOON, bundle.schema, encoder=bundle.contact_encoder)
    explained = explain_csa(case)
    chats = [row for row in case.handled if log.contacts.channel[int(log.handovers.contact[row])].as_py() == "chat"]
    rate = column(explained, f"group_n:channel_{bundle.schema.groups['channel'].index('chat')}")
    assert explained.evidence[rate["evidence"]].count == len(chats) > 0
    assert rate["value"] == pytest.approx(np.log1p(rate["effective"]), rel=1e-6)


def test_a_group_without_a_hand_over_reads_as_expected_and_is_told_last(log, bundle):
    explained = explain_csa(CsaCase(log, 0, NOON - 17 * DAY, bundle.schema, encoder=bundle.contact_encoder))
    assert not any(":" in name for name in explained.evidence)
    assert "no hand-over of channel chat" in column(explained, "group_rate:channel_1")["from"]
    assert "columns say nothing of this subject alone (--all)" in describe(explained)
    assert "group_rate:channel_1" not in describe(explained)
    assert "group_rate:channel_1" in describe(explained, everything=True)


# Nothing later takes part.


def planted(content: Tables, moment: int, seed: int) -> Tables:
    """The tables with facts of all kinds that become known at a moment or later."""
    rng = np.random.default_rng(seed)
    after = (moment - int(fakes.START.timestamp() * 1e6)) / 60e6 + rng.integers(0, 5000, 8)
    after[0] = (moment - int(fakes.START.timestamp() * 1e6)) / 60e6
    moves, contacts = content["interactions"], content["contacts"]
    # One hand-over of a contact that arrived long before, to everyone; a contact of everybody's.
    news = pa.table(
        {
            "contact_id": [f"c{i:04}" for i in range(8)],
            "csa_id": [f"csa-{i:02}" for i in range(8)],
            "assigned_at": minutes(*after),
            "ended_at": minutes(*after + 1),
            "known_at": minutes(*after + 2),
            "resolved": rng.random(8) < 0.5,
            "handle_time_s": rng.uniform(1, 9000, 8),
            "transferred": rng.random(8) < 0.5,
            "csat": [5.0] * 8,
        }
    )
    calls = contacts.slice(0, 8)
    calls = replaced(replaced(calls, "contact_id", [f"z{i}" for i in range(8)]), "arrived_at", minutes(*after))
    calls = replaced(calls, "customer_id", [f"customer-{i}" for i in range(8)])
    calls = replaced(calls, "intent_text", ["¡Estoy harto!"] * 8)
    row = replaced(content["csas"].slice(0, 8), "valid_from", minutes(*after + 1))
    row = replaced(row, "profile", ["refund card delivery"] * 8)
    return {
        "contacts": pa.concat_tables([contacts, calls]),
        "csas": pa.concat_tables([content["csas"], row]),
        "interactions": pa.concat_tables([moves, news.cast(moves.schema)]),
    }


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """The centre with facts planted at `NOON` and later."""
    return Log.load(fakes.write_tables(planted(fakes.tables(), NOON, 1), tmp_path_factory.mktemp("later")))


@pytest.mark.parametrize("with_bundle", [True, False])
def test_later_facts_move_no_value_of_a_csa_but_what_is_left_out(log, bundle, later, with_bundle):
    for csa in CSAS:
        told = [
            explain_csa(
                CsaCase(one, csa, NOON, bundle.schema, encoder=bundle.contact_encoder)
                if with_bundle
                else CsaCase(one, csa, NOON, unfitted(one, NOON))
            )
            for one in (log, later)
        ]
        before, after = (one.data() for one in told)
        moved = {"handovers_known_later": 1, "handovers_assigned_later": 1, "rows_valid_later": 1} if csa < 8 else {}
        expected = {name: count + moved.get(name, 0) for name, count in before.pop("left_out").items()}
        assert after.pop("left_out") == expected
        assert before == after


@pytest.mark.parametrize("with_bundle", [True, False])
def test_later_facts_move_no_value_of_a_contact_but_what_is_left_out(log, bundle, later, with_bundle):
    newest = int(np.searchsorted(log.contacts.arrived_at, NOON)) - 1
    for contact in range(newest - 12, newest + 1):
        told = [
            explain_contact(
                ContactCase(one, contact, bundle.schema, encoder=bundle.contact_encoder)
                if with_bundle
                else ContactCase(one, contact, unfitted(one, int(one.contacts.arrived_at[contact])))
            )
            for one in (log, later)
        ]
        before, after = (one.data() for one in told)
        before_left, after_left = before.pop("left_out"), after.pop("left_out")
        customer = int((told[0].subject["customer"] or "customer-99").removeprefix("customer-"))
        assert after_left["contacts_arrived_later"] == before_left["contacts_arrived_later"] + (customer < 8)
        assert after_left["handovers_known_later"] >= before_left["handovers_known_later"]
        assert before == after


@given(minute=st.integers(0, 30 * 1440))
def test_no_named_fact_was_known_at_the_moment_or_later(log, minute):
    moment = at(minute)
    for csa in (3, 7):
        for name, evidence in explain_csa(CsaCase(log, csa, moment, unfitted(log, moment))).evidence.items():
            assert evidence.last is None or evidence.last < moment, name
            times = [str(fact.get("known_at") or fact[f"{name}_at"]) for fact in evidence.newest]
            assert all(time < format_time(moment) for time in times)
