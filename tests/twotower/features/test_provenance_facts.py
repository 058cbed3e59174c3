"""Provenance: which facts are named, by hand on the small data set, and how they are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support import Tables, at, minutes, replaced
from tests.twotower.features.provenance_cases import NOON, column, of_contact, of_csa
from twotower.clock import DAY
from twotower.features.provenance import NEWEST, counted, of_customer, unfitted
from twotower.features.provenance_contact import ContactCase, explain_contact
from twotower.features.provenance_csa import CsaCase, explain_csa
from twotower.features.provenance_text import describe
from twotower.features.registry import FEATURES
from twotower.features.schema import FeatureSchema
from twotower.tables import Log


@pytest.fixture
def small(tables: Tables, save: Any) -> Log:
    """The small data set."""
    return Log.load(save(tables))


# Facts by hand.


def test_facts_of_a_csa_by_hand(small):
    explained = of_csa(small, "ada", at(33.5), row=1)
    rate = column(explained, "rate_30d")
    assert rate["from"] == "2 hand-overs with an outcome, known 2026-01-01T00:15:00Z … 2026-01-01T00:33:00Z"
    assert explained.data()["evidence"][rate["evidence"]] == {
        "what": "hand-overs with an outcome",
        "count": 2,
        "first": "2026-01-01T00:15:00Z",
        "last": "2026-01-01T00:33:00Z",
        "newest": (
            {"contact_id": "c3", "known_at": "2026-01-01T00:33:00Z", "resolved": False},
            {"contact_id": "c1", "known_at": "2026-01-01T00:15:00Z", "resolved": True},
        ),
    }
    assert rate["effective"] == pytest.approx(2, abs=1e-6)


def test_an_outcome_known_at_the_moment_itself_does_not_count(small):
    before, after = of_csa(small, "ada", at(33)), of_csa(small, "ada", at(33) + 1)
    assert before.evidence["outcomes"].count == 1
    assert before.left_out["handovers_known_later"] == 1
    assert after.evidence["outcomes"].count == 2
    assert after.left_out["handovers_known_later"] == 0


def test_work_is_counted_from_its_beginning(small):
    explained = of_csa(small, "bob", at(34))
    assert [explained.evidence[name].count for name in ("assigned", "ended", "handled")] == [2, 1, 0]
    assert [fact["contact_id"] for fact in explained.evidence["assigned"].newest] == ["c3", "c2"]
    assert column(explained, "open")["value"] == pytest.approx(np.log1p(1))
    assert explained.left_out["handovers_known_later"] == 2


def test_a_hand_over_whose_end_nobody_knows_is_told_apart(small):
    left_out = of_csa(small, "cy", at(90)).left_out
    assert (left_out["handovers_known_later"], left_out["handovers_never_known"]) == (0, 1)


def test_the_dated_row_that_counts_is_named(small):
    before, after = of_csa(small, "ada", at(19), row=3), of_csa(small, "ada", at(21), row=1)
    assert column(before, "skill_level")["from"] == "row 3 of csas.parquet, valid from the beginning: skills"
    assert column(after, "skill_level")["from"] == "row 1 of csas.parquet, valid from 2026-01-01T00:20:00Z: skills"
    assert (before.left_out["rows_valid_later"], after.left_out["rows_valid_later"]) == (1, 0)
    assert of_csa(small, "ada", at(20)).left_out["rows_valid_later"] == 0
    assert before.rows == {"csas.parquet": 3}


def test_the_day_of_hiring_is_told(small):
    assert column(of_csa(small, "cy", at(70)), "tenure")["from"].endswith(": hired_at 2026-01-01T00:40:00Z")


def test_facts_of_a_contact_by_hand(small):
    explained = of_contact(small, "c3", row=0)
    assert explained.subject == {"contact": "c3", "customer": "anna"}
    assert explained.at == at(30)
    assert column(explained, "need_length")["from"] == "row 0 of contacts.parquet: intent_text"
    assert column(explained, "hour_sin")["from"] == "row 0 of contacts.parquet: arrived_at"
    assert column(explained, "digits")["from"] == "row 0 of contacts.parquet: intent_text and transcript"
    assert column(explained, "channel")["value"] == "chat"
    contacts = column(explained, "contacts")
    assert contacts["from"] == "1 earlier contact, arrived 2026-01-01T00:10:00Z"
    assert explained.evidence["contacts"].newest == ({"contact_id": "c1", "arrived_at": "2026-01-01T00:10:00Z"},)
    assert column(explained, "met_good_3")["from"] == (
        "1 hand-over with ada (1 resolved; the last: resolved), known 2026-01-01T00:15:00Z"
    )
    assert explained.evidence["met"].newest == (
        {"contact_id": "c1", "known_at": "2026-01-01T00:15:00Z", "resolved": True, "csa_id": "ada"},
    )
    assert explained.left_out == {
        "contacts_arrived_later": 0,
        "handovers_known_later": 2,
        "handovers_never_known": 0,
    }


def test_what_a_customer_does_later_is_counted_and_left_out(small):
    explained = of_contact(small, "c1")
    assert explained.left_out["contacts_arrived_later"] == 1
    assert explained.left_out["handovers_known_later"] == 3
    assert column(explained, "contacts")["from"] == "0 earlier contacts"
    assert column(explained, "met_good_0")["from"] == "0 hand-overs of the customer"


def test_what_is_known_at_the_arrival_itself_does_not_count(tables, save):
    tables["interactions"] = replaced(tables["interactions"], "known_at", minutes(30, 55, None, None, None))
    tables["contacts"] = replaced(tables["contacts"], "customer_id", ["anna", "anna", None, "anna"])
    tables["contacts"] = replaced(tables["contacts"], "arrived_at", minutes(30, 10, 10, 30))
    explained = of_contact(Log.load(save(tables)), "c3")
    assert explained.evidence["met"].count == 0
    assert explained.evidence["contacts"].count == 1
    assert explained.left_out["contacts_arrived_later"] == 1
    assert explained.left_out["handovers_known_later"] == 3


def test_a_contact_without_a_customer_says_so(small):
    explained = of_contact(small, "c2")
    assert explained.subject["customer"] is None
    assert explained.notes == ("the contact names no customer: nothing is known of one",)
    assert explained.left_out["handovers_known_later"] == 1


def test_a_language_that_is_not_given_is_identified(small):
    texts = pa.array(["Me gustaría devolver este pedido porque llegó roto"] * 4, pa.large_string())
    silent = replace(small, contacts=replace(small.contacts, language=pa.nulls(4, pa.string()), intent_text=texts))
    told = column(of_contact(silent, "c1", row=1), "language")
    assert told["value"] == "es"
    assert told["from"] == "identified: row 1 of contacts.parquet: intent_text, transcript and language"


def test_a_regional_language_is_its_base_language(small):
    assert column(of_contact(small, "c2", row=2), "language")["value"] == "pt"


def test_since_when_somebody_is_a_customer_comes_from_their_own_file(small):
    since = np.array([at(-60 * 24 * 10), np.iinfo(np.int64).min])
    case = ContactCase(replace(small, customer_since=since), 2, unfitted(small, at(30)), 0, customer_row=7)
    assert column(explain_contact(case), "customer_tenure")["from"] == (
        "row 0 of contacts.parquet: arrived_at; row 7 of customers.parquet: since"
    )
    assert "customers.parquet (null or no row): since" in column(of_contact(small, "c4"), "customer_tenure")["from"]


def test_a_customers_language_comes_from_their_own_file(tables, save):
    """c1, of anna, names no language and has no letters; c4 is in Spanish, and bert, who wrote it, is German."""
    tables["customers"] = pa.table({"customer_id": ["anna", "bert"], "language": ["pt-BR", "de"]})
    log = Log.load(save(tables))
    blank = pa.array(["12?"] * 4, pa.large_string())
    log = replace(log, contacts=replace(log.contacts, intent_text=blank, transcript=blank))

    def told(place: int, name: str) -> dict[str, Any]:
        return column(explain_contact(ContactCase(log, place, unfitted(log, at(90)), 3, customer_row=7)), name)

    texts, theirs = (
        "row 3 of contacts.parquet: intent_text, transcript and language",
        "row 7 of customers.parquet: language",
    )
    language = told(0, "language")
    assert (language["value"], language["given"]) == ("pt", False)
    assert language["from"] == f"the customer's own: {texts}; {theirs}"
    assert told(0, "foreign_language") | {"of": 0} == {
        "name": "foreign_language", "value": 0.0, "from": f"{texts}; {theirs}", "evidence": None, "of": 0,
    }  # fmt: skip
    foreign = told(3, "foreign_language")
    assert foreign["value"] == 1
    assert foreign["from"] == f"row 3 of contacts.parquet: language; {theirs}"
    assert told(3, "language")["from"] == "row 3 of contacts.parquet: language"
    assert told(1, "foreign_language")["from"] == "customers.parquet (the contact names no customer): language"
    mute = replace(log, contacts=replace(log.contacts, language=pa.nulls(4, pa.string())))
    nobody = column(explain_contact(ContactCase(mute, 1, unfitted(mute, at(90)), 3)), "language")
    assert nobody["value"] is None
    assert nobody["from"] == f"not told: {texts}; customers.parquet (the contact names no customer): language"


def test_csas_whom_a_customer_met_longest_ago_are_forgotten_and_counted(tables, save):
    count = 6
    contacts = pa.table(
        {
            "contact_id": [f"k{i}" for i in range(count + 1)],
            "customer_id": ["anna"] * (count + 1),
            "arrived_at": minutes(*(10 * i for i in range(count + 1))),
            "channel": ["chat"] * (count + 1),
            "intent_text": ["hello"] * (count + 1),
            "transcript": [""] * (count + 1),
        }
    )
    csas = pa.table(
        {
            "csa_id": [f"a{i}" for i in range(count)],
            "languages": [["en"]] * count,
            "skills": pa.array([[]] * count, tables["csas"]["skills"].type),
            "profile": [""] * count,
            "capacity": [1] * count,
        }
    )
    moves = pa.table(
        {
            "contact_id": [f"k{i}" for i in range(count)],
            "csa_id": [f"a{i}" for i in range(count)],
            "assigned_at": minutes(*(10 * i + 1 for i in range(count))),
            "ended_at": minutes(*(10 * i + 2 for i in range(count))),
            "resolved": [True, False] * (count // 2),
        }
    )
    log = Log.load(save({"contacts": contacts, "csas": csas, "interactions": moves}))
    explained = of_contact(log, f"k{count}")
    origin = column(explained, "met_together_0")["from"]
    assert [name for name in explained.evidence if name.startswith("met:")] == ["met:a5", "met:a4", "met:a3", "met:a2"]
    assert origin.endswith("; 2 hand-overs with CSAs met longer ago are not remembered")
    assert "hand-over with a5 (1 not resolved; the last: not resolved)" in origin


def test_only_the_newest_facts_are_named_and_all_are_counted(tables, save):
    count = NEWEST + 5
    contacts = {"contact_id": [f"k{i:02}" for i in range(count)], "arrived_at": minutes(*range(count))}
    blank = {name: [""] * count for name in ("channel", "intent_text", "transcript")}
    moves = {"contact_id": contacts["contact_id"], "csa_id": ["ada"] * count}
    times = {"assigned_at": minutes(*range(count)), "ended_at": minutes(*range(1, count + 1))}
    tables |= {"contacts": pa.table(contacts | blank), "interactions": pa.table(moves | times)}
    handled = of_csa(Log.load(save(tables)), "ada", at(100)).evidence["handled"]
    assert handled.count == count
    assert [fact["contact_id"] for fact in handled.newest] == [f"k{i:02}" for i in range(count - 1, 4, -1)]


# The rest.


def test_what_needs_a_tower_is_said_without_a_bundle(small):
    explained = of_csa(small, "ada", at(50))
    assert set(explained.absent) == {
        "profile", "skills", "upset", "upset_n", "good", "bad", "work_similarity", "group_*:complexity",
    }  # fmt: skip
    assert not any(name.startswith("profile") for name in explained.values())
    assert "needs --bundle" in describe(explained)
    assert set(of_contact(small, "c3").absent) == {one.name for one in FEATURES if one.family == "complexity"}


def test_families_that_are_off_in_a_bundle_are_said(log, bundle):
    schema = replace(bundle.schema, families=["form", "record"])
    explained = explain_csa(CsaCase(log, 1, NOON, schema, encoder=bundle.contact_encoder))
    assert explained.absent["tenure"] == "family 'tenure' is off in this bundle"
    assert {shown.declared["family"] for shown in explained.features} == {"record"}


def test_complexity_is_told_by_the_heads_also_where_the_towers_do_not_read_it(log, bundle):
    names = [one.name for one in FEATURES if one.family == "complexity"]
    off = replace(bundle.schema, families=["form", "record"], heads=[name for name in names if name != "repeat_risk"])
    explained = explain_contact(ContactCase(log, 9, off, encoder=bundle.contact_encoder))
    values = explained.values()
    assert values["repeat_risk"] is None  # which no head was fitted for
    assert all(isinstance(values[name], float) for name in names if name != "repeat_risk")
    assert not set(names).intersection(explained.absent)
    assert any("do not read it in this bundle" in note for note in explained.notes)
    on = explain_contact(ContactCase(log, 9, bundle.schema, encoder=bundle.contact_encoder))
    assert not any("do not read it" in note for note in on.notes)


def test_a_time_long_after_the_tables_end_is_said(small):
    ends = "the tables know of no outcome after 2026-01-01T00:55:00Z, 31 days before that time"
    assert ends in of_csa(small, "ada", at(31 * 1440)).notes
    assert not any("the tables know of no" in note for note in of_csa(small, "ada", at(1440)).notes)


def test_a_newcomer_has_every_feature_but_a_past(small):
    explained = of_csa(small, "cy", at(59))
    assert "no hand-over was known before: everything of the past is a newcomer's" in explained.notes
    assert explained.evidence["handled"].count == 0
    assert column(explained, "tenure")["value"] == pytest.approx(np.log1p(19 / 1440), rel=1e-5)


def test_who_does_not_work_is_said(small):
    assert any("does not work at that time" in note for note in of_csa(small, "bob", at(51)).notes)
    assert not any("does not work" in note for note in of_csa(small, "bob", at(49)).notes)


def test_the_snapshot_that_a_contact_would_read_is_said(small):
    case = CsaCase(small, 0, at(1500), unfitted(small, at(1500)))
    notes = explain_csa(case, granularity=DAY).notes
    assert any("reads the snapshot of 2026-01-02T00:00:00Z (one every 1 days)" in note for note in notes)


def test_vectors_are_one_line_unless_all_is_asked_for(log, bundle):
    explained = explain_csa(CsaCase(log, 4, NOON, bundle.schema, encoder=bundle.contact_encoder))
    short, long = describe(explained), describe(explained, everything=True)
    assert "good_7d   8 components, length" in short
    assert "good_7d_0" not in short
    assert all(f" {name} " in long for name in bundle.schema.csa_numbers)


def test_the_customers_part_of_a_log_holds_nobody_else(log):
    for contact in range(0, 160, 7):
        part = of_customer(log, contact)
        assert part.contacts.ids[-1] == log.contacts.ids[contact]
        assert set(part.contacts.customer.tolist()) <= {0, -1}
        assert len(part.contacts) == 1 or part.customer_ids[0] == log.customer_ids[int(log.contacts.customer[contact])]
        handed = part.contacts.ids.take(pa.array(part.handovers.contact)).to_pylist()
        theirs = set(part.contacts.ids.to_pylist())
        every = log.contacts.ids.take(pa.array(log.handovers.contact)).to_pylist()
        assert handed == [name for name in every if name in theirs]


def test_a_contact_that_is_the_first_of_all_is_explained(small):
    first = small.contacts.ids[0].as_py()
    assert column(of_contact(small, first), "contacts")["value"] == 0


def test_schemas_without_a_bundle_know_only_earlier_values(small):
    assert unfitted(small, at(15)).csa_values["languages"] == ["en", "es"]
    assert unfitted(small, at(20)).csa_values["languages"] == ["en", "es", "fr"]
    assert unfitted(small, at(25)).categories["channel"] == ["call", "chat"]


@pytest.mark.parametrize(
    ("count", "what", "said"),
    [
        (1, "hand-overs with a csat", "1 hand-over with a csat"),
        (2, "hand-overs", "2 hand-overs"),
        (1, "earlier contacts", "1 earlier contact"),
        (0, "dated rows", "0 dated rows"),
        (1, "contacts of the customer", "1 contact of the customer"),
    ],
)
def test_one_is_not_many(count, what, said):
    assert counted(count, what) == said


def test_a_schema_of_no_family_of_the_past_has_no_evidence(log, bundle):
    schema: FeatureSchema = replace(bundle.schema, families=["form", "tenure", "relationship"])
    explained = explain_csa(CsaCase(log, 1, NOON, schema, encoder=bundle.contact_encoder))
    assert explained.evidence == {}
    assert column(explained, "signature_0")["from"] == "the CSA's id"
